"""The operator's loop: what is due, when it is due, until somebody stops it.

It knows when; the market knows how. A market whose disk refuses is closed, its state dropped, and opened again each
second until it can go on; what was due meanwhile is done late, by the same rules. Prices that cannot be read, and an
intake that is silent, hold nobody up: gates go without, as the rulebook says.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from typing import Protocol

from tellegen.books import BooksError
from tellegen.errors import InputError
from tellegen.journal import JournalError
from tellegen.operations.clock import Clock
from tellegen.operations.price_proof import NOTHING, Provenance
from tellegen.operations.prices import PriceFile
from tellegen.operations.refusals import NotYetError
from tellegen.operations.requirements import ReserveFile
from tellegen.operations.timetable import (
    Due,
    Verb,
    day_bounds,
    day_of,
    due,
    periods,
)
from tellegen.privacy import VaultError
from tellegen.records import Requirements, RootPrices
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.units import INTERVALS_PER_HOUR, interval_start

HORIZON_S = 3600
"""What is due is looked up so far ahead at a time."""
REOPEN_S = 1
"""Seconds between two tries to open a market whose disk refused."""
RETRY_S = 1
"""Seconds between two tries of what needs something of the intake that is not there yet."""
WORK_S = 1.0
"""Longest wait for a day-ahead feeder: by then it is seen that somebody stops the operator."""
PATIENCE_S = 300
"""An intake that puts nothing on record for so long is not well: it ticks."""
_FREE = (Verb.CLOSE_DAY_AHEAD, Verb.CLOSE_REAL_TIME, Verb.OPEN_DAY)
_CLOSED_ORDER = Due.of(Verb.CLOSE_DAY, 0, 0).order
"""What comes behind the close of a day at the same time belongs to it."""
REFUSALS = (JournalError, BooksError, VaultError, OSError)
"""What a disk's refusal looks like."""


GATES = {Verb.CLOSE_DAY_AHEAD: DAY_AHEAD, Verb.CLOSE_REAL_TIME: REAL_TIME}
"""The market whose gate a verb closes."""


class Verbs(Protocol):
    """A market, as its timetable uses it.

    Every verb may be asked again: what was done is not done twice. One that needs what the intake has not put on record
    yet raises `NotYetError`.
    """

    @property
    def book(self) -> Rulebook:
        """The rulebook on record."""

    @property
    def first_day(self) -> date | None:
        """The first day of the market; None: its rules' first."""

    @property
    def done_until(self) -> int:
        """Time (seconds since the epoch) up to which nothing that is due is left to do."""

    def is_done(self, what: Due) -> bool:
        """Whether a verb has been done."""

    def open_day(self, day: date, at: int) -> object:
        """Put the day's sharing keys on record."""

    @property
    def feeders(self) -> tuple[str, ...]:
        """Names of the feeders."""

    def take_requirements(self, market: str, feeder: str, rows: Requirements, at: int) -> object:
        """Put on record what reserve is asked for on a feeder; what is there already is not put again."""

    def take_prices(self, market: str, rows: RootPrices, at: int, provenance: Provenance = NOTHING) -> object:
        """Put wholesale prices on record, and where they come from; what is there already is not put again."""

    def close_gate(self, market: str, period: int, at: int) -> object:
        """Close a gate and clear."""

    @property
    def clearing(self) -> int | None:
        """First interval of the delivery day whose gate was closed and is still being cleared; None: there is none."""

    def work(self, at: int, wait_s: float) -> object | None:
        """Go on with it, for so many seconds; what it came to, once it is complete."""

    def settle(self, interval: int, at: int) -> object:
        """Settle an interval."""

    def correct(self, run: int, at: int) -> object:
        """Settle what came late."""

    def close_day(self, day: date, at: int) -> object:
        """Close a day."""

    def finalise(self, day: date, at: int) -> object:
        """Nothing about the day moves money any more."""

    def snapshot(self, at: int) -> object:
        """Keep the fold."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: a verb that was done, or a warning.

    Attributes
    ----------
    at : seconds since the epoch. due : the verb; None for a warning. result : what the verb says that it did.
    warning : one line; empty otherwise. following : what is due next.
    """

    at: int
    due: Due | None = None
    result: object = None
    warning: str = ""
    following: Due | None = None


