"""Active sets: which variables stand at a bound, and on which tread or riser of its staircase each row stands.

`active_sets` corrects a guess all at once (primal-dual active sets: Hintermueller, Ito, Kunisch 2002), which is quick
from a good one but need not settle (`tellegen.market.descent` changes one member at a time). It ends exactly at bounds,
which is what makes prices of pure step curves sharp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.program import Program, Solution

ROUNDS_MAX = 15
IDLE_ROUNDS_MAX = 3
"""Rounds without fewer corrections than before: the guess goes in circles."""
GROWTH_MAX, GROWTH_FREE = 2, 5
"""So many more corrections than in the best round so far (factor, and number besides): the guess runs away."""
SHARE_FIRST_MAX = 0.005
"""A guess of which the first round corrects a larger share (and what growth allows) is no guess."""
STIFF = 1e-5
"""A variable whose slope over its whole width is a larger share of the size of prices follows from its price."""
PASSES_MAX = 8
FIRMNESS = 1e-8
"""Weight of a dual's own place, relative to what free variables answer to its row."""
MET = 1e-9
"""What may be left of a slope or of a tight row's gap, relative to its size."""
TINY = 1e-11
"""Rounding in bounds, duals and slopes, relative to their size."""


def _levels(program: Program) -> FloatArray:
    """Duals on the treads of each row's staircase: 0, first, second penalty."""
    return np.concatenate([np.zeros((program.limit.size, 1)), program.penalty], axis=1)


def active_sets(
    program: Program, bound: IntArray, stair: IntArray, y: FloatArray | None = None, dual: FloatArray | None = None
) -> Solution | None:
    """Primal-dual active sets: quick from a good guess; None where they do not settle.

    Where rows bind together in what is free to move (two ends of one line), their duals are those nearest to `dual`.
    """
    levels = _levels(program)
    row_scale = program.row_size()
    price_scale = float(np.abs(program.linear).max(initial=1e-12))
    fewest, idle = SHARE_FIRST_MAX * (bound.size + stair.size) / GROWTH_MAX, 0
    y = np.zeros(bound.size) if y is None else y
    dual = np.zeros(stair.size) if dual is None else dual
    for _ in range(ROUNDS_MAX):
        sides = np.where(bound == 0, y, np.where(bound > 0, program.upper, 0.0))
        solved = _settle(program, sides, dual, bound, stair, levels, row_scale)
        if solved is None:
            return None
        y, dual, slope, excess = solved
        fresh_bound, fresh_stair = bound.copy(), stair.copy()
        fresh_bound[(bound == 0) & (y < -TINY * program.upper)] = -1
        fresh_bound[(bound == 0) & (y > (1 + TINY) * program.upper)] = 1
        fresh_bound[_wrong_side(slope, bound, price_scale) > 0] = 0
        fresh_stair += _stair_moves(program, levels, stair, dual, excess, row_scale)
        if np.array_equal(fresh_bound, bound) and np.array_equal(fresh_stair, stair):
            if not _met(program, slope, excess, bound, stair, row_scale):
                return None
            return Solution(np.clip(y, 0.0, program.upper), np.maximum(dual, 0.0), bound, stair, exact=True)
        changes = int((fresh_bound != bound).sum() + (fresh_stair != stair).sum())
        idle = 0 if changes < fewest else idle + 1
        fewest = min(fewest, float(changes))
        if idle > IDLE_ROUNDS_MAX or changes > GROWTH_MAX * fewest + GROWTH_FREE:
            return None
        bound, stair = fresh_bound, fresh_stair
        y, dual = np.clip(y, 0.0, program.upper), np.clip(dual, 0.0, program.penalty[:, 1])
    return None


