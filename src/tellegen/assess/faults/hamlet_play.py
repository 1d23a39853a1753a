"""A hamlet's first days under a clock that stands while nobody waits for it: its senders, its intake, its market.

The first day is an hour long, by rules that move the shard to another zone at its midnight; the second has 22 hours,
which the operator sleeps through. So two closes, a correction between them, and the end of a correction window fit
into a few seconds:

* intervals 4 and 5 of the first day are missed, interval 7 has no wholesale price, all others are cleared
* a customer leaves before interval 10
* readings of interval 3 come within the day, of interval 5 after its close, one of interval 6 is read again
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from tellegen.assess.faults.hamlet import STREETS, SUBSTATIONS, Hamlet, HamletPlan, Move, root_prices, rules
from tellegen.intake.intake import Intake
from tellegen.intake.limits import IntakeLimits
from tellegen.intake.registry_changes import SentChanges
from tellegen.intake.sent import Sent, SentBids, SentReadings
from tellegen.journal.clock import TRIALS, RecordClock
from tellegen.journal.database import SQLITE, Databases
from tellegen.journal.storage import FILES, Storage
from tellegen.operations.clock import Simulated
from tellegen.operations.process import Event, Operator, Verbs
from tellegen.operations.timetable import close_at, day_bounds, periods
from tellegen.records import Route
from tellegen.simulation.batches import SignedBatch
from tellegen.units import MARKET_INTERVAL_S, IntArray

DAY, NEXT = date(2016, 6, 1), date(2016, 6, 2)
_TIMES = {"correction_window_days": "1", "correction_days": "[1]"}
_BY_GATES = {"settles": "false"}
"""Prices of gates do not depend on who was read in time: whatever comes late ends where it would have in time."""
BOOK = rules(
    {
        "2016-06-01": {**_TIMES, **_BY_GATES, "time_zone": '"Pacific/Pago_Pago"'},
        "2016-06-02": {**_TIMES, **_BY_GATES, "time_zone": '"Pacific/Funafuti"'},
        "2016-06-03": {**_TIMES, **_BY_GATES, "time_zone": '"Pacific/Kiritimati"'},
    }
)
FIRST = day_bounds(BOOK, DAY).start
LEAVES = 3
"""A customer who leaves on the first day, and may be erased when that is final."""
SHORT_DAY = HamletPlan(FIRST, BOOK, DAY.isoformat(), moves=(Move(FIRST + 10, LEAVES, -1),))
MISSED, UNPRICED = (FIRST + 4, FIRST + 5), FIRST + 7
END = close_at(BOOK, NEXT) + 1
_DECODE: dict[str, Callable[[bytes], Sent | SentChanges]] = {
    Route.BIDS: SentBids.from_bytes,
    Route.READINGS: SentReadings.from_bytes,
    Route.ADMISSIONS: SentChanges.from_bytes,
}
EVERYBODY: IntArray = np.array([*(c for who in STREETS for c in who)], dtype=np.int64)


@dataclass(slots=True)
class Play:
    """What happens around a market, by time; the market is whoever waits for the clock.

    Parameters
    ----------
    hamlet : who sends. storage, databases : the disk of the intake's journal, and of the vault.
    """

    hamlet: Hamlet
    storage: Storage = FILES
    databases: Databases = SQLITE
    clock: Simulated = field(init=False)
    intake: Intake | None = None
    events: list[Event] = field(default_factory=list)
    asked: list[tuple[str, int, SignedBatch]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Simulated((self.hamlet.plan.first - 11) * MARKET_INTERVAL_S)

    @property
    def path(self) -> Path:
        """The directory of the shard."""
        return self.hamlet.keys.path

    def open_intake(self) -> Intake:
        """The intake, opened where it is not."""
        if self.intake is None:
            self.intake = Intake.open(
                self.path,
                IntakeLimits(rows_per_s_max=10**9),
                lambda newest: RecordClock(
                    wall=self.time, elapsed=self.clock.elapsed, not_before=newest, bounds=TRIALS
                ),
                storage=self.storage,
                databases=self.databases,
                accept_clock="hamlet",
            )
        return self.intake

    def time(self) -> float:
        """What the clock on the intake's wall says."""
        return float(self.clock.now())

    def close(self) -> None:
        """Release the intake's files."""
        if self.intake is not None:
            self.intake.close()
            self.intake = None

    # Acts

    def take(self, *batches: SignedBatch) -> int:
        """Hand batches in; rows that count."""
        intake, counted = self.open_intake(), 0
        for batch in batches:
            decode = _DECODE[batch.statement.route]
            counted += intake.take(batch.statement, batch.signature, partial(decode, batch.body)).accepted
        intake.commit()
        return counted

    def tick(self) -> None:
        """The intake's record reaches now."""
        self.open_intake().tick(self.clock.now())
        self.open_intake().commit()

    def at(self, time: int, act: Callable[[], object]) -> None:
        """Have something done at a time; what does not come to its end is done again."""

        def done() -> None:
            try:
                act()
            except BaseException:
                self.clock.at(time, done)
                raise

        self.clock.at(time, done)

    def everyday(self, intervals: range, missing: dict[int, list[int]] | None = None) -> None:
        """Bids before and readings after each interval, and the ticks of the intake's clock.

        Parameters
        ----------
        missing : customers whose readings do not come, by interval.
        """
        absent = {} if missing is None else missing
        before = self.hamlet.plan.first - 1
        if intervals.start == before + 1:
            self.at(intervals.start * MARKET_INTERVAL_S + 1, lambda: self.take(*self.hamlet.readings(before)))
        for t in intervals:
            start, end = t * MARKET_INTERVAL_S, (t + 1) * MARKET_INTERVAL_S
            self.at(start - 20, partial(self._bid, t))
            self.at(start, self.tick)
            self.at(end + 20, partial(self._read, t, absent.get(t, [])))
            self.at(end + 60, self.tick)

    def day_ahead(self, day: date, at: int) -> None:
        """Everybody bids for a day."""
        bounds = day_bounds(self.hamlet.plan.rulebook, day)
        hours = len(periods(bounds))
        self.at(at, lambda: self.take(*self.hamlet.bids("day_ahead", bounds.start, hours)))

    def _bid(self, interval: int) -> None:
        self.take(*self.hamlet.bids("real_time", interval))

    def _read(self, interval: int, missing: list[int]) -> None:
        sends = [c for c in (*EVERYBODY.tolist(), *SUBSTATIONS) if c not in missing]
        self.take(*self.hamlet.readings(interval, sends))

    def operate(self, market: Verbs, until: int) -> None:
        """Let the operator do what is due until a time."""
        Operator(lambda: nullcontext(market), self.clock, threading.Event(), tell=self.events.append).run(until)


