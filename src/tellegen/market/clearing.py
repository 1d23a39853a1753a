"""Clearing: who gets what at what price, on wires that carry it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypedDict, Unpack

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.connections import Connections, wire, with_plain_loads
from tellegen.grid.network import ComplexArray, FixedLoads, FloatArray, IntArray, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, factorise, solve_powerflow
from tellegen.market.book import NOT_ENERGISED, OrderBook
from tellegen.market.capability import Agreements, group_orders, own_limits
from tellegen.market.curvature import Curvature
from tellegen.market.limits import Limits, LimitType, linear_rows
from tellegen.market.operating_point import Point, Task, price_scale, residuals, weighted_terms
from tellegen.market.optima import Choice, best_of_all, may_have_several
from tellegen.market.parameters import Parameters
from tellegen.market.pricing import NodalPrices, dual_range, nodal_prices
from tellegen.market.search import Found, Guess, search
from tellegen.market.steps import Effect, Scenario, Steps
from tellegen.records import ClearingStatus, Product, Side
from tellegen.units import INTERVALS_PER_HOUR

BINDING_PU = 1e-6
"""A limit with a dual, or nearer than this, is listed as binding."""
INDIFFERENT = 1e-4
"""Steps whose gain at the last prices is below this share of the price scale start where they stood."""
PERIOD_HOURS = 1.0 / INTERVALS_PER_HOUR
PRICE_MAX = 1e6
SHORT_CIRCUIT_KW = 1e5
"""Steps wider than this are cut to what a short circuit at their place would draw, which no market can exceed."""
KEPT_PU = 1e-5
"""Rows nearer than this to their limit start in the next interval's working set."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices at every place (nodes, then the book's connections), float64[places] each.

    Energy in currency/kWh, reactive in currency/kvarh. ``energy == root + losses + congestion + voltage``; `low` and
    `high` are the ends of its range. `reactive_parts` float64[4, places] in the same order sum to `reactive`.
    `reserve` float64[2, places], currency/h per kW: what reserve up and down is paid there, the wires' part included;
    `required` float64[2]: what those pay who require it; `required_low`, `required_high` the ends of its range.
    """

    energy: FloatArray
    root: FloatArray
    losses: FloatArray
    congestion: FloatArray
    voltage: FloatArray
    low: FloatArray
    high: FloatArray
    reactive: FloatArray
    reactive_parts: FloatArray
    reserve: FloatArray
    required: FloatArray
    required_low: FloatArray
    required_high: FloatArray

    def of_orders(self, book: OrderBook) -> FloatArray:
        """The price that each order of a book pays or is paid, float64[orders]; NaN where nothing is energised."""
        product, at = book.product, book.node
        buys = book.side == Side.BUY
        up, down = (np.where(buys, self.required[k], self.reserve[k, at]) for k in range(2))
        of_product = [product == kind for kind in (Product.REACTIVE, Product.RESERVE_UP, Product.RESERVE_DOWN)]
        price = np.select(of_product, [self.reactive[at], up, down], self.energy[at])
        return np.asarray(np.where(at == NOT_ENERGISED, np.nan, price))


@dataclass(frozen=True, slots=True)
class BindingLimit:
    """A limit that binds.

    Attributes
    ----------
    name : in words; kind : what it is on.
    index : node index, branch terminal row, participant, or 0 for the root and for reserve.
    scenario : the state of the network in which it binds.
    dual : currency/h per `unit` by which the limit would be widened; >= 0.
    unit : ``pu``, ``kVA``, ``kVA at nominal voltage`` or ``kW``.
    excess : how far the limit is exceeded, in `unit` (0 unless relaxed).
    price : the dual per kWh (kVAh) that passes, of a voltage per kWh-equivalent: what penalty curves are stated in.
    """

    name: str
    kind: LimitType
    index: int
    scenario: Scenario
    dual: float
    unit: str
    excess: float
    price: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """On what a clearing was accepted.

    Attributes
    ----------
    ac_mismatch_pu : power-flow mismatch of the dispatch.
    kkt_residual : largest optimality residual, currency/kWh.
    max_violation_pu : largest excess over a limit beyond what is listed as relaxed: pu of voltage, share of a rating.
    iterations : quadratic programs solved on the way to the optimum that was taken.
    choice : which optimum was taken, where there may have been several.
    """

    ac_mismatch_pu: float
    kkt_residual: float
    max_violation_pu: float
    iterations: int
    choice: Choice = field(default_factory=Choice)


@dataclass(frozen=True, slots=True, eq=False)
class Warm:
    """What one clearing leaves to the next on the same network; orders may come and go in between.

    Limits that bound, with their duals; curvature and voltages by scenario; prices; and the dispatch of steps that
    were partly taken, by what they were (place, direction, price), for prices alone do not say how far those go. The
    network's factors are held here, so that whoever clears many feeders in turn factorises none of them again.
    """

    network: Network
    factors: Factors
    connections: Connections
    scenarios: tuple[Scenario, ...]
    row_key: IntArray
    dual: FloatArray
    curvature: tuple[Curvature, ...]
    voltages: tuple[ComplexArray, ...]
    prices: NodalPrices
    marginal: dict[tuple[float, ...], float]


@dataclass(frozen=True, slots=True, eq=False)
class Clearing:
    """The outcome of one clearing.

    Attributes
    ----------
    status : optimal, relaxed (some limits gave way at the published penalty) or fallback (administrative).
    welfare : currency/h, value to buyers less cost of sellers and of the root. Price-takers name no value: theirs
        counts as zero, what of it is flexible as the curtailment price.
    rent : currency/h, what all demand pays at nodal prices less the cost of the root.
    prices, award_kw : per node; float64 per order (kvar for reactive orders), side as the order.
    tie : int64 per order: orders with the same number >= 0 are equal and were awarded pro rata; -1 is alone.
    flow : the AC power flow of the dispatch; called : those with all reserve up or down called, where some is offered.
    limits : limits that bind; relaxations : those of them that gave way.
    evidence : on which the clearing was accepted.
    warm : for the next interval; None after a fallback.
    reason : why the fallback was taken, else empty.
    tie_context : names the clearing where integers are allocated among ties.
    """

    status: ClearingStatus
    welfare: float
    rent: float
    prices: Prices
    award_kw: FloatArray
    tie: IntArray
    flow: PowerFlow
    limits: tuple[BindingLimit, ...]
    relaxations: tuple[BindingLimit, ...]
    evidence: Evidence
    warm: Warm | None
    reason: str = ""
    tie_context: str = ""
    called: tuple[tuple[Scenario, PowerFlow], ...] = ()


def clear(
    network: Network,
    book: OrderBook,
    root_price: float,
    *,
    root_reactive_price: float = 0.0,
    root_limit_kw: float | None = None,
    fixed_kva: ComplexArray | None = None,
    loads: FixedLoads | None = None,
    agreements: Agreements | None = None,
    period_hours: float = PERIOD_HOURS,
    v_min: float | FloatArray | None = None,
    v_max: float | FloatArray | None = None,
    parameters: Parameters | None = None,
    warm: Warm | None = None,
    tie_context: str = "",
    last_spread: FloatArray | None = None,
) -> Clearing:
    """Clear one interval: the dispatch of largest welfare on the AC network, and its prices.

    Parameters
    ----------
    network : with its voltage limits and ratings, which bind at every node below the root.
    book : the orders.
    root_price, root_reactive_price : currency/kWh (kvarh) at which the root buys and sells.
    root_limit_kw : largest power through the root, both ways; None: no limit.
    fixed_kva : complex128[N], inflexible demand besides the book's price-takers, consumption positive.
    loads : inflexible loads between nodes, or that depend on voltage.
    agreements : limits of participants' connections, and the energy behind their reserve.
    period_hours : how long the dispatch lasts; counts where stored energy stands behind reserve.
    v_min, v_max : per unit, override the network's limits; a number or float64[N].
    parameters : caps, penalties, acceptance; the defaults where absent.
    warm : from the last interval on the same network object; ignored on another.
    tie_context : names the clearing for integer allocations among ties.
    last_spread : float64[N], last known energy price less root price; the fallback adds it to the root price.

    Returns
    -------
    Clearing, always with finite prices (law 7). A limit that cannot be met gives way at the published penalty and is
    listed (status relaxed). Where the optimum is not reached on the evidence that `parameters` ask for, or there is no
    power flow at all, the result is an administrative fallback and says why.

    Raises
    ------
    InputError : orders, demand, prices or limits that make no sense.

    Examples
    --------
    A line of 0.1 pu resistance. A buyer values a kW at 0.5, the root asks 0.3: the buyer pays the root price and the
    losses that it causes at the margin, 0.3 / (2 v - 1).

    >>> import scipy.sparse as sp
    >>> from tellegen.grid.network import Branches
    >>> y = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.8), np.full(2, 1.1), line)
    >>> result = clear(net, OrderBook.of([1], 1, 0.5, [0.9]), 0.3)
    >>> result.status.name, result.award_kw.round(9).tolist(), result.prices.energy.round(9).tolist()
    ('OPTIMAL', [0.9], [0.3, 0.375])
    """
    return clear_in_full(
        network,
        book,
        root_price,
        root_reactive_price=root_reactive_price,
        root_limit_kw=root_limit_kw,
        fixed_kva=fixed_kva,
        loads=loads,
        agreements=agreements,
        period_hours=period_hours,
        v_min=v_min,
        v_max=v_max,
        parameters=parameters,
        warm=warm,
        tie_context=tie_context,
        last_spread=last_spread,
    ).clearing


class Options(TypedDict, total=False):
    """What `clear` takes by name."""

    root_reactive_price: float
    root_limit_kw: float | None
    fixed_kva: ComplexArray | None
    loads: FixedLoads | None
    agreements: Agreements | None
    period_hours: float
    v_min: float | FloatArray | None
    v_max: float | FloatArray | None
    parameters: Parameters | None
    warm: Warm | None
    tie_context: str
    last_spread: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class InFull:
    """A clearing with the task that it solves and where the search ended (None after a fallback).

    `energised` int64: rows of the book that took part; the rest hangs on no source.
    """

    clearing: Clearing
    task: Task
    found: Found | None
    energised: IntArray


def clear_in_full(network: Network, book: OrderBook, root_price: float, **options: Unpack[Options]) -> InFull:
    """`clear`, with what is behind its outcome."""
    rules = options.get("parameters") or Parameters()
    reactive = options.get("root_reactive_price", 0.0)
    for name, value in (("root_price", root_price), ("root_reactive_price", reactive)):
        if not np.isfinite(value):
            raise InputError("clearing", name, "must be finite")
    period = options.get("period_hours", PERIOD_HOURS)
    if not 0 < period < np.inf:
        raise InputError("clearing", f"period_hours {period:g}", "must be positive and finite")
    if max(abs(root_price), abs(reactive)) > PRICE_MAX:
        raise InputError("clearing", f"root price {root_price:g}", f"is beyond the limit of {PRICE_MAX:g}")
    energised = np.flatnonzero(book.node != NOT_ENERGISED)
    traded = book if energised.size == len(book) else book.take(energised)
    bounds = (options.get("v_min"), options.get("v_max"), options.get("root_limit_kw"))
    task = _task(network, traded, options.get("fixed_kva"), options.get("loads"), options.get("agreements"),
                 period, rules, float(root_price), float(reactive), bounds, options.get("warm"))  # fmt: skip
    clearing, found = solve(
        task, traded, options.get("warm"), options.get("tie_context", ""), options.get("last_spread")
    )
    if traded is not book:
        award, tie = np.zeros(len(book)), np.full(len(book), -1, dtype=np.int64)
        award[energised], tie[energised] = clearing.award_kw, clearing.tie
        clearing = replace(clearing, award_kw=award, tie=tie)
    return InFull(clearing, task, found, energised)


def solve(
    task: Task, book: OrderBook, warm: Warm | None, tie_context: str, last_spread: FloatArray | None
) -> tuple[Clearing, Found | None]:
    """The clearing of a task, and where its search ended; None after a fallback."""
    reason, choice = "", Choice()
    found: Found | None
    try:
        found = _searched(task, book, warm)
        nodal = nodal_prices(task, found.point, found.rows, found.dual)
        if task.parameters.starts and may_have_several(task, nodal.energy):
            first, (found, choice) = found, best_of_all(task, found)
            if found is not first:
                nodal = nodal_prices(task, found.point, found.rows, found.dual)
        if not found.settled:
            reason = (
                f"not optimal after {found.iterations} quadratic programs: residual {found.kkt:.1e} currency/kWh, "
                f"violation {found.violation:.1e} pu"
            )
        elif _mismatch(found.point) > task.parameters.mismatch_pu_max:
            reason = f"power flow mismatch {_mismatch(found.point):.1e} pu"
    except GridError as error:
        found, reason = None, str(error)
    if found is None or reason:
        return _fallback(task, book, found, reason, tie_context, last_spread), None
    return _outcome(task, book, found, nodal, choice, tie_context), found


def _searched(task: Task, book: OrderBook, warm: Warm | None) -> Found:
    """Where the search ends; one that the last interval led astray begins again without it."""
    try:
        found = search(task, _guess(task, book, warm))
    except GridError:
        if warm is None:
            raise
    else:
        if found.settled or warm is None:
            return found
    return search(task, _guess(task, book, None))


def _task(
    network: Network,
    book: OrderBook,
    fixed_kva: ComplexArray | None,
    loads: FixedLoads | None,
    agreements: Agreements | None,
    period_hours: float,
    rules: Parameters,
    root_price: float,
    root_reactive_price: float,
    bounds: tuple[float | FloatArray | None, float | FloatArray | None, float | None],
    warm: Warm | None,
) -> Task:
    factors = warm.factors if warm is not None and warm.network is network else factorise(network)
    wiring = wire(network, factors.free, loads, book.connections)
    fixed = np.zeros(wiring.places, dtype=np.complex128)
    if fixed_kva is not None:
        given = np.asarray(fixed_kva, dtype=np.complex128)
        if given.shape != (len(network.nodes),) or not np.isfinite(given).all():
            raise InputError(
                "inflexible demand", f"shape {given.shape}", f"must be {len(network.nodes)} finite values, one per node"
            )
        fixed[: given.size] = given
    if loads is not None and loads.law is None and loads.other is None:
        fixed = with_plain_loads(network, fixed, loads)
    groups = group_orders(book, agreements)
    steps = Steps.of(
        wiring.places,
        book,
        fixed,
        group=groups.of_order,
        curtailable_kw=groups.curtailable_kw,
        curtailment_price=rules.curtailment_price,
    )
    steps = _within_reach(factors, steps)
    own = own_limits(book, groups, steps, period_hours=period_hours, reserve_hours=rules.reserve_hours)
    linear = linear_rows(network, book.connections, steps, groups, own)
    limits = Limits.of(factors, *bounds, scenarios=steps.scenarios, linear=linear)
    return Task(network, factors, wiring, steps, limits, root_price, root_reactive_price, rules)


def _within_reach(factors: Factors, steps: Steps) -> Steps:
    """Steps no wider than the network could serve: one order beyond all measure must not set that of the search."""
    wide = np.flatnonzero(steps.width > SHORT_CIRCUIT_KW)
    place = steps.channels.place[steps.channel[wide]]
    free = np.isin(place, factors.free)
    if not free.any():
        return steps
    width = steps.width.copy()
    short = factors.network.base_kva / factors.driving_impedance(place[free])
    width[wide[free]] = np.minimum(width[wide[free]], short)
    return replace(steps, width=width)


def _guess(task: Task, book: OrderBook, warm: Warm | None) -> Guess:
    steps, size, channels = task.steps, task.wiring.places, task.steps.channels
    usable = (
        warm is not None
        and warm.network is task.network
        and warm.connections.same(book.connections)
        and warm.scenarios == steps.scenarios
    )
    rows, dual = np.zeros(0, dtype=np.int64), np.zeros(0)
    price = np.full(size, task.root_price + 1j * task.root_reactive_price)
    reserve, required = np.zeros((2, size)), np.zeros(2)
    if warm is not None and usable:
        price = warm.prices.energy + 1j * warm.prices.reactive
        reserve, required = warm.prices.reserve, warm.prices.required
        known = task.limits.key
        order = np.argsort(known, kind="stable")
        place = np.minimum(np.searchsorted(known[order], warm.row_key), known.size - 1)
        here = known[order][place] == warm.row_key
        rows, dual = order[place[here]], warm.dual[here]
    worth = channels.project(price)
    for k, (offer, need) in enumerate(((Effect.OFFER_UP, Effect.REQUIRE_UP), (Effect.OFFER_DOWN, Effect.REQUIRE_DOWN))):
        worth = np.where(channels.effect == offer, reserve[k, channels.place], worth)
        worth = np.where(channels.effect == need, required[k], worth)
    gain = -(steps.price + steps.spread(worth))
    sloped = steps.slope > 0
    y = np.where(gain > 1e-9, steps.width, 0.0)
    y[sloped] = np.clip(gain[sloped] / steps.slope[sloped], 0.0, steps.width[sloped])
    if warm is None or not usable:
        return Guess(y, rows, dual, None, (None,) * len(steps.scenarios))
    for k in np.flatnonzero(np.abs(gain) < INDIFFERENT * price_scale(task)).tolist():
        y[k] = min(warm.marginal.get(steps.identity(k), y[k]), steps.width[k])
    return Guess(y, rows, dual, warm.curvature, warm.voltages)


def _mismatch(point: Point) -> float:
    return max(flow.mismatch_pu for flow in point.flows)


def _outcome(
    task: Task, book: OrderBook, found: Found, nodal: NodalPrices, choice: Choice, tie_context: str
) -> Clearing:
    point, rows = found.point, found.rows
    ends = [nodal]
    dual, kkt, violation = found.dual, found.kkt, found.violation
    duals = dual_range(task, found)
    if duals is not None:
        rows, middle = duals[0], (duals[1] + duals[2]) / 2
        ends += [nodal_prices(task, point, rows, end) for end in duals[1:]]
        dual = np.concatenate([dual, np.zeros(rows.size - dual.size)])
        evidence = residuals(task, point, rows, middle, found.twins)
        # Where the middle of the range is no optimum to the digits asked for, the price stays where it was found.
        if evidence[0] <= task.parameters.kkt_max and evidence[1] <= task.parameters.violation_pu_max:
            dual, (kkt, violation) = middle, evidence
            nodal = nodal_prices(task, point, rows, dual)
            ends = ends[1:]
    listed = _listed(task, point, rows, dual)
    relaxed = tuple(limit for limit in listed if limit.excess > 0)
    return Clearing(
        status=ClearingStatus.RELAXED if relaxed else ClearingStatus.OPTIMAL,
        welfare=_welfare(task, point.y, point.flow),
        rent=_rent(task, book, nodal, _load_prices(task, point, rows, dual), point.y, point.flow),
        prices=_prices(nodal, ends),
        award_kw=task.steps.awards(point.y, book.quantity_kw),
        tie=_ties(task.steps),
        flow=point.flow,
        limits=listed,
        relaxations=relaxed,
        evidence=Evidence(_mismatch(point), kkt, violation, found.iterations, choice),
        warm=_warm(task, book, found, nodal),
        tie_context=tie_context,
        called=tuple(zip(task.steps.scenarios[1:], point.flows[1:], strict=True)),
    )


def _prices(nodal: NodalPrices, ends: Sequence[NodalPrices] = ()) -> Prices:
    """Prices with their ranges between `ends`."""
    root, losses, congestion, voltage = nodal.energy_parts
    energy = np.stack([nodal.energy, *(end.energy for end in ends)])
    required = np.stack([nodal.required, *(end.required for end in ends)])
    return Prices(
        energy=nodal.energy,
        root=root,
        losses=losses,
        congestion=congestion,
        voltage=voltage,
        low=energy.min(axis=0),
        high=energy.max(axis=0),
        reactive=nodal.reactive,
        reactive_parts=nodal.reactive_parts,
        reserve=nodal.reserve,
        required=nodal.required,
        required_low=required.min(axis=0),
        required_high=required.max(axis=0),
    )


def _welfare(task: Task, y: FloatArray, flow: PowerFlow) -> float:
    root = task.root_price * flow.root_kw + task.root_reactive_price * flow.root_kvar
    return -task.steps.cost(y) - root


def _rent(
    task: Task, book: OrderBook, nodal: NodalPrices, loads: ComplexArray, y: FloatArray, flow: PowerFlow
) -> float:
    """What demand and those who require reserve pay, less what reserve is paid and less the cost of the root.

    `loads` complex128[L]: prices (energy + j reactive) of the network's own loads with laws.
    """
    demand, prices = task.steps.demand_kva(y), _prices(nodal)
    paid = nodal.energy @ demand.real + nodal.reactive @ demand.imag
    drawn = _drawn_kva(task, flow)
    paid += loads.real @ drawn.real + loads.imag @ drawn.imag
    reserve = np.isin(book.product, (Product.RESERVE_UP, Product.RESERVE_DOWN))
    award = task.steps.awards(y, book.quantity_kw)
    paid += float((book.side * award * prices.of_orders(book))[reserve].sum())
    return float(paid) - task.root_price * flow.root_kw - task.root_reactive_price * flow.root_kvar


def _drawn_kva(task: Task, flow: PowerFlow) -> ComplexArray:
    """What the network's own loads with laws draw, complex128[L]."""
    wiring = task.wiring
    draw = wiring.draw(np.zeros(wiring.places, dtype=np.complex128))
    power, _ = draw.drawn(draw.across(flow.voltage[task.factors.free]))
    return power[: wiring.power.size] * task.network.base_kva


