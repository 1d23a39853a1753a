"""A climb over prices: from where prices are roughly known and bids are new, to near the optimum of a program.

For given prices of the channels every variable answers by itself, so the program's dual is a concave function of the
curvature's coordinates ``z`` (at the optimum ``factor' x``) and of the rows' duals alone::

    price of channels = factor z + rows' dual
    y = clip(centre - slope(price) / max(diagonal, softness), 0, upper)

It is smooth once every step is softened a little around a centre, and piecewise quadratic: Newton's method with an
exact line search is at the top after a few steps. Then the centre moves there and the softness shrinks: the proximal
point method (Rockafellar 1976), with Newton inside as for sparse regression (Li, Sun, Toh 2018). Steps with a slope of
their own need no softening: where those are many, the climb itself ends at the optimum. A staircase of penalties is a
box for its row's dual; within a Newton step a small program over these boxes is solved.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.twofold import Twofold
from tellegen.market.loops import add_gram, climbing, pick, prices, respond, solve_definite
from tellegen.market.program import Terms

HARDER = 0.05
"""Softness, and how firmly duals keep their place, from one centre to the next."""
FIRMNESS_LEAST = 1e-4
"""Of its first value, so that the duals' system stays definite in floating point."""
NEWTON_STEPS_MAX = 30
TRIALS_MAX = 12
OVERSHOOT, TRIAL_STOP = 0.2, 0.1
"""A step is shortened if the climb ends before it and falls this steeply beyond; how flat the place found must be."""
LEVEL = 1e-18
"""A Newton step that promises less than this, relative to the size of prices, stays."""
BOX_GUESSES_MAX, BOX_ROUNDS_MAX, BOX_SETTLED = 6, 40, 1e-3
"""Active sets of a box, then sweeps over it until none moves by more than that share of the largest pull."""
EXACT = 1e-9
"""What softness may hide in the end, relative to the size of prices."""


class Piece(NamedTuple):
    """The rows on the quadratic piece of the dual function at one place, float64[k] each.

    `rise` is the slope of the dual function; `low` and `high` are how far each dual may move on this piece, nowhere
    where it presses against an end, and `offset` is the kink it is at.
    """

    rise: FloatArray
    low: FloatArray
    high: FloatArray
    offset: FloatArray
    free: NDArray[np.bool_]


@Twofold
def climb(
    terms: Terms,
    unit: FloatArray,
    firmness: FloatArray,
    softness: float,
    price: float,
    stages_max: int,
    y: FloatArray,
    dual: FloatArray,
) -> bool:
    """Climb from centre to centre, `y` and `dual` moving along in place; whether they are exact.

    Parameters
    ----------
    unit, firmness : float64[m], float64[k], softness of steps and firmness of duals at softness 1.
    price : size of prices; stages_max : so many centres.
    """
    rows, count = dual.size, terms.across.shape[0]
    rank = terms.across.shape[1] - rows
    total = np.bincount(terms.channel, terms.gain * y, count).astype(np.float64)
    z = np.dot(total, terms.across)[:rank].copy()
    gram, known, side = np.zeros((rank + rows, rank + rows)), np.zeros(count), np.zeros(rows, np.int64)
    for _ in range(stages_max):
        soft, firm = np.maximum(softness * unit - terms.diagonal, 0.0), max(softness, FIRMNESS_LEAST) * firmness
        rate = 1.0 / (terms.diagonal + soft)
        centre_y, centre = y.copy(), dual.copy()
        slope = terms.linear - soft * y + prices(terms, np.concatenate((z, dual)))
        answer, piece = known, Piece(firm, firm, firm, firm, firm > np.inf)
        whole = False
        for steps in range(NEWTON_STEPS_MAX + 1):
            last_answer, last_piece = answer, piece
            answer = respond(terms, rate, slope, y, total)
            both = np.dot(total, terms.across)
            piece = _piece(terms, both[rank:] - terms.limit - firm * (dual - centre), dual)
            if steps == NEWTON_STEPS_MAX or (whole and np.all(answer == last_answer) and _same(piece, last_piece)):
                break
            step = _newton(terms, answer, known, gram, both[:rank] - z, piece, firm, side)
            ahead = np.dot(both[:rank] - z, step[:rank]) + np.dot(piece.rise, step[rank:])
            if not ahead > LEVEL * price:
                break
            bend = prices(terms, step)
            constant = np.dot(step[:rank], z)
            constant += np.dot(terms.limit + piece.offset + firm * (dual - centre), step[rank:])
            square = np.dot(step[:rank], step[:rank]) + np.dot(firm * step[rank:], step[rank:])
            share = _line(slope, bend, rate, terms.upper, constant, square, ahead)
            z += share * step[:rank]
            for k in range(rows):
                dual[k] = min(max(dual[k] + share * step[rank + k], dual[k] + piece.low[k]), dual[k] + piece.high[k])
            slope += share * bend
            whole = share == 1.0
        left = 0.0
        if y.size:
            left = np.max(np.abs(soft * (y - centre_y)) / price)
        for k in range(rows):
            left = max(left, abs(firm[k] * (dual[k] - centre[k])) / (firmness[k] * price))
        for k in range(rows):
            if piece.free[k]:
                left = max(left, abs(piece.rise[k]) / terms.row_size[k])
        if left <= EXACT and steps < NEWTON_STEPS_MAX:
            return True
        softness *= HARDER
    return False


