"""The course of a simulated day: what the world does and what the operator does, each at its time.

The world's acts wait in the simulated clock; the operator's verbs come from its timetable. Neither calls the other:
what they know of each other went over a `Counter`, which stands between two processes as well (`simulation.apart`).

=====================================  ===============================================================================
time                                   act of the world
=====================================  ===============================================================================
a second before the day-ahead gate     the wholesale market's hours are published, everybody bids for the day
after it                               awards and prices are fetched, and the day planned again
start of the day                       registers are read from which its energy counts
a second before each interval          devices have done what they were awarded for the one before; its real-time price
                                       is published, everybody bids
start of each interval                 the meters are read; then the gate closes, and the awards are fetched, and the
                                       price at which the interval before last settled
end of the day `CORRECTION_AFTER`      what the meter that failed had in its memory arrives
=====================================  ===============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

import numpy as np

from tellegen.errors import TellegenError
from tellegen.operations.clock import Clock, Simulated
from tellegen.operations.exchange import Awarded, AwardsRequest, Exchange, PriceRole
from tellegen.operations.price_proof import NOTHING, Provenance
from tellegen.operations.timetable import (
    Due,
    Verb,
    close_at,
    day_ahead_at,
    day_bounds,
    day_number,
    due,
    real_time_at,
    settle_at,
)
from tellegen.records import RootPrices
from tellegen.records.market import DAY_AHEAD, PRICE_RUN, REAL_TIME
from tellegen.simulation.batches import SignedBatch
from tellegen.simulation.residents import Residents
from tellegen.simulation.setup import Setup
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S

Progress = Callable[[str, int, int], None]
"""Told what is going on: stage, steps done, steps in all."""
DAY_AHEAD_MARKET, MARKET_DAY = "day-ahead market", "market day"
"""Stages of a day: the first is done with its only step, the second counts intervals that have been settled."""
CORRECTION_AFTER = timedelta(days=3)
"""The true readings of a meter that failed arrive at the end of the day so much later."""
BEFORE_GATE_S = 1
SETTLED_BEFORE = 2
"""The price that settles an interval is asked for with the awards of the second one after it: it has settled then, and
nobody waits for it."""
AFTER_GATES = 15
"""Place of hearing among what is due at one time: the gates have closed, nothing else has been done."""


class Verbs(Protocol):
    """What the operator does by its timetable; each verb is done once, however often it is asked for."""

    def open_day(self, day: date, at: int) -> object:
        """Freeze the sharing keys of a day."""

    def take_prices(self, market: str, prices: RootPrices, at: int, provenance: Provenance) -> object:
        """Take wholesale prices, and where they come from."""

    def close_gate(self, market: str, interval: int, at: int) -> object:
        """Clear what was bid for a period."""

    def settle(self, interval: int, at: int) -> object:
        """Turn readings into postings."""

    def close_day(self, day: date, at: int) -> object:
        """Close a billing day."""

    def correct(self, run: int, at: int) -> object:
        """Settle what came late."""

    def finalise(self, day: date, at: int) -> object:
        """Say that nothing will move a day any more."""

    def snapshot(self, at: int) -> object:
        """Keep the state for the next opening."""


class WorldError(TellegenError):
    """The operator did not take what the world handed in."""


class Counter(Protocol):
    """Where the world meets the operator."""

    def publish(self, market: str, prices: RootPrices, provenance: Provenance) -> None:
        """Let the operator know wholesale prices, as it would read them from a feed, and from which document."""

    def hand_in(self, batch: SignedBatch) -> None:
        """Hand in a batch.

        Raises
        ------
        WorldError : rows of it are refused; also later, where nobody waits for the answer.
        """

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        """Fetch awards and prices, once everything before has been done."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenCounter:
    """A counter of an operator in the same process.

    Attributes
    ----------
    exchange : the operator as the world knows it. verbs : the operator, to whom the wholesale prices are given.
    clock : the time there.
    """

    exchange: Exchange
    verbs: Verbs
    clock: Clock

    def publish(self, market: str, prices: RootPrices, provenance: Provenance) -> None:
        """See `Counter`."""
        self.verbs.take_prices(market, prices, self.clock.now(), provenance)

    def hand_in(self, batch: SignedBatch) -> None:
        """See `Counter`."""
        reply = self.exchange.hand_in(batch.statement, batch.signature, batch.body)
        if reply.refused:
            first = reply.refused[0]
            raise WorldError(
                f"{batch.statement.name()} about interval {batch.statement.interval}: {len(reply.refused)} rows "
                f"are refused, row {first.row} because {first.detail}"
            )

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        """See `Counter`."""
        return self.exchange.awards(request, signature)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything outside the operator: residents, wholesale market, and the counter at which it is met.

    Attributes
    ----------
    setup : the scenario made ready. residents : those who act. counter : the operator as they know it.
    clock : the world's.
    """

    setup: Setup
    residents: Residents
    counter: Counter
    clock: Simulated

    def begin(self) -> None:
        """Set the acts of the day, and what comes late of it."""
        setup, at = self.setup, self.clock.at
        book, first = setup.rulebook, setup.first
        gate = day_ahead_at(book, setup.scenario.day.date)
        at(gate - BEFORE_GATE_S, self._offer_day)
        at(gate, self._hear_day, AFTER_GATES)
        at(first * MARKET_INTERVAL_S, lambda: self._read(first - 1))
        for interval in range(first, first + setup.intervals):
            self._begin_interval(interval, real_time_at(book, interval))
        if setup.scenario.fault is not None:
            at(correction_at(setup), lambda: self._hand_in(self.residents.late_readings()))

    def _begin_interval(self, interval: int, gate: int) -> None:
        at = self.clock.at
        at(gate - BEFORE_GATE_S, lambda: self._offer(interval))
        at(gate, lambda: self._hear(interval), AFTER_GATES)
        end = (interval + 1) * MARKET_INTERVAL_S
        at(end - BEFORE_GATE_S, lambda: self.residents.live(interval), -1)  # before the bids for the next
        at(end, lambda: self._read(interval))

    def _offer_day(self) -> None:
        setup, wholesale, now = self.setup, self.setup.wholesale, self.clock.now()
        step = np.arange(0, setup.community.intervals, INTERVALS_PER_HOUR)
        self._publish(DAY_AHEAD, setup.first + step, wholesale.day_ahead_micros[wholesale.past + step])
        self._hand_in(self.residents.bid_day_ahead(now))

    def _hear_day(self) -> None:
        now = self.clock.now()
        asked = self.residents.ask(DAY_AHEAD, self.setup.first, now)
        self.residents.hear_day_ahead(self.counter.awards(*asked), now)

    def _offer(self, interval: int) -> None:
        wholesale = self.setup.wholesale
        step = np.array([interval - self.setup.first])
        self._publish(REAL_TIME, np.array([interval]), wholesale.real_time_micros[wholesale.past + step])
        self._hand_in(self.residents.bid(interval))

    def _hear(self, interval: int) -> None:
        now = self.clock.now()
        heard = self.counter.awards(*self.residents.ask(REAL_TIME, interval, now))
        self.residents.hear(heard)
        settled = interval - SETTLED_BEFORE
        if heard.prices is PriceRole.GUIDE and settled >= self.setup.first:
            answer = self.counter.awards(*self.residents.ask(PRICE_RUN, settled, now))
            self.residents.hear_settled(answer, SETTLED_BEFORE)

    def _read(self, interval: int) -> None:
        self._hand_in([self.residents.read(interval)])

    def _publish(self, market: str, interval: np.ndarray, micros: np.ndarray) -> None:
        wholesale, address = self.setup.wholesale, self.setup.rules.root_prices.source
        source = np.full(interval.size, wholesale.source[:64].encode("ascii", "replace"), dtype="S64")
        prices, provenance = RootPrices(interval=interval, micros=micros, source=source), NOTHING
        if wholesale.digest:
            provenance = Provenance.of_document(
                address or wholesale.name, self.clock.now(), wholesale.size, wholesale.digest
            )
        self.counter.publish(market, prices, provenance)

    def _hand_in(self, batches: Iterable[SignedBatch]) -> None:
        for batch in batches:
            self.counter.hand_in(batch)


def play_day(
    setup: Setup, verbs: Verbs, clock: Clock, progress: Progress, tick: Callable[[int], None] = lambda at: None
) -> None:
    """Let the day pass, from the opening of its books to their close.

    Parameters
    ----------
    clock : whoever waits for it lets the world act.
    tick : lets the intake's record reach a time, as its own clock does while nobody sends.
    """
    hours = setup.intervals // INTERVALS_PER_HOUR
    for each in verbs_of_day(setup):
        clock.wait(each.at, each.order)
        tick(each.at)
        perform(verbs, each)
        if each.verb is Verb.CLOSE_DAY_AHEAD:
            progress(DAY_AHEAD_MARKET, hours, hours)
        elif each.verb is Verb.SETTLE:
            progress(MARKET_DAY, each.key - setup.first + 1, setup.intervals)


def play_correction(setup: Setup, verbs: Verbs, clock: Clock, tick: Callable[[int], None] = lambda at: None) -> None:
    """Let the late readings arrive, and the day close that settles them: its statements say what they move."""
    day = setup.scenario.day.date + CORRECTION_AFTER
    run = close_at(setup.rulebook, day)
    for each in (Due.of(Verb.CORRECT, run, run), Due.of(Verb.CLOSE_DAY, run, day_number(day))):
        clock.wait(each.at, each.order)
        tick(each.at)
        perform(verbs, each)


def correction_at(setup: Setup) -> int:
    """When the true readings of the meter that failed arrive, seconds since the epoch."""
    return day_bounds(setup.rulebook, setup.scenario.day.date + CORRECTION_AFTER).stop * MARKET_INTERVAL_S


def verbs_of_day(setup: Setup) -> Iterator[Due]:
    """What is due about the played day, as it is to be done; a day cut short closes with its last interval played.

    No snapshots: nothing has to open a played day in a hurry, and each is sealed under a key of its own, so that no two
    runs would be the same.
    """
    book, day = setup.rulebook, setup.scenario.day.date
    played = range(setup.first, setup.first + setup.intervals)
    begin, end = settle_at(book, played[0]), settle_at(book, played[-1])
    number = day_number(day)
    for each in due(book, day_ahead_at(book, day) - 2 * INTERVALS_PER_HOUR * MARKET_INTERVAL_S, end):
        match each.verb:
            case Verb.OPEN_DAY if each.key == number:
                yield each
            case Verb.CLOSE_DAY_AHEAD if each.key == setup.first:
                yield each
            case Verb.CLOSE_REAL_TIME | Verb.SETTLE if each.key in played:
                yield each
            case Verb.CORRECT if begin <= each.at < end:
                yield each
    yield Due.of(Verb.CORRECT, end, end)
    yield Due.of(Verb.CLOSE_DAY, end, number)


def perform(verbs: Verbs, each: Due) -> None:
    """Do what is due."""
    match each.verb:
        case Verb.OPEN_DAY:
            verbs.open_day(each.day, each.at)
        case Verb.CLOSE_DAY_AHEAD:
            verbs.close_gate(DAY_AHEAD, each.key, each.at)
        case Verb.CLOSE_REAL_TIME:
            verbs.close_gate(REAL_TIME, each.key, each.at)
        case Verb.SETTLE:
            verbs.settle(each.key, each.at)
        case Verb.CORRECT:
            verbs.correct(each.key, each.at)
        case Verb.CLOSE_DAY:
            verbs.close_day(each.day, each.at)
        case Verb.FINALISE:
            verbs.finalise(each.day, each.at)
        case Verb.SNAPSHOT:
            verbs.snapshot(each.at)
        case Verb.PUBLISH:
            pass  # once the day is corrected: see `tellegen.simulation.play`
