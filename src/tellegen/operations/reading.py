"""A billing day read back from both journals of a shard: what publication and replay need (law 3).

What is read is what stands there, wherever it lies: open, compacted, or of customers who have been erased since. Of
these nothing can be read but what they owed, as sums on the account ERASED.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.operations.awarded import MW_PER_W
from tellegen.operations.book import Book
from tellegen.operations.booked import booked, erased_customers
from tellegen.operations.facts import Cleared
from tellegen.operations.holds import holds_in
from tellegen.operations.price_run import inflexible
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import cut_of
from tellegen.operations.timetable import day_bounds, day_number, periods
from tellegen.operations.topology import Feeder
from tellegen.records import (
    OPERATOR,
    AllocationKeys,
    Awards,
    Clearings,
    Closes,
    Edits,
    Energy,
    Gates,
    Header,
    Holds,
    Orders,
    Postings,
    Prices,
    Product,
    Readings,
    RefusedOrders,
    Schedules,
    Starts,
    Statements,
    Table,
)
from tellegen.records.market import DAY_AHEAD, MARKETS, PRICE_RUN, REAL_TIME
from tellegen.units import INTERVALS_PER_HOUR

T = TypeVar("T", bound=Table)


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One clearing as it stands on record: what was offered, what became of it.

    Attributes
    ----------
    interval : first of its period.
    orders : the book as its gate counted it; orders of erased customers are missing.
    awards : as recorded, by the rows of each customer's own submission; none at an administrative price.
    awarded_mw : int64, one for each row of `orders`.
    refused : bool, of each row, not taken. stood_in : what was cleared for who is on hold, or sent no orders.
    """

    market: str
    interval: int
    feeder: str
    orders: Orders
    awards: Awards
    awarded_mw: NDArray[np.int64]
    starts: Starts
    period: Cleared
    refused: NDArray[np.bool_]
    stood_in: Orders

    def as_cleared(self) -> tuple[Orders, NDArray[np.int64]]:
        """Orders that were taken, and those that stood in for who is on hold; mW awarded to each."""
        orders = Orders.concat([self.orders.take(~self.refused), self.stood_in])
        return orders, np.concatenate([self.awarded_mw[~self.refused], self.stood_in.quantity_w * MW_PER_W])


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDay:
    """A day as the record has it, on one feeder or on all.

    Attributes
    ----------
    day : the billing day's local date. bounds : its market intervals, as far as there was a market.
    feeders : those that were read.
    keys : frozen for sharing, by feeder.
    rounds : day-ahead hours, then real-time intervals, each ascending.
    runs : price runs of the intervals, ascending, without orders; none where the gates' prices settle.
    readings : (interval, registers as sent), in the order of the record for each interval; the first are those from
        which the day's energy counts. The substation's are the operator's, as in `energy`.
    energy : versions of validated energy with the journal index of each; edits are later ones.
    postings : batches about the day with the journal index of each, differences included.
    statements : what closes have billed for it, in the order of the record.
    closes : with the journal index of each.
    holds : rows of those that were in force in some interval of the day, in the order of the record.
    erased : customers whose rows can no longer be read.
    """

    day: date
    bounds: range
    feeders: tuple[Feeder, ...]
    keys: tuple[tuple[str, AllocationKeys], ...]
    rounds: tuple[Round, ...]
    runs: tuple[Round, ...]
    readings: tuple[tuple[int, Readings], ...]
    energy: tuple[tuple[int, Energy], ...]
    postings: tuple[tuple[int, Postings], ...]
    statements: Statements
    closes: tuple[tuple[int, Closes], ...]
    holds: Holds
    erased: tuple[int, ...]

    def all_postings(self) -> Postings:
        """Every posting of the day in the order of the journal."""
        return Postings.concat([batch for _, batch in self.postings])


def read_day(record: ShardRecord, day: date, feeder: str | None = None, through: date | None = None) -> RecordedDay:
    """Read a day back.

    Parameters
    ----------
    record : up to date (`ShardRecord.refresh`).
    feeder : which one; None: all.
    through : last of the days whose postings and statements come along: a later close bills in whole cents what came
        late. None: the day alone.

    Raises
    ------
    InputError : there is no such feeder.
    VaultError : a payload or a file of the archive is damaged.
    """
    feeders = tuple(each for each in record.feeders if feeder in (None, each.name))
    if not feeders:
        raise InputError(record.path, f"feeder '{feeder}'", "is none of this shard")
    whole = day_bounds(record.rulebook, day)
    reader = _Reader(record, whole, feeders)
    last = day if through is None else through
    billed = range(day_number(day), day_number(last) + 1)
    return RecordedDay(
        day=day,
        bounds=reader.settled,
        feeders=feeders,
        keys=tuple(reader.keys()),
        rounds=tuple(reader.rounds()),
        runs=tuple(reader.runs()),
        readings=tuple(reader.readings()),
        energy=tuple(reader.energy()),
        postings=tuple(reader.postings(range(whole.start, day_bounds(record.rulebook, last).stop))),
        statements=reader.statements(billed),
        closes=tuple((entry, table) for entry, _, table in reader.about(Closes)),
        holds=reader.holds(),
        erased=reader.erased,
    )


