"""Rows of postings as they come, one block per line."""

from __future__ import annotations

import numpy as np

from tellegen.records import CURRENCY, Postings
from tellegen.units import IntArray


class PostingRows:
    """Collects the postings of some market intervals.

    Parameters
    ----------
    interval : int64[T], the intervals that the rows of every block are about.
    """

    def __init__(self, interval: IntArray) -> None:
        self._interval = interval
        self._blocks: list[tuple[IntArray, IntArray, IntArray, IntArray, IntArray, IntArray]] = []

    def add(self, account: IntArray | int, line: int, quantity: IntArray, price: IntArray, amount: IntArray) -> None:
        """Add [T] or [T, n] quantities; rows of no quantity and no amount are left out."""
        kept = (quantity != 0) | (amount != 0)
        interval = self._interval[:, None] if quantity.ndim == 2 else self._interval
        self._blocks.append(
            (
                np.broadcast_to(account, quantity.shape)[kept],
                np.broadcast_to(interval, quantity.shape)[kept],
                np.full(int(kept.sum()), line, dtype=np.int64),
                quantity[kept],
                np.broadcast_to(price, quantity.shape)[kept],
                amount[kept],
            )
        )

    def postings(self) -> Postings:
        """All rows with cause 0, in order of interval, account and line; rows of one key as they came."""
        account, interval, line, quantity, price, amount = (
            np.concatenate(parts) for parts in zip(*self._blocks, strict=True)
        )
        order = np.lexsort((line, account, interval))
        return postings_of(
            account[order], interval[order], line[order], amount[order], quantity=quantity[order], price=price[order]
        )


def postings_of(
    account: IntArray,
    interval: IntArray | int,
    line: IntArray | int,
    amount: IntArray,
    *,
    quantity: IntArray | int = 0,
    price: IntArray | int = 0,
    cause: int = 0,
) -> Postings:
    """Postings in currency from columns; a single number stands for a column of it.

    >>> postings_of(np.array([1, -11]), 7, 12, np.array([5, -5])).interval.tolist()
    [7, 7]
    """

    def column(values: IntArray | int) -> IntArray:
        return np.broadcast_to(np.asarray(values, dtype=np.int64), amount.shape)

    return Postings(
        unit=np.full(amount.shape, CURRENCY, dtype=np.uint16),
        account=column(account).astype(np.int32),
        interval=column(interval),
        line=column(line).astype(np.uint8),
        quantity=column(quantity),
        price=column(price),
        amount=amount,
        cause=column(cause),
    )
