"""Compiled loops of `tellegen.market.price_search`: one climb, step by step what that module does with arrays.

What few variables change between two Newton steps changes few rows of the Gram matrix of channels: it is kept and
updated, and the coordinates of the curvature are eliminated from it before the rows' boxes are looked at.
Importing this module imports numba.
"""

# mypy: disable-error-code="misc, no-any-return"
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.sweeps import FloatArray, IntArray, compiled
from tellegen.market.box import eliminate, in_box

RANK_ONE_MAX = 24
"""So few changed channels are cheaper added one at a time."""


@compiled
def climb(
    across: FloatArray,
    rank: int,
    channel: IntArray,
    gain: FloatArray,
    upper: FloatArray,
    rate: FloatArray,
    slope: FloatArray,
    z: FloatArray,
    dual: FloatArray,
    firm: FloatArray,
    limit: FloatArray,
    kink: FloatArray,
    first: FloatArray,
    last: FloatArray,
    side: IntArray,
    level: float,
    steps_max: int,
    overshoot: float,
    trial_stop: float,
    trials_max: int,
    guesses_max: int,
    rounds_max: int,
) -> FloatArray:
    """Climb to the top around a centre; variables there.

    `slope`, `z`, `dual` and `side` move along in place; all other arguments as in `price_search`, the kink of a row
    being the second one.
    """
    count, size = across.shape
    places, rows = channel.size, size - rank
    centre = dual.copy()
    y, bend = np.empty(places), np.empty(places)
    inside, last_inside = np.zeros(places, dtype=np.bool_), np.zeros(places, dtype=np.bool_)
    total, answer, known = np.empty(count), np.empty(count), np.zeros(count)
    gram = np.zeros((size, size))
    part, scaled = np.empty((count, size)), np.empty((count, size))
    rise, step = np.empty(size), np.empty(size)
    low, high, offset = np.empty(rows), np.empty(rows), np.empty(rows)
    last_low = np.full(rows, -1.0)
    free, was_free = np.empty(rows, dtype=np.int64), np.ones(rows, dtype=np.bool_)
    work = np.empty((size, size + 1))
    whole, steps = False, 0
    while True:
        still = _responses(channel, gain, upper, rate, slope, y, total, answer, inside, last_inside)
        both = np.dot(across.T, total)
        for j in range(rank):
            rise[j] = both[j] - z[j]
        for k in range(rows):
            rise[rank + k] = both[rank + k] - limit[k] - firm[k] * (dual[k] - centre[k])
        among, alike = _boxes(rise[rank:], dual, kink, first, last, low, high, offset, last_low, was_free, free)
        if (whole and still and alike) or steps == steps_max:
            return y
        steps += 1
        for i in range(places):
            last_inside[i] = inside[i]
        _update(gram, across, answer, known, part, scaled)
        _newton(gram, rank, rise, firm, low, high, dual, free[:among], side, step, work, guesses_max, rounds_max)
        ahead = 0.0
        for j in range(size):
            ahead += rise[j] * step[j]
        if not ahead > level:
            return y
        price = np.dot(across, step)
        for i in range(places):
            bend[i] = price[channel[i]] * gain[i]
        constant, square = 0.0, 0.0
        for j in range(rank):
            constant += step[j] * z[j]
            square += step[j] * step[j]
        for k in range(rows):
            s = step[rank + k]
            constant += (limit[k] + offset[k] + firm[k] * (dual[k] - centre[k])) * s
            square += firm[k] * s * s
        share = _line(slope, bend, rate, upper, constant, square, ahead, overshoot, trial_stop, trials_max)
        for j in range(rank):
            z[j] += share * step[j]
        for k in range(rows):
            dual[k] = min(max(dual[k] + share * step[rank + k], low[k]), high[k])
        for i in range(places):
            slope[i] += share * bend[i]
        whole = share == 1.0


@compiled
def _responses(
    channel: IntArray,
    gain: FloatArray,
    upper: FloatArray,
    rate: FloatArray,
    slope: FloatArray,
    y: FloatArray,
    total: FloatArray,
    answer: FloatArray,
    inside: NDArray[np.bool_],
    last_inside: NDArray[np.bool_],
) -> bool:
    """What variables do at these slopes, what channels add up to and answer; whether the same are between bounds."""
    same = True
    for c in range(total.size):
        total[c], answer[c] = 0.0, 0.0
    for i in range(channel.size):
        wish = -slope[i] * rate[i]
        inside[i] = 0.0 < wish < upper[i]
        y[i] = min(max(wish, 0.0), upper[i])
        total[channel[i]] += gain[i] * y[i]
        if inside[i]:
            answer[channel[i]] += gain[i] * gain[i] * rate[i]
        same = same and inside[i] == last_inside[i]
    return same


@compiled
def _boxes(
    rise: FloatArray,
    dual: FloatArray,
    kink: FloatArray,
    first: FloatArray,
    last: FloatArray,
    low: FloatArray,
    high: FloatArray,
    offset: FloatArray,
    last_low: FloatArray,
    was_free: NDArray[np.bool_],
    free: IntArray,
) -> tuple[int, bool]:
    """Between what duals may move; how many are free to, and whether the piece is the one whose top this is.

    `rise` holds the excess of rows, less the pull of the centre, and gets the slope of the dual function.
    """
    among, same = 0, True
    for k in range(rise.size):
        beyond = dual[k] > first[k] or (dual[k] == first[k] and rise[k] > kink[k])
        low[k], high[k], offset[k] = 0.0, first[k], 0.0
        if beyond:
            low[k], high[k], offset[k] = first[k], last[k], kink[k]
        rise[k] -= offset[k]
        pressed = (dual[k] <= low[k] and rise[k] <= 0) or (dual[k] >= high[k] and rise[k] >= 0)
        same = same and low[k] == last_low[k] and (pressed or was_free[k])
        was_free[k], last_low[k] = not pressed, low[k]
        if not pressed:
            free[among] = k
            among += 1
    return among, same


