"""Markets to measure with: every bid drawn anew for each interval, and limits that bind.

Homes bid their demand in steps or as a falling line and carry reactive power along; some have a roof of solar cells,
some a battery that stands on both sides. Quantities and prices are whole watts and micro-currency, so that the same
market exists as a book of the engine and as orders on record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid import Engine, GridError, factorise, solve_powerflow
from tellegen.grid.loads import GROUND
from tellegen.grid.network import ComplexArray, FixedLoads, FloatArray, IntArray, LimitKind, Network
from tellegen.market import Clearing, LimitType, OrderBook, Start, clear
from tellegen.records import Device, Orders, Product, Side

ROOT_PRICE = 0.25
"""Currency/kWh at the root; bids lie around it."""


class BidForm(StrEnum):
    """How a home states what energy is worth to it."""

    STEPS = "steps"
    QUADRATIC = "quadratic"


class Situation(StrEnum):
    """When the interval is."""

    EVENING = "evening"
    NOON = "noon"


class Binding(StrEnum):
    """What is made to bind."""

    NOTHING = "nothing"
    LOWEST_VOLTAGE = "lowest voltage"
    HIGHEST_VOLTAGE = "highest voltage"
    RATING = "rating"
    ROOT = "root"


class Customers(Protocol):
    """Whom a market is made of; a `grid.synthetic.Feeder` is one."""

    @property
    def customer_node(self) -> IntArray:
        """Port of each customer, int64[C]."""

    @property
    def peak_kw(self) -> FloatArray:
        """Demand at the peak, float64[C]."""

    @property
    def peak_kvar(self) -> FloatArray:
        """Reactive demand at the peak, float64[C]."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadCustomers:
    """Customers behind the loads that a network file declares, one per node with demand."""

    customer_node: IntArray
    peak_kw: FloatArray
    peak_kvar: FloatArray

    @classmethod
    def of(cls, network: Network, loads: FixedLoads) -> LoadCustomers:
        """Customers of a file's loads at rated power; of a load between two nodes each end has half.

        Raises
        ------
        InputError : no load draws power below the root.
        """
        power = np.zeros(len(network.nodes), dtype=np.complex128)
        other = np.full(loads.node.size, GROUND) if loads.other is None else loads.other
        rated, pair = loads.p_kw + 1j * loads.q_kvar, other != GROUND
        np.add.at(power, loads.node, np.where(pair, rated / 2, rated))
        np.add.at(power, other[pair], rated[pair] / 2)
        power[network.source] = 0.0
        node = np.flatnonzero(power.real > 0)
        if node.size == 0:
            raise InputError(network.name, "loads", "are none below the root; a market needs customers")
        return cls(node, power.real[node], power.imag[node])


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One interval's market: `orders` is None where bids are no steps, which the record has no form for."""

    book: OrderBook
    orders: Orders | None


_Part = tuple[IntArray, Device, Side, FloatArray, FloatArray, FloatArray, FloatArray]


def market_books(
    customers: Customers,
    seed: int,
    *,
    intervals: int = 1,
    form: BidForm = BidForm.STEPS,
    situation: Situation = Situation.EVENING,
    pv_share: float = 0.3,
    battery_share: float = 0.15,
) -> list[Round]:
    """Markets of consecutive intervals; the equipment stays, every price and quantity is new.

    Parameters
    ----------
    customers : with their ports and peak demand.
    seed : draws everything.
    form : two or three steps, or one falling line per home.
    situation : evening (demand near the peak, no sun) or noon (little demand, sun).
    pv_share, battery_share : of the customers; a battery bids to charge below the root price and offers above it.

    Returns
    -------
    One `Round` per interval; rows of a customer stand together in `orders`.
    """
    rng = np.random.default_rng([seed, customers.customer_node.size])
    size = customers.customer_node.size
    roof_kw = np.where(rng.random(size) < pv_share, rng.uniform(3.0, 9.0, size), 0.0)
    battery_kw = np.where(rng.random(size) < battery_share, rng.uniform(2.0, 5.0, size), 0.0)
    # A network may have customers of hundreds of kW; their equipment grows with them.
    grown = np.maximum(customers.peak_kw / 2.0, 1.0)
    return [_round(customers, rng, form, situation, roof_kw * grown, battery_kw * grown) for _ in range(intervals)]


