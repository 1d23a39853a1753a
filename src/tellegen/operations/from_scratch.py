"""A feeder's day settled again from all that is known of it now, as if nothing had come late."""

from __future__ import annotations

import numpy as np

from tellegen.operations.reading import RecordedDay
from tellegen.operations.record import ShardRecord
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import day_bounds, real_time_at
from tellegen.records import AllocationKeys, Customers, Line, Postings
from tellegen.records.market import DAY_AHEAD
from tellegen.settlement import FeederDay, assemble_day, close_feeder, keys_of, latest_energy, settle_intervals
from tellegen.units import INTERVALS_PER_HOUR, IntArray


def settle_again(record: ShardRecord, day: RecordedDay, feeder: str) -> Postings:
    """Postings of the day from the recorded clearings and the energy that is believed now; without rounding to cents.

    For a day on which nobody moved, joined or left.
    """
    whole, bounds = day_bounds(record.rulebook, day.day), day.bounds
    parameters = record.rulebook.at(day.day).settlement
    k = record.topology.number[feeder]
    connected = record.topology.connected(bounds.start, real_time_at(record.rulebook, bounds.start) - 1)
    here = connected.on(k)
    customer, count = connected.customer[here], here.stop - here.start
    enrolled = Customers(
        customer=customer.astype(np.int32),
        node=connected.node[here].astype(np.int32),
        meter=connected.meter[here],
        fuse_w=connected.capacity_w[here],
        public_key=np.zeros(count, dtype="V32"),
    )
    ahead = [r.period for r in day.rounds if r.market == DAY_AHEAD]
    now = [r.period for r in day.rounds if r.market != DAY_AHEAD]
    keys = dict(day.keys).get(feeder, AllocationKeys.empty())
    facts = assemble_day(
        bounds.start, enrolled, ahead[: len(bounds) // INTERVALS_PER_HOUR], now, latest_energy(day.energy), keys
    )
    postings = settle_intervals(facts.steps, parameters)
    sums = LineSums()
    sums.add(postings)
    pieces = np.stack([customer, np.zeros(count, dtype=np.int64), np.full(count, len(bounds))], axis=1)
    closing = FeederDay(
        first_interval=whole.start,
        intervals=len(whole),
        customer=customer,
        pieces=pieces,
        key_wh=keys_of(keys, customer),
        amounts=sums.of(customer)[0],
        open_rent_nanos=sums.rent,
        open_unaccounted_nanos=sums.unaccounted,
    )
    return Postings.concat([postings, close_feeder(closing, parameters).postings])


def same_sums(left: Postings, right: Postings) -> bool:
    """Whether every account has the same sum on every line but that of rounding to cents."""
    return _sums(left) == _sums(right)


def _sums(postings: Postings) -> dict[tuple[int, int], int]:
    kept = postings.take(postings.line != Line.ROUNDING)
    key: IntArray = kept.account.astype(np.int64) << 8 | kept.line
    groups, place = np.unique(key, return_inverse=True)
    totals = np.zeros(groups.size, dtype=np.int64)
    np.add.at(totals, place, kept.amount)
    return {(k >> 8, k & 255): total for k, total in zip(groups.tolist(), totals.tolist(), strict=True) if total}
