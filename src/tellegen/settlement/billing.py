"""Statements: what a close bills a customer, by day and line, in whole cents."""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.books import group_sums, row_sums
from tellegen.records import CURRENCY, STATEMENT_LINES, Line, Postings, Statements
from tellegen.settlement.facts import SettlementError
from tellegen.units import NANOS_PER_CENT, IntArray, day_number, tie_hash

_PLACE = np.full(max(Line) + 1, -1, dtype=np.int64)
_PLACE[list(STATEMENT_LINES)] = np.arange(len(STATEMENT_LINES))


def line_sums(postings: Postings, customer: IntArray) -> tuple[IntArray, IntArray]:
    """Amounts and quantities of customers by line, int64[n, L] each, in the order of `STATEMENT_LINES`.

    Parameters
    ----------
    postings : those of other accounts, and in other units than currency, are passed over.
    customer : int64[n], ascending.

    Raises
    ------
    SettlementError : a posting is of a customer who is not listed, or on a line that no customer has.
    QuantityError : a sum does not fit int64.

    >>> [int(part.sum()) for part in line_sums(Postings.empty(), np.array([3]))]
    [0, 0]
    """
    theirs = _of_customers(postings)
    row = np.searchsorted(customer, theirs.account)
    if not np.isin(theirs.account, customer).all():
        raise SettlementError("a posting is of a customer who does not take part in the day")
    return _by_line(theirs, row, customer.size)


def statements(postings: Postings, day: ArrayLike, *, closed: int) -> Statements:
    """Sum postings by customer and day, and invoice them: `invoice` for whoever holds rows.

    Parameters
    ----------
    postings : all that a close bills; those of other accounts are passed over.
    day : the local date that the postings are about, as days since 1970-01-01; one number, or one per posting.
    closed : the day that is closed.

    >>> len(statements(Postings.empty(), 0, closed=0))
    0
    """
    days = np.broadcast_to(np.asarray(day, dtype=np.int64), len(postings))
    chosen = _is_of_customers(postings)
    theirs = postings.take(chosen)
    pairs, row = np.unique(theirs.account.astype(np.int64) << 32 | days[chosen], return_inverse=True)
    amounts, quantities = _by_line(theirs, row, pairs.size)
    return invoice(pairs >> 32, pairs & 0xFFFFFFFF, amounts, quantities, closed=closed)


def statements_of_day(postings: Postings, day: date) -> Statements:
    """Statements of a close that bills one day alone."""
    return statements(postings, day_number(day), closed=day_number(day))


def invoice(customer: IntArray, day: IntArray, amounts: IntArray, quantities: IntArray, *, closed: int) -> Statements:
    """Statements in cents from exact sums by line.

    A customer's total over all its rows is whole cents (ROUNDING sees to it). Each entry is rounded down to cents,
    and the cents that are missing go to the entries with the largest remainders, ties by hash, so that they add up to
    the total's.

    Parameters
    ----------
    customer, day : int64[r]; rows of one customer and day, on several feeders, are added up.
    amounts, quantities : int64[r, L], by `STATEMENT_LINES`.
    closed : the day that is closed, which the ties are hashed over.

    Returns
    -------
    Statements, ascending by customer and day; rows of nothing are left out.

    Raises
    ------
    SettlementError : a customer's amounts are not whole cents, so the day is not closed.
    QuantityError : a sum does not fit int64.
    """
    order = np.lexsort((day, customer))
    customer, day, amounts, quantities = customer[order], day[order], amounts[order], quantities[order]
    fresh = _fresh(customer) | _fresh(day)
    if not fresh.all():
        starts = np.flatnonzero(fresh)
        amounts, quantities = (
            np.stack([group_sums(column, starts) for column in part.T], axis=1) for part in (amounts, quantities)
        )
        customer, day = customer[starts], day[starts]
    kept = (amounts != 0).any(axis=1) | (quantities != 0).any(axis=1)
    customer, day, amounts, quantities = customer[kept], day[kept], amounts[kept], quantities[kept]
    if not customer.size:
        return Statements.empty()
    cents, remainder = np.divmod(amounts, NANOS_PER_CENT)
    starts = np.flatnonzero(_fresh(customer))
    missing, broken = np.divmod(group_sums(row_sums(remainder), starts), NANOS_PER_CENT)
    if broken.any():
        number = int(customer[starts][np.flatnonzero(broken)[0]])
        raise SettlementError(f"the postings of customer {number} are not whole cents: the day is not closed")
    row, place = np.nonzero(remainder)
    member = day[row] << 40 | customer[row] << 8 | np.array(STATEMENT_LINES)[place]
    owner = np.searchsorted(starts, row, side="right") - 1
    order = np.lexsort((tie_hash(f"statement/{closed}", member), -remainder[row, place], owner))
    rank = np.arange(order.size) - np.searchsorted(owner, owner)
    lifted = order[rank < missing[owner]]
    cents[row[lifted], place[lifted]] += 1
    return Statements(
        customer=customer.astype(np.int32),
        day=day.astype(np.int32),
        quantities=quantities,
        amounts=amounts,
        cents=cents,
    )


def _fresh(column: IntArray) -> NDArray[np.bool_]:
    """Where a run of equal values starts."""
    return np.append(True, column[1:] != column[:-1])[: column.size]


def _is_of_customers(postings: Postings) -> NDArray[np.bool_]:
    return np.asarray((postings.account > 0) & (postings.unit == CURRENCY))


def _of_customers(postings: Postings) -> Postings:
    return postings.take(_is_of_customers(postings))


def _by_line(postings: Postings, row: NDArray[np.intp], rows: int) -> tuple[IntArray, IntArray]:
    place = _PLACE[postings.line]
    if bool((place < 0).any()):
        raise SettlementError("a customer's posting is on a line that no customer has")
    cell = row * len(STATEMENT_LINES) + place
    order = np.argsort(cell, kind="stable")
    cell = cell[order]
    starts = np.flatnonzero(_fresh(cell))
    sums = []
    for values in (postings.amount, postings.quantity):
        whole = np.zeros(rows * len(STATEMENT_LINES), dtype=np.int64)
        whole[cell[starts]] = group_sums(values[order], starts)
        sums.append(whole.reshape(rows, len(STATEMENT_LINES)))
    return sums[0], sums[1]
