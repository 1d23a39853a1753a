"""Sums over postings: the only arithmetic that books need, and it never wraps (law 1).

A fold groups postings by some of their columns and adds up quantity and amount. Balances, day
totals, statements and differences between two settlements are all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import TellegenError
from tellegen.records import Postings
from tellegen.units import IntArray, QuantityError, exact_sum


class BooksError(TellegenError):
    """Postings that double-entry books cannot take."""


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Sums of postings by group, groups in ascending order of their keys.

    Attributes
    ----------
    keys : one int64[g] per column of `by`.
    quantity : int64[g], Wh or varh.
    amount : int64[g], nano-currency.
    """

    keys: tuple[IntArray, ...]
    quantity: IntArray
    amount: IntArray

    def amounts(self) -> dict[tuple[int, ...], int]:
        """Amount by key, as plain integers.

        >>> fold(Postings.empty(), "account").amounts()
        {}
        """
        rows = zip(*(key.tolist() for key in self.keys), strict=True)
        return dict(zip(rows, self.amount.tolist(), strict=True))


def group_sums(values: IntArray, starts: NDArray[np.intp]) -> IntArray:
    """Sums of consecutive groups of `values`, the k-th from ``starts[k]`` up to the next start.

    Raises
    ------
    QuantityError : a sum does not fit int64.

    >>> group_sums(np.array([1, 2, 3, 4]), np.array([0, 1])).tolist()
    [1, 9]
    """
    if not starts.size:
        return np.zeros(0, dtype=np.int64)
    bounds = np.append(starts, values.size)
    peak = max(int(values.max()), -int(values.min()))
    if peak * int(np.diff(bounds).max()) < 2**63:
        return np.asarray(np.add.reduceat(values, starts), dtype=np.int64)
    sums = [sum(values[a:b].tolist()) for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    if any(abs(total) >= 2**63 for total in sums):
        raise QuantityError("a sum of postings does not fit int64")
    return np.array(sums, dtype=np.int64)


def row_sums(values: IntArray) -> IntArray:
    """Sums along the last axis of int64[m, n]; raises `QuantityError` instead of wrapping.

    >>> row_sums(np.array([[1, 2], [3, 4]])).tolist()
    [3, 7]
    """
    if not values.size:
        return np.zeros(values.shape[:-1], dtype=np.int64)
    peak = max(int(values.max()), -int(values.min()))
    if peak * values.shape[-1] < 2**63:
        return np.asarray(values.sum(axis=-1, dtype=np.int64))
    return np.array([exact_sum(row) for row in values], dtype=np.int64)


def fold(postings: Postings, *by: str) -> Fold:
    """Add up quantity and amount of `postings` by the columns named in `by`.

    Raises
    ------
    QuantityError : a sum does not fit int64.

    >>> book = Postings(unit=[0] * 3, account=[1, 2, 1], interval=[0, 0, 1], line=[1, 1, 1], quantity=[5, -5, 2],
    ...                 price=[3, 3, 3], amount=[15, -15, 6], cause=[0, 0, 0])
    >>> fold(book, "account").amounts()
    {(1,): 21, (2,): -15}
    """
    columns = [np.asarray(getattr(postings, name), dtype=np.int64) for name in by]
    order = np.lexsort(columns[::-1])
    columns = [column[order] for column in columns]
    fresh = np.zeros(len(postings), dtype=bool)
    fresh[:1] = True
    for column in columns:
        fresh[1:] |= column[1:] != column[:-1]
    starts = np.flatnonzero(fresh)
    return Fold(
        keys=tuple(column[starts] for column in columns),
        quantity=group_sums(postings.quantity[order], starts),
        amount=group_sums(postings.amount[order], starts),
    )


def net(parts: Sequence[Postings], *, cause: int) -> Postings:
    """One posting per (unit, account, interval, line, price) from `parts`, zero rows left out.

    Rows of one key add up, so that original entries and their differences become what they amount
    to. The price is part of the key: a price that was corrected stands as the reversal of the old
    product and the new product beside it, and each row still is quantity times price.

    >>> len(net([Postings.empty()], cause=0))
    0
    """
    every = Postings.concat(parts)
    summed = fold(every, "interval", "unit", "account", "line", "price")
    kept = (summed.quantity != 0) | (summed.amount != 0)
    interval, unit, account, line, price = (key[kept] for key in summed.keys)
    return Postings(
        unit=unit,
        account=account,
        interval=interval,
        line=line,
        quantity=summed.quantity[kept],
        price=price,
        amount=summed.amount[kept],
        cause=np.full(account.size, cause, dtype=np.int64),
    )


def negated(postings: Postings) -> Postings:
    """The same postings with quantity and amount reversed."""
    rows = postings.rows()
    rows["quantity"] *= -1
    rows["amount"] *= -1
    return Postings.from_rows(rows)


def require_balanced(postings: Postings) -> None:
    """Check that every transaction (`cause`, `interval`) sums to zero in every unit of account.

    Raises
    ------
    BooksError : one does not; the message names it.
    """
    totals = fold(postings, "cause", "interval", "unit")
    wrong = np.flatnonzero(totals.amount)
    if wrong.size:
        cause, interval, unit = (int(key[wrong[0]]) for key in totals.keys)
        raise BooksError(
            f"transaction (cause {cause}, interval {interval}) sums to {int(totals.amount[wrong[0]])} nano of unit "
            f"{unit}, not to zero"
        )
