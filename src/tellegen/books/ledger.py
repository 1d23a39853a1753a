"""The ledger: balances in SQLite, folded from batches of postings (law 3).

The database holds balances, never a row per posting (law 4); the postings themselves stand in the
journal, and `Ledger.rebuild` folds them into the same contents again. The file uses SQLite's
rollback journal, so that a closed ledger is one complete file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from tellegen.books.folding import BooksError, fold, require_balanced
from tellegen.errors import InputError
from tellegen.records import Postings

_SCHEMA = """
CREATE TABLE balances (
  account INTEGER PRIMARY KEY,
  nanos INTEGER NOT NULL CHECK (typeof(nanos) = 'integer')
);
CREATE TABLE balances_by_line (
  account INTEGER NOT NULL,
  line INTEGER NOT NULL,
  nanos INTEGER NOT NULL CHECK (typeof(nanos) = 'integer'),
  PRIMARY KEY (account, line)
) WITHOUT ROWID;
CREATE TABLE applied (
  entry INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL
);
"""
# SQLite turns an overflowing sum into a float; the typeof checks above turn that into an error.


class Ledger:
    """Balances of every account, in nano-currency; positive is owed by the account.

    >>> import tempfile
    >>> book = Postings(account=[1, -10], interval=[0, 0], line=[1, 20], quantity=[5, -5],
    ...                 price=[3, 3], amount=[15, -15], cause=[0, 0])
    >>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder) / "books.sqlite") as ledger:
    ...     first, again = ledger.post(book, entry=7), ledger.post(book, entry=7)
    ...     first, again, ledger.balance(1), ledger.trial_balance()
    (True, False, 15, 0)
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: str | Path) -> Ledger:
        """Make an empty ledger at `path`.

        Raises
        ------
        InputError : something stands there already, or the folder cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise InputError(path, "file", "exists already; open it, or rebuild the books elsewhere")
        try:
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            raise InputError(path, "file", f"cannot be created ({error})") from None
        return cls(path, connection)

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False) -> Ledger:
        """Open the ledger at `path`.

        Raises
        ------
        InputError : there is none, or the file is not a ledger.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(path, "file", "is not there; `tellegen replay` rebuilds the books from the journal")
        try:
            mode = "ro" if read_only else "rw"
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("SELECT nanos FROM balances LIMIT 1")
            connection.execute("SELECT line FROM balances_by_line LIMIT 1")
            connection.execute("SELECT sha256 FROM applied LIMIT 1")
        except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged file's own words need not be text
            raise InputError(
                path, "file", f"is not a ledger ({error}); delete it, and `tellegen replay` rebuilds the books"
            ) from None
        return cls(path, connection)

    @classmethod
    def rebuild(cls, path: str | Path, batches: Iterable[tuple[int, Postings]]) -> Ledger:
        """Make a new ledger at `path` by folding (journal index, postings) from scratch (law 3)."""
        ledger = cls.create(path)
        for entry, postings in batches:
            ledger.post(postings, entry)
        return ledger

    def check(self, batches: Iterable[tuple[int, Postings]]) -> str:
        """The first difference from what (journal index, postings) fold to, in words; empty where there is none."""
        with TemporaryDirectory() as folder, Ledger.rebuild(Path(folder) / "books.sqlite", batches) as folded:
            parts: list[tuple[str, Mapping[Any, object], Mapping[Any, object]]] = [
                ("account", self.balances(), folded.balances()),
                ("account and line", self.balances_by_line(), folded.balances_by_line()),
                ("entry", self.applied(), folded.applied()),
            ]
            for what, here, there in parts:
                for key in sorted(here.keys() | there.keys()):
                    if here.get(key) != there.get(key):
                        return f"{self.path}: {what} {key} has {here.get(key)}, the journal {there.get(key)}"
        return ""

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

    def post_all(self, batches: Iterable[tuple[int, Postings]]) -> int:
        """Apply batches by journal index together, all of them or none; those applied before are passed over.

        Returns
        -------
        How many were applied.

        Raises
        ------
        As `post`.
        """
        new: list[tuple[int, Postings, str]] = []
        for entry, postings in batches:
            digest = hashlib.sha256(postings.rows().tobytes()).hexdigest()
            known = self._connection.execute("SELECT sha256 FROM applied WHERE entry = ?", (entry,)).fetchone()
            if known is not None:
                if known[0] != digest:
                    raise BooksError(f"{self.path}: other postings have been applied as entry {entry}")
                continue
            require_balanced(postings)
            new.append((entry, postings, digest))
        if not new:
            return 0
        together = new[0][1] if len(new) == 1 else Postings.concat([postings for _, postings, _ in new])
        accounts = fold(together, "account")
        lines = fold(together, "account", "line")
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO balances VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET nanos = nanos + excluded.nanos",
                zip(accounts.keys[0].tolist(), accounts.amount.tolist(), strict=True),
            )
            connection.executemany(
                "INSERT INTO balances_by_line VALUES (?, ?, ?) "
                "ON CONFLICT (account, line) DO UPDATE SET nanos = nanos + excluded.nanos",
                zip(lines.keys[0].tolist(), lines.keys[1].tolist(), lines.amount.tolist(), strict=True),
            )
            connection.executemany("INSERT INTO applied VALUES (?, ?)", [(entry, digest) for entry, _, digest in new])
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            entries = " to ".join(str(entry) for entry in sorted({new[0][0], new[-1][0]}))
            raise BooksError(f"{self.path}: entry {entries} cannot be applied ({error})") from None
        return len(new)

    def balance(self, account: int) -> int:
        """Balance of an account in nano-currency; 0 for one that never had a posting."""
        row = self._connection.execute("SELECT nanos FROM balances WHERE account = ?", (account,)).fetchone()
        return int(row[0]) if row else 0

    def balances(self) -> dict[int, int]:
        """Balance by account, accounts ascending."""
        return dict(self._rows("SELECT account, nanos FROM balances ORDER BY account"))

    def balances_by_line(self) -> dict[tuple[int, int], int]:
        """Balance by (account, line), ascending."""
        rows = self._rows("SELECT account, line, nanos FROM balances_by_line ORDER BY account, line")
        return {(account, line): nanos for account, line, nanos in rows}

    def applied(self) -> dict[int, str]:
        """Journal indices of the applied batches, ascending, with the digest of their rows."""
        return dict(self._rows("SELECT entry, sha256 FROM applied ORDER BY entry"))

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise BooksError(f"{self.path} is damaged ({error}); delete it, the journal rebuilds the books") from None

    def trial_balance(self) -> int:
        """Sum of all balances: zero, or the books are broken."""
        return sum(self.balances().values())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
