"""Checkpoints: signed heads of the tree (C2SP tlog-checkpoint), and the file that keeps them all."""

from __future__ import annotations

import base64
import binascii
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tellegen.journal.merkle import HASH_BYTES
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.segments import sync_data, sync_folder, write_all

NOTE_LINES = 5
"""Lines of a checkpoint's note: origin, size, root, blank, the operator's signature."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed tree head: the log named `origin` had `root` when it held `size` entries."""

    origin: str
    size: int
    root: bytes
    note: str

    @classmethod
    def signed_by(cls, signer: NoteSigner, size: int, root: bytes) -> Checkpoint:
        """Sign a tree head."""
        text = f"{signer.name}\n{size}\n{base64.b64encode(root).decode()}\n"
        return cls(signer.name, size, root, signer.sign(text))

    @classmethod
    def parse(cls, note: str, verifier: NoteVerifier) -> Checkpoint:
        """Read a checkpoint and verify its signature.

        Raises
        ------
        JournalError : malformed, of another log, or not signed by its operator.
        """
        lines = verifier.open(note).split("\n")[:-1]
        try:
            origin, size_text, root_text = lines
            size, root = int(size_text), base64.b64decode(root_text, validate=True)
        except (ValueError, binascii.Error):
            raise JournalError("checkpoint is not origin, size and root") from None
        if origin != verifier.name or str(size) != size_text or size < 0 or len(root) != HASH_BYTES:
            raise JournalError(f"checkpoint is not a head of the log {verifier.name}")
        return cls(origin, size, root, note)


class CheckpointFile:
    """The file of all checkpoints: notes of five lines, one after the other.

    The writer holds a lock on it, so that a shard has one writer (law 5).
    """

    def __init__(self, path: Path, verifier: NoteVerifier) -> None:
        self._path, self._verifier = path, verifier
        self._handle: int | None = None
        self._whole_bytes = 0
        self.signed: list[Checkpoint] = []

    def lock(self) -> None:
        """Open for writing.

        Raises
        ------
        JournalError : somebody else writes.
        """
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        sync_folder(self._path.parent)
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.close()
                raise JournalError(f"{self._path.parent} has another writer; a shard has one") from None

    def load(self) -> list[Checkpoint]:
        """Read and verify every whole checkpoint; a last one that was cut short is left out.

        Raises
        ------
        JournalError : a whole one is malformed, unsigned, or smaller than one before it.
        """
        data = self._path.read_bytes() if self._path.exists() else b""
        lines = data.split(b"\n")[:-1]
        self.signed, self._whole_bytes = [], 0
        for at in range(0, len(lines) - len(lines) % NOTE_LINES, NOTE_LINES):
            raw = b"\n".join(lines[at : at + NOTE_LINES]) + b"\n"
            try:
                checkpoint = Checkpoint.parse(raw.decode(), self._verifier)
            except (JournalError, UnicodeDecodeError) as error:
                raise JournalError(f"corruption: {self._path}, line {at + 1}: {error}") from None
            if self.signed and checkpoint.size <= self.signed[-1].size:
                raise JournalError(
                    f"corruption: {self._path}, line {at + 1}: size {checkpoint.size} follows {self.signed[-1].size}"
                )
            self.signed.append(checkpoint)
            self._whole_bytes += len(raw)
        return self.signed

    def repair(self) -> None:
        """Cut off what is not a whole checkpoint."""
        assert self._handle is not None
        if os.fstat(self._handle).st_size != self._whole_bytes:
            os.ftruncate(self._handle, self._whole_bytes)
            os.fsync(self._handle)

    def append(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint and make it durable."""
        assert self._handle is not None
        data = checkpoint.note.encode()
        write_all(self._handle, data)
        sync_data(self._handle)
        self.signed.append(checkpoint)
        self._whole_bytes += len(data)

    def close(self) -> None:
        """Give up the file and the lock."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