Listener = Callable[[Event], None]
Publish = Callable[[date, int], object]
Upkeep = Callable[[Verbs, int], Callable[[], object] | None]


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs a market by its timetable.

    Attributes
    ----------
    open_market : opens it; what it gives is closed at the end, and where the disk refuses.
    clock : says when. stop : ends the run, between two verbs.
    prices : where wholesale prices come from; None: from elsewhere, by `take_prices`.
    reserves : where it stands what reserve is asked for; None: elsewhere, by `take_requirements`.
    publish : called when a day is to be published; None: days are not.
    upkeep : asked when a day has been closed; what it gives is called with the market closed, which is opened again
        behind it. None: there is nothing to be done.
    tell : told what happens.
    """

    open_market: Callable[[], AbstractContextManager[Verbs]]
    clock: Clock
    stop: threading.Event
    prices: PriceFile | None = None
    reserves: ReserveFile | None = None
    publish: Publish | None = None
    upkeep: Upkeep = lambda market, at: None
    tell: Listener = lambda event: None

    def does(self, verb: Verb) -> bool:
        """Whether it does such things: it may publish nothing."""
        return verb is not Verb.PUBLISH or self.publish is not None

    def run(self, until: int | None = None) -> None:
        """Do what is due until `stop` is set, or all that is due by `until` is done.

        Raises
        ------
        TellegenError : the market cannot be opened at the start, or a verb is asked for what its record does not allow.
        """
        warned = _Warned(self.tell, self.clock)
        opened = False
        while not self.stop.is_set():
            try:
                with self.open_market() as market:
                    opened = True
                    at_rest = _Loop(self, market, warned).run(until)
                if at_rest is None:
                    return
                at_rest()
            except REFUSALS as error:
                if not opened:
                    raise
                warned.about("disk", f"the disk refuses ({error}); the market opens again as soon as it can")
                self.stop.wait(REOPEN_S)


class _Warned:
    """Warnings that were given: each once, until what it is about changes."""

    def __init__(self, tell: Listener, clock: Clock) -> None:
        self._tell, self._clock = tell, clock
        self._said: dict[str, str] = {}

    def stands(self, subject: str) -> bool:
        """Whether the last that was said of a subject was a warning."""
        return bool(self._said.get(subject))

    def about(self, subject: str, words: str) -> None:
        """Warn, unless the same was the last that was said of the subject; no words: all is well again."""
        if self._said.get(subject, "") != words:
            self._said[subject] = words
            if words:
                self._tell(Event(self._clock.now(), warning=words))


def perform(market: Verbs, what: Due, at: int) -> object:
    """Do what is due of a market; what is to be published is for others."""
    match what.verb:
        case Verb.OPEN_DAY:
            return market.open_day(what.day, at)
        case Verb.CLOSE_DAY_AHEAD | Verb.CLOSE_REAL_TIME:
            return market.close_gate(GATES[what.verb], what.key, at)
        case Verb.SETTLE:
            return market.settle(what.key, at)
        case Verb.CORRECT:
            return market.correct(what.key, at)
        case Verb.CLOSE_DAY:
            return market.close_day(what.day, at)
        case Verb.FINALISE:
            return market.finalise(what.day, at)
        case Verb.SNAPSHOT:
            return market.snapshot(at)
        case Verb.PUBLISH:
            return None


class _Loop:
    """One open market until it is stopped.

    A verb that cannot be done yet is held, and tried again each second; whatever follows from it waits behind it. Gates
    do not: their bids are there.
    """

    def __init__(self, operator: Operator, market: Verbs, warned: _Warned) -> None:
        self._by, self._market, self._warned = operator, market, warned
        self._held: deque[Due] = deque()

    def run(self, until: int | None) -> Callable[[], object] | None:
        """Do what is due; what is to be done with the market closed, before it goes on, or None at the end."""
        looked, closed = self._market.done_until, False
        while until is None or looked < until:
            horizon = max(self._by.clock.now(), looked) + HORIZON_S
            horizon = horizon if until is None else min(horizon, until)
            whole = due(self._market.book, looked, horizon, self._market.first_day)
            left = [each for each in whole if self._by.does(each.verb) and not self._market.is_done(each)]
            for each, following in zip_longest(left, left[1:]):
                if closed and each.order < _CLOSED_ORDER:
                    closed = False
                    at_rest = self._by.upkeep(self._market, self._by.clock.now())
                    if at_rest is not None:
                        return at_rest
                self._let_pass(each.at, each.order)
                self._wait(each.at, each.order)
                self._look_at_clock()
                if self._by.stop.is_set():
                    return None
                if not self._may(each) or not self._try(each, following):
                    self._held.append(each)
                closed |= each.verb is Verb.CLOSE_DAY
            looked = horizon
        if until is not None:
            self._let_pass(until + PATIENCE_S)
        return None

    def _let_pass(self, until: int, order: int = 0) -> None:
        """Until a time, or until nothing is held: do what is held as soon as it can be."""
        clock, stop = self._by.clock, self._by.stop
        while self._held and clock.now() < until and not stop.is_set():
            clock.wait(min(until, clock.now() + RETRY_S), order)
            held, self._held = self._held, deque()
            for each in held:
                if stop.is_set() or not self._may(each) or not self._try(each, None):
                    self._held.append(each)
            late = self._held and clock.now() - self._held[0].at > PATIENCE_S
            words = "the intake has put nothing on record for minutes; is it running?"
            self._warned.about("intake", words if late else "")

    def _wait(self, until: int, order: int) -> None:
        """Wait for a time; a day-ahead gate that is being cleared goes on meanwhile."""
        clock, stop = self._by.clock, self._by.stop
        while self._market.clearing is not None and clock.now() < until and not stop.is_set():
            self._work(min(WORK_S, float(until - clock.now())))
        clock.wait(until, order)

    def _work(self, wait_s: float) -> None:
        at, first = self._by.clock.now(), self._market.clearing
        came_to = None if first is None else self._market.work(at, wait_s)
        if came_to is not None and first is not None:
            self._by.tell(Event(at, Due.of(Verb.CLOSE_DAY_AHEAD, at, first), came_to))

    def _look_at_clock(self) -> None:
        stepped = self._by.clock.stepped_s
        if not stepped or not self._warned.stands("clock"):
            words = f"the wall clock has jumped by {stepped} s and is not followed; set it right"
            self._warned.about("clock", words if stepped else "")

    def _may(self, what: Due) -> bool:
        return not self._held or what.verb in _FREE

    def _try(self, what: Due, following: Due | None) -> bool:
        """Do something, if it can be done by now."""
        try:
            result = self._do(what)
        except NotYetError:
            return False
        if what.verb is Verb.CLOSE_DAY_AHEAD and self._market.clearing == what.key:
            return True  # told once it has been cleared
        self._by.tell(Event(self._by.clock.now(), what, result, following=following))
        self._work(0.0)
        return True

    def _do(self, what: Due) -> object:
        at = self._by.clock.now()
        if what.verb is Verb.PUBLISH:
            return None if self._by.publish is None else self._by.publish(what.day, at)
        if what.verb in GATES:
            self._take_prices(GATES[what.verb], what.key, at)
            self._take_requirements(GATES[what.verb], what.key, at)
        return perform(self._market, what, at)

    def _take_prices(self, market: str, first: int, at: int) -> None:
        prices, book = self._by.prices, self._market.book
        if prices is None:
            return
        try:
            prices.refresh_at(at)
        except InputError as error:
            self._warned.about("price file", f"{error}; prices read before it stand")
        if market == REAL_TIME:
            # the rest of the hour comes along: a commit an hour, not a gate; what the file says later still replaces it
            hour = range(first, first - first % INTERVALS_PER_HOUR + INTERVALS_PER_HOUR)
            wanted, asked = [first], [range(interval, interval + 1) for interval in hour]
        else:
            asked = list(periods(day_bounds(book, day_of(book, first))))
            wanted = [hour.start for hour in asked]
        address = book.at(day_of(book, first)).root_prices.source
        quotes = prices.series.of(market, asked, address, prices.read_at)
        rows, wrong = quotes.proven(lambda interval: book.at(day_of(book, interval)).root_prices)
        if len(rows):
            self._market.take_prices(market, rows, at, quotes.provenance)
        unproven = [wrong[interval] for interval in wanted if interval in wrong]
        missing = sorted({*wanted}.difference(rows.interval.tolist()))
        if not missing:
            self._warned.about(market, "")
        elif not self._warned.stands(market):
            words = f"{prices.path}: no {market} price from {_said(missing[0])} on; gates go without, append to it"
            self._warned.about(market, f"{unproven[0]}; refused, gates go without" if unproven else words)
        end = prices.series.real_time.end
        if market == REAL_TIME and 0 < end - first <= INTERVALS_PER_HOUR:
            self._warned.about("price series", f"{prices.path}: prices end at {_said(end)}; append to it")

    def _take_requirements(self, market: str, first: int, at: int) -> None:
        reserves, book = self._by.reserves, self._market.book
        if reserves is None:
            return
        try:
            reserves.refresh()
            self._warned.about("reserve file", "")
        except InputError as error:
            self._warned.about("reserve file", f"{error}; what was read before it stands")
        asked = [first]
        if market == DAY_AHEAD:
            asked = [hour.start for hour in periods(day_bounds(book, day_of(book, first)))]
        for feeder in self._market.feeders:
            rows = reserves.content.on(feeder, asked)
            if len(rows):
                self._market.take_requirements(market, feeder, rows, at)


def _said(interval: int) -> str:
    return f"{interval_start(interval):%Y-%m-%d %H:%M} UTC"
