"""Places of numbers: serials and customer numbers are sparse, arrays are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.units import IntArray

SPARE = 8
"""A table by number may be this many times longer than the numbers it holds; it is the faster way to look up."""
_TABLE_MIN = 1 << 16


class NumberIndex:
    """Gives each number a place: 0, 1, 2, ... in the order in which they were first added.

    >>> index = NumberIndex([70, 50])
    >>> index.add([50, 90, 90]).tolist(), index.places([90, 70, 1]).tolist()
    ([1, 2, 2], [2, 0, -1])
    """

    __slots__ = ("_low", "_place", "_sorted", "_table")

    def __init__(self, numbers: ArrayLike = ()) -> None:
        self._sorted = np.empty(0, dtype=np.int64)
        self._place = np.empty(0, dtype=np.int64)
        self._table: NDArray[np.int32] | None = None
        self._low = 0
        self.add(numbers)

    def __len__(self) -> int:
        return self._sorted.size

    def places(self, numbers: ArrayLike) -> IntArray:
        """Place of each number, int64[n]; -1 where it is unknown."""
        wanted = np.asarray(numbers, dtype=np.int64)
        if not self._sorted.size:
            return np.full(wanted.size, -1, dtype=np.int64)
        if self._table is not None:
            inside = (wanted >= self._low) & (wanted < self._low + self._table.size)
            return np.where(inside, self._table[np.where(inside, wanted - self._low, 0)], -1)
        at = np.minimum(np.searchsorted(self._sorted, wanted), self._sorted.size - 1)
        return np.where(self._sorted[at] == wanted, self._place[at], -1)

    def add(self, numbers: ArrayLike) -> IntArray:
        """Place of each number; those not yet known get one."""
        wanted = np.asarray(numbers, dtype=np.int64)
        place = self.places(wanted)
        if not (place < 0).any():
            return place
        new, first = np.unique(wanted[place < 0], return_index=True)
        given = np.empty(new.size, dtype=np.int64)
        given[np.argsort(first)] = len(self) + np.arange(new.size)
        at = np.searchsorted(self._sorted, new)
        self._sorted = np.insert(self._sorted, at, new)
        self._place = np.insert(self._place, at, given)
        self._low = int(self._sorted[0])
        span = int(self._sorted[-1]) - self._low + 1
        self._table = None
        if span <= max(SPARE * len(self), _TABLE_MIN):
            self._table = np.full(span, -1, dtype=np.int32)
            self._table[self._sorted - self._low] = self._place
        return self.places(wanted)
