"""Intervals on which tricks are tried: tasks of gates and price runs as the operator makes them, of one feeder.

Two sources. `recorded` folds the record of a played day, or of a shard, and makes every task again as its gate had it,
rules included: whatever counts at a gate or in a run counts here. `drawn` makes markets of the customers that a network
file declares, for networks on which nobody has played a day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tellegen.assess.feeder_survey import subject_of
from tellegen.grid import Case, Network, best_engine
from tellegen.market.facts import CARRIED
from tellegen.operations.awarded import MW_PER_W
from tellegen.operations.book import Book
from tellegen.operations.gate import Delivered, GateTask, Period, Wires, clear_feeder
from tellegen.operations.price_run import MeteredPower
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.operations.tasks import TaskMaker
from tellegen.records import OPERATOR, Device, Energy, Gates, Orders, Product, Side
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.simulation.workload import (
    ROOT_PRICE,
    Binding,
    Customers,
    Situation,
    limits_that_bind,
    market_books,
)
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray

MEAN_HOME_KW = 5.0
"""Peak of a customer for whom the amounts of tricks are meant; where they are larger, a search tries larger ones."""
LEAST_CONNECTION_W, CONNECTION_SHARE = 24_000, 1.5
INVERTER_SHARE = 0.44
"""Reactive power of an inverter at a power factor of 0.9, of its rated power."""
DEVIATION, SEED, FIRST = 0.1, 11, 4_925_928
EACH = 6
"""Intervals of each situation that are drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """A gate and the run after it, as tasks of one period each."""

    gate: GateTask
    run: GateTask

    @property
    def delivered(self) -> Delivered:
        """What the run knew."""
        found = self.run.periods[0].delivered
        assert found is not None
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Where tricks are tried.

    Attributes
    ----------
    given : its network, with what moves in it. hours : intervals by local hour.
    scale : how many times larger than homes its customers are.
    """

    name: str
    given: Network | Case
    hours: dict[int, tuple[Interval, ...]]
    scale: float = 1.0

    def tighter(self, pu: float) -> Scene:
        """The same with voltage limits moved inwards."""
        network = self.given.network if isinstance(self.given, Case) else self.given
        low = np.where(network.v_min > 0, network.v_min + pu, network.v_min)
        closer = replace(network, v_min=low, v_max=network.v_max - pu)
        return replace(self, given=replace(self.given, network=closer) if isinstance(self.given, Case) else closer)

    def at(self, hour: int) -> tuple[Interval, ...]:
        """Intervals of an hour; where it is not there, of the one nearest to it."""
        return self.hours[min(self.hours, key=lambda known: abs(known - hour))]


def recorded(record: ShardRecord, feeder: int = 0) -> Scene:
    """The intervals of a record that were cleared on meters, by hours since the first."""
    state, name = State(record.topology, record.rulebook, record.registers), record.feeders[feeder].name
    maker, gates, found = TaskMaker(record, state, best_engine()), {}, {}
    headers = [record.header(index) for index in range(len(record.journal))]
    tables = dict(record.tables([index for index, header in enumerate(headers) if state.reads_kind(header.kind)]))
    for index, header in enumerate(headers):
        state.apply(index, header, tables.get(index))
        if header.kind != Gates.kind or header.market not in (REAL_TIME, PRICE_RUN):
            continue
        interval = header.interval
        if header.market == REAL_TIME:
            gate, periods = state.gates[REAL_TIME, interval], state.periods(REAL_TIME, interval)
            book = Book.of(record, REAL_TIME, periods, gate.cut, gate.entry, {name})
            gates[interval] = maker.task(REAL_TIME, interval, feeder, book)
            continue
        energy = record.table(record.about(Energy, name, interval)[0], Energy)
        connected = state.connected(REAL_TIME, interval, interval)
        run = maker.run_task(interval, feeder, connected, energy.take(energy.customer != OPERATOR))
        maker.forget()
        if run is not None:
            found[interval] = Interval(gates.pop(interval), run)
    hours: dict[int, tuple[Interval, ...]] = {}
    for number, interval_found in sorted(found.items()):
        hour = (number - min(found)) // INTERVALS_PER_HOUR
        hours[hour] = (*hours.get(hour, ()), interval_found)
    return Scene(name, record.feeders[feeder].wires, hours)


def drawn(spec: str, each: int = EACH) -> Scene:
    """Evenings and noons of the customers that a network declares, with voltage limits that bind.

    Meters show what the gate awarded, but for a deviation of each home. Rules are the default ones.

    Parameters
    ----------
    spec : as for benchmark `feeders`. each : intervals of either situation.

    Raises
    ------
    InputError : the network cannot be read, has no customers, or no limit of it can bind.
    """
    subject = subject_of(spec)
    network, customers = subject.case.network, subject.customers
    markets = {
        12: market_books(customers, SEED, intervals=each, situation=Situation.NOON),
        19: market_books(customers, SEED, intervals=each, situation=Situation.EVENING),
    }
    low = limits_that_bind(network, markets[19][0].book, Binding.LOWEST_VOLTAGE)
    high = limits_that_bind(network, markets[12][0].book, Binding.HIGHEST_VOLTAGE)
    live = network.v_min > 0
    limited = replace(
        low.network,
        v_min=np.where(live, low.limits["v_min"], network.v_min),
        v_max=np.where(live, high.limits["v_max"], network.v_max),
    )
    wires, rng = Wires(limited), np.random.default_rng(SEED)
    hours = {}
    for hour, rounds in markets.items():
        found = []
        for k, market in enumerate(rounds):
            assert market.orders is not None
            number = FIRST + INTERVALS_PER_HOUR * hour + k
            orders = Orders.concat([market.orders, _inverters(market.orders)])
            found.append(_drawn(limited, wires, customers, orders, number, rng))
        hours[hour] = tuple(found)
    scale = max(1.0, round(float(customers.peak_kw.mean()) / MEAN_HOME_KW, 1))
    return Scene(subject.name, limited, hours, scale)


def _inverters(orders: Orders) -> Orders:
    """Whoever has a roof or a battery offers reactive power of its inverter, either way, for whatever it is worth."""
    sells = np.flatnonzero((orders.side == Side.SELL) & np.isin(orders.device, (Device.PV, Device.BATTERY)))
    rows = np.repeat(orders.take(sells).rows(), 2)
    rows["product"], rows["side"] = Product.REACTIVE, np.resize([Side.BUY, Side.SELL], rows.size)
    rows["price_micros"], rows["var_per_kw"] = 0, 0
    rows["quantity_w"] = np.maximum((INVERTER_SHARE * rows["quantity_w"]).astype(np.int64), 1)
    return Orders.from_rows(rows)


def _drawn(
    network: Network, wires: Wires, customers: Customers, orders: Orders, number: int, rng: np.random.Generator
) -> Interval:
    rules = Rulebook.load().versions[0]
    customer = np.arange(1, customers.customer_node.size + 1, dtype=np.int64)
    most = np.zeros(customer.size, dtype=np.int64)
    np.add.at(most, orders.customer - 1, orders.quantity_w)
    capacity = np.maximum((CONNECTION_SHARE * most).astype(np.int64), LEAST_CONNECTION_W)
    node = customers.customer_node.astype(np.int64)
    period = Period(number, 1, round(ROOT_PRICE * MICROS), orders, customer, node, capacity_w=capacity)
    gate = GateTask(
        feeder=network.name,
        market=REAL_TIME,
        periods=(period,),
        network=network.name,
        parameters=rules.market,
        customer=customer,
        carry=np.zeros((customer.size, CARRIED), dtype=np.int64),
        price_run=rules.price_run,
        engine=best_engine(),
    )
    done = clear_feeder(gate, wires)[0]
    awarded = done.awards.by_order(len(orders))
    net_w, net_var = net_awards(customer, orders, awarded)
    shown = rng.normal(1.0, DEVIATION, customer.size)
    nobody = np.zeros(customer.size, dtype=np.bool_)
    metered = MeteredPower(
        customer, node, (net_w * shown).astype(np.int64), (net_var * shown).astype(np.int64), nobody, capacity, capacity
    )
    after = replace(period, delivered=Delivered(awarded, done.prices, metered, node))
    return Interval(gate, replace(gate, market=PRICE_RUN, periods=(after,)))


def net_awards(customer: IntArray, orders: Orders, awarded_mw: IntArray) -> IntArray:
    """Net awards of customers, ascending, int64[2, n], W and var; the latter with what goes along with energy."""
    at = np.searchsorted(customer, orders.customer)
    theirs = np.isin(orders.customer, customer)
    signed = awarded_mw * orders.side // MW_PER_W
    energy = np.where(orders.product == Product.ENERGY, signed, 0)
    reactive = np.where(orders.product == Product.REACTIVE, signed, energy * orders.var_per_kw // MW_PER_W)
    net = np.zeros((2, customer.size), dtype=np.int64)
    for total, rows in zip(net, (energy, reactive), strict=True):
        np.add.at(total, at[theirs], rows[theirs])
    return net
