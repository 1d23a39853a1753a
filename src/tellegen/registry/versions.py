"""Facts with two times: what stands for a number at a time, as known at a time (law 2).

A row holds from a time on, and became known at another. A later row about the same number replaces the
earlier ones from its time on. So what stands at a time is the row recorded last among those that hold from
then or before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.records import Table
from tellegen.registry.numbers import NumberIndex
from tellegen.units import IntArray

Array = NDArray[Any]
KNOWN_AT = "known_at"
NONE = -1
"""No row stands."""


class Versions:
    """Rows of a table in the order of the record, each chained to the one before about the same number.

    Parameters
    ----------
    schema : the table.
    number : its column that says what a row is about.
    holds_from : its column that says from when on it holds.
    texts : its columns with texts that many rows share: `rows` has a number in their place, `full` the text.
    """

    def __init__(self, schema: type[Table], number: str, holds_from: str, texts: tuple[str, ...] = ()) -> None:
        self._number, self._holds_from = number, holds_from
        self._index = NumberIndex()
        self._size = 0
        self._full, self._texts = schema.row_dtype(), {name: _Texts(schema.row_dtype()[name]) for name in texts}
        kept = [(name, "<u4" if name in texts else self._full[name]) for name in self._full.names or ()]
        self._rows = np.empty(0, dtype=kept)
        self._known_at = np.empty(0, dtype=np.int64)
        self._previous = np.empty(0, dtype=np.int64)
        self._latest = np.empty(0, dtype=np.int64)  # by place of the number
        self._numbers: tuple[int, IntArray] = 0, np.empty(0, dtype=np.int64)  # ascending, at a size
        self._pending: list[tuple[NDArray[np.void], int | IntArray]] = []

    def __len__(self) -> int:
        return self.rows.size

    @property
    def rows(self) -> NDArray[np.void]:
        """All rows so far, in the order of the record; not to be written to."""
        self._take_in()
        return self._rows[: self._size]

    def full(self, row: IntArray) -> NDArray[np.void]:
        """Some of the rows as the table has them, by their place in `rows`."""
        rows = self.rows[row]
        if not self._texts:
            return rows
        full = np.empty(rows.size, dtype=self._full)
        for name in self._full.names or ():
            full[name] = self._texts[name].of(rows[name]) if name in self._texts else rows[name]
        return full

    def text(self, column: str, row: IntArray) -> Array:
        """Texts in a column of some rows."""
        return self._texts[column].of(self.rows[column][row])

    @property
    def known_at(self) -> IntArray:
        """When each row became known, seconds since the epoch."""
        self._take_in()
        return self._known_at[: self._size]

    def append(self, rows: NDArray[np.void], known_at: int | IntArray) -> None:
        """Add rows as the record has them next, known since one time, or one each."""
        if rows.size:
            rows = self._numbered(rows)
            # taken in with the next look-up: a fold of many small batches is one of a large one
            self._pending.append((rows, known_at))

    def columns(self) -> dict[str, Array]:
        """Columns of the rows in the order of the record, and when each became known (`KNOWN_AT`)."""
        rows = self.rows
        columns = {name: rows[name] for name in rows.dtype.names or ()} | {KNOWN_AT: self.known_at}
        return columns | {name: texts.of(rows[name]) for name, texts in self._texts.items()}

    def append_columns(self, columns: Mapping[str, Array]) -> None:
        """Add rows that `columns` gave; a column that is left out is 0 or empty."""
        rows = np.zeros(columns[KNOWN_AT].size, dtype=self._full)
        for name in set(rows.dtype.names or ()) & columns.keys():
            rows[name] = columns[name]
        self.append(rows, columns[KNOWN_AT])

    def numbers(self) -> IntArray:
        """Every number that there is a row about, ascending; not to be written to."""
        self._take_in()
        if self._numbers[0] != self._size:
            numbers = np.unique(self.rows[self._number].astype(np.int64))
            numbers.flags.writeable = False  # the next who asks is given the same
            self._numbers = self._size, numbers
        return self._numbers[1]

    def standing(self, numbers: ArrayLike, at: ArrayLike | None = None, known_at: ArrayLike | None = None) -> IntArray:
        """Row that stands for each number, int64[n]; `NONE` where there is none.

        Parameters
        ----------
        at : time the question is about, one or one per number; None: the latest row.
        known_at : only what was known by then counts, one time or one per number; None: everything on record.
        """
        self._take_in()
        place = self._index.places(numbers)
        if not self._size:
            return place
        row = np.where(place >= 0, self._latest[place], NONE)
        if at is None and known_at is None:
            return row
        when = np.asarray(2**63 - 1 if at is None else at, dtype=np.int64)
        known_by = None if known_at is None else np.asarray(known_at, dtype=np.int64)
        holds_from = self._rows[self._holds_from]
        open_ = np.flatnonzero(row >= 0)
        while open_.size:
            candidate = row[open_]
            too_late = holds_from[candidate] > (when[open_] if when.ndim else when)
            if known_by is not None:
                too_late |= self._known_at[candidate] > (known_by[open_] if known_by.ndim else known_by)
            open_ = open_[too_late]
            if not open_.size:
                break
            row[open_] = self._previous[row[open_]]
            open_ = open_[row[open_] >= 0]
        return row

    def history(self, number: int) -> IntArray:
        """Rows about a number in the order of the record."""
        self._take_in()
        return np.flatnonzero(self.rows[self._number] == number)

    def _numbered(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Rows with numbers in the place of texts."""
        if not self._texts:
            return rows
        short = np.empty(rows.size, dtype=self._rows.dtype)
        for name in short.dtype.names or ():
            short[name] = self._texts[name].numbers(rows[name]) if name in self._texts else rows[name]
        return short

    def _take_in(self) -> None:
        if not self._pending:
            return
        fresh = np.concatenate([rows for rows, _ in self._pending])
        known = np.concatenate([np.full(rows.size, at, dtype=np.int64) for rows, at in self._pending])
        self._pending = []
        start, stop = self._size, self._size + fresh.size
        self._rows, self._known_at, self._previous = (
            _room_for(a, stop) for a in (self._rows, self._known_at, self._previous)
        )
        self._rows[start:stop], self._known_at[start:stop] = fresh, known
        place = self._index.add(fresh[self._number].astype(np.int64))
        if len(self._index) > self._latest.size:
            before, self._latest = self._latest, np.full(2 * len(self._index), NONE, dtype=np.int64)
            self._latest[: before.size] = before
        order = np.argsort(place, kind="stable")
        sorted_place = place[order]
        first = np.diff(sorted_place, prepend=-1) != 0
        before_it = np.concatenate([[NONE], start + order[:-1]])
        self._previous[start + order] = np.where(first, self._latest[sorted_place], before_it)
        last = np.append(first[1:], True)
        self._latest[sorted_place[last]] = start + order[last]
        self._size = stop


class _Texts:
    """Texts, each kept once, by number."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._number: dict[bytes, int] = {}
        self._text = np.empty(0, dtype=dtype)

    def numbers(self, texts: Array) -> NDArray[np.uint32]:
        """The number of each text; new ones are taken up."""
        # neighbours mostly share theirs: a look-up for each run of them
        begins = np.flatnonzero(np.append(True, texts[1:] != texts[:-1]))
        found = [self._number.setdefault(text, len(self._number)) for text in texts[begins].tolist()]
        return np.repeat(np.array(found, dtype=np.uint32), np.diff(begins, append=texts.size))

    def of(self, number: NDArray[np.uint32]) -> Array:
        """The text of each number."""
        if len(self._number) > self._text.size:
            self._text = np.array(list(self._number), dtype=self._text.dtype)
        return self._text[number]


def _room_for(array: Array, size: int) -> Array:
    if size <= array.size:
        return array
    grown = np.zeros(max(size, 2 * array.size), dtype=array.dtype)
    grown[: array.size] = array
    return grown
