"""What the operator knows: a fold of the market's journal, and nothing else (law 3).

Verbs read it, append records, commit, and then hand *the records* to `State.apply`; opening hands it the same records
from the journal. There is no second way in. What stands in the intake's journal (bids, readings, connections) is
looked up there by the cut that a record of the market names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from tellegen.operations.accounts import Accounts
from tellegen.operations.credit import Exposure
from tellegen.operations.delivery import CoarseMeters, Deliveries, awarded_by
from tellegen.operations.devices import Devices
from tellegen.operations.meters import Meters, standing_of
from tellegen.operations.positions import Position, scheduled_wh
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import day_ahead_at, day_bounds, day_number, day_of, periods, real_time_at, settle_at
from tellegen.operations.topology import Connected, Topology
from tellegen.records import (
    OPERATOR,
    AllocationKeys,
    Clearings,
    ClearingStatus,
    CloseKind,
    Closes,
    Edits,
    Energy,
    ErasureRequests,
    Erasures,
    GateOutcome,
    Gates,
    Header,
    Holds,
    Line,
    MeterStates,
    Orders,
    Postings,
    Readings,
    Requirements,
    RootPrices,
    Schedules,
    Snapshots,
    Statements,
    Table,
    Taps,
    Unsettled,
    ValidationRule,
)
from tellegen.records.market import DAY_AHEAD, MARKETS, PRICE_RUN, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.rules.price_run import PriceRun
from tellegen.units import IntArray

GATE, READ = "gate/", "read/"
"""Beginnings of the names of what follows from a gate, and from readings; the cut comes behind."""
CLOSE = "day close"
DAYS_LOOKED_UP_MAX = 10_000
"""Intervals whose day is not looked up again."""
REMAINS = "erased"
"""Name of a batch with what is left of an erased customer's postings in the batch it names as its cause."""
NONE = -1


def cut_of(header: Header) -> int:
    """The size of the intake's journal that a record's name says it was made of."""
    return int(header.name.partition("/")[2])


@dataclass(slots=True)
class Gate:
    """A gate that was closed.

    Attributes
    ----------
    entry : journal index of its record. cut : size of the intake's journal below which bids count.
    rows : of the record, by feeder, then period.
    cleared : int64[feeders, periods], journal index of each clearing; `NONE` before.
    """

    entry: int
    cut: int
    rows: Gates
    cleared: IntArray

    @property
    def periods(self) -> int:
        """How many periods it is about."""
        return int(self.cleared.shape[1])

    def is_complete(self, market: str) -> bool:
        """Whether every feeder is cleared, or never will be."""
        waits = self.rows.outcome.reshape(self.cleared.shape) == GateOutcome.CLOSED if market == DAY_AHEAD else True
        return not bool(((self.cleared == NONE) & waits).any())

    def outcome(self, feeder: int, period: int = 0) -> GateOutcome:
        """Whether a feeder is cleared."""
        return GateOutcome(int(self.rows.outcome[feeder * self.periods + period]))


@dataclass(slots=True)
class OpenDay:
    """A feeder's billing day that is not closed: what was posted of it, and for how long who was connected."""

    sums: LineSums = field(default_factory=LineSums)
    customer: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    connected: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def forget(self, customer: IntArray) -> None:
        """Leave customers out that were erased."""
        kept = ~np.isin(self.customer, customer)
        self.customer, self.connected = self.customer[kept], self.connected[kept]
        self.sums.drop(customer)

    def count(self, customer: IntArray) -> None:
        """Customers (ascending) were connected for one more interval."""
        if np.array_equal(customer, self.customer):
            self.connected += 1
            return
        together = np.union1d(self.customer, customer)
        counts = np.zeros(together.size, dtype=np.int64)
        counts[np.searchsorted(together, self.customer)] = self.connected
        counts[np.searchsorted(together, customer)] += 1
        self.customer, self.connected = together, counts


