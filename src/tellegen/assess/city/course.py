"""When what is played: the day before, of which most is made in bulk, and the hours that are measured.

``begin .. (bulk) .. day-ahead gate at noon .. (bulk) .. tail with readings | midnight: close .. warm-up, intervals``

The measured intervals end with an hour, so that a run of corrections comes behind them; with a multiple of twelve the
day that closes ends with the warm-up. Where intervals wait for meters of a quarter of an hour, what settles while one
is measured is an earlier one, so there are as many more to warm up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

from tellegen.errors import InputError
from tellegen.operations.timetable import OPEN_LEAD_S, close_at, day_ahead_at, day_bounds
from tellegen.rules import Rulebook
from tellegen.simulation.city.population import City
from tellegen.simulation.city.setup import city_rules
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S

CLOSING_DAY = date(2017, 6, 14)
"""The day before the measured one: 288 intervals, as nearly all have."""
UNCLOSED_HOURS = 6
"""Where no day is closed, so many hours of the measured one are left out."""


@dataclass(frozen=True, slots=True)
class Course:
    """Intervals and times of a run.

    Attributes
    ----------
    behind : how many intervals after one it settles, besides the wait for its readings.
    since : time before which nothing is due. closing : intervals of the day that is closed which are settled.
    whole : intervals in which every reading comes and nobody bids: the one before the first and the first, and those
        around others in which some are held back.
    tail : intervals of the day that is closed in which some readings are held back, as many as are measured.
    day_ahead_at : time of the gate of the measured day; None: nobody bids there. delivery : its intervals.
    close_at : time at which the day closes; None: none does.
    """

    city: City
    behind: int
    book: Rulebook
    since: int
    closing: range
    whole: tuple[int, ...]
    tail: range
    day_ahead_at: int | None
    delivery: range
    close_at: int | None

    @classmethod
    def of(
        cls,
        meters: int,
        intervals: int,
        *,
        shards: int = 2,
        day_intervals: int = 288,
        day_ahead: bool = True,
        close: bool = True,
        coarse: float = 0.0,
        silent: float = 0.0,
        price_run: bool = True,
    ) -> Course:
        """Lay out a run.

        Parameters
        ----------
        day_intervals : of the day that is closed, how many are settled; the market begins with the first of them.
        coarse, silent, price_run : as in `City`.

        Raises
        ------
        InputError : too few or too many.
        """
        city = City(meters, intervals, 0, shards=shards, coarse=coarse, silent=silent, price_run=price_run)
        book, measured = city_rules(city), CLOSING_DAY + timedelta(days=1)
        behind = book.at(measured).timetable.longest_meter_intervals - 1
        warm_up = 1 + behind
        bounds, delivery = day_bounds(book, CLOSING_DAY), day_bounds(book, measured)
        rest = -intervals % INTERVALS_PER_HOUR
        if not close:
            first = delivery.start + UNCLOSED_HOURS * INTERVALS_PER_HOUR + rest - warm_up
            begin, closing, tail = first - 1, range(0), range(0)
            around = set[int]()
        else:
            first = delivery.start + rest - warm_up
            stop = min(delivery.start - warm_up, first)
            if not intervals + 6 <= day_intervals <= len(bounds):
                words = (
                    f"must be {intervals + 6} to {len(bounds)}: readings come in as many as are measured, and some more"
                )
                raise InputError("bench city", f"--day-intervals {day_intervals}", words)
            begin = bounds.stop - day_intervals
            closing, tail = range(begin, bounds.stop), range(stop - intervals, stop)
            # two before each: what comes first after a silence is a base, and late readings fold from the one behind it
            around = {tail.start - 2, tail.start - 1, tail.stop, first - 2, first - 1} - {first, *tail}
        return cls(
            city=replace(city, first_interval=first, before=first - begin, warm_up=warm_up),
            behind=behind,
            book=book,
            since=day_ahead_at(book, CLOSING_DAY if close else measured) - OPEN_LEAD_S - 1,
            closing=closing,
            whole=tuple(sorted({begin - 1, begin} | around)),
            tail=tail,
            day_ahead_at=day_ahead_at(book, measured) if day_ahead else None,
            delivery=delivery,
            close_at=close_at(book, CLOSING_DAY) if close else None,
        )


def start_of(interval: int) -> int:
    """Time at which an interval begins, seconds since the epoch."""
    return interval * MARKET_INTERVAL_S
