"""Signed notes, verifier keys and checkpoints (C2SP signed-note, tlog-checkpoint), read strictly.

Strictly: every byte has exactly one allowed form, so that no change of a byte goes unseen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.verify.report import RefusedError


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


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """The operator's public key under its name; `key_id` is bound to both."""

    name: str
    key_id: bytes
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> OperatorKey:
        """Read ``NAME+HEX KEY ID+BASE64(0x01 || key)``."""
        parts = vkey.split("+", 2)
        if len(parts) != 3 or not parts[0] or any(c.isspace() or ord(c) < 0x20 for c in vkey):
            raise RefusedError("verifier key is not one line NAME+ID+KEY")
        name, key_id, encoded = parts
        data = strict_base64(encoded, "verifier key")
        if len(data) != 33 or data[0] != 1:
            raise RefusedError("verifier key is not an Ed25519 key")
        if hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8] != key_id:
            raise RefusedError("verifier key does not have the id it states")
        return cls(name, bytes.fromhex(key_id), data[1:])

    def text_of(self, note: str) -> str:
        """Text of a note with exactly one signature line, this key's, that verifies."""
        text, gap, line = note.rpartition("\n\n")
        prefix = f"— {self.name} "
        if not gap or not line.startswith(prefix) or line.count("\n") != 1 or not line.endswith("\n"):
            raise RefusedError(f"not a note with one signature line, of {self.name}")
        data = strict_base64(line[len(prefix) : -1], "signature")
        if data[:4] != self.key_id or len(data) != 68:
            raise RefusedError(f"signature is not by the key of {self.name}")
        try:
            VerifyKey(self.public_key).verify(f"{text}\n".encode(), data[4:])
        except BadSignatureError:
            raise RefusedError(f"signature of {self.name} does not verify") from None
        return text + "\n"


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a checkpoint signs: at `size` entries the log had `root`."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, note: str, key: OperatorKey) -> TreeHead:
        """Read and verify a checkpoint of the log that the key names."""
        lines = key.text_of(note).split("\n")
        if len(lines) != 4 or lines[0] != key.name:
            raise RefusedError(f"not a checkpoint of {key.name}")
        root = strict_base64(lines[2], "root")
        if len(root) != 32:
            raise RefusedError(f"root of {len(root)} bytes")
        return cls(strict_number(lines[1], "tree size"), root)
