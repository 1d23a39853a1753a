"""When is each verb of the market due? Rules by date and local calendar in, times out; pure.

==================================  ==================================================================================
verb                                due
==================================  ==================================================================================
open a day                          `OPEN_LEAD_S` before its day-ahead gate
close the day-ahead gate of a day   at the rules' local time on the day before
close the gate of an interval       `gate_lead_s` before its start
settle an interval                  `settles_after_s` after its end (the longest meter interval that may hold it, and
                                    `reading_wait_s`), on a price run of that time where the rules hold one
correct                             each hour, with the settlement that ends it; and with the last one of a day
close, publish a day                with the settlement of its last interval
finalise a day                      when the day `correction_window_days` later closes
take a snapshot                     with the settlement of every `snapshot_every`-th interval
==================================  ==================================================================================

Each time follows the rules of the day that it is about. What is due at one time is done in the order of the table of
`Verb`: gates first, because their bids wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from tellegen.rules import Rulebook, TimetableParameters
from tellegen.rules.days import day_bounds as day_bounds
from tellegen.rules.days import day_of as day_of
from tellegen.rules.days import local_at
from tellegen.rules.days import periods as periods
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S

OPEN_LEAD_S = 300
"""A day is opened so long before its day-ahead gate: whoever bids there may know its keys."""
_DAY = timedelta(days=1)
_EPOCH = date(1970, 1, 1).toordinal()


class Verb(StrEnum):
    """What the market does by its timetable."""

    CLOSE_DAY_AHEAD = "close_gate day_ahead"
    CLOSE_REAL_TIME = "close_gate real_time"
    OPEN_DAY = "open_day"
    SETTLE = "settle"
    CORRECT = "correct"
    CLOSE_DAY = "close_day"
    PUBLISH = "publish"
    FINALISE = "finalise"
    SNAPSHOT = "snapshot"


_ORDER = {
    Verb.CLOSE_DAY_AHEAD: 0,
    Verb.CLOSE_REAL_TIME: 10,
    Verb.OPEN_DAY: 20,
    Verb.SETTLE: 40,
    Verb.CORRECT: 50,
    Verb.CLOSE_DAY: 60,
    Verb.PUBLISH: 70,
    Verb.FINALISE: 80,
    Verb.SNAPSHOT: 90,
}


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """A verb and its time; sorted as it is to be done.

    Attributes
    ----------
    at : seconds since the epoch, UTC.
    order : place among what is due at one time.
    verb : what is to be done.
    key : about what. Open, close, publish, finalise: the day, as days since 1970-01-01 (see `day`). Gates: the first
        market interval of the delivery day, or the interval. Settle: the interval. Correct and snapshot: `at`, which is
        the number of the run.
    """

    at: int
    order: int = field(repr=False)
    verb: Verb
    key: int

    @classmethod
    def of(cls, verb: Verb, at: int, key: int) -> Due:
        """A verb at its place in the order."""
        return cls(at, _ORDER[verb], verb, key)

    @property
    def day(self) -> date:
        """The day that it is about, of those verbs that are about a day."""
        return date.fromordinal(_EPOCH + self.key)


def day_number(day: date) -> int:
    """Days since 1970-01-01.

    >>> day_number(date(1970, 1, 2))
    1
    """
    return day.toordinal() - _EPOCH


# Times of the verbs


def open_at(book: Rulebook, day: date) -> int:
    """When a day is opened."""
    return day_ahead_at(book, day) - OPEN_LEAD_S


def day_ahead_at(book: Rulebook, day: date) -> int:
    """When the day-ahead gate of a delivery day closes: never after the day's start."""
    rules = book.at(day)
    start = day_bounds(book, day).start * MARKET_INTERVAL_S
    return min(local_at(rules, day - _DAY, rules.timetable.day_ahead_minute), start)


def day_ahead_deadline(book: Rulebook, day: date) -> int:
    """By when a feeder must be cleared day-ahead: as much later as its periods are longer, but before it is needed."""
    wait = book.at(day).timetable.gate_deadline_s
    start = day_bounds(book, day).start * MARKET_INTERVAL_S
    return min(day_ahead_at(book, day) + INTERVALS_PER_HOUR * wait, start + wait)


def real_time_at(book: Rulebook, interval: int) -> int:
    """When the real-time gate of an interval closes; gates close in the order of intervals."""
    day = day_of(book, interval)
    return _gate_at(book.at(day).timetable, interval, _before(book, day))


def real_time_deadline(book: Rulebook, interval: int) -> int:
    """By when a feeder must be cleared in real time."""
    return interval * MARKET_INTERVAL_S + book.at(day_of(book, interval)).timetable.gate_deadline_s


def settle_at(book: Rulebook, interval: int) -> int:
    """When an interval settles; intervals settle in their order."""
    day = day_of(book, interval)
    return _settle_at(book.at(day).timetable, interval, _before(book, day))


