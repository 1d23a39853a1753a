"""A billing day begins with frozen keys and ends with shares, cents and statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from tellegen.books import row_sums
from tellegen.operations.state import NONE, OpenDay, State
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import day_bounds, day_number, day_of
from tellegen.records import STATEMENT_LINES, AllocationKeys, FeederDays, Histories, Line, Postings, Statements
from tellegen.settlement import FeederClose, FeederDay, OpenBills, Parameters, close_feeder, invoice, round_bills
from tellegen.units import IntArray

_ROUNDING = STATEMENT_LINES.index(Line.ROUNDING)


def frozen_keys(state: State, histories: Histories, day: date, known_by: int) -> list[AllocationKeys]:
    """Sharing keys of a day, one table per feeder: what nothing done on the day can move (law 8).

    A customer who has withdrawn nothing on record has what its history says, else the median of its feeder.

    Parameters
    ----------
    histories : as on record. known_by : seconds since the epoch; who is connected at the day's start as known by then.
    """
    book = state.book
    connected = state.topology.connected(day_bounds(book, day).start, known_by)
    days, number = book.at(day).trailing_days, day_number(day)
    order = np.argsort(histories.customer, kind="stable")
    tables = []
    for k in range(connected.feeders):
        customer = connected.customer[connected.on(k)]
        before = np.zeros(customer.size, dtype=np.int64)
        if order.size:
            place = np.searchsorted(histories.customer[order], customer)
            place = order[np.minimum(place, order.size - 1)]
            known = histories.customer[place] == customer
            before[known] = histories.trailing_wh[place[known]]
        weight = np.maximum(state.accounts.trailing_wh(customer, before, number, days), 0)
        unknown = (weight == 0) & (before == 0) & state.accounts.is_new(customer)
        if unknown.any() and not unknown.all():
            weight[unknown] = int(np.median(weight[~unknown]))
        tables.append(AllocationKeys(customer=customer.astype(np.int32), weight_wh=weight))
    return tables


@dataclass(frozen=True, slots=True, eq=False)
class FeederClosed:
    """What the close of one feeder's day puts on record.

    Attributes
    ----------
    shares, rounding : postings at the day's first interval. statements : of those who are invoiced here.
    keys_missing : all keys were zero, so that pools went by the intervals connected.
    day : as it stands on this feeder now.
    """

    day: FeederDays
    shares: Postings
    rounding: Postings
    statements: Statements
    keys_missing: bool
    open_rent_nanos: int
    open_unaccounted_nanos: int


def close_feeders(state: State, day: date, ends: list[IntArray]) -> list[FeederClosed]:
    """Close a day on every feeder: shares of the pools, then cents over what each customer owes since its last bill.

    Parameters
    ----------
    ends : of each feeder, customers who are connected there in the day's last interval, ascending; they are invoiced
        there. Who has left is invoiced on the first feeder where something was posted to it.
    """
    bounds, parameters = day_bounds(state.book, day), state.book.at(day).settlement
    first, number = bounds.start, day_number(day)
    feeders = range(len(state.topology.feeders))
    open_days = [state.days.get((k, first), OpenDay()) for k in feeders]
    closes: list[tuple[FeederDay, FeederClose]] = []
    elsewhere: dict[int, int] = {}
    for k, open_day in zip(feeders, open_days, strict=True):
        facts = feeder_day(state, k, first, len(bounds), open_day, elsewhere)
        closes.append((facts, close_feeder(facts, parameters)))
    rows = _Rows()
    for k, (facts, close), open_day in zip(feeders, closes, open_days, strict=True):
        rows.add(k, number, facts.customer, close.amounts, open_day.sums.of(facts.customer)[1])
        rows.post(facts.customer, row_sums(close.amounts - facts.amounts))
    for (k, start), late in sorted(state.late.items()):
        rows.add(k, day_number(day_of(state.book, start)), late.customer, late.amount, late.quantity)
    biller = rows.billers(ends)
    closed = []
    for k, (facts, close) in zip(feeders, closes, strict=True):
        customer = np.sort(rows.customer[biller == k])
        unbilled = state.accounts.owed(customer) + rows.posted_to(customer)
        bills = OpenBills(customer, unbilled, state.accounts.carried(customer))
        rounding = round_bills(bills, first)
        closed.append(
            FeederClosed(
                day=feeder_days(facts, close.amounts),
                shares=close.postings,
                rounding=rounding,
                statements=rows.statements(k, customer, number, rounding),
                keys_missing=close.keys_missing,
                open_rent_nanos=close.open_rent_nanos,
                open_unaccounted_nanos=close.open_unaccounted_nanos,
            )
        )
    return closed


def feeder_day(
    state: State, feeder: int, first: int, intervals: int, open_day: OpenDay, elsewhere: dict[int, int] | None = None
) -> FeederDay:
    """A feeder's day as it stands before it is closed.

    Parameters
    ----------
    elsewhere : intervals in which customers were connected on feeders before this one; brought up to date. What is pro
        rata of the day then sums to the day over all feeders.
    """
    before = {} if elsewhere is None else elsewhere
    customer = np.union1d(open_day.customer, open_day.sums.customer)
    start = np.array([before.get(c, 0) for c in open_day.customer.tolist()], dtype=np.int64)
    pieces = np.stack([open_day.customer, start, start + open_day.connected], axis=1)
    before.update(zip(open_day.customer.tolist(), pieces[:, 2].tolist(), strict=True))
    key = np.zeros(customer.size, dtype=np.int64)
    keys = state.keys.get((feeder, first))
    if keys is not None and len(keys):
        order = np.argsort(keys.customer, kind="stable")
        place = order[np.minimum(np.searchsorted(keys.customer[order], customer), order.size - 1)]
        known = keys.customer[place] == customer
        key[known] = keys.weight_wh[place[known]]
    return FeederDay(
        first_interval=first,
        intervals=intervals,
        customer=customer,
        pieces=pieces,
        key_wh=key,
        amounts=open_day.sums.of(customer)[0],
        open_rent_nanos=open_day.sums.rent,
        open_unaccounted_nanos=open_day.sums.unaccounted,
    )


class _Rows:
    """What a close bills: exact sums by customer, day and line, from all feeders; who is invoiced where."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int, IntArray, IntArray, IntArray]] = []
        self._posted: list[tuple[IntArray, IntArray]] = []
        self.customer: IntArray = np.zeros(0, dtype=np.int64)

    def add(self, feeder: int, day: int, customer: IntArray, amounts: IntArray, quantities: IntArray) -> None:
        """Sums of customers of a feeder about a day."""
        self._parts.append((feeder, day, customer, amounts, quantities))

    def post(self, customer: IntArray, nanos: IntArray) -> None:
        """What the close itself posts to customers."""
        self._posted.append((customer, nanos))

    def billers(self, ends: list[IntArray]) -> IntArray:
        """Feeder on which each of `customer` is invoiced."""
        self.customer = np.unique(np.concatenate([part[2] for part in self._parts] + ends))
        biller = np.full(self.customer.size, NONE, dtype=np.int64)
        for k, customer in enumerate(ends):
            biller[np.searchsorted(self.customer, customer)] = k
        here = biller != NONE
        for feeder, _, customer, _, _ in reversed(self._parts):
            place = np.searchsorted(self.customer, customer)
            biller[place[~here[place]]] = feeder
        where = np.concatenate([np.searchsorted(self.customer, part[2]) for part in self._parts])
        self._feeder = biller[where]
        self._day = np.concatenate([np.full(part[2].size, part[1], dtype=np.int64) for part in self._parts])
        self._whose = np.concatenate([part[2] for part in self._parts])
        self._amounts = np.concatenate([part[3] for part in self._parts])
        self._quantities = np.concatenate([part[4] for part in self._parts])
        self._order = np.argsort(self._feeder, kind="stable")
        self._sorted = self._feeder[self._order]
        self._nanos = np.zeros(self.customer.size, dtype=np.int64)
        for customer, nanos in self._posted:
            np.add.at(self._nanos, np.searchsorted(self.customer, customer), nanos)
        return biller

    def posted_to(self, customer: IntArray) -> IntArray:
        """What the close posts to customers, int64[n]."""
        return self._nanos[np.searchsorted(self.customer, customer)]

    def statements(self, feeder: int, customer: IntArray, closed: int, rounding: Postings) -> Statements:
        """Statements of the customers who are invoiced on a feeder."""
        low, high = np.searchsorted(self._sorted, [feeder, feeder + 1])
        mine = self._order[low:high]
        rounded = np.zeros((customer.size, len(STATEMENT_LINES)), dtype=np.int64)
        theirs = rounding.take(rounding.account > 0)
        rounded[np.searchsorted(customer, theirs.account), _ROUNDING] = theirs.amount
        return invoice(
            np.concatenate([self._whose[mine], customer]),
            np.concatenate([self._day[mine], np.full(customer.size, closed, dtype=np.int64)]),
            np.concatenate([self._amounts[mine], rounded]),
            np.concatenate([self._quantities[mine], np.zeros_like(rounded)]),
            closed=closed,
        )


