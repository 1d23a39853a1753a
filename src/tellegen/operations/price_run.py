"""The price run: an interval is cleared once more, on what meters show, and only that price settles real time.

An award says who was to do what; nobody is billed by it. So orders that nobody means would set prices for those who do.
The run counts of the orders of a gate what was delivered: a priced order as far as the meter's net reading on its side
goes, unawarded relief of homes that kept to their awards, and everything else that is metered as inflexible. A claim
without energy behind it is not there, and moves nothing. (Ex-post locational prices, as PJM settled by them for years,
are the relative; what was tried before these rules held is in the documents.)

All numbers are integers: W, var, micro-currency/kWh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.awarded import MW_PER_W, AwardedPower, SpanAwards
from tellegen.records import Device, Energy, Orders, Product, Quality, Side
from tellegen.rules.price_run import PriceRun
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray, sums_at


@dataclass(frozen=True, slots=True, eq=False)
class MeteredPower:
    """Mean power of the customers on a feeder over an interval.

    Attributes
    ----------
    customer : int64[n], ascending. node : int64[n].
    net_w, net_var : int64[n], withdrawal positive; of `missing` meters what validation assumes, which never follows
        from orders, awards or prices.
    missing : bool[n], nothing that counts was read.
    import_w, export_w : int64[n], the most that the connection may draw and feed in.
    spans : whose meters are coarse: what they show is the mean of a span, and so is what they were awarded.
    """

    customer: IntArray
    node: IntArray
    net_w: IntArray
    net_var: IntArray
    missing: NDArray[np.bool_]
    import_w: IntArray
    export_w: IntArray
    spans: SpanAwards | None = None

    @classmethod
    def of(
        cls,
        energy: Energy,
        node: IntArray,
        import_w: IntArray,
        export_w: IntArray,
        spans: SpanAwards | None = None,
    ) -> MeteredPower:
        """From energy of an interval by customer, ascending."""
        return cls(
            customer=energy.customer.astype(np.int64),
            node=node,
            net_w=(energy.import_wh - energy.export_wh) * INTERVALS_PER_HOUR,
            net_var=energy.reactive_varh * INTERVALS_PER_HOUR,
            missing=energy.quality == Quality.ESTIMATED,
            import_w=import_w,
            export_w=export_w,
            spans=spans,
        )

    def too_much_missing(self, missing_ppm: int) -> bool:
        """Whether more than a share of the meters is missing."""
        return int(self.missing.sum()) * MICROS > missing_ppm * self.customer.size


def run_orders(
    orders: Orders, awarded_mw: IntArray, metered: MeteredPower, root_price_micros: int, rules: PriceRun
) -> Orders:
    """The book of a price run.

    Parameters
    ----------
    orders : the gate's book, rows of who is not connected left out. awarded_mw : int64[orders].

    Returns
    -------
    Orders: what is inflexible, by customer, as price-takers of energy and of reactive power; filled and relief orders.
    What does not divide in whole W among orders of equal worth is inflexible.
    """
    at = np.searchsorted(metered.customer, orders.customer)
    energy = orders.product == Product.ENERGY
    award = awarded_mw // MW_PER_W
    awarded = AwardedPower.of(orders, awarded_mw, metered.customer)
    if metered.spans is not None:
        awarded = awarded.replaced(metered.spans.rows, metered.spans.awards)
    priced = orders.price_taker == 0
    believed = ~metered.missing[at]
    size_w = np.abs(metered.net_w)

    meant = energy & (award > 0) & believed & (orders.side == np.sign(metered.net_w)[at])
    filled = np.zeros(len(orders), dtype=np.int64)
    if rules.fills:
        filled = _filled(orders, at, np.where(meant, award, 0), size_w)
        filled[~priced] = 0  # as inflexible as all the rest
    fixed_w = metered.net_w - sums_at(metered.customer.size, at, filled * orders.side)
    with_energy = filled * orders.side * orders.var_per_kw // MW_PER_W
    filled_var, reactive = np.zeros((2, len(orders)), dtype=np.int64)
    if rules.reactive_stays:
        filled_var = _reactive(orders, at, award, awarded, metered, rules)
        reactive = np.minimum(filled_var + filled_var * rules.reactive_more_ppm // MICROS, orders.quantity_w)
    fixed_var = metered.net_var - sums_at(metered.customer.size, at, with_energy + filled_var * orders.side)

    # what the gate awarded in part was its margin; where that now lies a little further on, it still is
    grown = np.where(award < orders.quantity_w, filled * rules.growth_ppm // MICROS, 0)
    room_w = (Side.BUY, metered.import_w - metered.net_w), (Side.SELL, metered.export_w + metered.net_w)
    more, relief = np.zeros((2, len(orders)), dtype=np.int64)
    for side, room in room_w:
        more += _filled(orders, at, np.where(orders.side == side, grown, 0), np.maximum(room, 0))
    if rules.relief:
        # what was awarded and not done counts nowhere, here neither: else a claim would take its author's own relief
        done_w = np.minimum(np.where(metered.net_w > 0, awarded.bought_w, awarded.sold_w), size_w)
        kept = size_w - done_w <= done_w * rules.relief_share_ppm // MICROS + rules.relief_w
        price = orders.price_micros
        helps = np.where(orders.side == Side.SELL, price >= root_price_micros, price <= root_price_micros)
        open_w = np.where(energy & priced & believed & kept[at] & helps, orders.quantity_w - award, 0)
        shown_w = size_w + rules.relief_w
        # somebody vouches for what a registered device can do; of all else as much is believed as its home shows
        vouched = (orders.device != Device.LOAD) & (rules.within_devices and rules.attested)
        for side, room in room_w:
            mine, room_left = np.where(orders.side == side, open_w, 0), np.maximum(room, 0)
            sure = _filled(orders, at, np.where(vouched, mine, 0), room_left)
            room_left = np.minimum(room_left - sums_at(metered.customer.size, at, sure), shown_w)
            relief += sure + _filled(orders, at, np.where(vouched, 0, mine), np.maximum(room_left, 0))

    return Orders.concat(
        [
            inflexible(metered.customer, metered.node, fixed_w, Product.ENERGY),
            inflexible(metered.customer, metered.node, fixed_var, Product.REACTIVE),
            _with_quantity(orders, np.minimum(filled + np.maximum(more, relief), orders.quantity_w)),
            _with_quantity(orders, reactive),
        ]
    )


def _reactive(
    orders: Orders, at: IntArray, award: IntArray, awarded: AwardedPower, metered: MeteredPower, rules: PriceRun
) -> IntArray:
    """How much of each award of reactive power counts as done, var.

    A net reading does not tell an inverter from the load behind it, so what is asked for is the whole plan of a home,
    with what goes along with energy. Where the meter is near it, priced awards count, on either side no more than the
    power that the meter shows of any kind: who shows nothing has nothing to move.
    """
    of_var = orders.product == Product.REACTIVE
    apart = np.abs(metered.net_var - awarded.net_var)
    kept = apart <= awarded.gross_var * rules.relief_share_ppm // MICROS + rules.relief_w
    stays = of_var & (orders.price_taker == 0) & kept[at] & ~metered.missing[at]
    shown = np.abs(metered.net_var) + np.abs(metered.net_w)
    return sum(
        (
            _filled(orders, at, np.where(stays & (orders.side == side), award, 0), shown)
            for side in (Side.BUY, Side.SELL)
        ),
        start=np.zeros(len(orders), dtype=np.int64),
    )


def _filled(orders: Orders, at: IntArray, most: IntArray, size: IntArray) -> IntArray:
    """How much of rows counts until each customer's size is reached: price-takers first, then the best price.

    Parameters
    ----------
    most : int64[rows], of each row. size : int64[n], of each customer. Orders of equal worth share what is left pro
        rata, in whole W.
    """
    rows = np.flatnonzero(most > 0)
    worth = np.where(orders.price_taker != 0, np.iinfo(np.int64).max, orders.price_micros * orders.side)
    rows = rows[np.lexsort((-worth[rows], at[rows]))]
    worth = worth[rows]
    filled = np.zeros(len(orders), dtype=np.int64)
    if not rows.size:
        return filled
    who = at[rows]
    fresh = np.r_[True, (who[1:] != who[:-1]) | (worth[1:] != worth[:-1])]
    group = np.cumsum(fresh) - 1
    head = np.flatnonzero(fresh)
    total = np.add.reduceat(most[rows], head)
    before = np.cumsum(total) - total
    first = np.r_[True, who[head][1:] != who[head][:-1]]
    before -= np.maximum.accumulate(np.where(first, before, 0))
    given = np.clip(size[who[head]] - before, 0, total)
    filled[rows] = most[rows] * given[group] // total[group]
    return filled


def inflexible(customer: IntArray, node: IntArray, signed: IntArray, product: Product) -> Orders:
    """Price-takers with so much net withdrawal each, int64[n] W or var; those with none have no row."""
    rows = np.flatnonzero(signed)
    nothing = np.zeros(rows.size, dtype=np.int64)
    return Orders(
        customer=customer[rows].astype(np.int32),
        period=nothing.astype(np.uint8),
        device=np.full(rows.size, Device.LOAD, dtype=np.uint8),
        node=node[rows].astype(np.int32),
        product=np.full(rows.size, product, dtype=np.uint8),
        side=np.sign(signed[rows]).astype(np.int8),
        price_taker=np.ones(rows.size, dtype=np.uint8),
        price_micros=nothing,
        quantity_w=np.abs(signed[rows]),
        var_per_kw=nothing.astype(np.int32),
    )


def _with_quantity(orders: Orders, quantity_w: IntArray) -> Orders:
    """Orders with other quantities; rows of nothing are left out."""
    rows = np.flatnonzero(quantity_w)
    return replace(orders.take(rows), quantity_w=quantity_w[rows])
