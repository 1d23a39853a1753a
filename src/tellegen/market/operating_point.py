"""What is to be cleared, and what is known of it at one dispatch: flows, values of limits, derivatives, optimality."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tellegen.grid.connections import Wiring
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, solve_powerflow
from tellegen.grid.sensitivity import Linearisation, Quantity, linearise
from tellegen.market.limits import Limits, LimitType
from tellegen.market.parameters import Parameters
from tellegen.market.steps import Scenario, Steps

TWIN_SLACK = 1e-8
"""Excess in row units that is let pass in a row beyond that of its twin in the working set."""
SAME_BRANCH_PU = 1e-6
"""Voltages that differ by more are two solutions of the power flow."""

ABSURD_PU = 0.25
"""No network runs at voltages so far above what is allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is to be cleared, in the search's terms; root prices in currency/kWh and currency/kvarh.

    `asked` float64[m]: how wide the steps were before those beyond all measure were cut.
    """

    network: Network
    factors: Factors
    wiring: Wiring
    steps: Steps
    limits: Limits
    root_price: float
    root_reactive_price: float
    parameters: Parameters
    asked: FloatArray
    _known: dict[bytes, tuple[FloatArray, FloatArray]] = field(default_factory=dict, repr=False)

    def penalties(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Penalty curves of some rows, as `Limits.penalties`; kept, for they cost a solve each."""
        key = rows.tobytes()
        if key not in self._known:
            self._known[key] = self.limits.penalties(rows, self.parameters, self.root_price)
        return self._known[key]


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One dispatch with its power flows, one per scenario.

    Attributes
    ----------
    y : float64[m]; totals : float64[c], what it adds up to on each channel.
    flows, lines : power flow and its linearisation, per scenario.
    values : float64[R], of all limits.
    """

    y: FloatArray
    totals: FloatArray
    flows: tuple[PowerFlow, ...]
    lines: tuple[Linearisation, ...]
    values: FloatArray

    @property
    def flow(self) -> PowerFlow:
        """Power flow of the dispatch."""
        return self.flows[0]


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """Derivatives at a point with respect to channels: of the root's cost float64[c], of rows float64[k, c]."""

    cost: FloatArray
    rows: FloatArray


def point_at(task: Task, y: FloatArray, voltages: tuple[ComplexArray, ...]) -> Point:
    """The operating point of a dispatch, its power flows found from `voltages` of the scenarios where there are some.

    Raises
    ------
    GridError : there is no power flow.
    """
    flows: list[PowerFlow] = []
    lines = []
    for k, scenario in enumerate(task.steps.scenarios):
        demand = task.steps.demand_kva(y, scenario)
        near = voltages[k] if voltages else flows[0].voltage if flows else None
        flow = solve_powerflow(task.network, demand, wiring=task.wiring, factors=task.factors, start=near, follow=True)
        lines.append(linearise(task.network, demand, flow, wiring=task.wiring, factors=task.factors))
        flows.append(flow)
    totals = task.steps.totals(y)
    return Point(y, totals, tuple(flows), tuple(lines), task.limits.values(flows, totals))


def strayed(task: Task, point: Point) -> bool:
    """Whether the power flow that is reached from no load is another one, of smaller losses, and can be run at.

    Of the solutions for one dispatch that of high voltage loses least, and on a feeder Newton finds it from no load.
    Where generators hold what charges lines, it finds voltages of two or three instead, at which no network runs.
    """
    rows = np.flatnonzero(task.limits.kind == LimitType.VOLTAGE_MAX)
    node, highest = task.limits.index[rows], task.limits.level[rows]
    for scenario, flow, line in zip(task.steps.scenarios, point.flows, point.lines, strict=True):
        if task.factors.is_high_branch(line.draw, line.voltage):
            continue
        demand = task.steps.demand_kva(point.y, scenario)
        try:
            again = solve_powerflow(task.network, demand, wiring=task.wiring, factors=task.factors)
        except GridError:
            continue
        apart = float(np.abs(again.voltage - flow.voltage).max()) > SAME_BRANCH_PU
        above = float((np.abs(again.voltage[node]) - highest).max(initial=0.0))
        if apart and again.losses_kw < flow.losses_kw and above < ABSURD_PU:
            return True
    return False


@dataclass(frozen=True, slots=True)
class Twins:
    """Rows left out because another says the same: (row, the one that is kept, how much steeper the row is)."""

    pairs: tuple[tuple[int, int, float], ...] = ()

    def joined(self, row: int, kept: int, steeper: float) -> Twins:
        """With one more; what followed the row follows the one that is kept."""
        moved = ((r, kept, f * steeper) if k == row else (r, k, f) for r, k, f in self.pairs if r != kept)
        return Twins((*(pair for pair in moved if pair[0] != row), (int(row), int(kept), float(steeper))))

    def without(self, rows: IntArray) -> Twins:
        """Less those that are rows by themselves again."""
        return Twins(tuple(pair for pair in self.pairs if pair[0] not in rows))

    def allowed(self, values: FloatArray, limits: Limits) -> FloatArray:
        """Excess that each row may show without being hurt, float64[R]: a little, or that of the line's other end."""
        slack = np.zeros(values.size)
        for row, kept, _ in self.pairs:
            same = limits.ends_of_one(row, kept)
            slack[row] = TWIN_SLACK + (max(float(values[kept]), 0.0) if same else 0.0)
        return slack


