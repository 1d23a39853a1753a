"""Compiled loops of `tellegen.market.price_search`: one climb, step by step what that module does with arrays.

What few variables change between two Newton steps changes few rows of the Gram matrix of channels: it is kept and
updated, and the coordinates of the curvature are eliminated from it before the rows' boxes are looked at.
Importing this module imports numba.
"""

# mypy: disable-error-code="misc, no-any-return"
from __future__ import annotations

import numpy as np

from tellegen.grid.sweeps import FloatArray, IntArray, compiled


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
) -> tuple[FloatArray, int]:
    """Climb to the top around a centre; variables there, and the number of Newton steps.

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
    whole = False
    steps = 0
    while True:
        for c in range(count):
            total[c], answer[c] = 0.0, 0.0
        same = whole
        for i in range(places):
            wish = -slope[i] * rate[i]
            within = 0.0 < wish < upper[i]
            y[i] = min(max(wish, 0.0), upper[i])
            total[channel[i]] += gain[i] * y[i]
            if within:
                answer[channel[i]] += gain[i] * gain[i] * rate[i]
            inside[i] = within
            same = same and within == last_inside[i]
        both = np.dot(across.T, total)
        among = 0
        for j in range(rank):
            rise[j] = both[j] - z[j]
        for k in range(rows):
            excess = both[rank + k] - limit[k] - firm[k] * (dual[k] - centre[k])
            beyond = dual[k] > first[k] or (dual[k] == first[k] and excess > kink[k])
            low[k], high[k], offset[k] = 0.0, first[k], 0.0
            if beyond:
                low[k], high[k], offset[k] = first[k], last[k], kink[k]
            rise[rank + k] = excess - offset[k]
            pressed = (dual[k] <= low[k] and rise[rank + k] <= 0) or (dual[k] >= high[k] and rise[rank + k] >= 0)
            same = same and low[k] == last_low[k] and (pressed or was_free[k])
            was_free[k], last_low[k] = not pressed, low[k]
            if not pressed:
                free[among] = k
                among += 1
        if same or steps == steps_max:
            return y, steps
        steps += 1
        for i in range(places):
            last_inside[i] = inside[i]
        _update(gram, across, answer, known, part, scaled)
        _newton(gram, rank, rise, firm, low, high, dual, free[:among], side, step, work, guesses_max, rounds_max)
        ahead = 0.0
        for j in range(size):
            ahead += rise[j] * step[j]
        if not ahead > level:
            return y, steps
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
def _update(
    gram: FloatArray, across: FloatArray, answer: FloatArray, known: FloatArray, part: FloatArray, scaled: FloatArray
) -> None:
    """Bring the Gram matrix of channels, weighted by what they answer, from `known` to `answer`."""
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
    at = 0
    for c in range(answer.size):
        change = answer[c] - known[c]
        if change != 0.0:
            for j in range(gram.shape[0]):
                part[at, j] = across[c, j]
                scaled[at, j] = across[c, j] * change
            at += 1
            known[c] = answer[c]
    if at:
        added = np.dot(part[:at].T, scaled[:at])
        for i in range(gram.shape[0]):
            for j in range(gram.shape[0]):
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
    for i in range(rank):
        for j in range(i + 1, size):
            times = work[i, j] / work[i, i]
            for l in range(j, size + 1):
                work[j, l] -= times * work[i, l]
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


@compiled
def in_box(
    matrix: FloatArray,
    pull: FloatArray,
    low: FloatArray,
    high: FloatArray,
    side: IntArray,
    guesses_max: int,
    rounds_max: int,
) -> FloatArray:
    """Minimise ``s' matrix s / 2 - pull' s`` over ``low <= s <= high``, where 0 is inside; arguments are overwritten.

    `side` says where each member stands, as a guess and in the end: -1 low, 1 high, 0 between.
    """
    size = pull.size
    scale = np.empty(size)
    for i in range(size):
        scale[i] = 1.0 / np.sqrt(matrix[i, i])
    for i in range(size):
        for j in range(size):
            matrix[i, j] *= scale[i] * scale[j]
        pull[i] *= scale[i]
        low[i], high[i] = low[i] / scale[i], high[i] / scale[i]
    s, want = np.empty(size), np.empty(size)
    work, among = np.empty((size, size + 1)), np.empty(size, dtype=np.int64)
    for _ in range(guesses_max):
        for i in range(size):
            s[i] = low[i] if side[i] < 0 else high[i] if side[i] > 0 else 0.0
        _held(matrix, pull, s, side, work, among)
        _against(matrix, pull, s, want)
        settled = True
        for i in range(size):
            fresh = side[i]
            if fresh == 0:
                fresh = 1 if s[i] > high[i] else -1 if s[i] < low[i] else 0
            elif fresh * want[i] > 0:
                fresh = 0
            settled = settled and fresh == side[i]
            side[i] = fresh
        if settled:
            break
    else:
        value = 0.0
        for i in range(size):
            s[i] = min(max(s[i], low[i]), high[i])
        _against(matrix, pull, s, want)
        for i in range(size):
            value += s[i] * (want[i] - pull[i])
        # Only a start at least as good as standing still keeps the step an ascent.
        if value > 0.0:
            for i in range(size):
                s[i] = 0.0
        _one_by_one(matrix, pull, low, high, s, side, want, work, among, rounds_max)
    for i in range(size):
        s[i] = min(max(s[i], low[i]), high[i]) * scale[i]
    return s


@compiled
def _against(matrix: FloatArray, pull: FloatArray, s: FloatArray, want: FloatArray) -> None:
    """Derivative ``matrix s - pull``."""
    for i in range(s.size):
        want[i] = -pull[i]
    for j in range(s.size):
        if s[j] != 0.0:
            for i in range(s.size):
                want[i] += matrix[j, i] * s[j]


@compiled
def _held(
    matrix: FloatArray, pull: FloatArray, s: FloatArray, side: IntArray, work: FloatArray, among: IntArray
) -> None:
    """Optimum over what is free (side 0, zero before) while the rest stands at `s`."""
    size = 0
    for i in range(side.size):
        if side[i] == 0:
            among[size] = i
            size += 1
    for i in range(size):
        row = among[i]
        for j in range(i, size):
            work[i, j] = matrix[row, among[j]]
        value = pull[row]
        for j in range(side.size):
            value -= matrix[row, j] * s[j]
        work[i, size] = value
    for i in range(size):
        # Rounding denies that the matrix is definite: nothing moves.
        if not work[i, i] > 0.0:
            return
        for j in range(i + 1, size):
            times = work[i, j] / work[i, i]
            for l in range(j, size + 1):
                work[j, l] -= times * work[i, l]
    for i in range(size - 1, -1, -1):
        value = work[i, size]
        for j in range(i + 1, size):
            value -= work[i, j] * s[among[j]]
        s[among[i]] = value / work[i, i]


@compiled
def _one_by_one(
    matrix: FloatArray,
    pull: FloatArray,
    low: FloatArray,
    high: FloatArray,
    s: FloatArray,
    side: IntArray,
    want: FloatArray,
    work: FloatArray,
    among: IntArray,
    rounds_max: int,
) -> None:
    """Primal active sets from a point of the box: each round goes down and changes one member, so it ends."""
    size = s.size
    goal, largest = np.empty(size), 0.0
    for i in range(size):
        side[i] = 1 if s[i] >= high[i] else 0
        side[i] -= 1 if s[i] <= low[i] else 0
        largest = max(largest, abs(pull[i]))
    for _ in range(rounds_max + 4 * size):
        for i in range(size):
            goal[i] = 0.0 if side[i] == 0 else s[i]
        _held(matrix, pull, goal, side, work, among)
        reach, meets = 1.0, -1
        for i in range(size):
            move = goal[i] - s[i]
            if side[i] == 0 and move != 0.0:
                room = (high[i] - s[i] if move > 0 else s[i] - low[i]) / abs(move)
                if room < reach:
                    reach, meets = room, i
        if meets >= 0:
            up = goal[meets] > s[meets]
            for i in range(size):
                s[i] += reach * (goal[i] - s[i])
            side[meets] = 1 if up else -1
            s[meets] = high[meets] if up else low[meets]
            continue
        for i in range(size):
            s[i] = goal[i]
        _against(matrix, pull, s, want)
        worst, most = -1, 1e-14 * largest
        for i in range(size):
            if side[i] * want[i] > most:
                worst, most = i, side[i] * want[i]
        if worst < 0:
            return
        side[worst] = 0
