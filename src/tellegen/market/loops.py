"""The inner loops of the quadratic programs, each as a call of numpy and as a loop for machine code."""

# mypy: disable-error-code="no-redef"
from __future__ import annotations

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.twofold import Twofold
from tellegen.market.program import Terms

RANK_ONE_MAX = 24
"""So few channels are cheaper added one at a time."""


@Twofold
def add_outer(matrix: FloatArray, column: FloatArray, row: FloatArray, times: float) -> None:
    """Add ``times column row'``."""
    matrix += np.outer(column * times, row)


@add_outer.loop
def _add_outer(matrix: FloatArray, column: FloatArray, row: FloatArray, times: float) -> None:
    for i in range(column.size):
        factor = column[i] * times
        if factor != 0.0:
            for j in range(row.size):
                matrix[i, j] += factor * row[j]


@Twofold
def solve_definite(matrix: FloatArray, right: FloatArray) -> None:
    """Solve a positive definite system for some columns, in place; the matrix is overwritten."""
    if right.size:
        right[:] = np.linalg.solve(matrix, right)


@solve_definite.loop
def _solve_definite(matrix: FloatArray, right: FloatArray) -> None:
    size, wide = right.shape
    for i in range(size):
        for j in range(i + 1, size):
            factor = matrix[i, j] / matrix[i, i]
            if factor != 0.0:
                for k in range(j, size):
                    matrix[j, k] -= factor * matrix[i, k]
                for k in range(wide):
                    right[j, k] -= factor * right[i, k]
    for i in range(size - 1, -1, -1):
        for k in range(wide):
            right[i, k] /= matrix[i, i]
        for j in range(i):
            factor = matrix[j, i]
            if factor != 0.0:
                for k in range(wide):
                    right[j, k] -= factor * right[i, k]


@Twofold
def add_gram(gram: FloatArray, across: FloatArray, change: FloatArray) -> None:
    """Add ``across' diag(change) across``."""
    heard = np.flatnonzero(change)
    part = across[heard]
    gram += part.T @ (part * change[heard, None])


@add_gram.loop
def _add_gram(gram: FloatArray, across: FloatArray, change: FloatArray) -> None:
    heard, size = np.flatnonzero(change), gram.shape[0]
    if heard.size > RANK_ONE_MAX:
        part, scaled = across[heard], across[heard]
        for i in range(heard.size):
            scaled[i] *= change[heard[i]]
        gram += np.dot(part.T, scaled)
        return
    for c in heard:
        if change[c] != 0.0:
            for i in range(size):
                factor = change[c] * across[c, i]
                for j in range(i, size):
                    gram[i, j] += factor * across[c, j]
    for i in range(size):
        for j in range(i):
            gram[i, j] = gram[j, i]


@Twofold
def pick(matrix: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """Some rows and columns of a matrix."""
    return np.asarray(matrix[np.ix_(rows, columns)])


@pick.loop
def _pick(matrix: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    answer = np.empty((rows.size, columns.size))
    for i in range(rows.size):
        for j in range(columns.size):
            answer[i, j] = matrix[rows[i], columns[j]]
    return answer


@Twofold
def respond(terms: Terms, rate: FloatArray, slope: FloatArray, y: FloatArray, total: FloatArray) -> FloatArray:
    """What variables do at these slopes, and what they add up to on channels, in place; what each channel answers."""
    y[:] = np.minimum(np.maximum(-slope * rate, 0.0), terms.upper)
    total[:] = np.bincount(terms.channel, terms.gain * y, total.size)
    inside = (y > 0.0) & (y < terms.upper)
    return np.bincount(terms.channel, np.where(inside, terms.gain**2 * rate, 0.0), total.size).astype(np.float64)


@respond.loop
def _respond(terms: Terms, rate: FloatArray, slope: FloatArray, y: FloatArray, total: FloatArray) -> FloatArray:
    answer = np.zeros(total.size)
    for c in range(total.size):
        total[c] = 0.0
    for i in range(y.size):
        wish, gain = -slope[i] * rate[i], terms.gain[i]
        y[i] = min(max(wish, 0.0), terms.upper[i])
        total[terms.channel[i]] += gain * y[i]
        if 0.0 < y[i] < terms.upper[i]:
            answer[terms.channel[i]] += gain * gain * rate[i]
    return answer


@Twofold
def climbing(slope: FloatArray, bend: FloatArray, rate: FloatArray, upper: FloatArray, share: float) -> float:
    """What ``bend' y`` is a share of a step further on."""
    return float(bend @ np.minimum(np.maximum(-(slope + share * bend) * rate, 0.0), upper))


@climbing.loop
def _climbing(slope: FloatArray, bend: FloatArray, rate: FloatArray, upper: FloatArray, share: float) -> float:
    # Four sums side by side, for one alone waits for itself.
    sums = np.zeros(4)
    whole = slope.size // 4 * 4
    for i in range(0, whole, 4):
        for j in range(4):
            sums[j] += bend[i + j] * min(max(-(slope[i + j] + share * bend[i + j]) * rate[i + j], 0.0), upper[i + j])
    for i in range(whole, slope.size):
        sums[0] += bend[i] * min(max(-(slope[i] + share * bend[i]) * rate[i], 0.0), upper[i])
    return float((sums[0] + sums[1]) + (sums[2] + sums[3]))


@Twofold
def prices(terms: Terms, both: FloatArray) -> FloatArray:
    """Derivative by each variable of what has derivatives `both` by coordinates and rows."""
    return (terms.across @ both)[terms.channel] * terms.gain


@prices.loop
def _prices(terms: Terms, both: FloatArray) -> FloatArray:
    price, answer = np.dot(terms.across, both), np.empty(terms.channel.size)
    for i in range(answer.size):
        answer[i] = price[terms.channel[i]] * terms.gain[i]
    return answer


@Twofold
def keenest(terms: Terms, bound: IntArray, y: FloatArray, pull: FloatArray) -> int:
    """The variable at a bound that most wants to leave it, -1 where there is none; `pull` gets the slopes."""
    pull += terms.linear + terms.diagonal * y
    return int(np.argmax(bound * pull / np.abs(terms.gain))) if y.size else -1


@keenest.loop
def _keenest(terms: Terms, bound: IntArray, y: FloatArray, pull: FloatArray) -> int:
    at, most = -1, -np.inf
    for i in range(y.size):
        pull[i] += terms.linear[i] + terms.diagonal[i] * y[i]
        want = bound[i] * pull[i] / abs(terms.gain[i])
        if want > most:
            at, most = i, want
    return at