def _met(
    program: Program, slope: FloatArray, excess: FloatArray, bound: IntArray, stair: IntArray, row_scale: FloatArray
) -> bool:
    """Whether rounding left what was solved for: free variables without a slope, tight rows at their kinks."""
    tight = np.flatnonzero(stair % 2 == 1)
    gap = np.abs(excess[tight] - program.kink[tight, np.minimum(stair[tight] // 2, 1)]) / row_scale[tight]
    price_scale = float(np.abs(program.linear).max(initial=1e-12))
    left = np.abs(slope[bound == 0]).max(initial=0.0) / price_scale
    return bool(max(left, gap.max(initial=0.0)) <= MET)


def _wrong_side(slope: FloatArray, bound: IntArray, price_scale: float) -> FloatArray:
    """How strongly each variable at a bound wants to leave it; 0 where it is content."""
    want = np.where(bound == 0, 0.0, bound * slope)
    return np.where(want > TINY * price_scale, want, 0.0)


def _settle(
    program: Program,
    y: FloatArray,
    dual: FloatArray,
    bound: IntArray,
    stair: IntArray,
    levels: FloatArray,
    row_scale: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None:
    """Optimum over the free variables, rows on risers held there: y, duals, slope of the Lagrangian, row excess.

    Solved for the change from `y` and `dual`, again for what rounding and the firmness of duals left of it: rows that
    bind together in what is free to move share a dual in any proportion, and a little firmness keeps theirs in place.
    """
    free, tight = np.flatnonzero(bound == 0), np.flatnonzero(stair % 2 == 1)
    tread = levels[np.arange(stair.size), np.minimum(stair // 2, 2)]
    dual = np.where(stair % 2 == 1, dual, tread)
    slope, excess = program.conditions(y, dual)
    if free.size + tight.size == 0:
        return y, dual, slope, excess
    system = _system(program, free, tight, row_scale)
    target = program.kink[tight, np.minimum(stair[tight] // 2, 1)]
    y = y.copy()
    price_scale, last = float(np.abs(program.linear).max(initial=1e-12)), np.inf
    for _ in range(PASSES_MAX):
        answer = system.solve(slope[free], target - excess[tight])
        if answer is None:
            return None
        y[free] += answer[0]
        dual[tight] += answer[1]
        slope, excess = program.conditions(y, dual)
        gap = float((np.abs(target - excess[tight]) / row_scale[tight]).max(initial=0.0))
        left = max(gap, float(np.abs(slope[free]).max(initial=0.0)) / price_scale)
        # Rows that what is free cannot move stay where they are.
        if left <= TINY / 10 or left > last / 2:
            break
        last = left
    return y, dual, slope, excess


class _FreeSystem:
    """The optimality conditions of the free variables and tight rows, where few variables are free."""

    def __init__(self, program: Program, free: IntArray, tight: IntArray, firm: FloatArray) -> None:
        channel, gain = program.channel[free], program.gain[free]
        self.size = free.size
        if program.square is None:
            part = program.factor[channel] * gain[:, None]
            block = part @ part.T
        else:
            block = program.square[np.ix_(channel, channel)] * gain
            block *= gain[:, None]
        block[np.diag_indices(self.size)] += program.diagonal[free]
        if tight.size:
            across = program.rows[np.ix_(tight, channel)] * gain
            block = np.concatenate([np.hstack([block, across.T]), np.hstack([across, np.diag(-firm)])])
        self.inverse = _Balanced(block) if tight.size else _Definite(block)

    def solve(self, slope: FloatArray, gap: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Changes of variables and duals that cancel slopes and close the rows' gaps."""
        answer = self.inverse.solve(np.concatenate([-slope, gap]))
        return None if answer is None else (answer[: self.size], answer[self.size :])


class _PriceSystem:
    """The same where many are free: variables with a slope of their own follow from prices and are eliminated.

    What is left are the curvature's coordinates ``z = factor' x``, the tight rows' duals, and the free steps.
    """

    def __init__(self, program: Program, free: IntArray, tight: IntArray, firm: FloatArray, stiff: NDArray[np.bool_]):
        self.program, self.free, self.stiff, self.steps = program, free, stiff, free[~stiff]
        bending = free[stiff]
        self.channel, self.gain = program.channel[bending], program.gain[bending]
        self.rate = self.gain / program.diagonal[bending]
        count = program.factor.shape[0]
        self.across = np.concatenate([program.factor, program.rows[tight].T], axis=1)
        answers = np.bincount(self.channel, self.gain * self.rate, minlength=count)
        heard = np.flatnonzero(answers)
        part = self.across[heard] * np.sqrt(answers[heard])[:, None]
        self.rank, size = program.factor.shape[1], self.across.shape[1]
        block = part.T @ part
        block[np.diag_indices(size)] += np.concatenate([np.ones(self.rank), firm])
        side = -self.across[program.channel[self.steps]] * program.gain[self.steps, None]
        corner = np.diag(-program.diagonal[self.steps])
        self.inverse = _Balanced(np.concatenate([np.hstack([block, side.T]), np.hstack([side, corner])]))

    def solve(self, slope: FloatArray, gap: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Changes of variables and duals that cancel slopes and close the rows' gaps."""
        program, size = self.program, self.across.shape[1]
        alone = np.bincount(self.channel, self.rate * slope[self.stiff], minlength=program.factor.shape[0])
        right = -(alone @ self.across)
        right[self.rank :] -= gap
        answer = self.inverse.solve(np.concatenate([right, slope[~self.stiff]]))
        if answer is None:
            return None
        price = self.across @ answer[:size]
        change = np.empty(self.free.size)
        change[self.stiff] = -slope[self.stiff] * self.rate / self.gain - self.rate * price[self.channel]
        change[~self.stiff] = answer[size:]
        return change, answer[self.rank : size]


def _system(program: Program, free: IntArray, tight: IntArray, row_scale: FloatArray) -> _FreeSystem | _PriceSystem:
    """The smaller of the two systems."""
    price_scale = float(np.abs(program.linear).max(initial=1e-12))
    channel, gain = program.channel[free], program.gain[free]
    alone = gain**2 / (gain**2 * (program.factor[channel] ** 2).sum(axis=1) + program.diagonal[free])
    answers = np.bincount(channel, alone, minlength=program.factor.shape[0])
    firm = FIRMNESS * (program.rows[tight] ** 2 @ answers)
    # Where nothing free answers, the dual runs off at once and lets something go.
    firm += 1e-13 * row_scale[tight] ** 2 / price_scale
    stiff = program.diagonal[free] * program.upper[free] > STIFF * price_scale
    if program.factor.shape[1] >= int(stiff.sum()):
        return _FreeSystem(program, free, tight, firm)
    return _PriceSystem(program, free, tight, firm, stiff)


class _Definite:
    """Cholesky factor of a positive definite system, brought to a unit diagonal."""

    def __init__(self, system: FloatArray) -> None:
        self.scale = 1.0 / np.sqrt(np.diagonal(system))
        system = system * self.scale
        system *= self.scale[:, None]
        self.factor, self.failure = lapack.dpotrf(system.T, lower=1, clean=0, overwrite_a=1)

    def solve(self, right: FloatArray) -> FloatArray | None:
        """Solution; None where rounding denies that the system is definite."""
        if self.failure:
            return None
        answer, _ = lapack.dpotrs(self.factor, self.scale * right, lower=1)
        return np.asarray(self.scale * answer)


class _Balanced:
    """LU of a symmetric system whose blocks differ by orders of magnitude."""

    def __init__(self, system: FloatArray) -> None:
        scale = 1.0 / np.sqrt(np.abs(system).max(axis=0, initial=0.0) + 1e-300)
        scale /= np.sqrt((np.abs(system) * scale).max(axis=1, initial=0.0) * scale + 1e-300)
        self.scale = scale
        system = system * scale
        system *= scale[:, None]
        # Without curvature, limits and plain steps nothing is left to solve for, and LAPACK refuses no equations.
        self.failure = 0
        if system.size:
            self.factor, self.pivots, self.failure = lapack.dgetrf(system.T, overwrite_a=1)

    def solve(self, right: FloatArray) -> FloatArray | None:
        """Solution; None where the system is singular."""
        if not right.size:
            return right
        if self.failure:
            return None
        answer, _ = lapack.dgetrs(self.factor, self.pivots, self.scale * right)
        answer = np.asarray(self.scale * answer)
        return answer if np.isfinite(answer).all() else None


def _stair_moves(
    program: Program,
    levels: FloatArray,
    stair: IntArray,
    dual: FloatArray,
    excess: FloatArray,
    row_scale: FloatArray,
) -> IntArray:
    """Steps up or down the staircase that duals (on risers) and excesses (on treads) ask for."""
    every = np.arange(stair.size)
    step = stair // 2
    riser = stair % 2 == 1
    roof = np.concatenate([program.kink, np.full((stair.size, 1), np.inf)], axis=1)
    floor = np.concatenate([np.full((stair.size, 1), -np.inf), program.kink], axis=1)
    dual_tiny = 1e-11 * levels[:, 1]
    excess_tiny = 1e-11 * row_scale
    low, high = levels[every, step], levels[every, np.minimum(step + 1, 2)]
    up = np.where(riser, dual > high + dual_tiny, excess > roof[every, step] + excess_tiny)
    down = np.where(riser, dual < low - dual_tiny, excess < floor[every, step] - excess_tiny)
    return up.astype(np.int64) - down.astype(np.int64)
