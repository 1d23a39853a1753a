"""Cosignatures of witnesses (C2SP tlog-cosignature, v1), and the checkpoint that carries them.

A witness signs a checkpoint once it has verified that it extends the one it signed before. What it
signs is the time, and the checkpoint's text::

    cosignature/v1
    time SECONDS
    ORIGIN
    SIZE
    ROOT

The signature in its line is the time (u64, big-endian) and 64 bytes of Ed25519.

The file ``journal/cosigned`` keeps the newest checkpoint that witnesses have cosigned: the
operator's note, followed by their lines.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.extension import Extension
from tellegen.journal.journal import Journal
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
from tellegen.journal.storage import replace_file

COSIGNED_NAME = "cosigned"
_REMEDY = "remove it, and have the log cosigned again"
_ATTEMPTS = 3
_TIME = struct.Struct(">Q")
_SIGNATURE_BYTES = _TIME.size + 64


class NotCosignedError(JournalError):
    """A witness would not sign: its answer says why."""


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


def cosigned(journal: Journal) -> Checkpoint | None:
    """The newest cosigned checkpoint of a journal, its note with the witnesses' lines; None where there is none yet.

    Raises
    ------
    JournalError : the file is damaged, or no state of this log.
    """
    path = journal.folder / COSIGNED_NAME
    if not path.exists():
        return None
    try:
        checkpoint = Checkpoint.parse(path.read_bytes().decode(), journal.verifier)
    except (UnicodeDecodeError, JournalError) as error:
        raise JournalError(f"corruption: {path}: {error}; {_REMEDY}") from None
    if checkpoint.size > journal.checkpoint.size or journal.tree.root(checkpoint.size) != checkpoint.root:
        raise JournalError(f"corruption: {path}: is no state of this log; {_REMEDY}")
    return checkpoint


def strongest(journal: Journal, index: int) -> Checkpoint:
    """The checkpoint to prove an entry under: the cosigned one where it covers the entry, else the newest."""
    witnessed = cosigned(journal)
    return witnessed if witnessed is not None and index < witnessed.size else journal.checkpoint


def newest(journal: Journal) -> Checkpoint:
    """The newest checkpoint, with its cosignatures where it has any."""
    witnessed = cosigned(journal)
    return witnessed if witnessed is not None and witnessed.size == journal.checkpoint.size else journal.checkpoint


def keep_cosignatures(journal: Journal, checkpoint: Checkpoint, lines: Iterable[SignatureLine]) -> Checkpoint:
    """Store cosignatures of a checkpoint of this journal, durably; those it has already are kept.

    Cosignatures of an older checkpoint give way to those of a newer one, never the other way round.

    Raises
    ------
    JournalError : the file holds those of a newer checkpoint, or is damaged.
    """
    before = cosigned(journal)
    if before is not None and before.size > checkpoint.size:
        raise JournalError(f"{journal.folder / COSIGNED_NAME} is about {before.size} entries, not {checkpoint.size}")
    note = before.note if before is not None and before.size == checkpoint.size else checkpoint.note
    text, present = split_note(note)
    signatures = {(line.name, line.key_id): line for line in (*present, *lines)}
    merged = Checkpoint(
        checkpoint.origin, checkpoint.size, checkpoint.root, text + "\n" + "".join(map(str, signatures.values()))
    )
    replace_file(journal.folder / COSIGNED_NAME, merged.note.encode())
    return merged


def ask_witness(
    journal: Journal,
    checkpoint: Checkpoint,
    witness: CosignatureVerifier,
    post: Callable[[bytes], tuple[int, str]],
) -> SignatureLine:
    """Have a witness cosign a checkpoint of this journal.

    Parameters
    ----------
    journal, checkpoint : the log and what is to be cosigned.
    witness : whose cosignature is wanted.
    post : sends a request to the witness's ``add-checkpoint``; returns HTTP status and text.

    Raises
    ------
    NotCosignedError : the witness refuses, has been shown more than the log has now, or another
        history, or its answer is not its signature of this checkpoint.
    """
    before = cosigned(journal)
    signed = before is not None and any(witness.owns(line) for line in split_note(before.note)[1])
    old_size = before.size if before is not None and signed and before.size <= checkpoint.size else 0
    for _ in range(_ATTEMPTS):
        status, answer = post(str(Extension.of(journal, old_size, checkpoint)).encode())
        if status == HTTPStatus.OK:
            return _own_line(checkpoint, witness, answer)
        known = answer.removesuffix("\n")
        if status != HTTPStatus.CONFLICT or not (known.isascii() and known.isdigit() and len(known) < 20):
            raise NotCosignedError(f"{witness.name} answers {status}: {known[:200]}")
        if int(known) > checkpoint.size:
            raise NotCosignedError(
                f"{witness.name} has signed for {known} entries, the checkpoint has {checkpoint.size}: "
                "there is a newer one, or the log was set back"
            )
        if int(known) == old_size:
            raise NotCosignedError(f"{witness.name} has signed another root for {known} entries: two histories")
        old_size = int(known)
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
