"""Clearing: who gets what at what price, on wires that carry it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, factorise, solve_powerflow
from tellegen.market.book import OrderBook
from tellegen.market.curvature import Curvature
from tellegen.market.limits import Limits, LimitType
from tellegen.market.parameters import Parameters
from tellegen.market.pricing import NodalPrices, dual_range, nodal_prices
from tellegen.market.search import Found, Guess, Task, price_scale, residuals, search
from tellegen.market.steps import Steps
from tellegen.records import ClearingStatus

BINDING_PU = 1e-6
"""A limit with a dual, or nearer than this, is listed as binding."""
INDIFFERENT = 1e-4
"""Steps whose gain at the last prices is below this share of the price scale start where they stood."""
KEPT_PU = 1e-3
"""Rows nearer than this to their limit start in the next interval's working set."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices at every node, float64[N] each; energy in currency/kWh, reactive in currency/kvarh.

    ``energy == root + losses + congestion + voltage``; `low` and `high` are the ends of its range. `reactive_parts`
    float64[4, N] in the same order sum to `reactive`.
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


@dataclass(frozen=True, slots=True)
class BindingLimit:
    """A limit that binds.

    Attributes
    ----------
    name : in words; kind : what it is on.
    index : node index, branch terminal row, or 0 for the root.
    dual : currency/h per `unit` by which the limit would be widened; >= 0.
    unit : ``pu``, ``kVA``, ``kVA at nominal voltage`` or ``kW``.
    excess : how far the limit is exceeded, in `unit` (0 unless relaxed).
    """

    name: str
    kind: LimitType
    index: int
    dual: float
    unit: str
    excess: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """On what a clearing was accepted.

    Attributes
    ----------
    ac_mismatch_pu : power-flow mismatch of the dispatch.
    kkt_residual : largest optimality residual, currency/kWh.
    max_violation_pu : largest excess over a limit beyond what is listed as relaxed: pu of voltage, share of a rating.
    iterations : quadratic programs solved.
    """

    ac_mismatch_pu: float
    kkt_residual: float
    max_violation_pu: float
    iterations: int


@dataclass(frozen=True, slots=True, eq=False)
class Warm:
    """What one clearing leaves to the next on the same network; orders may come and go in between.

    Limits that bound, with their duals; curvature; voltage; prices; and the dispatch of steps that were partly taken,
    by what they were (node, direction, price), for prices alone do not say how far those go.
    """

    network: Network
    row_kind: IntArray
    row_index: IntArray
    dual: FloatArray
    curvature: Curvature
    voltage: ComplexArray
    energy: FloatArray
    reactive: FloatArray
    marginal: dict[tuple[float, ...], float]


