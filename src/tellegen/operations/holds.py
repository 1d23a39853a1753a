"""Holds as they stand on record: which one refused the orders of a gate, and everybody who was ever on one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.operations.record import ShardRecord
from tellegen.records import Holds, RefusedOrders
from tellegen.rules.price_run import HOLD_HOURS_MAX
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, IntArray

_LONGEST = HOLD_HOURS_MAX * INTERVALS_PER_HOUR + 2 * INTERVALS_PER_HOUR
"""Intervals that lie between a hold's record and its end, at most: gates close up to an hour ahead."""


@dataclass(frozen=True, slots=True)
class OnHold:
    """A customer's hold, and the entry with its row; intervals as on record, energy in Wh over the day before."""

    entry: int
    customer: int
    feeder: str
    from_interval: int
    until_interval: int
    deviation_wh: int
    award_wh: int


def holds_in(record: ShardRecord, intervals: range) -> tuple[int, ...]:
    """Entries of the holds that are in force at the gate of some interval of several, on whatever feeder."""
    since = record.journal.earliest_at((intervals.start - _LONGEST) * MARKET_INTERVAL_S)
    found = []
    for entry in record.journal.find(kind=Holds.kind, since=since):
        header = record.header(entry)
        if header.interval < intervals.stop and intervals.start < header.interval + header.intervals:
            found.append(entry)
    return tuple(found)


def holds_behind(record: ShardRecord, clearing: int) -> tuple[int, ...]:
    """Entries of the holds for which a clearing refused orders; none where it refused none for that."""
    try:
        causes = record.header(record.cause(clearing, RefusedOrders)).causes
    except KeyError:
        return ()
    return tuple(entry for entry in causes if record.header(entry).kind == Holds.kind)


def held_until(record: ShardRecord, clearing: int, customer: IntArray) -> IntArray:
    """First interval in which orders of customers count again, int64[n]; 0 of those whose orders a clearing took."""
    until = np.zeros(customer.size, dtype=np.int64)
    for entry in holds_behind(record, clearing):
        rows = in_force(record.table(entry, Holds), record.header(clearing).interval)
        for who, end in zip(rows.customer.tolist(), rows.until_interval.tolist(), strict=True):
            until[customer == who] = end
    return until


def in_force(rows: Holds, interval: int) -> Holds:
    """Those of some holds by which orders for an interval do not count."""
    return rows.take((rows.from_interval <= interval) & (interval < rows.until_interval))


def all_holds(record: ShardRecord) -> list[OnHold]:
    """Every hold that can be read, in the order of the record."""
    found = []
    for entry, table in sorted(record.tables(record.journal.find(kind=Holds.kind)), key=lambda each: each[0]):
        for row in table.rows():
            customer, *numbers = row.item()
            found.append(OnHold(entry, customer, record.header(entry).feeder, *numbers))
    return found
