"""Where a search begins when it knows no power flow: an interior point, in which nothing needs to balance at first.

The search moves from power flow to power flow; where there is none it has no ground under its feet. Here voltages are
unknowns beside the orders (`equations`), and whatever does not balance is virtual power at a price above that of
shedding. Limits give way at their published penalties, as in the search. What comes out is a dispatch near an optimum
with its voltages, limits and duals; the search goes on from there and has the last word.

Everything that may give way is one kind of row: a value h with ``h + slack - excess = 0``, slack and excess positive, a
price per unit of excess and a dual between nothing and that price. A balance is such a row both ways. Per row these
eliminate to one weight. Method: primal-dual interior point on an exact penalty (Waechter and Biegler 2006); convexified
by what a step shows, without an inertia (Chiang and Zavala 2016).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from tellegen.grid.network import ComplexArray, FloatArray
from tellegen.grid.powerflow import GridError
from tellegen.market.effort import Effort
from tellegen.market.equations import Equations
from tellegen.market.operating_point import Task
from tellegen.market.search import Guess
from tellegen.market.shedding import shedding_prices

ROUNDS_MAX = 4
"""Rounds, as a multiple of a search's."""
VIRTUAL = 2.0
"""Virtual power costs so many times what shedding does."""
FAR, NEAR, BARRIER_LEAST, CENTRING = 1.0, 0.01, 1e-11, 0.1
"""Complementarity aimed at: at first, in the end, and as a share of what the last round left."""
SLACK_FIRST = 0.1
TO_THE_WALL = 0.995
"""Share of the way to a bound that a step may go."""
BLOCKED = 0.003
"""After a step cut to less, slack and excess take up what is off: they were in the way."""
PAIRS_MOST = 3e7
"""Pairs of unknowns that rows may tie together, each some bytes."""
NEARLY = 1e-7
FLAT = 1e-5
"""Off balance and complementarity, and slope of the Lagrangian, from which on it is near the end."""
MORE = 3
"""So many more rounds then make it exact."""
LIFT_FIRST, LIFT_GROWS, LIFT_MAX = 1e-3, 10.0, 1e8
"""Convexity that is added where a step goes uphill."""


def interior_point(task: Task, share: FloatArray, barrier: float, flat: bool, effort: Effort) -> Guess:
    """A dispatch near an optimum, with voltages, limits and duals; each round counts as a quadratic program.

    Parameters
    ----------
    share : float64[m], of each step, to begin with.
    barrier : complementarity to begin with, in money of the problem: `FAR` or `NEAR` the optimum.
    flat : voltages begin at the angle of the source, else at those of no load.

    Raises
    ------
    GridError : it comes to no end.
    """
    # Where a cap and its dual are one number to all digits, or nothing is left to a bound, it comes to no end below.
    with np.errstate(all="ignore"):
        return _to_the_end(Equations(task), share, barrier, flat, effort)


