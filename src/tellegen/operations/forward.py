"""What the day-ahead market sold for a day, and one interval's share of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tellegen.operations.corrections import cleared_at
from tellegen.operations.facts import Cleared, Forward
from tellegen.operations.positions import Position, parties_of, scheduled_wh
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import NONE
from tellegen.operations.timetable import periods
from tellegen.records import OPERATOR, Clearings, Prices, Schedules
from tellegen.records.market import DAY_AHEAD
from tellegen.settlement import share_of_hour
from tellegen.units import INTERVALS_PER_HOUR


def forward_of(position: Position, interval: int, prices: Prices, clearing: Clearings) -> Forward:
    """Whole Wh of an interval; those of the hour sum to what was sold.

    Parameters
    ----------
    prices, clearing : of the hour's clearing.
    """
    hour = position.hour_of(interval)
    first = position.first + hour * INTERVALS_PER_HOUR
    k = interval - first
    customer, _ = parties_of(position.party)
    wh = share_of_hour(position.wh[hour], customer, first, k)
    root = share_of_hour(clearing.root_wh, np.array([OPERATOR]), first, k)
    return Forward(position.party, wh, int(root[0]), prices, int(clearing.root_price[0]))


class SoldAhead:
    """What stands on record of a feeder's day-ahead market for one day.

    Parameters
    ----------
    whole : intervals of the day.
    """

    def __init__(self, record: ShardRecord, feeder: int, whole: range) -> None:
        hours = periods(whole)
        self._position, self._cleared = Position(whole.start, len(hours)), dict[int, Cleared]()
        for hour in hours:
            for entry in record.about(Clearings, record.feeders[feeder].name, hour.start, DAY_AHEAD):
                cleared = cleared_at(record, entry)
                rows = cleared.schedules
                customer, node = rows.customer.astype(np.int64), rows.node.astype(np.int64)
                self._position.add(hour.start, customer, node, scheduled_wh(rows), entry)
                self._cleared[entry] = replace(cleared, schedules=Schedules.empty())

    def share(self, interval: int) -> Forward:
        """Whole Wh of an interval."""
        hour = self._position.hour_of(interval)
        if hour == NONE:
            return Forward.nothing()
        found = self._cleared[int(self._position.clearing[hour])]
        return forward_of(self._position, interval, found.prices, found.clearing)
