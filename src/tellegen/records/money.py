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
    ERASED = -20


class Line(IntEnum):
    """What a posting is for.

    Lines up to ENERGY_TAX, the two wholesale lines and UNACCOUNTED_ENERGY are quantity times price,
    exactly. The lines from NETWORK_FIXED to ROUNDING are allocations of a day. The lines named
    after rent are the postings of the RENT account in an interval: differences of products, so
    their price is 0; their quantity is the energy (losses) that the difference spans.
    """

    FORWARD = 1
    REAL_TIME = 2
    IMBALANCE = 3
    REACTIVE = 4
    NETWORK_ENERGY = 5
    ENERGY_TAX = 6
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


@dataclass(frozen=True, slots=True, eq=False)
class Postings(Table):
    """Double-entry postings; a positive amount is owed by the account, and each transaction sums
    to zero.

    A transaction is all rows with the same (`cause`, `interval`). Day-level lines stand at the
    first interval of the billing day and have ``price == 0`` (they are allocations).
    """

    kind: ClassVar[str] = "postings"
    subject: ClassVar[str | None] = "account"

    account: NDArray[np.int32] = column("<i4", "1", "customer number, or an `Account`")
    interval: NDArray[np.int64] = column("<i8", "1", "market interval the posting is about")
    line: NDArray[np.uint8] = column("|u1", "Line", "what it is for")
    quantity: NDArray[np.int64] = column("<i8", "Wh or varh", "withdrawal positive; 0 for allocations")
    price: NDArray[np.int64] = column("<i8", "micro-currency/kWh or kvarh", "0 for allocations")
    amount: NDArray[np.int64] = column("<i8", "nano-currency", "positive: owed by the account")
    cause: NDArray[np.int64] = column("<i8", "1", "journal index that made it known; the settlement's own first run: 0")

    def subjects(self) -> NDArray[np.int64]:
        """Customers' rows are theirs, what is left of erased ones is the operator's; other accounts are
        public totals."""
        others = np.where(self.account == Account.ERASED, OPERATOR, NOBODY)
        return np.where(self.account > 0, self.account, others).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Statements(Table):
    """A customer's bill for one billing day by line; cents of the lines add up to the total."""

    kind: ClassVar[str] = "statements"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    line: NDArray[np.uint8] = column("|u1", "Line", "what it is for")
    quantity: NDArray[np.int64] = column("<i8", "Wh or varh", "sum of the postings' quantities")
    amount: NDArray[np.int64] = column("<i8", "nano-currency", "sum of the postings")
    cents: NDArray[np.int64] = column("<i8", "cent", "what is invoiced for the line")
