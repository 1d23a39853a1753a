"""Checkpoints: signed heads of the tree (C2SP tlog-checkpoint), and the files that keep them.

The file ``checkpoints`` holds all of them; ``checkpoint`` is a copy of the newest. It is put in place after the note in
``checkpoints`` is durable, so that it may be behind but never ahead. Readers believe what it names and no more.
"""

from __future__ import annotations

import base64
import binascii
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from tellegen.journal.merkle import HASH_BYTES
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.storage import DRAFT_SUFFIX, Storage, StoredFile, adopt_draft, draft_file, read_file, replace_file

NOTE_LINES = 5
"""Lines of a checkpoint's note: origin, size, root, blank, the operator's signature."""
VERIFIED_MAX = 1000  # signatures that one reading of the file verifies, of the newest: some 70 ms


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
    def parse(cls, note: str, verifier: NoteVerifier, *, extended: bool = False) -> Checkpoint:
        """Read a checkpoint and verify its signature.

        Parameters
        ----------
        extended : lines may follow origin, size and root, as other logs have them; ours have none.

        Raises
        ------
        JournalError : malformed, of another log, or not signed by its operator.
        """
        lines = verifier.open(note).split("\n")[:-1]
        try:
            origin, size_text, root_text = lines[:3] if extended and all(lines) else lines
            size, root = int(size_text), base64.b64decode(root_text, validate=True)
        except (ValueError, binascii.Error):
            raise JournalError("checkpoint is not origin, size and root") from None
        if origin != verifier.name or str(size) != size_text or size < 0 or len(root) != HASH_BYTES:
            raise JournalError(f"checkpoint is not a head of the log {verifier.name}")
        return cls(origin, size, root, note)


@dataclass(frozen=True, slots=True)
class Noted:
    """Where a checkpoint stands in the file of them: its number, first byte and the byte behind, and its size."""

    number: int
    start: int
    stop: int
    size: int


def whole_notes(data: bytes) -> list[bytes]:
    """Notes of five lines each; what follows the last whole one is left out.

    No name begins with a zero byte: where the last note does, a crash has kept its later sector and not its first.
    """
    lines = data.split(b"\n")[:-1]
    whole = len(lines) - len(lines) % NOTE_LINES
    notes = [b"\n".join([*lines[at : at + NOTE_LINES], b""]) for at in range(0, whole, NOTE_LINES)]
    return notes[:-1] if notes and notes[-1].startswith(b"\0") else notes


def size_of(note: bytes) -> int:
    """Size that a checkpoint's note names, unverified; -1 where it is none."""
    size = note.split(b"\n")[1] if note.count(b"\n") == NOTE_LINES else b""
    return int(size) if size.isdigit() and len(size) < 19 else -1


