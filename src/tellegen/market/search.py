"""The search for the optimum: sequential quadratic programs with the AC power flow in the loop.

Variables are the orders alone; voltages and flows follow from the power flow, their derivatives from adjoints. Each
round solves a quadratic program at the last operating point, moves there, solves the power flow and measures the
optimality of that very point: the residual is that of the non-linear problem, so neither the curvature nor the
program's accuracy has to be trusted. Limits enter as rows when they are hurt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.powerflow import GridError
from tellegen.market.curvature import Bend, bend_at, sharpened
from tellegen.market.effort import Effort
from tellegen.market.limits import LimitType
from tellegen.market.operating_point import (
    TWIN_SLACK,
    Point,
    Slopes,
    Task,
    Twins,
    network_pull,
    point_at,
    price_scale,
    residuals,
    slopes_at,
    strayed,
)
from tellegen.market.program import Program, Solution
from tellegen.market.qp import solve_program

NEAR = 2e-5
"""Rows closer to their limit than this join the working set together with a hurt one."""
ROWS_ADDED = 20
BACKTRACKS_MAX = 6
KKT_STOP = 5e-8
"""Residual at which the search ends, relative to the scale of prices."""
VIOLATION_STOP = 1e-9
PROXIMAL = 1e-9
"""Relative weight that keeps a step near where it starts: it decides only between equals."""
DAMPED = 1e-3
"""Damping's own curvature, as a share of prices over a variable's width: where the network has none, or bends down."""
REFRESH_CONTRACTION = 0.3
PARALLEL = 1e-9
"""Rows whose directions differ by less (one less their cosine) are one limit met twice: two ends of a line, lines in
series, legs of a split phase."""
PATIENCE = 6
"""Rounds that the curvature is left to learn from steps before it is computed again."""
SECANTS_MAX = 20
SECANT_MIN = 1e-3
"""A step teaches nothing where what is lacking is more nearly across it than this cosine."""
STALLS_MAX = 4
ON_STAIR = 1e-9
"""A dual nearer than this share to a penalty is that penalty: the limit has given way."""
SHARP, SHARP_CHANNELS_MAX = 0.06, 60
"""A round that leaves more than this share of the residual asks for exact curvature among so many free channels."""
CHORD = 1e-2
"""Residual, as a share of the size of prices, from which on derivatives of rows are not computed again."""
CHORD_MIN = 10_000
"""Fewer rows times nodes are worth no extra round."""


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Where a search starts: variables float64[m], and working rows int64[k] with their duals float64[k].

    `voltages` are those of the scenarios complex128[N], where they are known.
    """

    y: FloatArray
    rows: IntArray
    dual: FloatArray
    voltages: tuple[ComplexArray, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where a search ended, with the evidence.

    `kkt` in currency/kWh, `violation` in row units (excess beyond what the duals say was let go), `settled`: both are
    within the stops or, after a stall, within what the parameters accept, and the point is not `strayed`.
    `iterations`: quadratic programs of the whole clearing until then.
    """

    point: Point
    rows: IntArray
    dual: FloatArray
    bend: Bend
    kkt: float
    violation: float
    iterations: int
    settled: bool
    strayed: bool
    twins: Twins

    def shortcoming(self) -> str:
        """Why it did not settle."""
        if self.strayed:
            return "it ended at voltages of larger losses than those reached from no load"
        if self.kkt == np.inf:
            return "no quadratic program was left to it"
        return f"residual {self.kkt:.1e} currency/kWh, violation {self.violation:.1e} pu"


def search(task: Task, guess: Guess, effort: Effort) -> Found:
    """Run the search, as long as effort is left.

    Raises
    ------
    GridError : not even the fixed demand alone has a power flow.
    """
    return _Search(task, guess).run(effort)


def build_program(
    task: Task,
    point: Point,
    slopes: Slopes,
    rows: IntArray,
    bend: Bend,
    damping: float,
    shift: FloatArray | None = None,
    box: tuple[FloatArray, FloatArray] | None = None,
) -> Program:
    """The quadratic program at a point, in variables scaled to [0, 1].

    Parameters
    ----------
    slopes : at the point; rows : the working rows that they are of.
    bend : the curvature.
    damping : extra curvature, relative to the diagonal that is there and a little.
    shift : float64[k], by which something else moves the working rows, in row units.
    box : float64[m] each, where each variable's range begins and how wide it is; 0 and its width where absent.
    """
    steps = task.steps
    width = steps.width
    low, span = (np.zeros_like(width), width) if box is None else box
    begin = steps.totals(low)
    factor, rest = bend.factor, bend.rest
    proximal = PROXIMAL * price_scale(task) / width + rest
    if damping:
        own = DAMPED * price_scale(task) / width
        proximal = proximal + damping * ((factor**2).sum(axis=1)[steps.channel] + rest + own)
    # The range may begin elsewhere than at nothing: what the point is beyond it.
    total = point.totals - begin
    bent = factor @ (total @ factor) if bend.square is None else bend.square @ total
    linear = steps.price + steps.slope * low + steps.spread(slopes.cost - bent) - proximal * (point.y - low)
    limit = slopes.rows @ total - point.values[rows]
    if shift is not None:
        limit = limit - shift
    kink, penalty = task.penalties(rows)
    return Program(
        linear=linear * span,
        diagonal=(steps.slope + proximal) * span**2,
        upper=np.ones(width.size),
        channel=steps.channel,
        gain=steps.sign * span,
        factor=factor,
        square=bend.square,
        rows=slopes.rows,
        limit=limit,
        kink=kink,
        penalty=penalty,
        engine=task.factors.engine,
    )


class _Search:
    """State of one search; `run` is the loop."""

    def __init__(self, task: Task, guess: Guess) -> None:
        self.task = task
        self.rows, self.dual = guess.rows, guess.dual
        self.bend: Bend
        self.rough: Bend
        self.voltages, self.exact = guess.voltages, bool(guess.voltages)
        self.point = self._start(guess.y)
        self.damping = 0.0
        self.solution: Solution | None = None
        self.known: tuple[Point, IntArray, Slopes] | None = None
        self.twins, self.adding = Twins(), ROWS_ADDED
        self.kin: dict[tuple[int, int], float] = {}
        self.learned, self.patience, self.refreshed = 0, PATIENCE, 0

    def run(self, effort: Effort) -> Found:
        task = self.task
        stop = min(KKT_STOP * price_scale(task), task.parameters.kkt_max)
        self._add_rows(self.point)
        self._refresh()
        kkt, violation = np.inf, np.inf
        best, stalls, rounds = np.inf, 0, 0
        if self.exact:
            self._one_end_each()
            kkt, violation = residuals(task, self.point, self.rows, self.dual, self.twins)
        # Without variables there is nothing to choose: only what the limits let go has to be priced.
        there = kkt <= stop and violation <= VIOLATION_STOP
        while not there and rounds < min(task.parameters.iterations_max, rounds + effort.left):
            effort.spend()
            before, slopes = self.point, (self.rows, self._slopes())
            fresh_rows, backtracked = self._round()
            rounds += 1
            pull = network_pull(task, self.point, self.rows, self.dual)
            last, (kkt, violation) = kkt, residuals(task, self.point, self.rows, self.dual, self.twins, pull)
            if kkt <= stop and violation <= VIOLATION_STOP:
                break
            merit = kkt / stop + violation / VIOLATION_STOP
            stalls = 0 if merit < 0.5 * best or fresh_rows else stalls + 1
            best = min(best, merit)
            if stalls >= STALLS_MAX and self._acceptable(kkt, violation):
                break
            self._learn(before, slopes, pull)
            dear = self.rows.size * len(task.network.nodes) >= CHORD_MIN
            if dear and not fresh_rows and kkt < min(CHORD * price_scale(task), last / 2):
                self._keep_rows(slopes[1].rows, pull)
            self._steer(fresh_rows, backtracked, kkt > REFRESH_CONTRACTION * last and rounds > 1)
            if not fresh_rows and not backtracked and kkt > SHARP * last:
                self._sharpen()
        self._let_twins_go()
        ended = self._acceptable(kkt, violation)
        astray = ended and strayed(task, self.point)
        return Found(
            point=self.point,
            rows=self.rows,
            dual=self.dual,
            bend=self.bend,
            kkt=kkt,
            violation=violation,
            iterations=effort.spent,
            settled=ended and not astray,
            strayed=astray,
            twins=self.twins.without(self.rows),
        )

    def _acceptable(self, kkt: float, violation: float) -> bool:
        return kkt <= self.task.parameters.kkt_max and violation <= self.task.parameters.violation_pu_max

    def _keep_rows(self, rows: FloatArray, pull: FloatArray) -> None:
        """Take the rows' derivatives as they were, and what they miss into the cost's: `pull`, hence the optimum, is
        exact."""
        self.known = (self.point, self.rows, Slopes(pull - self.dual @ rows, rows))

    def _learn(self, before: Point, slopes: tuple[IntArray, Slopes], pull: FloatArray) -> None:
        """Add to the curvature what the last step showed that it lacks (symmetric rank one, kept definite)."""
        rows, known = slopes
        dual = np.zeros(known.rows.shape[0])
        order = np.argsort(self.rows, kind="stable")
        place = np.minimum(np.searchsorted(self.rows[order], rows), self.rows.size - 1) if self.rows.size else rows
        if self.rows.size:
            same = self.rows[order][place] == rows
            dual[same] = self.dual[order[place[same]]]
            if float(self.dual.sum()) - float(dual.sum()) > 1e-12 * float(self.dual.sum()):
                return
        step = self.point.totals - before.totals
        own = self.task.steps.totals(self.bend.rest * (self.point.y - before.y))
        bent = self.bend.factor @ (step @ self.bend.factor)
        lacking = pull - known.cost - dual @ known.rows - bent - own
        missed = float(lacking @ step)
        size = float(np.linalg.norm(lacking) * np.linalg.norm(step))
        if missed > SECANT_MIN * size and self.learned < SECANTS_MAX:
            self.bend = self.bend.with_more(lacking / np.sqrt(missed))
            self.learned += 1

    def _steer(self, fresh_rows: bool, backtracked: bool, slow: bool) -> None:
        if backtracked:
            self.damping = max(2 * self.damping, 0.25)
        else:
            self.damping = self.damping / 4 if self.damping > 0.01 else 0.0
        self.patience = max(self.patience - 1, 0)
        if backtracked or (slow and not fresh_rows and self.patience == 0):
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
        # From where the search stands, never from a trial that was turned down: that may be another branch.
        return point_at(self.task, y, self.voltages)

    def _slopes(self) -> Slopes:
        """Derivatives of the working rows at the point; what is known of it is not computed again."""
        known = self.known if self.known is not None and self.known[0] is self.point else None
        slopes = slopes_at(self.task, self.point, self.rows, None if known is None else known[1:])
        self.known = (self.point, self.rows, slopes)
        return slopes

    def _add_rows(self, point: Point) -> bool:
        """Set the point, and the working set: rows that are hurt there join it, and idle ones leave it."""
        value = point.values.copy()
        self.point, self.voltages = point, tuple(flow.voltage for flow in point.flows)
        value[self.rows] = -np.inf
        value -= self.twins.allowed(point.values, self.task.limits)
        hurt = bool((value > VIOLATION_STOP).any())
        if not hurt:
            return False
        near = np.flatnonzero((value > -NEAR) & self.task.limits.peaks(value))
        worst = near[np.argsort(-value[near], kind="stable")[: self.adding]]
        # Where every round finds as many again, a few at a time would take for ever.
        self.adding = 2 * self.adding if worst.size == self.adding else ROWS_ADDED
        stair = np.zeros(self.rows.size, dtype=np.int64) if self.solution is None else self.solution.stair
        busy = (self.dual > 0) | (point.values[self.rows] > -NEAR) | (stair > 0)
        self.rows = np.concatenate([self.rows[busy], worst])
        self.dual = np.concatenate([self.dual[busy], np.zeros(worst.size)])
        self._leave_twins_out(np.concatenate([stair[busy], np.zeros(worst.size, dtype=np.int64)]))
        return True

    def _leave_twins_out(self, stair: IntArray) -> None:
        """Keep of parallel rows that which is hurt most, with the duals of the others, and all that are in excess."""
        slope = self._slopes().rows
        size = np.maximum(np.linalg.norm(slope, axis=1), 1e-300)
        unit = slope / size[:, None]
        first, second = np.nonzero(np.triu(unit @ unit.T > 1.0 - PARALLEL, 1))
        reach = self.point.values[self.rows] / size
        keep, dual = np.ones(self.rows.size, dtype=bool), self.dual.copy()
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            if keep[i] and keep[j]:
                one = self.task.limits.ends_of_one(int(self.rows[i]), int(self.rows[j]))
                by = self.point.values[self.rows] if one else reach
                worse, other = (i, j) if by[i] >= by[j] - TWIN_SLACK * abs(by[j]) else (j, i)
                pair = int(self.rows[other]), int(self.rows[worse])
                allowed = max(VIOLATION_STOP, self.point.values[pair[1]] + TWIN_SLACK if one else 0.0)
                if pair in self.kin or self.point.values[pair[0]] > allowed:
                    # Each gives way along a curve of its own.
                    self.kin[pair] = float(size[other] / size[worse])
                    continue
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

    def _one_end_each(self) -> None:
        """Of the two ends of a line that a start holds, the one in larger excess stands for both."""
        limits, values = self.task.limits, self.point.values
        rated = np.flatnonzero(limits.kind[self.rows] == LimitType.RATING)
        keep = np.ones(self.rows.size, dtype=bool)
        for i, j in combinations(rated.tolist(), 2):
            one, other = int(self.rows[i]), int(self.rows[j])
            if keep[i] and keep[j] and limits.ends_of_one(one, other):
                worse, less = (i, j) if values[one] >= values[other] else (j, i)
                keep[less] = False
                self.dual[worse] = max(self.dual[worse], self.dual[less])
                self.twins = self.twins.joined(int(self.rows[less]), int(self.rows[worse]), 1.0)
        self.rows, self.dual = self.rows[keep], self.dual[keep]

    def _let_twins_go(self) -> None:
        """At the end parallel rows that both are at their limit are one again, if one curve allows both duals."""
        for (other, worse), steeper in self.kin.items():
            at = {int(row): k for k, row in enumerate(self.rows)}
            if other not in at or worse not in at or np.abs(self.point.values[[other, worse]]).max() > TWIN_SLACK:
                continue
            both = self.dual[at[worse]] + self.dual[at[other]] * steeper
            if both <= self.task.penalties(np.array([worse]))[1][0, 0]:
                self.dual[at[worse]] = both
                self.twins = self.twins.joined(other, worse, steeper)
                kept = np.arange(self.rows.size) != at[other]
                self.rows, self.dual = self.rows[kept], self.dual[kept]

    def _refresh(self) -> None:
        exact = self.refreshed > 0
        self.bend = self.rough = bend_at(self.task, self.point, self.rows, self.dual, exact=exact)
        self.learned, self.patience, self.refreshed = 0, PATIENCE, self.refreshed + 1
        self.sharp = np.zeros(0, dtype=np.int64)

    def _sharpen(self) -> None:
        """Exact curvature among the channels that are free to move, where few are and it was not so already."""
        if self.bend.square is not None or self.solution is None:
            return
        among = np.unique(self.task.steps.channel[self.solution.bound == 0])
        if among.size > SHARP_CHANNELS_MAX or np.isin(among, self.sharp).all():
            return
        # What was learned of the rough one may be too much where it is exact.
        self.bend = sharpened(self.rough, self.task, self.point, self.rows, self.dual, among)
        self.sharp, self.learned = among, 0

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
        value -= self.twins.allowed(point.values, self.task.limits)
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
        first, second = self.task.penalties(self.rows)[1].T * (1 - ON_STAIR)
        stair = 1 * (self.dual > 0) + (self.dual >= first) + (self.dual > first / (1 - ON_STAIR) ** 2)
        return bound, np.where(self.dual >= second, 4, stair).astype(np.int64)
