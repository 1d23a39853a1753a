"""What ledger and vault ask of SQLite, so that a simulated disk can stand under it as well as the real one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol


class Database(Protocol):
    """An open database. What is between ``BEGIN`` and ``COMMIT`` is there whole or not at all."""

    @property
    def in_transaction(self) -> bool:
        """Whether there was a ``BEGIN`` without an end."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> sqlite3.Cursor:
        """Run one statement."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> sqlite3.Cursor:
        """Run one statement for each row of values."""

    def close(self) -> None:
        """Release the file."""


class Databases(Protocol):
    """Databases by path. Errors are `sqlite3.Error`."""

    def exists(self, path: Path) -> bool:
        """Whether anything was ever made final in a database at `path`."""

    def connect(self, path: Path, *, create: bool = False, read_only: bool = False) -> Database:
        """Open a database; an empty one is made only where that is asked for."""


class FileDatabases:
    """Files of the operating system, by way of SQLite, with its rollback journal."""

    def exists(self, path: Path) -> bool:
        """See `Databases`: a crash may leave a file of no bytes, in which nothing was made final."""
        return path.is_file() and path.stat().st_size > 0

    def connect(self, path: Path, *, create: bool = False, read_only: bool = False) -> Database:
        """See `Databases`."""
        mode = "ro" if read_only else "rw"
        if create:  # only its owner may read it, whatever the umask; so do the journals that SQLite puts beside it
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                path.chmod(0o600)
            except OSError as error:
                raise sqlite3.OperationalError(f"unable to make the database file: {error.strerror}") from None
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        if create:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


SQLITE = FileDatabases()
"""The databases of everything that names no others."""
