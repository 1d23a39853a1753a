"""What each participant can deliver: connection agreements, headroom for reserve, stored energy behind it.

A participant's orders at one place stand together. With d its net demand, and u, w the reserve it sells up and down
(kW), its connection and its devices ask that, whatever reserve is called,

    u - d <= most it may export        d + w <= most it may import
    u T - d t <= energy it can still deliver        d t + w T <= energy it can still take

for a period of t hours and reserve that must last T. Where a participant that sells reserve also has energy orders,
these say what its devices can do: it exports at most what it offers to sell in all, and imports at most what it asks
to buy. A participant without energy orders offers capacity of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import InputError
from tellegen.grid.network import FloatArray, IntArray, Network
from tellegen.market.book import OrderBook
from tellegen.market.limits import LimitType, LinearRows, place_name
from tellegen.market.steps import Effect, Steps, effects
from tellegen.records import Side


@dataclass(frozen=True, slots=True, eq=False)
class Agreements:
    """Connection agreements, and energy behind reserve; one row per participant and place; ``inf`` is no limit.

    Firm capacity is shed only where nothing has a power flow with it: a price-taker within it is served whatever the
    price. What a price-taker asks beyond it and within the limit is flexible: served while the wires allow, shed at the
    published curtailment price.

    Attributes
    ----------
    participant, place : int64[a].
    import_kw, export_kw : float64[a] >= 0, net limits at the connection.
    firm_import_kw, firm_export_kw : float64[a] >= 0.
    energy_up_kwh, energy_down_kwh : float64[a] >= 0, what stands behind reserve at the start of the period: stored
        energy that can be delivered, room that can be filled, at the connection.
    """

    participant: IntArray
    place: IntArray
    import_kw: FloatArray
    export_kw: FloatArray
    firm_import_kw: FloatArray
    firm_export_kw: FloatArray
    energy_up_kwh: FloatArray
    energy_down_kwh: FloatArray

    @classmethod
    def of(
        cls,
        participant: ArrayLike,
        place: ArrayLike,
        *,
        import_kw: ArrayLike = np.inf,
        export_kw: ArrayLike = np.inf,
        firm_import_kw: ArrayLike = np.inf,
        firm_export_kw: ArrayLike = np.inf,
        energy_up_kwh: ArrayLike = np.inf,
        energy_down_kwh: ArrayLike = np.inf,
    ) -> Agreements:
        """Build a table; scalars apply to every row.

        Raises
        ------
        InputError : a limit that is negative or not a number; a participant and place named twice.

        >>> Agreements.of([1, 2], [7, 9], export_kw=5.0).export_kw.tolist()
        [5.0, 5.0]
        """
        limits = (import_kw, export_kw, firm_import_kw, firm_export_kw, energy_up_kwh, energy_down_kwh)
        parts = [np.atleast_1d(part).copy() for part in np.broadcast_arrays(participant, place, *limits)]
        for spec, values in zip(fields(cls)[2:], parts[2:], strict=True):
            bad = ~(values >= 0)
            if bad.any():
                raise InputError("agreements", f"row {int(np.argmax(bad))}, {spec.name}", "must not be negative")
        who = np.stack(parts[:2]).astype(np.int64)
        if np.unique(who, axis=1).shape[1] != who.shape[1]:
            raise InputError("agreements", "a participant and place", "are named twice; give one row each")
        return cls(who[0], who[1], *(values.astype(np.float64) for values in parts[2:]))


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Participants (at a place) whose orders stand in limits of their own.

    Attributes
    ----------
    of_order : int64[orders], the group of each order, -1 for none.
    participant, place : int64[g].
    curtailable_kw : float64[orders], what price-takers ask beyond their firm capacity.
    most_out_kw, most_in_kw : float64[g], limits of u - d and d + w.
    energy_up_kwh, energy_down_kwh : float64[g].
    """

    of_order: IntArray
    participant: IntArray
    place: IntArray
    curtailable_kw: FloatArray
    most_out_kw: FloatArray
    most_in_kw: FloatArray
    energy_up_kwh: FloatArray
    energy_down_kwh: FloatArray

    def beside(self, owner: IntArray) -> Groups:
        """With more orders behind, each in the group of an order that it belongs to (-1: none)."""
        known = owner >= 0
        more = np.full(owner.size, -1, dtype=np.int64)
        more[known] = self.of_order[owner[known]]
        return replace(
            self,
            of_order=np.concatenate([self.of_order, more]),
            curtailable_kw=np.concatenate([self.curtailable_kw, np.zeros(owner.size)]),
        )


