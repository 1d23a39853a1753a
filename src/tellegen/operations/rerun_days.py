"""Days opened and closed again: keys, shares, cents and statements from the fold as it stood before each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import numpy as np

from tellegen.operations.day import FeederClosed, close_feeders, frozen_keys, shared_again
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import CLOSE, State
from tellegen.operations.sums import LineSums
from tellegen.operations.tally import Tally
from tellegen.operations.timetable import day_bounds
from tellegen.records import (
    AllocationKeys,
    CloseKind,
    Closes,
    FeederDays,
    Header,
    Postings,
    Statements,
    Table,
)
from tellegen.records.market import REAL_TIME
from tellegen.units import IntArray

ROUNDING = f"{CLOSE} rounding"
_ERASED = "with erased customers"


@dataclass(slots=True, eq=False)
class _Closing:
    """A first close whose records come in: what each feeder's must be.

    left_out : feeders whose shares cannot be computed. billed_with : those that bill somebody for a share of these.
    """

    day: date
    closed: list[FeederClosed]
    left_out: set[int]
    billed_with: set[int]
    seen: set[tuple[int, str]] = field(default_factory=set)


class Days:
    """Opens and closes days again while the record is folded.

    Parameters
    ----------
    state : the fold, which has not taken in the record that `before` is shown.
    """

    READS = frozenset({FeederDays.kind, Statements.kind})
    """Kinds that are compared; the fold itself need not read them all."""

    def __init__(self, record: ShardRecord, state: State) -> None:
        self._record, self._state = record, state
        self._keys: tuple[int, list[AllocationKeys]] | None = None
        self._closing: _Closing | None = None
        self._shared: dict[int, Postings] = {}
        self._of_keys = Tally("sharing keys", "keys of customers frozen again", "are others")
        self._of_closes = Tally("closes", "postings of shares and rounding", "feeder-days with another share or cent")
        self._of_shared = Tally("shared anew", "postings of days shared anew", "feeder-days with another difference")
        self._of_statements = Tally("statements", "rows as invoiced, close by close", "are others")

    @property
    def tallies(self) -> list[Tally]:
        """What was compared."""
        return [self._of_keys, self._of_closes, self._of_shared, self._of_statements]

    def before(self, index: int, header: Header, table: Table | None) -> None:
        """Compare a record with what the fold so far makes of it."""
        match table:
            case AllocationKeys():
                self._compare_keys(index, header, table)
            case Postings() if header.name == CLOSE and header.causes:
                self._compare_shared(index, header, table)
            case Postings() if header.name in (CLOSE, ROUNDING):
                closed = self._expected(header)
                right = closed.shares if header.name == CLOSE else closed.rounding
                self._compare(self._of_closes, index, header, table, right)
            case FeederDays():
                self._compare(self._of_closes, index, header, table, self._expected(header).day)
            case Statements():
                self._compare(self._of_statements, index, header, table, self._expected(header).statements)
            case Closes():
                self._take_close(index, header, table)

    # Keys

    def _compare_keys(self, index: int, header: Header, table: AllocationKeys) -> None:
        if self._keys is None or self._keys[0] != header.interval:
            day = self._state.date_of(header.interval)
            again = frozen_keys(self._state, self._record.histories(), day, header.known_at)
            self._keys = header.interval, again
        again_here = self._keys[1][self._number(header)]
        if len(table) != header.rows:
            self._of_keys.leave_out(f"feeder-days {_ERASED}")
        else:
            self._of_keys.compare(len(table), int(not again_here.equals(table)), f"entry {index}")

    # First closes

    def _expected(self, header: Header) -> FeederClosed:
        closing = self._closing
        if closing is None or closing.day != self._state.date_of(header.interval):
            closing = self._closing = self._close(self._state.date_of(header.interval))
        return closing.closed[self._number(header)]

    def _close(self, day: date) -> _Closing:
        """The close of a day from the state before it."""
        state, bounds = self._state, day_bounds(self._state.book, day)
        last = self._record.last_of(bounds)
        ends: list[IntArray] = [np.zeros(0, dtype=np.int64)] * len(self._record.feeders)
        if last in bounds:
            connected = state.connected(REAL_TIME, last, last)
            ends = [connected.customer[connected.on(k)] for k in range(connected.feeders)]
        left_out = self._erased_from(FeederDays, bounds.start)
        closed = close_feeders(state, day, ends)
        touched = np.concatenate([np.zeros(0, dtype=np.int64), *(closed[k].day.customer for k in left_out)])
        billed_with = {k for k, each in enumerate(closed) if np.isin(each.statements.customer, touched).any()}
        billed_with |= self._erased_from(Statements, bounds.start)  # they had a part in the rounding of all
        return _Closing(day, closed, left_out, billed_with)

    def _erased_from(self, kind: type[FeederDays | Statements], first: int) -> set[int]:
        """Feeders of whose rows about a close some can no longer be read."""
        record, entries = self._record, self._record.journal.find(kind=kind.kind, interval=first)
        gone = [
            record.header(entry) for entry in entries if len(record.table(entry, kind)) != record.header(entry).rows
        ]
        return {self._number(header) for header in gone}

    def _compare(self, tally: Tally, index: int, header: Header, table: Table, right: Table) -> None:
        assert self._closing is not None
        k = self._number(header)
        self._closing.seen.add((k, f"{header.kind} {header.name}"))
        of_bills = header.kind == Statements.kind or header.name == ROUNDING
        if k in self._closing.left_out or (of_bills and k in self._closing.billed_with):
            tally.leave_out(f"batches {_ERASED}")
        else:
            tally.compare(len(table), int(not right.equals(table)), f"entry {index}")

    def _take_close(self, index: int, header: Header, table: Closes) -> None:
        kind = CloseKind(int(table.close_kind[0]))
        if kind is CloseKind.FIRST:
            self._complete(index, header, table)
        elif kind is CloseKind.CORRECTION:
            self._share(index, header, table)

    def _complete(self, index: int, header: Header, table: Closes) -> None:
        """The last record of a feeder's close: nothing may be missing before it."""
        closed, closing, k = self._expected(header), self._closing, self._number(header)
        assert closing is not None
        wanted = {f"{Postings.kind} {CLOSE}": closed.shares, f"{Postings.kind} {ROUNDING}": closed.rounding}
        missing = [name for name, postings in wanted.items() if len(postings) and (k, name) not in closing.seen]
        waits = closed.open_rent_nanos, closed.open_unaccounted_nanos
        same = waits == (int(table.open_rent_nanos[0]), int(table.open_unaccounted_nanos[0]))
        if k not in closing.left_out:
            self._of_closes.compare(0, int(bool(missing) or not same), f"entry {index}")

    # Closed days shared anew

    def _share(self, index: int, header: Header, table: Closes) -> None:
        first, k = int(table.first_interval[0]), self._number(header)
        before = self._first_close(header.feeder, first)
        if before is None:
            self._of_shared.leave_out(f"feeder-days {_ERASED}")
            return
        day = self._state.date_of(first)
        since = self._state.since_close.get((k, first), LineSums())
        rules = self._state.book.at(day).settlement
        close = shared_again(first, int(table.intervals[0]), before, since, rules, index)
        waits = int(table.open_rent_nanos[0]), int(table.open_unaccounted_nanos[0])
        same = waits == (close.open_rent_nanos, close.open_unaccounted_nanos)
        self._of_shared.compare(0, int(not same), f"entry {index}")
        self._shared[index] = close.postings

    def _compare_shared(self, index: int, header: Header, table: Postings) -> None:
        right = self._shared.pop(header.causes[0], None)
        if right is not None:
            self._of_shared.compare(len(table), int(not right.equals(table)), f"entry {index}")

    def _first_close(self, feeder: str, first: int) -> FeederDays | None:
        """How a day was first closed; None where a part of it can no longer be read."""
        for entry in self._record.journal.find(kind=FeederDays.kind, interval=first):
            header = self._record.header(entry)
            if header.feeder == feeder:
                table = self._record.table(entry, FeederDays)
                return table if len(table) == header.rows else None
        return None

    def _number(self, header: Header) -> int:
        return self._state.topology.number[header.feeder]
