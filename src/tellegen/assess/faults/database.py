"""SQLite over a simulated disk: a database in memory whose bytes reach the disk at each COMMIT, all of them or none.

That trusts SQLite's own atomicity, and tests the order in which the platform writes; real files are the kills' matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tellegen.journal.database import Database
from tellegen.journal.storage import Storage, read_file, replace_file


class StoredDatabases:
    """`Databases` whose files lie on a storage.

    Parameters
    ----------
    storage : the disk; a file is replaced as a whole.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def exists(self, path: Path) -> bool:
        """See `Databases`."""
        return self._storage.exists(path)

    def connect(self, path: Path, *, create: bool = False, read_only: bool = False) -> Database:
        """See `Databases`."""
        return _Stored(self._storage, path, create)


class _Stored:
    """See `Database`. Others may write the file between two transactions: it is looked at where one begins."""

    def __init__(self, storage: Storage, path: Path, create: bool) -> None:
        self._memory = sqlite3.connect(":memory:", isolation_level=None)
        self._storage, self._path = storage, path
        self._known, self._version = b"", 0
        if not create:
            self._look()

    @property
    def in_transaction(self) -> bool:
        return self._memory.in_transaction

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> sqlite3.Cursor:
        match statement:
            case "PRAGMA data_version":
                self._look()
                return self._memory.execute("SELECT ?", (self._version,))
            case "BEGIN IMMEDIATE":
                self._look()
        cursor = self._memory.execute(statement, values)
        if statement in ("COMMIT", "VACUUM"):
            self._keep()
        return cursor

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> sqlite3.Cursor:
        return self._memory.executemany(statement, rows)

    def close(self) -> None:
        self._memory.close()

    def _look(self) -> None:
        try:
            found = read_file(self._storage, self._path)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        if found != self._known:
            self._memory.deserialize(found)
            self._known = found
            self._version += 1

    def _keep(self) -> None:
        content = self._memory.serialize()
        if content == self._known:
            return
        try:
            replace_file(self._path, content, self._storage)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        self._known = content
