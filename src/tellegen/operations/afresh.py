"""A closed day of one feeder settled from scratch: what is believed of its energy, at the prices on record."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from datetime import date

import numpy as np

from tellegen.operations.corrections import believed, cleared_of, edits_of, first_energy, located
from tellegen.operations.day import shared_again
from tellegen.operations.facts import Metered, counted_feed_in, settle_interval
from tellegen.operations.forward import SoldAhead
from tellegen.operations.positions import party_keys
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import day_bounds
from tellegen.records import Closes, Edits, Energy, FeederDays, Postings
from tellegen.units import IntArray


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


def equals_afresh(
    record: ShardRecord,
    state: State,
    feeder: int,
    day: date,
    edits: Edits | None = None,
    postings: Iterable[Postings] = (),
) -> bool:
    """Whether a settlement of a closed day from scratch comes to what is on record now, by customer and line.

    Parameters
    ----------
    edits, postings : what comes besides, and is not on record yet.
    """
    before, first = first_close(record, feeder, day), day_bounds(record.rulebook, day).start
    known = edits_of(record, state, feeder, first)
    afresh = settled_afresh(record, state, feeder, day, known if edits is None else Edits.concat([known, edits]))
    since = deepcopy(state.since_close.get((feeder, first), LineSums()))
    for each in postings:
        since.add(each)
    customer: IntArray = np.union1d(np.union1d(before.customer, since.customer), afresh.customer)
    amounts = since.of(customer)[0]
    amounts[np.searchsorted(customer, before.customer)] += before.amounts
    rent, unaccounted = _left_open(record, feeder, first)
    pools = since.rent + rent == afresh.rent and since.unaccounted + unaccounted == afresh.unaccounted
    return bool(pools and np.array_equal(amounts, afresh.of(customer)[0]))


def _left_open(record: ShardRecord, feeder: int, first: int) -> tuple[int, int]:
    """What the first close of a day left in the pools: nobody was there to share it."""
    for entry in record.journal.find(kind=Closes.kind, interval=first, name="first"):
        if record.header(entry).feeder == record.feeders[feeder].name:
            row = record.table(entry, Closes)
            return int(row.open_rent_nanos[0]), int(row.open_unaccounted_nanos[0])
    return 0, 0


def settled_afresh(record: ShardRecord, state: State, feeder: int, day: date, edits: Edits) -> LineSums:
    """What a feeder's day comes to, pools shared, when it is settled from its first interval on.

    Parameters
    ----------
    edits : new versions of its energy.
    """
    whole = day_bounds(record.rulebook, day)
    parameters, before = record.rulebook.at(day).settlement, first_close(record, feeder, day)
    forward = SoldAhead(record, feeder, whole)
    sums = LineSums()
    for interval in whole:
        if not record.journal.find(kind=Energy.kind, interval=interval):
            continue  # the market had ended
        rows, _ = believed(record, state, feeder, interval, edits)
        root = rows.customer == record.feeders[feeder].substation
        theirs = rows.take(~root)
        customer = theirs.customer.astype(np.int64)
        _, node, *_ = located(record, state, customer, np.full(customer.size, interval, dtype=np.int64))
        party = party_keys(customer, node)
        order = np.argsort(party, kind="stable")
        cleared = cleared_of(record, feeder, interval)
        counted = counted_feed_in(first_energy(record, feeder, interval), customer[order], cleared.clearing)
        metered = Metered(party[order], theirs.take(order), rows.take(root), counted)
        sums.add(settle_interval(interval, metered, cleared, forward.share(interval), parameters))
    bare = replace(before, amounts=np.zeros_like(before.amounts))
    sums.add(shared_again(whole.start, len(whole), bare, sums, parameters, 0).postings)
    return sums