class _Reader:
    """Looks up what is about some intervals of some feeders."""

    def __init__(self, record: ShardRecord, bounds: range, feeders: tuple[Feeder, ...]) -> None:
        self._record, self.bounds, self._feeders = record, bounds, feeders
        self._names = {feeder.name for feeder in feeders}
        self.erased = erased_customers(record)
        gates = [record.journal.find(kind=Gates.kind, market=m, interval=bounds.start)[:1] for m in MARKETS]
        self._since = min((entry for found in gates for entry in found), default=0)
        settled = [record.header(entry).interval for entry in self._entries(Energy.kind, bounds)]
        self.settled = range(bounds.start, max(settled, default=bounds.start - 1) + 1)

    def keys(self) -> Iterator[tuple[str, AllocationKeys]]:
        entries = self._record.journal.find(kind=AllocationKeys.kind, interval=self.bounds.start)
        for entry, table in sorted(self._record.tables(entries)):
            assert isinstance(table, AllocationKeys)
            if self._record.header(entry).feeder in self._names:
                yield self._record.header(entry).feeder, table

    def about(self, kind: type[T]) -> list[tuple[int, Header, T]]:
        """Tables of a kind that are about any of the intervals, in the order of the journal."""
        found = []
        for entry, table in self._record.tables(self._entries(kind.kind, self.bounds)):
            assert isinstance(table, kind)
            found.append((entry, self._record.header(entry), table))
        return sorted(found, key=lambda each: each[0])

    def _entries(self, kind: str, about: range | None = None) -> list[int]:
        """Entries of a kind about any of some intervals; None: all that came since the first gate."""
        found = []
        for entry in self._record.journal.find(kind=kind, since=self._since):
            header = self._record.header(entry)
            inside = about is None or (
                header.interval < about.stop and header.interval + header.intervals > about.start
            )
            if inside and header.feeder in self._names:
                found.append(entry)
        return found

    # Clearings

    def rounds(self) -> Iterator[Round]:
        record = self._record
        tables = {entry: table for kind in (Awards, Schedules, Prices, Starts) for entry, _, table in self.about(kind)}
        # hours that nothing was delivered in are of a market that has ended, or of a day that goes on
        begun = [each for each in self._cleared() if each[1].market != PRICE_RUN]
        cleared = sorted(begun, key=lambda each: (MARKETS.index(each[1].market), each[1].interval))
        hours = {period.start: k for k, period in enumerate(periods(self.bounds))}
        gate: tuple[str, int] | None = None
        for _, header, clearing in cleared:
            day_ahead = header.market == DAY_AHEAD
            first, period = (self.bounds.start, hours[header.interval]) if day_ahead else (header.interval, 0)
            if gate != (header.market, first):
                gate = header.market, first
                spans = periods(self.bounds) if day_ahead else (range(first, first + 1),)
                named = next(entry for entry in header.causes if record.header(entry).kind == Gates.kind)
                book = Book.of(record, header.market, spans, cut_of(header), named)
            found = [tables[entry] for entry in header.causes if entry in tables]
            yield _round(header, book, period, found, clearing)

    def runs(self) -> Iterator[Round]:
        prices = {entry: table for entry, _, table in self.about(Prices)}
        for _, header, clearing in sorted(self._cleared(), key=lambda each: each[1].interval):
            if header.market == PRICE_RUN:
                found: list[Table] = [prices[entry] for entry in header.causes if entry in prices]
                yield _round(header, Book({}), 0, found, clearing)

    def _cleared(self) -> list[tuple[int, Header, Clearings]]:
        return [each for each in self.about(Clearings) if each[1].interval in self.settled]

    def holds(self) -> Holds:
        return self._holds([entry for entry in self._in_force() if self._record.header(entry).feeder in self._names])

    def _in_force(self) -> tuple[int, ...]:
        """Entries of the holds of the day; a customer may have come from another feeder since."""
        return holds_in(self._record, range(self.bounds.start, max(self.settled.stop, self.bounds.start + 1)))

    def _holds(self, entries: Iterable[int]) -> Holds:
        return Holds.concat([Holds.empty(), *(self._record.table(entry, Holds) for entry in entries)])

    # Energy and money

    def readings(self) -> Iterator[tuple[int, Readings]]:
        size = len(self._record.intake)
        substations = [feeder.substation for feeder in self._feeders]
        for interval in range(self.settled.start - 1, self.settled.stop):
            rows = self._record.submitted.readings(interval, size, self._names).readings.rows().copy()
            rows["customer"][np.isin(rows["customer"], substations)] = OPERATOR
            yield interval, Readings.from_rows(rows)

    def energy(self) -> Iterator[tuple[int, Energy]]:
        for entry, _, table in self.about(Energy):
            yield entry, table
        for entry, _, edits in self.about(Edits):
            here = edits.take(_inside(edits.interval, self.bounds))
            if len(here):
                names = Energy.row_dtype().names or ()
                yield entry, Energy(**{name: getattr(here, name) for name in names})

    def postings(self, about: range) -> Iterator[tuple[int, Postings]]:
        entries = self._entries(Postings.kind, about)
        for entry, table in sorted(booked(self._record, entries), key=lambda each: each[0]):
            here = _inside(table.interval, about)
            if here.any():
                yield entry, table if here.all() else table.take(here)

    def statements(self, days: range) -> Statements:
        found = [Statements.empty()]
        for _, table in sorted(self._record.tables(self._entries(Statements.kind)), key=lambda each: each[0]):
            assert isinstance(table, Statements)
            found.append(table.take(_inside(table.day, days) & ~np.isin(table.customer, self.erased)))
        return Statements.concat(found)


