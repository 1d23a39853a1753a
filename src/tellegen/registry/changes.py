"""A change of the registry as it is handed in and signed for: its table, and the authority's word where it admits."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

import numpy as np
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.records import (
    Admissions,
    Certifications,
    Connections,
    KeyGenerations,
    RecordError,
    Revocations,
    Table,
    admissions_message,
)

REGISTRAR = "registrar"
"""Source of these changes; no certificate makes anybody else it."""
TABLES: dict[str, type[Table]] = {table.kind: table for table in (Admissions, Revocations, Connections, KeyGenerations)}
"""What can be changed, by kind."""
NONCE_BYTES = 32
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class SentChanges:
    """A table of changes; all of its rows stand, or none.

    The digest of the body stands in a public header. What a customer's rows may be can be guessed, so bytes that
    nobody can guess stand before them; they are kept nowhere.

    Attributes
    ----------
    certification : of admissions, the issuing authority's word for them; None of what needs none.
    """

    table: Table
    nonce: bytes = field(default_factory=_nonce, repr=False)
    certification: Certifications | None = None

    @classmethod
    def from_bytes(cls, body: bytes) -> SentChanges:
        """Read a body: the kind of the table, a newline, the nonce, its canonical rows.

        Before the rows of admissions stand key and signature of the issuing authority.

        Raises
        ------
        RecordError : no such kind, no rows, or not a whole number of them.
        """
        kind, newline, rest = body.partition(b"\n")
        table = TABLES.get(kind.decode("latin-1")) if newline else None
        if table is None:
            raise RecordError(f"it does not begin with one of {', '.join(TABLES)} and a newline")
        nonce, rest = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        certification = None
        if table is Admissions:
            word, rest = rest[: _KEY_BYTES + _SIGNATURE_BYTES], rest[_KEY_BYTES + _SIGNATURE_BYTES :]
            if len(word) != _KEY_BYTES + _SIGNATURE_BYTES:
                raise RecordError("admissions begin with key and signature of the issuing authority")
            certification = Certifications(
                rows_sha256=np.frombuffer(hashlib.sha256(rest).digest(), dtype="V32"),
                authority=np.frombuffer(word[:_KEY_BYTES], dtype="V32"),
                signature=np.frombuffer(word[_KEY_BYTES:], dtype="V64"),
            )
        sent = cls(table.from_bytes(rest), nonce, certification)
        if not sent.rows:
            raise RecordError("it holds no rows")
        return sent

    def to_bytes(self) -> bytes:
        """The body.

        Raises
        ------
        RecordError : admissions without the authority's word.
        """
        word = b""
        if isinstance(self.table, Admissions):
            if self.certification is None:
                raise RecordError("admissions need the certification of the issuing authority")
            word = self.certification.authority.tobytes() + self.certification.signature.tobytes()
        return self.table.kind.encode() + b"\n" + self.nonce + word + self.table.rows().tobytes()

    @property
    def rows(self) -> int:
        """Rows to be worked on."""
        return len(self.table)

    def check_certified(self, origin: str, issuing_key: bytes) -> None:
        """Whether the issuing authority has certified whom this admits; what admits nobody needs nothing.

        Raises
        ------
        RecordError : it has not.
        """
        if not isinstance(self.table, Admissions):
            return
        word = self.certification
        try:
            if word is None or word.authority.tobytes() != issuing_key:
                raise BadSignatureError
            VerifyKey(issuing_key).verify(
                admissions_message(origin, self.table.rows().tobytes()), word.signature.tobytes()
            )
        except (BadSignatureError, ValueError):
            raise RecordError("whom it admits is not certified by the issuing authority on record") from None
