"""Who claims and does not deliver: what meters showed beside awards over a day, and who stands at its usual use for it.

No bill holds a real-time award, so claims that nobody means are free; they move the guide, and whoever answers it. They
move it no longer once their author has shown what they are worth. Over the last day, as its intervals settled,

    deviation = sum of abs(net reading - net award),        awards = sum of abs(net award)

of the intervals in which it was awarded something and its meter was read. An award of exactly what its meter had shown
last claims nothing: so stands who sent no orders, and it is not judged by that. Whose deviation is beyond a quantity
and a share of its awards is on hold from the next gate on, for a set time: its orders count for nothing, and the gate
takes what its meter usually shows in their place. Net awards, because orders that cancel out would make any claim look
small beside them. A coarse meter is judged over its own span, as it begins: what it showed then beside all that was
awarded for it. What was counted begins anew with a hold, so that it ends by itself, and comes again by new deeds alone.

The last day is the running `BLOCK` intervals and the `BLOCKS` - 1 times so many before: it has no midnight across which
claims could be spread. A customer costs 64 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.records import Energy, Holds, Quality, Schedules
from tellegen.registry import NumberIndex
from tellegen.rules.price_run import PriceRun
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray

BLOCK, BLOCKS = 36, 8
_SUM_MAX = 2**31 - 1
"""Wh at which a sum of three hours stays."""


@dataclass(frozen=True, slots=True, eq=False)
class CoarseMeters:
    """Customers whose meters are coarse, int64[n] ascending, and how many intervals one reading of each spans."""

    customer: IntArray
    every: IntArray

    @classmethod
    def none(cls) -> CoarseMeters:
        """All meters are read each interval."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    def every_of(self, customer: IntArray) -> IntArray:
        """Intervals that one reading of customers' meters spans, int64[k]."""
        at = np.searchsorted(self.customer, customer)
        there = np.append(self.customer, -1)[at] == customer
        return np.where(there, np.append(self.every, 1)[at], 1)


@dataclass(frozen=True, slots=True, eq=False)
class Deviations:
    """Beside their awards of an interval: int64[n] customers, and Wh of deviation and award, int64[2, n]."""

    customer: IntArray
    wh: IntArray


