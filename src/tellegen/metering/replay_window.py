"""Counters seen, per meter: a message counts once, late ones still do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.records import Refusal
from tellegen.registry import NumberIndex
from tellegen.units import IntArray

PART = "counters"
"""Name of its part of a snapshot."""
WINDOW = 512
"""Counters below the highest seen that are remembered: at a reading per 5 minutes, 42 hours."""
COUNTER_LIMIT = 1 << 62
_WORD = 64
_WORDS = WINDOW // _WORD
_LOW_BITS = np.array([(1 << k) - 1 for k in range(_WORD + 1)], dtype=np.uint64)  # k lowest bits set
_NEVER = -1


class ReplayWindow:
    """Which counters of each meter have been seen: the highest, and which of the 512 up to it.

    `check` asks and changes nothing; `mark` is for rows that have been put on record. So a batch that is refused or
    lost leaves no trace, and the window is a fold of the readings on record.

    Parameters
    ----------
    meters : serial numbers known beforehand; others are taken in when they are marked.

    >>> window = ReplayWindow()
    >>> window.mark([7, 7], [1, 600])
    >>> [Refusal(r).name for r in window.check([7, 7, 7, 7, 7, 8], [601, 600, 599, 599, 88, 1])]
    ['NONE', 'REPLAYED', 'NONE', 'DUPLICATE', 'STALE_COUNTER', 'NONE']
    """

    def __init__(self, meters: ArrayLike = ()) -> None:
        self._index = NumberIndex(meters)
        self._highest = np.full(len(self._index), _NEVER, dtype=np.int64)
        self._seen = np.zeros((len(self._index), _WORDS), dtype=np.uint64)  # bit counter mod 512

    def parts(self, without: ArrayLike = ()) -> dict[str, dict[str, NDArray[Any]]]:
        """All that it knows, as one part of a column each, by ascending meter: 80 bytes of those with a counter.

        Parameters
        ----------
        without : meters to leave out.
        """
        meter = self._index.numbers()
        place = np.argsort(meter)
        place = place[(self._highest[place] != _NEVER) & ~np.isin(meter[place], np.asarray(without, dtype=np.int64))]
        return {PART: {"meter": meter[place], "highest": self._highest[place], "seen": self._seen[place]}}

    @classmethod
    def of_parts(cls, parts: Mapping[str, Mapping[str, NDArray[Any]]], without: ArrayLike = ()) -> ReplayWindow:
        """Inverse of `parts`; other parts are passed over."""
        columns = parts[PART]
        kept = ~np.isin(columns["meter"], np.asarray(without, dtype=np.int64))
        window = cls(columns["meter"][kept])
        window._highest, window._seen = columns["highest"][kept], columns["seen"][kept]
        return window

    def check(self, meters: ArrayLike, counters: ArrayLike) -> NDArray[np.uint8]:
        """Why each message may not count, uint8[n] of `records.Refusal`.

        REPLAYED: seen before. DUPLICATE: earlier in this batch. STALE_COUNTER: too old to tell; the meter must be
        read again, which gives a new counter. OUT_OF_RANGE: no counter at all.
        """
        serial, counter = np.asarray(meters, dtype=np.int64), np.asarray(counters, dtype=np.int64)
        place = self._index.places(serial)
        known = np.flatnonzero(place >= 0)
        refusal = np.zeros(serial.size, dtype=np.uint8)
        behind = self._highest[place[known]] - counter[known]
        inside = known[(behind >= 0) & (behind < WINDOW)]
        word, bit = _position(counter[inside])
        refusal[inside[(self._seen[place[inside], word] & bit) != 0]] = Refusal.REPLAYED
        refusal[known[behind >= WINDOW]] = Refusal.STALE_COUNTER
        again = _repeated(serial, counter)
        refusal[again[refusal[again] == Refusal.NONE]] = Refusal.DUPLICATE
        refusal[(counter < 0) | (counter >= COUNTER_LIMIT)] = Refusal.OUT_OF_RANGE
        return refusal

    def mark(self, meters: ArrayLike, counters: ArrayLike) -> None:
        """Remember messages that are on record; the same again changes nothing."""
        serial, counter = np.asarray(meters, dtype=np.int64), np.asarray(counters, dtype=np.int64)
        place = self._index.add(serial)
        self._make_room()
        before = self._highest[place]
        np.maximum.at(self._highest, place, counter)
        highest = self._highest[place]
        # bits of counters passed over stand for ones that have left the window; the highest sets its own anew
        skipped = np.flatnonzero(highest - before > 1)
        if skipped.size:
            count = np.minimum(highest[skipped] - before[skipped], WINDOW)
            self._seen[place[skipped]] &= ~_ring(highest[skipped] - count + 1, count)
        inside = counter > highest - WINDOW
        word, bit = _position(counter[inside])
        np.bitwise_or.at(self._seen, (place[inside], word), bit)

    def _make_room(self) -> None:
        if len(self._index) > self._highest.size:
            more = 2 * len(self._index) - self._highest.size
            self._highest = np.concatenate([self._highest, np.full(more, _NEVER, dtype=np.int64)])
            self._seen = np.concatenate([self._seen, np.zeros((more, _WORDS), dtype=np.uint64)])


def _position(counter: IntArray) -> tuple[IntArray, NDArray[np.uint64]]:
    """Word of the ring, and the bit in it."""
    return counter // _WORD % _WORDS, np.uint64(1) << (counter % _WORD).astype(np.uint64)


def _ring(first: IntArray, count: IntArray) -> NDArray[np.uint64]:
    """Words with the bits of `count` (at most 512) successive counters set, uint64[n, 8]."""
    start = (first % WINDOW)[:, None]
    stop = start + count[:, None]
    word_start = np.arange(_WORDS) * _WORD
    bits = np.zeros((first.size, _WORDS), dtype=np.uint64)
    for offset in (0, WINDOW):  # the part up to the end of the ring, and what wraps around
        low = np.clip(start - offset - word_start, 0, _WORD)
        high = np.clip(stop - offset - word_start, 0, _WORD)
        bits |= _LOW_BITS[high] & ~_LOW_BITS[low]
    return bits


def _repeated(meter: IntArray, counter: IntArray) -> IntArray:
    """Rows that repeat meter and counter of an earlier row."""
    if (np.diff(meter) > 0).all():  # as a head-end sends a round of readings
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((counter, meter))  # stable: of equal rows the first stays first
    same = (np.diff(meter[order]) == 0) & (np.diff(counter[order]) == 0)
    return np.compress(same, order[1:])
