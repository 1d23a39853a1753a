"""The close of a feeder's billing day: what is owed per day rather than per interval.

In this order, all at the day's first interval and all summing to zero:

1. NETWORK_FIXED: the fixed network charge of each customer, pro rata of the intervals connected.
2. NETWORK_TRUE_UP: what brings network revenue to the regulated requirement (pro rata likewise), exactly (law 8).
3. RENT_SHARE, UNACCOUNTED_SHARE: the two pools, shared by the frozen keys; both close at zero.
4. SALES_TAX: `sales_tax_ppm` of each customer's taxable supply. The base is the grid lines
   (NETWORK_ENERGY, ENERGY_TAX, NETWORK_FIXED, NETWORK_TRUE_UP) in full, and the energy lines
   (FORWARD, REAL_TIME, IMBALANCE, REACTIVE, RENT_SHARE, UNACCOUNTED_SHARE) as far as their sum over
   the day is a supply to the customer: whoever sold more than it bought is no taxable seller. A base
   below zero counts as zero. What the DSO pays for reserves is no supply to the customer. The feeder's
   tax is rounded down once and shared pro rata to the bases.
5. ROUNDING: what brings each bill to whole cents, over all customers invoiced together.

Shares are by key, or by the intervals connected where the rule says so or every key is zero (flagged). A day that is
closed already is shared anew by the same function: what is posted is the difference to what its lines hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.books import fold, row_sums
from tellegen.records import STATEMENT_LINES, Account, Line, Postings
from tellegen.settlement.apportioning import round_to_multiples
from tellegen.settlement.billing import line_sums
from tellegen.settlement.facts import DayFacts
from tellegen.settlement.feeder_day import FeederDay, OpenBills
from tellegen.settlement.intervals import settle_intervals
from tellegen.settlement.parameters import Parameters, ShareKey
from tellegen.settlement.rows import postings_of
from tellegen.units import NANOS_PER_CENT, IntArray, allocate, exact_sum, tie_hash

SHARED_LINES = (
    Line.NETWORK_FIXED,
    Line.NETWORK_TRUE_UP,
    Line.RENT_SHARE,
    Line.UNACCOUNTED_SHARE,
    Line.SALES_TAX,
)
"""The lines of a day that are shared anew when its facts change."""
DAY_LINES = (*SHARED_LINES, Line.ROUNDING)
"""The lines that a close posts."""

GRID_LINES = (Line.NETWORK_ENERGY, Line.ENERGY_TAX, Line.NETWORK_FIXED, Line.NETWORK_TRUE_UP)
"""Taxable in full."""
SUPPLY_LINES = (
    Line.FORWARD,
    Line.REAL_TIME,
    Line.IMBALANCE,
    Line.REACTIVE,
    Line.RENT_SHARE,
    Line.UNACCOUNTED_SHARE,
)
"""Taxable as far as their sum is owed by the customer."""

_AGAINST = (Account.NETWORK, Account.NETWORK, Account.RENT, Account.UNACCOUNTED, Account.TAX)
"""The account against each of `SHARED_LINES`."""


@dataclass(frozen=True, slots=True, eq=False)
class FeederClose:
    """What a close posts, and how the day stands after it.

    Attributes
    ----------
    postings : ``quantity`` 0 and ``price`` 0 at the day's first interval.
    amounts : int64[n, L], `FeederDay.amounts` with what was posted; ROUNDING excepted, which is of the bill as a whole.
    invoiced, rounding_nanos : int64[m], the customers of `FeederDay.bills`, and ROUNDING of each.
    keys_missing : a pool goes by keys and all were zero, so that it went by the intervals connected.
    open_rent_nanos, open_unaccounted_nanos : what could not be shared because there is nobody on the feeder.
    """

    postings: Postings
    amounts: IntArray
    invoiced: IntArray
    rounding_nanos: IntArray
    keys_missing: bool
    open_rent_nanos: int
    open_unaccounted_nanos: int


def close_feeder(day: FeederDay, parameters: Parameters, *, cause: int = 0) -> FeederClose:
    """Close a feeder's day, or share a closed one anew.

    Somebody who was on two feeders has lines of both days: close all feeders without `FeederDay.bills`, then
    `round_bills`, where the pieces of a day can be of different feeders.

    Parameters
    ----------
    day : the feeder's day; `FeederDay.amounts` say what stands already, so only differences to it are posted.
    parameters : rules of the day that is closed, whatever rules hold now.
    cause : of the postings; the journal index of what made an old day change.

    Raises
    ------
    QuantityError : a sum does not fit int64.
    """
    amounts = day.amounts.copy()
    fixed = day.pro_rata(parameters.network_fixed_nanos_per_day)
    required = exact_sum(day.pro_rata(parameters.network_revenue_nanos_per_customer_day))
    missing = required - exact_sum(_of(amounts, Line.NETWORK_ENERGY)) - exact_sum(fixed)
    rent = day.open_rent_nanos + exact_sum(_of(amounts, Line.RENT_SHARE))
    lost = day.open_unaccounted_nanos + exact_sum(_of(amounts, Line.UNACCOUNTED_SHARE))
    _of(amounts, Line.NETWORK_FIXED)[:] = fixed
    for line, total, what, key in (
        (Line.NETWORK_TRUE_UP, missing, "network true-up", parameters.true_up_key),
        (Line.RENT_SHARE, rent, "rent", parameters.rent_key),
        (Line.UNACCOUNTED_SHARE, lost, "unaccounted-for energy", parameters.unaccounted_key),
    ):
        _of(amounts, line)[:] = share_pool(total, what, _weights(day, key), day.customer, day.first_interval)
    energy = row_sums(np.stack([_of(amounts, line) for line in SUPPLY_LINES], axis=1))
    grid = row_sums(np.stack([_of(amounts, line) for line in GRID_LINES], axis=1))
    base = np.maximum(grid + np.maximum(energy, 0), 0)
    _of(amounts, Line.SALES_TAX)[:] = sales_tax(base, parameters.sales_tax_ppm, day.first_interval, day.customer)

    change = amounts - day.amounts
    shared = _shares(day, change, cause)
    keys = (parameters.true_up_key, parameters.rent_key, parameters.unaccounted_key)
    bills = day.bills or OpenBills(*(np.zeros(0, dtype=np.int64),) * 3)
    rounding = _rounding(_with_shares(bills, day.customer, row_sums(change)), day.first_interval)
    return FeederClose(
        postings=Postings.concat([shared, _round(bills.customer, rounding, day.first_interval, cause)]),
        amounts=amounts,
        invoiced=bills.customer,
        rounding_nanos=rounding,
        keys_missing=ShareKey.TRAILING_WITHDRAWAL in keys and not day.key_wh.any(),
        open_rent_nanos=day.open_rent_nanos - exact_sum(_of(change, Line.RENT_SHARE)),
        open_unaccounted_nanos=day.open_unaccounted_nanos - exact_sum(_of(change, Line.UNACCOUNTED_SHARE)),
    )


def round_bills(bills: OpenBills, first_interval: int) -> Postings:
    """ROUNDING alone: what brings the bills of these customers to whole cents, their sum rounded as a whole.

    Cents invoiced so far are the exact bills so far, rounded by the ties of the last close, whatever was billed when:
    a multiple of a cent moves no remainder.

    >>> bills = OpenBills(np.array([1, 2]), np.array([14_000_000, 7_000_000]), np.array([0, 0]))
    >>> round_bills(bills, 0).amount.tolist()
    [-4000000, 3000000, 1000000]
    """
    return _round(bills.customer, _rounding(bills, first_interval), first_interval, 0)


def _rounding(bills: OpenBills, first_interval: int) -> IntArray:
    exact = row_sums(np.stack([bills.unbilled_nanos, bills.carry_nanos], axis=1))
    return round_to_multiples(exact, NANOS_PER_CENT, f"cents/{first_interval}", bills.customer) - bills.unbilled_nanos


def _round(customer: IntArray, rounding: IntArray, first_interval: int, cause: int) -> Postings:
    amount = np.append(rounding, -exact_sum(rounding))
    kept = amount != 0
    return postings_of(
        np.append(customer, Account.ROUNDING)[kept], first_interval, Line.ROUNDING, amount[kept], cause=cause
    )


def _with_shares(bills: OpenBills, customer: IntArray, shares: IntArray) -> OpenBills:
    """The same bills with what a close posts to the customers it is about."""
    here = np.isin(bills.customer, customer)
    posted = np.zeros_like(bills.unbilled_nanos)
    posted[here] = shares[np.searchsorted(customer, bills.customer[here])]
    unbilled = row_sums(np.stack([bills.unbilled_nanos, posted], axis=1))
    return OpenBills(bills.customer, unbilled, bills.carry_nanos)


def _shares(day: FeederDay, change: IntArray, cause: int) -> Postings:
    """The changes of the shared lines as postings, each line against its account; rows of nothing left out."""
    columns = [_of(change, line) for line in SHARED_LINES]
    amount = np.concatenate([np.append(column, -exact_sum(column)) for column in columns])
    account = np.concatenate([np.append(day.customer, against) for against in _AGAINST])
    line = np.repeat(np.array(SHARED_LINES, dtype=np.int64), day.customer.size + 1)
    kept = amount != 0
    return postings_of(account[kept], day.first_interval, line[kept], amount[kept], cause=cause)


def _of(amounts: IntArray, line: Line) -> IntArray:
    return amounts[:, STATEMENT_LINES.index(line)]


def _weights(day: FeederDay, key: ShareKey) -> IntArray:
    if key is ShareKey.TRAILING_WITHDRAWAL and day.key_wh.any():
        return day.key_wh
    connected = day.connected()
    return connected if connected.any() else np.ones_like(connected)


def share_pool(total: int, what: str, weight: IntArray, customer: IntArray, first_interval: int) -> IntArray:
    """Largest-remainder shares of a day's pool; ties are hashed over the pool's name and the day.

    Where there is nobody to share it with, nothing is shared.

    >>> share_pool(-10, "rent", np.array([1, 3]), np.array([4, 9]), 0).sum()
    np.int64(-10)
    """
    return allocate(total if customer.size else 0, weight, tie_hash(f"{what}/{first_interval}", customer))


def sales_tax(base_nanos: IntArray, ppm: int, first_interval: int, customer: IntArray) -> IntArray:
    """Sales tax of each customer on a non-negative base: the whole rounded down, shared pro rata.

    >>> sales_tax(np.array([100, 100, 100]), 190_000, 0, np.array([1, 2, 3])).tolist()
    [19, 19, 19]
    """
    whole = exact_sum(base_nanos) * ppm // 1_000_000
    return allocate(whole, base_nanos, tie_hash(f"sales tax/{first_interval}", customer))


def close_day(day: DayFacts, postings: Postings, parameters: Parameters) -> Postings:
    """Day-level postings of a day in which all customers are on the feeder from its start to its end.

    Parameters
    ----------
    day : facts of the day; only customers, keys and the rounding carry are read.
    postings : interval postings of the day, corrections included; day-level lines among them are
        passed over, so that a closed day can be closed anew.
    parameters : rules of the day.

    Returns
    -------
    Postings with ``cause`` 0, ``quantity`` 0 and ``price`` 0 at the day's first interval.

    Raises
    ------
    SettlementError : a posting is of a customer who does not take part in the day.
    """
    steps = postings.take(~np.isin(postings.line, DAY_LINES))
    amounts, _ = line_sums(steps, day.customer)
    pools = fold(steps, "account").amounts()
    intervals = day.steps.interval.size
    pieces = np.stack([day.customer, np.zeros_like(day.customer), np.full_like(day.customer, intervals)], axis=1)
    facts = FeederDay(
        first_interval=day.first_interval,
        intervals=intervals,
        customer=day.customer,
        pieces=pieces,
        key_wh=day.key_wh,
        amounts=amounts,
        open_rent_nanos=pools.get((Account.RENT,), 0),
        open_unaccounted_nanos=pools.get((Account.UNACCOUNTED,), 0),
        bills=OpenBills(day.customer, row_sums(amounts), day.rounding_carry_nanos),
    )
    return close_feeder(facts, parameters).postings


def settle_day(day: DayFacts, parameters: Parameters) -> Postings:
    """Settle every interval of a day and close it: the day's postings from scratch.

    >>> from datetime import date
    >>> from tellegen.rules import Rulebook
    >>> from tellegen.settlement import specimen_day
    >>> postings = settle_day(specimen_day(1), Rulebook.load().at(date(2016, 1, 1)).settlement)
    >>> int(postings.amount.sum()), int(postings.amount[postings.account == Account.RENT].sum())
    (0, 0)
    """
    steps = settle_intervals(day.steps, parameters)
    return Postings.concat([steps, close_day(day, steps, parameters)])
