"""The registrar: the one way on to the record for identities, revocations and connections.

It works on the journal of a running writer: what it appends is on record with that writer's next commit. Where that
writer is another process, it hands each change in there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from numpy.typing import ArrayLike

from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import (
    OPERATOR,
    Admissions,
    Connections,
    KeyGenerations,
    Refusal,
    Revocations,
    Role,
    Route,
    Statement,
    Table,
    shard_of,
)
from tellegen.registry.assets import check_connections
from tellegen.registry.authority import VALID_DAYS, Authority, Certificate, Reason
from tellegen.registry.authority_record import Authorities, AuthorityRecord
from tellegen.registry.certificates import CertificateStore
from tellegen.registry.changes import REGISTRAR, SentChanges
from tellegen.registry.directory import Directory
from tellegen.registry.identity import NUMBERED, Identity, RegistryError, words
from tellegen.registry.meter_keys import codes_purpose, first_generation, generation_key
from tellegen.registry.requests import Refused, Request, rotation_message
from tellegen.units import MARKET_INTERVAL_S, IntArray

ISSUING_PURPOSE, REGISTRAR_PURPOSE, METER_PURPOSE = "issuing authority", "registrar", "meter master"
"""Purposes of the keys that certify, that sign changes of the registry, and of which meters' keys derive."""


