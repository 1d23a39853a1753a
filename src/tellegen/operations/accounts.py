"""What the operator remembers of each customer from day to day: what it owes and was invoiced, what it withdrew.

One place per number, in the order in which numbers came up; every column is an array over places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.records import Line, Postings, Schedules
from tellegen.registry import NumberIndex
from tellegen.units import IntArray, QuantityError

CARRIES = ("carry_energy", "carry_reactive", "carry_reserve_up", "carry_reserve_down")
"""Columns of `Schedules`: what of the awards is not yet whole Wh or varh."""
_SUM_MAX = 2**62
_UNKNOWN = 2**31 - 1


class Accounts:
    """Customers' running sums.

    Attributes
    ----------
    unbilled : int64[n], nano-currency owed since the last invoice, ROUNDING left out.
    rounding : int64[n], balance of the account on the line ROUNDING: what invoices have left out, reversed.

    >>> accounts = Accounts()
    >>> book = Postings(account=[7, -10], interval=[0, 0], line=[1, 20], quantity=[5, -5], price=[3, 3],
    ...                 amount=[15, -15], cause=[0, 0], unit=[0, 0])
    >>> accounts.post(book)
    >>> accounts.owed([7, 8]).tolist()
    [15, 0]
    """

    def __init__(self) -> None:
        self._index = NumberIndex()
        self._number: IntArray = np.zeros(0, dtype=np.int64)
        self.unbilled: IntArray = np.zeros(0, dtype=np.int64)
        self.rounding: IntArray = np.zeros(0, dtype=np.int64)
        self._carry: dict[str, IntArray] = {}
        self._withdrawn: dict[int, IntArray] = {}  # by day number
        self._since: IntArray = np.zeros(0, dtype=np.int64)  # day of its first withdrawal on record

    def __len__(self) -> int:
        return self._number.size

    def _read(self, column: IntArray, customers: ArrayLike, nothing: int = 0) -> IntArray:
        """A column at customers; what was never heard of has no place, and gets none: to ask changes nothing."""
        place = self._index.places(customers)
        found = np.full((place.size, *column.shape[1:]), nothing, dtype=np.int64)
        here = place >= 0
        found[here] = column[place[here]]
        return found

    def places(self, customers: ArrayLike) -> IntArray:
        """Places of customers, who get one where they have none."""
        place = self._index.add(np.asarray(customers, dtype=np.int64))
        size = len(self._index)
        if size > self._number.size:
            self._grow(size)
            self._number[place] = np.asarray(customers, dtype=np.int64)
        return place

    def _grow(self, size: int) -> None:
        def wider(array: IntArray, fill: int = 0) -> IntArray:
            grown = np.full((size, *array.shape[1:]), fill, dtype=np.int64)
            grown[: len(array)] = array
            return grown

        self._number, self.unbilled, self.rounding = map(wider, (self._number, self.unbilled, self.rounding))
        self._since = wider(self._since, _UNKNOWN)
        self._carry = {market: wider(carry) for market, carry in self._carry.items()}
        self._withdrawn = {day: wider(wh) for day, wh in self._withdrawn.items()}

    # Money

    def post(self, postings: Postings) -> None:
        """Take in postings.

        Raises
        ------
        QuantityError : a sum leaves the range of exact arithmetic.
        """
        theirs = np.flatnonzero(postings.account > 0)
        place = self.places(postings.account[theirs])
        rounding = postings.line[theirs] == Line.ROUNDING
        amount = postings.amount[theirs]
        np.add.at(self.rounding, place[rounding], amount[rounding])
        np.add.at(self.unbilled, place[~rounding], amount[~rounding])
        if place.size and max(np.abs(self.unbilled[place]).max(), np.abs(self.rounding[place]).max()) >= _SUM_MAX:
            raise QuantityError("what a customer owes leaves the range of exact arithmetic")

    def owed(self, customers: ArrayLike) -> IntArray:
        """What each owes since its last invoice, exactly; int64[n], nano-currency."""
        return self._read(self.unbilled, customers)

    def unbilled_by_number(self) -> tuple[IntArray, IntArray]:
        """Everybody's number, and what it owes since its last invoice."""
        return self._number.copy(), self.unbilled.copy()

    def carried(self, customers: ArrayLike) -> IntArray:
        """Exact bills so far less what was invoiced of them; int64[n], nano-currency."""
        return -self._read(self.rounding, customers)

    def invoiced(self, customers: ArrayLike) -> None:
        """Customers were billed for everything up to now."""
        self.unbilled[self.places(customers)] = 0

    # What awards leave over

    def carry_of(self, market: str, customers: ArrayLike) -> IntArray:
        """What of each one's awards is not yet whole, int64[n, 4], in the order of `CARRIES`."""
        carry = self._carry.get(market, np.zeros((self._number.size, len(CARRIES)), dtype=np.int64))
        return self._read(carry, customers)

    def carry(self, market: str, schedules: Schedules) -> None:
        """Take over what schedules say they leave."""
        place = self.places(schedules.customer)
        if market not in self._carry:
            self._carry[market] = np.zeros((self._number.size, len(CARRIES)), dtype=np.int64)
        self._carry[market][place] = np.stack([getattr(schedules, name) for name in CARRIES], axis=1)

    # What was withdrawn

    def withdraw(self, day: int, customers: ArrayLike, wh: IntArray) -> None:
        """Energy withdrawn on a day (days since 1970-01-01), or a difference to what was known of it."""
        place = self.places(customers)
        if day not in self._withdrawn:
            self._withdrawn[day] = np.zeros(self._number.size, dtype=np.int64)
        np.add.at(self._withdrawn[day], place, wh)
        self._since[place] = np.minimum(self._since[place], day)

    def trailing_wh(self, customers: ArrayLike, before_wh: IntArray, until: int, days: int) -> IntArray:
        """Withdrawn in so many days before day `until`, int64[n].

        Parameters
        ----------
        before_wh : withdrawn in a window of so many days before the customer joined, as its history says. For each day
            before its first on record the mean of that window stands.
        """
        total = np.zeros(np.size(customers), dtype=np.int64)
        for day in range(until - days, until):
            if day in self._withdrawn:
                total += self._read(self._withdrawn[day], customers)
        since = self._read(self._since, customers, _UNKNOWN)
        before = np.clip(np.minimum(since, until) - (until - days), 0, days)
        return np.asarray(total + before_wh * before // days)

    def is_new(self, customers: ArrayLike) -> NDArray[np.bool_]:
        """Who has withdrawn nothing on record yet, bool[n]."""
        return np.asarray(self._read(self._since, customers, _UNKNOWN) == _UNKNOWN)

    def forget_days(self, before: int) -> None:
        """Drop what was withdrawn before a day."""
        self._withdrawn = {day: wh for day, wh in self._withdrawn.items() if day >= before}

    def forget(self, customers: ArrayLike) -> None:
        """Leave customers out that were erased, as if nothing about them had been on record."""
        kept = np.flatnonzero(~np.isin(self._number, np.asarray(customers, dtype=np.int64)))
        self._index = NumberIndex(self._number[kept])
        self._number, self.unbilled, self.rounding = self._number[kept], self.unbilled[kept], self.rounding[kept]
        self._since = self._since[kept]
        self._carry = {market: carry[kept] for market, carry in self._carry.items()}
        self._withdrawn = {day: wh[kept] for day, wh in self._withdrawn.items()}

    # Snapshots

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Everything, as named arrays."""
        parts = {
            "number": self._number,
            "unbilled": self.unbilled,
            "rounding": self.rounding,
            "since": self._since,
        }
        parts |= {f"carry/{market}": carry for market, carry in sorted(self._carry.items())}
        return parts | {f"withdrawn/{day}": wh for day, wh in sorted(self._withdrawn.items())}

    @classmethod
    def of(cls, parts: dict[str, NDArray[np.int64]]) -> Accounts:
        """Inverse of `parts`."""
        accounts = cls()
        accounts.places(parts["number"])
        accounts.unbilled, accounts.rounding = parts["unbilled"].copy(), parts["rounding"].copy()
        accounts._since = parts["since"].copy()
        for name, array in parts.items():
            kind, _, key = name.partition("/")
            if kind == "carry":
                accounts._carry[key] = array.copy()
            elif kind == "withdrawn":
                accounts._withdrawn[int(key)] = array.copy()
        return accounts
