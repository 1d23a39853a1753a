"""A shard that has lived through two closes, for whoever reads records: played once, changed by nobody.

Its rulebook turns the clock, so that its first day lasts an hour, and its market ends early on the second. That has a
day-ahead market, and readings of the first day come late in it; its close shares the first anew. When the first is
final, some readings of it come still.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playing import Street

from tellegen.operations.market import Market
from tellegen.records import Readings, RootPrices
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S

HOUR = 12
FIRST = 4_924_368  # 2016-10-24 12:00 UTC, midnight at UTC-12: the first day begins
SECOND = FIRST + HOUR  # midnight at UTC+11
INTERVALS = range(FIRST, SECOND + 8)
"""All that are cleared and settled."""
THIRD = SECOND + 24 * HOUR
MISSED = FIRST + 4
"""An interval without a wholesale price."""
HELD_BACK = (FIRST + 6, FIRST + 7)
"""Intervals of which some readings come late, on the second day."""
FORGOTTEN = FIRST + 9
"""An interval of which some come when its day is final."""
ZONES = {"2016-10-24": "Etc/GMT+12", "2016-10-25": "Etc/GMT-11"}


def short_days() -> Rulebook:
    """The default rules, with a correction window of one day and zones that make a day short."""
    first = Rulebook.load().versions[0].content.decode()
    first = first.replace("correction_window_days = 60", "correction_window_days = 1")
    first = first.replace("correction_days = [1, 3, 10, 55]", "correction_days = [1]")
    versions = {"2016-01-01.toml": first.encode()}
    for day, zone in ZONES.items():
        versions[f"{day}.toml"] = first.replace("Europe/Berlin", zone).encode()
    return Rulebook.parse(versions, "short days")


class TwoDays(Street):
    """A street whose customers bid day-ahead for the second day."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, first=FIRST, keep=kept, priced=lambda t: t != MISSED, rulebook=short_days(), last=INTERVALS[-1]
        )

    def bid_day_ahead(self) -> None:
        """Everybody bids for the first hours of the second day."""
        for batch in self.gateways.day_ahead(SECOND, 8):
            self.take(batch)
        self.intake.commit()

    def bring(self, intervals: tuple[int, ...]) -> None:
        """What was kept back of some intervals comes in."""
        for interval in intervals:
            for batch in self.kept_back.pop(interval):
                self.take(batch)
        self.intake.commit()


def play_two_days(folder: Path) -> None:
    """Play the shard into ``folder / "shard"``."""
    street = TwoDays(folder / "shard")
    hours = np.arange(SECOND, THIRD, HOUR)
    source = np.full(hours.size, b"test", dtype="S64")
    with street.market() as market:
        street.prices(market, INTERVALS)
        ahead = RootPrices(interval=hours, micros=np.full(hours.size, 260_000), source=source)
        market.take_prices("day_ahead", ahead, street.clock.now())
    street.schedule(range(FIRST, INTERVALS.stop + 1))
    street.clock.at(SECOND * MARKET_INTERVAL_S - 3, street.bid_day_ahead)
    street.clock.at((SECOND + 3) * MARKET_INTERVAL_S + 100, lambda: street.bring(HELD_BACK))
    street.play(INTERVALS.stop * MARKET_INTERVAL_S - 1)
    with street.market() as market:
        end(street, market)
    street.close()


def end(street: TwoDays, market: Market) -> None:
    """The market ends; its last day closes, and what comes for the first then comes too late."""
    second, last = date(2016, 10, 25), INTERVALS.stop * MARKET_INTERVAL_S + 60
    street.clock.wait(last)
    market.settle(INTERVALS[-1], last)
    run = THIRD * MARKET_INTERVAL_S + 60
    street.clock.wait(run)
    street.tick()
    market.correct(run, run)
    market.close_day(second, run)
    market.finalise(second - timedelta(days=1), run)
    street.clock.wait(run + 100)
    street.bring((FORGOTTEN,))
    street.clock.wait(run + 200)
    street.tick()
    market.correct(run + 200, run + 200)
    market.snapshot(run + 200)


def kept(interval: int, readings: Readings) -> NDArray[np.bool_]:
    """All readings come in time but those of a few customers in a few intervals."""
    late = interval in (*HELD_BACK, FORGOTTEN)
    return np.asarray(~(late & (readings.customer % 40 == 3)))
