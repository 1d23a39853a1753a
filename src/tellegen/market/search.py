"""The search for the optimum: sequential quadratic programs with the AC power flow in the loop.

Variables are the orders alone; voltages and flows follow from the power flow, their derivatives from adjoints. Each
round solves a quadratic program at the last operating point, moves there, solves the power flow and measures the
optimality of that very point: the residual is that of the non-linear problem, so neither the curvature nor the
program's accuracy has to be trusted. Limits enter as rows when they are hurt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tellegen.grid.connections import Wiring
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, solve_powerflow
from tellegen.grid.sensitivity import Linearisation, Quantity, linearise
from tellegen.market.curvature import Curvature, bend_of, covers, curvature_at, reach_of
from tellegen.market.limits import Limits
from tellegen.market.parameters import Parameters
from tellegen.market.program import Program, Solution
from tellegen.market.qp import solve_program
from tellegen.market.steps import Scenario, Steps

NEAR = 1e-4
"""Rows closer to their limit than this join the working set together with a hurt one."""
ROWS_ADDED_MAX = 20
BACKTRACKS_MAX = 6
KKT_STOP = 1e-7
"""Residual at which the search ends, relative to the scale of prices."""
VIOLATION_STOP = 1e-9
PROXIMAL = 1e-9
"""Relative weight that keeps a step near where it starts: it decides only between equals."""
REFRESH_CONTRACTION = 0.3
PARALLEL = 1e-9
"""Rows whose directions differ by less (one less their cosine) are one limit met twice: two ends of a line, lines in
series, legs of a split phase."""
TWIN_SLACK = 1e-8
"""Excess in row units that is let pass in a row beyond that of its twin in the working set."""
STALLS_MAX = 4


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is to be cleared, in the search's terms; root prices in currency/kWh and currency/kvarh."""

    network: Network
    factors: Factors
    wiring: Wiring
    steps: Steps
    limits: Limits
    root_price: float
    root_reactive_price: float
    parameters: Parameters
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


@dataclass(frozen=True, slots=True)
class Twins:
    """Rows left out because another says the same: (row, the one that is kept, how much steeper the row is)."""

    pairs: tuple[tuple[int, int, float], ...] = ()

    def joined(self, row: int, kept: int, steeper: float) -> Twins:
        """With one more; what followed the row follows the one that is kept."""
        moved = ((r, kept, f * steeper) if k == row else (r, k, f) for r, k, f in self.pairs if r != kept)
        return Twins((*(pair for pair in moved if pair[0] != row), (int(row), int(kept), float(steeper))))

    def allowed(self, values: FloatArray) -> FloatArray:
        """Excess that each row may show without being hurt, float64[R]: that of its twin, and a little."""
        slack = np.zeros(values.size)
        for row, kept, steeper in self.pairs:
            slack[row] = TWIN_SLACK + max(float(values[kept]), 0.0) * steeper
        return slack


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Where a search starts: variables, working rows with duals, curvature and voltages (by scenario) of the last."""

    y: FloatArray
    rows: IntArray
    dual: FloatArray
    curvature: tuple[Curvature, ...] | None
    voltages: tuple[ComplexArray | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where a search ended, with the evidence.

    `kkt` in currency/kWh, `violation` in row units (excess beyond what the duals say was let go), `settled`: both are
    within the stops or, after a stall, within what the parameters accept.
    """

    point: Point
    rows: IntArray
    dual: FloatArray
    curvature: tuple[Curvature, ...]
    kkt: float
    violation: float
    iterations: int
    settled: bool
    twins: Twins


def search(task: Task, guess: Guess) -> Found:
    """Run the search.

    Raises
    ------
    GridError : not even the fixed demand alone has a power flow.
    """
    return _Search(task, guess).run()


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
        raw = channels.combine(line.gradients(quantity, index, channels.place), scenario)
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


def build_program(
    task: Task,
    point: Point,
    slopes: Slopes,
    rows: IntArray,
    bend: tuple[FloatArray, FloatArray],
    damping: float,
    shift: FloatArray | None = None,
) -> Program:
    """The quadratic program at a point, in variables scaled to [0, 1].

    Parameters
    ----------
    slopes : at the point; rows : the working rows that they are of.
    bend : factor [c, r] and diagonal [m] of the curvature on channels and variables (`Curvature.on`).
    damping : extra curvature, relative to the diagonal that is there.
    shift : float64[k], by which something else moves the working rows, in row units.
    """
    steps = task.steps
    width = steps.width
    factor, rest = bend
    proximal = PROXIMAL * price_scale(task) / width + rest
    if damping:
        proximal = proximal + damping * ((factor**2).sum(axis=1)[steps.channel] + rest)
    total = point.totals
    linear = steps.price + steps.spread(slopes.cost - factor @ (total @ factor)) - proximal * point.y
    limit = slopes.rows @ total - point.values[rows]
    if shift is not None:
        limit = limit - shift
    kink, penalty = task.penalties(rows)
    return Program(
        linear=linear * width,
        diagonal=(steps.slope + proximal) * width**2,
        upper=np.ones(width.size),
        channel=steps.channel,
        gain=steps.sign * width,
        factor=factor,
        rows=slopes.rows,
        limit=limit,
        kink=kink,
        penalty=penalty,
    )


