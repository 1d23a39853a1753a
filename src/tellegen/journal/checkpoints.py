"""Checkpoints: signed heads of the tree (C2SP tlog-checkpoint), and the files that keep them.

The file ``checkpoints`` holds all of them; ``checkpoint`` is a copy of the newest. It is put in place after the note in
``checkpoints`` is durable, so that it may be behind but never ahead. Readers believe what it names and no more.
"""

from __future__ import annotations

import base64
import binascii
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from tellegen.journal.merkle import HASH_BYTES
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.storage import Storage, StoredFile, adopt_draft, draft_file, read_file, replace_file

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


def whole_notes(data: bytes) -> list[bytes]:
    """Notes of five lines each; what follows the last whole one is left out."""
    lines = data.split(b"\n")[:-1]
    whole = len(lines) - len(lines) % NOTE_LINES
    return [b"\n".join([*lines[at : at + NOTE_LINES], b""]) for at in range(0, whole, NOTE_LINES)]


class CheckpointFile(Sequence[Checkpoint]):
    """Every checkpoint, oldest first: sixteen bytes of memory each, the notes on disk.

    A signature covers all that came before it, so the newest is verified when the file is read, and any other when it
    is asked for. The writer holds a lock on the file, so that a shard has one writer (law 5).
    """

    def __init__(self, storage: Storage, folder: Path, verifier: NoteVerifier) -> None:
        self._storage, self._path, self._copy = storage, folder / "checkpoints", folder / "checkpoint"
        self._verifier = verifier
        self._file: StoredFile | None = None
        self._ends, self._sizes = array("q"), array("q")
        self.newest: Checkpoint | None = None

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> Checkpoint: ...
    @overload
    def __getitem__(self, at: slice) -> list[Checkpoint]: ...
    def __getitem__(self, at: int | slice) -> Checkpoint | list[Checkpoint]:
        """A checkpoint, its signature verified.

        Raises
        ------
        JournalError : it is not the one that was written.
        """
        if isinstance(at, slice):
            return [self[k] for k in range(*at.indices(len(self)))]
        number = range(len(self))[at]
        if number == len(self) - 1 and self.newest is not None:
            return self.newest
        return self._parse(number, self._note(number))

    def _note(self, number: int) -> bytes:
        start = self._ends[number - 1] if number else 0
        try:
            return self._opened().read(start, self._ends[number] - start)
        except OSError as error:
            raise JournalError(f"{self._path}: {error.strerror}") from None

    def _parse(self, number: int, note: bytes) -> Checkpoint:
        try:
            return Checkpoint.parse(note.decode(), self._verifier)
        except (JournalError, UnicodeDecodeError) as error:
            raise JournalError(f"corruption: {self._path}, line {number * NOTE_LINES + 1}: {error}") from None

    def _opened(self) -> StoredFile:
        if self._file is None:
            self._file = self._storage.open(self._path)
        return self._file

    # Opening

    def lock(self) -> None:
        """Open for writing.

        Raises
        ------
        OSError : the disk refused.
        JournalError : somebody else writes.
        """
        self._file = self._storage.open(self._path, write=True)
        self._storage.sync_folder(self._path.parent)
        if not self._file.lock():
            self.close()
            raise JournalError(f"{self._path.parent} has another writer; a shard has one")

    def load(self, upto: bytes | None = None) -> bool:
        """Take in the whole checkpoints that are new; whether there were any.

        Parameters
        ----------
        upto : the copy, for a reader: a note that stands in the file beyond it may not be durable yet, or never.

        Raises
        ------
        OSError : the disk refused.
        JournalError : the file is malformed, the newest checkpoint unsigned, or `upto` not in it.
        """
        if upto == (self.newest.note.encode() if self.newest is not None else b""):
            return False
        if self._file is None and not self._storage.exists(self._path):
            return False
        file, start, known = self._opened(), self._ends[-1] if self._ends else 0, len(self)
        note = b""
        for note in whole_notes(file.read(start, file.size() - start)):
            self._add(note)
            if note == upto:
                break
        if upto is not None and note != upto:
            raise self._copy_error()
        if len(self) > known:
            self.newest = self._parse(len(self) - 1, note)
        return len(self) > known

    def _add(self, note: bytes) -> None:
        lines = note.split(b"\n")
        place = f"corruption: {self._path}, line {len(self) * NOTE_LINES + 1}"
        if lines[0] != self._verifier.name.encode() or lines[3] or not lines[1].isdigit() or len(lines[1]) > 18:
            raise JournalError(f"{place}: is not a checkpoint of {self._verifier.name}")
        if self._sizes and int(lines[1]) <= self._sizes[-1]:
            raise JournalError(f"{place}: size {int(lines[1])} follows {self._sizes[-1]}")
        self._ends.append((self._ends[-1] if self._ends else 0) + len(note))
        self._sizes.append(int(lines[1]))

    def _copy_error(self) -> JournalError:
        return JournalError(f"corruption: {self._copy} is not among {self._path}")

    def check_copy(self, copy: bytes) -> None:
        """The copy is a checkpoint of the file.

        Raises
        ------
        JournalError : it is not, so it or the file was damaged, or the file has lost its end.
        """
        if not copy and len(self) < 2:  # the journal was being created
            return
        size = copy.split(b"\n")[1] if copy.count(b"\n") == NOTE_LINES else b""
        number = bisect_left(self._sizes, int(size)) if size.isdigit() and len(size) < 19 else len(self)
        if number == len(self) or self._note(number) != copy:
            raise self._copy_error()

    def copy(self) -> bytes:
        """What the copy holds; empty where there is none.

        Raises
        ------
        OSError : it cannot be read.
        """
        return read_file(self._storage, self._copy) if self._storage.exists(self._copy) else b""

    def recover(self) -> None:
        """Cut off what is not a whole checkpoint, and bring the copy up.

        The last note is written again in its place: if a sync of it once failed, the file may show bytes that the disk
        does not hold, and no later sync would write them.
        """
        assert self._file is not None
        end = self._ends[-1] if self._ends else 0
        if self._file.size() != end:
            self._file.truncate(end)
        if self.newest is not None:
            note = self.newest.note.encode()
            self._file.write(end - len(note), note)
        self._file.sync()
        if self.newest is not None and self.copy() != self.newest.note.encode():
            replace_file(self._copy, self.newest.note.encode(), self._storage)
        self._storage.remove(self._copy.with_name(self._copy.name + ".new"))

    # Writing

    def append(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, make it durable, and then put the copy in place.

        Raises
        ------
        OSError : the disk refused.
        """
        assert self._file is not None
        note = checkpoint.note.encode()
        end = self._ends[-1] if self._ends else 0
        self._file.write(end, note)
        draft = draft_file(self._storage, self._copy, note)
        try:
            self._storage.sync_all([self._file, draft])
        finally:
            draft.close()
        adopt_draft(self._storage, self._copy)
        if not self._ends:  # a log without its first checkpoint and its copy is no log
            self._storage.sync_folder(self._path.parent)
        self._ends.append(end + len(note))
        self._sizes.append(checkpoint.size)
        self.newest = checkpoint

    def close(self) -> None:
        """Give up the file and the lock."""
        if self._file is not None:
            self._file.close()
        self._file = None