def group_orders(book: OrderBook, agreements: Agreements | None) -> Groups:
    """Groups of a book: participants with an agreement, or with reserve offers beside energy orders."""
    effect, count = effects(book), len(book)
    known = book.participant >= 0
    if agreements is None and not (effect[known] > Effect.DEMAND).any():
        nobody = np.zeros(0, dtype=np.int64)
        return Groups(np.full(count, -1, dtype=np.int64), nobody, nobody, np.zeros(count), *(np.zeros(0),) * 4)
    keys = np.stack([book.participant, book.node])
    if agreements is not None:
        keys = np.concatenate([keys, np.stack([agreements.participant, agreements.place])], axis=1)
    distinct, group = np.unique(keys, axis=1, return_inverse=True)
    group = group.reshape(-1)
    size = distinct.shape[1]
    of_order = np.where(known, group[:count], -1)
    energy = known & (effect == Effect.DEMAND) & (book.product == 0)
    offers = known & np.isin(effect, (Effect.OFFER_UP, Effect.OFFER_DOWN))

    def total(mask: NDArray[np.bool_]) -> FloatArray:
        return np.bincount(of_order[mask], book.quantity_kw[mask], minlength=size).astype(np.float64)

    bought, sold = total(energy & (book.side == Side.BUY)), total(energy & (book.side == Side.SELL))
    reserve = (np.bincount(of_order[offers], minlength=size) > 0) & (np.bincount(of_order[energy], minlength=size) > 0)
    columns = np.full((6, size), np.inf)
    bound = reserve.copy()
    if agreements is not None:
        at = group[count:]
        bound[at] = True
        columns[:, at] = np.stack(
            [agreements.import_kw, agreements.export_kw, agreements.firm_import_kw, agreements.firm_export_kw,
             agreements.energy_up_kwh, agreements.energy_down_kwh]
        )  # fmt: skip
    most_in, most_out, firm_in, firm_out, up, down = columns
    most_in = np.where(reserve, np.minimum(most_in, bought), most_in)
    most_out = np.where(reserve, np.minimum(most_out, sold), most_out)
    curtailable = np.zeros(count)
    for side, firm in ((Side.BUY, firm_in), (Side.SELL, firm_out)):
        mask = energy & book.price_taker & (book.side == side)
        asked = total(mask)
        beyond = np.divide(np.maximum(asked - firm, 0.0), asked, out=np.zeros(size), where=asked > 0)
        curtailable[mask] = (book.quantity_kw * beyond[of_order])[mask]
    kept = np.flatnonzero(bound)
    place = np.full(size + 1, -1, dtype=np.int64)
    place[kept] = np.arange(kept.size)
    return Groups(
        of_order=place[of_order],
        participant=distinct[0, kept],
        place=distinct[1, kept],
        curtailable_kw=curtailable,
        most_out_kw=most_out[kept],
        most_in_kw=most_in[kept],
        energy_up_kwh=up[kept],
        energy_down_kwh=down[kept],
    )


def linear_rows(
    network: Network, book: OrderBook, groups: Groups, steps: Steps, *, period_hours: float, reserve_hours: float
) -> LinearRows:
    """Reserve required, where any is required or offered, and the groups' own limits that the orders could reach."""
    blocks = _required(steps)
    if groups.participant.size:
        blocks += _own_limits(network, book, groups, steps, period_hours, period_hours + reserve_hours)
    return LinearRows.stack(blocks)