def price_scale(task: Task) -> float:
    """Size of prices in this task, currency/kWh."""
    mean = float(np.abs(task.steps.price).mean()) if task.steps.price.size else 0.0
    return max(abs(task.root_price), abs(task.root_reactive_price), mean, 1e-6)


def residuals(
    task: Task, point: Point, rows: IntArray, dual: FloatArray, twins: Twins | None = None
) -> tuple[float, float]:
    """Optimality residual (currency/kWh) and violation (row units) of a point with duals; `twins` follow theirs."""
    steps = task.steps
    slope = steps.price + steps.slope * point.y + steps.spread(_lagrangian(task, point, rows, dual))
    tiny = 1e-9 * steps.width
    low, high = point.y <= tiny, point.y >= steps.width - tiny
    wrong = np.where(low, np.maximum(-slope, 0.0), np.where(high, np.maximum(slope, 0.0), np.abs(slope)))
    gap = np.maximum(point.values, 0.0)
    if twins is not None:
        gap = np.maximum(gap - twins.allowed(point.values), 0.0)
    gap[rows] = _stair_gap(task, point.values[rows], rows, dual)
    return float(wrong.max(initial=0.0)), float(gap.max(initial=0.0))


def _lagrangian(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> FloatArray:
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


class _Search:
    """State of one search; `run` is the loop."""

    def __init__(self, task: Task, guess: Guess) -> None:
        self.task = task
        self.rows, self.dual = guess.rows, guess.dual
        self.curvature = guess.curvature
        self.voltages = list(guess.voltages)
        self.point = self._start(guess.y)
        self.damping = 0.0
        self.solution: Solution | None = None
        self.known: tuple[Point, IntArray, Slopes] | None = None
        self.twins = Twins()

    def run(self) -> Found:
        task, stop = self.task, KKT_STOP * price_scale(self.task)
        self._add_rows(self.point)
        if self.curvature is None or not covers(self.curvature, task.steps):
            self._refresh()
        else:
            self.bend = bend_of(self.curvature, task.steps)
        kkt, violation = residuals(task, self.point, self.rows, self.dual)
        best, stalls, rounds = np.inf, 0, 0
        # Without variables there is nothing to choose: only what the limits let go has to be priced.
        while rounds < task.parameters.iterations_max:
            fresh_rows, backtracked = self._round()
            rounds += 1
            last, (kkt, violation) = kkt, residuals(task, self.point, self.rows, self.dual, self.twins)
            if kkt <= stop and violation <= VIOLATION_STOP:
                break
            merit = kkt / stop + violation / VIOLATION_STOP
            stalls = 0 if merit < 0.5 * best or fresh_rows else stalls + 1
            best = min(best, merit)
            if stalls >= STALLS_MAX and self._acceptable(kkt, violation):
                break
            self._steer(fresh_rows, backtracked, kkt > REFRESH_CONTRACTION * last and rounds > 1)
        assert self.curvature is not None
        return Found(
            point=self.point,
            rows=self.rows,
            dual=self.dual,
            curvature=self.curvature,
            kkt=kkt,
            violation=violation,
            iterations=rounds,
            settled=rounds > 0 and self._acceptable(kkt, violation),
            twins=self.twins,
        )

    def _acceptable(self, kkt: float, violation: float) -> bool:
        return kkt <= self.task.parameters.kkt_max and violation <= self.task.parameters.violation_pu_max

    def _steer(self, fresh_rows: bool, backtracked: bool, slow: bool) -> None:
        if backtracked:
            self.damping = max(2 * self.damping, 0.25)
        else:
            self.damping = self.damping / 4 if self.damping > 0.01 else 0.0
        if backtracked or (slow and not fresh_rows):
            self._refresh()

    def _start(self, y: FloatArray) -> Point:
        """The first point; flexible orders are cut back until there is a power flow."""
        share = 1.0
        while True:
            try:
                return self._evaluate(share * y)
            except GridError:
                if share == 0.0:
                    raise
                share = share / 2 if share > 0.1 else 0.0

    def _evaluate(self, y: FloatArray) -> Point:
        task = self.task
        flows, lines = [], []
        for k, scenario in enumerate(task.steps.scenarios):
            demand = task.steps.demand_kva(y, scenario)
            near = self.voltages[k] if self.voltages[k] is not None else self.voltages[0]
            flow = solve_powerflow(task.network, demand, wiring=task.wiring, factors=task.factors, start=near)
            lines.append(linearise(task.network, demand, flow, wiring=task.wiring, factors=task.factors))
            flows.append(flow)
            self.voltages[k] = flow.voltage
        totals = task.steps.totals(y)
        return Point(y, totals, tuple(flows), tuple(lines), task.limits.values(flows, totals))

    def _slopes(self) -> Slopes:
        """Derivatives of the working rows at the point; what is known of it is not computed again."""
        known = self.known if self.known is not None and self.known[0] is self.point else None
        slopes = slopes_at(self.task, self.point, self.rows, None if known is None else known[1:])
        self.known = (self.point, self.rows, slopes)
        return slopes

    def _add_rows(self, point: Point) -> bool:
        """Set the point, and the working set: rows that are hurt there join it, and idle ones leave it."""
        value = point.values.copy()
        self.point = point
        value[self.rows] = -np.inf
        value -= self.twins.allowed(point.values)
        hurt = bool((value > VIOLATION_STOP).any())
        if not hurt:
            return False
        near = np.flatnonzero(value > -NEAR)
        worst = near[np.argsort(-value[near], kind="stable")[:ROWS_ADDED_MAX]]
        stair = np.zeros(self.rows.size, dtype=np.int64) if self.solution is None else self.solution.stair
        busy = (self.dual > 0) | (point.values[self.rows] > -NEAR) | (stair > 0)
        self.rows = np.concatenate([self.rows[busy], worst])
        self.dual = np.concatenate([self.dual[busy], np.zeros(worst.size)])
        self._leave_twins_out(np.concatenate([stair[busy], np.zeros(worst.size, dtype=np.int64)]))
        return True

    def _leave_twins_out(self, stair: IntArray) -> None:
        """Of rows that are parallel keep the one that is hurt most; it takes the duals of the others."""
        slope = self._slopes().rows
        size = np.maximum(np.linalg.norm(slope, axis=1), 1e-300)
        unit = slope / size[:, None]
        first, second = np.nonzero(np.triu(unit @ unit.T > 1.0 - PARALLEL, 1))
        reach = self.point.values[self.rows] / size
        keep, dual = np.ones(self.rows.size, dtype=bool), self.dual.copy()
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            if keep[i] and keep[j]:
                worse, other = (i, j) if reach[i] >= reach[j] else (j, i)
                keep[other] = False
                self.twins = self.twins.joined(
                    int(self.rows[other]), int(self.rows[worse]), float(size[other] / size[worse])
                )
                dual[worse] += dual[other] * size[other] / size[worse]
                stair[worse] = max(stair[worse], stair[other])
        self.known = (self.point, self.rows[keep], Slopes(self._slopes().cost, slope[keep]))
        self.rows, self.dual = self.rows[keep], dual[keep]
        if self.solution is not None:
            self.solution = replace(self.solution, stair=stair[keep])

    def _refresh(self) -> None:
        task, size = self.task, self.task.wiring.places
        steps = task.steps
        before = self.curvature if self.curvature is not None else (None,) * len(steps.scenarios)
        found = []
        for scenario, line, last in zip(steps.scenarios, self.point.lines, before, strict=True):
            quantity, index, weight = weighted_terms(task, self.rows, self.dual, scenario)
            channels, width = reach_of(steps, size, scenario, last)
            found.append(curvature_at(line, quantity, index, weight, channels, width))
        self.curvature = tuple(found)
        self.bend = bend_of(self.curvature, steps)

    def _round(self) -> tuple[bool, bool]:
        """One quadratic program and the move it asks for; whether rows were added, whether it was cut short."""
        task, point = self.task, self.point
        program = build_program(task, point, self._slopes(), self.rows, self.bend, self.damping)
        bound, stair = self._active_guess()
        answer = solve_program(program, bound, stair, point.y / task.steps.width, self.dual)
        target, dual = answer.y * task.steps.width, answer.dual
        self.solution = answer
        before, share = self.dual, 1.0
        price = 2.0 * np.maximum(dual, before)
        merit = self._merit(point, price)
        slack = 1e-6 * abs(merit) + 1e-12
        for attempt in range(BACKTRACKS_MAX + 1):
            y = target if share == 1.0 else point.y + share * (target - point.y)
            self.dual = before + share * (dual - before)
            try:
                trial = self._evaluate(y)
            except GridError:
                share /= 2
                continue
            if attempt == BACKTRACKS_MAX or self._merit(trial, price) <= merit + slack:
                break
            known = residuals(task, point, self.rows, before)[0]
            kkt = residuals(task, trial, self.rows, self.dual)[0]
            if kkt < 0.5 * known or self._is_hurt(trial):
                break
            share /= 2
        else:
            trial, self.dual = point, before
        return self._add_rows(trial), share < 1.0

    def _is_hurt(self, point: Point) -> bool:
        """A row outside the working set is hurt: no step length is to blame for that."""
        value = point.values.copy()
        value[self.rows] = -np.inf
        value -= self.twins.allowed(point.values)
        return bool((value > VIOLATION_STOP).any())

    def _merit(self, point: Point, price: FloatArray) -> float:
        task, flow = self.task, point.flow
        root = task.root_price * flow.root_kw + task.root_reactive_price * flow.root_kvar
        return task.steps.cost(point.y) + root + float(price @ np.maximum(point.values[self.rows], 0.0))

    def _active_guess(self) -> tuple[IntArray, IntArray]:
        if self.solution is not None:
            return self.solution.bound, self.solution.stair
        width, y = self.task.steps.width, self.point.y
        bound = np.where(y <= 0, -1, np.where(y >= width, 1, 0)).astype(np.int64)
        return bound, (self.dual > 0).astype(np.int64)
