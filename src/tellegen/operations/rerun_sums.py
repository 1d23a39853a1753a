"""Sums of a feeder's day by account and line, and what its close makes of them."""

from __future__ import annotations

import numpy as np

from tellegen.operations.sums import LineSums
from tellegen.records import CURRENCY, FeederDays, Line, Postings
from tellegen.settlement import FeederDay, Parameters, close_feeder
from tellegen.settlement.day_close import SHARED_LINES
from tellegen.units import IntArray, QuantityError

_SUM_MAX = 1 << 62
_LINE_BITS = 8


class DaySums:
    """Sums of postings in currency, by account and line; ROUNDING belongs to bills, and is left out.

    >>> book = Postings(unit=[0, 0], account=[1, -10], interval=[0, 0], line=[1, 20], quantity=[5, -5], price=[3, 3],
    ...                 amount=[15, -15], cause=[0, 0])
    >>> one, other = DaySums(), DaySums()
    >>> one.add(book)
    >>> one.differences(other, with_shares=True)
    (2, 2)
    """

    def __init__(self) -> None:
        self._key: IntArray = np.zeros(0, dtype=np.int64)
        self._sums: IntArray = np.zeros((2, 0), dtype=np.int64)  # quantities, amounts
        self.lines = LineSums()

    def add(self, postings: Postings) -> None:
        """Take in postings.

        Raises
        ------
        QuantityError : a sum leaves the range of exact arithmetic.
        """
        kept = postings.take((postings.unit == CURRENCY) & (postings.line != Line.ROUNDING))
        self.lines.add(kept)
        key = kept.account.astype(np.int64) << _LINE_BITS | kept.line
        together, place = np.unique(np.concatenate([self._key, key]), return_inverse=True)
        sums = np.zeros((2, together.size), dtype=np.int64)
        sums[:, place[: self._key.size]] = self._sums
        for total, values in zip(sums, (kept.quantity, kept.amount), strict=True):
            np.add.at(total, place[self._key.size :], values)
        if sums.size and int(np.abs(sums).max()) >= _SUM_MAX:
            raise QuantityError("a sum of a day leaves the range of exact arithmetic")
        self._key, self._sums = together, sums

    def differences(self, other: DaySums, *, with_shares: bool) -> tuple[int, int]:
        """How many sums there are in either, and how many of them are not the same.

        Parameters
        ----------
        with_shares : the lines of a close too.
        """
        key = np.union1d(self._key, other._key)
        if not with_shares:
            key = key[~np.isin(key & ((1 << _LINE_BITS) - 1), [int(line) for line in SHARED_LINES])]
        mine, theirs = self._at(key), other._at(key)
        return int(key.size), int((mine != theirs).any(axis=0).sum())

    def _at(self, key: IntArray) -> IntArray:
        out = np.zeros((2, key.size), dtype=np.int64)
        here = np.isin(self._key, key)
        out[:, np.searchsorted(key, self._key[here])] = self._sums[:, here]
        return out


def close_again(first: int, intervals: int, before: FeederDays, sums: DaySums, parameters: Parameters) -> Postings:
    """What the close of a day posts on all that is known of it now, as if it had not been closed before.

    Parameters
    ----------
    first, intervals : of the day. before : how it stood when it was first closed: who was connected, and the keys.
    sums : of its intervals. parameters : rules of that day.
    """
    customer = np.union1d(before.customer.astype(np.int64), sums.lines.customer)
    at = np.searchsorted(customer, before.customer)
    key = np.zeros(customer.size, dtype=np.int64)
    key[at] = before.key_wh
    here = before.stop > before.start
    day = FeederDay(
        first_interval=first,
        intervals=intervals,
        customer=customer,
        pieces=np.stack([before.customer[here], before.start[here], before.stop[here]], axis=1).astype(np.int64),
        key_wh=key,
        amounts=sums.lines.of(customer)[0],
        open_rent_nanos=sums.lines.rent,
        open_unaccounted_nanos=sums.lines.unaccounted,
    )
    return close_feeder(day, parameters).postings
