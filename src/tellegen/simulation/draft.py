"""A directory in the making: its files need not outlast a crash before it is complete, for then it is thrown away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tellegen.journal.database import Database, FileDatabases
from tellegen.journal.storage import DiskFile, FileStorage, StoredFile


class _DraftFile(DiskFile):
    def sync(self) -> None:
        """What is written is safe once the whole directory is."""


class DraftStorage(FileStorage):
    """The operating system's disk, on which nothing is made durable yet: `make_durable` does that for all at once."""

    def open(self, path: Path, *, write: bool = False) -> StoredFile:
        """See `Storage`."""
        return _DraftFile(path, write=write)

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
