"""Signed notes, verifier keys and checkpoints (C2SP signed-note, tlog-checkpoint), read strictly.

Strictly: every byte has exactly one allowed form, so that no change of a byte goes unseen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.verify.report import RefusedError

_LINES_MAX = 100


def strict_base64(text: str, what: str) -> bytes:
    """Decode base64 that is the one encoding of its bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(f"{what} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise RefusedError(f"{what} is not canonical base64")
    return data


def strict_number(text: str, what: str) -> int:
    """A decimal number without sign or leading zeros."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and str(int(text)) == text):
        raise RefusedError(f"{what} {text!r} is not a number")
    return int(text)


def _parse_vkey(vkey: str, algorithm: int, what: str) -> tuple[str, bytes, bytes]:
    """Name, id and public key of ``NAME+HEX KEY ID+BASE64(algorithm || key)``."""
    parts = vkey.split("+", 2)
    if len(parts) != 3 or not parts[0] or any(c.isspace() or ord(c) < 0x20 for c in vkey):
        raise RefusedError("verifier key is not one line NAME+ID+KEY")
    name, key_id, encoded = parts
    data = strict_base64(encoded, "verifier key")
    if len(data) != 33 or data[0] != algorithm:
        raise RefusedError(f"verifier key is not {what}")
    if hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8] != key_id:
        raise RefusedError("verifier key does not have the id it states")
    return name, bytes.fromhex(key_id), data[1:]


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """The operator's public key under its name; `key_id` is bound to both."""

    name: str
    key_id: bytes
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> OperatorKey:
        """Read ``NAME+HEX KEY ID+BASE64(0x01 || key)``."""
        return cls(*_parse_vkey(vkey, 1, "an Ed25519 key"))

    def text_of(self, note: str) -> str:
        """Text of a note with exactly one signature line, this key's, that verifies."""
        text, lines = _split(note)
        if len(lines) != 1 or lines[0][0] != self.name:
            raise RefusedError(f"not a note with one signature line, of {self.name}")
        self.check(text, lines[0][1])
        return text

    def check(self, text: str, signature: bytes) -> None:
        """Verify what a signature line holds."""
        if signature[:4] != self.key_id or len(signature) != 68:
            raise RefusedError(f"signature is not by the key of {self.name}")
        try:
            VerifyKey(self.public_key).verify(text.encode(), signature[4:])
        except BadSignatureError:
            raise RefusedError(f"signature of {self.name} does not verify") from None


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's public key under its name (C2SP tlog-cosignature, Ed25519)."""

    name: str
    key_id: bytes
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> WitnessKey:
        """Read ``NAME+HEX KEY ID+BASE64(0x04 || key)``."""
        return cls(*_parse_vkey(vkey, 4, "a witness's key for cosignatures"))

    def time_of(self, text: str, signature: bytes) -> int:
        """When it signed the text of a checkpoint, seconds since the epoch."""
        if len(signature) != 76:
            raise RefusedError(f"cosignature of {self.name} is not 76 bytes")
        time = int.from_bytes(signature[4:12], "big")
        try:
            VerifyKey(self.public_key).verify(f"cosignature/v1\ntime {time}\n{text}".encode(), signature[12:])
        except BadSignatureError:
            raise RefusedError(f"cosignature of {self.name} does not verify") from None
        if time >= 1 << 63:
            raise RefusedError(f"cosignature of {self.name}: its time {time} is above 2^63-1")
        return time


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Text of a note, and of each signature line the name and the bytes; nothing is verified."""
    text, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise RefusedError("not a note: a text, a blank line and signature lines")
    lines: list[tuple[str, bytes]] = []
    for line in tail[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        data = strict_base64(encoded, "signature")
        if dash != "—" or not name or len(data) <= 4:
            raise RefusedError("not a signature line")
        lines.append((name, data))
    if len(lines) > _LINES_MAX or len({(name, data[:4]) for name, data in lines}) != len(lines):
        raise RefusedError(f"a note has at most {_LINES_MAX} signatures, one of each key")
    return f"{text}\n", lines


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a checkpoint signs: at `size` entries the log had `root`."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, note: str, key: OperatorKey) -> TreeHead:
        """Read and verify a checkpoint of the log that the key names, signed by that key alone."""
        return cls._of_text(key.text_of(note), key)

    @classmethod
    def _of_text(cls, text: str, key: OperatorKey) -> TreeHead:
        lines = text.split("\n")
        if len(lines) != 4 or lines[0] != key.name:
            raise RefusedError(f"not a checkpoint of {key.name}")
        root = strict_base64(lines[2], "root")
        if len(root) != 32:
            raise RefusedError(f"root of {len(root)} bytes")
        return cls(strict_number(lines[1], "tree size"), root)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness saw that the log extends all that it saw of it before, at `time` (seconds since the epoch)."""

    witness: str
    time: int


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A checkpoint with everybody who signed for it.

    Attributes
    ----------
    head : what the operator signed; its signature verifies.
    cosignatures : of the witnesses whose keys were given; they verify.
    strangers : names on signature lines of other keys, of which nothing is known.
    """

    head: TreeHead
    cosignatures: tuple[Cosignature, ...] = ()
    strangers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, note: str, key: OperatorKey, witnesses: Sequence[WitnessKey] = ()) -> SignedHead:
        """Read a checkpoint; every signature by a key that is known must verify, the operator's must be there."""
        text, lines = _split(note)
        known = {(witness.name, witness.key_id): witness for witness in witnesses}
        signed, seen, strangers = False, list[Cosignature](), list[str]()
        for name, data in lines:
            witness = known.get((name, data[:4]))
            if (name, data[:4]) == (key.name, key.key_id):
                key.check(text, data)
                signed = True
            elif witness is not None:
                seen.append(Cosignature(name, witness.time_of(text, data)))
            else:
                strangers.append(name)
        if not signed:
            raise RefusedError(f"there is no signature by the key of {key.name}")
        return cls(TreeHead._of_text(text, key), tuple(seen), tuple(strangers))
