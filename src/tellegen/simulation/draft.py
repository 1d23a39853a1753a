"""A directory in the making: its files need not outlast a crash before it is complete, for then it is thrown away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tellegen.journal.database import Database, FileDatabases
from tellegen.journal.storage import DRAFT_SUFFIX, DiskFile, FileStorage, StoredFile


class _DraftFile(DiskFile):
    def sync(self) -> None:
        """What is written is safe once the whole directory is."""


class _HeldFile:
    """A file that is not on disk yet."""

    def __init__(self) -> None:
        self.data = bytearray()

    def size(self) -> int:
        return len(self.data)

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.data[at : at + length])

    def write(self, at: int, data: bytes) -> None:
        self.data[at : at + len(data)] = data

    def truncate(self, size: int) -> None:
        del self.data[size:]

    def sync(self) -> None:
        """See `_DraftFile`."""

    def lock(self) -> bool:
        return True

    def close(self) -> None:
        """What it holds stays."""


class DraftStorage(FileStorage):
    """The operating system's disk, on which nothing is made durable yet: `make_durable` does that for all at once.

    What is drafted to take another file's place (a checkpoint's copy does so at every commit) stays in memory: a disk
    takes half a millisecond for it. Who reads through this storage sees it, others once it is `put_down`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drafts: dict[Path, _HeldFile] = {}
        self._held: dict[Path, _HeldFile] = {}

    def open(self, path: Path, *, write: bool = False) -> StoredFile:
        """See `Storage`."""
        if write and path.suffix == DRAFT_SUFFIX:
            return self._drafts.setdefault(path, _HeldFile())
        return self._held.get(path) or _DraftFile(path, write=write)

    def exists(self, path: Path) -> bool:
        """See `Storage`."""
        return path in self._held or super().exists(path)

    def names(self, folder: Path) -> list[str]:
        """See `Storage`."""
        return sorted({*super().names(folder), *(path.name for path in self._held if path.parent == folder)})

    def rename(self, old: Path, new: Path) -> None:
        """See `Storage`."""
        if old in self._drafts:
            self._held[new] = self._drafts.pop(old)
        else:
            super().rename(old, new)
            self._held.pop(new, None)

    def remove(self, path: Path) -> None:
        """See `Storage`."""
        self._drafts.pop(path, None)
        self._held.pop(path, None)
        super().remove(path)

    def put_down(self) -> None:
        """Put on disk what is held, each file in its place at once; the intake's before the market's, which reads it.

        Raises
        ------
        OSError : the disk refused.
        """
        for path in sorted(self._held):
            draft = path.with_name(path.name + DRAFT_SUFFIX)
            draft.write_bytes(self._held[path].data)
            draft.replace(path)
        self._held.clear()

    def sync_folder(self, path: Path) -> None:
        """See `DraftStorage`."""

    def sync_all(self, files: Sequence[StoredFile]) -> None:
        """See `DraftStorage`."""


class DraftDatabases(FileDatabases):
    """Databases that SQLite does not make durable yet either."""

    def connect(self, path: Path, *, create: bool = False, read_only: bool = False) -> Database:
        """See `Databases`."""
        connection = super().connect(path, create=create, read_only=read_only)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        return connection


def make_durable(directory: Path) -> None:
    """Make everything in a directory durable, its own entries last."""
    for folder, _, names in os.walk(directory, topdown=False):
        for path in (*(Path(folder) / name for name in names), Path(folder)):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
