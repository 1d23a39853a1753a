"""Mehrotra's predictor-corrector: finds the active sets of a program of which nothing is known.

Its answer is good to about 1e-9 of the scale of prices; active sets polish it.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg as la

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.program import Program

ITERATIONS_MAX = 80
DENSE_CHANNELS_MAX = 600


def interior_point(
    program: Program, *, rank_max: int | None = None, gap_stop: float = 1e-9
) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
    """Solve on ``rows y + s - t1 - t2 = limit`` with s, t2 >= 0 and 0 <= t1 <= width; y, duals, bound, stair.

    The three auxiliary variables of a row are diagonal and eliminated, so that each iteration solves with
    ``diag + factor factor' + rows' E^-1 rows``. With `rank_max` only that many columns of the factor are kept, and the
    rest stands on the diagonal; the search ends where the mean complementarity is below `gap_stop` of the price scale.
    """
    m, k = program.linear.size, program.limit.size
    scale = max(float(np.abs(program.linear).max(initial=0.0)), 1e-12)
    width = program.kink[:, 1]
    upper = np.concatenate([program.upper, np.full(k, np.inf), width, np.full(k, np.inf)])
    finite = np.isfinite(upper)
    cost = np.concatenate([program.linear, np.zeros(k), program.penalty.T.ravel()]) / scale
    diagonal = np.concatenate([program.diagonal / scale, np.zeros(3 * k)])
    factor, rows = program.factor[:, :rank_max] / np.sqrt(scale), program.rows
    if rank_max is not None:
        diagonal[:m] += program.gain**2 * (program.factor[:, rank_max:] ** 2).sum(axis=1)[program.channel] / scale
    sign = np.concatenate([np.ones(k), -np.ones(2 * k)])
    x, dual, z, u = _interior_start(program, cost, diagonal, factor, upper)
    room = np.where(finite, upper - x, 1.0)
    pairs = x.size + int(finite.sum())
    solver = _NormalEquations(program, factor)
    for _ in range(ITERATIONS_MAX):
        slope = cost + diagonal * x - z + u
        total = program.total(x[:m])
        slope[:m] += program.spread(factor @ (total @ factor) + dual @ rows)
        slope[m:] += sign * np.tile(dual, 3)
        primal = rows @ total + (sign * x[m:]).reshape(3, k).sum(axis=0) - program.limit
        gap = float((z @ x + u @ room) / pairs)
        if max(gap, float(np.abs(slope).max()), float(np.abs(primal).max(initial=0.0))) < gap_stop:
            break
        weight = diagonal + z / x + np.where(finite, u / room, 0.0)
        solver.factorise(weight[:m], (1.0 / weight[m:]).reshape(3, k).sum(axis=0))
        low, high = np.zeros_like(x), np.zeros_like(x)
        for corrector in (False, True):
            right = -slope + (low / x - z) - np.where(finite, high / room - u, 0.0)
            aux = right[m:] / weight[m:]
            dy, ddual = solver.solve(right[:m], -primal - (sign * aux).reshape(3, k).sum(axis=0))
            dx = np.concatenate([dy, aux - sign * np.tile(ddual, 3) / weight[m:]])
            dz = low / x - z - z / x * dx
            du = np.where(finite, high / room - u + u / room * dx, 0.0)
            reach_x = _reach(np.concatenate([x, room[finite]]), np.concatenate([dx, -dx[finite]]))
            reach_z = _reach(np.concatenate([z, u[finite]]), np.concatenate([dz, du[finite]]))
            if not corrector:
                ahead = (z + reach_z * dz) @ (x + reach_x * dx) + (u + reach_z * du) @ (room - reach_x * dx)
                aim = gap * (max(float(ahead), 0.0) / pairs / gap) ** 3
                low, high = aim - dx * dz, np.where(finite, aim + dx * du, 0.0)
        if not (np.isfinite(dx).all() and np.isfinite(dz).all()):
            break
        reach = 0.995 * min(reach_x, reach_z)
        x = x + reach * dx
        room = np.where(finite, room - reach * dx, 1.0)
        z, u, dual = z + reach * dz, u + reach * du, dual + reach * ddual
    y = x[:m]
    at_upper, at_zero = u[:m] * program.upper > room[:m], z[:m] * program.upper > y
    bound = np.where(at_zero, -1, np.where(at_upper, 1, 0)).astype(np.int64)
    s, t1, t2 = x[m:].reshape(3, k)
    zs, z1, z2 = z[m:].reshape(3, k)
    u1 = u[m + k : m + 2 * k]
    stair = (s < zs).astype(np.int64) + (t1 > z1) + (width - t1 < u1) + (t2 > z2)
    # The guess goes to the active sets whole; the fallback answer moves only what is at a bound but for rounding.
    near = np.minimum(y, program.upper - y) < 1e-7 * program.upper
    snapped = np.where(near & (bound < 0), 0.0, np.where(near & (bound > 0), program.upper, y))
    return snapped, np.maximum(dual * scale, 0.0), bound, stair.astype(np.int64)


def _interior_start(
    program: Program, cost: FloatArray, diagonal: FloatArray, factor: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """A centre that meets the rows and the dual equations, so that only complementarity is left to gain."""
    m, k = program.linear.size, program.limit.size
    y = program.upper / 2
    excess = program.excess(y)
    dual = np.minimum(0.3, cost[m + k : m + 2 * k] / 3)
    slope = cost[:m] + diagonal[:m] * y
    slope += program.spread(factor @ (program.total(y) @ factor) + dual @ program.rows)
    centre = 0.1 + 0.1 * float(np.abs(slope).mean()) if m else 0.1
    z_first, z_second = cost[m + k : m + 2 * k] - dual, cost[m + 2 * k :] - dual
    middle = float((program.upper / 2).mean()) * centre if m else centre
    first = np.minimum(program.kink[:, 1] / 2, middle / z_first)
    u_first = middle / (program.kink[:, 1] - first)
    second = np.maximum(excess, 0.0) + middle / z_second
    slack = np.maximum(first + second - excess, middle / dual)
    second = np.maximum(second, slack + excess - first)
    x = np.concatenate([y, slack, first, second])
    z = np.concatenate([np.maximum(slope, 0.0) + centre, dual, z_first + u_first, z_second])
    u = np.concatenate([np.maximum(-slope, 0.0) + centre, np.zeros(k), u_first, np.zeros(k)])
    return x, dual, z, u


def _reach(values: FloatArray, steps: FloatArray) -> float:
    """Largest step in [0, 1] that keeps values >= 0."""
    falling = steps < 0
    return float(min(1.0, (-values[falling] / steps[falling]).min(initial=1.0)))


class _NormalEquations:
    """Solves ``(W + C F F' C') dy + C A' dmu = a``, ``A C' dy - E dmu = b`` with diagonal W, E; C spreads channels.

    With Z = C' W^-1 C (diagonal, for a variable has one channel) and H = F F' + A' E^-1 A, channel totals solve
    ``(I + Z H) x = C' W^-1 right``: dense Cholesky of the channels where they are few, else the Woodbury identity on
    rank plus rows.
    """

    def __init__(self, program: Program, factor: FloatArray) -> None:
        self.program, self.factor, self.rows = program, factor, program.rows
        count = factor.shape[0]
        rank = factor.shape[1] + self.rows.shape[0]
        self.dense = count <= max(rank, min(DENSE_CHANNELS_MAX, 2 * rank + 50))
        self.square = factor @ factor.T if self.dense else np.zeros((0, 0))

    def factorise(self, weight: FloatArray, soft: FloatArray) -> None:
        """Prepare to solve with W = diag(weight), E = diag(soft)."""
        self.weight, self.soft = weight, soft
        yielding = self.program.total(self.program.gain / weight)
        scaled = self.rows / np.sqrt(soft)[:, None]
        if self.dense:
            self.bend = self.square + scaled.T @ scaled
            self.root = np.sqrt(yielding)
            self.share = self.program.gain / weight / yielding[self.program.channel]
            matrix = self.bend * self.root
            matrix *= self.root[:, None]
        else:
            self.stack = np.concatenate([self.factor.T, scaled])
            matrix = (self.stack * yielding) @ self.stack.T
        matrix[np.diag_indices(matrix.shape[0])] += 1.0
        # Unit diagonal before Cholesky: weights span twenty orders of magnitude near the solution.
        self.unit = 1.0 / np.sqrt(np.diagonal(matrix))
        matrix *= self.unit
        matrix *= self.unit[:, None]
        self.cholesky = _cholesky(matrix)

    def _inverse(self, right: FloatArray) -> FloatArray:
        program, alone = self.program, right / self.weight
        total = program.total(alone)
        if not self.dense:
            price = self._solve(self.stack @ total) @ self.stack
            return np.asarray((right - program.spread(price)) / self.weight)
        # Totals are solved for, not prices, and shared out: what is free has next to no weight to divide by.
        for _ in range(2):
            alone = alone - self.share * program.total(alone)[program.channel]
        total = self.root * self._solve(total / self.root)
        return np.asarray(alone + self.share * total[program.channel])

    def _solve(self, right: FloatArray) -> FloatArray:
        inner = la.cho_solve((self.cholesky, True), self.unit * right, check_finite=False)
        return np.asarray(self.unit * inner)

    def solve(self, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Solution (dy, dmu), with one step of refinement."""
        program = self.program
        right = a + program.spread((b / self.soft) @ self.rows)
        dy = self._inverse(right)
        for _ in range(1):
            total = program.total(dy)
            price = self.factor @ (total @ self.factor) + ((self.rows @ total) / self.soft) @ self.rows
            dy = dy + self._inverse(right - self.weight * dy - program.spread(price))
        return dy, (self.rows @ program.total(dy) - b) / self.soft


def _cholesky(matrix: FloatArray) -> FloatArray:
    """Cholesky factor, of a matrix lifted as little as rounding asks for."""
    lift = 0.0
    while True:
        try:
            lifted = matrix + lift * np.eye(matrix.shape[0]) if lift else matrix
            return np.asarray(la.cholesky(lifted, lower=True, check_finite=False))
        except la.LinAlgError:
            if lift > 1.0:
                raise
            lift = max(100 * lift, 1e-15 * float(np.abs(matrix).max()))
