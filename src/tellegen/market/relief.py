"""Where a search can begin when no power flow is known: demand gives way to voltage first, and less and less.

At full relief inflexible demand draws as an impedance does, and at every node virtual kvar hold the voltage, so that
nearly any dispatch has a power flow. Cautious steps (`trust`) lead to the optimum of that task. Then relief is taken
back as far as the dispatch at hand still has a power flow, the search goes on from there, and so on until none is left:
demand is the constant power that was asked for, and nothing holds a voltage but what is offered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from tellegen.grid.connections import Wiring
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import ComplexArray, FloatArray
from tellegen.grid.powerflow import GridError
from tellegen.market.effort import Effort
from tellegen.market.limits import LimitType
from tellegen.market.operating_point import Task, point_at
from tellegen.market.search import Guess
from tellegen.market.steps import Effect
from tellegen.market.trust import DONE, GENTLE_DONE, LEAP_MAX, approach, leap

STAGES_MAX, STEP_LEAST = 24, 0.01
"""How often relief is taken back, and by how little."""
HOLDING = 2.0
"""Strength of the virtual kvar at full relief, in units of the admittance that a node sees."""
SHARES = 1.0, 0.7, 0.4, 0.2, 0.1, 0.0
"""Of what sellers offer towards the demand, to begin with."""


def cautious(task: Task, guess: Guess, effort: Effort) -> Guess:
    """Near an optimum that cautious steps lead to from a dispatch, cut back until there is a power flow.

    Raises
    ------
    GridError : not even the demand that nobody may curtail has a power flow alone.
    """
    return _optimum(task, _begin(task, guess.y), DONE, effort)


def relief(task: Task, effort: Effort) -> Guess:
    """Near an optimum, from full relief.

    Raises
    ------
    GridError : no power flow is found for any of what leads there, or the effort is spent on the way.
    """
    much, gentle = 2.0, _relieved(task, 2.0)
    guess = _begin(gentle, _even(task))
    for _ in range(STAGES_MAX):
        guess = _optimum(gentle, guess, GENTLE_DONE, effort)
        # The other half is for what is left to do then.
        if 2 * effort.left <= effort.most:
            break
        much, gentle, guess = _harder(task, much, guess)
        if much == 0.0:
            return _optimum(task, guess, DONE, effort)
    raise GridError(
        f"{task.network.name}: relief ended at {50 * much:.3g} %, after {effort.spent} quadratic programs in all"
    )


def _optimum(task: Task, guess: Guess, enough: float, effort: Effort) -> Guess:
    point, rows, dual = approach(task, guess, enough, effort)
    return Guess(point.y, rows, dual, tuple(flow.voltage for flow in point.flows))


def _even(task: Task) -> FloatArray:
    """A dispatch in which every seller of energy serves the same share of the demand that nobody may curtail."""
    steps = task.steps
    selling = (steps.sign < 0) & (steps.channels.effect[steps.channel] == Effect.DEMAND)
    selling &= steps.channels.active[steps.channel] > 0
    demand, most = float(steps.fixed_kva[0].real.sum()), float(steps.width[selling].sum())
    return np.where(selling, steps.width * min(max(demand, 0.0) / max(most, 1e-300), 1.0), 0.0)


def _begin(task: Task, y: FloatArray) -> Guess:
    """The dispatch, cut back where it has no power flow."""
    for share in SHARES:
        try:
            point = point_at(task, share * y, ())
        except GridError:
            if share == SHARES[-1]:
                raise
            continue
        break
    return Guess(point.y, np.zeros(0, dtype=np.int64), np.zeros(0), tuple(flow.voltage for flow in point.flows))


def _harder(task: Task, much: float, guess: Guess) -> tuple[float, Task, Guess]:
    """The least relief, halving the way, with which the dispatch at hand has a power flow near its last."""
    step = much
    while step > STEP_LEAST * much:
        fresh = much - step
        gentle = task if fresh == 0.0 else _relieved(task, fresh)
        try:
            point = point_at(gentle, guess.y, guess.voltages)
            if leap(point.flow.voltage, guess.voltages[0]) <= LEAP_MAX:
                return fresh, gentle, replace(guess, voltages=tuple(flow.voltage for flow in point.flows))
        except GridError:
            pass
        step /= 2
    raise GridError(f"{task.network.name}: no power flow with less than {50 * much:.3g} % of relief")


def _relieved(task: Task, much: float) -> Task:
    """The task with inflexible demand that goes with voltage to the power of ``2 much``, and held voltages."""
    factors, steps = task.factors, task.steps
    power = steps.fixed_kva[0][: len(task.network.nodes)][factors.free] / task.network.base_kva
    drawing, holding = np.flatnonzero(power), np.arange(factors.free.size if much > 1.0 else 0)
    fixed = steps.fixed_kva.copy()
    fixed[:, factors.free[drawing]] -= fixed[0, factors.free[drawing]]
    strength = max(much - 1.0, 0.0) * HOLDING / factors.driving_impedance(factors.free)
    at = np.concatenate([drawing, holding, holding])
    exponent = np.repeat([2.0 * min(much, 1.0), 2.0, 1.0], [drawing.size, holding.size, holding.size])
    one, none = np.ones(at.size), np.zeros(at.size)
    law = LoadLaw(one, exponent, exponent, exponent, none, none, np.full(at.size, np.inf))
    held = 1j * strength[holding]
    drawn = np.concatenate([power[drawing], held, -held * _aim(task)[holding]])
    own = sp.csr_matrix((np.ones(at.size), (at, np.arange(at.size))), shape=(factors.free.size, at.size))
    return replace(task, steps=replace(steps, fixed_kva=fixed), wiring=_beside(task.wiring, own, drawn, law))


def _aim(task: Task) -> FloatArray:
    """The magnitude at which each free node is held: that without load, within its limits."""
    factors, limits = task.factors, task.limits
    aim = np.abs(factors.no_load)
    for kind, clip in ((LimitType.VOLTAGE_MIN, np.maximum), (LimitType.VOLTAGE_MAX, np.minimum)):
        rows = np.flatnonzero((limits.kind == kind) & (limits.scenario == 0))
        at = factors.position[limits.index[rows]]
        aim[at] = clip(aim[at], limits.level[rows])
    return aim


def _beside(wiring: Wiring, own: sp.csr_matrix, power: ComplexArray, law: LoadLaw) -> Wiring:
    """A wiring with more loads, behind its own and before the pairs."""
    if wiring.incidence is None or wiring.law is None:
        return replace(wiring, incidence=own, law=law, power=power)
    count = wiring.power.size
    incidence = sp.csr_matrix(sp.hstack([wiring.incidence[:, :count], own, wiring.incidence[:, count:]]))
    whole = wiring.law.take(slice(0, count)).beside(law).beside(wiring.law.take(slice(count, None)))
    return replace(wiring, incidence=incidence, law=whole, power=np.concatenate([wiring.power, power]))
