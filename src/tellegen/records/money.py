"""What settlement puts on record: settled intervals, postings, statements."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.registry import OPERATOR
from tellegen.records.table import NOBODY, Table, column


class Account(IntEnum):
    """Accounts that are not customers'. A customer's account is its number (>= 1).

    ERASED holds what erased customers owed, one sum per transaction, so that the books still balance.
    """

    WHOLESALE = -10
    RENT = -11
    UNACCOUNTED = -12
    NETWORK = -13
    TAX = -14
    ROUNDING = -15
    RESERVES = -16
    ERASED = -20


CURRENCY = 0
"""Unit of account of money; others are units of contracts, each balanced by itself."""


class Line(IntEnum):
    """What a posting is for.

    Lines up to RESERVE_DOWN, the two wholesale lines and UNACCOUNTED_ENERGY are quantity times price,
    exactly. The quantity of a reserve is Wh of capacity (W held x hours), and, as what is given, negative
    for the customer that holds it. The lines from NETWORK_FIXED to ROUNDING are allocations of a day. The lines named
    after rent are the postings of the RENT account in an interval: differences of products, so
    their price is 0; their quantity is the energy (losses) that the difference spans.
    """

    FORWARD = 1
    REAL_TIME = 2
    IMBALANCE = 3
    REACTIVE = 4
    NETWORK_ENERGY = 5
    ENERGY_TAX = 6
    RESERVE_UP = 7
    RESERVE_DOWN = 8
    NETWORK_FIXED = 10
    NETWORK_TRUE_UP = 11
    RENT_SHARE = 12
    UNACCOUNTED_SHARE = 13
    SALES_TAX = 14
    ROUNDING = 15
    WHOLESALE_FORWARD = 20
    WHOLESALE_REAL_TIME = 21
    RENT_FORWARD = 22
    RENT_REAL_TIME = 23
    RENT_DEVIATION = 24
    RENT_REACTIVE = 25
    UNACCOUNTED_ENERGY = 26
    ERASED = 30


STATEMENT_LINES = (
    Line.FORWARD,
    Line.REAL_TIME,
    Line.IMBALANCE,
    Line.REACTIVE,
    Line.NETWORK_ENERGY,
    Line.ENERGY_TAX,
    Line.RESERVE_UP,
    Line.RESERVE_DOWN,
    Line.NETWORK_FIXED,
    Line.NETWORK_TRUE_UP,
    Line.RENT_SHARE,
    Line.UNACCOUNTED_SHARE,
    Line.SALES_TAX,
    Line.ROUNDING,
)
"""A customer's lines, in the order of the columns of a statement."""
_BY_LINE = f"({len(STATEMENT_LINES)},)<i8"


@dataclass(frozen=True, slots=True, eq=False)
class Postings(Table):
    """Double-entry postings; a positive amount is owed by the account, and each transaction sums
    to zero in every unit of account.

    A transaction is all rows with the same (`cause`, `interval`). Day-level lines stand at the
    first interval of the billing day and have ``price == 0`` (they are allocations).
    """

    kind: ClassVar[str] = "postings"
    subject: ClassVar[str | None] = "account"

    unit: NDArray[np.uint16] = column("<u2", "1", "unit of account; 0: `CURRENCY`")
    account: NDArray[np.int32] = column("<i4", "1", "customer number, or an `Account`")
    interval: NDArray[np.int64] = column("<i8", "1", "market interval the posting is about")
    line: NDArray[np.uint8] = column("|u1", "Line", "what it is for")
    quantity: NDArray[np.int64] = column(
        "<i8", "Wh or varh", "withdrawal positive, capacity held negative; 0 for allocations"
    )
    price: NDArray[np.int64] = column("<i8", "micro-currency/kWh or kvarh", "0 for allocations")
    amount: NDArray[np.int64] = column("<i8", "nano of the unit", "positive: owed by the account")
    cause: NDArray[np.int64] = column("<i8", "1", "journal index that made it known; the settlement's own first run: 0")

    def subjects(self) -> NDArray[np.int64]:
        """Customers' rows are theirs, what is left of erased ones is the operator's; other accounts are
        public totals."""
        others = np.where(self.account == Account.ERASED, OPERATOR, NOBODY)
        return np.where(self.account > 0, self.account, others).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Statements(Table):
    """What a close bills: a row per customer and day it is about, by line; the cents of all rows of a
    customer add up to its bill.

    The row about the day that is closed holds the whole day; rows about earlier days hold what has
    changed since they were billed last.
    """

    kind: ClassVar[str] = "statements"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    day: NDArray[np.int32] = column("<i4", "d", "the local date it is about, as days since 1970-01-01")
    quantities: NDArray[np.int64] = column(_BY_LINE, "Wh or varh", "by `STATEMENT_LINES`: sums of the quantities")
    amounts: NDArray[np.int64] = column(_BY_LINE, "nano-currency", "by `STATEMENT_LINES`: sums of the postings")
    cents: NDArray[np.int64] = column(_BY_LINE, "cent", "by `STATEMENT_LINES`: what is invoiced")


@dataclass(frozen=True, slots=True, eq=False)
class FeederDays(Table):
    """How one feeder's day stood when it was first closed: from this it is shared anew when its facts change."""

    kind: ClassVar[str] = "feeder_days"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    start: NDArray[np.int32] = column(
        "<i4", "1", "intervals of the day for which it was connected on other feeders before"
    )
    stop: NDArray[np.int32] = column("<i4", "1", "the same, and those on this one")
    key_wh: NDArray[np.int64] = column("<i8", "Wh", "key frozen for the day")
    amounts: NDArray[np.int64] = column(_BY_LINE, "nano-currency", "by `STATEMENT_LINES`: all that was posted here")