@Twofold
def _piece(terms: Terms, excess: FloatArray, dual: FloatArray) -> Piece:
    """The piece at some duals and excesses, the pull of the duals' centre taken off."""
    rise, low, high, offset = excess.copy(), np.zeros(dual.size), np.zeros(dual.size), np.zeros(dual.size)
    free = excess > np.inf
    for k in range(dual.size):
        first, last = terms.penalty[k, 0], terms.penalty[k, 1]
        bottom, top = 0.0, first
        if dual[k] > first or (dual[k] == first and excess[k] > terms.kink[k, 1]):
            bottom, top, offset[k] = first, last, terms.kink[k, 1]
        rise[k] -= offset[k]
        free[k] = not ((dual[k] <= bottom and rise[k] <= 0.0) or (dual[k] >= top and rise[k] >= 0.0))
        low[k], high[k] = bottom - dual[k], top - dual[k]
    return Piece(rise, low, high, offset, free)


@Twofold
def _same(piece: Piece, last: Piece) -> bool:
    """Whether duals are still on the last piece."""
    for k in range(piece.free.size):
        if piece.offset[k] != last.offset[k] or (piece.free[k] and not last.free[k]):
            return False
    return True


@Twofold
def _newton(
    terms: Terms,
    answer: FloatArray,
    known: FloatArray,
    gram: FloatArray,
    rise_z: FloatArray,
    piece: Piece,
    firm: FloatArray,
    side: IntArray,
) -> FloatArray:
    """Step of coordinates and duals to the top of the piece; duals keep to their boxes.

    `gram` is ``across' diag(known) across`` and follows `answer`, what each channel answers to its price.
    """
    rank, free, heard = rise_z.size, np.flatnonzero(piece.free), np.flatnonzero(answer)
    # Of the two Schur complements the smaller: channels that answer, or coordinates of the curvature.
    few = heard.size < rank
    coordinates = np.arange(rank)
    if few:
        bend, beside = pick(terms.across, heard, coordinates), pick(terms.across, heard, rank + free)
        for i in range(heard.size):
            bend[i] *= np.sqrt(answer[heard[i]])
            beside[i] *= np.sqrt(answer[heard[i]])
        matrix, right = np.dot(bend, bend.T), np.dot(bend, rise_z)
    else:
        add_gram(gram, terms.across, answer - known)
        known[:] = answer
        bend, beside = pick(gram, rank + free, rank + free), pick(gram, coordinates, rank + free)
        matrix, right = pick(gram, coordinates, coordinates), rise_z
    for i in range(right.size):
        matrix[i, i] += 1.0
    solved = np.empty((right.size, 1 + free.size))
    solved[:, 0], solved[:, 1:] = right, beside
    solve_definite(matrix, solved)
    first, mixed = solved[:, 0].copy(), solved[:, 1:].copy()
    pull, block = np.dot(first, beside), np.dot(beside.T, mixed)
    if few:
        first, mixed = rise_z - np.dot(first, bend), np.dot(bend.T, mixed)
    else:
        block = bend - block
    stands = side[free]
    for i in range(free.size):
        block[i, i] += firm[free[i]]
    s = _in_box(block, piece.rise[free] - pull, piece.low[free], piece.high[free], stands)
    side[free] = stands
    step = np.zeros(gram.shape[0])
    step[:rank] = first - np.dot(mixed, s)
    for i in range(free.size):
        step[rank + free[i]] = s[i]
    return step


