"""The registrar: the one way on to the record for identities, revocations and connections.

It works on the journal of a running writer: what it appends is on record with that writer's next commit. Where that
writer is another process, it hands each change in there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import OPERATOR, Admissions, Connections, KeyGenerations, Refusal, Revocations, Role, Table
from tellegen.registry.assets import check_connections
from tellegen.registry.authority import VALID_DAYS, Authority, Certificate, Reason
from tellegen.registry.certificates import CertificateStore
from tellegen.registry.directory import Directory
from tellegen.registry.identity import NUMBERED, Identity, RegistryError, words
from tellegen.registry.requests import Refused, Request, rotation_message
from tellegen.units import MARKET_INTERVAL_S

SOURCE = "registrar"


@dataclass(frozen=True, slots=True)
class Registrar:
    """Who admits, revokes and connects.

    Attributes
    ----------
    journal, vault : of the shard; the journal is open for writing, but for `hand_in`.
    directory : the fold of that journal; what goes on record is applied to it at once.
    authority, certificates : who signs certificates, and where they are kept.
    hand_in : puts a table on record through the process that writes, and returns its journal index; None where the
        journal is written here.
    """

    journal: Journal
    vault: Vault
    directory: Directory
    authority: Authority
    certificates: CertificateStore
    hand_in: Callable[[Table, int], int] | None = None

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
        for row, request in enumerate(requests):
            if isinstance(request, Refused):
                refused.append(request)
                continue
            try:
                if not vouched:
                    self._check_endorsement(request, known_at)
                self._check_name(request.identity, names)
                certificate = self.authority.issue(request.identity, request.request, known_at, days)
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
        return self._put(generations, known_at)

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
        message = rotation_message(identity, self.authority.origin, request.request)
        try:
            VerifyKey(before.admission.public_key[0].tobytes()).verify(message, request.endorsement)
        except (BadSignatureError, ValueError, TypeError):
            raise _UnendorsedError(
                Refusal.SIGNATURE, f"{identity}: the new key is not endorsed by the one that counts"
            ) from None

    def _put(self, table: Table, known_at: int) -> int:
        if self.hand_in is not None:
            return self.hand_in(table, known_at)
        batch = self.vault.seal(
            table,
            feeder="",
            interval=known_at // MARKET_INTERVAL_S,
            intervals=1,
            source=SOURCE,
            known_at=known_at,
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
