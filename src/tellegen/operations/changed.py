"""What changed energy comes to in a feeder's books, at the prices on record: only differences are settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tellegen.operations.corrections import believed, clearing_of, first_energy, located
from tellegen.operations.facts import counted_feed_in
from tellegen.operations.positions import parties_of, party_keys
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.records import Clearings, Edits, Energy, Postings, Prices
from tellegen.replay import differences
from tellegen.settlement import IntervalFacts
from tellegen.units import IntArray

_INTERVAL_BITS = 32


def corrected_postings(
    record: ShardRecord,
    state: State,
    feeder: int,
    edits: Edits,
    cause: int,
    known: Callable[[int, int], tuple[Energy, IntArray]] | None = None,
) -> Postings:
    """What edits of one feeder's energy change in its books; each transaction sums to zero.

    Parameters
    ----------
    edits : not on record yet, or those at entry `cause`; substations by their own numbers.
    known : what is believed on a feeder in an interval, of those with edits at least; None: it is read.
    """
    parts = [Postings.empty()]
    days = np.array([state.day_range(interval).start for interval in edits.interval.tolist()], dtype=np.int64)
    for day in np.unique(days).tolist():
        new = edits.take(days == day)
        intervals = np.unique(new.interval)
        olds = [Energy.empty()]
        for interval in intervals.tolist():
            old, _ = believed(record, state, feeder, interval) if known is None else known(feeder, interval)
            olds.append(old.take(np.isin(old.customer, new.customer[new.interval == interval])))
        changed = _Changed.of(record, state, feeder, intervals, new)
        parameters = state.book.at(state.date_of(day)).settlement
        parts.append(differences(changed.facts(Energy.concat(olds)), changed.facts(new), parameters, cause=cause))
    return Postings.concat(parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Changed:
    """Intervals of a feeder's day and the parties who changed in any of them; what is equal in two such facts cancels.

    Attributes
    ----------
    interval : int64[T]. party : int64[n], ascending. energy, reactive : int64[T, n], prices at each one's node.
    counted : int64[T, n], `IntervalFacts.counted_feed_in_wh`. root : int64[T], the price at the root.
    pair, of_pair : each customer and interval that changed, as one number, ascending, and its party.
    """

    substation: int
    interval: IntArray
    party: IntArray
    energy: IntArray
    reactive: IntArray
    root: IntArray
    counted: IntArray
    pair: IntArray
    of_pair: IntArray

    @classmethod
    def of(cls, record: ShardRecord, state: State, feeder: int, interval: IntArray, edits: Edits) -> _Changed:
        """Of edits, whose intervals are given."""
        substation = record.feeders[feeder].substation
        theirs = edits.take(edits.customer != substation)
        customer = theirs.customer.astype(np.int64)
        _, node, *_ = located(record, state, customer, theirs.interval)
        keys = party_keys(customer, node)
        pair = _pairs(customer, theirs.interval)
        order = np.argsort(pair)
        party = np.unique(keys)
        priced = [_priced(record, feeder, t) for t in interval.tolist()]
        whose, nodes = parties_of(party)
        counted = [
            counted_feed_in(first_energy(record, feeder, t), whose, clearing)
            for t, (_, clearing) in zip(interval.tolist(), priced, strict=True)
        ]
        return cls(
            substation=substation,
            interval=interval,
            party=party,
            energy=np.stack([prices.energy[nodes] for prices, _ in priced]),
            reactive=np.stack([prices.reactive[nodes] for prices, _ in priced]),
            root=np.array([int(clearing.root_price[0]) for _, clearing in priced], dtype=np.int64),
            counted=np.stack(counted),
            pair=pair[order],
            of_pair=np.searchsorted(party, keys[order]),
        )

    def facts(self, rows: Energy | Edits) -> IntervalFacts:
        """Facts with the energy of those who changed alone."""
        root = rows.customer == self.substation
        at = np.searchsorted(self.interval, rows.interval)
        substation = np.zeros(self.interval.size, dtype=np.int64)
        substation[at[root]] = (rows.import_wh - rows.export_wh)[root]
        column = self.of_pair[
            np.searchsorted(self.pair, _pairs(rows.customer[~root].astype(np.int64), rows.interval[~root]))
        ]
        nothing, none = np.zeros(self.energy.shape, dtype=np.int64), np.zeros_like(self.root)

        def placed(values: IntArray) -> IntArray:
            out = nothing.copy()
            out[at[~root], column] = values[~root]
            return out

        customer, node = parties_of(self.party)
        return IntervalFacts(
            interval=self.interval,
            customer=customer,
            node=node,
            forward_wh=nothing,
            real_time_wh=nothing,
            forward_price=nothing,
            real_time_price=self.energy,
            reactive_price=self.reactive,
            import_wh=placed(rows.import_wh),
            export_wh=placed(rows.export_wh),
            reactive_varh=placed(rows.reactive_varh),
            counted_feed_in_wh=self.counted,
            root_forward_wh=none,
            losses_wh=none,
            substation_wh=substation,
            wholesale_forward_price=none,
            wholesale_real_time_price=self.root,
        )


def _pairs(customer: IntArray, interval: IntArray) -> IntArray:
    return np.asarray(customer << _INTERVAL_BITS | interval)


def _priced(record: ShardRecord, feeder: int, interval: int) -> tuple[Prices, Clearings]:
    """Prices at which a feeder's interval settled, and how their clearing ended."""
    clearing = clearing_of(record, feeder, interval)
    prices = record.table(record.cause(clearing, Prices), Prices)
    return prices, record.table(clearing, Clearings)
