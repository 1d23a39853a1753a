"""What an interval of one feeder settles from: parties, awards, prices and energy laid out as arrays.

The parties are who is connected and who holds a forward position there. A position stays at the node where it cleared:
who moved is bought back at the old node, where it has no award and no meter, and begins at the new one with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.operations.positions import QUANTITIES, parties_of, party_keys, scheduled_wh
from tellegen.records import Clearings, ClearingStatus, Energy, Postings, Prices, Quality, Schedules
from tellegen.settlement import READ, IntervalFacts, Parameters, ReserveFacts, settle_intervals, settle_reserves
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Cleared:
    """What an interval settles from: what its gate awarded; prices and outcome of the clearing that settles it.

    Attributes
    ----------
    awarded : whether the gate cleared; where not, positions are taken as kept.
    """

    schedules: Schedules
    prices: Prices
    clearing: Clearings
    awarded: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """One interval's share of a forward position.

    Attributes
    ----------
    party : int64[p], ascending (`party_keys`). wh : int64[3, p], energy, reserve up and down.
    root_wh : bought at the root. prices, root_price : of the hour's clearing.
    """

    party: IntArray
    wh: IntArray
    root_wh: int
    prices: Prices | None
    root_price: int

    @classmethod
    def nothing(cls) -> Forward:
        """There was no day-ahead market, or it was not cleared."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((3, 0), dtype=np.int64), 0, None, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Metered:
    """Energy of an interval on one feeder.

    Attributes
    ----------
    party : int64[n], ascending: who is connected, where. energy : rows in that order. substation : one row.
    counted_feed_in_wh : int64[n], of meters that were missing as the interval settled (`counted_feed_in`); None: what
        is settled is what was counted.
    """

    party: IntArray
    energy: Energy
    substation: Energy
    counted_feed_in_wh: IntArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Laid:
    """Columns of the parties of an interval."""

    party: IntArray
    forward_wh: IntArray
    real_time_wh: IntArray

    @classmethod
    def of(cls, metered: Metered, cleared: Cleared, forward: Forward) -> _Laid:
        party = np.union1d(metered.party, forward.party)
        before, now = np.zeros((2, len(QUANTITIES), party.size), dtype=np.int64)
        before[:, np.searchsorted(party, forward.party)] = forward.wh
        if not cleared.awarded:
            now = before
        else:
            awarded = party_keys(cleared.schedules.customer.astype(np.int64), cleared.schedules.node.astype(np.int64))
            now[:, np.searchsorted(party, awarded)] = scheduled_wh(cleared.schedules)
        return cls(party, before, now)

    def placed(self, keys: IntArray, values: IntArray) -> IntArray:
        """Values of some parties among all, int64[1, n]."""
        out = np.zeros(self.party.size, dtype=np.int64)
        out[np.searchsorted(self.party, keys)] = values
        return out[None, :]

    def at_nodes(self, prices: Prices | None, column: str) -> IntArray:
        """A price at each one's node, int64[1, n]; 0 where there is none."""
        if prices is None:
            return np.zeros((1, self.party.size), dtype=np.int64)
        return np.asarray(getattr(prices, column), dtype=np.int64)[parties_of(self.party)[1]][None, :]


def counted_feed_in(first: Energy, customer: IntArray, clearing: Clearings) -> IntArray:
    """Net energy fed in with which customers whose meters were missing counted in a price, int64[n] Wh.

    `READ` of all others; of everybody where no run made the price: an administrative one counts no meter.

    Parameters
    ----------
    first : what the interval settled on at first, as recorded. clearing : whose prices settle it.
    """
    counted = np.full(customer.size, READ, dtype=np.int64)
    if not len(first) or int(clearing.status[0]) == ClearingStatus.ADMINISTRATIVE:
        return counted
    order = np.argsort(first.customer, kind="stable")
    place = np.minimum(np.searchsorted(first.customer, customer, sorter=order), len(first) - 1)
    row = order[place]
    missing = (first.customer[row] == customer) & (first.quality[row] == Quality.ESTIMATED)
    return np.where(missing, np.maximum(first.export_wh - first.import_wh, 0)[row], counted)


def settle_interval(
    interval: int, metered: Metered, cleared: Cleared, forward: Forward, parameters: Parameters
) -> Postings:
    """Postings of one interval of one feeder; they sum to zero.

    Where a clearing is administrative there are no awards: who holds a position is taken to keep it, so that nothing
    is bought or sold in real time, and all that the meters show beyond it deviates.
    """
    laid = _Laid.of(metered, cleared, forward)
    postings = [settle_intervals(_energy_facts(interval, laid, metered, cleared, forward), parameters)]
    if laid.forward_wh[1:].any() or laid.real_time_wh[1:].any():
        postings.append(settle_reserves(_reserve_facts(interval, laid, cleared, forward)))
    return postings[0] if len(postings) == 1 else Postings.concat(postings)


def _energy_facts(interval: int, laid: _Laid, metered: Metered, cleared: Cleared, forward: Forward) -> IntervalFacts:
    customer, node = parties_of(laid.party)
    counted = metered.counted_feed_in_wh
    if counted is None:
        counted = np.full(metered.party.size, READ, dtype=np.int64)
    return IntervalFacts(
        interval=np.array([interval]),
        customer=customer,
        node=node,
        forward_wh=laid.forward_wh[:1],
        real_time_wh=laid.real_time_wh[:1],
        forward_price=laid.at_nodes(forward.prices, "energy"),
        real_time_price=laid.at_nodes(cleared.prices, "energy"),
        reactive_price=laid.at_nodes(cleared.prices, "reactive"),
        import_wh=laid.placed(metered.party, metered.energy.import_wh),
        export_wh=laid.placed(metered.party, metered.energy.export_wh),
        reactive_varh=laid.placed(metered.party, metered.energy.reactive_varh),
        counted_feed_in_wh=laid.placed(metered.party, counted),
        root_forward_wh=np.array([forward.root_wh]),
        losses_wh=cleared.clearing.losses_wh,
        substation_wh=metered.substation.import_wh - metered.substation.export_wh,
        wholesale_forward_price=np.array([forward.root_price]),
        wholesale_real_time_price=cleared.clearing.root_price,
    )


def _reserve_facts(interval: int, laid: _Laid, cleared: Cleared, forward: Forward) -> ReserveFacts:
    customer, _ = parties_of(laid.party)
    return ReserveFacts(
        interval=np.array([interval]),
        customer=customer,
        up_forward_wh=laid.forward_wh[1:2],
        up_real_time_wh=laid.real_time_wh[1:2],
        up_forward_price=laid.at_nodes(forward.prices, "reserve_up"),
        up_real_time_price=laid.at_nodes(cleared.prices, "reserve_up"),
        down_forward_wh=laid.forward_wh[2:],
        down_real_time_wh=laid.real_time_wh[2:],
        down_forward_price=laid.at_nodes(forward.prices, "reserve_down"),
        down_real_time_price=laid.at_nodes(cleared.prices, "reserve_down"),
    )
