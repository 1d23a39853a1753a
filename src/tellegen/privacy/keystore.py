"""Where secrets lie: one SQLite file that only its owner may read, and that forgets for good.

SQLite overwrites deleted content (``secure_delete``), and `erase` rebuilds the file besides. The
rollback journal holds old pages while a transaction runs, so it is kept in place
(``journal_mode=PERSIST``), overwritten with zeros and emptied once the transaction is through. Copies that a
file system or a disk makes by itself (snapshots, wear levelling) and backups are beyond it.

Every row carries a checksum of its values, and pages are checked when the file is opened: a bit that decays is named,
before anything is sealed under a key that is none. Against whoever may write the file nothing helps.

Where the file is wrapped, every secret in it is encrypted (AES-256-GCM) for its place in it, under a key that lies
there encrypted by a key from outside (`custody.wrapping`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from tellegen.custody import CustodyError, Wrapper, wrapper_for, wrapper_wanted
from tellegen.custody.wrapping import opened, sealed
from tellegen.errors import TellegenError
from tellegen.journal.database import SQLITE, Databases

SECRET_BYTES = 32
_FORMAT = 4
_CONTEXT = b"tellegen secret keys of the vault"
_LOW = 0xFFFF_FFFF
_SCHEMA = f"""
PRAGMA user_version = {_FORMAT};
CREATE TABLE secret (customer INTEGER PRIMARY KEY, secret BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT;
CREATE TABLE erased (customer INTEGER PRIMARY KEY, checksum INTEGER NOT NULL) STRICT;
CREATE TABLE purpose (name TEXT PRIMARY KEY, secret BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT;
CREATE TABLE epoch (number INTEGER PRIMARY KEY, day INTEGER NOT NULL, closed INTEGER NOT NULL, secret BLOB,
    checksum INTEGER NOT NULL) STRICT;
"""
_WRAPPING = "CREATE TABLE wrapping (name TEXT NOT NULL, data_key BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT"
_FORMAT_BEFORE = 3
"""The same but for the table `wrapping`; taken over as it is opened."""
_SECRETS = {
    "secret": "customer, secret",
    "purpose": "name, secret",
    "epoch": "number, day, closed, secret",
}
"""Tables with secrets, and their columns."""


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
    databases : on whose disk it lies.

    Raises
    ------
    VaultError : there is none, there is one already, or it is no key store.
    """

    def __init__(self, path: Path, *, create: bool = False, databases: Databases = SQLITE) -> None:
        self._path = path
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                raise VaultError(f"{path} exists; a vault is never overwritten") from None
        elif not databases.exists(path):
            raise VaultError(f"{path} does not exist; without it no confidential row can be read")
        try:
            self._database = databases.connect(path)
        except sqlite3.Error as error:
            raise VaultError(f"{path} is not a key store: {error}") from None
        try:
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.execute("PRAGMA journal_mode = PERSIST")
            self._database.execute("PRAGMA temp_store = MEMORY")
            self._database.execute("PRAGMA synchronous = EXTRA")
            if create:
                for statement in ("BEGIN", *_SCHEMA.split(";"), _WRAPPING, "COMMIT"):
                    self._database.execute(statement)
            elif self._journal_holds_pages():
                self._scrub()
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
            (pages,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged file's own words need not be text
            self._database.close()
            raise VaultError(f"{path} is not a key store: {error}") from None
        if found not in (_FORMAT, _FORMAT_BEFORE):
            self._database.close()
            raise VaultError(f"{path} is not a key store of format {_FORMAT}; it was made by another version")
        if pages != "ok":
            self._database.close()
            raise VaultError(f"{path} is damaged: {' '.join(pages.split())}; restore it from a backup")
        if found == _FORMAT_BEFORE:
            self._take_over()
        self._version = self._data_version()
        self._data_key: bytes | None = None
        self.wrapped_by: str | None = None
        try:
            wanted = wrapper_wanted(path.stem) if create else None
            if wanted is None:
                self._unwrap()
            else:
                self.wrap(wanted)
        except BaseException as error:
            self._database.close()
            if isinstance(error, CustodyError):
                raise VaultError(str(error)) from None
            raise

    def _take_over(self) -> None:
        """Make a store of the format before one of this; a process that was faster has done it."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
            if found == _FORMAT_BEFORE:
                self._database.execute(_WRAPPING)
                self._database.execute(f"PRAGMA user_version = {_FORMAT}")
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._database.close()
            raise VaultError(f"{self._path} is of an earlier format and cannot be taken over: {error}") from None

    def _unwrap(self) -> None:
        """Open the key under which the secrets are encrypted."""
        found = list(self._checked("wrapping", "name, data_key"))
        if not found:
            self._data_key = self.wrapped_by = None
            return
        name, data = found[0]
        try:
            self._data_key = wrapper_for(self._path.stem, name).unwrap(data, _CONTEXT)
        except CustodyError as error:
            raise VaultError(f"{self._path}: {error}") from None
        self.wrapped_by = name

    def wrap(self, wrapper: Wrapper | None) -> None:
        """Encrypt every secret afresh, under a new key that is wrapped by a key from outside; None: by nothing.

        Nobody else may have the store open. What lay in clear is overwritten.

        Raises
        ------
        VaultError : the key from outside cannot be had, or the file cannot be written; then all is as before.
        """
        key = None if wrapper is None else os.urandom(SECRET_BYTES)
        statements: list[tuple[str, Iterable[tuple[object, ...]]]] = [("DELETE FROM wrapping", [()])]
        for table, columns in _SECRETS.items():
            rows = [self._hidden(table, *values, key=key) for values in self._shown(table)]
            marks = ", ".join("?" for _ in range(columns.count(",") + 2))
            statements += [(f"DELETE FROM {table}", [()]), (f"INSERT INTO {table} VALUES ({marks})", rows)]  # noqa: S608
        if wrapper is not None and key is not None:
            try:
                row = (wrapper.name, wrapper.wrap(key, _CONTEXT))
            except CustodyError as error:
                raise VaultError(f"{self._path}: {error}") from None
            statements.append(("INSERT INTO wrapping VALUES (?, ?, ?)", [(*row, _checksum(*row))]))
        self._destroy(statements)
        self._data_key, self.wrapped_by = key, None if wrapper is None else wrapper.name

    def _hidden(self, table: str, *values: Any, key: bytes | None) -> tuple[Any, ...]:
        """A row as it is stored, its checksum behind it; the secret is the last of its values."""
        *place, secret = values
        if key is not None and secret is not None:
            secret = sealed(key, secret, _place(table, place[0]))
        if table == "secret":
            return (*place, secret, crc32(secret, place[0] & _LOW))
        return (*place, secret, _checksum(*place, secret))

    def _row(self, table: str, *values: Any) -> tuple[Any, ...]:
        return self._hidden(table, *values, key=self._data_key)

    def _shown(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a table with their secrets, each checked."""
        for *values, checksum in self._read(f"SELECT {_SECRETS[table]}, checksum FROM {table} ORDER BY 1"):  # noqa: S608
            *place, secret = values
            expected = crc32(secret, place[0] & _LOW) if table == "secret" else _checksum(*values)
            if checksum != expected:
                raise self._damaged(_words(table, place[0]))
            if self._data_key is not None and secret is not None:
                secret = opened(self._data_key, secret, _place(table, place[0]))
                if secret is None:
                    raise self._damaged(_words(table, place[0]))
            yield (*place, secret)

    def changed(self) -> bool:
        """Whether another process has written since this was last asked."""
        before, self._version = self._version, self._data_version()
        return self._version != before

    def secrets(self) -> Iterator[tuple[int, bytes]]:
        """Customer numbers, ascending, with their secrets.

        Raises
        ------
        VaultError : here as in all that reads, a row is damaged.
        """
        if self._data_key is None:  # a million of them: no step that is not needed
            for number, secret, checksum in self._read(
                "SELECT customer, secret, checksum FROM secret ORDER BY customer"
            ):
                if checksum != crc32(secret, number & _LOW):
                    raise self._damaged(f"the key of customer {number}")
                yield number, secret
            return
        yield from self._shown("secret")

    def erased(self) -> set[int]:
        """Customers whose secrets have been destroyed."""
        return {number for (number,) in self._checked("erased", "customer")}

    def purposes(self) -> dict[str, bytes]:
        """The operator's secrets by purpose."""
        return dict(self._shown("purpose"))

    def epochs(self) -> list[tuple[int, int, int, bytes | None]]:
        """Number, UTC day, whether closed (1) and secret of each epoch, ascending; no secret where destroyed."""
        return list(self._shown("epoch"))

    def _read(self, statement: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(statement)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise VaultError(f"{self._path} cannot be read: {error}") from None

    def _checked(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        for *values, checksum in self._read(f"SELECT {columns}, checksum FROM {table} ORDER BY 1"):  # noqa: S608
            if checksum != _checksum(*values):
                raise self._damaged(f"{table} {values[0]}")
            yield tuple(values)

    def _damaged(self, what: str) -> VaultError:
        return VaultError(f"{self._path} is damaged: {what} is not as it was written; restore the file from a backup")

    def add(self, secrets: Iterable[tuple[int, bytes]]) -> None:
        """Store secrets of customers who have none.

        Raises
        ------
        VaultError : one of them has one already.
        """
        try:
            rows = (self._row("secret", number, secret) for number, secret in secrets)
            self._transact([("INSERT INTO secret VALUES (?, ?, ?)", rows)])
        except sqlite3.IntegrityError:
            raise VaultError("another process has just enrolled one of these customers; open the vault again") from None

    def add_purpose(self, name: str, secret: bytes) -> None:
        """Store a secret of the operator, unless another process was faster: then its own stands."""
        self._transact([("INSERT OR IGNORE INTO purpose VALUES (?, ?, ?)", [self._row("purpose", name, secret)])])

    def remove_purpose(self, name: str) -> None:
        """Destroy a secret of the operator: its cells are overwritten (``secure_delete``).

        The file is not rebuilt besides, as for a customer: this is done every hour.
        """
        self._transact([("DELETE FROM purpose WHERE name = ?", [(name,)])])

    def add_epoch(self, number: int, day: int, secret: bytes) -> None:
        """Store the secret of an epoch, unless another process was faster: then its own stands."""
        row = self._row("epoch", number, day, 0, secret)
        self._transact([("INSERT OR IGNORE INTO epoch VALUES (?, ?, ?, ?, ?)", [row])])

    def erase(self, customer: int) -> None:
        """Destroy a customer's secret and remember that it was destroyed."""
        self._destroy(
            [
                ("DELETE FROM secret WHERE customer = ?", [(customer,)]),
                ("INSERT OR IGNORE INTO erased VALUES (?, ?)", [(customer, _checksum(customer))]),
            ]
        )

    def close_epoch(self, number: int) -> None:
        """Let nothing more be sealed in an epoch."""
        self._transact([self._changed_epoch(number, destroyed=False)])

    def destroy_epoch(self, number: int) -> None:
        """Destroy the secret of an epoch; its number is never used again."""
        self._destroy([self._changed_epoch(number, destroyed=True)])

    def _changed_epoch(self, number: int, *, destroyed: bool) -> tuple[str, Iterator[tuple[object, ...]]]:
        def rows() -> Iterator[tuple[object, ...]]:  # read under the write lock: nobody's destruction is undone
            for found, day, _, secret in self.epochs():
                if found == number:
                    *_, kept, checksum = self._row("epoch", number, day, 1, None if destroyed else secret)
                    yield kept, checksum, number

        return "UPDATE epoch SET closed = 1, secret = ?, checksum = ? WHERE number = ?", rows()

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def _destroy(self, statements: Sequence[tuple[str, Iterable[tuple[object, ...]]]]) -> None:
        self._transact(statements)
        self._database.execute("VACUUM")
        self._scrub()

    def _transact(self, statements: Sequence[tuple[str, Iterable[tuple[object, ...]]]]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                self._database.executemany(statement, rows)
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise VaultError(f"{self._path} cannot be written: {error}") from error
            raise
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
                    file.truncate(0)  # a rebuilt file leaves a long one, read through at every later write
        finally:
            self._database.execute("COMMIT")


def read_wrapping(path: Path) -> str | None:
    """By which key from outside a key store is wrapped, without opening it; None: by nothing.

    Raises
    ------
    VaultError : it cannot be read.
    """
    try:
        database = SQLITE.connect(path, read_only=True)
        try:
            found = database.execute("SELECT name FROM wrapping").fetchone()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise VaultError(f"{path} is not a key store: {error}") from None
    return None if found is None else str(found[0])


def _checksum(*values: object) -> int:
    return crc32(repr(values).encode())


def _place(table: str, which: object) -> bytes:
    """For what a secret is encrypted: no two rows are alike."""
    return f"tellegen {table} {which}".encode()


def _words(table: str, which: object) -> str:
    return f"the key of customer {which}" if table == "secret" else f"{table} {which}"


def _all_zero(path: Path) -> bool:
    data = path.read_bytes()
    return data.count(0) == len(data)
