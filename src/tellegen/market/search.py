"""The search for the optimum: sequential quadratic programs with the AC power flow in the loop.

Variables are the orders alone; voltages and flows follow from the power flow, their derivatives from adjoints. Each
round solves a quadratic program at the last operating point, moves there, solves the power flow and measures the
optimality of that very point: the residual is that of the non-linear problem, so neither the curvature nor the
program's accuracy has to be trusted. Limits enter as rows when they are hurt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, solve_powerflow
from tellegen.grid.sensitivity import Linearisation, Quantity, linearise
from tellegen.market.curvature import Curvature, channels_of, curvature_at
from tellegen.market.limits import Limits
from tellegen.market.parameters import Parameters
from tellegen.market.program import Program, Solution
from tellegen.market.qp import solve_program
from tellegen.market.steps import Steps

NEAR = 1e-4
"""Rows closer to their limit than this join the working set together with a hurt one."""
ROWS_ADDED_MAX = 20
BACKTRACKS_MAX = 6
KKT_STOP = 1e-7
"""Residual at which the search ends, relative to the scale of prices."""
VIOLATION_STOP = 1e-9
PROXIMAL = 1e-9
"""Relative weight that keeps a step near where it starts: it decides only between equals."""
REFRESH_CONTRACTION = 0.1
STALLS_MAX = 4


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is to be cleared, in the search's terms; root prices in currency/kWh and currency/kvarh."""

    network: Network
    factors: Factors
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
    """One dispatch with its power flow: y [m], row values [R], derivatives of root and working rows.

    `root` complex[2, N]: derivatives of root kW and kvar with respect to demand. `rows` complex[k, N]: of the
    working rows, in row units per kW.
    """

    y: FloatArray
    flow: PowerFlow
    line: Linearisation
    values: FloatArray
    root: ComplexArray
    rows: ComplexArray


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Where a search starts: variables, working rows with duals, curvature and voltage of the last one."""

    y: FloatArray
    rows: IntArray
    dual: FloatArray
    curvature: Curvature | None
    voltage: ComplexArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where a search ended, with the evidence.

    `kkt` in currency/kWh, `violation` in row units (excess beyond what the duals say was let go), `settled`: both are
    within the stops or, after a stall, within what the parameters accept.
    """

    point: Point
    rows: IntArray
    dual: FloatArray
    curvature: Curvature
    kkt: float
    violation: float
    iterations: int
    settled: bool


def search(task: Task, guess: Guess) -> Found:
    """Run the search.

    Raises
    ------
    GridError : not even the fixed demand alone has a power flow.
    """
    return _Search(task, guess).run()


def build_program(
    task: Task,
    point: Point,
    rows: IntArray,
    bend: tuple[FloatArray, FloatArray],
    damping: float,
    shift_kva: ComplexArray | None = None,
) -> Program:
    """The quadratic program at a point, in variables scaled to [0, 1].

    Parameters
    ----------
    rows : working rows, as in `point.rows`.
    bend : factor [c, r] and diagonal [m] of the curvature on channels and variables (`Curvature.on`).
    damping : extra curvature, relative to the diagonal that is there.
    shift_kva : complex[N], demand added to the fixed demand, to first order in the rows.
    """
    steps = task.steps
    width = steps.width
    factor, rest = bend
    proximal = PROXIMAL * price_scale(task) / width + rest
    if damping:
        proximal = proximal + damping * ((factor**2).sum(axis=1)[steps.channel] + rest)
    first = steps.price + steps.project(task.root_price * point.root[0] + task.root_reactive_price * point.root[1])
    gain = steps.sign * width
    total = np.bincount(steps.channel, steps.sign * point.y, minlength=factor.shape[0])
    linear = first - (factor @ (total @ factor))[steps.channel] * steps.sign - proximal * point.y
    matrix = steps.channels.project(point.rows).reshape(rows.size, total.size)
    limit = matrix @ total - point.values[rows]
    if shift_kva is not None:
        limit = limit - (point.rows.real @ shift_kva.real + point.rows.imag @ shift_kva.imag)
    kink, penalty = task.penalties(rows)
    return Program(
        linear=linear * width,
        diagonal=(steps.slope + proximal) * width**2,
        upper=np.ones(width.size),
        channel=steps.channel,
        gain=gain,
        factor=factor,
        rows=matrix,
        limit=limit,
        kink=kink,
        penalty=penalty,
    )


def price_scale(task: Task) -> float:
    """Size of prices in this task, currency/kWh."""
    mean = float(np.abs(task.steps.price).mean()) if task.steps.price.size else 0.0
    return max(abs(task.root_price), abs(task.root_reactive_price), mean, 1e-6)


