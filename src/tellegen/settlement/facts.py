"""The recorded facts from which a day settles, as arrays of intervals x customers.

Settlement reads nothing else: no database, no clock. A corrected day is the same facts with some
entries replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import TellegenError
from tellegen.records import OPERATOR, Energy
from tellegen.records.latest import latest
from tellegen.units import IntArray, check_rows

READ = -1
"""Instead of what was counted of a meter that was missing: it was not."""


class SettlementError(TellegenError):
    """Facts from which settlement cannot follow."""


@dataclass(frozen=True, slots=True, eq=False)
class IntervalFacts:
    """What is on record about T market intervals of n customers; every array is int64.

    Withdrawals are positive. Prices are micro-currency per kWh (kvarh), each at the customer's own
    node.

    Attributes
    ----------
    interval : [T], numbers of the market intervals, ascending (any subset of a day).
    customer : [n], customer numbers from 1, ascending. Who moved on the feeder since the day-ahead gate has a
        column for each node: at the old one its position is bought back (`real_time_wh` and meter 0), at the new one
        it has none. A meter counts in one column only.
    node : [n], where the column is priced; ascending within a customer.
    forward_wh : [T, n], day-ahead award of the interval (`hourly_to_intervals`).
    real_time_wh : [T, n], real-time award.
    forward_price, real_time_price, reactive_price : [T, n].
    import_wh, export_wh : [T, n], validated energy, not negative.
    reactive_varh : [T, n], validated net reactive withdrawal.
    counted_feed_in_wh : [T, n], net energy fed in with which a meter that was missing when the price was made counted
        in it, not negative; `READ`: it was read, or no meter made the price.
    root_forward_wh : [T], energy bought at the root day-ahead.
    losses_wh : [T], modelled losses of the real-time clearing.
    substation_wh : [T], validated net energy into the feeder at the substation.
    wholesale_forward_price, wholesale_real_time_price : [T].

    Raises
    ------
    SettlementError : shapes do not fit, numbers are not ascending, energy is negative.
    QuantityError : a value is no integer or is outside the limits of a row.
    """

    interval: IntArray
    customer: IntArray
    node: IntArray
    forward_wh: IntArray
    real_time_wh: IntArray
    forward_price: IntArray
    real_time_price: IntArray
    reactive_price: IntArray
    import_wh: IntArray
    export_wh: IntArray
    reactive_varh: IntArray
    counted_feed_in_wh: IntArray
    root_forward_wh: IntArray
    losses_wh: IntArray
    substation_wh: IntArray
    wholesale_forward_price: IntArray
    wholesale_real_time_price: IntArray

    def __post_init__(self) -> None:
        periods, customers = np.size(self.interval), np.size(self.customer)
        shapes = {"customer": (customers,), "node": (customers,)}
        shapes |= {name: (periods,) for name in ("interval", *_OF_THE_FEEDER)}
        for spec in fields(self):
            array = check_rows(getattr(self, spec.name), spec.name)
            wanted = shapes.get(spec.name, (periods, customers))
            if array.shape != wanted:
                raise SettlementError(f"{spec.name} has shape {array.shape}, {wanted} needed")
            object.__setattr__(self, spec.name, array)
        if bool((np.diff(self.interval) <= 0).any()):
            raise SettlementError("interval numbers must ascend without repetition")
        step = np.diff(self.customer)
        if bool(((step < 0) | (step == 0) & (np.diff(self.node) <= 0)).any()):
            raise SettlementError("customer numbers must ascend, and the nodes of a customer likewise")
        if customers and int(self.customer[0]) <= OPERATOR:
            raise SettlementError(f"customer numbers start at 1, not {int(self.customer[0])}")
        for name in ("import_wh", "export_wh"):
            if getattr(self, name).size and int(getattr(self, name).min()) < 0:
                raise SettlementError(f"{name} is negative; registers only count up")
        if bool((self.counted_feed_in_wh < READ).any()):
            raise SettlementError(f"counted_feed_in_wh is negative; {READ} says that a meter was read")

    @property
    def metered_wh(self) -> IntArray:
        """Net metered withdrawal, int64[T, n]."""
        return np.asarray(self.import_wh - self.export_wh)

    @property
    def late_feed_in_wh(self) -> IntArray:
        """Net energy fed in that no price counted, for its meter was missing and nobody expected it, int64[T, n]."""
        unread = self.counted_feed_in_wh != READ
        return np.where(unread, np.maximum(-self.metered_wh - self.counted_feed_in_wh, 0), 0)

    def take(self, rows: ArrayLike) -> Self:
        """Facts of some of the intervals, by row index or boolean mask."""
        where = np.asarray(rows)
        changed = {f.name: getattr(self, f.name)[where] for f in fields(self) if f.name not in _OF_THE_PARTIES}
        return replace(self, **changed)

    def of_parties(self, columns: ArrayLike) -> Self:
        """Facts of some of the columns, by index or boolean mask; what is the feeder's stays."""
        where = np.asarray(columns)
        of_all = ("interval", *_OF_THE_FEEDER)
        changed = {f.name: getattr(self, f.name)[..., where] for f in fields(self) if f.name not in of_all}
        return replace(self, **changed)

    def changed_rows(self, other: IntervalFacts) -> NDArray[np.bool_]:
        """Which intervals differ in any fact, bool[T].

        Raises
        ------
        SettlementError : `other` is about other intervals or customers.
        """
        self.require_same_places(other)
        changed = np.zeros(self.interval.size, dtype=np.bool_)
        for spec in fields(self):
            if spec.name not in ("interval", *_OF_THE_PARTIES):
                differs = getattr(self, spec.name) != getattr(other, spec.name)
                changed |= differs.any(axis=1) if differs.ndim == 2 else differs
        return changed

    def require_same_places(self, other: IntervalFacts) -> None:
        """Check that `other` is about the same intervals, customers and nodes.

        Raises
        ------
        SettlementError : it is not.
        """
        for name in ("interval", *_OF_THE_PARTIES):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                raise SettlementError("the facts are about different intervals, customers or nodes")


