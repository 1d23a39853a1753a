"""What the devices behind orders can do, as the registry has it: one row per customer and kind of device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tellegen.records import OPERATOR, Device, Orders
from tellegen.registry import Directory
from tellegen.units import IntArray

SELLING = (Device.PV, Device.BATTERY, Device.VEHICLE)
"""Devices that may feed in."""
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

    @property
    def customer(self) -> IntArray:
        """Whose each asset is, int64[k]."""
        return self.key // _KINDS

    @property
    def device(self) -> IntArray:
        """Kind of each asset, int64[k]."""
        return self.key % _KINDS

    def take(self, mask: NDArray[np.bool_]) -> Devices:
        """Some of them."""
        return Devices(*(getattr(self, each.name)[mask] for each in fields(self)))

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
    return _registered(directory, asked, interval, known_by)


def devices_of(
    directory: Directory, customer: Sequence[IntArray], interval: Sequence[int], known_by: int
) -> tuple[Devices, ...]:
    """Assets that may feed in (`SELLING`) of some customers in periods (each ascending), as known by a time.

    Parameters
    ----------
    interval : of each period, the one whose connections hold in it.
    """
    asked = [(each[:, None] * _KINDS + np.array(SELLING)).ravel() for each in customer]
    return _registered(directory, asked, interval, known_by)


def _registered(
    directory: Directory, asked: Sequence[IntArray], interval: Sequence[int], known_by: int
) -> tuple[Devices, ...]:
    """What is registered under the keys of each period, ascending."""
    if not asked:
        return ()
    every = asked[0] if len(asked) == 1 else np.unique(np.concatenate(asked))
    last, begun = _standing(directory, every, max(interval), known_by)
    if begun > min(interval):  # something changes within the periods
        return tuple(_standing(directory, k, t, known_by)[0] for k, t in zip(asked, interval, strict=True))
    # what stands at last and did so at first has stood all the time: one look-up, and one answer, for most gates
    return tuple(last if each.size == every.size else last.take(np.isin(last.key, each)) for each in asked)


def _standing(directory: Directory, key: IntArray, interval: int, known_by: int) -> tuple[Devices, int]:
    """What is registered under some keys in an interval, and from when all of it has been."""
    rows = np.zeros((3, key.size), dtype=np.int64)
    there, attested = np.zeros((2, key.size), dtype=np.bool_)
    begun = np.iinfo(np.int64).min
    for kind in Device:
        at = np.flatnonzero(key % _KINDS == kind)
        if at.size:
            found, present = directory.connections(key[at] // _KINDS, interval, known_by, kind)
            at = at[present]
            rows[:, at] = found.import_limit_w, found.export_limit_w, found.capacity_w
            there[at], attested[at] = found.node >= 0, found.attested_by != b""
            begun = max(begun, int(found.from_interval.max(initial=begun)))
    import_w, export_w, capacity_w = rows
    return Devices(key, import_w, export_w, capacity_w, attested).take(there), begun