@dataclass(frozen=True, slots=True, eq=False)
class Clearing:
    """The outcome of one clearing.

    Attributes
    ----------
    status : optimal, relaxed (some limits gave way at the published penalty) or fallback (administrative).
    welfare : currency/h, value to buyers less cost of sellers and of the root. Price-takers name no value: theirs
        counts as zero.
    rent : currency/h, what all demand pays at nodal prices less the cost of the root.
    prices, award_kw : per node; float64 per order (kvar for reactive orders), side as the order.
    tie : int64 per order: orders with the same number >= 0 are equal and were awarded pro rata; -1 is alone.
    flow : the AC power flow of the dispatch.
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


def clear(
    network: Network,
    book: OrderBook,
    root_price: float,
    *,
    root_reactive_price: float = 0.0,
    root_limit_kw: float | None = None,
    fixed_kva: ComplexArray | None = None,
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
    rules = Parameters() if parameters is None else parameters
    for name, value in (("root_price", root_price), ("root_reactive_price", root_reactive_price)):
        if not np.isfinite(value):
            raise InputError("clearing", name, "must be finite")
    factors = factorise(network)
    steps = Steps.of(network, book, fixed_kva)
    limits = Limits.of(factors, v_min, v_max, root_limit_kw)
    task = Task(network, factors, steps, limits, float(root_price), float(root_reactive_price), rules)
    reason = ""
    try:
        found = search(task, _guess(task, warm))
        if not found.settled:
            reason = (
                f"not optimal after {found.iterations} quadratic programs: residual {found.kkt:.1e} currency/kWh, "
                f"violation {found.violation:.1e} pu"
            )
        elif found.point.flow.mismatch_pu > rules.mismatch_pu_max:
            reason = f"power flow mismatch {found.point.flow.mismatch_pu:.1e} pu"
    except GridError as error:
        found, reason = None, str(error)
    if found is None or reason:
        return _fallback(task, book, found, reason, tie_context, last_spread)
    return _outcome(task, book, found, tie_context)


def _guess(task: Task, warm: Warm | None) -> Guess:
    steps, size = task.steps, len(task.network.nodes)
    usable = warm is not None and warm.network is task.network
    if warm is not None and usable:
        price = warm.energy + 1j * warm.reactive
        key = warm.row_kind * (2**40) + warm.row_index
        known = task.limits.kind * (2**40) + task.limits.index
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known[order], key)
        here = (place < known.size) & (known[order][np.minimum(place, known.size - 1)] == key)
        rows, dual = order[place[here]], warm.dual[here]
    else:
        price = np.full(size, task.root_price + 1j * task.root_reactive_price)
        rows, dual = np.zeros(0, dtype=np.int64), np.zeros(0)
    gain = -(steps.price + steps.project(price))
    sloped = steps.slope > 0
    y = np.where(gain > 1e-9, steps.width, 0.0)
    y[sloped] = np.clip(gain[sloped] / steps.slope[sloped], 0.0, steps.width[sloped])
    if warm is None or not usable:
        return Guess(y, rows, dual, None, None)
    for k in np.flatnonzero(np.abs(gain) < INDIFFERENT * price_scale(task)):
        y[k] = min(warm.marginal.get(_identity(steps, int(k)), y[k]), steps.width[k])
    return Guess(y, rows, dual, warm.curvature, warm.voltage)


def _outcome(task: Task, book: OrderBook, found: Found, tie_context: str) -> Clearing:
    point, rows = found.point, found.rows
    nodal = nodal_prices(task, point, rows, found.dual)
    low = high = nodal.energy
    dual, kkt, violation = found.dual, found.kkt, found.violation
    ends = dual_range(task, found)
    if ends is not None:
        dual = (ends[0] + ends[1]) / 2
        nodal = nodal_prices(task, point, rows, dual)
        first, second = (nodal_prices(task, point, rows, end).energy for end in ends)
        low, high = np.minimum(first, second), np.maximum(first, second)
        kkt, violation = residuals(task, point, rows, dual)
    listed = _listed(task, found, dual)
    relaxed = tuple(limit for limit in listed if limit.excess > 0)
    demand = task.steps.demand_kva(point.y)
    return Clearing(
        status=ClearingStatus.RELAXED if relaxed else ClearingStatus.OPTIMAL,
        welfare=_welfare(task, point.y, point.flow),
        rent=_rent(task, nodal, demand, point.flow),
        prices=_prices(nodal, low, high),
        award_kw=task.steps.awards(point.y, book.quantity_kw),
        tie=_ties(task.steps),
        flow=point.flow,
        limits=listed,
        relaxations=relaxed,
        evidence=Evidence(point.flow.mismatch_pu, kkt, violation, found.iterations),
        warm=_warm(task, found, dual, nodal),
        tie_context=tie_context,
    )


def _prices(nodal: NodalPrices, low: FloatArray, high: FloatArray) -> Prices:
    root, losses, congestion, voltage = nodal.energy_parts
    energy = nodal.energy
    return Prices(
        energy=energy,
        root=root,
        losses=losses,
        congestion=congestion,
        voltage=voltage,
        low=np.minimum(low, energy),
        high=np.maximum(high, energy),
        reactive=nodal.reactive,
        reactive_parts=nodal.reactive_parts,
    )


def _welfare(task: Task, y: FloatArray, flow: PowerFlow) -> float:
    root = task.root_price * flow.root_kw + task.root_reactive_price * flow.root_kvar
    return -task.steps.cost(y) - root


def _rent(task: Task, nodal: NodalPrices, demand: ComplexArray, flow: PowerFlow) -> float:
    paid = nodal.energy @ demand.real + nodal.reactive @ demand.imag
    return float(paid) - task.root_price * flow.root_kw - task.root_reactive_price * flow.root_kvar


def _ties(steps: Steps) -> IntArray:
    count = np.bincount(steps.member[steps.member >= 0], minlength=steps.node.size)
    shared = (steps.member >= 0) & (count[np.maximum(steps.member, 0)] > 1) if count.size else steps.member >= 0
    return np.where(shared, steps.member, -1)


def _listed(task: Task, found: Found, dual: FloatArray) -> tuple[BindingLimit, ...]:
    listed = []
    order = np.argsort(found.rows, kind="stable")
    for row, amount in zip(found.rows[order], dual[order], strict=True):
        value = float(found.point.values[row])
        if amount <= 0 and value < -BINDING_PU:
            continue
        size = task.limits.unit_size(int(row))
        listed.append(
            BindingLimit(
                name=task.limits.name(int(row)),
                kind=LimitType(task.limits.kind[row]),
                index=int(task.limits.index[row]),
                dual=float(amount) / size,
                unit=task.limits.unit(int(row)),
                excess=value * size if value > task.parameters.violation_pu_max else 0.0,
            )
        )
    return tuple(listed)


def _warm(task: Task, found: Found, dual: FloatArray, nodal: NodalPrices) -> Warm:
    keep = (dual > 0) | (found.point.values[found.rows] > -KEPT_PU)
    rows, steps, y = found.rows[keep], task.steps, found.point.y
    return Warm(
        network=task.network,
        row_kind=task.limits.kind[rows],
        row_index=task.limits.index[rows],
        dual=dual[keep],
        curvature=found.curvature,
        voltage=found.point.flow.voltage,
        energy=nodal.energy,
        reactive=nodal.reactive,
        marginal={_identity(steps, int(k)): float(y[k]) for k in np.flatnonzero((y > 0) & (y < steps.width))},
    )


def _identity(steps: Steps, k: int) -> tuple[float, ...]:
    return (float(steps.node[k]), float(steps.active[k]), float(steps.reactive[k]), float(steps.price[k]))


def _fallback(
    task: Task, book: OrderBook, found: Found | None, reason: str, tie_context: str, last_spread: FloatArray | None
) -> Clearing:
    """Administrative prices, and the least harmful dispatch at hand."""
    size = len(task.network.nodes)
    spread = np.zeros(size)
    if last_spread is not None and np.shape(last_spread) == (size,):
        spread = np.where(np.isfinite(last_spread), last_spread, 0.0).astype(np.float64)
    parts = np.zeros((4, size))
    parts[0], parts[2] = task.root_price, spread
    reactive = np.zeros((4, size))
    reactive[0] = task.root_reactive_price
    nodal = NodalPrices(parts, reactive)
    candidates = [np.zeros(task.steps.node.size)] if found is None else [found.point.y, np.zeros(task.steps.node.size)]
    y, flow, violation = _safest(task, candidates)
    served = 1.0
    steps = task.steps
    if flow is None:
        served, flow = _curtail(task.factors, steps.fixed_kva)
        y = candidates[-1]
        violation = float(task.limits.values(flow).max(initial=0.0))
        reason += f"; every order is served at {100 * served:.3f} % of its inflexible part"
        steps = replace(steps, fixed_kva=served * steps.fixed_kva, fixed_kw=served * steps.fixed_kw)
    return Clearing(
        status=ClearingStatus.FALLBACK,
        welfare=_welfare(task, y, flow),
        rent=_rent(task, nodal, steps.demand_kva(y), flow),
        prices=_prices(nodal, nodal.energy, nodal.energy),
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


def _safest(task: Task, candidates: list[FloatArray]) -> tuple[FloatArray, PowerFlow | None, float]:
    """The first dispatch within limits, else the one that hurts them least."""
    best: tuple[FloatArray, PowerFlow | None, float] = (candidates[0], None, np.inf)
    for y in candidates:
        try:
            flow = solve_powerflow(task.network, task.steps.demand_kva(y), factors=task.factors)
        except GridError:
            continue
        violation = float(task.limits.values(flow).max(initial=0.0))
        if violation <= task.parameters.violation_pu_max:
            return y, flow, violation
        if violation < best[2]:
            best = (y, flow, violation)
    return best


def _curtail(factors: Factors, fixed_kva: ComplexArray) -> tuple[float, PowerFlow]:
    """Largest share of the fixed demand (to 1/1024) that the network can carry."""
    low, high = 0.0, 1.0
    flow = solve_powerflow(factors.network, np.zeros_like(fixed_kva), factors=factors)
    for _ in range(10):
        middle = (low + high) / 2
        try:
            flow = solve_powerflow(factors.network, middle * fixed_kva, factors=factors)
            low = middle
        except GridError:
            high = middle
    return low, flow
