"""Runs: stretches of successive intervals of which something holds, in many meters at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.units import IntArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Longest stretches of True in the rows of an array, row by row, int64[k].

    Attributes
    ----------
    row : row in which the stretch stands.
    start, end : first column, and the one after the last.
    """

    row: IntArray
    start: IntArray
    end: IntArray

    @classmethod
    def of(cls, holds: ArrayLike) -> Runs:
        """Every stretch of True in ``bool[m, t]``.

        >>> runs = Runs.of([[True, True, False], [False, True, True]])
        >>> runs.row.tolist(), runs.start.tolist(), runs.end.tolist()
        ([0, 1], [0, 1], [2, 3])
        """
        inside = np.asarray(holds, dtype=np.bool_)
        padded = np.zeros((inside.shape[0], inside.shape[1] + 2), dtype=np.int8)
        padded[:, 1:-1] = inside
        step = np.diff(padded, axis=1)
        row, start = np.nonzero(step == 1)
        return cls(row.astype(np.int64), start.astype(np.int64), np.nonzero(step == -1)[1].astype(np.int64))

    @property
    def length(self) -> IntArray:
        """Columns of each stretch."""
        return self.end - self.start

    def take(self, where: BoolArray) -> Runs:
        """The stretches for which `where` holds."""
        return Runs(self.row[where], self.start[where], self.end[where])

    def painted(self, shape: tuple[int, int]) -> BoolArray:
        """bool[m, t], True inside the stretches."""
        return self.number(shape) >= 0

    def number(self, shape: tuple[int, int]) -> IntArray:
        """int64[m, t]: which stretch a column belongs to; -1 for none."""
        at = np.full(shape, -1, dtype=np.int64)
        length = self.length
        which = np.repeat(np.arange(length.size), length)
        within = np.arange(which.size) - np.repeat(np.cumsum(length) - length, length)
        at[self.row[which], self.start[which] + within] = which
        return at

    def longest(self, rows: int) -> IntArray:
        """int64[rows]: columns of the longest stretch in each row."""
        longest = np.zeros(rows, dtype=np.int64)
        np.maximum.at(longest, self.row, self.length)
        return longest
