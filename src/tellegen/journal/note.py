"""Signed notes: short texts under an Ed25519 key (C2SP signed-note), and verifier keys.

A verifier key is one line, ``NAME+HEX KEY ID+BASE64(0x01 || public key)``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tellegen.errors import TellegenError

_ED25519 = b"\x01"
NOTE_BYTES_MAX = 1 << 24


class JournalError(TellegenError):
    """The journal on disk is not what it must be, or was asked for what it must not do."""


def _key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise JournalError(f"key name {name!r} must not be empty or contain spaces or '+'")


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A public key under its name."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> NoteVerifier:
        """Read a verifier key.

        Raises
        ------
        JournalError : not in the form above, or its id does not belong to its key.
        """
        try:
            name, key_id, encoded = vkey.split("+", 2)
            data = base64.b64decode(encoded, validate=True)
            verifier = cls(name, data[1:])
        except (ValueError, binascii.Error):
            raise JournalError(f"verifier key {vkey!r} is not NAME+ID+BASE64") from None
        if data[:1] != _ED25519 or len(data) != 33 or _key_id(name, data[1:]).hex() != key_id:
            raise JournalError(f"verifier key {vkey!r} is not an Ed25519 key with its own id")
        return verifier

    @property
    def vkey(self) -> str:
        """The key as text."""
        encoded = base64.b64encode(_ED25519 + self.public_key).decode()
        return f"{self.name}+{_key_id(self.name, self.public_key).hex()}+{encoded}"

    def open(self, note: str) -> str:
        """Text of a note that this key has signed; signatures of other keys are ignored.

        Raises
        ------
        JournalError : malformed, or not signed by this key.
        """
        text, gap, tail = note.rpartition("\n\n")
        if not gap or len(note) > NOTE_BYTES_MAX or not tail.endswith("\n"):
            raise JournalError("not a signed note: no text, blank line and signatures")
        text += "\n"
        for line in tail[:-1].split("\n"):
            dash, _, rest = line.partition(" ")
            name, _, encoded = rest.partition(" ")
            if dash != "—" or not name or not encoded:
                raise JournalError(f"not a signature line: {line!r}")
            if name != self.name:
                continue
            try:
                data = base64.b64decode(encoded, validate=True)
                if data[:4] != _key_id(self.name, self.public_key):
                    continue
                VerifyKey(self.public_key).verify(text.encode(), data[4:])
                if base64.b64encode(data).decode() != encoded:
                    raise ValueError("base64 with bits to spare")
            except (BadSignatureError, binascii.Error, ValueError):
                raise JournalError(f"signature of {self.name} does not verify") from None
            return text
        raise JournalError(f"not signed by {self.name}")


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A signing key under its name.

    >>> signer = NoteSigner("example.org/feeder", bytes(32))
    >>> signer.verifier.open(signer.sign("hello\\n"))
    'hello\\n'
    """

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.seed) != 32:
            raise JournalError(f"an Ed25519 signing key is 32 bytes, not {len(self.seed)}")

    @property
    def verifier(self) -> NoteVerifier:
        """The public half."""
        return NoteVerifier(self.name, bytes(SigningKey(self.seed).verify_key))

    def sign(self, text: str) -> str:
        """The note: text, blank line, signature line.

        Raises
        ------
        JournalError : the text does not end in a newline or contains control characters.
        """
        if not text.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in text):
            raise JournalError("a note's text must end in a newline and hold no control characters")
        key = SigningKey(self.seed)
        signature = key.sign(text.encode()).signature
        encoded = base64.b64encode(_key_id(self.name, bytes(key.verify_key)) + signature).decode()
        return f"{text}\n— {self.name} {encoded}\n"
