"""A quadratic program with elastic rows, and its solution.

minimise    linear'y + 1/2 y'diag(diagonal)y + 1/2 x'(factor factor')x + sum_r elastic_r(rows_r x - limit_r)
subject to  0 <= y <= upper,  x[c] = sum of gain * y over the variables of channel c

The network knows channels (demand at a node) and not who is behind them: variables that share one are told apart by
their own cost and bounds alone, so all algebra of the network is as small as the number of channels.

A row is elastic: its penalty is convex and piecewise linear, 0 up to the limit, then ``penalty[r, 0]`` per unit up to
``kink[r, 1]``, then ``penalty[r, 1]``. So a row's dual lies on a staircase, and every program has a solution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tellegen.grid.elimination import Engine
from tellegen.grid.network import FloatArray, IntArray


class Terms(NamedTuple):
    """Arrays of a `Program`, for compiled loops."""

    across: FloatArray
    channel: IntArray
    gain: FloatArray
    linear: FloatArray
    diagonal: FloatArray
    upper: FloatArray
    limit: FloatArray
    kink: FloatArray
    penalty: FloatArray
    row_size: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A program in variables that are scaled to a box of [0, upper].

    Attributes
    ----------
    linear, diagonal, upper : float64[m]; diagonal > 0 (strictly convex), upper > 0 and finite.
    channel : int64[m], 0..c-1; gain : float64[m], not 0.
    factor : float64[c, r]; square : float64[c, c], ``factor factor'`` where channels are few, else None.
    rows : float64[k, c]; limit : float64[k].
    kink : float64[k, 2], excess at which the penalty changes, first column 0.
    penalty : float64[k, 2], currency per unit of excess, rising, positive.
    engine : compiled loops or arrays.
    """

    linear: FloatArray
    diagonal: FloatArray
    upper: FloatArray
    channel: IntArray
    gain: FloatArray
    factor: FloatArray
    rows: FloatArray
    limit: FloatArray
    kink: FloatArray
    penalty: FloatArray
    engine: Engine = Engine.SUPERLU
    square: FloatArray | None = None
    _known: dict[str, FloatArray] = field(default_factory=dict, init=False, repr=False)

    @property
    def across(self) -> FloatArray:
        """What a channel's demand does to the coordinates ``factor' x`` and to the rows, float64[c, r + k]."""
        if "across" not in self._known:
            self._known["across"] = np.ascontiguousarray(np.concatenate([self.factor, self.rows.T], axis=1))
        return self._known["across"]

    @property
    def terms(self) -> Terms:
        """All that loops need."""
        return Terms(
            self.across, self.channel, self.gain, self.linear, self.diagonal, self.upper, self.limit,
            self.kink, self.penalty, self.row_size(),
        )  # fmt: skip

    def conditions(self, y: FloatArray, dual: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivative of the Lagrangian by y, bounds left out, and `excess`, in one go."""
        total = self.total(y)
        price = self.bent(total) + dual @ self.rows
        return self.linear + self.diagonal * y + self.spread(price), self.rows @ total - self.limit

    def bent(self, total: FloatArray) -> FloatArray:
        """Prices of channels, float64[c], that the curvature makes of their totals."""
        return self.factor @ (total @ self.factor) if self.square is None else self.square @ total

    def excess(self, y: FloatArray) -> FloatArray:
        """How far each row is beyond its limit, float64[k]."""
        return np.asarray(self.rows @ self.total(y) - self.limit, dtype=np.float64)

    def total(self, y: FloatArray) -> FloatArray:
        """What the variables add up to on each channel, float64[c]."""
        return np.bincount(self.channel, self.gain * y, minlength=self.factor.shape[0]).astype(np.float64)

    def spread(self, price: FloatArray) -> FloatArray:
        """Derivatives [..., m] with respect to y of something with derivatives [..., c] with respect to channels."""
        return np.asarray(price[..., self.channel] * self.gain, dtype=np.float64)

    def row_size(self) -> FloatArray:
        """Largest effect of one variable on each row, float64[k], positive."""
        if "row_size" not in self._known:
            order = np.argsort(self.channel, kind="stable")
            channel, reach = self.channel[order], np.zeros(self.factor.shape[0])
            heads = np.flatnonzero(np.diff(channel, prepend=-1))
            if heads.size:
                reach[channel[heads]] = np.maximum.reduceat(np.abs(self.gain)[order], heads)
            self._known["row_size"] = (np.abs(self.rows) * reach).max(axis=1, initial=0.0) + 1e-300
        return self._known["row_size"]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A solution of a `Program`.

    Attributes
    ----------
    y : float64[m]; dual : float64[k] >= 0.
    bound : int64[m], -1 at zero, +1 at `upper`, 0 in between.
    stair : int64[k]: 0 slack, 1 at the limit, 2 beyond it on the first penalty, 3 at the second kink, 4 beyond.
    exact : it is the optimum; else where a climb ended.
    """

    y: FloatArray
    dual: FloatArray
    bound: IntArray
    stair: IntArray
    exact: bool