def slopes_at(task: Task, point: Point, rows: IntArray, known: tuple[IntArray, Slopes] | None = None) -> Slopes:
    """Derivatives of the root's cost and of some rows at a point; `known` are those of other rows there."""
    limits, channels = task.limits, task.steps.channels
    by_channel = np.zeros((rows.size, point.totals.size))
    fresh = np.ones(rows.size, dtype=bool)
    cost = np.zeros(point.totals.size)
    if known is not None:
        order = np.argsort(known[0], kind="stable")
        place = np.minimum(np.searchsorted(known[0][order], rows), max(known[0].size - 1, 0))
        fresh = known[0][order][place] != rows if known[0].size else fresh
        by_channel[~fresh] = known[1].rows[order[place[~fresh]]]
        cost = known[1].cost
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        mine = np.flatnonzero(fresh & (limits.quantity[rows] >= 0) & (limits.scenario[rows] == scenario))
        priced = scenario == Scenario.DISPATCH and known is None
        if not mine.size and not priced:
            continue
        ahead = _ROOT if priced else _ROOT[:0]
        quantity = np.concatenate([ahead, limits.quantity[rows[mine]]])
        index = np.concatenate([0 * ahead, limits.index[rows[mine]]])
        raw = line.projected(quantity, index, channels.place, channels.unit(scenario))
        by_channel[mine] = raw[ahead.size :] * (limits.sign[rows[mine]] / limits.scale[rows[mine]])[:, None]
        if priced:
            cost = task.root_price * raw[0] + task.root_reactive_price * raw[1]
    own = np.flatnonzero(fresh & (limits.quantity[rows] < 0))
    if own.size:
        linear = limits.linear.matrix[rows[own] - limits.first_linear].toarray()
        by_channel[own] = linear / limits.scale[rows[own]][:, None]
    return Slopes(cost, by_channel)


def weighted_terms(
    task: Task, rows: IntArray, dual: FloatArray, scenario: Scenario, *, root: bool = True
) -> tuple[IntArray, IntArray, FloatArray]:
    """Quantities, their indices and their weights in the Lagrangian of one scenario, linear rows left out."""
    limits = task.limits
    mine = np.flatnonzero((limits.quantity[rows] >= 0) & (limits.scenario[rows] == scenario) & (dual != 0))
    quantity, index = limits.quantity[rows[mine]], limits.index[rows[mine]]
    weight = dual[mine] * limits.sign[rows[mine]] / limits.scale[rows[mine]]
    if scenario != Scenario.DISPATCH or not root:
        return quantity, index, weight
    prices = np.array([task.root_price, task.root_reactive_price])
    return np.concatenate([_ROOT, quantity]), np.concatenate([0 * _ROOT, index]), np.concatenate([prices, weight])


_ROOT = np.array([Quantity.ROOT_KW, Quantity.ROOT_KVAR], dtype=np.int64)


def price_scale(task: Task) -> float:
    """Size of prices in this task, currency/kWh."""
    mean = float(np.abs(task.steps.price).mean()) if task.steps.price.size else 0.0
    return max(abs(task.root_price), abs(task.root_reactive_price), mean, 1e-6)


def residuals(
    task: Task,
    point: Point,
    rows: IntArray,
    dual: FloatArray,
    twins: Twins | None = None,
    pull: FloatArray | None = None,
) -> tuple[float, float]:
    """Optimality residual (currency/kWh) and violation (row units) of a point with duals; `twins` follow theirs.

    `pull` is `network_pull` there, where it is known.
    """
    steps = task.steps
    known = network_pull(task, point, rows, dual) if pull is None else pull
    slope = steps.price + steps.slope * point.y + steps.spread(known)
    tiny = 1e-9 * steps.width
    low, high = point.y <= tiny, point.y >= steps.width - tiny
    wrong = np.where(low, np.maximum(-slope, 0.0), np.where(high, np.maximum(slope, 0.0), np.abs(slope)))
    gap = np.maximum(point.values, 0.0)
    if twins is not None:
        gap = np.maximum(gap - twins.allowed(point.values, task.limits), 0.0)
    gap[rows] = _stair_gap(task, point.values[rows], rows, dual)
    return float(wrong.max(initial=0.0)), float(gap.max(initial=0.0))


def network_pull(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> FloatArray:
    """Derivative by channels of what the network adds to the Lagrangian, one adjoint per scenario."""
    limits, channels = task.limits, task.steps.channels
    total = np.zeros(point.totals.size)
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        terms = weighted_terms(task, rows, dual, scenario)
        if terms[0].size:
            total += channels.combine(line.weighted_gradient(*terms, channels.place), scenario)
    own = np.flatnonzero(limits.quantity[rows] < 0)
    if own.size:
        matrix = limits.linear.matrix[rows[own] - limits.first_linear]
        total += matrix.T @ (dual[own] / limits.scale[rows[own]])
    return total


def _stair_gap(task: Task, value: FloatArray, rows: IntArray, dual: FloatArray) -> FloatArray:
    """Distance in row units between a row's value and what its dual allows on the penalty staircase."""
    kink, penalty = task.penalties(rows)
    tiny = 1e-9 * penalty[:, 0]
    edges = [np.full(rows.size, -np.inf), kink[:, 0], kink[:, 1], np.full(rows.size, np.inf)]
    low = np.where(dual <= tiny, edges[0], np.where(dual <= penalty[:, 0] + tiny, edges[1], edges[2]))
    high = np.where(dual < penalty[:, 0] - tiny, edges[1], np.where(dual < penalty[:, 1] - tiny, edges[2], edges[3]))
    return np.asarray(np.maximum(np.maximum(low - value, value - high), 0.0))
