"""Places of numbers: serials and customer numbers are sparse, arrays are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.units import IntArray

_FREE = np.iinfo(np.int64).min
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: neighbours land far apart (Knuth, vol. 3, 6.4)
_BITS_MIN = 8


class NumberIndex:
    """Gives each number a place: 0, 1, 2, ... in the order in which they were first added.

    A hash table with linear probing in two arrays, at most half full, asked and filled by whole arrays: a thousand
    look-ups among a million cost some 30 microseconds, where binary search costs 300.

    >>> index = NumberIndex([70, 50])
    >>> index.add([50, 90, 90]).tolist(), index.places([90, 70, 1]).tolist()
    ([1, 2, 2], [2, 0, -1])
    """

    __slots__ = ("_bits", "_count", "_numbers", "_places")

    def __init__(self, numbers: ArrayLike = ()) -> None:
        self._count = 0
        self._clear(_BITS_MIN)
        self.add(numbers)

    def __len__(self) -> int:
        return self._count

    def numbers(self) -> IntArray:
        """Every number, by place."""
        taken = np.flatnonzero(self._numbers != _FREE)
        return self._numbers[taken[np.argsort(self._places[taken])]]

    def places(self, numbers: ArrayLike) -> IntArray:
        """Place of each number, int64[n]; -1 where it is unknown."""
        wanted = np.asarray(numbers, dtype=np.int64)
        cell = self._home(wanted)
        met = self._numbers[cell]
        other = np.flatnonzero((met != wanted) & (met != _FREE))
        while other.size:
            cell[other] = (cell[other] + 1) & (self._numbers.size - 1)
            met = self._numbers[cell[other]]
            other = other[(met != wanted[other]) & (met != _FREE)]
        return self._places[cell].astype(np.int64)

    def add(self, numbers: ArrayLike) -> IntArray:
        """Place of each number; those not yet known get one. The number -2^63 stands for none."""
        wanted = np.asarray(numbers, dtype=np.int64)
        place = self.places(wanted)
        if not (place < 0).any():
            return place
        new, first = np.unique(wanted[place < 0], return_index=True)
        new = new[np.argsort(first)]
        if 2 * (self._count + new.size) > self._numbers.size:
            taken = self._numbers != _FREE
            known, places = self._numbers[taken], self._places[taken]
            self._clear(int(2 * (self._count + new.size)).bit_length() + 1)
            self._insert(known, places)
        self._insert(new, np.arange(self._count, self._count + new.size, dtype=np.int32))
        self._count += new.size
        return self.places(wanted)

    def _clear(self, bits: int) -> None:
        self._bits = bits
        self._numbers = np.full(1 << bits, _FREE, dtype=np.int64)
        self._places = np.full(1 << bits, -1, dtype=np.int32)

    def _insert(self, numbers: IntArray, places: NDArray[np.int32]) -> None:
        """Put in numbers that are not there, each once."""
        cell = self._home(numbers)
        while numbers.size:
            free = self._numbers[cell] == _FREE
            self._numbers[cell[free]] = numbers[free]  # of several that want one cell one gets it
            settled = self._numbers[cell] == numbers
            self._places[cell[settled]] = places[settled]
            numbers, places = numbers[~settled], places[~settled]
            cell = (cell[~settled] + 1) & (self._numbers.size - 1)

    def _home(self, numbers: IntArray) -> IntArray:
        return ((numbers.astype(np.uint64) * _SPREAD) >> np.uint64(64 - self._bits)).astype(np.int64)
