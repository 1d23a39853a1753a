"""The close of a billing day: what is owed per day rather than per interval.

In this order, all at the day's first interval and all summing to zero:

1. NETWORK_FIXED: the fixed network charge of each customer.
2. NETWORK_TRUE_UP: what brings network revenue to the regulated requirement, exactly (law 8).
3. RENT_SHARE, UNACCOUNTED_SHARE: the two pools, shared by the frozen keys; both close at zero.
4. SALES_TAX: `sales_tax_ppm` of each customer's taxable supply. The base is the grid lines
   (NETWORK_ENERGY, ENERGY_TAX, NETWORK_FIXED, NETWORK_TRUE_UP) in full, and the energy lines
   (FORWARD, REAL_TIME, IMBALANCE, REACTIVE, RENT_SHARE, UNACCOUNTED_SHARE) as far as their sum over
   the day is a supply to the customer: whoever sold more than it bought is no taxable seller. A base
   below zero counts as zero. The feeder's tax is rounded down once and shared pro rata to the bases.
5. ROUNDING: what brings each bill to whole cents, over all customers together.
"""

from __future__ import annotations

import numpy as np

from tellegen.books import fold
from tellegen.records import Account, Line, Postings
from tellegen.settlement.apportioning import round_to_multiples
from tellegen.settlement.facts import DayFacts, SettlementError
from tellegen.settlement.intervals import INTERVAL_LINES, settle_intervals
from tellegen.settlement.parameters import Parameters, ShareKey
from tellegen.units import NANOS_PER_CENT, IntArray, QuantityError, allocate, exact_sum, tie_hash

DAY_LINES = (
    Line.NETWORK_FIXED,
    Line.NETWORK_TRUE_UP,
    Line.RENT_SHARE,
    Line.UNACCOUNTED_SHARE,
    Line.SALES_TAX,
    Line.ROUNDING,
)
"""The lines that `close_day` posts."""

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


def shared(day: DayFacts, total: int, what: str, key: ShareKey) -> IntArray:
    """An amount shared by a rule's key, int64[n]; it sums to `total` exactly.

    Raises
    ------
    SettlementError : there is something to share and every key is zero.
    """
    weight = day.key_wh if key is ShareKey.TRAILING_WITHDRAWAL else np.ones_like(day.key_wh)
    return share_pool(total, what, weight, day.customer, day.first_interval)


def share_pool(total: int, what: str, weight: IntArray, customer: IntArray, first_interval: int) -> IntArray:
    """Largest-remainder shares of a day's pool; ties are hashed over the pool's name and the day.

    >>> share_pool(-10, "rent", np.array([1, 3]), np.array([4, 9]), 0).sum()
    np.int64(-10)
    """
    if total and not weight.any():
        raise SettlementError(f"{what} of {total} nano-currency cannot be shared: every key of the day is zero")
    return allocate(total, weight, tie_hash(f"{what}/{first_interval}", customer.tolist()))


def sales_tax(base_nanos: IntArray, ppm: int, first_interval: int, customer: IntArray) -> IntArray:
    """Sales tax of each customer on a non-negative base: the whole rounded down, shared pro rata.

    >>> sales_tax(np.array([100, 100, 100]), 190_000, 0, np.array([1, 2, 3])).tolist()
    [19, 19, 19]
    """
    whole = exact_sum(base_nanos) * ppm // 1_000_000
    return allocate(whole, base_nanos, tie_hash(f"sales tax/{first_interval}", customer.tolist()))


