"""Energy and money made again as if nothing had come late: all readings at once, then each day settled from scratch.

Readings that count are a set, so judging all of them in the order of their intervals must give what settling and its
corrections came to. Settled on that, the sums of each account, day and line must be those of the postings on record,
but for ROUNDING, which belongs to closes (`operations.rerun_days`). One interval is in memory at a time, and the sums
of one day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.gap_energy import GapEnergy
from tellegen.metering.past import Past
from tellegen.operations.booked import booked
from tellegen.operations.corrections import cleared_at, edits_at, with_edits
from tellegen.operations.facts import Cleared, Metered, counted_feed_in, settle_interval
from tellegen.operations.forward import SoldAhead
from tellegen.operations.meters import Meters
from tellegen.operations.positions import party_keys
from tellegen.operations.record import ShardRecord
from tellegen.operations.registers import registers_of
from tellegen.operations.rerun_sums import DaySums, close_again
from tellegen.operations.state import CLOSE, State, cut_of
from tellegen.operations.tally import Tally
from tellegen.operations.topology import Connected
from tellegen.records import (
    Clearings,
    CloseKind,
    Closes,
    Edits,
    Energy,
    FeederDays,
    Header,
    Postings,
    Quality,
    Readings,
    Table,
    Unsettled,
    ValidationRule,
)
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.units import IntArray

_COLUMNS = Energy.row_dtype().names or ()
_ERASED = "of feeders with erased customers"


@dataclass(slots=True, eq=False)
class _Day:
    """One feeder's day while it is settled again."""

    again: DaySums = field(default_factory=DaySums)
    whole: bool = True


