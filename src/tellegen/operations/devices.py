"""What the devices behind orders can do, as the registry has it: one row per customer and kind of device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.records import OPERATOR, Device, Orders
from tellegen.registry import Directory
from tellegen.units import IntArray

_KINDS = 256
"""More kinds of devices than a column can name."""


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    """Assets that hang behind a connection in a period.

    An asset counts wherever it was registered, as long as it is connected: who moves takes it along.

    Attributes
    ----------
    key : int64[k], customer and kind (`key_of`), ascending.
    import_w, export_w : int64[k], most that it may draw and feed in. capacity_w : int64[k], rated, as VA too.
    attested : bool[k], somebody vouches for that.
    """

    key: IntArray
    import_w: IntArray
    export_w: IntArray
    capacity_w: IntArray
    attested: NDArray[np.bool_]

    def row_of(self, orders: Orders) -> IntArray:
        """Row of the asset behind each order, int64[orders]; -1: there is none, or it is the connection itself."""
        key = key_of(orders)
        place = np.searchsorted(self.key, key)
        place[place == self.key.size] = 0
        there = np.zeros(key.size, dtype=np.bool_) if not self.key.size else self.key[place] == key
        return np.where(there, place, -1)


def key_of(orders: Orders) -> IntArray:
    """Customer and kind of device of each order as one number, int64[orders]."""
    return orders.customer.astype(np.int64) * _KINDS + orders.device


def devices_behind(
    directory: Directory, orders: Sequence[Orders], interval: Sequence[int], known_by: int
) -> tuple[Devices, ...]:
    """Assets behind the orders of periods, as known by a time (seconds since the epoch, inclusive).

    Parameters
    ----------
    interval : of each period, the one whose connections hold in it.
    """
    asked = [np.unique(key_of(each)[(each.device != Device.LOAD) & (each.customer != OPERATOR)]) for each in orders]
    key, sizes = np.concatenate([*asked, np.zeros(0, dtype=np.int64)]), [each.size for each in asked]
    when = np.repeat(np.array(interval, dtype=np.int64), sizes)
    rows = np.zeros((3, key.size), dtype=np.int64)
    there, attested = np.zeros((2, key.size), dtype=np.bool_)
    for kind in Device:
        at = np.flatnonzero(key % _KINDS == kind)
        if at.size:
            found, present = directory.connections(key[at] // _KINDS, when[at], known_by, kind)
            at = at[present]
            rows[:, at] = found.import_limit_w, found.export_limit_w, found.capacity_w
            there[at], attested[at] = found.node >= 0, found.attested_by != b""
    begins = np.cumsum([0, *sizes])
    answer = []
    for start, stop in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        here = start + np.flatnonzero(there[start:stop])
        import_w, export_w, capacity_w = rows[:, here]
        answer.append(Devices(key[here], import_w, export_w, capacity_w, attested[here]))
    return tuple(answer)
