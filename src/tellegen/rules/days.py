"""Billing days as market intervals: from local midnight to local midnight, each in the zone of its own day's rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tellegen.rules.calendar import MIDNIGHT_MIN
from tellegen.rules.rulebook import Rulebook, Rules
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S

_DAY = timedelta(days=1)


def day_bounds(book: Rulebook, day: date) -> range:
    """Market intervals of a billing day: from its local midnight to that of the next, each in the zone of its own day.

    Days partition the time from the first governed day on, whatever the zones. A day is empty where no local time has
    its date, and where a change of zones puts the next midnight before its own; the next day then begins with it.

    Raises
    ------
    InputError : no version of the rules was in force.

    Examples
    --------
    >>> from tellegen.rules import Rulebook
    >>> day_bounds(Rulebook.load(), date(2016, 10, 30)), len(day_bounds(Rulebook.load(), date(2016, 10, 30)))
    (range(4925928, 4926228), 300)
    """
    return range(_first_interval(book, day), _first_interval(book, day + _DAY))


def day_of(book: Rulebook, interval: int) -> date:
    """The billing day that a market interval belongs to.

    Raises
    ------
    InputError : no version of the rules was in force.
    """
    near = datetime.fromtimestamp(interval * MARKET_INTERVAL_S, tz=UTC).date()
    day = near + _DAY  # local time is ahead of UTC by less than a day, and behind by less
    while interval < _first_interval(book, day):
        day -= _DAY
    return day


def periods(bounds: range) -> tuple[range, ...]:
    """Periods of the day-ahead market: hours from the day's start; the last is shorter where the day ends within it.

    >>> [len(hour) for hour in periods(range(5, 5 + 18))]
    [12, 6]
    """
    return tuple(
        range(first, min(first + INTERVALS_PER_HOUR, bounds.stop))
        for first in range(bounds.start, bounds.stop, INTERVALS_PER_HOUR)
    )


def _first_interval(book: Rulebook, day: date) -> int:
    own = _midnight(book.at(day), day)
    before = book.at(day - _DAY) if book.versions[0].effective < day else None
    if before is not None and before.settlement.time_zone != book.at(day).settlement.time_zone:
        own = max(own, _midnight(before, day - _DAY))  # zones differ by up to 26 hours: a day does not begin backwards
    return own // MARKET_INTERVAL_S


def _midnight(rules: Rules, day: date) -> int:
    return local_at(rules, day, 0)


def local_at(rules: Rules, day: date, minute: int) -> int:
    """Seconds since the epoch of a local minute; the first of two, and the same moment for one that is skipped."""
    clock = time(minute // 60 % 24, minute % 60)
    zone = ZoneInfo(rules.settlement.time_zone)
    return int(datetime.combine(day + _DAY * (minute // MIDNIGHT_MIN), clock, tzinfo=zone).timestamp())
