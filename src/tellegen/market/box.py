"""Compiled loops of `tellegen.market.price_search`: a small quadratic program over a box.

Importing this module imports numba.
"""

# mypy: disable-error-code="misc, no-any-return"
from __future__ import annotations

import numpy as np

from tellegen.grid.sweeps import FloatArray, IntArray, compiled

SETTLED = 1e-3
"""A round that moves nothing by more than this, relative to the largest pull, ends what need not be exact."""


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
        _in_turn(matrix, pull, low, high, s, side, want, rounds_max)
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
    # Where rounding denies that the matrix is definite nothing moves.
    if not eliminate(work, size, size):
        return
    for i in range(size - 1, -1, -1):
        value = work[i, size]
        for j in range(i + 1, size):
            value -= work[i, j] * s[among[j]]
        s[among[i]] = value / work[i, i]


@compiled
def _in_turn(
    matrix: FloatArray,
    pull: FloatArray,
    low: FloatArray,
    high: FloatArray,
    s: FloatArray,
    side: IntArray,
    want: FloatArray,
    rounds_max: int,
) -> None:
    """Each member in turn goes where the others want it: always down, to the optimum in the end."""
    size, tiny = s.size, 0.0
    for i in range(size):
        tiny = max(tiny, SETTLED * abs(pull[i]))
    _against(matrix, pull, s, want)
    for _ in range(rounds_max):
        largest = 0.0
        for i in range(size):
            goal = min(max(s[i] - want[i], low[i]), high[i])
            move = goal - s[i]
            if move != 0.0:
                s[i] = goal
                largest = max(largest, abs(move))
                for j in range(size):
                    want[j] += matrix[i, j] * move
        if largest <= tiny:
            break
    for i in range(size):
        side[i] = 1 if s[i] >= high[i] else -1 if s[i] <= low[i] else 0


@compiled
def eliminate(work: FloatArray, rows: int, size: int) -> bool:
    """Eliminate the first rows of a symmetric system (upper triangle, right side in column `size`), if definite."""
    for i in range(rows):
        if not work[i, i] > 0.0:
            return False
        for j in range(i + 1, size):
            times = work[i, j] / work[i, i]
            for column in range(j, size + 1):
                work[j, column] -= times * work[i, column]
    return True
