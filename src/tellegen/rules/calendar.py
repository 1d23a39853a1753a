"""When the market's verbs are due, how far back facts still move money, and what stands in for a missing price.

Declared here as the tariffs are in `tellegen.rules.tariffs`: `operations` reads them and stands above.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tellegen.metering.gap_energy import GapEnergy
from tellegen.units import MARKET_INTERVAL_S

MIDNIGHT_MIN = 24 * 60
"""Minute 1440 of the day before delivery: the midnight at which the delivery day begins."""


class AdministrativePrice(StrEnum):
    """What settles an interval whose gate was missed, had no wholesale price, or passed its deadline."""

    LAST_SPREAD = "last_spread"
    """The wholesale price plus what the node's price last differed from it; needs a wholesale price."""
    DAY_AHEAD = "day_ahead"
    """The node's day-ahead price of the hour; needs a day-ahead clearing."""
    FIXED = "fixed"
    """`administrative_micros_per_kwh`, which is always there."""


@dataclass(frozen=True, slots=True)
class TimetableParameters:
    """The calendar of the market.

    Attributes
    ----------
    day_ahead_minute : local minute, on the day before delivery, at which the day-ahead gate closes; 0 to
        `MIDNIGHT_MIN`.
    gate_lead_s : seconds from the closing of a real-time gate to the start of its interval.
    gate_deadline_s : seconds from the start of an interval until a feeder must be cleared.
    reading_wait_s : seconds from the end of an interval until it settles with the readings that are there, where every
        meter is read each interval.
    longest_meter_minutes : the longest interval of a meter. Every interval settles so much later than `reading_wait_s`
        says that the reading of any meter interval that holds it can be there: a constant, so intervals of an hour
        settle one by one, and not together at its end.
    tick_s : seconds of quiet after which the intake puts the time on record.
    correction_window_days : days after its close until a day is final.
    correction_days : ages of a day, in days at the close of another, at which its pools are shared anew.
    administrative_order : what stands in for a missing price, the first that is there; the last is FIXED.
    administrative_micros_per_kwh : the fixed one.
    gap_energy : what the estimates of a gap become.
    snapshot_every : settled intervals from one snapshot to the next.

    Examples
    --------
    >>> TimetableParameters().day_ahead_minute // 60
    12
    """

    day_ahead_minute: int = 12 * 60
    gate_lead_s: int = 0
    gate_deadline_s: int = 240
    reading_wait_s: int = 60
    longest_meter_minutes: int = 5
    tick_s: int = 5
    correction_window_days: int = 60
    correction_days: tuple[int, ...] = (1, 3, 10, 55)
    administrative_order: tuple[AdministrativePrice, ...] = tuple(AdministrativePrice)
    administrative_micros_per_kwh: int = 300_000
    gap_energy: GapEnergy = GapEnergy.ESTIMATED
    snapshot_every: int = 12

    @property
    def longest_meter_intervals(self) -> int:
        """Market intervals of the longest interval of a meter."""
        return 60 * self.longest_meter_minutes // MARKET_INTERVAL_S

    @property
    def settles_after_s(self) -> int:
        """Seconds from the end of an interval until it settles.

        >>> TimetableParameters(longest_meter_minutes=15).settles_after_s
        660
        """
        return self.reading_wait_s + 60 * self.longest_meter_minutes - MARKET_INTERVAL_S
