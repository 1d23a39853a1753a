"""From the record to the tasks of a gate: for each feeder all that its clearings are a function of."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from tellegen.grid import Engine
from tellegen.market import Agreements, can_start
from tellegen.market.facts import CARRIED
from tellegen.metering.load_profile import Quantity
from tellegen.operations.awarded import AwardedPower, SpanAwards
from tellegen.operations.book import Book
from tellegen.operations.credit import Credit, OwnLimits
from tellegen.operations.devices import Devices
from tellegen.operations.gate import Before, Delivered, GateTask, Held, Period
from tellegen.operations.positions import parties_of
from tellegen.operations.price_run import MeteredPower
from tellegen.operations.record import ShardRecord
from tellegen.operations.relief import NO_PRICE, Knowledge
from tellegen.operations.state import NONE, State, cut_of
from tellegen.operations.topology import Connected, Feeder
from tellegen.records import (
    COLD,
    Awards,
    Clearings,
    ClearingStatus,
    Energy,
    Gates,
    Orders,
    Prices,
    RecordError,
    Starts,
    Taps,
)
from tellegen.records.market import DAY_AHEAD, PRICE_RUN, REAL_TIME
from tellegen.rules.credit import CreditRule
from tellegen.rules.price_run import PriceRun
from tellegen.units import INTERVALS_PER_HOUR, IntArray

W_PER_KW = 1_000.0
_NOTHING = np.zeros(0, dtype=np.int64)


def before_of(record: ShardRecord, state: State, clearing: int) -> Before:
    """What is on record of the clearing that another starts from.

    Raises
    ------
    RecordError : the entry is no clearing that one can start from.
    """
    header = record.header(clearing)
    first = header.interval
    if header.market == DAY_AHEAD:
        first = state.day_range(first).start
    periods = state.periods(header.market, first)
    period = next(k for k, hours in enumerate(periods) if header.interval in hours)
    book = Book.of(record, header.market, periods, cut_of(header), record.cause(clearing, Gates), {header.feeder})
    try:
        starts = record.table(record.cause(clearing, Starts), Starts)
        awards = record.table(record.cause(clearing, Awards), Awards)
    except KeyError:
        raise RecordError(f"entry {clearing} of the market's journal is no clearing to start from") from None
    row = book.rows_of(header.feeder, period, awards.customer, awards.order)
    if (row < 0).any():
        raise RecordError(f"entry {clearing} of the market's journal: awards of orders that nobody can read any more")
    prices = record.table(record.cause(clearing, Prices), Prices)
    counted = replace(awards, order=row.astype(np.int32))
    return Before(prices, starts, counted, book.orders(header.feeder, period))


def spread_of(record: ShardRecord, clearing: int) -> IntArray:
    """Price of energy at every node less that of the root, as a clearing put them on record; micro-currency/kWh."""
    prices = record.table(record.cause(clearing, Prices), Prices)
    root = int(record.table(clearing, Clearings).root_price[0])
    return np.asarray(prices.energy - root)


class TaskMaker:
    """Makes the tasks of gates; keeps what the last ones left, as it stands on record, so as not to read it again.

    Parameters
    ----------
    engine : who eliminates.
    """

    def __init__(self, record: ShardRecord, state: State, engine: Engine) -> None:
        self.record, self._state, self._engine = record, state, engine
        self._before: dict[int, Before] = {}
        self._spread: dict[int, IntArray] = {}
        self._awards: OrderedDict[int, tuple[IntArray, AwardedPower]] = OrderedDict()
        self._connected: dict[str, tuple[int, list[Connected], IntArray]] = {}
        self._highest: dict[int, tuple[tuple[int, ...], IntArray]] = {}
        self._limits: tuple[list[Connected], OwnLimits] | None = None

    def keep(self, clearing: int, before: Before, root_price: int) -> None:
        """Remember what a clearing put on record, for the gate after it."""
        self._before[clearing] = before
        self._spread[clearing] = np.asarray(before.prices.energy - root_price)

    def task(self, market: str, first: int, feeder: int, book: Book) -> GateTask:
        """The task of one feeder at a gate that is on record."""
        state, record = self._state, self.record
        gate, wires = state.gates[market, first], record.feeders[feeder]
        rules = state.book.at(state.date_of(first))
        books = [book.orders(wires.name, k) for k in range(gate.periods)]
        devices = self._devices(market, first, books, rules.price_run)
        known = None if rules.pivotal is None else self._known(market, first, feeder, self._everybody(market, first))
        periods = []
        connected = []
        for k, (hours, everybody) in enumerate(
            zip(state.periods(market, first), self._everybody(market, first), strict=True)
        ):
            here = everybody.on(feeder)
            row = feeder * gate.periods + k
            connected.append(everybody.customer[here])
            held, absent = self._standing(market, first, everybody, here, books[k], rules.price_run)
            periods.append(
                Period(
                    first=hours.start,
                    intervals=len(hours),
                    root_price_micros=int(gate.rows.root_price[row]),
                    orders=books[k],
                    customer=everybody.customer[here],
                    node=everybody.node[here],
                    capacity_w=everybody.capacity_w[here],
                    held=held,
                    absent=absent,
                    devices=devices[k],
                    known=None if known is None else known[k],
                )
            )
        customer = connected[0] if len(connected) == 1 else np.unique(np.concatenate(connected))
        row = feeder * gate.periods
        start, spread = int(gate.rows.start[row]), int(gate.rows.spread_from[row])
        return GateTask(
            feeder=wires.name,
            market=market,
            periods=tuple(periods),
            network=wires.network_name,
            parameters=rules.market,
            customer=customer,
            carry=self._carry(market, first, customer),
            root_limit_kw=wires.root_limit_kw,
            start=None if start == NONE else self._start(start),
            spread_micros=None if spread == NONE else self._last_spread(spread),
            agreements=agreements_of(self._everybody(market, first), feeder),
            pivotal=rules.pivotal,
            price_run=rules.price_run,
            credit=self._credit(market, first, feeder, customer, rules.credit),
            taps=self._taps(wires, int(gate.rows.taps_from[row])),
            engine=self._engine,
        )

    def _standing(
        self, market: str, interval: int, connected: Connected, here: slice, orders: Orders, rules: PriceRun | None
    ) -> tuple[Held, Held]:
        """Who of a feeder is on hold at a gate, and who sent it no orders."""
        if market != REAL_TIME or rules is None:
            return Held.nobody(), Held.nobody()
        customer = connected.customer[here]
        held = np.isin(customer, self._state.held(interval))
        absent = ~held & ~np.isin(customer, orders.customer) & rules.absent_stand
        at_hold, at_absence = (here.start + np.flatnonzero(who) for who in (held, absent))
        return self._usual(interval, connected, at_hold, rules), self._usual(interval, connected, at_absence, rules)

    def _usual(self, interval: int, connected: Connected, rows: IntArray, rules: PriceRun) -> Held:
        """Some customers at their usual metered use within their connections: what a meter showed last, for nothing is
        nearer to what its home does; where that is not known, as validation would estimate it.
        """
        if not rows.size:
            return Held.nobody()
        state, customer = self._state, connected.customer[rows]
        found, net = state.deliveries.shown(interval, customer)
        if not found.all():
            cut = state.gates[REAL_TIME, interval].cut  # profiles of the past below it count
            profile = self.record.past(cut).estimates(customer[~found], interval).profile
            net[0, ~found] = profile[Quantity.WITHDRAWN] - profile[Quantity.INJECTED]
        limits = -connected.export_limit_w[rows], connected.import_limit_w[rows]
        usual_w, usual_var = net * INTERVALS_PER_HOUR
        return Held(customer, np.clip(usual_w, *limits), usual_var * rules.stand_reactive)

    def _credit(
        self, market: str, first: int, feeder: int, customer: IntArray, rule: CreditRule | None
    ) -> Credit | None:
        """What customers may still come to owe, by their limits in their first period of the gate; None: anything."""
        if market != DAY_AHEAD or rule is None:
            return None
        everybody = self._everybody(market, first)
        if self._limits is None or self._limits[0] is not everybody:  # once per gate, not for each feeder
            self._limits = everybody, OwnLimits.of(_distinct(everybody))
        return Credit.of(rule, self._limits[1].on(feeder, customer), self._state.exposed[first].at(customer))

    def _devices(
        self, market: str, first: int, books: list[Orders], rules: PriceRun | None
    ) -> tuple[Devices | None, ...]:
        """What is registered of the devices behind the orders of a gate's periods; None where no rule asks."""
        if rules is None or not rules.within_devices:
            return (None,) * len(books)
        return self._state.devices(market, first, books)

    def _taps(self, feeder: Feeder, entry: int) -> IntArray:
        """Where taps stand, in steps away from the network's document."""
        if entry == NONE:
            return np.zeros(feeder.movable, dtype=np.int64)
        return self.record.table(entry, Taps).step.astype(np.int64)

    def _everybody(self, market: str, first: int) -> list[Connected]:
        """Who is connected in each period of a gate; periods in which nobody moves share one answer."""
        known = self._connected.get(market)
        if known is None or known[0] != first:
            found: list[Connected] = []
            for hours in self._state.periods(market, first):
                connected = self._state.connected(market, first, hours.start)
                found.append(found[-1] if found and found[-1].same(connected) else connected)
            # Once per gate: it takes everybody, and a gate has a task for each feeder.
            known = self._connected[market] = first, found, movers(_distinct(found))
        return known[1]

    def _carry(self, market: str, first: int, customer: IntArray) -> IntArray:
        """What is carried on to each customer of a feeder.

        Who moves to another feeder within the gate begins with nothing on either: which feeder is cleared first must
        not matter.
        """
        self._everybody(market, first)
        carry = self._state.accounts.carry_of(market, customer)
        carry[np.isin(customer, self._connected[market][2])] = 0
        return carry

    def run_task(self, interval: int, feeder: int, connected: Connected, energy: Energy) -> GateTask | None:
        """The task of a feeder's price run; None where too many of its meters are missing.

        Parameters
        ----------
        connected : everybody in the interval. energy : of the feeder's customers, in that order.

        Raises
        ------
        RecordError : awards of orders, or energy, that nobody can read any more.
        """
        state = self._state
        gate, wires = state.gates[REAL_TIME, interval], self.record.feeders[feeder]
        clearing, rules = int(gate.cleared[feeder, 0]), state.book.at(state.date_of(interval))
        if rules.price_run is None:
            return None
        here = connected.on(feeder)
        if not np.array_equal(energy.customer, connected.customer[here]):
            raise RecordError(
                f"interval {interval} of {wires.name}: energy of customers who are not all there any more"
            )
        metered_by = connected.customer[here]
        metered = MeteredPower.of(
            energy,
            connected.node[here],
            connected.import_limit_w[here],
            connected.export_limit_w[here],
            self._span_awards(feeder, interval, metered_by, connected.reads_every[here]),
        )
        if metered.too_much_missing(rules.price_run.missing_ppm):
            return None
        before, held = self._start(clearing), np.intersect1d(state.held(interval), metered.customer)
        spread = int(state.run_spread_from[feeder])
        return GateTask(
            feeder=wires.name,
            market=PRICE_RUN,
            periods=(
                Period(
                    first=interval,
                    intervals=1,
                    root_price_micros=int(gate.rows.root_price[feeder]),
                    orders=before.orders,
                    customer=metered.customer,
                    node=metered.node,
                    capacity_w=connected.capacity_w[here],
                    held=Held(held, *np.zeros((2, held.size), dtype=np.int64)),  # meters show what they do
                    devices=self._devices(REAL_TIME, interval, [before.orders], rules.price_run)[0],
                    delivered=Delivered(
                        before.awards.by_order(len(before.orders)),
                        before.prices,
                        metered,
                        self._sold_at(feeder, interval),
                    ),
                    known=None if rules.pivotal is None else self._known(REAL_TIME, interval, feeder, [connected])[0],
                ),
            ),
            network=wires.network_name,
            parameters=rules.market,
            customer=metered.customer,
            carry=np.zeros((metered.customer.size, CARRIED), dtype=np.int64),
            root_limit_kw=wires.root_limit_kw,
            start=before if self.starts_run(clearing) != COLD else None,
            spread_micros=None if spread == NONE else self._last_spread(spread),
            pivotal=rules.pivotal,
            price_run=rules.price_run,
            taps=self._taps(wires, int(gate.rows.taps_from[feeder])),
            engine=self._engine,
        )

    def _known(self, market: str, first: int, feeder: int, connected: list[Connected]) -> list[Knowledge]:
        """What the record said of relief in each period when a gate closed; a price run goes by its gate's."""
        state, gate = self._state, self._state.gates[market, first]
        begins = [hours.start for hours in state.periods(market, first)]
        if market == DAY_AHEAD:
            prices = gate.rows.root_price[feeder * gate.periods : (feeder + 1) * gate.periods]
            later = [np.array([prices[k + 1 :].max(initial=NO_PRICE)], dtype=np.int64) for k in range(gate.periods)]
        else:
            later = [self._later(begin, feeder, gate.entry) for begin in begins]
        rows = [each.on(feeder) for each in connected]
        customer = [each.customer[here] for each, here in zip(connected, rows, strict=True)]
        devices = state.topology.sellers(customer, begins, state.gate_at(market, first) - 1)
        export_w = [each.export_limit_w[here] for each, here in zip(connected, rows, strict=True)]
        return [Knowledge(*each) for each in zip(later, devices, export_w, strict=True)]

    def _later(self, interval: int, feeder: int, known_by: int) -> IntArray:
        """Highest price of a day-ahead hour to come at each node, as on record below an entry of the journal."""
        day = self._state.day_range(interval)
        hours = []
        for start, after in ((day.start, interval), (day.stop, day.stop - 1)):
            position = self._state.positions.get((feeder, start))
            if position is not None:
                begun = (after - start) // INTERVALS_PER_HOUR + 1
                hours += [hour for hour in position.clearing[begun:].tolist() if NONE < hour < known_by]
        kept = self._highest.get(feeder)
        if kept is None or kept[0] != tuple(hours):
            tables = [self.record.table(self.record.cause(hour, Prices), Prices).energy for hour in hours]
            highest = np.max(tables, axis=0) if tables else np.array([NO_PRICE], dtype=np.int64)
            kept = self._highest[feeder] = tuple(hours), highest
        return kept[1]

    def _span_awards(self, feeder: int, interval: int, customer: IntArray, every: IntArray) -> SpanAwards | None:
        """What coarse meters on a feeder were awarded, as means over the intervals of their spans that were cleared.

        Who came from another feeder within a span was awarded nothing before on this one.
        """
        coarse = np.flatnonzero(every > 1)
        if not coarse.size:
            return None
        whose = customer[coarse]
        means = AwardedPower.of(Orders.empty(), _NOTHING, whose)
        for span in np.unique(every[coarse]).tolist():
            first = interval - interval % span
            awarded = [self._awarded(feeder, t, whose) for t in range(first, first + span)]
            here = np.flatnonzero(every[coarse] == span)
            mean = AwardedPower.mean([each for each in awarded if each is not None])
            means = means.replaced(here, mean.take(here))
        return SpanAwards(coarse, means)

    def _awarded(self, feeder: int, interval: int, customer: IntArray) -> AwardedPower | None:
        """What some customers (ascending) were awarded at the gate of an interval; None where it was not cleared."""
        record = self.record
        entries = record.about(Clearings, record.feeders[feeder].name, interval, REAL_TIME)
        if not entries or int(record.table(entries[-1], Clearings).status[0]) == ClearingStatus.ADMINISTRATIVE:
            return None
        key = entries[-1]
        if key not in self._awards:
            before = self._start(key)
            whose = np.unique(before.orders.customer).astype(np.int64)
            awards = before.awards.by_order(len(before.orders))
            self._awards[key] = whose, AwardedPower.of(before.orders, awards, whose)
            kept = self._state.book.at(self._state.date_of(interval)).timetable.longest_meter_intervals + 1
            while len(self._awards) > kept * len(record.feeders):
                self._awards.popitem(last=False)
        whose, awarded = self._awards[key]
        return awarded.of_customers(whose, customer)

    def _sold_at(self, feeder: int, interval: int) -> IntArray:
        """Nodes at which positions settle in an interval."""
        position = self._state.positions.get((feeder, self._state.day_range(interval).start))
        held = position is not None and position.hour_of(interval) >= 0
        return (
            np.unique(parties_of(position.party)[1]) if position is not None and held else np.zeros(0, dtype=np.int64)
        )

    def starts_run(self, clearing: int) -> int:
        """The clearing that the run after a gate's starts from: that one, or none where it ended at no optimum."""
        return clearing if can_start(self.record.table(clearing, Clearings)) else COLD

    def forget(self) -> None:
        """Drop what neither a gate nor a price run will start from any more."""
        state = self._state
        kept = {int(e) for starts in state.start_from.values() for e in starts} | set(state.spread_from.tolist())
        for (market, first), gate in state.gates.items():
            if market == REAL_TIME and first > state.settled:
                kept |= set(gate.cleared[:, 0].tolist())
        self._before = {entry: before for entry, before in self._before.items() if entry in kept}
        self._spread = {entry: spread for entry, spread in self._spread.items() if entry in kept}

    def _start(self, clearing: int) -> Before:
        if clearing not in self._before:
            self._before[clearing] = before_of(self.record, self._state, clearing)
        return self._before[clearing]

    def _last_spread(self, clearing: int) -> IntArray:
        if clearing not in self._spread:
            self._spread[clearing] = spread_of(self.record, clearing)
        return self._spread[clearing]


