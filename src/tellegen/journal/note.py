"""Signed notes: short texts under Ed25519 keys (C2SP signed-note), and verifier keys.

A verifier key is one line, ``NAME+HEX KEY ID+BASE64(ALGORITHM || public key)``; a signature line is
``— NAME BASE64(KEY ID || signature)``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Protocol

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tellegen.errors import TellegenError

ED25519 = b"\x01"
COSIGNATURE = b"\x04"
"""Algorithm byte of a witness's timestamped Ed25519 cosignatures."""
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
NOTE_BYTES_MAX = 1 << 24
NOTE_SIGNATURES_MAX = 100


class JournalError(TellegenError):
    """The journal on disk is not what it must be, or was asked for what it must not do."""


class Signer(Protocol):
    """An Ed25519 key that signs, wherever it is: in a process of its own, in a token, at a service."""

    @property
    def public_key(self) -> bytes:
        """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Signature, 64 bytes.

        Raises
        ------
        TellegenError : it does not sign.
        """


class _SeedSigner:
    """A key that is here."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public_key = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


def key_id(name: str, algorithm: bytes, public_key: bytes) -> bytes:
    """The four bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + algorithm + public_key).digest()[:4]


def check_key(name: str, seed: bytes | Signer) -> None:
    """Refuse a key's name or seed that the format does not allow.

    Raises
    ------
    JournalError : the name is empty or holds spaces or '+', or the seed is not 32 bytes.
    """
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise JournalError(f"key name {name!r} must not be empty or contain spaces or '+'")
    if isinstance(seed, bytes) and len(seed) != 32:
        raise JournalError(f"an Ed25519 signing key is 32 bytes, not {len(seed)}")


def format_vkey(name: str, algorithm: bytes, public_key: bytes) -> str:
    """A verifier key as text."""
    return f"{name}+{key_id(name, algorithm, public_key).hex()}+{base64.b64encode(algorithm + public_key).decode()}"


def parse_vkey(vkey: str, algorithm: bytes) -> tuple[str, bytes]:
    """Name and public key of a verifier key.

    Raises
    ------
    JournalError : malformed, of another algorithm, or its id does not belong to its key.
    """
    try:
        name, stated_id, encoded = vkey.split("+", 2)
        data = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise JournalError(f"verifier key {vkey!r} is not NAME+ID+BASE64") from None
    if data[:1] != algorithm or len(data) != 33 or key_id(name, algorithm, data[1:]).hex() != stated_id:
        kind = "a witness's cosignature key" if algorithm == COSIGNATURE else "an Ed25519 key"
        raise JournalError(f"verifier key {vkey!r} is not {kind} with its own id")
    return name, data[1:]


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature of a note: whose it says it is, and its bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> SignatureLine:
        """Read a line, without its newline.

        Raises
        ------
        JournalError : not a signature line.
        """
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        # bits to spare at the end of base64 would make two lines of one signature
        if dash != "—" or not name or len(data) <= 4 or base64.b64encode(data).decode() != encoded:
            raise JournalError(f"not a signature line: {line!r}")
        return cls(name, data[:4], data[4:])


def split_note(note: str) -> tuple[str, list[SignatureLine]]:
    """Text and signatures of a note, none of them verified.

    Raises
    ------
    JournalError : not a signed note, or larger than any that is accepted.
    """
    text, gap, tail = note.rpartition("\n\n")
    if not gap or len(note) > NOTE_BYTES_MAX or not tail.endswith("\n"):
        raise JournalError("not a signed note: no text, blank line and signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > NOTE_SIGNATURES_MAX:
        raise JournalError(f"a note has at most {NOTE_SIGNATURES_MAX} signatures, not {len(lines)}")
    return text + "\n", [SignatureLine.parse(line) for line in lines]


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
        return cls(*parse_vkey(vkey, ED25519))

    @property
    def vkey(self) -> str:
        """The key as text."""
        return format_vkey(self.name, ED25519, self.public_key)

    def open(self, note: str) -> str:
        """Text of a note that this key has signed; signatures of other keys are ignored, each of its own must verify.

        Raises
        ------
        JournalError : malformed, or not signed by this key.
        """
        text, lines = split_note(note)
        own = (self.name, key_id(self.name, ED25519, self.public_key))
        signatures = [line.signature for line in lines if (line.name, line.key_id) == own]
        for signature in signatures:
            try:
                VerifyKey(self.public_key).verify(text.encode(), signature)
            except (BadSignatureError, ValueError):
                raise JournalError(f"signature of {self.name} does not verify") from None
        if not signatures:
            raise JournalError(f"not signed by {self.name}")
        return text


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A signing key under its name: its seed, or whoever signs with it.

    >>> signer = NoteSigner("example.org/feeder", bytes(32))
    >>> signer.verifier.open(signer.sign("hello\\n"))
    'hello\\n'
    """

    name: str
    seed: bytes | Signer = field(repr=False)
    _key: Signer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_key(self.name, self.seed)
        object.__setattr__(self, "_key", _SeedSigner(self.seed) if isinstance(self.seed, bytes) else self.seed)

    @property
    def verifier(self) -> NoteVerifier:
        """The public half."""
        return NoteVerifier(self.name, self._key.public_key)

    def sign(self, text: str) -> str:
        """The note: text, blank line, signature line.

        Raises
        ------
        JournalError : the text does not end in a newline or contains control characters.
        """
        if not text.endswith("\n") or _CONTROL.search(text):
            raise JournalError("a note's text must end in a newline and hold no control characters")
        try:
            signature = self._key.sign(text.encode())
        except JournalError:
            raise
        except TellegenError as error:
            raise JournalError(str(error)) from None
        line = SignatureLine(self.name, key_id(self.name, ED25519, self._key.public_key), signature)
        return f"{text}\n{line}"
