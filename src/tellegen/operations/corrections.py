"""Facts that came late: which readings they are, what energy they change, and the postings that differ.

Prices, dispatch and keys stand as recorded. A late reading moves its own meter's energy until the meter's state is the
one on record again (`metering.refold`); parties settle apart, so only what it touches is settled, and only
differences are posted. What is about a day that is final is named on record and moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.coarse import SPANS, moved_by, span_registers
from tellegen.metering.past import Estimates, Past
from tellegen.metering.reentry import Places
from tellegen.operations.facts import Cleared
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State, cut_of
from tellegen.records import (
    OPERATOR,
    Clearings,
    Closes,
    Edits,
    Energy,
    Prices,
    Readings,
    Schedules,
    Unsettled,
    UnsettledReason,
)
from tellegen.records.latest import latest
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.units import MARKET_INTERVAL_S, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Readings that were not there when their intervals were settled.

    Attributes
    ----------
    customer, interval : int64[n] of those that may move money; substations by their own numbers.
    unsettled : the others, with the reason.
    """

    customer: IntArray
    interval: IntArray
    unsettled: Unsettled


def late_readings(record: ShardRecord, state: State, size: int) -> Late:
    """Readings that came since the last run, below a size of the intake's journal, about settled intervals."""
    customers, intervals = [np.zeros(0, dtype=np.int64)] * 2
    found: list[tuple[IntArray, IntArray]] = []
    named: list[tuple[int, IntArray, int]] = []
    batches: dict[int, list[int]] = {}
    longest = max(rules.timetable.longest_meter_intervals for rules in state.book.versions)
    spans = [every for every in SPANS if every <= longest]  # longer ones would open batches that came in time
    for entry, interval in record.submitted.late(state.corrected_until, size):
        if any(_settled_without(state, entry, interval, every) for every in spans):
            batches.setdefault(interval, []).append(entry)
    for interval, entries in sorted(batches.items()):
        counted = record.submitted.readings(interval, size, {record.intake.entry(e).feeder for e in entries})
        counted = counted.take(np.isin(counted.entry, entries))
        customer = counted.readings.customer.astype(np.int64)
        _, _, installed, _, every = located(record, state, customer, np.full(customer.size, interval, dtype=np.int64))
        moved, whose = _pairs(state, counted.entry, interval, every)
        late = np.zeros(customer.size, dtype=np.bool_)
        late[whose] = True
        reason = np.zeros(customer.size, dtype=np.int64)
        if interval < state.first:  # no rule need have governed it
            reason[:] = UnsettledReason.UNKNOWN_INSTALLATION
        elif state.is_final(state.day_range(interval).start):
            reason[:] = UnsettledReason.FINAL_DAY
        else:
            reason[installed != counted.readings.meter] = UnsettledReason.UNKNOWN_INSTALLATION
        reason[np.isin(customer, list(state.erased))] = UnsettledReason.ERASED
        found.append((customer[whose][reason[whose] == 0], moved[reason[whose] == 0]))
        for why in np.unique(reason[late & (reason > 0)]).tolist():
            rows = np.flatnonzero(late & (reason == why))
            named.append((why, np.stack([counted.entry[rows], counted.row[rows]]), rows.size))
    if found:
        customers, intervals = (np.concatenate(part) for part in zip(*found, strict=True))
    places = np.concatenate([part for _, part, _ in named], axis=1) if named else np.zeros((2, 0), dtype=np.int64)
    why = np.repeat([reason for reason, _, _ in named], [count for _, _, count in named]) if named else np.zeros(0)
    return Late(customers, intervals, Unsettled(entry=places[0], row=places[1], reason=why.astype(np.uint8)))


def _pairs(state: State, entry: IntArray, interval: int, every: IntArray) -> tuple[IntArray, IntArray]:
    """Intervals that readings about one would have moved, int64[k], and the row of each."""
    found = []
    for entry_, every_ in np.unique(np.stack([entry, every]), axis=1).T.tolist():
        moved = np.array(_settled_without(state, entry_, interval, every_), dtype=np.int64)
        rows = np.flatnonzero((entry == entry_) & (every == every_))
        found.append(np.stack([np.tile(moved, rows.size), np.repeat(rows, moved.size)]))
    pairs: IntArray = np.concatenate([np.zeros((2, 0), dtype=np.int64), *found], axis=1)
    return pairs[0], pairs[1]


