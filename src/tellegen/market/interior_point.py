"""Mehrotra's predictor-corrector: finds the active sets of a program of which nothing is known.

It goes on until even steps that nothing but rounding tells apart have chosen their side; active sets polish its answer.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg as la
from scipy.linalg import lapack

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.program import Program

ITERATIONS_MAX = 80
GAP_STOP, RESIDUAL_STOP = 1e-14, 1e-9
"""Mean complementarity, and what dual equations and rows leave over, relative to the scale of prices."""
DENSE_CHANNELS_MAX = 600
"""So many channels are solved for as they are, if their curvature is not of much lower rank."""


def interior_point(program: Program) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
    """Solve on ``rows x + s - t1 - t2 = limit`` with s, t2 >= 0 and 0 <= t1 <= width; y, duals, bound, stair.

    The three auxiliary variables of a row are diagonal and eliminated; `_NormalEquations` says what is left to solve.
    """
    m, k = program.linear.size, program.limit.size
    scale = max(float(np.abs(program.linear).max(initial=0.0)), 1e-12)
    width = program.kink[:, 1]
    upper = np.concatenate([program.upper, np.full(k, np.inf), width, np.full(k, np.inf)])
    finite = np.isfinite(upper)
    cost = np.concatenate([program.linear, np.zeros(k), program.penalty.T.ravel()]) / scale
    diagonal = np.concatenate([program.diagonal / scale, np.zeros(3 * k)])
    factor, rows = program.factor / np.sqrt(scale), program.rows
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
        residual = max(float(np.abs(slope).max()), float(np.abs(primal).max(initial=0.0)))
        # Far below the stop there is only rounding left to follow, whatever it has done to the residual.
        if gap < GAP_STOP and (residual < RESIDUAL_STOP or gap < 1e-4 * GAP_STOP):
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
    centre = 0.003 + 0.03 * float(np.abs(slope).mean()) if m else 0.003
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

    A variable has one channel, so Z = C' W^-1 C is diagonal, and channel totals x meet
    ``(I + Z F F') x = C' W^-1 a - Z A' dmu``: dense Cholesky of the channels where they are few, else the Woodbury
    identity on the rank; the rows follow from their Schur complement.
    """

    def __init__(self, program: Program, factor: FloatArray) -> None:
        self.program, self.factor, self.rows = program, factor, program.rows
        count, rank = factor.shape
        self.dense = count <= max(rank, min(DENSE_CHANNELS_MAX, 2 * rank + 50))
        self.square = factor @ factor.T if self.dense else np.zeros((0, 0))

    def factorise(self, weight: FloatArray, soft: FloatArray) -> None:
        """Prepare to solve with W = diag(weight), E = diag(soft)."""
        self.weight = weight
        yields = self.program.gain / weight
        self.yielding = self.program.total(yields)
        self.share = yields / self.yielding[self.program.channel]
        if self.dense:
            root = np.sqrt(self.yielding)
            matrix, self.root = self.square * root, root
            matrix *= root[:, None]
        else:
            matrix = (self.factor.T * self.yielding) @ self.factor
        self.inner = _Definite(matrix, 1.0)
        self.answer = self._totals(self.yielding[:, None] * self.rows.T)
        schur = self.rows @ self.answer
        self.outer = _Definite((schur + schur.T) / 2, soft)

    def _totals(self, alone: FloatArray) -> FloatArray:
        """Channel totals, [c] or [c, n], of which `alone` is left where the factor is not heard."""
        if self.dense:
            root = self.root if alone.ndim == 1 else self.root[:, None]
            return np.asarray(root * self.inner.solve(alone / root))
        yielding = self.yielding if alone.ndim == 1 else self.yielding[:, None]
        return np.asarray(alone - yielding * (self.factor @ self.inner.solve(self.factor.T @ alone)))

    def solve(self, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Solution (dy, dmu)."""
        program, alone = self.program, a / self.weight
        total = self._totals(program.total(alone))
        ddual = self.outer.solve(self.rows @ total - b)
        total -= self.answer @ ddual
        # Totals are solved for, not prices, and shared out: what is free has next to no weight to divide by.
        for _ in range(2):
            alone = alone - self.share * program.total(alone)[program.channel]
        return alone + self.share * total[program.channel], ddual


class _Definite:
    """Cholesky factor of ``matrix + diag(ridge)``, lifted as little as rounding asks for; overwrites the matrix.

    The diagonal is made one before: weights span twenty orders of magnitude near the solution.
    """

    def __init__(self, matrix: FloatArray, ridge: FloatArray | float) -> None:
        size, lift = matrix.shape[0], 0.0
        matrix[np.diag_indices(size)] += ridge
        self.unit = 1.0 / np.sqrt(np.diagonal(matrix))
        matrix *= self.unit
        matrix *= self.unit[:, None]
        while size:
            self.factor, failure = lapack.dpotrf(matrix.T, lower=1, clean=0)
            if not failure:
                break
            if lift > 1.0:
                raise la.LinAlgError("the normal equations are not finite")
            raised, lift = lift, max(100 * lift, 1e-15)
            matrix[np.diag_indices(size)] += lift - raised

    def solve(self, right: FloatArray) -> FloatArray:
        """Solution for one right-hand side [n] or several [n, j]."""
        if right.size == 0:
            return right
        unit = self.unit if right.ndim == 1 else self.unit[:, None]
        answer, _ = lapack.dpotrs(self.factor, unit * right, lower=1, overwrite_b=1)
        return np.asarray(unit * answer)
