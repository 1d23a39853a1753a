"""What the market's record tells those whom it concerns: a source about its own customers, everybody about prices."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from tellegen.operations.book import Book
from tellegen.operations.exchange import Awarded, PriceRole, Published
from tellegen.operations.holds import held_until
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import NONE, cut_of
from tellegen.operations.timetable import day_ahead_at, day_bounds, day_of, periods, real_time_at, settle_at
from tellegen.records import Awards, Clearings, Gates, Prices, Refusal, RefusedOrders
from tellegen.records.market import DAY_AHEAD, PRICE_RUN, REAL_TIME
from tellegen.units import IntArray


def awarded_to(record: ShardRecord, source: str, market: str, first: int) -> Awarded:
    """Awards and prices of the customers whose bids for a gate a source brought, as they count there.

    Parameters
    ----------
    record : up to date (`ShardRecord.refresh`).
    source : as in the registry; that it is the one who asks is the caller's to know.
    market : of the bids, or the price run that settles an interval for which they were brought in real time.
    first : first interval of the delivery day, or of the period in real time.
    """
    bid_in = REAL_TIME if market == PRICE_RUN else market
    gates = record.about(Gates, "", first, bid_in)
    cut = cut_of(record.header(gates[0])) if gates else len(record.intake)
    hours = _periods(record, market, first)
    about = record.submitted.brought(source, bid_in, first, cut)
    book = Book.of(record, bid_in, hours, cut, gates[0] if gates else None, about)
    found = _Found()
    for _, bids in sorted(book.bids.items()):
        batches, of_batch = np.unique(bids.entry, return_inverse=True)
        mine = np.array([record.intake.entry(entry).source == source for entry in batches.tolist()], dtype=np.bool_)
        found.speak_for(bids.customer[mine[of_batch]])
    whose = np.sort(np.concatenate(found.customers)) if found.customers else np.zeros(0, dtype=np.int64)
    until = np.zeros(whose.size, dtype=np.int64)
    status, energy, reactive, refusal = (
        np.full((len(hours), whose.size), fill, dtype=np.int64) for fill in (NONE, 0, 0, Refusal.NONE)
    )
    known_by = _gate_at(record, market, first) - 1
    for period, here in enumerate(hours):
        feeder, node, *_ = record.topology.places(whose, np.full(whose.size, here.start), np.full(whose.size, known_by))
        for k in np.unique(feeder[feeder >= 0]).tolist():
            name, there = record.feeders[k].name, np.flatnonzero(feeder == k)
            clearing = _clearing(record, name, market, here.start)
            if clearing is None:
                continue
            prices = record.table(record.cause(clearing, Prices), Prices)
            status[period, there] = int(record.table(clearing, Clearings).status[0])
            energy[period, there] = prices.energy[node[there]]
            reactive[period, there] = prices.reactive[node[there]]
            refusal[period, there] = _refusals(record, clearing, whose[there])
            found.take(record, clearing, whose, period)
            until = np.maximum(until, held_until(record, clearing, whose))
    customer, of_period, order, quantity = found.columns()
    return Awarded(
        market=market,
        interval=first,
        cleared=bool(gates) and bool((status >= 0).all()),
        customer=customer,
        period=of_period,
        order=order,
        quantity_mw=quantity,
        whose=whose,
        status=status,
        energy_micros=energy,
        reactive_micros=reactive,
        held_until=until,
        refusal=refusal,
        **_settled(record, market, first),
    )


def _settled(record: ShardRecord, market: str, first: int) -> _Settled:
    """What prices of a market are good for, and where and when those stand that settle."""
    book = record.rulebook
    if market == DAY_AHEAD:
        return _Settled(prices=PriceRole.SETTLES, settled_in=market, settled_at=day_ahead_at(book, day_of(book, first)))
    has_run = book.at(day_of(book, first)).price_run is not None
    return _Settled(
        prices=PriceRole.GUIDE if has_run and market == REAL_TIME else PriceRole.SETTLES,
        settled_in=PRICE_RUN if has_run else REAL_TIME,
        settled_at=settle_at(book, first) if has_run else real_time_at(book, first),
    )


def published_of(record: ShardRecord, market: str, interval: int) -> tuple[Published, ...]:
    """Prices and outcomes of a period, by feeder in their order; of those that are on record."""
    found = []
    for feeder in record.feeders:
        clearing = _clearing(record, feeder.name, market, interval)
        if clearing is not None:
            prices = record.table(record.cause(clearing, Prices), Prices)
            found.append(Published(feeder.name, prices, record.table(clearing, Clearings)))
    return tuple(found)


class _Settled(TypedDict):
    """The last columns of `Awarded`."""

    prices: PriceRole
    settled_in: str
    settled_at: int


class _Found:
    """Awards as they are gathered, period by period."""

    def __init__(self) -> None:
        self.customers: list[IntArray] = []
        self._parts: list[tuple[IntArray, IntArray, IntArray, IntArray]] = []

    def speak_for(self, customer: IntArray) -> None:
        """These are asked about."""
        self.customers.append(customer.astype(np.int64))

    def take(self, record: ShardRecord, clearing: int, whose: IntArray, period: int) -> None:
        """Awards of a clearing to those who are asked about."""
        try:
            awards = record.table(record.cause(clearing, Awards), Awards)
        except KeyError:  # administrative: nothing was awarded
            return
        mine = awards.take(np.isin(awards.customer, whose))
        self._parts.append(
            (
                mine.customer.astype(np.int64),
                np.full(len(mine), period, dtype=np.int64),
                mine.order.astype(np.int64),
                mine.quantity_mw,
            )
        )

    def columns(self) -> list[IntArray]:
        """Customer, period, row of its submission, and quantity."""
        if not self._parts:
            return [np.zeros(0, dtype=np.int64)] * 4
        return [np.concatenate(column) for column in zip(*self._parts, strict=True)]


def _refusals(record: ShardRecord, clearing: int, whose: IntArray) -> IntArray:
    """Why the gate did not take each one's orders, int64[n] `Refusal`."""
    found = np.zeros(whose.size, dtype=np.int64)
    try:
        refused = record.table(record.cause(clearing, RefusedOrders), RefusedOrders)
    except KeyError:  # all were taken
        return found
    place = np.searchsorted(whose, refused.customer)
    here = place < whose.size
    here[here] = whose[place[here]] == refused.customer[here]
    found[place[here]] = refused.refusal[here]
    return found


def _periods(record: ShardRecord, market: str, first: int) -> tuple[range, ...]:
    if market != DAY_AHEAD:
        return (range(first, first + 1),)
    return periods(day_bounds(record.rulebook, day_of(record.rulebook, first)))


def _gate_at(record: ShardRecord, market: str, first: int) -> int:
    book = record.rulebook
    return day_ahead_at(book, day_of(book, first)) if market == DAY_AHEAD else real_time_at(book, first)


def _clearing(record: ShardRecord, feeder: str, market: str, interval: int) -> int | None:
    found = record.about(Clearings, feeder, interval, market)
    return found[0] if found else None