@compiled
def _update(
    gram: FloatArray, across: FloatArray, answer: FloatArray, known: FloatArray, part: FloatArray, scaled: FloatArray
) -> None:
    """Bring the Gram matrix of channels, weighted by what they answer, from `known` to `answer`; upper triangle."""
    changed, heard = 0, 0
    for c in range(answer.size):
        changed += answer[c] != known[c]
        heard += answer[c] != 0.0
    if changed >= heard:
        for c in range(answer.size):
            known[c] = 0.0
        for i in range(gram.shape[0]):
            for j in range(gram.shape[0]):
                gram[i, j] = 0.0
        changed = heard
    at, size = 0, gram.shape[0]
    for c in range(answer.size):
        change = answer[c] - known[c]
        if change != 0.0 and changed <= RANK_ONE_MAX:
            for i in range(size):
                times = across[c, i] * change
                for j in range(i, size):
                    gram[i, j] += times * across[c, j]
            known[c] = answer[c]
        elif change != 0.0:
            for j in range(size):
                part[at, j] = across[c, j]
                scaled[at, j] = across[c, j] * change
            at += 1
            known[c] = answer[c]
    if at:
        added = np.dot(part[:at].T, scaled[:at])
        for i in range(size):
            for j in range(i, size):
                gram[i, j] += added[i, j]


@compiled
def _newton(
    gram: FloatArray,
    rank: int,
    rise: FloatArray,
    firm: FloatArray,
    low: FloatArray,
    high: FloatArray,
    dual: FloatArray,
    free: IntArray,
    side: IntArray,
    step: FloatArray,
    work: FloatArray,
    guesses_max: int,
    rounds_max: int,
) -> None:
    """Step to the top of the piece; free duals keep to their boxes, the others stay."""
    size = rank + free.size
    # Upper triangle with the right side as last column; the first `rank` rows are eliminated.
    for i in range(rank):
        for j in range(i, rank):
            work[i, j] = gram[i, j]
        for j in range(free.size):
            work[i, rank + j] = gram[i, rank + free[j]]
        work[i, i] += 1.0
        work[i, size] = rise[i]
    for i in range(free.size):
        for j in range(i, free.size):
            work[rank + i, rank + j] = gram[rank + free[i], rank + free[j]]
        work[rank + i, rank + i] += firm[free[i]]
        work[rank + i, size] = rise[rank + free[i]]
    eliminate(work, rank, size)
    for i in range(step.size):
        step[i] = 0.0
    if free.size:
        matrix, pull = np.empty((free.size, free.size)), np.empty(free.size)
        lowest, highest = np.empty(free.size), np.empty(free.size)
        stands = np.empty(free.size, dtype=np.int64)
        for i in range(free.size):
            matrix[i, i] = work[rank + i, rank + i]
            for j in range(i + 1, free.size):
                matrix[i, j] = work[rank + i, rank + j]
                matrix[j, i] = matrix[i, j]
            pull[i], stands[i] = work[rank + i, size], side[free[i]]
            lowest[i], highest[i] = low[free[i]] - dual[free[i]], high[free[i]] - dual[free[i]]
        s = in_box(matrix, pull, lowest, highest, stands, guesses_max, rounds_max)
        for i in range(free.size):
            step[rank + free[i]], side[free[i]] = s[i], stands[i]
    # Backwards through the rows that were eliminated.
    for i in range(rank - 1, -1, -1):
        value = work[i, size]
        for j in range(i + 1, rank):
            value -= work[i, j] * step[j]
        for j in range(free.size):
            value -= work[i, rank + j] * step[rank + free[j]]
        step[i] = value / work[i, i]


@compiled
def _line(
    slope: FloatArray,
    bend: FloatArray,
    rate: FloatArray,
    upper: FloatArray,
    constant: float,
    square: float,
    ahead: float,
    overshoot: float,
    trial_stop: float,
    trials_max: int,
) -> float:
    """Share of a step at which the climb along it is about over, at most 1."""
    near, rise, far = 0.0, ahead, 1.0
    fall = _climbing(slope, bend, rate, upper, far) - constant - square
    if fall >= -overshoot * ahead:
        return 1.0
    share = 0.0
    for _ in range(trials_max):
        share = near + (far - near) * min(max(rise / (rise - fall), 0.1), 0.9)
        here = _climbing(slope, bend, rate, upper, share) - constant - share * square
        if abs(here) <= trial_stop * ahead:
            break
        if here > 0:
            near, rise = share, here
        else:
            far, fall = share, here
    return share


@compiled
def _climbing(slope: FloatArray, bend: FloatArray, rate: FloatArray, upper: FloatArray, share: float) -> float:
    # Four sums side by side, for one alone waits for itself.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = slope.size // 4 * 4
    for i in range(0, whole, 4):
        a += bend[i] * min(max(-(slope[i] + share * bend[i]) * rate[i], 0.0), upper[i])
        b += bend[i + 1] * min(max(-(slope[i + 1] + share * bend[i + 1]) * rate[i + 1], 0.0), upper[i + 1])
        c += bend[i + 2] * min(max(-(slope[i + 2] + share * bend[i + 2]) * rate[i + 2], 0.0), upper[i + 2])
        d += bend[i + 3] * min(max(-(slope[i + 3] + share * bend[i + 3]) * rate[i + 3], 0.0), upper[i + 3])
    for i in range(whole, slope.size):
        a += bend[i] * min(max(-(slope[i] + share * bend[i]) * rate[i], 0.0), upper[i])
    return (a + b) + (c + d)
