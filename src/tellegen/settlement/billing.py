"""Statements: a customer's postings of a billing day, by line, in whole cents."""

from __future__ import annotations

import numpy as np

from tellegen.books import fold
from tellegen.records import Postings, Statements
from tellegen.settlement.facts import SettlementError
from tellegen.units import NANOS_PER_CENT, tie_hash


def statements(postings: Postings) -> Statements:
    """Sum one closed day's postings by customer and line, and invoice them in cents.

    A customer's total is whole cents (the day's ROUNDING sees to it). Each line is rounded down to
    cents, and the cents that are missing go to the lines with the largest remainders, ties by hash,
    so that the lines' cents add up to the total's.

    Parameters
    ----------
    postings : all postings of one billing day, differences of corrections included.

    Returns
    -------
    Statements, one row per customer and line that had a posting, ascending.

    Raises
    ------
    SettlementError : a customer's postings are not whole cents, so the day is not closed.

    >>> len(statements(Postings.empty()))
    0
    """
    theirs = postings.take(postings.account > 0)
    if not len(theirs):
        return Statements.empty()
    day = int(theirs.interval.min())
    sums = fold(theirs, "account", "line")
    customer, line = sums.keys
    floor, remainder = np.divmod(sums.amount, NANOS_PER_CENT)
    starts = np.flatnonzero(np.append(True, customer[1:] != customer[:-1]))
    missing, broken = np.divmod(np.add.reduceat(remainder, starts), NANOS_PER_CENT)
    if broken.any():
        number = int(customer[starts][np.flatnonzero(broken)[0]])
        raise SettlementError(f"the postings of customer {number} are not whole cents: the day is not closed")
    member = customer << 8 | line
    order = np.lexsort((tie_hash(f"statement/{day}", member.tolist()), -remainder, customer))
    sizes = np.diff(np.append(starts, customer.size))
    rank = np.arange(customer.size) - np.repeat(starts, sizes)
    floor[order] += rank < np.repeat(missing, sizes)
    return Statements(
        customer=customer.astype(np.int32),
        line=line.astype(np.uint8),
        quantity=sums.quantity,
        amount=sums.amount,
        cents=floor,
    )
