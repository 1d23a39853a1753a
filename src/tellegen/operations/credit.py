"""Credit: positions are checked against what an account may owe before a day-ahead gate clears.

An account's exposure when the gate closes is what it owes by the books since its last invoice, and its positions of
hours that are not settled yet at the rule's price, whichever way: what was bought has to be paid, what was sold has to
be bought back where it is not delivered. Its orders may cost no more than what is left of its limit: a purchase its
limit price, but no more than the rule's; a sale what the rule's price is above its own. Of an hour's purchases and
sales the dearer ones count, for they cannot both be had. Real-time orders make no position, and need no credit.

Feeders are cleared apart. Who moves to another one within the day has credit on the first alone: what is left of its
limit is given once.

All numbers are integers: Wh times micro-currency/kWh are nano-currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.accounts import Accounts
from tellegen.operations.admission import QUANTITY_MAX_W
from tellegen.operations.positions import Position, parties_of
from tellegen.operations.topology import Connected
from tellegen.records import Orders, Product, Side
from tellegen.rules.credit import CreditRule
from tellegen.units import INTERVALS_PER_HOUR, NANOS, IntArray, sums_at

NO_CREDIT = -1
"""In the registry's column: the account may owe nothing. 0: as much as the rulebook says."""
_SUM_MAX = 4e18
"""Sums beyond this are beyond any credit; below it they are exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """What accounts owe and may come to owe as a gate closes: numbers, int64[k] ascending, nano-currency of each."""

    number: IntArray
    nanos: IntArray

    @classmethod
    def of(cls, accounts: Accounts, positions: Iterable[Position], settled: int, rule: CreditRule) -> Exposure:
        """From the books, and positions of hours that are not settled to their end.

        Parameters
        ----------
        settled : the last interval that is.
        """
        found = [accounts.unbilled_by_number()]
        for position in positions:
            open_from = max(settled + 1 - position.first, 0) // INTERVALS_PER_HOUR
            wh = np.abs(position.wh[open_from:, 0]).sum(axis=0)
            found.append((parties_of(position.party)[0], wh * rule.price_micros))
        number, place = np.unique(np.concatenate([who for who, _ in found]), return_inverse=True)
        return cls(number, sums_at(number.size, place, np.concatenate([nanos for _, nanos in found])))

    def at(self, customer: IntArray) -> IntArray:
        """Of customers, int64[n]; 0 for who is not known."""
        place = np.searchsorted(self.number, customer)
        there = place < self.number.size
        there[there] = self.number[place[there]] == customer[there]
        found = np.zeros(customer.size, dtype=np.int64)
        found[there] = self.nanos[place[there]]
        return found

    def without(self, customers: IntArray) -> Exposure:
        """Without some who were erased."""
        kept = ~np.isin(self.number, customers)
        return Exposure(self.number[kept], self.nanos[kept])


@dataclass(frozen=True, slots=True, eq=False)
class OwnLimits:
    """Limits in the registry: customers, int64[n] ascending, the feeder on which each first hangs, and its limit."""

    customer: IntArray
    feeder: IntArray
    limit: IntArray

    @classmethod
    def of(cls, periods: Iterable[Connected]) -> OwnLimits:
        """From everybody's first period of a gate, on whatever feeder."""
        columns = np.zeros((3, 0), dtype=np.int64)
        for each in periods:
            here = np.stack([each.customer, each.feeder_of(), each.credit])[:, : each.customers]
            columns = np.concatenate([columns, here[:, ~np.isin(here[0], columns[0])]], axis=1)
        customer, feeder, limit = columns[:, np.argsort(columns[0])]
        return cls(customer, feeder, limit)

    def on(self, feeder: int, customer: IntArray) -> IntArray:
        """What customers of a feeder's gate may owe there, int64[k]; `NO_CREDIT` of who hung on another one before.

        Parameters
        ----------
        customer : int64[k], all of them connected in some period.
        """
        place = np.searchsorted(self.customer, customer)
        return np.where(self.feeder[place] == feeder, self.limit[place], NO_CREDIT)


@dataclass(frozen=True, slots=True, eq=False)
class Credit:
    """What each customer of a gate may still come to owe, int64[n] nano-currency, and the price of the rule."""

    room_nanos: IntArray
    price_micros: int

    @classmethod
    def of(cls, rule: CreditRule, own: IntArray, exposed_nanos: IntArray) -> Credit:
        """From limits in the registry, int64[n] in whole currency (`NO_CREDIT`, 0: the rule's), and exposures."""
        limit = np.where(own == 0, rule.limit_nanos, np.maximum(own, 0) * NANOS)
        return cls(limit - exposed_nanos, rule.price_micros)


def cost_of(orders: Orders, intervals: int, price_micros: int) -> IntArray:
    """The most that energy orders of a period of so many intervals come to, int64[orders] nano-currency, rounded up.

    >>> from tellegen.records import Device
    >>> rows = np.zeros(3, dtype=Orders.row_dtype())
    >>> rows["side"], rows["quantity_w"], rows["price_micros"] = [1, 1, -1], 1000, [80_000, 9_000_000, 300_000]
    >>> (cost_of(Orders.from_rows(rows), 12, 1_000_000) / 1e9).tolist()
    [0.08, 1.0, 0.7]
    """
    wh = -(-np.minimum(orders.quantity_w, QUANTITY_MAX_W) * intervals // INTERVALS_PER_HOUR)
    any_price = orders.price_taker != 0
    own = np.clip(orders.price_micros, 0, price_micros)
    each = np.where(orders.side == Side.BUY, own, price_micros - own)
    each[any_price] = price_micros
    return np.where(orders.product == Product.ENERGY, wh * each, 0)


def beyond_credit(credit: Credit, customer: IntArray, books: Sequence[tuple[Orders, int]]) -> NDArray[np.bool_]:
    """Whose orders in all periods together come to more than they may still owe, bool[n].

    Parameters
    ----------
    customer : int64[n], ascending. books : orders by these customers in each period, and its length in intervals.
    """
    exact, about = np.zeros(customer.size, dtype=np.int64), np.zeros(customer.size)
    for orders, intervals in books:
        cost = cost_of(orders, intervals, credit.price_micros)
        at = np.searchsorted(customer, orders.customer)
        sides = [np.where(orders.side == side, cost, 0) for side in Side]
        exact += np.maximum(*(sums_at(customer.size, at, each) for each in sides))
        about += np.maximum(*(np.bincount(at, weights=each, minlength=customer.size) for each in sides))
    return np.asarray((about > _SUM_MAX) | ((exact > 0) & (exact > credit.room_nanos)))
