"""A day on record, as far as whoever reports on it needs to know it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.facts import Cleared
from tellegen.records import Energy, Holds, Orders, Postings, Readings, Starts, Statements
from tellegen.records.market import REAL_TIME
from tellegen.units import IntArray

Names = Mapping[int, str]
"""Public name of each customer number."""


class ClearedRound(Protocol):
    """One clearing of one feeder: the book as its gate counted it, and what became of it."""

    @property
    def market(self) -> str:
        """``day_ahead``, ``real_time`` or ``price_run``."""

    @property
    def interval(self) -> int:
        """First market interval of the period."""

    @property
    def orders(self) -> Orders:
        """The book; rows of erased customers are missing."""

    @property
    def awarded_mw(self) -> NDArray[np.int64]:
        """What each row of `orders` got."""

    def as_cleared(self) -> tuple[Orders, NDArray[np.int64]]:
        """Orders that were taken, and those that stood in for who is on hold; mW awarded to each."""

    @property
    def starts(self) -> Starts:
        """What the clearing left to the next one."""

    @property
    def period(self) -> Cleared:
        """Schedules, prices and outcome."""


class DayOnRecord(Protocol):
    """One billing day of one feeder."""

    @property
    def day(self) -> date:
        """Its local date."""

    @property
    def rounds(self) -> tuple[ClearedRound, ...]:
        """Day-ahead hours, then real-time intervals, each ascending."""

    @property
    def runs(self) -> tuple[ClearedRound, ...]:
        """Price runs of the real-time intervals, ascending; none where the gates' prices settle."""

    @property
    def readings(self) -> tuple[tuple[int, Readings], ...]:
        """Registers as sent, by interval, in the order of the record."""

    @property
    def energy(self) -> tuple[tuple[int, Energy], ...]:
        """Validated energy in the order of the record, with the entry of each; later versions correct earlier ones."""

    @property
    def postings(self) -> tuple[tuple[int, Postings], ...]:
        """Batches of postings about the day, in the order of the record, with the entry of each."""

    @property
    def statements(self) -> Statements:
        """What was invoiced, in the order of the record; nothing of erased customers."""

    @property
    def holds(self) -> Holds:
        """Customers whose orders did not count in some interval, because they had claimed and not delivered."""

    @property
    def erased(self) -> tuple[int, ...]:
        """Customers whose rows can no longer be read."""

    def all_postings(self) -> Postings:
        """Every posting about the day, in the order of the journal."""


def of_market(day: DayOnRecord, market: str) -> tuple[ClearedRound, ...]:
    """Rounds of one market."""
    return tuple(r for r in day.rounds if r.market == market)


def settling(day: DayOnRecord, market: str) -> tuple[ClearedRound, ...]:
    """Rounds of one market whose prices settle: in real time the price runs, where there are any."""
    return day.runs if market == REAL_TIME and day.runs else of_market(day, market)


def guiding(day: DayOnRecord) -> tuple[ClearedRound, ...]:
    """Rounds whose prices are a guide and settle nothing."""
    return of_market(day, REAL_TIME) if day.runs else ()


def node_prices(rounds: tuple[ClearedRound, ...], column: str) -> IntArray:
    """Prices of successive rounds at every node, int64[rounds, nodes], by node index."""
    return np.stack([getattr(r.period.prices, column)[np.argsort(r.period.prices.node)] for r in rounds])