class CheckpointFile(Sequence[Checkpoint]):
    """Every checkpoint, oldest first: sixteen bytes of memory each, the notes on disk.

    A signature covers all that came before it, so when the file is read the newest thousand are verified, and any other
    when it is asked for. Opening may begin at a later one (`begin_at`); those before it are read when asked for. The
    writer holds a lock on the file, so that a shard has one writer (law 5).
    """

    def __init__(self, storage: Storage, folder: Path, verifier: NoteVerifier) -> None:
        self._storage, self._path, self._copy = storage, folder / "checkpoints", folder / "checkpoint"
        self._verifier = verifier
        self._file: StoredFile | None = None
        self._first, self._base = 0, 0  # checkpoints before the first that is held, and where their notes end
        self._ends, self._sizes = array("q"), array("q")
        self.newest: Checkpoint | None = None

    def __len__(self) -> int:
        return self._first + len(self._ends)

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
        if number < self._first:
            self._take_in_older()
        at = number - self._first
        start = self._ends[at - 1] if at else self._base
        try:
            return self._opened().read(start, self._ends[at] - start)
        except OSError as error:
            raise JournalError(f"{self._path}: {error.strerror}") from None

    def _take_in_older(self) -> None:
        """Learn where the notes before the first one held stand, which opening did not read."""
        held, (first, base, self._first, self._base) = (self._ends, self._sizes), (self._first, self._base, 0, 0)
        self._ends, self._sizes = array("q"), array("q")
        for note in whole_notes(self._opened().read(0, base)):
            self._add(note)
        if (len(self), self._end()) != (first, base):
            raise JournalError(f"corruption: {self._path}: does not hold {first} checkpoints in {base} bytes")
        self._ends += held[0]
        self._sizes += held[1]

    def _end(self) -> int:
        return self._ends[-1] if self._ends else self._base

    def covering(self, size: int) -> Noted:
        """Where the first checkpoint of at least `size` entries stands; there must be one."""
        if self._first and (not self._sizes or self._sizes[0] >= size):
            self._take_in_older()
        at = bisect_left(self._sizes, size)
        start = self._ends[at - 1] if at else self._base
        return Noted(self._first + at, start, self._ends[at], self._sizes[at])

    def begin_at(self, noted: Noted | None) -> bool:
        """Know nothing of the checkpoints before one (None: of any); whether that one stands where it is said to."""
        self._ends, self._sizes, self.newest = array("q"), array("q"), None
        self._first = self._base = 0
        if noted is None:
            return True
        try:
            note = self._opened().read(noted.start, noted.stop - noted.start)
            found = Checkpoint.parse(note.decode(), self._verifier).size == noted.size
        except (OSError, JournalError, UnicodeDecodeError):
            found = False
        if found:
            self._first, self._base = noted.number, noted.start
        return found

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
            raise JournalError(
                f"{self._path.parent} has another writer; a shard has one: stop it, or reach it by --server"
            )

    def load(self, upto: bytes | None = None) -> list[Checkpoint]:
        """Take in the whole checkpoints that are new; returns those verified, oldest first.

        Parameters
        ----------
        upto : the copy, for a reader: a note that stands in the file beyond it may not be durable yet, or never.

        Raises
        ------
        OSError : the disk refused.
        JournalError : the file is malformed, one of those is unsigned, or `upto` is not in it.
        """
        if upto == (self.newest.note.encode() if self.newest is not None else b""):
            return []
        if self._file is None and not self._storage.exists(self._path):
            return []
        file, start = self._opened(), self._end()
        notes = whole_notes(file.read(start, file.size() - start))
        if upto is not None:
            if upto not in notes:
                raise self._copy_error()
            notes = notes[: notes.index(upto) + 1]
        for note in notes:
            self._add(note)
        notes = notes[-VERIFIED_MAX:]
        verified = [self._parse(number, note) for number, note in enumerate(notes, len(self) - len(notes))]
        self.newest = verified[-1] if verified else self.newest
        return verified

    def _add(self, note: bytes) -> None:
        lines = note.split(b"\n")
        place = f"corruption: {self._path}, line {len(self) * NOTE_LINES + 1}"
        if lines[0] != self._verifier.name.encode() or lines[3] or not lines[1].isdigit() or len(lines[1]) > 18:
            raise JournalError(f"{place}: is not a checkpoint of {self._verifier.name}")
        if self._sizes and int(lines[1]) <= self._sizes[-1]:
            raise JournalError(f"{place}: size {int(lines[1])} follows {self._sizes[-1]}")
        self._ends.append(self._end() + len(note))
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
        size, number = size_of(copy), len(self)
        if size >= 0 and self._first and (not self._sizes or size < self._sizes[0]):
            self._take_in_older()
        if size >= 0:
            number = self._first + bisect_left(self._sizes, size)
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
        end = self._end()
        if self._file.size() != end:
            self._file.truncate(end)
        if self.newest is not None:
            note = self.newest.note.encode()
            self._file.write(end - len(note), note)
        self._file.sync()
        if self.newest is not None and self.copy() != self.newest.note.encode():
            replace_file(self._copy, self.newest.note.encode(), self._storage)
        self._storage.remove(self._copy.with_name(self._copy.name + DRAFT_SUFFIX))

    # Writing

    def append(self, checkpoint: Checkpoint, tell: Callable[[], None] = lambda: None) -> None:
        """Add a checkpoint, make it durable, and then put the copy in place.

        Parameters
        ----------
        tell : called between the two: it is durable, and nobody is shown it yet.

        Raises
        ------
        OSError : the disk refused.
        """
        assert self._file is not None
        note = checkpoint.note.encode()
        end = self._end()
        self._file.write(end, note)
        draft = draft_file(self._storage, self._copy, note)
        try:
            self._storage.sync_all([self._file, draft])
        finally:
            draft.close()
        tell()
        adopt_draft(self._storage, self._copy)
        if not len(self):  # a log without its first checkpoint and its copy is no log
            self._storage.sync_folder(self._path.parent)
        self._ends.append(end + len(note))
        self._sizes.append(checkpoint.size)
        self.newest = checkpoint

    def close(self) -> None:
        """Give up the file and the lock."""
        if self._file is not None:
            self._file.close()
        self._file = None
