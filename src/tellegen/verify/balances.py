"""The balances in the books of a stranger: a table is read, and nothing in the database computes.

A database is a program, too: a view can count for ever, a column can be an expression, a trigger can do what it likes.
So its bytes are taken into memory and opened there, where no other file can be reached; `balances` must be a table with
its own pages, with columns that are stored; nothing but reading them is allowed, no function may be called, and
whatever takes more steps than the rows that may be there is stopped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tellegen.verify.folder import Folder
from tellegen.verify.report import RefusedError

COLUMNS = ("unit", "account", "nanos")
_TABLE = "balances"
_MAGIC, _HEAD_BYTES = b"SQLite format 3\0", 100
_WRITE_VERSION, _READ_VERSION, _ROLLBACK = 18, 19, 1
_STEPS, _STEPS_PER_ROW, _STEPS_AT_LEAST = 10_000, 32, 10_000_000
_OBJECTS_MAX = 1_000
_ROWS_AT_ONCE = 100_000
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ})
_PRAGMA = ("table_xinfo", _TABLE)
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 1,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 10_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


def read_balances(folder: Folder, name: str) -> dict[tuple[int, ...], int]:
    """Nanos by unit and account.

    Raises
    ------
    RefusedError : it is no database, its balances are no table, or there are more than may be read.
    sqlite3.Error : it is damaged, or does something else than hold rows.
    """
    data = bytearray(folder.read(name, folder.limits.file_bytes))
    if len(data) < _HEAD_BYTES or not data.startswith(_MAGIC):
        raise RefusedError(f"{name} is no database")
    # in memory there is no write-ahead log, and the one beside the file is not read: books that were signed have none
    data[_WRITE_VERSION] = data[_READ_VERSION] = _ROLLBACK
    with _opened(bytes(data), folder.limits.table_rows) as database:
        _check_table(database, name)
        cursor = database.execute(f"SELECT {', '.join(COLUMNS)} FROM {_TABLE} NOT INDEXED")  # noqa: S608 - constants
        balances: dict[tuple[int, ...], int] = {}
        count = 0
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            count += len(rows)
            if count > folder.limits.table_rows:
                raise RefusedError(f"{name} has more than the {folder.limits.table_rows} balances that are read")
            if not all(type(v) is int for row in rows for v in row):
                raise RefusedError("a balance is not a whole number")
            balances.update({(unit, account): nanos for unit, account, nanos in rows})
        if len(balances) != count:
            raise RefusedError("an account has two balances")
        return balances


@contextmanager
def _opened(data: bytes, rows_max: int) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(data)
        for limit, most in _LIMITS.items():
            database.setlimit(limit, most)
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON", "mmap_size = 0"):
            database.execute(f"PRAGMA {pragma}")
        left = max(_STEPS_AT_LEAST, rows_max * _STEPS_PER_ROW) // _STEPS

        def too_long() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        database.set_progress_handler(too_long, _STEPS)
        database.set_authorizer(_allow)
        yield database
    finally:
        database.close()


def _allow(action: int, first: str | None, second: str | None, _: str | None, inner: str | None) -> int:
    """Reading, and naming the columns; `inner`: the view or trigger that asks, of which none may."""
    named = action == sqlite3.SQLITE_PRAGMA and (first, second) == _PRAGMA
    return sqlite3.SQLITE_OK if (action in _ALLOWED or named) and inner is None else sqlite3.SQLITE_DENY


def _check_table(database: sqlite3.Connection, name: str) -> None:
    found = database.execute("SELECT type, name, rootpage FROM sqlite_schema").fetchmany(_OBJECTS_MAX + 1)
    if len(found) > _OBJECTS_MAX:
        raise RefusedError(f"{name} has more than {_OBJECTS_MAX} tables and indices")
    odd = next((kind for kind, _, _ in found if kind not in ("table", "index")), None)
    if odd is not None:
        raise RefusedError(f"{name} has a {odd}; books are tables")
    tables = [page for kind, of, page in found if kind == "table" and str(of).lower() == _TABLE]
    if len(tables) != 1 or type(tables[0]) is not int or tables[0] <= 0:
        raise RefusedError(f"{name} has no table of balances")
    hidden = {column[1]: column[6] for column in database.execute("PRAGMA table_xinfo(balances)")}
    for column in COLUMNS:
        if hidden.get(column) != 0:
            raise RefusedError(f"{name}: balances have no stored column {column}")