@Twofold
def _line(
    slope: FloatArray,
    bend: FloatArray,
    rate: FloatArray,
    upper: FloatArray,
    constant: float,
    square: float,
    ahead: float,
) -> float:
    """Share of a step at which the climb along it is about over, at most 1."""
    near, rise, far, fall, share = 0.0, ahead, 1.0, 0.0, 1.0
    for trial in range(TRIALS_MAX + 1):
        here = climbing(slope, bend, rate, upper, share) - constant - share * square
        if trial == 0 and here >= -OVERSHOOT * ahead:
            return 1.0
        if trial == 0 or here <= 0.0:
            far, fall = share, here
        else:
            near, rise = share, here
        if trial and abs(here) <= TRIAL_STOP * ahead:
            break
        share = near + (far - near) * min(max(rise / (rise - fall), 0.1), 0.9)
    return share


@Twofold
def _in_box(matrix: FloatArray, pull: FloatArray, low: FloatArray, high: FloatArray, side: IntArray) -> FloatArray:
    """Minimise ``s' matrix s / 2 - pull' s`` over ``low <= s <= high``, where 0 is inside; the matrix is overwritten.

    `side` says where each member stands, as a guess and in the end: -1 low, 1 high, 0 between.
    """
    size = pull.size
    s, scale = np.zeros(size), np.ones(size)
    if not size:
        return s
    for i in range(size):
        scale[i] = 1.0 / np.sqrt(matrix[i, i])
    for i in range(size):
        matrix[i] *= scale * scale[i]
    pull, low, high = pull * scale, low / scale, high / scale
    for _ in range(BOX_GUESSES_MAX):
        free = np.flatnonzero(side == 0)
        s = (side < 0) * low + (side > 0) * high
        if free.size:
            right = (pull - np.dot(matrix, s))[free].reshape(-1, 1)
            solve_definite(pick(matrix, free, free), right)
            for i in range(free.size):
                s[free[i]] = right[i, 0]
        want = np.dot(matrix, s) - pull
        settled = True
        for i in range(size):
            fresh = side[i]
            if fresh == 0:
                fresh = 1 if s[i] > high[i] else -1 if s[i] < low[i] else 0
            elif fresh * want[i] > 0.0:
                fresh = 0
            settled = settled and fresh == side[i]
            side[i] = fresh
        if settled:
            return np.minimum(np.maximum(s, low), high) * scale
    return _swept(matrix, pull, low, high, side, s) * scale


@Twofold
def _swept(
    matrix: FloatArray, pull: FloatArray, low: FloatArray, high: FloatArray, side: IntArray, s: FloatArray
) -> FloatArray:
    """Each member in turn goes where the others want it, until hardly any moves; `side` gets where it stands."""
    s = np.minimum(np.maximum(s, low), high)
    want = np.dot(matrix, s) - pull
    # Only a start at least as good as standing still keeps the step an ascent.
    if np.dot(s, want - pull) > 0.0:
        s[:] = 0.0
        want = -pull
    for _ in range(BOX_ROUNDS_MAX):
        largest = 0.0
        for i in range(s.size):
            move = min(max(s[i] - want[i], low[i]), high[i]) - s[i]
            if move != 0.0:
                s[i] += move
                want += matrix[i] * move
                largest = max(largest, abs(move))
        if largest <= BOX_SETTLED * np.max(np.abs(pull)):
            break
    for i in range(s.size):
        side[i] = 1 if s[i] >= high[i] else -1 if s[i] <= low[i] else 0
    return s