def close_at(book: Rulebook, day: date) -> int:
    """When a day closes: with the settlement of its last interval."""
    return settle_at(book, day_bounds(book, day).stop - 1)


def final_at(book: Rulebook, day: date) -> int:
    """When a day is final: at the close of the day that is the correction window later."""
    return close_at(book, day + _DAY * book.at(day).timetable.correction_window_days)


def shared_anew(book: Rulebook, closing: date) -> tuple[date, ...]:
    """Earlier days whose pools the correction run before a close shares anew: those of an age in `correction_days`."""
    oldest = max(rules.timetable.correction_window_days for rules in book.versions)
    first = max(closing - _DAY * oldest, book.versions[0].effective)
    ages = range((closing - first).days, 0, -1)
    return tuple(
        day
        for age in ages
        if age in book.at(day := closing - _DAY * age).timetable.correction_days and day_bounds(book, day)
    )


def _before(book: Rulebook, day: date) -> tuple[TimetableParameters, int] | None:
    """Calendar and last interval of the day before, where there is one."""
    if book.versions[0].effective >= day:
        return None
    return book.at(day - _DAY).timetable, day_bounds(book, day).start - 1


# where a new version waits less or leads more, the last interval of the old day still comes first


def _gate_at(own: TimetableParameters, interval: int, before: tuple[TimetableParameters, int] | None) -> int:
    at = interval * MARKET_INTERVAL_S - own.gate_lead_s
    return at if before is None else max(at, before[1] * MARKET_INTERVAL_S - before[0].gate_lead_s)


def _settle_at(own: TimetableParameters, interval: int, before: tuple[TimetableParameters, int] | None) -> int:
    at = (interval + 1) * MARKET_INTERVAL_S + own.settles_after_s
    return at if before is None else max(at, (before[1] + 1) * MARKET_INTERVAL_S + before[0].settles_after_s)


# The timetable


def due(book: Rulebook, after: int, until: int, since: date | None = None) -> tuple[Due, ...]:
    """What is due later than `after` and not later than `until`, as it is to be done.

    Days before the first version of the rules have nothing due.

    Parameters
    ----------
    book : which rules govern which day.
    after, until : seconds since the epoch, UTC.
    since : a market's first day; those before have nothing due. None: all days.

    Examples
    --------
    >>> noon = 1477735200  # 2016-10-29 12:00 UTC
    >>> [(each.verb.value, each.key) for each in due(Rulebook.load(), noon, noon + 60)]
    [('settle', 4925783), ('correct', 1477735260), ('snapshot', 1477735260)]
    """
    if until <= after:
        return ()
    first = max(book.versions[0].effective, date.min if since is None else since)
    found = [each for day in _days(first, after, until, 0) for each in _of_day(book, day) if after < each.at <= until]
    for window in {rules.timetable.correction_window_days for rules in book.versions}:
        for day in _days(first, after, until, window):
            if book.at(day).timetable.correction_window_days == window and day_bounds(book, day):
                at = final_at(book, day)
                if after < at <= until:
                    found.append(Due.of(Verb.FINALISE, at, day_number(day)))
    return tuple(sorted(set(found)))  # a run of two intervals that settle at one time is one run


def _days(since: date, after: int, until: int, window: int) -> Iterator[date]:
    """Days about which anything may be due so many days after their close."""
    first = datetime.fromtimestamp(after, tz=UTC).date() - _DAY * (3 + window)
    last = datetime.fromtimestamp(until, tz=UTC).date() + _DAY * (3 - window)
    day = max(first, since)
    while day <= last:
        yield day
        day += _DAY


def _of_day(book: Rulebook, day: date) -> Iterator[Due]:
    """All that is due about one day but its end, without order."""
    bounds = day_bounds(book, day)
    if not bounds:
        return
    own, before, number = book.at(day).timetable, _before(book, day), day_number(day)
    yield Due.of(Verb.OPEN_DAY, open_at(book, day), number)
    yield Due.of(Verb.CLOSE_DAY_AHEAD, day_ahead_at(book, day), bounds.start)
    for interval in bounds:
        yield Due.of(Verb.CLOSE_REAL_TIME, _gate_at(own, interval, before), interval)
        at = _settle_at(own, interval, before)
        yield Due.of(Verb.SETTLE, at, interval)
        if (interval + 1) % INTERVALS_PER_HOUR == 0 or interval == bounds[-1]:
            yield Due.of(Verb.CORRECT, at, at)
        if (interval + 1) % own.snapshot_every == 0:
            yield Due.of(Verb.SNAPSHOT, at, at)
    yield Due.of(Verb.CLOSE_DAY, at, number)
    yield Due.of(Verb.PUBLISH, at, number)