def _settled_without(state: State, entry: int, interval: int, every: int) -> list[int]:
    """Intervals that have been settled without an entry, though a reading in it about an interval moves their energy.

    A meter that is read each interval has its register at the end of one. Registers at the start of the first interval
    were there when that was settled.
    """
    first = state.first - 1
    if every == 1:
        moved = range(interval, interval + 1)
    else:
        around = moved_by(interval, every)
        moved = range(max(around.start, first), around.stop)
    return [
        t
        for t in moved
        if t <= state.settled and entry >= (state.reads.get(state.first, 0) if t == first else state.reads.get(t, 0))
    ]


class OnRecord:
    """What is on record of energy and readings, as `metering.refold` asks for it; substations by their own numbers.

    Parameters
    ----------
    size : of the intake's journal, below which readings count.
    past : of everybody.
    customer : who will be asked about; their rows are kept, so that each batch on record is opened once.
    unsettled : rows that are about to be named as unsettled: they count for nothing on final days, as if they were.
    """

    def __init__(
        self,
        record: ShardRecord,
        state: State,
        size: int,
        past: Past,
        customer: IntArray,
        unsettled: Unsettled | None = None,
    ) -> None:
        self._record, self._state, self._size, self._past = record, state, size, past
        self._whose = np.unique(customer)
        self._believed: dict[tuple[int, int], tuple[Energy, IntArray]] = {}
        self._edits: dict[tuple[int, int], Edits] = {}
        self._read: dict[int, tuple[set[str], Readings]] = {}
        self._substation = np.array([f.substation for f in record.feeders], dtype=np.int64)
        self._too_late: dict[int, set[tuple[int, int]]] = {}
        self._named = set() if unsettled is None else _places_of(unsettled)

    def since(self, customer: IntArray) -> IntArray:
        """The interval before the first with energy of a customer: its registers may begin there."""
        return np.maximum(self._record.topology.since(customer), self._state.first - 1)

    def readings(self, customer: IntArray, interval: IntArray) -> tuple[Readings, IntArray]:
        """All readings about the pairs that count, in the order of the record; their intervals.

        Those of coarse meters are as `metering.coarse` makes them.
        """
        feeder, _, meter, _, every = self._located(customer, interval)
        tables, about = [Readings.empty()], [np.zeros(0, dtype=np.int64)]
        for t in np.unique(interval[every == 1]).tolist():
            asked = (interval == t) & (every == 1)
            rows = self._sent(t, customer[asked], feeder[asked])
            tables.append(rows)
            about.append(np.full(len(rows), t, dtype=np.int64))
        coarse = np.flatnonzero(every > 1)
        if coarse.size:
            who = np.unique(customer[coarse])

            def fetch(end: int) -> Readings:
                return self._sent(end, who, self._located(who, np.full(who.size, end, dtype=np.int64))[0])

            rows, pair = span_registers(customer[coarse], meter[coarse], interval[coarse], every[coarse], fetch)
            tables.append(rows)
            about.append(interval[coarse[pair]])
        return Readings.concat(tables), np.concatenate(about)

    def _sent(self, interval: int, customer: IntArray, feeder: IntArray) -> Readings:
        """Readings about an interval of some customers on some feeders."""
        rows = self._readings(interval, {self._record.feeders[k].name for k in np.unique(feeder).tolist() if k >= 0})
        return rows.take(np.isin(rows.customer, customer))

    def energy(self, customer: IntArray, interval: IntArray) -> tuple[Energy, IntArray]:
        """What is believed of the pairs, and its version."""
        feeder = self._located(customer, interval)[0]
        tables, versions = [Energy.empty()], [np.zeros(0, dtype=np.int64)]
        # before the first interval nothing was settled
        asked = np.flatnonzero((interval >= self._state.first) & (feeder >= 0))
        asked = asked[np.lexsort((feeder[asked], interval[asked]))]
        begins = np.append(True, (np.diff(interval[asked]) != 0) | (np.diff(feeder[asked]) != 0))[: asked.size]
        for group in np.split(asked, np.flatnonzero(begins)[1:]) if asked.size else []:
            rows, version = self.believed(int(feeder[group[0]]), int(interval[group[0]]))
            here = np.isin(rows.customer, customer[group])
            tables.append(rows.take(here))
            versions.append(version[here])
        return Energy.concat(tables), np.concatenate(versions)

    def believed(self, feeder: int, interval: int) -> tuple[Energy, IntArray]:
        """What is believed of those on a feeder in an interval who are asked about, by customer, and the versions."""
        key = feeder, interval
        if key not in self._believed:
            day = self._state.day_range(interval).start
            if (feeder, day) not in self._edits:
                self._edits[feeder, day] = edits_of(self._record, self._state, feeder, interval)
            rows, version = believed(self._record, self._state, feeder, interval, self._edits[feeder, day])
            here = self._asked_about(rows.customer.astype(np.int64))
            self._believed[key] = rows.take(here), version[here]
        return self._believed[key]

    def _readings(self, interval: int, feeders: set[str]) -> Readings:
        """Readings that count of those who are asked about, from batches about some feeders at least."""
        seen, kept = self._read.get(interval, (set(), Readings.empty()))
        if not feeders <= seen:
            counted = self._record.submitted.readings(interval, self._size_about(interval), feeders - seen)
            wanted = self._asked_about(counted.readings.customer.astype(np.int64))
            late = self._late_of_final(interval)
            if late:
                places = zip(counted.entry.tolist(), counted.row.tolist(), strict=True)
                wanted &= np.array([place not in late for place in places], dtype=np.bool_)
            kept = Readings.concat([kept, counted.readings.take(wanted)])
            self._read[interval] = seen | feeders, kept
        return kept

    def _size_about(self, interval: int) -> int:
        """What is about a time before the market counts if it was there when the first interval settled."""
        first = self._state.first
        if interval >= first:
            return self._size
        return cut_of(self._record.header(self._record.about(Energy, self._record.feeders[0].name, first)[0]))

    def _asked_about(self, customer: IntArray) -> NDArray[np.bool_]:
        at = np.searchsorted(self._whose, customer)
        at[at == self._whose.size] = 0
        return self._whose[at] == customer if self._whose.size else np.zeros(customer.size, dtype=np.bool_)

    def _late_of_final(self, interval: int) -> set[tuple[int, int]]:
        """Entry and row of readings of an interval, among others, that came when its day was final."""
        if interval < self._state.first:  # no rule need have governed it
            return set()
        day = self._state.day_range(interval).start
        if day not in self._too_late:
            final = self._state.is_final(day)
            self._too_late[day] = too_late(self._record, day) | self._named if final else set()
        return self._too_late[day]

    def places(self, customer: IntArray, interval: IntArray) -> Places:
        """Where the customers were read."""
        _, _, meter, capacity, every = self._located(customer, interval)
        return Places(meter, capacity, every)

    def estimates(self, customer: IntArray, interval: IntArray) -> Estimates:
        """What to assume of the customers."""
        return self._past.estimates(customer, interval)

    def _located(self, customer: IntArray, interval: IntArray) -> tuple[IntArray, ...]:
        return located(self._record, self._state, customer, interval)