def _distinct(periods: list[Connected]) -> list[Connected]:
    return [each for k, each in enumerate(periods) if not k or each is not periods[k - 1]]


def movers(periods: list[Connected]) -> IntArray:
    """Customers who hang on more than one feeder in some periods, ascending."""
    if len(periods) < 2:
        return np.zeros(0, dtype=np.int64)
    pairs = [(each.customer * each.feeders + each.feeder_of())[: each.customers] for each in periods]
    who = np.unique(np.concatenate(pairs)) // periods[0].feeders
    return np.unique(who[1:][who[1:] == who[:-1]])


def agreements_of(periods: list[Connected], feeder: int) -> Agreements | None:
    """Connections that allow less than they could carry, in any period; None where there is none on the feeder.

    Where one allows less in some periods than in others, the least holds in all of them.
    """
    limits: dict[tuple[int, int], tuple[float, float]] = {}
    for each in _distinct(periods):
        here = each.on(feeder)
        most_w, least_w = each.import_limit_w[here], each.export_limit_w[here]
        for k in np.flatnonzero((most_w < each.capacity_w[here]) | (least_w < each.capacity_w[here])).tolist():
            place = int(each.customer[here][k]), int(each.node[here][k])
            before = limits.get(place, (np.inf, np.inf))
            limits[place] = min(before[0], most_w[k] / W_PER_KW), min(before[1], least_w[k] / W_PER_KW)
    if not limits:
        return None
    rows = sorted(limits.items())
    return Agreements.of(
        [customer for (customer, _), _ in rows],
        [node for (_, node), _ in rows],
        import_kw=[most for _, (most, _) in rows],
        export_kw=[least for _, (_, least) in rows],
    )