def _required(steps: Steps) -> list[LinearRows]:
    blocks: list[LinearRows] = []
    if not steps.channels.effect.any() and not steps.required_kw.any():
        return blocks
    for k, (kind, ways, name) in enumerate(
        (
            (LimitType.RESERVE_UP, (Effect.OFFER_UP, Effect.REQUIRE_UP), "reserve up"),
            (LimitType.RESERVE_DOWN, (Effect.OFFER_DOWN, Effect.REQUIRE_DOWN), "reserve down"),
        )
    ):
        among, required = np.isin(steps.channels.effect, ways), steps.required_kw[k : k + 1]
        if among.any() or required > 0:
            matrix = sp.csr_matrix(among.astype(np.float64)[None, :])
            blocks.append(
                LinearRows.of(kind, np.zeros(1, dtype=np.int64), matrix, -required, np.abs(required), (name,))
            )
    return blocks


def _own_limits(
    network: Network, book: OrderBook, groups: Groups, steps: Steps, period_hours: float, hours: float
) -> list[LinearRows]:
    channels, size = steps.channels, groups.participant.size
    effect, grouped = effects(book), groups.of_order >= 0
    energy = (effect == Effect.DEMAND) & (book.product == 0)

    def constant(mask: NDArray[np.bool_]) -> FloatArray:
        chosen = mask & grouped
        fixed = (book.side * steps.fixed_kw)[chosen]
        return np.bincount(groups.of_order[chosen], fixed, minlength=size).astype(np.float64)

    def reach(effect: Effect, sign: float) -> FloatArray:
        """Most that variables of a sign add in the channels of an effect, kW."""
        at = steps.channel
        mask = (channels.effect[at] == effect) & (channels.group[at] >= 0) & (steps.sign == sign)
        mask &= (channels.active[at] > 0) | (effect != Effect.DEMAND)
        return np.bincount(channels.group[at][mask], steps.width[mask], minlength=size).astype(np.float64)

    demand, up, down = (constant(m) for m in (energy, effect == Effect.OFFER_UP, effect == Effect.OFFER_DOWN))
    member, moves = channels.group, (channels.effect == Effect.DEMAND) & (channels.active > 0)
    power, stored = (1.0, 1.0), (period_hours / hours, (hours - period_hours) / hours)
    blocks = []
    for direction, offer, given, kind, (d, u), level, name in (
        (1, Effect.OFFER_UP, up, LimitType.EXPORT, power, groups.most_out_kw, "export"),
        (1, Effect.OFFER_UP, up, LimitType.STORED_UP, stored, groups.energy_up_kwh / hours, "stored energy"),
        (-1, Effect.OFFER_DOWN, down, LimitType.IMPORT, power, groups.most_in_kw, "import"),
        (-1, Effect.OFFER_DOWN, down, LimitType.STORED_DOWN, stored, groups.energy_down_kwh / hours, "room for energy"),
    ):
        # What is sold stands negative in its channel: u = -(given + x).
        moved, called = reach(Effect.DEMAND, -float(direction)) - direction * demand, reach(offer, -1.0) - given
        kept = np.flatnonzero(np.isfinite(level) & (d * moved + u * called > level - 1e-12))
        row = np.full(size + 1, -1, dtype=np.int64)
        row[kept] = np.arange(kept.size)
        value = np.where(moves, -direction * d, np.where(channels.effect == offer, -u, 0.0))
        at = np.flatnonzero((row[member] >= 0) & (value != 0))
        matrix = sp.csr_matrix((value[at], (row[member[at]], at)), shape=(kept.size, member.size))
        bound = (level + direction * d * demand + u * given)[kept]
        who = groups.participant[kept]
        places = (place_name(network, book.connections, place) for place in groups.place[kept].tolist())
        names = [f"{name} of participant {number} at {place}" for number, place in zip(who, places, strict=True)]
        blocks.append(LinearRows.of(kind, who, matrix, bound, level[kept], names))
    return blocks