def _to_the_end(problem: Equations, share: FloatArray, barrier: float, flat: bool, effort: Effort) -> Guess:
    task = problem.task
    hard = problem.hard
    virtual = VIRTUAL * shedding_prices(task)[0] * task.network.base_kva / problem.unit
    x, y = problem.start(share, flat)
    value, size = problem.value(x, y), 2 * x.size
    # A balance costs the same both ways: its dual is kept as one between nothing and twice its price.
    free = np.concatenate([np.full(hard, virtual), np.zeros(problem.cap.size)])
    cap = np.concatenate([np.full(hard, 2 * virtual), problem.cap])
    lift, way, near, nothing = 0.0, 1.0, 0, np.zeros(size)
    dual = np.minimum(barrier / np.maximum(-value, SLACK_FIRST), cap / 2)
    dual[:hard] = virtual
    slack, excess = barrier / dual, barrier / (cap - dual)
    slack[hard:] = np.maximum(-value[hard:], SLACK_FIRST)
    slack[:hard] += np.maximum(-value[:hard], 0.0)
    excess[:hard] += np.maximum(value[:hard], 0.0)
    low, high = barrier / y, barrier / (1 - y)
    for _ in range(ROUNDS_MAX * task.parameters.iterations_max):
        if not effort.left:
            break
        effort.spend()
        off = value + slack - excess
        if way < BLOCKED:
            excess, slack = excess + np.maximum(off, 0.0), slack + np.maximum(-off, 0.0)
            off = value + slack - excess
        slope, cost = problem.slope(x), problem.cost_slope(x, y)
        gap = np.concatenate([slack * dual, excess * (cap - dual), y * low, (1 - y) * high])
        tilt = cost + slope.T @ (dual - free) + np.concatenate([nothing, high - low])
        near += max(gap.max(), np.abs(off).max()) < NEARLY and np.abs(tilt).max() < FLAT
        if near > MORE:
            dual = np.where(excess > cap - dual, cap, dual)
            return _guess(problem, x, y, slack, dual, low, high)
        # How stiff each row is, and where its value should go at this barrier.
        soft = slack / dual + excess / (cap - dual)
        push = barrier / (cap - dual) - barrier / dual - value
        balance, limits = slope[:hard], slope[hard:]
        if float((np.diff(limits.indptr).astype(np.float64) ** 2).sum()) > PAIRS_MOST:
            raise GridError(f"{task.network.name}: too many orders stand behind one limit for an interior point")
        aim = np.concatenate([(dual - free)[:hard], (dual - push / soft)[hard:]])
        right = -cost - slope.T @ aim + np.concatenate([nothing, barrier / y - barrier / (1 - y)])
        matrix = problem.bend(x, dual - free) + limits.T @ sp.diags(1 / soft[hard:]) @ limits
        matrix = matrix + sp.diags(np.concatenate([nothing, low / y + high / (1 - y)]))
        while True:
            lifted = matrix + lift * sp.identity(matrix.shape[0])
            system = sp.bmat([[lifted, balance.T], [balance, -sp.diags(soft[:hard])]], format="csc")
            step = _solved(system, np.concatenate([right, push[:hard]]))
            move, along = step[: matrix.shape[0]], balance @ step[: matrix.shape[0]]
            if move @ (lifted @ move) + along @ (along / soft[:hard]) > 0:
                break
            lift = max(LIFT_FIRST, LIFT_GROWS * lift)
            if lift > LIFT_MAX:
                raise GridError(f"{task.network.name}: the interior point finds no way down")
        lift = lift / LIFT_GROWS if lift > LIFT_FIRST else 0.0
        d_dual = np.concatenate([step[move.size :], (limits @ move - push[hard:]) / soft[hard:]])
        d_slack = (barrier - slack * d_dual) / dual - slack
        d_excess = (barrier + excess * d_dual) / (cap - dual) - excess
        d_y = move[size:]
        d_low, d_high = (barrier - low * d_y) / y - low, (barrier + high * d_y) / (1 - y) - high
        way = _way((slack, d_slack), (excess, d_excess), (y, d_y), (1 - y, -d_y))
        away = _way((dual, d_dual), (cap - dual, -d_dual), (low, d_low), (high, d_high))
        x, y = x + way * (move[: x.size] + 1j * move[x.size : size]), y + way * d_y
        slack, excess = slack + way * d_slack, excess + way * d_excess
        dual, low, high = dual + away * d_dual, low + away * d_low, high + away * d_high
        value = problem.value(x, y)
        gap = np.concatenate([slack * dual, excess * (cap - dual), y * low, (1 - y) * high])
        barrier = max(CENTRING * float(gap.mean()), BARRIER_LEAST)
    raise GridError(f"{task.network.name}: the interior point came to no end")


def _solved(system: sp.csc_matrix, right: FloatArray) -> FloatArray:
    """The solution, or NaN where there is none."""
    try:
        return np.asarray(splu(system).solve(right))
    except RuntimeError:
        return np.full(right.size, np.nan)


def _way(*pairs: tuple[FloatArray, FloatArray]) -> float:
    """How far all of them, (value, step), can go together and stay positive."""
    share = 1.0
    for value, step in pairs:
        down = step < 0
        share = min(share, TO_THE_WALL * float((-value[down] / step[down]).min(initial=np.inf)))
    return share


def _guess(
    problem: Equations,
    x: ComplexArray,
    y: FloatArray,
    slack: FloatArray,
    dual: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> Guess:
    """What a search can begin with: orders that a bound holds stand there, limits with a dual work."""
    share = np.where(low > y, 0.0, np.where(high > 1 - y, 1.0, y))
    hard, count = problem.hard, problem.rows.size
    total = np.asarray(problem.unit * np.bincount(problem.of, dual[hard:], minlength=count), dtype=np.float64)
    tight = np.flatnonzero(np.bincount(problem.of, dual[hard:] > slack[hard:], minlength=count))
    tight = tight[np.argsort(problem.rows[tight], kind="stable")]
    return Guess(share * problem.task.steps.width, problem.rows[tight], total[tight], problem.voltages(x))
