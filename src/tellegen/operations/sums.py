"""What has been posted of one feeder's day: customers by line, and the two pools. A fold of postings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tellegen.records import CURRENCY, STATEMENT_LINES, Account, Postings
from tellegen.settlement import line_sums
from tellegen.units import IntArray, QuantityError

_LINES = len(STATEMENT_LINES)
_SUM_MAX = 2**62


@dataclass(slots=True)
class LineSums:
    """Amounts and quantities by customer and line.

    Attributes
    ----------
    customer : int64[n], ascending.
    amount, quantity : int64[n, L], in the order of `STATEMENT_LINES`.
    rent, unaccounted : balances of the two pools, nano-currency.

    >>> book = Postings(account=[1, -11], interval=[0, 0], line=[1, 22], quantity=[5, -5], price=[3, 0],
    ...                 amount=[15, -15], cause=[0, 0], unit=[0, 0])
    >>> sums = LineSums()
    >>> sums.add(book); sums.add(book)
    >>> sums.customer.tolist(), int(sums.amount.sum()), sums.rent
    ([1], 30, -30)
    """

    customer: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    amount: IntArray = field(default_factory=lambda: np.zeros((0, _LINES), dtype=np.int64))
    quantity: IntArray = field(default_factory=lambda: np.zeros((0, _LINES), dtype=np.int64))
    rent: int = 0
    unaccounted: int = 0

    def add(self, postings: Postings) -> None:
        """Take in postings.

        Raises
        ------
        QuantityError : a sum leaves the range of exact arithmetic.
        """
        money = postings.unit == CURRENCY
        if not money.all():
            postings = postings.take(money)
        for pool in (Account.RENT, Account.UNACCOUNTED):
            amount = int(postings.amount[postings.account == pool].sum())
            if pool is Account.RENT:
                self.rent += amount
            else:
                self.unaccounted += amount
        theirs = postings.take(postings.account > 0)
        if not len(theirs):
            return
        account = np.sort(theirs.account.astype(np.int64))
        number = account[np.append(True, account[1:] != account[:-1])]
        place = self._listed(number)
        amount_of, quantity_of = line_sums(theirs, number)
        self.amount[place] += amount_of
        self.quantity[place] += quantity_of
        if int(np.abs(self.amount[place]).max()) >= _SUM_MAX:
            raise QuantityError("what is owed on one line of a day leaves the range of exact arithmetic")

    def of(self, customer: IntArray) -> tuple[IntArray, IntArray]:
        """Amounts and quantities of customers, zero where nothing was posted; int64[m, L] each."""
        amount, quantity = np.zeros((2, customer.size, _LINES), dtype=np.int64)
        if self.customer.size:
            place = np.minimum(np.searchsorted(self.customer, customer), self.customer.size - 1)
            here = self.customer[place] == customer
            amount[here], quantity[here] = self.amount[place[here]], self.quantity[place[here]]
        return amount, quantity

    def drop(self, customers: IntArray) -> None:
        """Leave out some customers."""
        kept = ~np.isin(self.customer, customers)
        self.customer, self.amount, self.quantity = self.customer[kept], self.amount[kept], self.quantity[kept]

    def _listed(self, number: IntArray) -> IntArray:
        """Rows of customers, ascending, each of whom has one from now on."""
        place = np.searchsorted(self.customer, number)
        if place.size and place[-1] < self.customer.size and np.array_equal(self.customer[place], number):
            return place
        together = np.union1d(self.customer, number)
        at = np.searchsorted(together, self.customer)
        amount, quantity = np.zeros((2, together.size, _LINES), dtype=np.int64)
        amount[at], quantity[at] = self.amount, self.quantity
        self.customer, self.amount, self.quantity = together, amount, quantity
        return np.searchsorted(together, number)
