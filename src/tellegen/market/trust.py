"""A cautious search, for where the quick one has no ground under its feet: elastic programs in a trust region.

Each step solves the same quadratic program as `tellegen.market.search`, but no variable moves by more than a share of
its width, rows that the step hurts join before it is judged, and it is taken only if the whole merit (cost, and the
published penalties of all rows, in the working set or not) falls by a fair part of what was promised. It ends near an
optimum; the quick search goes on from there.
"""

from __future__ import annotations

import numpy as np

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.powerflow import GridError
from tellegen.market.curvature import bend_at
from tellegen.market.effort import Effort
from tellegen.market.operating_point import Point, Task, point_at, price_scale, slopes_at
from tellegen.market.program import Program
from tellegen.market.qp import solve_program
from tellegen.market.search import Guess, build_program

STEPS_MAX, JOININGS_MAX = 80, 6
RADIUS_FIRST, RADIUS_LEAST = 0.25, 1e-5
"""Share of its width by which a variable may move."""
FAIR, GOOD = 0.1, 0.5
"""Share of what was promised at which a step is taken, and at which the region grows."""
SHRINKS, GROWS = 3.0, 2.0
ROWS_JOIN = 100
LEAP_MAX = 0.25
"""A voltage that changes by more, per unit, is one of another solution of the power flow."""
SLACK = 0.02
"""Rows further from their limit than this leave."""
DONE, GENTLE_DONE = 1e-6, 1e-3
"""A step that promises less than this share of all power at the size of prices is the last, near the optimum and on the
way to a harder task."""


def approach(task: Task, guess: Guess, enough: float, effort: Effort) -> tuple[Point, IntArray, FloatArray]:
    """A point near an optimum, or as far as the effort goes, working rows, and their duals.

    Raises
    ------
    GridError : there is no power flow where it should begin.
    """
    return _Approach(task, guess, effort).run(enough)


class _Approach:
    def __init__(self, task: Task, guess: Guess, effort: Effort) -> None:
        self.effort = effort
        self.task, self.rows, self.dual = task, guess.rows, guess.dual
        self.point = point_at(task, guess.y, guess.voltages)
        self.kink, self.penalty = task.penalties(np.arange(len(task.limits)))
        self.radius = RADIUS_FIRST

    def run(self, enough: float) -> tuple[Point, IntArray, FloatArray]:
        """Step until nothing more is promised."""
        task = self.task
        self._join(self.point)
        done = enough * price_scale(task) * float(task.steps.width.sum() + np.abs(task.steps.fixed_kva[0]).sum())
        for _ in range(min(STEPS_MAX, 2 * task.parameters.iterations_max)):
            if not self.effort.left:
                break
            promised = self._step()
            if promised < done or self.radius < RADIUS_LEAST:
                break
        return self.point, self.rows, self.dual

    def _step(self) -> float:
        """One step, taken or not; what its program promised."""
        task, point = self.task, self.point
        reach = self.radius * task.steps.width
        low = np.maximum(point.y - reach, 0.0)
        span = np.minimum(point.y + reach, task.steps.width) - low
        slopes, known = slopes_at(task, point, self.rows), self.rows
        bend = bend_at(task, point, self.rows, self.dual)
        trial: Point | None = None
        for _ in range(min(JOININGS_MAX, self.effort.left)):
            self.effort.spend()
            slopes = slopes_at(task, point, self.rows, (known, slopes))
            known = self.rows
            program = build_program(task, point, slopes, self.rows, bend, 0.0, box=(low, span))
            here = np.clip((point.y - low) / span, 0.0, 1.0)
            bound = np.where(here <= 0, -1, np.where(here >= 1, 1, 0))
            answer = solve_program(program, bound, (self.dual > 0).astype(np.int64), here, self.dual)
            try:
                trial = point_at(task, low + span * answer.y, tuple(flow.voltage for flow in point.flows))
            except GridError:
                trial = None
                break
            if not self._join(trial):
                break
        if trial is not None and leap(trial.flow.voltage, point.flow.voltage) > LEAP_MAX:
            trial = None
        promised = _worth(program, here) - _worth(program, answer.y)
        if trial is None or self._merit(point) - self._merit(trial) < FAIR * promised:
            self.radius /= SHRINKS
            return promised
        if self._merit(point) - self._merit(trial) > GOOD * promised:
            self.radius = min(1.0, GROWS * self.radius)
        # Rows that joined after the last program have no dual of it yet.
        fresh = np.zeros(self.rows.size - answer.dual.size)
        self.point, self.dual = trial, np.concatenate([answer.dual, fresh])
        idle = (self.dual <= 0) & (trial.values[self.rows] < -SLACK)
        self.rows, self.dual = self.rows[~idle], self.dual[~idle]
        return promised

    def _join(self, point: Point) -> bool:
        """Rows that are hurt at a point join the working set; whether any did."""
        value = point.values.copy()
        value[self.rows] = -np.inf
        hurt = np.flatnonzero(value > 1e-6)
        worst = hurt[np.argsort(-value[hurt], kind="stable")[:ROWS_JOIN]]
        self.rows = np.concatenate([self.rows, worst])
        self.dual = np.concatenate([self.dual, np.zeros(worst.size)])
        return bool(worst.size)

    def _merit(self, point: Point) -> float:
        task, flow = self.task, point.flow
        root = task.root_price * flow.root_kw + task.root_reactive_price * flow.root_kvar
        return task.steps.cost(point.y) + root + _let_go(point.values, self.kink, self.penalty)


def leap(voltage: ComplexArray, last: ComplexArray) -> float:
    """Largest change of a voltage's magnitude."""
    return float(np.abs(np.abs(voltage) - np.abs(last)).max(initial=0.0))


def _let_go(excess: FloatArray, kink: FloatArray, penalty: FloatArray) -> float:
    """What excesses cost on their penalty curves."""
    excess = np.maximum(excess, 0.0)
    margin = np.minimum(excess, kink[:, 1])
    return float(penalty[:, 0] @ margin + penalty[:, 1] @ (excess - margin))


def _worth(program: Program, y: FloatArray) -> float:
    """The objective of a program."""
    total = program.total(y)
    smooth = program.linear @ y + 0.5 * (program.diagonal * y) @ y + 0.5 * float(total @ program.bent(total))
    return float(smooth) + _let_go(program.rows @ total - program.limit, program.kink, program.penalty)
