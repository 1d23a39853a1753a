"""What the record knows of relief: what stored energy is worth elsewhere, and what devices could sell and do not.

All of it follows from the registry, the orders, the meters and prices that are published already; so a gate that is
cleared again finds the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.market import PivotalTest
from tellegen.market.withheld import Idle
from tellegen.operations.awarded import AwardedPower
from tellegen.operations.devices import Devices
from tellegen.operations.price_run import MeteredPower
from tellegen.records import Device, Orders, Product, Side
from tellegen.rules.price_run import PriceRun
from tellegen.units import MICROS, IntArray, sums_at

STORES = (Device.BATTERY, Device.VEHICLE)
"""Devices whose energy can be sold later as well."""
ROOF_PPM = 500_000
"""What counts of a roof: as much of its size as the median roof offers, times this; roofs face all ways."""
IDLE_MIN_W = 500
"""Less than this is nothing that anybody keeps back."""
NO_PRICE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Knowledge:
    """What a test of market power knows of a period besides its orders.

    Attributes
    ----------
    later_micros : int64[nodes], or int64[1] where it is the same everywhere: highest price of a later hour that is
        on record, micro-currency/kWh; `NO_PRICE` where there is none.
    devices : of the customers there, those that may feed in.
    export_w : int64[c], the most that each one's connection may feed in, in the order of the period's customers.
    """

    later_micros: IntArray
    devices: Devices
    export_w: IntArray


def stored_worth(node: IntArray, later_micros: IntArray, root_price_micros: int, test: PivotalTest) -> IntArray:
    """What a kWh in a store is worth at some nodes, int64[n], micro-currency: its opportunity cost.

    That is the highest price at which it can still be sold, and no less than what it costs to buy it back at the
    root's price now, round trip.

    >>> later = np.array([250_000, NO_PRICE])
    >>> stored_worth(np.array([0, 1]), later, 90_000, PivotalTest(storage_efficiency=0.9)).tolist()
    [250000, 100000]
    """
    again = round(root_price_micros / test.storage_efficiency) if root_price_micros > 0 else root_price_micros
    later = later_micros[node] if later_micros.size > 1 else np.broadcast_to(later_micros, node.shape)
    return np.asarray(np.maximum(later, again))


def forgone(orders: Orders, known: Knowledge, root_price_micros: int, test: PivotalTest) -> NDArray[np.float64]:
    """What sellers from a store forgo, float64[orders], currency/kWh; NaN where nothing is forgone."""
    stored = sells(orders) & np.isin(orders.device, STORES)
    worth = np.full(len(orders), np.nan)
    rows = np.flatnonzero(stored)
    worth[rows] = stored_worth(orders.node[rows].astype(np.int64), known.later_micros, root_price_micros, test) / MICROS
    return worth


def sells(orders: Orders) -> NDArray[np.bool_]:
    """Rows that offer energy, bool[orders]."""
    return np.asarray((orders.side == Side.SELL) & (orders.product == Product.ENERGY))


def idle(
    orders: Orders, known: Knowledge, customer: IntArray, node: IntArray, root_price_micros: int, test: PivotalTest
) -> Idle:
    """What registered devices could have sold beyond what they offered, all of a home no more than it may feed in.

    What a home draws at any price comes from its own devices first, so by that much they can do more.

    Parameters
    ----------
    orders : those that the gate took; one that it refuses brings no relief.
    customer, node : int64[n], who is connected, ascending, and where.
    """
    devices = known.devices.take((known.devices.export_w > 0) & np.isin(known.devices.customer, customer))
    roof, most = devices.device == Device.PV, devices.export_w
    rows = np.flatnonzero(np.isin(orders.customer, customer) & (orders.product == Product.ENERGY))
    orders = orders.take(rows)
    offers, row = sells(orders), devices.row_of(orders)
    offered = sums_at(most.size, row[offers & (row >= 0)], orders.quantity_w[offers & (row >= 0)])
    seen = roof & (offered > 0)
    share_ppm = int(np.median(offered[seen] * MICROS // most[seen])) if seen.any() else 0
    left = np.maximum(np.where(roof, most * share_ppm // MICROS * ROOF_PPM // MICROS, most) - offered, 0)
    drawn = (orders.side == Side.BUY) & (orders.price_taker != 0)
    signed = np.where(offers, -orders.quantity_w, np.where(drawn, orders.quantity_w, 0))
    room = known.export_w + sums_at(customer.size, np.searchsorted(customer, orders.customer), signed)
    at = np.searchsorted(customer, devices.customer)
    before = np.cumsum(left) - left  # devices of a home lie together
    before -= before[np.searchsorted(devices.customer, devices.customer)]
    left = np.clip(room[at] - before, 0, left)
    return _idle(devices.customer, node[at], np.isin(devices.device, STORES), left, known, root_price_micros, test)


def undelivered(
    orders: Orders,
    awarded_mw: IntArray,
    metered: MeteredPower,
    known: Knowledge,
    root_price_micros: int,
    test: PivotalTest,
    rules: PriceRun,
) -> Idle:
    """What homes were to sell on balance and did not, beyond what the run forgives them; missing meters forgiven.

    Of a coarse meter both are means over its span.
    """
    awarded = AwardedPower.of(orders, awarded_mw, metered.customer)
    if metered.spans is not None:
        awarded = awarded.replaced(metered.spans.rows, metered.spans.awards)
    net = awarded.net_w
    short = metered.net_w - net
    forgiven = np.abs(net) * rules.relief_share_ppm // MICROS + rules.relief_w
    short = np.where((net < 0) & (short > forgiven) & ~metered.missing, np.minimum(short, -net), 0)
    stored = sells(orders) & np.isin(orders.device, STORES)
    stores = np.isin(metered.customer, orders.customer[stored])
    return _idle(metered.customer, metered.node, stores, short, known, root_price_micros, test)


def _idle(
    who: IntArray,
    node: IntArray,
    stores: NDArray[np.bool_],
    power_w: IntArray,
    known: Knowledge,
    root_price_micros: int,
    test: PivotalTest,
) -> Idle:
    rows = np.flatnonzero(power_w > IDLE_MIN_W)
    where = node[rows]
    worth = np.where(stores[rows], stored_worth(where, known.later_micros, root_price_micros, test), root_price_micros)
    return Idle(who[rows], where, power_w[rows] / 1_000, worth / MICROS)


def together(*parts: Idle) -> Idle:
    """Several as one."""
    return Idle(
        participant=np.concatenate([part.participant for part in parts]),
        node=np.concatenate([part.node for part in parts]),
        kw=np.concatenate([part.kw for part in parts]),
        worth=np.concatenate([part.worth for part in parts]),
    )