def _round(
    customers: Customers,
    rng: np.random.Generator,
    form: BidForm,
    situation: Situation,
    roof_kw: FloatArray,
    battery_kw: FloatArray,
) -> Round:
    size = customers.customer_node.size
    evening = situation == Situation.EVENING
    demand = customers.peak_kw * (rng.uniform(0.7, 1.3, size) if evening else rng.uniform(0.15, 0.45, size))
    sun = 0.0 if evening else float(rng.uniform(0.75, 0.95))
    ratio = customers.peak_kvar / customers.peak_kw * rng.uniform(0.8, 1.2, size)
    parts: list[_Part] = []

    none = np.zeros(size)

    def say(
        who: NDArray[np.bool_],
        device: Device,
        side: Side,
        price: FloatArray,
        kw: FloatArray,
        slope: FloatArray = none,
        kvar: FloatArray = none,
    ) -> None:
        at = np.flatnonzero(who)
        parts.append((at, device, side, price[at], kw[at], slope[at], kvar[at]))

    everyone = np.ones(size, dtype=np.bool_)
    if form == BidForm.STEPS:
        thirds = rng.random(size) < 0.6
        first, second = rng.uniform(0.4, 0.6, size), rng.uniform(0.25, 0.4, size)
        second = np.where(thirds, second, 1.0 - first)
        say(everyone, Device.LOAD, Side.BUY, rng.uniform(0.8, 2.0, size), demand * first, kvar=ratio)
        say(everyone, Device.LOAD, Side.BUY, rng.uniform(0.35, 0.8, size), demand * second, kvar=ratio)
        say(thirds, Device.LOAD, Side.BUY, rng.uniform(0.15, 0.35, size), demand * (1 - first - second), kvar=ratio)
    else:
        top, bottom = rng.uniform(0.8, 1.6, size), rng.uniform(0.05, 0.3, size)
        say(everyone, Device.LOAD, Side.BUY, top, demand, slope=(top - bottom) / demand, kvar=ratio)
    rising = np.zeros(size) if form == BidForm.STEPS else 0.05 / np.maximum(roof_kw + battery_kw, 1.0)
    if sun:
        available = roof_kw * sun * rng.uniform(0.9, 1.0, size)
        say(roof_kw > 0, Device.PV, Side.SELL, rng.uniform(0.0, 0.06, size), available, slope=rising)
    stored = battery_kw * rng.uniform(0.3, 1.0, size)
    charge, discharge = rng.uniform(0.12, 0.24, size), rng.uniform(0.27, 0.5, size)
    say(battery_kw > 0, Device.BATTERY, Side.BUY, charge, stored, slope=rising)
    say(battery_kw > 0, Device.BATTERY, Side.SELL, discharge, stored, slope=rising)
    return _booked(customers.customer_node, parts, form)


