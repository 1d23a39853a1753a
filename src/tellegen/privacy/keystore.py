"""Where secrets lie: one SQLite file that only its owner may read, and that forgets for good.

SQLite overwrites deleted content (``secure_delete``), and `erase` rebuilds the file besides. The
rollback journal holds old pages while a transaction runs, so it is kept in place
(``journal_mode=PERSIST``) and overwritten with zeros once the transaction is through. Copies that a
file system or a disk makes by itself (snapshots, wear levelling) and backups are beyond it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tellegen.errors import TellegenError

SECRET_BYTES = 32
_FORMAT = 2
_SCHEMA = f"""
PRAGMA user_version = {_FORMAT};
CREATE TABLE secret (customer INTEGER PRIMARY KEY, secret BLOB NOT NULL) STRICT;
CREATE TABLE erased (customer INTEGER PRIMARY KEY) STRICT;
CREATE TABLE purpose (name TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT;
CREATE TABLE epoch (number INTEGER PRIMARY KEY, day INTEGER NOT NULL, secret BLOB) STRICT;
"""


class VaultError(TellegenError):
    """The vault cannot be read, lacks a key, or a payload does not open under its key."""


class KeyStore:
    """Secrets by customer number, by purpose, and by epoch.

    Several processes may have it open: opening and reading take no write lock, and what one of them adds or
    destroys the others see at their next look (`changed`).

    Parameters
    ----------
    path : the file.
    create : start it; the folder is made for its owner only.

    Raises
    ------
    VaultError : there is none, there is one already, or it is no key store.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                raise VaultError(f"{path} exists; a vault is never overwritten") from None
        elif not path.is_file():
            raise VaultError(f"{path} does not exist; without it no confidential row can be read")
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.execute("PRAGMA journal_mode = PERSIST")
            self._database.execute("PRAGMA temp_store = MEMORY")
            self._database.execute("PRAGMA synchronous = EXTRA")
            if create:
                self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            elif self._journal_holds_pages():
                self._scrub()
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            self._database.close()
            raise VaultError(f"{path} is not a key store: {error}") from None
        if found != _FORMAT:
            self._database.close()
            raise VaultError(f"{path} is not a key store of format {_FORMAT}; it was made by another version")
        self._version = self._data_version()

    def changed(self) -> bool:
        """Whether another process has written since this was last asked."""
        before, self._version = self._version, self._data_version()
        return self._version != before

    def secrets(self) -> Iterator[tuple[int, bytes]]:
        """Customer numbers, ascending, with their secrets."""
        yield from self._database.execute("SELECT customer, secret FROM secret ORDER BY customer")

    def erased(self) -> set[int]:
        """Customers whose secrets have been destroyed."""
        return {number for (number,) in self._database.execute("SELECT customer FROM erased")}

    def purposes(self) -> dict[str, bytes]:
        """The operator's secrets by purpose."""
        return dict(self._database.execute("SELECT name, secret FROM purpose ORDER BY name"))

    def epochs(self) -> list[tuple[int, int, bytes | None]]:
        """Number, UTC day and secret of each epoch, ascending; no secret where it was destroyed."""
        return list(self._database.execute("SELECT number, day, secret FROM epoch ORDER BY number"))

    def add(self, secrets: Iterable[tuple[int, bytes]]) -> None:
        """Store secrets of customers."""
        self._transact([("INSERT INTO secret VALUES (?, ?)", secrets)])

    def add_purpose(self, name: str, secret: bytes) -> None:
        """Store a secret of the operator, unless another process was faster: then its own stands."""
        self._transact([("INSERT OR IGNORE INTO purpose VALUES (?, ?)", [(name, secret)])])

    def add_epoch(self, number: int, day: int, secret: bytes) -> None:
        """Store the secret of an epoch, unless another process was faster: then its own stands."""
        self._transact([("INSERT OR IGNORE INTO epoch VALUES (?, ?, ?)", [(number, day, secret)])])

    def erase(self, customer: int) -> None:
        """Destroy a customer's secret and remember that it was destroyed."""
        self._destroy(
            [
                ("DELETE FROM secret WHERE customer = ?", [(customer,)]),
                ("INSERT OR IGNORE INTO erased VALUES (?)", [(customer,)]),
            ]
        )

    def destroy_epoch(self, number: int) -> None:
        """Destroy the secret of an epoch; its number is never used again."""
        self._destroy([("UPDATE epoch SET secret = NULL WHERE number = ?", [(number,)])])

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def _destroy(self, statements: Sequence[tuple[str, Iterable[tuple[object, ...]]]]) -> None:
        self._transact(statements)
        self._database.execute("VACUUM")
        self._scrub()

    def _transact(self, statements: Sequence[tuple[str, Iterable[tuple[object, ...]]]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for statement, rows in statements:
                self._database.executemany(statement, rows)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        self._scrub()

    def _data_version(self) -> int:
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        return int(version)

    @property
    def _journal(self) -> Path:
        return self._path.with_name(self._path.name + "-journal")

    def _journal_holds_pages(self) -> bool:
        return self._journal.exists() and not _all_zero(self._journal)

    def _scrub(self) -> None:
        """Overwrite the finished rollback journal, which may hold pages with destroyed secrets."""
        # the write lock rolls back what a crash left behind, and keeps other writers from the journal
        self._database.execute("BEGIN IMMEDIATE")
        try:
            if self._journal_holds_pages():
                with self._journal.open("r+b") as file:
                    file.write(bytes(self._journal.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
        finally:
            self._database.execute("COMMIT")


def _all_zero(path: Path) -> bool:
    data = path.read_bytes()
    return data.count(0) == len(data)