def feeder_days(facts: FeederDay, amounts: IntArray) -> FeederDays:
    """How a feeder's day stands when it is first closed, as it goes on record."""
    start, stop = np.zeros((2, facts.customer.size), dtype=np.int64)
    at = np.searchsorted(facts.customer, facts.pieces[:, 0])
    start[at], stop[at] = facts.pieces[:, 1], facts.pieces[:, 2]
    return FeederDays(
        customer=facts.customer.astype(np.int32),
        start=start.astype(np.int32),
        stop=stop.astype(np.int32),
        key_wh=facts.key_wh,
        amounts=amounts,
    )


def shared_again(
    first: int, intervals: int, before: FeederDays, since: LineSums, parameters: Parameters, cause: int
) -> FeederClose:
    """Share a closed day of a feeder anew.

    Parameters
    ----------
    first, intervals : of the day. before : as it was first closed. since : all that was posted about it there since.
    parameters : rules of that day. cause : journal index of what made the change known.
    """
    customer = np.union1d(before.customer.astype(np.int64), since.customer)
    at = np.searchsorted(customer, before.customer)
    amounts, _ = since.of(customer)
    amounts[at] += before.amounts
    key = np.zeros(customer.size, dtype=np.int64)
    key[at] = before.key_wh
    here = before.stop > before.start
    pieces = np.stack([before.customer[here], before.start[here], before.stop[here]], axis=1).astype(np.int64)
    facts = FeederDay(
        first_interval=first,
        intervals=intervals,
        customer=customer,
        pieces=pieces,
        key_wh=key,
        amounts=amounts,
        open_rent_nanos=since.rent,
        open_unaccounted_nanos=since.unaccounted,
    )
    return close_feeder(facts, parameters, cause=cause)
