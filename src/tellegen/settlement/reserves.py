"""Reserves: capacity held ready for the DSO, settled twice like energy, and not metered.

A provider with a day-ahead award ``q_DA`` at price ``p_DA`` and a real-time one ``q_RT`` at ``p_RT`` is paid
``q_DA * p_DA + (q_RT - q_DA) * p_RT`` in each direction; the account RESERVES, the DSO's, pays it. Quantities are Wh of
capacity: W held times the hours of the interval.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tellegen.books import fold
from tellegen.records import Account, Line, Postings
from tellegen.settlement.facts import SettlementError
from tellegen.settlement.rows import PostingRows, postings_of
from tellegen.units import IntArray, amount_nanos, check_rows


@dataclass(frozen=True, slots=True, eq=False)
class ReserveFacts:
    """Reserve awards of n providers in T market intervals; every array is int64.

    Attributes
    ----------
    interval : [T], numbers of the market intervals.
    customer : [n], customer numbers; one with awards at several nodes has a column for each.
    up_forward_wh, up_real_time_wh, down_forward_wh, down_real_time_wh : [T, n], Wh of capacity, not negative.
    up_forward_price, up_real_time_price, down_forward_price, down_real_time_price : [T, n], micro-currency per
        kW of capacity and hour, each at the provider's node.

    Raises
    ------
    SettlementError : shapes do not fit, capacity is negative.
    QuantityError : a value is no integer or is outside the limits of a row.
    """

    interval: IntArray
    customer: IntArray
    up_forward_wh: IntArray
    up_real_time_wh: IntArray
    up_forward_price: IntArray
    up_real_time_price: IntArray
    down_forward_wh: IntArray
    down_real_time_wh: IntArray
    down_forward_price: IntArray
    down_real_time_price: IntArray

    def __post_init__(self) -> None:
        periods, customers = np.size(self.interval), np.size(self.customer)
        shapes = {"interval": (periods,), "customer": (customers,)}
        for spec in fields(self):
            array = check_rows(getattr(self, spec.name), spec.name)
            wanted = shapes.get(spec.name, (periods, customers))
            if array.shape != wanted:
                raise SettlementError(f"{spec.name} has shape {array.shape}, {wanted} needed")
            if spec.name.endswith("_wh") and array.size and int(array.min()) < 0:
                raise SettlementError(f"{spec.name} is negative; a direction of its own holds the other way")
            object.__setattr__(self, spec.name, array)


def settle_reserves(facts: ReserveFacts) -> Postings:
    """Postings of the reserves of every interval; each interval's amounts sum to zero.

    Returns
    -------
    Postings : a provider's rows (negative: it is paid) and, per interval, line and price, the row of the account
        RESERVES against them; ``cause`` 0, rows of nothing left out; ordered by interval, account, line.

    >>> one = np.array([[1000]])
    >>> facts = ReserveFacts(np.array([7]), np.array([3]), one, one // 2, one, 3 * one, 0 * one, 0 * one, one, one)
    >>> [row.tolist() for row in settle_reserves(facts).rows()[["account", "quantity", "price", "amount"]]]
    [(-16, 1000, 1000, 1000000), (-16, -500, 3000, -1500000), (3, -1000, 1000, -1000000), (3, 500, 3000, 1500000)]
    """
    rows = PostingRows(facts.interval)
    for line, forward, real_time, forward_price, price in (
        (
            Line.RESERVE_UP,
            facts.up_forward_wh,
            facts.up_real_time_wh,
            facts.up_forward_price,
            facts.up_real_time_price,
        ),
        (
            Line.RESERVE_DOWN,
            facts.down_forward_wh,
            facts.down_real_time_wh,
            facts.down_forward_price,
            facts.down_real_time_price,
        ),
    ):
        later = forward - real_time
        rows.add(facts.customer, line, -forward, forward_price, amount_nanos(-forward, forward_price))
        rows.add(facts.customer, line, later, price, amount_nanos(later, price))
    theirs = rows.postings()
    sums = fold(theirs, "interval", "line", "price")
    kept = (sums.quantity != 0) | (sums.amount != 0)
    interval, line_of, price_of = (key[kept] for key in sums.keys)
    quantity = check_rows(-sums.quantity[kept], "reserve capacity of a feeder at one price")
    against = postings_of(
        np.full(quantity.size, Account.RESERVES, dtype=np.int64),
        interval,
        line_of,
        -sums.amount[kept],
        quantity=quantity,
        price=price_of,
    )
    both = Postings.concat([against, theirs])
    return both.take(np.lexsort((both.line, both.account, both.interval)))
