"""What a clearing says: prices, awards, limits that bind, evidence; made from where the search ended."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.powerflow import PowerFlow
from tellegen.market.book import OrderBook
from tellegen.market.limits import LimitType, place_name
from tellegen.market.operating_point import Point, Task, residuals, weighted_terms
from tellegen.market.optima import Choice
from tellegen.market.pricing import Prices, dual_range, nodal_prices
from tellegen.market.search import Found
from tellegen.market.steps import Scenario, Steps
from tellegen.records import ClearingStatus, Product, Starts

BINDING_PU = 1e-6
"""A limit with a dual, or nearer than this, is listed as binding."""
NAMED_MAX = 3
"""So many steps that were cut are named."""
KEPT_PU = 1e-5
"""Rows nearer than this to their limit are left to the next clearing on the network."""


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
    iterations : quadratic programs solved, all tries and rescues together.
    choice : which optimum was taken, where there may have been several.
    """

    ac_mismatch_pu: float
    kkt_residual: float
    max_violation_pu: float
    iterations: int
    choice: Choice = field(default_factory=Choice)


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
    starts : limits at which the search ended, or nearly, by `Limits.key`, and the bits of their duals, for the next
        one to start from; None after a fallback.
    reason : why the fallback was taken, else empty.
    warnings : what was done to the orders, in words: steps cut to what no market at their place could exceed.
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
    starts: Starts | None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    tie_context: str = ""
    called: tuple[tuple[Scenario, PowerFlow], ...] = ()


def mismatch_of(point: Point) -> float:
    """Largest power-flow mismatch of all scenarios, per unit."""
    return max(flow.mismatch_pu for flow in point.flows)


def outcome_of(task: Task, book: OrderBook, found: Found, nodal: Prices, choice: Choice, tie_context: str) -> Clearing:
    """The clearing of a search that settled, with `nodal` prices where it ended."""
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
        welfare=welfare_of(task, point.y, point.flow),
        rent=rent_of(task, book, nodal, _load_prices(task, point, rows, dual), point.y, point.flow),
        prices=nodal.between(ends),
        award_kw=task.steps.awards(point.y, book.quantity_kw),
        tie=ties_of(task.steps),
        flow=point.flow,
        limits=listed,
        relaxations=relaxed,
        evidence=Evidence(mismatch_of(point), kkt, violation, found.iterations, choice),
        starts=_starts(task, found),
        warnings=cut_short(task, book, point.y),
        tie_context=tie_context,
        called=tuple(zip(task.steps.scenarios[1:], point.flows[1:], strict=True)),
    )


def welfare_of(task: Task, y: FloatArray, flow: PowerFlow) -> float:
    """Value to buyers less cost of sellers and of the root, currency/h."""
    root = task.root_price * flow.root_kw + task.root_reactive_price * flow.root_kvar
    return -task.steps.cost(y) - root


def rent_of(task: Task, book: OrderBook, nodal: Prices, loads: ComplexArray, y: FloatArray, flow: PowerFlow) -> float:
    """What demand and those who require reserve pay, less what reserve is paid and less the cost of the root.

    `loads` complex128[L]: prices (energy + j reactive) of the network's own loads with laws.
    """
    demand = task.steps.demand_kva(y)
    paid = nodal.energy @ demand.real + nodal.reactive @ demand.imag
    if loads.size:
        drawn = _drawn_kva(task, flow)
        paid += loads.real @ drawn.real + loads.imag @ drawn.imag
    reserve = book.product > Product.REACTIVE
    if reserve.any():
        award = task.steps.awards(y, book.quantity_kw)
        paid += float((book.side * award * nodal.of_orders(book))[reserve].sum())
    return float(paid) - task.root_price * flow.root_kw - task.root_reactive_price * flow.root_kvar


def cut_short(task: Task, book: OrderBook, y: FloatArray) -> tuple[str, ...]:
    """A line about steps that were cut, and whether the cut decided anything; none where none was."""
    steps = task.steps
    rows = np.flatnonzero(task.asked > steps.width)
    if not rows.size:
        return ()
    named = []
    for k in rows[:NAMED_MAX].tolist():
        channel = steps.channel[k]
        unit = "kW" if steps.channels.active[channel] else "kvar"
        at = place_name(task.network, book.connections, int(steps.channels.place[channel]))
        taken = ", all of it taken" if y[k] >= steps.width[k] else ""
        named.append(f"{task.asked[k]:.6g} {unit} at {at} to {steps.width[k]:.6g}{taken}")
    more = f" and {rows.size - NAMED_MAX} more" if rows.size > NAMED_MAX else ""
    return (f"steps wider than the network could serve were cut: {'; '.join(named)}{more}",)


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


def ties_of(steps: Steps) -> IntArray:
    """The variable that each order shares with others, -1 for one alone."""
    part = steps.member >= 0
    count = np.bincount(steps.member[part], minlength=steps.width.size + 1)
    return np.where(part & (count[steps.member] > 1), steps.member, -1)


def _listed(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> tuple[BindingLimit, ...]:
    listed, limits = [], task.limits
    order = np.argsort(rows, kind="stable")
    giving = rows[(dual > 0) & (limits.kind[rows] == LimitType.RATING)].tolist()
    power = limits.kw_per_unit(rows[order])
    for row, amount, kw in zip(rows[order].tolist(), dual[order].tolist(), power.tolist(), strict=True):
        value, kind = float(point.values[row]), LimitType(limits.kind[row])
        # Many a participant stands at the edge of its own limit without being held by it.
        if amount <= 0 and (kind >= LimitType.EXPORT or value < -BINDING_PU):
            continue
        if amount <= 0 < value and any(limits.ends_of_one(row, other) for other in giving):
            continue  # the other end of its line is listed, and has the price of both
        unit, size = limits.unit(row)
        listed.append(
            BindingLimit(
                name=limits.name(row),
                kind=kind,
                index=int(limits.index[row]),
                scenario=Scenario(limits.scenario[row]),
                dual=amount / size,
                unit=unit,
                excess=value * size if value > task.parameters.violation_pu_max else 0.0,
                price=amount / kw,
            )
        )
    return tuple(listed)


def _starts(task: Task, found: Found) -> Starts:
    keep = (found.dual > 0) | (found.point.values[found.rows] > -KEPT_PU)
    return Starts(row_key=task.limits.key[found.rows[keep]], dual_bits=found.dual[keep].view(np.int64))
