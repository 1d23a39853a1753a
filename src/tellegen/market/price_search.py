"""Search over prices: finds the active sets of a program when its bids are new and only prices are roughly known.

For given prices of the channels every variable answers by itself, so the program's dual is a concave function of the
curvature's coordinates ``z`` (at the optimum ``factor' x``) and of the rows' duals alone::

    price of channels = factor z + rows' dual
    y = clip(centre - slope(price) / (diagonal + softness), 0, upper)

It is smooth once every step is softened a little around a centre, and piecewise quadratic: Newton's method with an
exact line search is at the top after a few steps. Then the centre moves there and the softness shrinks: the proximal
point method (Rockafellar 1976), with Newton inside as for sparse regression (Li, Sun, Toh 2018). A staircase of
penalties is a box for its row's dual; within a Newton step a small program over these boxes is solved exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from tellegen.grid.elimination import Engine
from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.program import Program

SOFTNESS_FACTOR = 0.05
"""Price range over which steps answer, from one centre to the next; also how firmly duals keep their place."""
FIRMNESS = 1e-3
"""Share of what all variables could answer to a row that its dual's own centre adds, at softness 1."""
FIRMNESS_LEAST = 1e-4
"""Of its first value, so that the duals' system stays definite in floating point."""
NEWTON_STEPS_MAX = 30
TRIALS_MAX = 12
OVERSHOOT, TRIAL_STOP = 0.2, 0.1
"""A step is shortened if the climb ends before it and falls this steeply beyond; how flat the place found must be."""
LEVEL = 1e-13
"""A Newton step that promises less than this, relative to the size of prices, stays."""
BOX_GUESSES_MAX, BOX_ROUNDS_MAX = 6, 40
COMPILED_RANK_MAX = 100
"""Curvature of more coordinates goes faster through LAPACK than through compiled loops."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """The quadratic piece of the dual function at one place.

    Attributes
    ----------
    rise_z, rise : float64[r], float64[k], its gradient.
    low, high : float64[k], between which each dual may move on this piece; offset : float64[k], the kink it is at.
    free : int64[k'], duals that do not press against an end.
    inside : bool[m], variables between their bounds.
    """

    rise_z: FloatArray
    rise: FloatArray
    low: FloatArray
    high: FloatArray
    offset: FloatArray
    free: IntArray
    inside: NDArray[np.bool_]


class PriceSearch:
    """A search from a point, the rows' duals there, and a softness that covers the error of its prices.

    Attributes
    ----------
    y, dual : float64[m], float64[k], where it stands.
    """

    def __init__(self, program: Program, y: FloatArray, dual: FloatArray, softness: float) -> None:
        self.program, self.softness = program, softness
        self.y = np.clip(y, 0.0, program.upper)
        self.dual = np.clip(dual, 0.0, program.penalty[:, 1])
        self.z = program.total(self.y) @ program.factor
        self.across = program.across
        reach = np.abs(program.gain)
        price = float(np.median(np.abs(program.linear) / reach)) if reach.size else 0.0
        self.price = max(price, 1e-12)
        self.soft = self.price * reach / program.upper
        answers = program.total(program.gain / (program.diagonal + self.soft))
        self.firm = FIRMNESS * (program.rows**2 @ answers) + 1e-300
        self.side = -(self.dual <= 0.0).astype(np.int64)

    def climb(self) -> tuple[IntArray, IntArray]:
        """Climb to the top around this centre, move the centre there and harden the steps; bound and stair there."""
        program = self.program
        centre, dual_centre = self.y, self.dual
        soft, self.firm_now = self.softness * self.soft, max(self.softness, FIRMNESS_LEAST) * self.firm
        self.rate = 1.0 / (program.diagonal + soft)
        self.squared = program.gain**2 * self.rate
        price = self.across @ np.concatenate([self.z, self.dual])
        slope = program.linear - soft * centre + program.spread(price)
        if program.engine is Engine.SWEEPS and self.z.size <= COMPILED_RANK_MAX:
            self._climb_compiled(slope)
        else:
            self._climb_arrays(slope, dual_centre)
        self.softness *= SOFTNESS_FACTOR
        first, last = program.penalty.T
        bound = (self.y >= program.upper).astype(np.int64) - (self.y <= 0.0)
        stair = (self.dual > 0).astype(np.int64) + (self.dual >= first) + (self.dual > first) + (self.dual >= last)
        return bound, stair

    def _climb_compiled(self, slope: FloatArray) -> None:
        # Importing numba takes longer than many a command.
        from tellegen.market import ascent

        program, dual = self.program, self.dual.copy()
        first, last = np.ascontiguousarray(program.penalty.T)
        z, kink = self.z.copy(), np.ascontiguousarray(program.kink[:, 1])
        self.y = ascent.climb(
            self.across,
            z.size,
            program.channel,
            program.gain,
            program.upper,
            self.rate,
            slope,
            z,
            dual,
            self.firm_now,
            program.limit,
            kink,
            first,
            last,
            self.side,
            LEVEL * self.price,
            NEWTON_STEPS_MAX,
            OVERSHOOT,
            TRIAL_STOP,
            TRIALS_MAX,
            BOX_GUESSES_MAX,
            BOX_ROUNDS_MAX,
        )
        self.z, self.dual = z, dual

    def _climb_arrays(self, slope: FloatArray, dual_centre: FloatArray) -> None:
        program = self.program
        for _ in range(NEWTON_STEPS_MAX):
            piece = self._piece(slope, dual_centre)
            step_z, step_free = self._newton(piece)
            ahead = float(piece.rise_z @ step_z + piece.rise[piece.free] @ step_free)
            if not ahead > LEVEL * self.price:
                break
            step = np.zeros(self.dual.size)
            step[piece.free] = step_free
            bend = program.spread(self.across[:, : step_z.size] @ step_z + step @ program.rows)
            share = self._line(slope, bend, step_z, step, piece, dual_centre, ahead)
            self.z = self.z + share * step_z
            self.dual = np.clip(self.dual + share * step, piece.low, piece.high)
            slope = slope + share * bend
            if share == 1.0 and self._same(piece, slope):
                break
        self.y = _clip(-slope * self.rate, program.upper)

    def _piece(self, slope: FloatArray, dual_centre: FloatArray) -> _Piece:
        program, rank = self.program, self.z.size
        wish = -slope * self.rate
        both = program.total(_clip(wish, program.upper)) @ self.across
        excess = both[rank:] - program.limit - self.firm_now * (self.dual - dual_centre)
        first, last = program.penalty.T
        kink = program.kink[:, 1]
        upper = (self.dual > first) | ((self.dual == first) & (excess > kink))
        low, high = np.where(upper, first, 0.0), np.where(upper, last, first)
        offset = np.where(upper, kink, 0.0)
        rise = excess - offset
        pressed = ((self.dual <= low) & (rise <= 0)) | ((self.dual >= high) & (rise >= 0))
        return _Piece(
            rise_z=both[:rank] - self.z,
            rise=rise,
            low=low,
            high=high,
            offset=offset,
            free=np.flatnonzero(~pressed),
            inside=(wish > 0) & (wish < program.upper),
        )

    def _newton(self, piece: _Piece) -> tuple[FloatArray, FloatArray]:
        """Step of z and of the free duals to the top of the piece; the duals keep to their boxes."""
        program, rank, free = self.program, self.z.size, piece.free
        inside = np.flatnonzero(piece.inside)
        answers = np.bincount(program.channel[inside], self.squared[inside], minlength=self.across.shape[0])
        heard = np.flatnonzero(answers)
        root = np.sqrt(answers[heard])[:, None]
        bend = self.across[heard, :rank] * root
        rows = program.rows[np.ix_(free, heard)].T * root
        # Of the two Schur complements the smaller: coordinates of the curvature, or channels that answer.
        if heard.size < rank:
            matrix = bend @ bend.T if program.square is None else program.square[np.ix_(heard, heard)] * root.T * root
            matrix[np.diag_indices(heard.size)] += 1.0
            solved = _solve(matrix, np.concatenate([(bend @ piece.rise_z)[:, None], rows], axis=1))
            first = piece.rise_z - bend.T @ solved[:, 0]
            pull, block, across = rows.T @ solved[:, 0], rows.T @ solved[:, 1:], bend.T @ solved[:, 1:]
        else:
            matrix = bend.T @ bend
            matrix[np.diag_indices(rank)] += 1.0
            mixed = bend.T @ rows
            solved = _solve(matrix, np.concatenate([piece.rise_z[:, None], mixed], axis=1))
            first, across = solved[:, 0], solved[:, 1:]
            pull, block = mixed.T @ first, rows.T @ rows - mixed.T @ across
        block[np.diag_indices(free.size)] += self.firm_now[free]
        low, high = (piece.low - self.dual)[free], (piece.high - self.dual)[free]
        step, side = _in_box(block, piece.rise[free] - pull, low, high, self.side[free])
        self.side[free] = side
        return first - across @ step, step

    def _line(
        self,
        slope: FloatArray,
        bend: FloatArray,
        step_z: FloatArray,
        step: FloatArray,
        piece: _Piece,
        dual_centre: FloatArray,
        ahead: float,
    ) -> float:
        """Share of a step at which the climb along it is about over, at most 1."""
        program = self.program
        limit = program.limit + piece.offset + self.firm_now * (self.dual - dual_centre)
        constant = float(step_z @ self.z + limit @ step)
        square = float(step_z @ step_z + (self.firm_now * step) @ step)

        def climb(share: float) -> float:
            y = _clip(-(slope + share * bend) * self.rate, program.upper)
            return float(bend @ y) - constant - share * square

        near, rise, far, fall = 0.0, ahead, 1.0, climb(1.0)
        if fall >= -OVERSHOOT * ahead:
            return 1.0
        share = 0.0
        for _ in range(TRIALS_MAX):
            share = near + (far - near) * min(max(rise / (rise - fall), 0.1), 0.9)
            here = climb(share)
            if abs(here) <= TRIAL_STOP * ahead:
                break
            if here > 0:
                near, rise = share, here
            else:
                far, fall = share, here
        return share

    def _same(self, piece: _Piece, slope: FloatArray) -> bool:
        """Whether the dual function is at `slope` still the piece whose top this is."""
        program = self.program
        wish = -slope * self.rate
        if (((wish > 0) & (wish < program.upper)) != piece.inside).any():
            return False
        pressed = np.ones(self.dual.size, dtype=bool)
        pressed[piece.free] = False
        excess = program.excess(_clip(wish, program.upper))[pressed] - piece.offset[pressed]
        at_low = self.dual[pressed] <= piece.low[pressed]
        return bool((np.where(at_low, excess, -excess) <= 0).all())


def _clip(values: FloatArray, upper: FloatArray) -> FloatArray:
    return np.asarray(np.minimum(np.maximum(values, 0.0), upper))


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solution of a positive definite system with a unit ridge."""
    if right.size == 0:
        return right
    factor, _ = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    return np.asarray(lapack.dpotrs(factor, right, lower=1)[0])


def _in_box(
    matrix: FloatArray, pull: FloatArray, low: FloatArray, high: FloatArray, side: IntArray
) -> tuple[FloatArray, IntArray]:
    """Minimise ``s' matrix s / 2 - pull' s`` over ``low <= s <= high``, where 0 is inside; s, and where it stands.

    Primal-dual active sets settle it nearly always, from a guess of -1 (low), 1 (high) or 0 (between); from where they
    stop, members change one by one.
    """
    if pull.size == 0:
        return pull, side
    scale = 1.0 / np.sqrt(matrix.diagonal())
    matrix = matrix * scale
    matrix *= scale[:, None]
    pull, low, high = pull * scale, low / scale, high / scale
    for _ in range(BOX_GUESSES_MAX):
        s = _held(matrix, pull, np.where(side < 0, low, np.where(side > 0, high, 0.0)), side)
        want = side * (matrix @ s - pull)
        fresh = np.where(side == 0, (s > high).astype(np.int64) - (s < low), np.where(want > 0, 0, side))
        if (fresh == side).all():
            return np.minimum(np.maximum(s, low), high) * scale, side
        side = fresh
    # Only a start at least as good as standing still keeps the step an ascent.
    s = np.minimum(np.maximum(s, low), high)
    if float(s @ (matrix @ s - 2.0 * pull)) > 0.0:
        s = np.zeros(pull.size)
    s, side = _one_by_one(matrix, pull, low, high, s)
    return s * scale, side


def _held(matrix: FloatArray, pull: FloatArray, s: FloatArray, side: IntArray) -> FloatArray:
    """Optimum over what is free (side 0) while the rest stands at `s`."""
    go = (side == 0).nonzero()[0]
    if go.size == 0:
        return s
    if go.size == side.size:
        _, answer, failure = lapack.dposv(matrix, pull, lower=1)
    else:
        _, answer, failure = lapack.dposv(matrix[go[:, None], go], (pull - matrix @ s)[go], lower=1)
    s[go] = answer if not failure else 0.0
    return s


def _one_by_one(
    matrix: FloatArray, pull: FloatArray, low: FloatArray, high: FloatArray, s: FloatArray
) -> tuple[FloatArray, IntArray]:
    """Primal active sets from a point of the box: each round goes down and changes one member, so it ends."""
    side = (s >= high).astype(np.int64) - (s <= low)
    for _ in range(BOX_ROUNDS_MAX + 4 * s.size):
        goal = _held(matrix, pull, np.where(side == 0, 0.0, s), side)
        move = goal - s
        room = np.where(move > 0, high - s, s - low)
        reach = np.divide(room, np.abs(move), out=np.full(s.size, np.inf), where=(side == 0) & (move != 0))
        first = int(np.argmin(reach))
        if reach[first] < 1.0:
            s = s + reach[first] * move
            side[first] = 1 if move[first] > 0 else -1
            s[first] = high[first] if move[first] > 0 else low[first]
            continue
        s = goal
        want = side * (matrix @ s - pull)
        worst = int(np.argmax(want))
        if want[worst] <= 1e-14 * float(np.abs(pull).max()):
            break
        side[worst] = 0
    return s, side