def located(
    record: ShardRecord, state: State, customer: IntArray, interval: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
    """Feeder, node, meter, capacity and span of customers in intervals, as known when the gates of these closed.

    Before the market's first interval there was no gate, nor need a rule have governed: its first gate stands for them.
    """
    distinct, place = np.unique(interval, return_inverse=True)
    gates = np.maximum(distinct, state.first).tolist()
    known_by = np.array([state.gate_at(REAL_TIME, t) - 1 for t in gates], dtype=np.int64)
    return record.topology.places(customer, interval, known_by[place])


def believed(
    record: ShardRecord, state: State, feeder: int, interval: int, edits: Edits | None = None
) -> tuple[Energy, IntArray]:
    """Energy of everybody on a feeder in an interval as it is believed now, by customer, and the version of each row.

    The substation stands there by its own number.

    Parameters
    ----------
    edits : `edits_of` the feeder and the interval's day; None: they are read.
    """
    if interval < state.first:
        return Energy.empty(), np.zeros(0, dtype=np.int64)
    if edits is None:
        edits = edits_of(record, state, feeder, interval)
    wires = record.feeders[feeder]
    return with_edits(first_energy(record, feeder, interval), edits, interval, wires.substation)


def first_energy(record: ShardRecord, feeder: int, interval: int) -> Energy:
    """What an interval of a feeder settled on at first; the substation stands there as OPERATOR."""
    entries = record.about(Energy, record.feeders[feeder].name, interval)
    return Energy.concat([Energy.empty(), *(record.table(entry, Energy) for entry in entries)])


def with_edits(recorded: Energy, edits: Edits, interval: int, substation: int) -> tuple[Energy, IntArray]:
    """The last version of everybody's energy in an interval, by customer, and its number.

    Parameters
    ----------
    recorded : what the interval settled on at first. edits : among others those about it.
    substation : number by which the substation stands in the answer.
    """
    here = edits.take(edits.interval == interval)
    names = Energy.row_dtype().names or ()
    rows = Energy.concat([recorded, Energy(**{column: getattr(here, column) for column in names})])
    version = np.concatenate([np.zeros(len(recorded), dtype=np.int64), here.version.astype(np.int64)])
    number = np.where(rows.customer == OPERATOR, substation, rows.customer).astype(np.int32)
    rows = replace(rows, customer=number)
    counts = latest([rows.customer], [version])
    return rows.take(counts), version[counts]


def edits_of(record: ShardRecord, state: State, feeder: int, interval: int) -> Edits:
    """New versions of energy of a feeder on the day of an interval, in the order of the record."""
    day = state.day_range(interval)
    # what was edited of days that are final is not with the state any more; a meter's state may still begin there
    final = state.is_final(day.start)
    entries = _edits_about(record, feeder, day) if final else state.edits.get((feeder, day.start), ())
    return edits_at(record, entries)


def edits_at(record: ShardRecord, entries: Iterable[int]) -> Edits:
    """Edits of some entries, in the order of the record."""
    found = dict(record.tables(entries))
    return Edits.concat([Edits.empty(), *(table for _, table in sorted(found.items()) if isinstance(table, Edits))])


def _edits_about(record: ShardRecord, feeder: int, day: range) -> list[int]:
    """Entries of edits of a feeder that are about a day, and perhaps about others, too."""
    journal, name = record.journal, record.feeders[feeder].name
    settled = journal.earliest_at(day.start * MARKET_INTERVAL_S)
    headers = ((entry, record.header(entry)) for entry in journal.find(kind=Edits.kind, since=settled))
    return [
        entry
        for entry, header in headers
        if header.feeder == name and header.interval < day.stop and header.interval + header.intervals > day.start
    ]


def too_late(record: ShardRecord, day: int) -> set[tuple[int, int]]:
    """Entry and row of the readings that came when a day (by its first interval) was final: they count for nothing."""
    final = record.journal.find(kind=Closes.kind, interval=day, name="final")
    found: set[tuple[int, int]] = set()
    for _, table in record.tables(record.journal.find(kind=Unsettled.kind, since=min(final, default=0))):
        assert isinstance(table, Unsettled)
        found |= _places_of(table)
    return found


def _places_of(unsettled: Unsettled) -> set[tuple[int, int]]:
    """Entry and row of each."""
    return set(zip(unsettled.entry.tolist(), unsettled.row.tolist(), strict=True))


def cleared_of(record: ShardRecord, feeder: int, interval: int) -> Cleared:
    """What a feeder's interval settles from, as it stands on record."""
    return cleared_at(record, clearing_of(record, feeder, interval))


def clearing_of(record: ShardRecord, feeder: int, interval: int) -> int:
    """The entry of the clearing whose prices settle an interval on a feeder: its price run, where one was held."""
    name = record.feeders[feeder].name
    for market in (PRICE_RUN, REAL_TIME):
        for index in record.about(Clearings, name, interval, market):
            return index
    raise KeyError(f"interval {interval} of {name} has no clearing on record")


def cleared_at(record: ShardRecord, clearing: int) -> Cleared:
    """What the clearing of an entry put on record; of a price run, with what its gate awarded."""
    prices = record.table(record.cause(clearing, Prices), Prices)
    table = record.table(clearing, Clearings)
    awarding = record.cause(clearing, Clearings) if record.header(clearing).market == PRICE_RUN else clearing
    try:
        schedules = record.table(record.cause(awarding, Schedules), Schedules)
    except KeyError:  # administrative
        return Cleared(Schedules.empty(), prices, table, awarded=False)
    return Cleared(schedules, prices, table)