def _load_prices(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> ComplexArray:
    """Prices of the network's own loads with laws, complex128[L]: energy + j reactive."""
    if not task.wiring.power.size:
        return np.zeros(0, dtype=np.complex128)
    total = np.zeros(task.wiring.power.size, dtype=np.complex128)
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        total += line.load_gradient(*weighted_terms(task, rows, dual, scenario))
    return total


def _ties(steps: Steps) -> IntArray:
    part = steps.member >= 0
    count = np.bincount(steps.member[part], minlength=steps.width.size + 1)
    return np.where(part & (count[steps.member] > 1), steps.member, -1)


def _listed(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> tuple[BindingLimit, ...]:
    listed = []
    order = np.argsort(rows, kind="stable")
    power = task.limits.kw_per_unit(rows[order])
    for row, amount, kw in zip(rows[order], dual[order], power, strict=True):
        value = float(point.values[row])
        # Many a participant stands at the edge of its own limit without being held by it.
        own = task.limits.kind[row] >= LimitType.EXPORT
        if amount <= 0 and (own or value < -BINDING_PU):
            continue
        size = task.limits.unit_size(int(row))
        listed.append(
            BindingLimit(
                name=task.limits.name(int(row)),
                kind=LimitType(task.limits.kind[row]),
                index=int(task.limits.index[row]),
                scenario=Scenario(task.limits.scenario[row]),
                dual=float(amount) / size,
                unit=task.limits.unit(int(row)),
                excess=value * size if value > task.parameters.violation_pu_max else 0.0,
                price=float(amount / kw),
            )
        )
    return tuple(listed)


def _warm(task: Task, book: OrderBook, found: Found, nodal: NodalPrices) -> Warm:
    dual = found.dual
    keep = (dual > 0) | (found.point.values[found.rows] > -KEPT_PU)
    rows, steps, y = found.rows[keep], task.steps, found.point.y
    return Warm(
        network=task.network,
        factors=task.factors,
        connections=book.connections,
        scenarios=steps.scenarios,
        row_key=task.limits.key[rows],
        dual=dual[keep],
        curvature=found.curvature,
        voltages=tuple(flow.voltage for flow in found.point.flows),
        prices=nodal,
        marginal={steps.identity(int(k)): float(y[k]) for k in np.flatnonzero((y > 0) & (y < steps.width))},
    )


def _fallback(
    task: Task, book: OrderBook, found: Found | None, reason: str, tie_context: str, last_spread: FloatArray | None
) -> Clearing:
    """Administrative prices, and the least harmful dispatch at hand."""
    nodes, size = len(task.network.nodes), task.wiring.places
    spread = np.zeros(size)
    if last_spread is not None and np.shape(last_spread) == (nodes,):
        spread[:nodes] = np.where(np.isfinite(last_spread), last_spread, 0.0)
        spread[nodes:] = [
            spread[book.connections.node[a:b]] @ book.connections.share[a:b]
            for a, b in pairwise(book.connections.start.tolist())
        ]
    parts = np.zeros((4, size))
    parts[0], parts[2] = task.root_price, spread
    reactive = np.zeros((4, size))
    reactive[0] = task.root_reactive_price
    nodal = NodalPrices(parts, reactive, np.zeros((2, size)), np.zeros(2))
    nothing = np.zeros(task.steps.width.size)
    candidates = [nothing] if found is None else [found.point.y, nothing]
    y, flow, violation = _safest(task, candidates)
    served = 1.0
    steps = task.steps
    if flow is None:
        served, flow = _curtail(task)
        y = candidates[-1]
        violation = _violation(task, flow)
        reason += f"; every order is served at {100 * served:.3f} % of its inflexible part"
        steps = replace(steps, fixed_kva=served * steps.fixed_kva, fixed_kw=served * steps.fixed_kw)
    return Clearing(
        status=ClearingStatus.FALLBACK,
        welfare=_welfare(task, y, flow),
        rent=_rent(
            replace(task, steps=steps), book, nodal, np.full(task.wiring.power.size, complex(task.root_price)), y, flow
        ),
        prices=_prices(nodal),
        award_kw=steps.awards(y, book.quantity_kw),
        tie=_ties(steps),
        flow=flow,
        limits=(),
        relaxations=(),
        evidence=Evidence(
            flow.mismatch_pu,
            found.kkt if found is not None else float("inf"),
            max(violation, 0.0),
            found.iterations if found is not None else 0,
        ),
        warm=None,
        reason=reason,
        tie_context=tie_context,
    )


def _violation(task: Task, flow: PowerFlow) -> float:
    """Largest excess over a limit of the network in the dispatch."""
    blind = [flow] * len(task.steps.scenarios)
    values = task.limits.values(blind, np.zeros(task.steps.channels.place.size))
    return float(values[: task.limits.first_linear].max(initial=0.0))


def _safest(task: Task, candidates: list[FloatArray]) -> tuple[FloatArray, PowerFlow | None, float]:
    """The first dispatch within limits, else the one that hurts them least."""
    best: tuple[FloatArray, PowerFlow | None, float] = (candidates[0], None, np.inf)
    for y in candidates:
        try:
            flow = solve_powerflow(task.network, task.steps.demand_kva(y), wiring=task.wiring, factors=task.factors)
        except GridError:
            continue
        violation = _violation(task, flow)
        if violation <= task.parameters.violation_pu_max:
            return y, flow, violation
        if violation < best[2]:
            best = (y, flow, violation)
    return best


def _curtail(task: Task) -> tuple[float, PowerFlow]:
    """Largest share of the fixed demand (to 1/1024) that the network can carry; its own loads with laws stay."""

    def carried(share: float) -> PowerFlow:
        demand = share * task.steps.fixed_kva[0]
        return solve_powerflow(task.network, demand, wiring=task.wiring, factors=task.factors)

    low, high = 0.0, 1.0
    flow = carried(0.0)
    for _ in range(10):
        middle = (low + high) / 2
        try:
            flow = carried(middle)
            low = middle
        except GridError:
            high = middle
    return low, flow
