"""The record of a day read back: everything that settlement, replay and publication need (law 3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import TellegenError
from tellegen.operations.recorder import Recorder
from tellegen.records import (
    AllocationKeys,
    Awards,
    Clearings,
    Customers,
    Energy,
    Erasures,
    Orders,
    Postings,
    Prices,
    Readings,
    Schedules,
    Statements,
    Table,
)
from tellegen.settlement import ClearedPeriod, DayFacts, assemble_day, latest_energy

T = TypeVar("T", bound=Table)
DAY_AHEAD, REAL_TIME = "day_ahead", "real_time"
ERASED_NAME = "erased"
"""Name of a batch with what is left of an erased customer's postings in the batch it names as cause."""


class RecordIncompleteError(TellegenError):
    """The record lacks something that was asked of it: an erased customer, an unfinished day."""


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One clearing as it stands on record: what was offered, what became of it."""

    market: str
    interval: int
    orders: Orders
    awards: Awards
    period: ClearedPeriod


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDay:
    """A day as the journal has it.

    Attributes
    ----------
    day : the billing day's local date.
    customers, keys : enrolment and frozen sharing keys.
    rounds : day-ahead hours, then real-time intervals, each ascending.
    readings : (interval, registers as sent), ascending.
    energy : versions of validated energy with the journal index of each; corrections are later ones.
    postings : batches with journal index, differences included.
    erased : customers whose rows can no longer be read.
    """

    day: date
    customers: Customers
    keys: AllocationKeys
    rounds: tuple[Round, ...]
    readings: tuple[tuple[int, Readings], ...]
    energy: tuple[tuple[int, Energy], ...]
    postings: tuple[tuple[int, Postings], ...]
    erased: tuple[int, ...]

    @property
    def first_interval(self) -> int:
        """The day's first market interval."""
        return self.rounds[0].interval

    def of_market(self, market: str) -> tuple[Round, ...]:
        """Rounds of one market."""
        return tuple(r for r in self.rounds if r.market == market)

    def all_postings(self) -> Postings:
        """Every posting of the day in the order of the journal."""
        return Postings.concat([batch for _, batch in self.postings])

    def facts(self, *, first_versions_only: bool = False) -> DayFacts:
        """The day's facts as known now, or as known before any correction.

        Raises
        ------
        RecordIncompleteError : a customer has been erased, so that the day cannot settle again.
        """
        if self.erased:
            raise RecordIncompleteError(
                f"customer {self.erased[0]} has been erased; the day's settlement is final and cannot be run again"
            )
        versions = self.energy[: self._first_versions()] if first_versions_only else self.energy
        return assemble_day(
            self.first_interval,
            self.customers,
            [r.period for r in self.of_market(DAY_AHEAD)],
            [r.period for r in self.of_market(REAL_TIME)],
            latest_energy(versions),
            self.keys,
        )

    def _first_versions(self) -> int:
        """How many energy batches came before the first correction."""
        seen: set[int] = set()
        for position, (_, batch) in enumerate(self.energy):
            intervals = set(batch.interval.tolist())
            if seen & intervals:
                return position
            seen |= intervals
        return len(self.energy)


def read_day(recorder: Recorder) -> RecordedDay:
    """Fold the journal into a `RecordedDay`.

    Raises
    ------
    RecordIncompleteError : enrolment, keys or a clearing are not on record.
    """
    rounds = [*_rounds(recorder, DAY_AHEAD), *_rounds(recorder, REAL_TIME)]
    if not rounds:
        raise RecordIncompleteError("the journal holds no clearing; is the run complete?")
    customers = _only(recorder, Customers)
    erased = tuple(sorted({int(c) for _, _, table in recorder.read(Erasures) for c in table.customer}))
    day = recorder.document("day").decode()
    if not day:
        raise RecordIncompleteError("the journal does not say which day it is about")
    return RecordedDay(
        day=date.fromisoformat(day),
        customers=customers,
        keys=_only(recorder, AllocationKeys),
        rounds=tuple(rounds),
        readings=tuple((header.interval, table) for _, header, table in recorder.read(Readings)),
        energy=tuple((index, table) for index, _, table in recorder.read(Energy)),
        postings=_postings(recorder, erased),
        erased=erased,
    )


def latest_statements(recorder: Recorder) -> Statements:
    """Statements as they were issued last.

    Raises
    ------
    RecordIncompleteError : none were issued; the day has not been closed.
    """
    latest: Statements | None = None
    for _, _, table in recorder.read(Statements):
        latest = table
    if latest is None:
        raise RecordIncompleteError("the journal holds no statements; has the day been closed?")
    return latest


def _only(recorder: Recorder, kind: type[T]) -> T:
    for _, _, table in recorder.read(kind):
        return table
    raise RecordIncompleteError(f"the journal holds no {kind.kind}")


def _postings(recorder: Recorder, erased: tuple[int, ...]) -> tuple[tuple[int, Postings], ...]:
    """Batches of postings; what is left of erased customers stands with the batch it is left of."""
    batches: dict[int, list[Postings]] = {}
    for index, header, table in recorder.read(Postings):
        belongs = header.causes[0] if header.name == ERASED_NAME else index
        # A key may outlive its erasure record by a crash; the rows count as gone from the record on.
        batches.setdefault(belongs, []).append(table.take(~np.isin(table.account, erased)))
    return tuple((index, Postings.concat(parts)) for index, parts in sorted(batches.items()))


def _rounds(recorder: Recorder, market: str) -> list[Round]:
    def by_interval(kind: type[T]) -> dict[int, T]:
        return {header.interval: table for _, header, table in recorder.read(kind, market=market)}

    orders, awards, schedules = by_interval(Orders), by_interval(Awards), by_interval(Schedules)
    prices, clearings = by_interval(Prices), by_interval(Clearings)
    if not (set(orders) == set(awards) == set(schedules) == set(prices) == set(clearings)):
        raise RecordIncompleteError(f"a {market} clearing is only partly on record")
    return [
        Round(market, t, orders[t], awards[t], ClearedPeriod(schedules[t], prices[t], clearings[t]))
        for t in sorted(clearings)
    ]


def node_prices(rounds: tuple[Round, ...], column: str) -> NDArray[np.int64]:
    """Prices of successive rounds at every node, int64[rounds, nodes], by node index."""
    return np.stack([getattr(r.period.prices, column)[np.argsort(r.period.prices.node)] for r in rounds])