@dataclass(frozen=True, slots=True)
class Registrar:
    """Who admits, revokes and connects.

    Attributes
    ----------
    journal, vault : of the shard; the journal is open for writing, but for `hand_in`.
    directory : the fold of that journal; what goes on record is applied to it at once.
    authorities : whose certificates count, and whose key the registrar's is, by the record.
    certificates : where they are kept.
    hand_in : puts what is signed for on record through the process that writes, and returns its journal index; None
        where the journal is written here.
    """

    journal: Journal
    vault: Vault
    directory: Directory
    authorities: Authorities
    certificates: CertificateStore
    hand_in: Callable[[Statement, bytes, bytes], int] | None = None

    @property
    def authority(self) -> Authority:
        """Who signs certificates; its key is read from where it is kept.

        Raises
        ------
        VaultError : it is kept elsewhere. RegistryError : it is not that of the authority on record.
        """
        newest = self.authorities.newest
        return Authority.of(self.vault.role_key(ISSUING_PURPOSE), newest.root_pem, newest.issuing_pem)

    def admit(
        self, requests: Sequence[Request | Refused], known_at: int, *, vouched: bool, days: int = VALID_DAYS
    ) -> tuple[int | None, list[Certificate], list[Refused]]:
        """Issue certificates and put their admission on record; good requests are not lost with bad ones.

        Parameters
        ----------
        requests : those that could not even be read (`parse_requests`) stay refused.
        known_at : now, seconds since the epoch; certificates are valid from then on.
        vouched : the operator itself asks. Otherwise a request must be endorsed by the key that it replaces.

        Returns
        -------
        Journal index of the admissions (None where there are none), the certificates, and who was refused.
        """
        issued, refused, names = [], [], self.directory.named_roles()
        authority = self.authority
        for row, request in enumerate(requests):
            if isinstance(request, Refused):
                refused.append(request)
                continue
            try:
                if not vouched:
                    self._check_endorsement(request, known_at)
                self._check_name(request.identity, names)
                certificate = authority.issue(request.identity, request.request, known_at, days)
                self.check_key(certificate)
                issued.append(certificate)
            except _UnendorsedError as error:
                refused.append(Refused(row, error.refusal, str(error)))
            except RegistryError as error:
                refused.append(Refused(row, Refusal.MALFORMED, str(error)))
        return (self.admit_issued(issued, known_at) if issued else None), issued, refused

    def check_key(self, certificate: Certificate) -> None:
        """A key that was revoked is not certified again.

        Raises
        ------
        RegistryError : this identity had a certificate for the same key, and it was revoked.
        """
        for before in self.certificates.of(certificate.identity):
            if before.public_key == certificate.public_key and self.directory.is_revoked(before.fingerprint):
                raise RegistryError(f"{certificate.identity}: a certificate of this key was revoked; make a new key")

    def admit_issued(self, certificates: Sequence[Certificate], known_at: int) -> int:
        """Put the admission of certificates on record; returns its journal index."""
        # a certificate that is nowhere on record harms nobody; an admission without its certificate would
        self.certificates.add(certificates)
        return self._put(admissions_of(certificates), known_at)

    def revoke(self, fingerprint: bytes, reason: Reason, known_at: int, since: int | None = None) -> int:
        """Put a revocation on record; returns its journal index.

        Parameters
        ----------
        since : from when on the certificate does not count, now or back to the start of its validity; now without it.

        Raises
        ------
        RegistryError : no such certificate, it is revoked already, or the time lies ahead or before its validity.
        """
        certificate = self.certificates.by_fingerprint(fingerprint)
        if certificate is None:
            raise RegistryError(f"no certificate has the fingerprint {fingerprint.hex()}")
        since = known_at if since is None else since
        if not min(certificate.valid_from, known_at) <= since <= known_at:
            raise RegistryError(
                f"a revocation takes effect now or earlier, but not before the certificate was valid, from "
                f"{datetime.fromtimestamp(certificate.valid_from, tz=UTC):%Y-%m-%dT%H:%M:%S} on"
            )
        if any(before <= since for before, _, _ in self.directory.revoked().get(fingerprint, ())):
            raise RegistryError(f"the certificate {fingerprint.hex()} is revoked already")
        table = Revocations(
            certificate_sha256=np.frombuffer(fingerprint, dtype="V32"),
            revoked_at=np.array([since]),
            reason=np.array([reason], dtype=np.uint8),
        )
        return self._put(table, known_at)

    def connect(self, connections: Connections, known_at: int) -> int:
        """Put connections and assets on record; returns the journal index. Customers that are new get a vault key.

        Raises
        ------
        RegistryError : a row cannot stand (`assets.check_connections`); none of them is taken then.
        """
        check_connections(connections, self.directory)
        if self.hand_in is None:  # else the writer enrols them
            self.vault.enrol(sorted({int(c) for c in connections.customer.tolist()} - {OPERATOR}))
        return self._put(connections, known_at)

    def rotate_codes(self, generations: KeyGenerations, known_at: int) -> int:
        """Put new generations of meters' code keys on record; returns the journal index.

        Raises
        ------
        RegistryError : a generation or counter is out of range.
        """
        if (generations.generation < 1).any() or (generations.from_counter < 0).any() or (generations.meter < 0).any():
            raise RegistryError("generations count from 1, serials and message counters from 0")
        for generation in np.unique(generations.generation).tolist():
            self.codes_key(generation)  # whoever checks codes finds it before the first reading under it comes
        return self._put(generations, known_at)

    def next_generations(self, meters: ArrayLike) -> IntArray:
        """Generation of the key that each meter is to be given next, int64[n]."""
        known, first = self.directory.key_generations(), first_generation(self.vault.purposes)
        newest = [known.generation[known.meter == meter].max(initial=0) for meter in np.asarray(meters).tolist()]
        return np.maximum(np.array(newest, dtype=np.int64) + 1, first)

    def codes_key(self, generation: int) -> bytes:
        """The key of a generation of meters' codes, kept in the vault for whoever checks them.

        Raises
        ------
        VaultError : it is a new one, and the meter master, of which it derives, is kept elsewhere.
        """
        held = self.vault.held_purpose_key(codes_purpose(generation))
        if held is not None:
            return held
        self.vault.keep_purpose(
            codes_purpose(generation), made := generation_key(self.vault.role_key(METER_PURPOSE), generation)
        )
        return made

    def revocation_list(self, now: int) -> str:
        """The list of revoked certificates as it stands on record, PEM; the time is its number."""
        revoked = []
        for fingerprint, facts in self.directory.revoked().items():
            certificate = self.certificates.by_fingerprint(fingerprint)
            if certificate is not None:
                since, _, reason = min(facts)
                revoked.append((certificate.serial, since, Reason(reason)))
        return self.authority.revocation_list(revoked, now, now)

    @staticmethod
    def _check_name(identity: Identity, names: dict[str, Role]) -> None:
        """One name is one identity, whatever its role."""
        if identity.role not in NUMBERED and names.setdefault(identity.name, identity.role) is not identity.role:
            raise RegistryError(f"{identity}: the name is that of a {words(names[identity.name])} already")

    def _check_endorsement(self, request: Request, at: int) -> None:
        """The key that counts so far has signed for the new one."""
        identity = request.identity
        before = self.directory.standing(identity.role, identity.number, identity.name, at)
        if before is None or before.refusal != Refusal.NONE:
            raise _UnendorsedError(Refusal.UNKNOWN, f"{identity} has no key that counts; the registrar must admit it")
        message = rotation_message(identity, shard_of(self.journal.verifier.name), request.request)
        try:
            VerifyKey(before.admission.public_key[0].tobytes()).verify(message, request.endorsement)
        except (BadSignatureError, ValueError, TypeError):
            raise _UnendorsedError(
                Refusal.SIGNATURE, f"{identity}: the new key is not endorsed by the one that counts"
            ) from None

    def renew(self, record: AuthorityRecord, known_at: int) -> int:
        """Put another authority, or another registrar, on record; returns the journal index. Here, never by `hand_in`.

        Raises
        ------
        RegistryError : it may not take the place of the one that counts.
        """
        if self.authorities.records and not record.succeeds(self.authorities.newest):
            raise RegistryError("the authority on record is not renewed: another root, or something older than it has")
        return Recorder(self.journal, self.vault, "").put_document(
            record.document(), Span(known_at, known_at // MARKET_INTERVAL_S)
        )

    def _put(self, table: Table, known_at: int) -> int:
        certification = self.authority.certify_admissions(table) if isinstance(table, Admissions) else None
        sent = SentChanges(table, certification=certification)
        key = SigningKey(self.vault.role_key(REGISTRAR_PURPOSE))
        if bytes(key.verify_key) != self.authorities.newest.registrar_key:
            raise RegistryError("the registrar's key is not the one on record; it was renewed, or is another shard's")
        sequence = time.time_ns() + len(self.journal)  # where clocks tick coarsely, two are not alike
        interval, body = known_at // MARKET_INTERVAL_S, sent.to_bytes()
        shard = shard_of(self.journal.verifier.name)
        said = Statement.of(shard, Route.ADMISSIONS, REGISTRAR, "", "", interval, sequence, body)
        signature = key.sign(said.to_bytes()).signature
        if self.hand_in is not None:
            return self.hand_in(said, signature, body)
        with self.journal.together():
            if certification is not None:
                self._append(certification, said, signature, known_at)
            return self._append(table, said, signature, known_at)

    def _append(self, table: Table, said: Statement, signature: bytes, known_at: int) -> int:
        batch = self.vault.seal(
            table,
            feeder="",
            interval=said.interval,
            intervals=1,
            source=REGISTRAR,
            known_at=known_at,
            name=said.name(),
            evidence=said.evidence(signature),
        )
        before = len(self.journal)
        index = self.journal.append(batch)
        if index >= before:
            self.directory.apply(batch.header, table)
        return index


class _UnendorsedError(RegistryError):
    def __init__(self, refusal: Refusal, problem: str) -> None:
        self.refusal = refusal
        super().__init__(problem)


def admissions_of(certificates: Sequence[Certificate]) -> Admissions:
    """Certificates as rows of the record."""
    return Admissions(
        role=np.array([c.identity.role for c in certificates], dtype=np.uint8),
        number=np.array([c.identity.number for c in certificates], dtype=np.int64),
        name=np.array([c.identity.name.encode("ascii") for c in certificates], dtype="S100"),
        public_key=np.frombuffer(b"".join(c.public_key for c in certificates), dtype="V32"),
        certificate_sha256=np.frombuffer(b"".join(c.fingerprint for c in certificates), dtype="V32"),
        valid_from=np.array([c.valid_from for c in certificates], dtype=np.int64),
        valid_until=np.array([c.valid_until for c in certificates], dtype=np.int64),
    )