def close_day(day: DayFacts, postings: Postings, parameters: Parameters) -> Postings:
    """Day-level postings that follow from the interval postings of the whole day.

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
    SettlementError : a posting is of a customer who does not take part in the day, or a pool has no
        key to be shared by.
    """
    closing = _Closing(day, postings)
    customers = day.customer.size
    fixed = np.full(customers, parameters.network_fixed_nanos_per_day, dtype=np.int64)
    closing.charge(Line.NETWORK_FIXED, fixed, Account.NETWORK)
    missing = parameters.network_revenue_nanos(customers) + closing.balance(Account.NETWORK)
    closing.charge(
        Line.NETWORK_TRUE_UP, shared(day, missing, "network true-up", parameters.true_up_key), Account.NETWORK
    )
    rent, unaccounted = closing.balance(Account.RENT), closing.balance(Account.UNACCOUNTED)
    closing.charge(Line.RENT_SHARE, shared(day, rent, "rent", parameters.rent_key), Account.RENT)
    lost = shared(day, unaccounted, "unaccounted-for energy", parameters.unaccounted_key)
    closing.charge(Line.UNACCOUNTED_SHARE, lost, Account.UNACCOUNTED)
    base = np.maximum(closing.owed(GRID_LINES) + np.maximum(closing.owed(SUPPLY_LINES), 0), 0)
    closing.charge(
        Line.SALES_TAX, sales_tax(base, parameters.sales_tax_ppm, day.first_interval, day.customer), Account.TAX
    )
    bill = closing.owed(tuple(Line))
    exact = bill + day.rounding_carry_nanos
    cents = round_to_multiples(exact, NANOS_PER_CENT, f"cents/{day.first_interval}", day.customer)
    closing.charge(Line.ROUNDING, cents - bill, Account.ROUNDING)
    return closing.postings()


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


class _Closing:
    """Sums of a day as it is being closed, and the postings made so far."""

    def __init__(self, day: DayFacts, postings: Postings) -> None:
        self._day = day
        steps = postings.take(np.isin(postings.line, sorted(INTERVAL_LINES)))
        sums = fold(steps, "account", "line")
        account, line = sums.keys
        self._pools: dict[int, int] = {}
        for number, amount in zip(account[account < 0].tolist(), sums.amount[account < 0].tolist(), strict=True):
            self._pools[number] = self._pools.get(number, 0) + amount
        theirs = account >= 0
        if not np.isin(account[theirs], day.customer).all():
            raise SettlementError("a posting is of a customer who does not take part in the day")
        position = np.searchsorted(day.customer, account[theirs])
        self._owed = np.zeros((max(Line) + 1, day.customer.size), dtype=np.int64)
        self._owed[line[theirs], position] = sums.amount[theirs]
        self._blocks: list[tuple[Line, IntArray, Account, int]] = []

    def balance(self, account: Account) -> int:
        """What a pool or counter-account owes so far."""
        return self._pools.get(account, 0)

    def owed(self, lines: tuple[Line, ...]) -> IntArray:
        """What each customer owes on some lines together, int64[n]."""
        block = self._owed[list(lines)]
        if block.size and int(np.abs(block).max()) * len(lines) >= 2**63:
            raise QuantityError("a customer's day does not fit int64")
        return np.asarray(block.sum(axis=0, dtype=np.int64))

    def charge(self, line: Line, amount: IntArray, against: Account) -> None:
        """Post `amount` to the customers and its total, reversed, to another account."""
        total = -exact_sum(amount)
        self._owed[line] += amount
        self._pools[against] = self._pools.get(against, 0) + total
        self._blocks.append((line, amount, against, total))

    def postings(self) -> Postings:
        """All charges as postings, rows of nothing left out."""
        account = np.concatenate([np.append(self._day.customer, against) for _, _, against, _ in self._blocks])
        amount = np.concatenate([np.append(amounts, total) for _, amounts, _, total in self._blocks])
        line = np.repeat([line for line, _, _, _ in self._blocks], self._day.customer.size + 1)
        kept = amount != 0
        size = int(kept.sum())
        nothing = np.zeros(size, dtype=np.int64)
        return Postings(
            account=account[kept],
            interval=np.full(size, self._day.first_interval, dtype=np.int64),
            line=line[kept],
            quantity=nothing,
            price=nothing,
            amount=amount[kept],
            cause=nothing,
        )