class MoneyAgain:
    """Judges and settles again what a fold has read.

    Parameters
    ----------
    state : the fold, which is shown each record after it was applied.
    """

    def __init__(self, record: ShardRecord, state: State) -> None:
        self._record, self._state = record, state
        self._names = [feeder.name for feeder in record.feeders]
        self._unsettled: set[tuple[int, int]] = set()
        # the fold drops what it needs no more of days that are final, so this is kept here; keys: feeder and day
        self._reads: dict[int, int] = {}
        self._edits: dict[tuple[int, int], list[int]] = {}
        self._posted: dict[tuple[int, int], list[int]] = {}
        self._first_closed: dict[tuple[int, int], int] = {}
        self._shared_at: dict[tuple[int, int], int] = {}
        self._moved_at: dict[tuple[int, int], int] = {}
        self._of_energy = Tally("energy", "rows of energy judged from all readings at once", "are others on record")
        self._of_settlement = Tally("settlement", "sums by account, day and line, settled from scratch", "are others")

    @property
    def tallies(self) -> list[Tally]:
        """What was compared."""
        return [self._of_energy, self._of_settlement]

    def after(self, index: int, header: Header, table: Table | None) -> None:
        """Remember where what is needed later stands."""
        match table:
            case Unsettled():
                self._unsettled |= set(zip(table.entry.tolist(), table.row.tolist(), strict=True))
            case Energy():
                self._reads[header.interval] = cut_of(header)
            case Edits():
                for key in self._about(header, table.interval):
                    self._edits.setdefault(key, []).append(index)
            case Postings():
                gone = [header.interval] if len(table) != header.rows else []  # the rows of erased customers
                for key in self._about(header, np.append(table.interval, gone)):
                    self._posted.setdefault(key, []).append(index)
                    if header.name != CLOSE:
                        self._moved_at[key] = index
            case FeederDays():
                self._first_closed[self._state.topology.number[header.feeder], header.interval] = index
            case Closes() if int(table.close_kind[0]) != CloseKind.FINAL:
                self._shared_at[self._state.topology.number[header.feeder], int(table.first_interval[0])] = index

    def _about(self, header: Header, interval: IntArray) -> set[tuple[int, int]]:
        """Feeder and day, by its first interval, of what a record is about."""
        k = self._state.topology.number[header.feeder]
        return {(k, self._state.day_range(int(t)).start) for t in np.unique(interval).tolist()}

    def run(self) -> None:
        """Judge every settled interval and settle every day, once the whole record is folded."""
        meters, past = Meters(), self._record.past()
        for first, intervals in groupby(sorted(self._reads), key=lambda t: self._state.day_range(t).start):
            self._run_day(first, list(intervals), meters, past)

    def _run_day(self, first: int, intervals: list[int], meters: Meters, past: Past) -> None:
        record, state = self._record, self._state
        feeders = range(len(record.feeders))
        edits = [edits_at(record, self._edits.get((k, first), ())) for k in feeders]
        forward = [SoldAhead(record, k, state.day_range(first)) for k in feeders]
        days = [_Day() for _ in feeders]
        parameters = state.book.at(state.date_of(first)).settlement
        for interval in intervals:
            connected = state.connected(REAL_TIME, interval, interval)
            readings = self._registers(interval, interval, connected)
            if meters.is_new(connected):
                meters.replace(meters.bases(interval, self._registers(interval - 1, interval, connected), connected))
            energy = meters.judge(interval, readings, connected, past.estimates(connected.customer, interval))
            meters.apply(interval, readings, energy, connected)
            cleared = self._cleared(interval)
            recorded = self._recorded(interval)
            for k in feeders:
                rows = np.append(np.arange(connected.start[k], connected.start[k + 1]), connected.substation(k))
                if k not in recorded or len(recorded[k][1]) != recorded[k][0]:
                    days[k].whole = False
                if k not in recorded:
                    continue
                believed, _ = with_edits(recorded[k][1], edits[k], interval, record.feeders[k].substation)
                settled = self._compare(k, interval, energy.take(rows), believed)
                if days[k].whole and k in cleared:
                    metered = _metered(connected, k, settled, recorded[k][1], cleared[k])
                    share = forward[k].share(interval)
                    days[k].again.add(settle_interval(interval, metered, cleared[k], share, parameters))
        for k in feeders:
            self._compare_day(k, first, days[k])

    # Energy

    def _registers(self, about: int, interval: int, connected: Connected) -> Readings:
        """All about an interval that were settled sooner or later with one, or the next."""
        size = max(self._reads[interval], self._state.corrected_until)
        return registers_of(connected, about, lambda end, whose: self._readings(end, size, whose))

    def _readings(self, interval: int, size: int, customer: IntArray | None) -> Readings:
        if customer is None:
            counted = self._record.submitted.readings(interval, size)
        else:
            counted = self._record.span_ends.readings(interval, size, customer)
        if not self._unsettled or not len(counted.readings):
            return counted.readings
        places = zip(counted.entry.tolist(), counted.row.tolist(), strict=True)
        return counted.readings.take(np.array([place not in self._unsettled for place in places], dtype=np.bool_))

    def _recorded(self, interval: int) -> dict[int, tuple[int, Energy]]:
        """What each feeder's interval settled on at first: rows on record, and those that can be read."""
        entries = self._record.journal.find(kind=Energy.kind, interval=interval)
        found = {}
        for entry, table in self._record.tables(entries):
            assert isinstance(table, Energy)
            header = self._record.header(entry)
            found[self._state.topology.number[header.feeder]] = header.rows, table
        return found

    def _compare(self, feeder: int, interval: int, again: Energy, believed: Energy) -> Energy:
        """What to settle: `again`, with what persons put on record; shares of a gap's energy are taken as they are."""
        at = np.searchsorted(believed.customer, again.customer)
        at[at == len(believed)] = 0
        there = believed.customer[at] == again.customer if len(believed) else np.zeros(len(again), dtype=np.bool_)
        against = believed.take(at[there])
        mine = again.take(there)
        given = against.quality == Quality.CORRECTED
        if self._conserves(interval):
            given |= (mine.rule != ValidationRule.NONE) & (mine.rule == against.rule)
        differs = np.zeros(len(mine), dtype=np.bool_)
        for name in _COLUMNS:
            differs |= getattr(mine, name) != getattr(against, name)
        where = f"{self._names[feeder]}, interval {interval}"
        self._of_energy.compare(int((~given).sum()), int((differs & ~given).sum()), where)
        for count, why in ((int(given.sum()), "put on record otherwise"), (int((~there).sum()), _ERASED)):
            if count:
                self._of_energy.leave_out(why, count)
        rows = again.rows()
        rows[np.flatnonzero(there)[given]] = against.rows()[given]
        return Energy.from_rows(rows)

    def _conserves(self, interval: int) -> bool:
        rules = self._state.book.at(self._state.date_of(interval)).timetable
        return rules.gap_energy is GapEnergy.CONSERVED

    # Clearings

    def _cleared(self, interval: int) -> dict[int, Cleared]:
        number, journal = self._state.topology.number, self._record.journal
        entries = [*journal.find(kind=Clearings.kind, market=REAL_TIME, interval=interval)]
        entries += journal.find(kind=Clearings.kind, market=PRICE_RUN, interval=interval)
        # a price run settles instead of its gate
        last = {number[self._record.header(entry).feeder]: entry for entry in entries}
        return {feeder: cleared_at(self._record, entry) for feeder, entry in last.items()}

    # Money

    def _compare_day(self, feeder: int, first: int, day: _Day) -> None:
        where = f"{self._names[feeder]}, {self._state.date_of(first)}"
        closed = self._first_closed.get((feeder, first))
        before = None if closed is None else self._record.table(closed, FeederDays)
        if before is not None and closed is not None and len(before) != self._record.header(closed).rows:
            day.whole = False
        if not day.whole:
            self._of_settlement.leave_out(f"days {_ERASED}")
            return
        bounds = self._state.day_range(first)
        recorded = DaySums()
        for _, postings in booked(self._record, self._posted.get((feeder, first), ())):
            recorded.add(postings.take((postings.interval >= bounds.start) & (postings.interval < bounds.stop)))
        key = feeder, first
        shares = before is not None and self._moved_at.get(key, -1) < self._shared_at[key]
        if before is not None and shares:
            rules = self._state.book.at(self._state.date_of(first)).settlement
            day.again.add(close_again(first, len(bounds), before, day.again, rules))
        elif before is not None:
            self._of_settlement.leave_out("days whose pools wait to be shared anew")
        self._of_settlement.compare(*day.again.differences(recorded, with_shares=shares), where)


def _metered(connected: Connected, feeder: int, energy: Energy, first: Energy, cleared: Cleared) -> Metered:
    """Energy of a feeder by party; the substation's row is the last."""
    here = connected.on(feeder)
    keys: IntArray = party_keys(connected.customer[here], connected.node[here])
    order: NDArray[np.intp] = np.argsort(keys, kind="stable")
    counted = counted_feed_in(first, connected.customer[here][order], cleared.clearing)
    return Metered(keys[order], energy.take(order), energy.take([len(energy) - 1]), counted)