def short_day(play: Play) -> None:
    """Put all that happens around the market on the clock."""
    hamlet, first = play.hamlet, FIRST
    start = first * MARKET_INTERVAL_S
    end = start + 12 * MARKET_INTERVAL_S
    play.day_ahead(DAY, start - 400)
    play.everyday(range(first, first + 12), {first + 3: [2], first + 5: [3, 8]})
    # the operator is down for nine minutes: the world goes on without it
    down = MISSED[0] * MARKET_INTERVAL_S - 1
    play.at(down, lambda: play.clock.wait(down + 551))
    play.at(start + 2_700, lambda: play.take(*hamlet.readings(first + 3, [2], part=1)))
    play.at(end + 200, lambda: play.take(*hamlet.readings(first + 5, [3, 8], part=1)))
    play.at(end + 210, lambda: play.take(*hamlet.readings(first + 6, [1], part=1, again_at=first + 12)))
    play.at(end + 3_600 + 60, play.tick)
    night = end + 3_700  # the operator sleeps until the second day is over
    play.at(night, lambda: play.clock.wait(END - 120))
    play.at(END - 30, play.tick)
    play.at(END + 30, play.tick)


def give_prices(market: Verbs, at: int) -> None:
    """Wholesale prices of the first day, in one go; of one interval there is none."""
    bounds = day_bounds(BOOK, DAY)
    market.take_prices("real_time", root_prices([t for t in bounds if t != UNPRICED]), at)
    market.take_prices("day_ahead", root_prices([hour.start for hour in periods(bounds)]), at)