class Deliveries:
    """Customers' sums and holds, as they stand after the last interval that settled.

    >>> deliveries = Deliveries()
    >>> deliveries.award(0, [7], [-700])
    >>> columns = {"customer": [7], "interval": [0], "import_wh": [0], "reactive_varh": [0], "rule": [0]}
    >>> energy = Energy(**columns, export_wh=[100], quality=[Quality.MEASURED])
    >>> deliveries.over(0, energy, PriceRun(hold_wh=500), 2).until_interval.tolist()
    [290]
    """

    def __init__(self) -> None:
        self._index = NumberIndex()
        self._number: IntArray = np.zeros(0, dtype=np.int64)
        self._sums: dict[int, NDArray[np.int32]] = {}  # int32[2, n] of each block
        self._awarded: dict[int, list[IntArray]] = {}  # of each feeder: customers, net Wh, whether they claim it
        self._shown: dict[int, tuple[IntArray, IntArray]] = {}
        self.holds = Holds.empty()

    # Holds

    def held(self, interval: int) -> IntArray:
        """Customers whose orders for an interval do not count, ascending."""
        here = (self.holds.from_interval <= interval) & (interval < self.holds.until_interval)
        return np.unique(self.holds.customer[here].astype(np.int64))

    def hold(self, rows: Holds) -> None:
        """Customers are on hold; what was counted of them begins anew."""
        self.holds = Holds.concat([self.holds, rows])
        place = self._index.places(rows.customer)
        for sums in self._sums.values():
            sums[:, place[place >= 0]] = 0
        self._drop_empty()

    def show(self, interval: int, customer: IntArray, net: IntArray) -> None:
        """At the gate of an interval meters of customers, int64[n] ascending, had shown so much last, int64[2, n], Wh
        and varh.
        """
        if customer.size:
            self._shown[interval] = customer, net

    def drop_shown(self, interval: int) -> None:
        """Every feeder's gate of an interval is cleared."""
        self._shown.pop(interval, None)

    def shown(self, interval: int, customer: IntArray) -> tuple[NDArray[np.bool_], IntArray]:
        """Whose meters had shown something at the gate of an interval, bool[n], and what last, int64[2, n]; else 0."""
        who, net = self._shown.get(interval, (np.zeros(0, dtype=np.int64), np.zeros((2, 0), dtype=np.int64)))
        at = np.searchsorted(who, customer)
        found = at < who.size
        found[found] = who[at[found]] == customer[found]
        shown = np.zeros((2, customer.size), dtype=np.int64)
        shown[:, found] = net[:, at[found]]
        return found, shown

    # Sums

    def award(self, interval: int, customer: ArrayLike, net_wh: ArrayLike) -> None:
        """Net awards of a feeder's customers at the gate of an interval, withdrawal positive."""
        who, wh = np.asarray(customer, dtype=np.int64), np.asarray(net_wh, dtype=np.int64)
        found, (last_wh, _) = self.shown(interval, who)
        self._awarded.setdefault(interval, []).append(np.stack([who, wh, ~found | (wh != last_wh)]))

    def deviations(self, interval: int, energy: Energy, coarse: CoarseMeters) -> Deviations:
        """Of those who were awarded something, were read, and are not on hold or about to be.

        When an interval settles, the gates of all spans that begin with it are on record.
        """
        customer, net_wh, claims = self._awards_from(interval, coarse)
        index = NumberIndex(energy.customer)
        place = index.places(customer)
        counts = (place >= 0) & (claims > 0)
        counts[counts] = energy.quality[place[counts]] != Quality.ESTIMATED
        if len(self.holds):
            counts &= ~np.isin(customer, self.holds.customer[self.holds.until_interval > interval])
        customer, net_wh, place = customer[counts], net_wh[counts], place[counts]
        read_wh = (energy.import_wh[place] - energy.export_wh[place]) * coarse.every_of(customer)
        return Deviations(customer, np.stack([np.abs(read_wh - net_wh), np.abs(net_wh)]))

    def _awards_from(self, interval: int, coarse: CoarseMeters) -> IntArray:
        """Customers, their net awards, Wh, and how many of those they claim, int64[3, n]: of an interval, of coarse
        meters of all the span that begins with it.
        """
        found = [np.zeros((3, 0), dtype=np.int64)]
        for every in np.unique(np.append(coarse.every, 1)).tolist():
            if interval % every:
                continue
            rows = [row for t in range(interval, interval + every) for row in self._awarded.get(t, [])]
            awarded = np.concatenate([found[0], *rows], axis=1)
            awarded = awarded[:, coarse.every_of(awarded[0]) == every]
            if every == 1:
                found.append(awarded)
                continue
            who, place = np.unique(awarded[0], return_inverse=True)
            total = np.zeros((2, who.size), dtype=np.int64)
            for sums, rows_of in zip(total, awarded[1:], strict=True):
                np.add.at(sums, place, rows_of)
            found.append(np.vstack([who, total]))
        return np.concatenate(found, axis=1)

    def over(
        self, interval: int, energy: Energy, rules: PriceRun, first: int, coarse: CoarseMeters | None = None
    ) -> Holds:
        """Who is to be held once an interval has settled, customers ascending; changes nothing.

        Parameters
        ----------
        energy : of everybody in the interval. first : first interval whose gate is not on record yet.
        coarse : whose meters are; None: nobody's.
        """
        new = self.deviations(interval, energy, coarse or CoarseMeters.none())
        place = self._index.places(new.customer)
        known = np.flatnonzero(place >= 0)
        total = np.minimum(new.wh, _SUM_MAX)
        block = interval // BLOCK
        for number, sums in self._sums.items():
            if number > block - BLOCKS:
                total[:, known] += sums[:, place[known]]
        deviation, award = total
        beyond = (deviation > rules.hold_wh) & (deviation * MICROS > award * rules.hold_ppm)
        rows = np.flatnonzero(beyond)
        rows = rows[np.argsort(new.customer[rows])]
        from_interval = np.full(rows.size, first, dtype=np.int64)
        return Holds(
            customer=new.customer[rows].astype(np.int32),
            from_interval=from_interval,
            until_interval=from_interval + rules.hold_hours * INTERVALS_PER_HOUR,
            deviation_wh=deviation[rows],
            award_wh=award[rows],
        )

    def settle(self, interval: int, energy: Energy, coarse: CoarseMeters | None = None) -> None:
        """An interval has settled: count it, and drop what is over."""
        new = self.deviations(interval, energy, coarse or CoarseMeters.none())
        block = interval // BLOCK
        if new.customer.size:
            place = self._index.add(new.customer)
            size = len(self._index)
            if size > self._number.size:
                self._number = self._index.numbers()
                grow = ((0, 0), (0, size))
                self._sums = {k: np.pad(sums, grow)[:, :size] for k, sums in self._sums.items()}
            sums = self._sums.setdefault(block, np.zeros((2, size), dtype=np.int32))
            sums[:, place] = np.minimum(sums[:, place] + new.wh, _SUM_MAX)
            if not sums.any():  # as of no one, so that whoever is erased leaves no block behind
                del self._sums[block]
        self._sums = {k: sums for k, sums in self._sums.items() if k > block - BLOCKS}
        self._awarded = {t: rows for t, rows in self._awarded.items() if t > interval}
        self._shown = {t: rows for t, rows in self._shown.items() if t > interval}
        self.holds = self.holds.take(self.holds.until_interval > interval)

    def forget(self, customers: IntArray) -> None:
        """Leave customers out that were erased, as if nothing about them had been on record."""
        kept = np.flatnonzero(~np.isin(self._number, customers))
        self._number = self._number[kept]
        self._index = NumberIndex(self._number)
        self._sums = {k: sums[:, kept] for k, sums in self._sums.items()}
        for rows in self._awarded.values():
            rows[:] = [row[:, ~np.isin(row[0], customers)] for row in rows]
        shown = {t: _without(row, customers) for t, row in self._shown.items()}
        self._shown = {t: row for t, row in shown.items() if row[0].size}
        self.holds = self.holds.take(~np.isin(self.holds.customer, customers))
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Drop the blocks in which nobody has a sum: a snapshot says the same whoever was there before."""
        self._sums = {k: sums for k, sums in self._sums.items() if sums.any()}

    # Snapshots

    def parts(self) -> dict[str, NDArray[Any]]:
        """Everything, as named arrays; none where nothing was ever awarded under such a rule."""
        parts: dict[str, NDArray[Any]] = {"number": self._number}
        parts |= {f"sum/{k}": sums for k, sums in sorted(self._sums.items())}
        for interval, rows in sorted(self._awarded.items()):
            for feeder, row in enumerate(rows):
                parts[f"awarded/{interval}/{feeder}"] = row
        parts |= {f"shown/{interval}": np.vstack(row) for interval, row in sorted(self._shown.items())}
        return parts | {f"hold/{name}": getattr(self.holds, name) for name in Holds.row_dtype().names or ()}

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[Any]]) -> Deliveries:
        """Inverse of `parts`; of a state that knew no holds, nothing."""
        found = cls()
        if not parts:
            return found
        found._number = parts["number"].copy()
        found._index = NumberIndex(found._number)
        found.holds = Holds(**{name: parts[f"hold/{name}"] for name in Holds.row_dtype().names or ()})
        awarded: list[tuple[int, int]] = []
        for name, array in parts.items():
            kind, _, key = name.partition("/")
            match kind:
                case "sum":
                    found._sums[int(key)] = array.copy()
                case "shown":
                    found._shown[int(key)] = array[0].copy(), _three(array, 0)[1:]  # of older versions, without var
                case "awarded":
                    interval, _, feeder = key.partition("/")
                    awarded.append((int(interval), int(feeder)))
        for key_of in sorted(awarded):
            row = _three(parts["awarded/{}/{}".format(*key_of)], 1)
            found._awarded.setdefault(key_of[0], []).append(row)
        return found


def awarded_by(schedules: Schedules) -> tuple[IntArray, IntArray]:
    """Customers who were awarded energy, and how much of it net, Wh."""
    rows = np.flatnonzero(schedules.energy_wh)
    return schedules.customer[rows].astype(np.int64), schedules.energy_wh[rows]


def _three(rows: NDArray[Any], last: int) -> IntArray:
    """Three rows of a snapshot, int64[3, n]; an older one has two, and the same stands for the third everywhere."""
    return np.vstack([rows, np.full((3 - len(rows), rows.shape[1]), last)]).astype(np.int64)


def _without(row: tuple[IntArray, IntArray], customers: IntArray) -> tuple[IntArray, IntArray]:
    kept = ~np.isin(row[0], customers)
    return row[0][kept], row[1][..., kept]