def residuals(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> tuple[float, float]:
    """Optimality residual (currency/kWh) and violation (row units) of a point with duals."""
    steps = task.steps
    total = task.root_price * point.root[0] + task.root_reactive_price * point.root[1] + dual @ point.rows
    slope = steps.price + steps.slope * point.y + steps.project(total)
    tiny = 1e-9 * steps.width
    low, high = point.y <= tiny, point.y >= steps.width - tiny
    wrong = np.where(low, np.maximum(-slope, 0.0), np.where(high, np.maximum(slope, 0.0), np.abs(slope)))
    gap = np.maximum(point.values, 0.0)
    gap[rows] = _stair_gap(task, point.values[rows], rows, dual)
    return float(wrong.max(initial=0.0)), float(gap.max(initial=0.0))


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
        self.voltage = guess.voltage
        self.point = self._start(guess.y)
        self.damping = 0.0
        self.solution: Solution | None = None

    def run(self) -> Found:
        task, stop = self.task, KKT_STOP * price_scale(self.task)
        self._add_rows(self.point)
        if self.curvature is None or not self.curvature.covers(task.steps):
            self._refresh()
        else:
            self.bend = self.curvature.on(task.steps)
        kkt, violation = residuals(task, self.point, self.rows, self.dual)
        best, stalls, rounds = np.inf, 0, 0
        # Without variables there is nothing to choose: only what the limits let go has to be priced.
        while rounds < task.parameters.iterations_max:
            fresh_rows, backtracked = self._round()
            rounds += 1
            last, (kkt, violation) = kkt, residuals(task, self.point, self.rows, self.dual)
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
        demand = task.steps.demand_kva(y)
        flow = solve_powerflow(task.network, demand, factors=task.factors, start=self.voltage)
        line = linearise(task.network, demand, flow, factors=task.factors)
        self.voltage = flow.voltage
        empty = np.zeros((0, flow.voltage.size), dtype=np.complex128)
        return self._differentiate(Point(y, flow, line, task.limits.values(flow), empty, empty))

    def _differentiate(self, point: Point) -> Point:
        limits, rows = self.task.limits, self.rows
        quantity = np.concatenate([[Quantity.ROOT_KW, Quantity.ROOT_KVAR], limits.quantity[rows]])
        index = np.concatenate([[0, 0], limits.index[rows]]).astype(np.int64)
        raw = point.line.gradients(quantity.astype(np.int64), index)
        scaled = raw[2:] * (limits.sign[rows] / limits.scale[rows])[:, None]
        return replace(point, root=raw[:2], rows=scaled)

    def _add_rows(self, point: Point) -> bool:
        """Widen the working set by the rows that are hurt most at a point, and set the point."""
        value = point.values.copy()
        value[self.rows] = -np.inf
        hurt = bool((value > VIOLATION_STOP).any())
        if hurt:
            near = np.flatnonzero(value > -NEAR)
            worst = near[np.argsort(-value[near], kind="stable")[:ROWS_ADDED_MAX]]
            self.rows = np.concatenate([self.rows, worst])
            self.dual = np.concatenate([self.dual, np.zeros(worst.size)])
            if self.solution is not None:
                stair = np.concatenate([self.solution.stair, np.zeros(worst.size, dtype=np.int64)])
                self.solution = replace(self.solution, stair=stair)
            point = self._differentiate(point)
        self.point = point
        return hurt

    def _refresh(self) -> None:
        task, size = self.task, len(self.task.network.nodes)
        limits, rows = task.limits, self.rows
        channels = channels_of(task.steps, size, self.curvature)
        width = np.zeros(2 * size)
        np.add.at(width, task.steps.node, task.steps.width * np.abs(task.steps.active))
        np.add.at(width, size + task.steps.node, task.steps.width * np.abs(task.steps.reactive))
        weight = np.concatenate(
            [[task.root_price, task.root_reactive_price], self.dual * limits.sign[rows] / limits.scale[rows]]
        )
        quantity = np.concatenate([[Quantity.ROOT_KW, Quantity.ROOT_KVAR], limits.quantity[rows]]).astype(np.int64)
        index = np.concatenate([[0, 0], limits.index[rows]]).astype(np.int64)
        self.curvature = curvature_at(self.point.line, quantity, index, weight, channels, width)
        self.bend = self.curvature.on(task.steps)

    def _round(self) -> tuple[bool, bool]:
        """One quadratic program and the move it asks for; whether rows were added, whether it was cut short."""
        task, point = self.task, self.point
        program = build_program(task, point, self.rows, self.bend, self.damping)
        bound, stair = self._active_guess()
        answer = solve_program(program, bound, stair)
        target, dual = answer.y * task.steps.width, answer.dual
        self.solution = answer
        before, share = self.dual, 1.0
        price = 2.0 * np.maximum(dual, before)
        merit = self._merit(point, price)
        known = residuals(task, point, self.rows, before)[0]
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