class State:
    """The fold of the market's journal.

    Parameters
    ----------
    topology : the shard's feeders. book : its rules.
    readings : those that count of an interval, below a size of the intake's journal, of who is connected
        (`ShardRecord.registers`).
    """

    def __init__(self, topology: Topology, book: Rulebook, readings: Callable[[int, int, Connected], Readings]) -> None:
        self.topology, self.book, self._readings = topology, book, readings
        feeders = len(topology.feeders)
        self.size = 0
        self.root_prices: dict[tuple[str, int], int] = {}
        self.gates: dict[tuple[str, int], Gate] = {}
        self.requirements: dict[tuple[str, int], tuple[int, ...]] = {}  # entries, by market and first interval
        self.start_from = {market: np.full(feeders, NONE, dtype=np.int64) for market in MARKETS}
        self.spread_from = np.full(feeders, NONE, dtype=np.int64)
        self.run_spread_from = np.full(feeders, NONE, dtype=np.int64)
        self.taps_from = np.full(feeders, NONE, dtype=np.int64)  # entry of where taps stand; NONE: as in the document
        self.exposed: dict[int, Exposure] = {}  # by first interval of a day-ahead gate that is not complete
        self.positions: dict[tuple[int, int], Position] = {}  # by feeder and first interval of the day
        self.reads: dict[int, int] = {}
        self.first = NONE  # the first interval that was settled
        self.settled = NONE  # the last one
        self.final_until = NONE  # days before this interval are final
        self.meters = Meters()
        self.accounts = Accounts()
        self.deliveries = Deliveries()
        self.days: dict[tuple[int, int], OpenDay] = {}  # by feeder and first interval of the day
        self.late: dict[tuple[int, int], LineSums] = {}  # posted of days that are closed, and not invoiced yet
        self.since_close: dict[tuple[int, int], LineSums] = {}  # posted of days since they were first closed
        self.edits: dict[tuple[int, int], tuple[int, ...]] = {}  # entries of edits, by feeder and day
        self.keys: dict[tuple[int, int], AllocationKeys] = {}
        self.after_gap: dict[int, IntArray] = {}  # customers whose gap an interval ended, of days that are open
        self.closed: dict[tuple[int, int], CloseKind] = {}
        self.corrected_until = 0
        self.dirty: set[tuple[int, int]] = set()
        self.requested: dict[int, int] = {}  # first local day on which a customer may be erased, as days since 1970
        self.erased: set[int] = set()
        self.snapshot_at = NONE
        self._energy: list[Energy] = []
        self._billed: list[IntArray] = []  # invoiced by the close that is being taken in
        self._looked_up: dict[int, tuple[date, range]] = {}
        self._takes: dict[str, Callable[[int, Header, Table], None]] = {
            RootPrices.kind: self._root_prices,
            Requirements.kind: self._required,
            Gates.kind: self._gates,
            Schedules.kind: self._schedules,
            Clearings.kind: self._clearing,
            Taps.kind: self._taps,
            Energy.kind: self._energy_of,
            Holds.kind: self._holds,
            Edits.kind: self._edits,
            Unsettled.kind: self._corrected,
            MeterStates.kind: self._meter_states,
            Postings.kind: self._postings,
            Statements.kind: self._statements,
            AllocationKeys.kind: self._keys,
            Closes.kind: self._closes,
            ErasureRequests.kind: self._requests,
            Erasures.kind: self._erasures,
            Snapshots.kind: self._snapshots,
        }

    def reads_kind(self, kind: str) -> bool:
        """Whether the fold reads the rows of a kind; others it passes over."""
        return kind in self._takes

    def apply(self, index: int, header: Header, table: Table | None) -> None:
        """Take in the next record of the market's journal; None in place of rows that the fold passes over."""
        if table is not None and header.kind in self._takes:
            self._takes[header.kind](index, header, table)
        self.size = index + 1

    # Time

    def gate_at(self, market: str, first: int) -> int:
        """When a gate closes, seconds since the epoch; a price run when its interval settles."""
        if market == DAY_AHEAD:
            return day_ahead_at(self.book, day_of(self.book, first))
        return settle_at(self.book, first) if market == PRICE_RUN else real_time_at(self.book, first)

    def date_of(self, interval: int) -> date:
        """The billing day that an interval belongs to."""
        return self._day(interval)[0]

    def day_range(self, interval: int) -> range:
        """All intervals of the billing day that an interval belongs to."""
        return self._day(interval)[1]

    def _day(self, interval: int) -> tuple[date, range]:
        if interval not in self._looked_up:
            if len(self._looked_up) >= DAYS_LOOKED_UP_MAX:
                self._looked_up.clear()
            day = day_of(self.book, interval)
            self._looked_up[interval] = day, day_bounds(self.book, day)
        return self._looked_up[interval]

    def periods(self, market: str, first: int) -> tuple[range, ...]:
        """Intervals of each period of a gate."""
        return periods(self.day_range(first)) if market == DAY_AHEAD else (range(first, first + 1),)

    def connected(self, market: str, first: int, interval: int) -> Connected:
        """Who is connected in an interval, as known when a gate closed."""
        return self.topology.connected(interval, self.gate_at(market, first) - 1)

    # Deliveries

    def holding(self, interval: int) -> PriceRun | None:
        """The rules of an interval, where they hold those back who claim and do not deliver."""
        rules = self.book.at(self.date_of(interval)).price_run
        return rules if rules is not None and rules.hold_hours else None

    def _stand(self, interval: int) -> IntArray:
        """Customers who may stand at what their meters showed last in the real-time gate of an interval, ascending."""
        rules = self.book.at(self.date_of(interval)).price_run
        return self.meters.standing.customer if rules is not None and rules.absent_stand else self.held(interval)

    def held(self, interval: int) -> IntArray:
        """Customers whose real-time orders for an interval do not count, ascending."""
        return self.deliveries.held(interval) if self.holding(interval) is not None else np.zeros(0, dtype=np.int64)

    def to_hold(self, interval: int, energy: Energy) -> Holds:
        """Who is to be held as an interval settles, from the first gate that is not on record yet."""
        rules = self.holding(interval)
        if rules is None:
            return Holds.empty()
        following = 1 + max(first for market, first in self.gates if market == REAL_TIME)
        return self.deliveries.over(interval, energy, rules, following, self._coarse(interval))

    def _coarse(self, interval: int) -> CoarseMeters:
        """Whose meters are coarse in an interval."""
        connected = self.connected(REAL_TIME, interval, interval)
        rows = np.flatnonzero(connected.reads_every > 1)
        rows = rows[np.argsort(connected.customer[rows])]
        return CoarseMeters(connected.customer[rows], connected.reads_every[rows])

    def devices(self, market: str, first: int, orders: Sequence[Orders]) -> tuple[Devices, ...]:
        """Assets behind the orders of each period of a gate, as known when it closed."""
        begins = [hours.start for hours in self.periods(market, first)]
        return self.topology.devices(orders, begins, self.gate_at(market, first) - 1)

    # Gates

    def _root_prices(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, RootPrices)
        for interval, micros in zip(table.interval.tolist(), table.micros.tolist(), strict=True):
            self.root_prices[header.market, interval] = micros

    def _required(self, index: int, header: Header, table: Table) -> None:
        key = header.market, header.interval
        self.requirements[key] = (*self.requirements.get(key, ()), index)

    def _gates(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Gates)
        key = header.market, header.interval
        gate = self.gates.get(key)
        if gate is None:
            feeders = len(self.topology.feeders)
            cleared = np.full((feeders, len(table) // feeders), NONE, dtype=np.int64)
            self.gates[key] = Gate(index, cut_of(header), table, cleared)
            if header.market == REAL_TIME:
                self.deliveries.show(header.interval, *self.meters.last_net(self._stand(header.interval)))
            if header.market == DAY_AHEAD:
                self._expose(header.interval)
            return
        rows = gate.rows.rows()
        place = {(row["feeder"].item(), int(row["interval"])): k for k, row in enumerate(rows)}
        for row in table.rows():
            rows[place[row["feeder"].item(), int(row["interval"])]] = row
        gate.rows = Gates.from_rows(rows)
        self._cover()

    def _expose(self, first: int) -> None:
        """What everybody owes as a day-ahead gate closes, where the rules give credit; kept until it is complete."""
        rule = self.book.at(self.date_of(first)).credit
        if rule is not None:
            self.exposed[first] = Exposure.of(self.accounts, self.positions.values(), self.settled, rule)
            self._cover()

    def _cover(self) -> None:
        """Drop exposures as of gates that are complete."""
        for first in list(self.exposed):
            gate = self.gates.get((DAY_AHEAD, first))
            if gate is None or gate.is_complete(DAY_AHEAD):
                del self.exposed[first]

    def _gate_of(self, header: Header) -> tuple[Gate, int, int]:
        """The gate that a clearing belongs to, its feeder and its period."""
        first = self.day_range(header.interval).start if header.market == DAY_AHEAD else header.interval
        period = (header.interval - first) // self.period_intervals(header.market)
        return self.gates[header.market, first], self.topology.number[header.feeder], period

    @staticmethod
    def period_intervals(market: str) -> int:
        """Market intervals of a whole period."""
        return 12 if market == DAY_AHEAD else 1

    def _schedules(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Schedules)
        self.accounts.carry(header.market, table)
        if header.market == DAY_AHEAD:
            day = self.day_range(header.interval)
            key = self.topology.number[header.feeder], day.start
            if key not in self.positions:
                self.positions[key] = Position(day.start, len(periods(day)))
            customer, node = table.customer.astype(np.int64), table.node.astype(np.int64)
            self.positions[key].add(header.interval, customer, node, scheduled_wh(table), NONE)
        elif self.holding(header.interval) is not None:
            self.deliveries.award(header.interval, *awarded_by(table))

    def _clearing(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Clearings)
        gate, feeder, period = self._gate_of(header)
        gate.cleared[feeder, period] = index
        status = int(table.status[0])
        if header.market == PRICE_RUN:
            if status != ClearingStatus.ADMINISTRATIVE:
                self.run_spread_from[feeder] = index
            return
        if status in (ClearingStatus.OPTIMAL, ClearingStatus.RELAXED):
            self.start_from[header.market][feeder] = index
        if status != ClearingStatus.ADMINISTRATIVE and header.market == REAL_TIME:
            self.spread_from[feeder] = index
        if header.market == REAL_TIME and gate.is_complete(REAL_TIME):
            self.deliveries.drop_shown(header.interval)
        if header.market == DAY_AHEAD:
            day = self.day_range(header.interval)
            position = self.positions.setdefault((feeder, day.start), Position(day.start, len(periods(day))))
            position.clearing[period] = index
            if (gate.cleared[feeder] != NONE).all():
                self._cover()

    def _taps(self, index: int, header: Header, table: Table) -> None:
        self.taps_from[self.topology.number[header.feeder]] = index

    # Settlement

    def _energy_of(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Energy)
        feeder, interval = self.topology.number[header.feeder], header.interval
        theirs = table.take(table.customer != OPERATOR)
        root = table.take(table.customer == OPERATOR)
        number = np.full(len(root), self.topology.feeders[feeder].substation, dtype=np.int32)
        self._energy += [theirs, replace(root, customer=number)]
        day = self.days.setdefault((feeder, self.day_range(interval).start), OpenDay())
        day.count(np.sort(theirs.customer.astype(np.int64)))
        self.reads[interval] = cut_of(header)
        if len(self._energy) == 2 * len(self.topology.feeders):
            energy, self._energy = Energy.concat(self._energy), []
            ended = energy.customer[energy.rule == ValidationRule.AFTER_GAP].astype(np.int64)
            if ended.size:
                self.after_gap[interval] = ended
            connected = self.connected(REAL_TIME, interval, interval)
            readings = self._readings(interval, self.reads[interval], connected)
            self.meters.apply(interval, readings, energy, connected)
            self.deliveries.settle(interval, energy, self._coarse(interval))
            self.settled = interval
            self.first = interval if self.first == NONE else self.first

    def _holds(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Holds)
        self.deliveries.hold(table)

    def _edits(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Edits)
        feeder = self.topology.number[header.feeder]
        for day in {self.day_range(interval).start for interval in np.unique(table.interval).tolist()}:
            self.edits[feeder, day] = (*self.edits.get((feeder, day), ()), index)
        if header.name.startswith(READ):  # a correction by authority takes no readings
            self._corrected(index, header, table)

    def _corrected(self, index: int, header: Header, table: Table) -> None:
        self.corrected_until = max(self.corrected_until, cut_of(header))

    def _meter_states(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, MeterStates)
        self.meters.replace(standing_of(table))

    def _postings(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Postings)
        if header.name == REMAINS:  # what customers owed who are erased is nobody's any more
            return
        feeder = self.topology.number[header.feeder]
        self.accounts.post(table)
        for day, rows in self._by_day(table):
            postings = table if rows is None else table.take(rows)
            if day < self.final_until:
                continue  # what was left of an erased customer
            drawn = postings.take((postings.line == Line.NETWORK_ENERGY) & (postings.account > 0))
            self.accounts.withdraw(day_number(day_of(self.book, day)), drawn.account, drawn.quantity)
            key = feeder, day
            if key not in self.closed:
                self.days.setdefault(key, OpenDay()).sums.add(postings)
                continue
            for sums in (self.late, self.since_close):
                sums.setdefault(key, LineSums()).add(postings)
            if header.name != CLOSE:
                self.dirty.add(key)

    def _by_day(self, postings: Postings) -> list[tuple[int, IntArray | None]]:
        """First interval of each billing day that postings are about, with their rows; None: all."""
        if len(postings):
            day = self.day_range(int(postings.interval[0]))
            if int(postings.interval.min()) >= day.start and int(postings.interval.max()) < day.stop:
                return [(day.start, None)]
        starts: dict[int, list[int]] = {}
        for interval in np.unique(postings.interval).tolist():
            starts.setdefault(self.day_range(interval).start, []).append(interval)
        return [(day, np.flatnonzero(np.isin(postings.interval, inside))) for day, inside in starts.items()]

    def _statements(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Statements)
        billed = np.unique(table.customer.astype(np.int64))
        self.accounts.invoiced(billed)
        self._billed.append(billed)

    def _keys(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, AllocationKeys)
        self.keys[self.topology.number[header.feeder], header.interval] = table

    def _closes(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Closes)
        key = self.topology.number[header.feeder], int(table.first_interval[0])
        kind = self.closed[key] = CloseKind(int(table.close_kind[0]))
        self.dirty.discard(key)
        day = range(key[1], key[1] + int(table.intervals[0]))
        if kind is CloseKind.FINAL and self.is_final(key[1]):
            self._finish(day)
        elif kind is CloseKind.FIRST:
            self.days.pop(key, None)
            self.positions.pop(key, None)
            self.keys.pop(key, None)  # who shares a day anew finds them in its first close
            if self.is_closed(key[1]):
                self._drop_billed()
                self._forget(day)

    def _drop_billed(self) -> None:
        """What came late is owed no more by those who were invoiced, on whatever feeder."""
        billed = np.concatenate(self._billed)
        self._billed = []
        for key, sums in list(self.late.items()):
            sums.drop(billed)
            if not sums.customer.size:
                del self.late[key]

    def is_closed(self, day: int) -> bool:
        """Whether a day (by its first interval) has been closed on every feeder."""
        return day < self.final_until or all((k, day) in self.closed for k in range(len(self.topology.feeders)))

    def is_final(self, day: int) -> bool:
        """Whether nothing of a day (by its first interval) may change any more."""
        kinds = (self.closed.get((k, day)) for k in range(len(self.topology.feeders)))
        return day < self.final_until or all(kind is CloseKind.FINAL for kind in kinds)

    def _finish(self, day: range) -> None:
        """What is kept for corrections of a day is needed no more: it is final on every feeder."""
        self.final_until = max(self.final_until, day.stop)
        self.reads = {interval: cut for interval, cut in self.reads.items() if interval >= self.final_until}
        for kept in (self.closed, self.edits, self.since_close):
            for key in [key for key in kept if key[1] < self.final_until]:
                del kept[key]

    def _forget(self, day: range) -> None:
        """Gates and prices of a closed day stand in the journal; who needs them again finds them there."""
        self.gates = {key: gate for key, gate in self.gates.items() if key[1] >= day.stop}
        self.requirements = {key: each for key, each in self.requirements.items() if key[1] >= day.stop}
        self.after_gap = {interval: who for interval, who in self.after_gap.items() if interval >= day.stop}
        self.root_prices = {key: micros for key, micros in self.root_prices.items() if key[1] >= day.stop}
        longest = max(rules.trailing_days for rules in self.book.versions)
        self.accounts.forget_days(day_number(day_of(self.book, day.start)) - longest)

    # Upkeep

    def _requests(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, ErasureRequests)
        self.requested |= dict(zip(table.customer.tolist(), table.due_day.tolist(), strict=True))

    def _erasures(self, index: int, header: Header, table: Table) -> None:
        assert isinstance(table, Erasures)
        gone = table.customer.astype(np.int64)
        self.erased |= set(gone.tolist())
        self.requested = {who: day for who, day in self.requested.items() if who not in self.erased}
        self.accounts.forget(gone)
        self.meters.forget(gone)
        self.deliveries.forget(gone)
        self.exposed = {first: each.without(gone) for first, each in self.exposed.items()}
        for position in self.positions.values():
            position.forget(gone)
        for sums in (*self.late.values(), *self.since_close.values()):
            sums.drop(gone)
        for day in self.days.values():
            day.forget(gone)
        self.keys = {key: keys.take(~np.isin(keys.customer, gone)) for key, keys in self.keys.items()}

    def _snapshots(self, index: int, header: Header, table: Table) -> None:
        self.snapshot_at = index