_OF_THE_PARTIES = ("customer", "node")
_OF_THE_FEEDER = (
    "root_forward_wh",
    "losses_wh",
    "substation_wh",
    "wholesale_forward_price",
    "wholesale_real_time_price",
)


@dataclass(frozen=True, slots=True, eq=False)
class DayFacts:
    """The facts of one billing day: its intervals, and the keys frozen for its pools.

    Attributes
    ----------
    steps : facts of every interval of the day.
    key_wh : int64[n], frozen sharing key per customer (`AllocationKeys`), not negative.
    rounding_carry_nanos : int64[n], exact bill less invoiced cents of the days before, frozen when
        the day first closes; zeros where each day rounds for itself.
    """

    steps: IntervalFacts
    key_wh: IntArray
    rounding_carry_nanos: IntArray

    def __post_init__(self) -> None:
        for name in ("key_wh", "rounding_carry_nanos"):
            array = np.asarray(getattr(self, name))
            if array.dtype.kind not in "iu" or array.shape != self.steps.customer.shape:
                raise SettlementError(f"{name} must be one integer per customer, not {array.dtype}{array.shape}")
            object.__setattr__(self, name, array.astype(np.int64))
        if self.key_wh.size and int(self.key_wh.min()) < 0:
            raise SettlementError("a sharing key is negative")
        if bool((np.diff(self.steps.customer) == 0).any()):
            raise SettlementError("a day as a whole has one column per customer; who moved needs a `FeederDay`")
        if not self.steps.interval.size:
            raise SettlementError("a day needs at least one interval")

    @property
    def first_interval(self) -> int:
        """The interval at which day-level postings stand."""
        return int(self.steps.interval[0])

    @property
    def customer(self) -> IntArray:
        """Customer numbers, int64[n]."""
        return self.steps.customer


def with_energy(day: DayFacts, energy: Energy) -> DayFacts:
    """The same day with validated energy replaced where `energy` has a row.

    A row of customer 0 is the substation's. Rows about other intervals are of other days and are
    passed over. Of several rows about one customer and interval the last counts.

    Raises
    ------
    SettlementError : a row names a customer who does not take part in the day.
    """
    steps = day.steps
    inside = np.isin(energy.interval, steps.interval)
    energy = energy.take(inside)
    energy = energy.take(latest([energy.customer, energy.interval]))
    row = np.searchsorted(steps.interval, energy.interval)
    number = energy.customer.astype(np.int64)
    unknown = number[(number != OPERATOR) & ~np.isin(number, steps.customer)]
    if unknown.size:
        raise SettlementError(f"energy of customer {int(unknown[0])}, who does not take part in the day")
    arrays = {name: getattr(steps, name).copy() for name in ("import_wh", "export_wh", "reactive_varh")}
    substation = steps.substation_wh.copy()
    theirs = number != OPERATOR
    position = np.searchsorted(steps.customer, number[theirs])
    for name, array in arrays.items():
        array[row[theirs], position] = getattr(energy, name)[theirs]
    substation[row[~theirs]] = (energy.import_wh - energy.export_wh)[~theirs]
    return replace(day, steps=replace(steps, substation_wh=substation, **arrays))


def latest_energy(versions: Sequence[tuple[int, Energy]]) -> Energy:
    """One row per customer and interval: the latest of several versions by journal index.

    The order in which the versions are given does not matter, which is why corrections commute.

    >>> def version(wh): return Energy(customer=[1], interval=[0], import_wh=[wh], export_wh=[0],
    ...                                reactive_varh=[0], quality=[2], rule=[0])
    >>> latest_energy([(9, version(5)), (4, version(3))]).import_wh.tolist()
    [5]
    """
    ordered = Energy.concat([energy for _, energy in sorted(versions, key=lambda version: version[0])])
    return ordered.take(latest([ordered.customer, ordered.interval]))
