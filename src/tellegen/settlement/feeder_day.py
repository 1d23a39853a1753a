"""What the close of a feeder's billing day needs to know, as arrays by customer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.records import STATEMENT_LINES
from tellegen.settlement.facts import SettlementError
from tellegen.units import IntArray, QuantityError


@dataclass(frozen=True, slots=True, eq=False)
class OpenBills:
    """Who is invoiced by a close, and what was posted to each account since its last one; int64[m].

    Attributes
    ----------
    customer : customer numbers, ascending.
    unbilled_nanos : sum of the account's postings since its last close, over all days and feeders, but for what
        the close itself posts.
    carry_nanos : exact bills less invoiced cents of the closes before: minus the account's balance of ROUNDING.
    """

    customer: IntArray
    unbilled_nanos: IntArray
    carry_nanos: IntArray

    def __post_init__(self) -> None:
        for name in ("customer", "unbilled_nanos", "carry_nanos"):
            _set_integers(self, name, np.shape(self.customer))
        _require_ascending(self.customer)


@dataclass(frozen=True, slots=True, eq=False)
class FeederDay:
    """One billing day of one feeder, as known when it is closed or shared anew.

    Attributes
    ----------
    first_interval : the interval at which day-level postings stand.
    intervals : T, market intervals of the day: 288, or 276 and 300 where clocks change.
    customer : int64[n], everybody with a connection or a posting on the feeder that day, ascending.
    pieces : int64[p, 3], rows of (customer, from, until): connected here in the intervals [from, until) of the day,
        0 <= from < until <= T; several rows where somebody left and came back.
    key_wh : int64[n], keys frozen for the day; those of who was elsewhere when they were frozen are 0.
    amounts : int64[n, L], by `STATEMENT_LINES`: all that was posted about the day here. The day-level lines are 0
        before the first close; what they hold already is not posted again.
    open_rent_nanos, open_unaccounted_nanos : balances of RENT and UNACCOUNTED about the day here: all of the pools
        before the first close, differences since then afterwards.
    bills : who is invoiced here now (those who end the day here); None: nobody.

    Raises
    ------
    SettlementError : shapes do not fit, numbers do not ascend, a key is negative, a piece is outside the day, overlaps
        another, or is of a customer who is not listed.
    """

    first_interval: int
    intervals: int
    customer: IntArray
    pieces: IntArray
    key_wh: IntArray
    amounts: IntArray
    open_rent_nanos: int
    open_unaccounted_nanos: int
    bills: OpenBills | None = None

    def __post_init__(self) -> None:
        customers = np.size(self.customer)
        _set_integers(self, "customer", (customers,))
        _set_integers(self, "key_wh", (customers,))
        _set_integers(self, "amounts", (customers, len(STATEMENT_LINES)))
        _set_integers(self, "pieces", (len(self.pieces), 3))
        _require_ascending(self.customer)
        if self.intervals < 1:
            raise SettlementError("a day needs at least one interval")
        if customers and int(self.key_wh.min()) < 0:
            raise SettlementError("a sharing key is negative")
        who, start, end = self.pieces[np.lexsort((self.pieces[:, 1], self.pieces[:, 0]))].T
        if not np.isin(who, self.customer).all():
            raise SettlementError("a connection is of a customer who does not take part in the day")
        overlaps = (who[1:] == who[:-1]) & (start[1:] < end[:-1])
        if bool(((start < 0) | (start >= end) | (end > self.intervals)).any()) or bool(overlaps.any()):
            raise SettlementError(
                f"a connection is no part of the day's {self.intervals} intervals, or overlaps another"
            )

    def pro_rata(self, nanos_per_day: int) -> IntArray:
        """Each customer's part of a daily amount for the intervals it was connected here, int64[n].

        With ``F(c) = nanos_per_day * c // T``, a piece [a, b) has ``F(b) - F(a)``: the pieces of a day, on whatever
        feeders, sum to the day exactly.
        """
        if abs(nanos_per_day) * self.intervals >= 2**63:
            raise QuantityError(f"a daily amount of {nanos_per_day} nano-currency is too large to divide exactly")
        until = nanos_per_day * self.pieces[:, 1:] // self.intervals
        return self._per_customer(until[:, 1] - until[:, 0])

    def connected(self) -> IntArray:
        """Intervals of the day in which each customer was connected here, int64[n]."""
        return self._per_customer(self.pieces[:, 2] - self.pieces[:, 1])

    def _per_customer(self, of_pieces: IntArray) -> IntArray:
        total = np.zeros(self.customer.size, dtype=np.int64)
        np.add.at(total, np.searchsorted(self.customer, self.pieces[:, 0]), of_pieces)
        return total


def _set_integers(facts: FeederDay | OpenBills, name: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(getattr(facts, name))
    array = array.astype(np.int64) if not array.size else array
    if array.dtype.kind not in "iu" or ((array.size or 0 not in shape) and array.shape != shape):
        raise SettlementError(f"{name} must be integers of shape {shape}, not {array.dtype}{array.shape}")
    object.__setattr__(facts, name, array.astype(np.int64).reshape(shape))


def _require_ascending(customer: IntArray) -> None:
    if bool((np.diff(customer) <= 0).any()):
        raise SettlementError("customer numbers must ascend without repetition")
