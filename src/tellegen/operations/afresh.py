"""A closed day of one feeder settled from scratch: what is believed of its energy, at the prices on record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np

from tellegen.operations.corrections import cleared_at, cleared_of, located
from tellegen.operations.day import shared_again
from tellegen.operations.facts import Cleared, Forward, Metered, settle_interval
from tellegen.operations.forward import forward_of
from tellegen.operations.positions import Position, party_keys, scheduled_wh
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import NONE, State
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import day_bounds, periods
from tellegen.records import Clearings, Energy, FeederDays
from tellegen.records.market import DAY_AHEAD
from tellegen.units import INTERVALS_PER_HOUR


def first_close(record: ShardRecord, feeder: int, day: date) -> FeederDays:
    """How a feeder's day stood when it was first closed.

    Raises
    ------
    KeyError : it has not been closed.
    """
    name, first = record.feeders[feeder].name, day_bounds(record.rulebook, day).start
    for entry in record.about(FeederDays, name, first):
        return record.table(entry, FeederDays)
    raise KeyError(f"the first close of {day} on {name} is not on record")


def settled_afresh(
    record: ShardRecord, state: State, feeder: int, day: date, energy: Callable[[int], Energy]
) -> LineSums:
    """What a feeder's day comes to, pools shared, when it is settled from its first interval on.

    Parameters
    ----------
    energy : of an interval: a row for everybody on the feeder, the substation by its own number among them.
    """
    whole = day_bounds(record.rulebook, day)
    parameters, before = record.rulebook.at(day).settlement, first_close(record, feeder, day)
    forward = _Position(record, feeder, whole)
    sums = LineSums()
    for interval in whole:
        if not record.journal.find(kind=Energy.kind, interval=interval):
            continue  # the market had ended
        rows = energy(interval)
        root = rows.customer == record.feeders[feeder].substation
        theirs = rows.take(~root)
        customer = theirs.customer.astype(np.int64)
        _, node, _, _ = located(record, state, customer, np.full(customer.size, interval, dtype=np.int64))
        party = party_keys(customer, node)
        order = np.argsort(party, kind="stable")
        metered = Metered(party[order], theirs.take(order), rows.take(root))
        cleared = cleared_of(record, feeder, interval)
        sums.add(settle_interval(interval, metered, cleared, forward.share(interval), parameters))
    bare = replace(before, amounts=np.zeros_like(before.amounts))
    sums.add(shared_again(whole.start, len(whole), bare, sums, parameters, 0).postings)
    return sums


class _Position:
    """What the day-ahead market sold on a feeder for one day, as it stands on record."""

    def __init__(self, record: ShardRecord, feeder: int, whole: range) -> None:
        hours = periods(whole)
        self._position, self._cleared = Position(whole.start, len(hours)), dict[int, Cleared]()
        for hour in hours:
            for entry in record.about(Clearings, record.feeders[feeder].name, hour.start, DAY_AHEAD):
                found = cleared_at(record, entry)
                rows = found.schedules
                customer, node = rows.customer.astype(np.int64), rows.node.astype(np.int64)
                self._position.add(hour.start, customer, node, scheduled_wh(rows), entry)
                self._cleared[hour.start] = found

    def share(self, interval: int) -> Forward:
        hour = self._position.hour_of(interval)
        if hour == NONE:
            return Forward.nothing()
        found = self._cleared[self._position.first + hour * INTERVALS_PER_HOUR]
        return forward_of(self._position, interval, found.prices, found.clearing)
