"""Forward positions: what the day-ahead market sold to whom, where, until the delivery day is over.

A position belongs to a customer at the node where it cleared, and stays there: who moves afterwards is bought back at
the old node, and begins at the new one with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tellegen.records import Schedules
from tellegen.units import INTERVALS_PER_HOUR, IntArray

QUANTITIES = ("energy_wh", "reserve_up_wh", "reserve_down_wh")
"""Columns of `Schedules` that a position is made of."""
_NODE_BITS = 32


def party_keys(customer: IntArray, node: IntArray) -> IntArray:
    """One number for each party (customer and node), ascending as both are."""
    return np.asarray((customer.astype(np.int64) << _NODE_BITS) | node.astype(np.int64))


def parties_of(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Inverse of `party_keys`: customers and nodes."""
    return np.asarray(keys >> _NODE_BITS), np.asarray(keys & ((1 << _NODE_BITS) - 1))


@dataclass(slots=True)
class Position:
    """What one feeder's day-ahead market gave for one delivery day.

    Attributes
    ----------
    first : first interval of the day. party : int64[p], `party_keys`, ascending.
    wh : int64[hours, 3, p], by the hour: energy (withdrawal positive), reserve up and down (W held x hours).
    clearing : journal index of each hour's clearing, in the market's journal; -1 before it is cleared.

    >>> position = Position(first=288, hours=1)
    >>> nothing = np.zeros(1, dtype=np.int64)
    >>> position.add(288, np.array([7]), np.array([3]), np.array([[120], [0], [0]]), clearing=5)
    >>> position.party.tolist() == party_keys(np.array([7]), np.array([3])).tolist(), position.wh.tolist()
    (True, [[[120], [0], [0]]])
    """

    first: int
    hours: int
    party: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    wh: IntArray = field(default_factory=lambda: np.zeros((0, len(QUANTITIES), 0), dtype=np.int64))
    clearing: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if not self.clearing.size:
            self.clearing = np.full(self.hours, -1, dtype=np.int64)
            self.wh = np.zeros((self.hours, len(QUANTITIES), self.party.size), dtype=np.int64)

    def add(self, interval: int, customer: IntArray, node: IntArray, wh: IntArray, clearing: int) -> None:
        """Take in an hour: its schedules, int64[3, n], and the clearing that made them."""
        key = party_keys(customer, node)
        together = np.union1d(self.party, key)
        if together.size > self.party.size:
            wider = np.zeros((self.hours, len(QUANTITIES), together.size), dtype=np.int64)
            wider[:, :, np.searchsorted(together, self.party)] = self.wh
            self.party, self.wh = together, wider
        hour = (interval - self.first) // INTERVALS_PER_HOUR
        self.wh[hour][:, np.searchsorted(self.party, key)] = wh
        self.clearing[hour] = clearing

    def forget(self, customers: IntArray) -> None:
        """Leave customers out that were erased."""
        kept = ~np.isin(parties_of(self.party)[0], customers)
        self.party, self.wh = self.party[kept], self.wh[:, :, kept]

    def hour_of(self, interval: int) -> int:
        """Which hour an interval lies in; -1 where the day-ahead market did not clear it."""
        hour = (interval - self.first) // INTERVALS_PER_HOUR
        return hour if 0 <= hour < self.hours and self.clearing[hour] >= 0 else -1


def scheduled_wh(schedules: Schedules) -> IntArray:
    """Quantities of schedules as positions hold them, int64[3, n]."""
    return np.stack([np.asarray(getattr(schedules, name), dtype=np.int64) for name in QUANTITIES])