def _booked(
    node: IntArray,
    parts: list[_Part],
    form: BidForm,
) -> Round:
    who = np.concatenate([part[0] for part in parts])
    device = np.repeat([int(part[1]) for part in parts], [part[0].size for part in parts])
    side = np.repeat([int(part[2]) for part in parts], [part[0].size for part in parts])
    price, kw, slope, kvar = (np.concatenate([part[k] for part in parts]) for k in (3, 4, 5, 6))
    order = np.lexsort((-side * price, side, device, who))
    rows = Orders(
        customer=(who[order] + 1).astype(np.int32),
        period=np.zeros(order.size, dtype=np.uint8),
        device=device[order].astype(np.uint8),
        node=node[who[order]].astype(np.int32),
        product=np.full(order.size, int(Product.ENERGY), dtype=np.uint8),
        side=side[order].astype(np.int8),
        price_taker=np.zeros(order.size, dtype=np.uint8),
        price_micros=np.rint(price[order] * 1e6).astype(np.int64),
        quantity_w=np.maximum(np.rint(kw[order] * 1e3), 1).astype(np.int64),
        var_per_kw=np.rint(kvar[order] * 1e3).astype(np.int32),
    )
    book = OrderBook.from_orders(rows)
    if form == BidForm.QUADRATIC:
        return Round(replace(book, slope=slope[order]), None)
    return Round(book, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A network and the limits under which its markets are cleared: arguments of `clear`; and the engine for it."""

    network: Network
    limits: dict[str, float | FloatArray] = field(default_factory=dict)
    engine: Engine = Engine.SUPERLU

    def clear(self, book: OrderBook, start: Start | None = None, **more: object) -> Clearing:
        """Clear a book at the workload's root price."""
        options = {**self.limits, "start": start, "engine": self.engine, **more}
        return clear(self.network, book, ROOT_PRICE, **options)  # type: ignore[arg-type]


def awards_at(book: OrderBook, price: float) -> FloatArray:
    """What each order would take at one price everywhere, float64[n].

    >>> awards_at(OrderBook.of([1, 1], [1, -1], [0.3, 0.1], 2.0, slope=[0.1, 0.0]), 0.2).round(9).tolist()
    [1.0, 2.0]
    """
    gain = np.where(book.price_taker, np.inf, book.side * (book.price - price))
    taken = np.where(gain > 0, book.quantity_kw, 0.0)
    sloped = (book.slope > 0) & ~book.price_taker
    taken[sloped] = np.clip(gain[sloped] / book.slope[sloped], 0.0, book.quantity_kw[sloped])
    return np.asarray(taken, dtype=np.float64)


def dispatch_kva(book: OrderBook, award_kw: FloatArray, nodes: int) -> ComplexArray:
    """Demand at every node, complex128[N], that awards of a book come to."""
    signed, demand = book.side * award_kw, np.zeros(nodes, dtype=np.complex128)
    energy = book.product == Product.ENERGY
    np.add.at(demand, book.node, np.where(energy, signed * (1 + 1j * book.kvar_per_kw), 1j * signed))
    return demand


def limits_that_bind(network: Network, book: OrderBook, binding: Binding, *, depth: float = 0.3) -> Instance:
    """Limits that take away the share `depth` of what everybody would do at the root's price.

    The power flow of that dispatch, which no optimiser has touched, shows how far voltages and flows would go. Then the
    lowest (highest) allowed voltage is set between what the node that moved most has there and without demand, the most
    loaded line's rating or the root's limit below its flow.

    Raises
    ------
    InputError : the network cannot carry that dispatch, or nothing moves in the direction asked for.
    """
    branches, size = network.branches, len(network.nodes)
    free = replace(network, branches=replace(branches, rating_pu=np.full(branches.rating_pu.size, np.inf)))
    loose: dict[str, float | FloatArray] = {"v_min": 0.5, "v_max": 1.5}
    if binding == Binding.NOTHING:
        return Instance(free, loose)
    try:
        flow = solve_powerflow(free, dispatch_kva(book, awards_at(book, ROOT_PRICE), size))
    except GridError as error:
        raise InputError(network.name, "market", f"is beyond the network at the root's price: {error}") from None
    volt, idle = np.abs(flow.voltage), np.abs(network.source_voltage).mean() * np.ones(size)
    idle[network.free] = np.abs(factorise(free).no_load)
    live = network.free[network.v_min[network.free] > 0]
    if binding in (Binding.LOWEST_VOLTAGE, Binding.HIGHEST_VOLTAGE):
        sign = 1.0 if binding == Binding.LOWEST_VOLTAGE else -1.0
        moved = sign * (idle - volt)[live]
        worst = int(live[np.argmax(moved)])
        if moved.max() <= 0:
            raise InputError(network.name, "market", f"moves no voltage towards its {binding}")
        limit = float(volt[worst] + depth * (idle[worst] - volt[worst]))
        # A node that is beyond the limit without any demand cannot be asked to keep it.
        held = sign * (idle - limit) > depth * moved.max() / 10
        if binding == Binding.LOWEST_VOLTAGE:
            return Instance(free, {**loose, "v_min": limit if held[live].all() else np.where(held, limit, 0.5)})
        return Instance(free, {**loose, "v_max": limit if held[live].all() else np.where(held, limit, 1.5)})
    if binding == Binding.ROOT:
        return Instance(free, {**loose, "root_limit_kw": (1 - depth) * abs(flow.root_kw)})
    percent = np.where(np.isfinite(branches.rating_pu), flow.terminal_pu / branches.rating_pu, 0.0)
    percent[branches.kind != LimitKind.CURRENT] = 0.0
    loaded = branches.element[int(percent.argmax())]
    here = np.array([name == loaded for name in branches.element])
    rating = np.where(here, (1 - depth) * flow.terminal_pu[here].max(), np.inf)
    if not rating[here].max() > 0 or size < 2:
        raise InputError(network.name, "lines", "have no rating that could bind")
    return Instance(replace(free, branches=replace(branches, rating_pu=rating)), loose)


def binding_count(outcome: Clearing, kind: LimitType | None = None) -> int:
    """Number of limits with a price, of one kind or of any."""
    return sum(limit.dual > 0 and (kind is None or limit.kind == kind) for limit in outcome.limits)
