"""Cosignatures of witnesses (C2SP tlog-cosignature, v1), and the checkpoint that carries them.

A witness signs a checkpoint once it has verified that it extends the one it signed before. What it
signs is the time, and the checkpoint's text::

    cosignature/v1
    time SECONDS
    ORIGIN
    SIZE
    ROOT

The signature in its line is the time (u64, big-endian) and 64 bytes of Ed25519.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.extension import Extension, Grown
from tellegen.journal.note import (
    COSIGNATURE,
    JournalError,
    SignatureLine,
    check_key,
    format_vkey,
    key_id,
    parse_vkey,
    split_note,
)
from tellegen.journal.storage import FILES, Storage, read_file, replace_file

COSIGNED_NAME = "cosigned"
_ATTEMPTS = 3
_TIME = struct.Struct(">Q")
TIME_MAX = (1 << 63) - 1
"""Largest time that a cosignature may name, seconds since the epoch (tlog-cosignature)."""


class NotCosignedError(JournalError):
    """A witness would not sign: its answer says why."""


class ContradictedError(NotCosignedError):
    """Somebody elsewhere was shown more of this log than there is, or another history of it."""


def _message(time: int, text: str) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    """The public key of a witness under its name."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> CosignatureVerifier:
        """Read a verifier key of algorithm 0x04.

        Raises
        ------
        JournalError : malformed, of another algorithm, or its id does not belong to its key.
        """
        return cls(*parse_vkey(vkey, COSIGNATURE))

    @property
    def vkey(self) -> str:
        """The key as text."""
        return format_vkey(self.name, COSIGNATURE, self.public_key)

    def owns(self, line: SignatureLine) -> bool:
        """Whether a line says that it is by this key."""
        return (line.name, line.key_id) == (self.name, key_id(self.name, COSIGNATURE, self.public_key))

    def time_of(self, text: str, line: SignatureLine) -> int:
        """When the witness signed this checkpoint's text, seconds since the epoch.

        Raises
        ------
        JournalError : not a cosignature of this witness for this text.
        """
        if not self.owns(line):
            raise JournalError(f"not a cosignature by {self.name}")
        try:
            (time,) = _TIME.unpack(line.signature[: _TIME.size])
            VerifyKey(self.public_key).verify(_message(time, text), line.signature[_TIME.size :])
        except (BadSignatureError, ValueError, struct.error):
            raise JournalError(f"cosignature of {self.name} does not verify") from None
        if time > TIME_MAX:
            raise JournalError(f"cosignature of {self.name}: its time {time} is above 2^63-1")
        return int(time)


@dataclass(frozen=True, slots=True)
class Cosigner:
    """The signing key of a witness under its name.

    >>> witness = Cosigner("witness.example/w1", bytes(32))
    >>> line = witness.cosign("example.org/log\\n0\\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\\n", 1_700_000_000)
    >>> witness.verifier.time_of("example.org/log\\n0\\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\\n", line)
    1700000000
    """

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_key(self.name, self.seed)

    @property
    def verifier(self) -> CosignatureVerifier:
        """The public half."""
        return CosignatureVerifier(self.name, bytes(SigningKey(self.seed).verify_key))

    def cosign(self, text: str, time: int) -> SignatureLine:
        """Sign a checkpoint's text as of a time, seconds since the epoch."""
        key = SigningKey(self.seed)
        signature = _TIME.pack(time) + key.sign(_message(time, text)).signature
        return SignatureLine(self.name, key_id(self.name, COSIGNATURE, bytes(key.verify_key)), signature)


def store_cosignatures(
    folder: Path, checkpoint: Checkpoint, lines: Iterable[SignatureLine], storage: Storage = FILES
) -> Checkpoint:
    """Put cosignatures of a checkpoint beside its journal, durably; those of the same checkpoint are kept.

    Parameters
    ----------
    folder : of the journal.

    Raises
    ------
    OSError : the disk refused.
    """
    path, note = folder / COSIGNED_NAME, checkpoint.note
    if storage.exists(path):
        before = read_file(storage, path).decode()
        note = before if before.partition("\n\n")[0] == note.partition("\n\n")[0] else note
    text, present = split_note(note)
    signatures = {(line.name, line.key_id): line for line in (*present, *lines)}
    merged = Checkpoint(
        checkpoint.origin, checkpoint.size, checkpoint.root, text + "\n" + "".join(map(str, signatures.values()))
    )
    replace_file(path, merged.note.encode(), storage)
    return merged


def ask(
    log: Grown,
    checkpoint: Checkpoint,
    witness: CosignatureVerifier,
    post: Callable[[bytes], tuple[int, str]],
    known: int = 0,
) -> SignatureLine:
    """Have a witness cosign a checkpoint of a log.

    Parameters
    ----------
    log, checkpoint : the log and what is to be cosigned.
    witness : whose cosignature is wanted.
    post : sends a request to the witness's ``add-checkpoint``; returns HTTP status and text.
    known : entries for which it has signed before, as far as one knows.

    Raises
    ------
    ContradictedError : the witness has been shown more than the log has now, or another history.
    NotCosignedError : it refuses, or its answer is not its signature of this checkpoint.
    """
    old_size = known
    for _ in range(_ATTEMPTS):
        status, answer = post(str(Extension.of(log, old_size, checkpoint)).encode())
        if status == HTTPStatus.OK:
            return _own_line(checkpoint, witness, answer)
        said = answer.removesuffix("\n")
        if status == HTTPStatus.UNPROCESSABLE_ENTITY and old_size == checkpoint.size:
            raise ContradictedError(f"{witness.name} has signed another root for {old_size} entries: two histories")
        if status != HTTPStatus.CONFLICT or not (said.isascii() and said.isdigit() and len(said) < 20):
            raise NotCosignedError(f"{witness.name} answers {status}: {said[:200]}")
        if int(said) > checkpoint.size:
            raise ContradictedError(
                f"{witness.name} has signed for {said} entries, the checkpoint has {checkpoint.size}: "
                "there is a newer one, or the log was set back"
            )
        if int(said) == old_size:
            raise ContradictedError(f"{witness.name} has signed another root for {said} entries: two histories")
        old_size = int(said)
    raise NotCosignedError(f"{witness.name} names another size each time; is somebody else submitting?")


def _own_line(checkpoint: Checkpoint, witness: CosignatureVerifier, answer: str) -> SignatureLine:
    text, _ = split_note(checkpoint.note)
    try:
        lines = [SignatureLine.parse(line) for line in answer.removesuffix("\n").split("\n")]
        own = next(line for line in lines if witness.owns(line))
        witness.time_of(text, own)
    except (JournalError, StopIteration):
        raise NotCosignedError(f"the answer is not a cosignature by {witness.name}") from None
    return own
