"""Who was let in, and by whom? The authority on record, its word for admissions, the registrar's for all changes.

A document of the record holds the certificates of the root authority, of the issuing one, and of the registrar. Whoever
signs the log can put what he likes on record, but has neither the key that certifies nor the registrar's: an admission
without the issuing authority's signature, or a change without the registrar's, was made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.records import (
    Admissions,
    Certifications,
    Connections,
    Header,
    KeyGenerations,
    Revocations,
    admissions_message,
)
from tellegen.verify.record import PublicRows
from tellegen.verify.report import RefusedError

REGISTRAR = "registrar"
_SIMULATED = "simulated/"
_CHANGES = tuple(table.kind for table in (Admissions, Revocations, Connections, KeyGenerations))
_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Authority:
    """Who certifies, and who changes the registry, from an entry of the log on.

    Attributes
    ----------
    root : certificate (DER). issuing_key, registrar_key : Ed25519, 32 bytes.
    issuing_from, registrar_from : when their certificates begin, seconds since the epoch.
    """

    root: bytes
    issuing_key: bytes
    registrar_key: bytes
    issuing_from: float
    registrar_from: float

    @classmethod
    def parse(cls, content: bytes, origin: str) -> Authority:
        """From the content of a document.

        Raises
        ------
        RefusedError : it is none of this log, or one certificate is not signed by the one before.
        """
        try:
            if len(content) > _BYTES_MAX:
                raise ValueError("is too long")
            root, issuing, registrar = x509.load_pem_x509_certificates(content)
            keys = [each.public_key() for each in (root, issuing, registrar)]
            for above, below in ((root, root), (root, issuing), (issuing, registrar)):
                below.verify_directly_issued_by(above)
            names = registrar.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            raise RefusedError(
                "is not root, issuing authority and registrar, each certified by the one before"
            ) from None
        if uris != [f"tellegen://{origin}/registrar"]:
            raise RefusedError("certifies the registrar of another shard")
        raw = [key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b"" for key in keys]
        begins = [each.not_valid_before_utc.timestamp() for each in (issuing, registrar)]
        return cls(hashlib.sha256(root.public_bytes(Encoding.DER)).digest(), raw[1], raw[2], begins[0], begins[1])

    def check_succeeds(self, before: Authority) -> None:
        """Whether it may take the place of another.

        Raises
        ------
        RefusedError : another root, or something older than what it replaces.
        """
        if self.root != before.root:
            raise RefusedError("has another root than the one that founded the shard")
        older = self.issuing_from < before.issuing_from or self.registrar_from < before.registrar_from
        same = self.registrar_key == before.registrar_key
        if older or (self.registrar_from == before.registrar_from and not same):
            raise RefusedError("puts an older key in the place of a newer one")


class Authorities:
    """The authority that counts at each entry of a log, as documents come by.

    Parameters
    ----------
    documents : contents by entry, of those named `records.AUTHORITY_DOCUMENT`.
    """

    def __init__(self, documents: Mapping[int, bytes], origin: str) -> None:
        self._documents, self._origin = documents, origin
        self.newest: Authority | None = None
        self.count = 0

    def learn(self, index: int) -> None:
        """Take in the document of an entry, where it is one.

        Raises
        ------
        RefusedError : it may not take the place of the one that counts.
        """
        if index not in self._documents:
            return
        try:
            found = Authority.parse(self._documents[index], self._origin)
            if self.newest is not None:
                found.check_succeeds(self.newest)
        except RefusedError as error:
            raise RefusedError(f"entry {index}: the authority on record {error}") from None
        self.newest, self.count = found, self.count + 1


def check_registry(
    entries: Sequence[tuple[Header, bytes]], public: Sequence[PublicRows], documents: Mapping[int, bytes], origin: str
) -> tuple[int, str]:
    """Everybody who was admitted is certified, and every change of the registry is the registrar's.

    Parameters
    ----------
    documents : contents by entry, of those with an authority. origin : name of the log.
    """
    tables = {rows.index: rows.table for rows in public}
    authorities = Authorities(documents, origin)
    word: Certifications | None = None
    seen, admitted, changes, simulated = set[bytes](), 0, 0, origin.startswith(_SIMULATED)
    for index, (header, _) in enumerate(entries):
        authorities.learn(index)
        if header.kind in _CHANGES and not simulated:
            if authorities.newest is None:
                raise RefusedError(f"entry {index} changes the registry, and no authority is on record before it")
            if header.source != REGISTRAR or not header.evidence:
                raise RefusedError(f"entry {index}: {header.kind} without the registrar's signature")
            changes += 1
        table = tables.get(index)
        if isinstance(table, Admissions) and not simulated:
            assert authorities.newest is not None
            try:
                _check_certified(table, word, authorities.newest, origin, seen)
            except RefusedError as error:
                raise RefusedError(f"entry {index} admits whom the authority has not certified: {error}") from None
            admitted += len(table)
        word = table if isinstance(table, Certifications) else None
    if authorities.newest is None:
        return 0, "no authority is on record, and nothing that needs one"
    root = f"root certificate SHA-256 {authorities.newest.root.hex()[:16]}..., compare it with the one that you know"
    if simulated:
        return authorities.count, f"a simulation, whose identities nobody certifies; {root}"
    return changes, f"{admitted} admissions are certified, {changes} changes are the registrar's; {root}"


def _check_certified(
    table: Admissions, word: Certifications | None, authority: Authority, origin: str, seen: set[bytes]
) -> None:
    rows = table.rows().tobytes()
    if word is None or len(word) != 1 or word.rows_sha256.tobytes() != hashlib.sha256(rows).digest():
        raise RefusedError("no certification of these rows stands before it")
    if word.authority.tobytes() != authority.issuing_key:
        raise RefusedError("it is another key than that of the issuing authority on record")
    try:
        VerifyKey(authority.issuing_key).verify(admissions_message(origin, rows), word.signature.tobytes())
    except (BadSignatureError, ValueError):
        raise RefusedError("the signature is not the authority's") from None
    if word.rows_sha256.tobytes() in seen:
        raise RefusedError("the same certification was used before")
    seen.add(word.rows_sha256.tobytes())
