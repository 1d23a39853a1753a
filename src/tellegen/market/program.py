"""A quadratic program with elastic rows, and its solution.

minimise    linear'y + 1/2 y'(diag(diagonal) + factor factor')y + sum_r elastic_r(rows_r y - limit_r)
subject to  0 <= y <= upper

A row is elastic: its penalty is convex and piecewise linear, 0 up to the limit, then ``penalty[r, 0]`` per unit up to
``kink[r, 1]``, then ``penalty[r, 1]``. So a row's dual lies on a staircase, and every program has a solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.grid.network import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A program in variables that are scaled to a box of [0, upper].

    Attributes
    ----------
    linear, diagonal, upper : float64[m]; diagonal > 0 (strictly convex), upper > 0 and finite.
    factor : float64[m, r].
    rows : float64[k, m]; limit : float64[k].
    kink : float64[k, 2], excess at which the penalty changes, first column 0.
    penalty : float64[k, 2], currency per unit of excess, rising, positive.
    """

    linear: FloatArray
    diagonal: FloatArray
    upper: FloatArray
    factor: FloatArray
    rows: FloatArray
    limit: FloatArray
    kink: FloatArray
    penalty: FloatArray

    def gradient(self, y: FloatArray, dual: FloatArray) -> FloatArray:
        """Derivative of the Lagrangian with respect to y, bounds left out."""
        return np.asarray(
            self.linear + self.diagonal * y + self.factor @ (self.factor.T @ y) + dual @ self.rows, dtype=np.float64
        )


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A solution of a `Program`.

    Attributes
    ----------
    y : float64[m]; dual : float64[k] >= 0.
    bound : int64[m], -1 at zero, +1 at `upper`, 0 in between.
    stair : int64[k]: 0 slack, 1 at the limit, 2 beyond it on the first penalty, 3 at the second kink, 4 beyond.
    exact : the active-set method settled; else interior-point accuracy.
    """

    y: FloatArray
    dual: FloatArray
    bound: IntArray
    stair: IntArray
    exact: bool
