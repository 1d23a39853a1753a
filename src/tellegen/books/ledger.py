"""The ledger: balances in SQLite, folded from batches of postings (law 3).

The database holds balances, never a row per posting (law 4); the postings themselves stand in the
journal, and `Ledger.rebuild` folds them into the same contents again. The file uses SQLite's
rollback journal, so that a closed ledger is one complete file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from tellegen.books.folding import BooksError, fold, require_balanced
from tellegen.errors import InputError
from tellegen.journal.database import SQLITE, Database, Databases
from tellegen.records import CURRENCY, Postings

_SCHEMA = """
CREATE TABLE balances (
  unit INTEGER NOT NULL,
  account INTEGER NOT NULL,
  nanos INTEGER NOT NULL CHECK (typeof(nanos) = 'integer'),
  PRIMARY KEY (unit, account)
) WITHOUT ROWID;
CREATE TABLE balances_by_line (
  unit INTEGER NOT NULL,
  account INTEGER NOT NULL,
  line INTEGER NOT NULL,
  nanos INTEGER NOT NULL CHECK (typeof(nanos) = 'integer'),
  PRIMARY KEY (unit, account, line)
) WITHOUT ROWID;
CREATE TABLE posted (
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  sha256 TEXT NOT NULL
);
INSERT INTO posted VALUES (0, 0, '');
CREATE TABLE applied (
  entry INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL
);
"""
# All postings of entries below `until` are in the balances; the digest is chained over them. Entries from `since` on,
# where the last stretch but one ended, keep a row.
# SQLite turns an overflowing sum into a float; the typeof checks above turn that into an error.

_EMPTYING = (
    "DELETE FROM balances",
    "DELETE FROM balances_by_line",
    "DELETE FROM applied",
    "UPDATE posted SET since = 0, until = 0, sha256 = ''",
)
_ROWS_TOGETHER = 1 << 20  # folded at once: some 100 MB


def _digest(postings: Postings) -> str:
    return hashlib.sha256(postings.rows().tobytes()).hexdigest()


def _chained(before: str, digests: Mapping[int, str]) -> str:
    """A digest of what came before and of batches by entry, in the order of the journal."""
    for entry, digest in sorted(digests.items()):
        before = hashlib.sha256(f"{before} {entry} {digest}".encode()).hexdigest()
    return before


def _chunks(new: Iterable[tuple[int, Postings, str]]) -> Iterator[list[tuple[int, Postings, str]]]:
    chunk, rows = list[tuple[int, Postings, str]](), 0
    for entry, postings, digest in new:
        chunk.append((entry, postings, digest))
        rows += len(postings)
        if rows >= _ROWS_TOGETHER:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


class Ledger:
    """Balances of every account in each unit of account, in nano of the unit; positive is owed by the account.

    >>> import tempfile
    >>> book = Postings(unit=[0, 0], account=[1, -10], interval=[0, 0], line=[1, 20], quantity=[5, -5],
    ...                 price=[3, 3], amount=[15, -15], cause=[0, 0])
    >>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder) / "books.sqlite") as ledger:
    ...     first, again = ledger.post(book, entry=7), ledger.post(book, entry=7)
    ...     first, again, ledger.balance(1), ledger.trial_balance()
    (True, False, 15, 0)
    """

    def __init__(self, path: Path, connection: Database) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: str | Path, databases: Databases = SQLITE) -> Ledger:
        """Make an empty ledger at `path`.

        Parameters
        ----------
        databases : on whose disk.

        Raises
        ------
        InputError : something stands there already, or the folder cannot be written.
        """
        path = Path(path)
        if databases.exists(path):
            raise InputError(path, "file", "exists already; open it, or rebuild the books elsewhere")
        try:
            connection = databases.connect(path, create=True)
            connection.execute("BEGIN")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise InputError(path, "file", f"cannot be created ({error})") from None
        return cls(path, connection)

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False, databases: Databases = SQLITE) -> Ledger:
        """Open the ledger at `path`.

        Parameters
        ----------
        databases : on whose disk.

        Raises
        ------
        InputError : there is none, or the file is not a ledger.
        """
        path = Path(path)
        if not databases.exists(path):
            raise InputError(path, "file", "is missing or empty, is not a ledger; `tellegen replay` rebuilds the books")
        try:
            connection = databases.connect(path, read_only=read_only)
            connection.execute("SELECT unit, nanos FROM balances LIMIT 1")
            connection.execute("SELECT line FROM balances_by_line LIMIT 1")
            connection.execute("SELECT sha256 FROM applied LIMIT 1")
            connection.execute("SELECT since, until, sha256 FROM posted LIMIT 1")
        except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged file's own words need not be text
            raise InputError(
                path, "file", f"is not a ledger ({error}); delete it, and `tellegen replay` rebuilds the books"
            ) from None
        return cls(path, connection)

    @classmethod
    def rebuild(cls, path: str | Path, batches: Iterable[tuple[int, Postings]], *, until: int | None = None) -> Ledger:
        """Make a new ledger at `path` by folding (journal index, postings) from scratch (law 3).

        Parameters
        ----------
        until : size of the journal, where `batches` are all of its postings.
        """
        ledger = cls.create(path)
        ledger.post_all(batches, until=until)
        return ledger

    def check(self, batches: Iterable[tuple[int, Postings]]) -> str:
        """The first difference from what (journal index, postings) fold to, in words; empty where there is none.

        Parameters
        ----------
        batches : all postings of the journal.
        """
        digests: dict[int, str] = {}

        def digested() -> Iterator[tuple[int, Postings]]:
            for entry, postings in batches:
                digests[entry] = _digest(postings)
                yield entry, postings

        path = self.path
        ((since, until, chained),) = self._rows("SELECT since, until, sha256 FROM posted")
        with TemporaryDirectory() as folder, Ledger.rebuild(Path(folder) / "books.sqlite", digested()) as folded:
            units = self.units() | folded.units()
            parts: list[tuple[str, Mapping[Any, object], Mapping[Any, object]]] = [
                *((f"unit {unit}, account", self.balances(unit), folded.balances(unit)) for unit in units),
                *((f"unit {u}, account and line", self.balances_by_line(u), folded.balances_by_line(u)) for u in units),
                ("entry", self.applied(), {entry: digest for entry, digest in digests.items() if entry >= since}),
            ]
            for what, mine, there in parts:
                for key in sorted(mine.keys() | there.keys()):
                    if mine.get(key) != there.get(key):
                        return f"{path}: {what} {key} has {mine.get(key)}, the journal {there.get(key)}"
        same = chained == _chained("", {entry: digest for entry, digest in digests.items() if entry < until})
        return "" if same else f"{path}: other postings were applied below entry {until}"

    def post(self, postings: Postings, entry: int) -> bool:
        """Apply the batch of postings at journal index `entry`, all of it or nothing.

        Returns
        -------
        True if it was applied; False if this entry had been applied before (nothing happens).

        Raises
        ------
        BooksError : a transaction does not sum to zero, a balance leaves int64, or other postings
            have been applied under the same entry.
        QuantityError : a sum within the batch does not fit int64.
        """
        return self.post_all([(entry, postings)]) == 1

    def post_all(self, batches: Iterable[tuple[int, Postings]], *, until: int | None = None) -> int:
        """Apply batches by journal index together, all of them or none; those applied before are passed over.

        Parameters
        ----------
        until : size of the journal whose postings are then all applied: `batches` holds all there are from
            `posted_until` up to it. What an entry below held can be told apart for the last such stretch only.

        Returns
        -------
        How many were applied.

        Raises
        ------
        As `post`; also where an entry of the last stretch comes that was not in it, or `until` lies below it.
        """
        ((since, posted_until, _),) = self._rows("SELECT since, until, sha256 FROM posted")
        if until is not None and until < posted_until:
            raise BooksError(f"{self.path}: entries up to {posted_until} are applied, {until} lies below")
        return self._apply(batches, since, posted_until, until, ())

    def refold(self, batches: Iterable[tuple[int, Postings]], *, until: int) -> int:
        """Fold the books anew, all of it or nothing: after an erasure the journal says less than it did.

        Parameters
        ----------
        batches : all postings of the journal. until : its size.

        Returns
        -------
        How many batches there are.

        Raises
        ------
        As `post`.
        """
        return self._apply(batches, 0, 0, until, _EMPTYING)

    def _apply(
        self,
        batches: Iterable[tuple[int, Postings]],
        since: int,
        posted_until: int,
        until: int | None,
        first: Iterable[str],
    ) -> int:
        connection, entries = self._connection, list[int]()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in first:
                connection.execute(statement)
            for chunk in _chunks(self._new(batches, since, posted_until)):
                entries += [entry for entry, _, _ in chunk]
                self._add(chunk)
            if until is not None and until > posted_until:
                self._advance(posted_until, until)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            named = " to ".join(str(entry) for entry in sorted({entries[0], entries[-1]})) if entries else "none"
            raise BooksError(f"{self.path}: entry {named} cannot be applied ({error})") from None
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return len(entries)

    def _new(
        self, batches: Iterable[tuple[int, Postings]], since: int, posted_until: int
    ) -> Iterator[tuple[int, Postings, str]]:
        """Batches that are not applied yet, with their digests."""
        for entry, postings in batches:
            if entry < since:
                continue
            digest = _digest(postings)
            known = self._connection.execute("SELECT sha256 FROM applied WHERE entry = ?", (entry,)).fetchone()
            if known is None and entry >= posted_until:
                require_balanced(postings)
                yield entry, postings, digest
            elif known is None or known[0] != digest:
                raise BooksError(f"{self.path}: other postings have been applied as entry {entry}")

    def _add(self, chunk: list[tuple[int, Postings, str]]) -> None:
        together = chunk[0][1] if len(chunk) == 1 else Postings.concat([postings for _, postings, _ in chunk])
        accounts = fold(together, "unit", "account")
        lines = fold(together, "unit", "account", "line")
        connection = self._connection
        connection.executemany(
            "INSERT INTO balances VALUES (?, ?, ?) "
            "ON CONFLICT (unit, account) DO UPDATE SET nanos = nanos + excluded.nanos",
            zip(*(key.tolist() for key in accounts.keys), accounts.amount.tolist(), strict=True),
        )
        connection.executemany(
            "INSERT INTO balances_by_line VALUES (?, ?, ?, ?) "
            "ON CONFLICT (unit, account, line) DO UPDATE SET nanos = nanos + excluded.nanos",
            zip(*(key.tolist() for key in lines.keys), lines.amount.tolist(), strict=True),
        )
        connection.executemany("INSERT INTO applied VALUES (?, ?)", [(entry, digest) for entry, _, digest in chunk])

    def _advance(self, since: int, until: int) -> None:
        """Chain what has been applied below `until`; rows of the stretch before the last are given up."""
        (chained,) = self._connection.execute("SELECT sha256 FROM posted").fetchone()
        stretch = "SELECT entry, sha256 FROM applied WHERE entry >= ? AND entry < ?"
        chained = _chained(chained, dict(self._connection.execute(stretch, (since, until))))
        self._connection.execute("DELETE FROM applied WHERE entry < ?", (since,))
        self._connection.execute("UPDATE posted SET since = ?, until = ?, sha256 = ?", (since, until, chained))

    @property
    def posted_until(self) -> int:
        """Size of the journal up to which all postings are in the balances."""
        ((until,),) = self._rows("SELECT until FROM posted")
        return int(until)

    @property
    def digest(self) -> str:
        """SHA-256, chained over the postings below `posted_until`; empty where there are none."""
        ((digest,),) = self._rows("SELECT sha256 FROM posted")
        return str(digest)

    def units(self) -> set[int]:
        """Units of account in which there are balances."""
        return {unit for (unit,) in self._rows("SELECT DISTINCT unit FROM balances")}

    def balance(self, account: int, unit: int = CURRENCY) -> int:
        """Balance of an account in nano of the unit; 0 for one that never had a posting."""
        statement = "SELECT nanos FROM balances WHERE unit = ? AND account = ?"
        row = self._connection.execute(statement, (unit, account)).fetchone()
        return int(row[0]) if row else 0

    def balances(self, unit: int = CURRENCY) -> dict[int, int]:
        """Balance by account, accounts ascending."""
        return dict(self._rows("SELECT account, nanos FROM balances WHERE unit = ? ORDER BY account", unit))

    def balances_by_line(self, unit: int = CURRENCY) -> dict[tuple[int, int], int]:
        """Balance by (account, line), ascending."""
        statement = "SELECT account, line, nanos FROM balances_by_line WHERE unit = ? ORDER BY account, line"
        rows = self._rows(statement, unit)
        return {(account, line): nanos for account, line, nanos in rows}

    def applied(self) -> dict[int, str]:
        """Journal indices of the batches applied last, ascending, with the digest of their rows.

        These are the ones from `posted_until` on, and those of the stretch that ends there.
        """
        return dict(self._rows("SELECT entry, sha256 FROM applied ORDER BY entry"))

    def _rows(self, statement: str, *values: int) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise BooksError(f"{self.path} is damaged ({error}); delete it, the journal rebuilds the books") from None

    def trial_balance(self, unit: int = CURRENCY) -> int:
        """Sum of all balances of a unit: zero, or the books are broken."""
        return sum(self.balances(unit).values())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