def read_round(record: ShardRecord, feeder: str, interval: int) -> Round:
    """The real-time clearing of an interval on one feeder.

    Raises
    ------
    KeyError : there is none on record, as far as that has been read (`ShardRecord.refresh`).
    """
    for entry in record.about(Clearings, feeder, interval, REAL_TIME):
        header = record.header(entry)
        hours = (range(interval, interval + 1),)
        book = Book.of(record, REAL_TIME, hours, cut_of(header), record.cause(entry, Gates))
        tables = [table for _, table in record.tables(header.causes) if not isinstance(table, Gates)]
        return _round(header, book, 0, tables, record.table(entry, Clearings))
    raise KeyError(f"interval {interval} of {feeder} has no clearing on record")


def _round(header: Header, book: Book, period: int, found: list[Table], clearing: Clearings) -> Round:
    """A clearing; who is awarded no order stands in it at its schedule: on hold, or without orders."""
    orders, awards = book.orders(header.feeder, period), _of(Awards, found)
    awarded = np.zeros(len(orders), dtype=np.int64)
    row = book.rows_of(header.feeder, period, awards.customer, awards.order)
    awarded[row[row >= 0]] = awards.quantity_mw[row >= 0]
    refusals, schedules = _of(RefusedOrders, found), _of(Schedules, found)
    refused = np.zeros(len(orders), dtype=np.bool_)
    row = book.rows_of(header.feeder, period, refusals.customer, refusals.order)
    refused[row[row >= 0]] = True
    stands = schedules.take(~np.isin(schedules.customer, awards.customer))
    who, where = stands.customer.astype(np.int64), stands.node.astype(np.int64)
    stood = (stands.energy_wh, Product.ENERGY), (stands.reactive_varh, Product.REACTIVE)
    return Round(
        market=header.market,
        interval=header.interval,
        feeder=header.feeder,
        orders=orders,
        awards=awards,
        awarded_mw=awarded,
        starts=_of(Starts, found),
        period=Cleared(schedules, _of(Prices, found), clearing),
        refused=refused,
        stood_in=Orders.concat([inflexible(who, where, wh * INTERVALS_PER_HOUR, product) for wh, product in stood]),
    )


def _inside(number: NDArray[np.integer], among: range) -> NDArray[np.bool_]:
    return np.asarray((number >= among.start) & (number < among.stop))


def _of(kind: type[T], tables: list[Table]) -> T:
    """The table of a kind among some; an empty one where there is none, as of awards at an administrative price."""
    return next((table for table in tables if isinstance(table, kind)), kind.empty())


def closed_days(record: ShardRecord) -> list[date]:
    """Days that have been closed at least once, ascending."""
    tables = (record.table(entry, Closes) for entry in record.journal.find(kind=Closes.kind, name="first"))
    return [date.fromordinal(date(1970, 1, 1).toordinal() + day) for day in sorted({int(t.day[0]) for t in tables})]
