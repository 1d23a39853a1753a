"""Offers: the order rows of all homes in one period, built curve by curve.

An agent values energy behind the meter; an order names a price in the market. Energy that the home
would otherwise import is worth the import price, energy that it would otherwise export only the
market price. So each step of a curve is cut where the home's own balance changes sign.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.parameters import Tariff
from tellegen.records import Device, Orders, Product, Side
from tellegen.units import MICROS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

QUANTITY_LIMIT_W = 2**31 - 1
VAR_LIMIT = 3000
"""Reactive power that may come along with an order, var per kW in magnitude (power factor 0.32)."""


@dataclass(frozen=True, slots=True, eq=False)
class Offers:
    """Orders of one period with what only their senders know: the device table row of each.

    orders : sorted by customer, device, product, side, then from the first step to the last.
    row : int64[m], row in the table of the order's kind of device; 0 for the base load.
    """

    orders: Orders
    row: IntArray


def bid_at(orders: Orders, price: FloatArray) -> IntArray:
    """What orders come to at a price, as a home reckons that hears no award, int64[m], mW.

    Price-takers and whatever the price is good enough for, in full; of reactive power nothing: nobody knows its price.

    Parameters
    ----------
    price : float64[m], at the home of each order, currency per kWh.
    """
    wanted = (orders.price_taker != 0) | ((orders.price_micros - price * MICROS) * orders.side >= 0)
    return np.asarray(np.where(wanted & (orders.product == Product.ENERGY), orders.quantity_w * 1000, 0))


@dataclass(slots=True)
class OfferBook:
    """Collects order rows; `build` sorts them into `Offers`. Rows below 1 W are dropped.

    Parameters
    ----------
    node : int64[n], node of customer 1..n.
    price_floor, price_cap : currency per kWh; prices are clipped to them, bids rounded down to a
        micro-currency and offers up, so that no agent promises more than a thing is worth to it.
    """

    node: IntArray
    price_floor: float
    price_cap: float
    _parts: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        owner: IntArray,
        row: IntArray,
        device: Device,
        side: Side,
        quantity_w: FloatArray,
        *,
        price: FloatArray | float | None,
        step: int = 0,
        product: Product = Product.ENERGY,
        var_per_kw: FloatArray | float = 0.0,
    ) -> None:
        """Add one order for each element.

        owner : int64[k], index of the customer (its number less one); row : int64[k] table row.
        quantity_w : float64[k], W (var for `Product.REACTIVE`). price : market price in currency per
        kWh, None for price-takers. step : position in the curve.
        """
        quantity = np.minimum(np.floor(quantity_w + 1e-6), QUANTITY_LIMIT_W)
        keep = quantity >= 1.0
        if not keep.any():
            return
        part = np.empty((9, int(keep.sum())))
        part[0], part[1] = owner[keep], row[keep]
        part[2], part[3], part[4], part[5] = int(device), int(product), int(side), step
        part[6] = price[keep] if isinstance(price, np.ndarray) else np.nan if price is None else price
        part[7] = quantity[keep]
        part[8] = var_per_kw[keep] if isinstance(var_per_kw, np.ndarray) else var_per_kw
        self._parts.append(part)

    def build(self) -> Offers:
        """Sort what was added into one table of orders."""
        rows = np.concatenate(self._parts, axis=1) if self._parts else np.empty((9, 0))
        owner, row, device, product, side, step, price, quantity, var = rows
        order = np.lexsort((step, row, -side, product, device, owner))
        taker = np.isnan(price)
        clipped = np.clip(np.where(taker, 0.0, price), self.price_floor, self.price_cap) * MICROS
        # the nudge keeps a price that is a whole number of micros but for float error where it is
        micros = np.where(side > 0, np.floor(clipped + 1e-4), np.ceil(clipped - 1e-4))
        who = owner.astype(np.int64)
        orders = Orders(
            customer=(who + 1)[order].astype(np.int32),
            period=np.zeros(order.size, dtype=np.uint8),
            device=device.astype(np.uint8)[order],
            node=self.node[who][order].astype(np.int32),
            product=product.astype(np.uint8)[order],
            side=side.astype(np.int8)[order],
            price_taker=taker.astype(np.uint8)[order],
            price_micros=micros.astype(np.int64)[order],
            quantity_w=quantity.astype(np.int64)[order],
            var_per_kw=np.rint(np.clip(var, -VAR_LIMIT, VAR_LIMIT)).astype(np.int32)[order],
        )
        return Offers(orders, row.astype(np.int64)[order])


def buy_curve(
    book: OfferBook,
    owner: IntArray,
    row: IntArray,
    device: Device,
    steps_w: FloatArray,
    value: FloatArray,
    own_w: FloatArray,
    tariff: Tariff,
) -> None:
    """Add buy curves whose steps are worth `value` behind the meter.

    steps_w, value : float64[k, m], power and value (currency per kWh, falling) of the steps in order.
    own_w : float64[k], surplus of the home; the first `own_w` bought is surplus kept at home, which
    costs only the market price.
    """
    before = np.zeros(len(owner))
    for j in range(steps_w.shape[1]):
        kept = np.clip(own_w - before, 0.0, steps_w[:, j])
        inside = value[:, j]
        outside = np.minimum(tariff.market_price(inside), inside)
        book.add(owner, row, device, Side.BUY, kept, price=inside, step=2 * j)
        book.add(owner, row, device, Side.BUY, steps_w[:, j] - kept, price=outside, step=2 * j + 1)
        before = before + steps_w[:, j]


def sell_curve(
    book: OfferBook,
    owner: IntArray,
    row: IntArray,
    device: Device,
    steps_w: FloatArray,
    cost: FloatArray,
    own_w: FloatArray,
    tariff: Tariff,
) -> None:
    """Add sell curves whose steps cost `cost` behind the meter (rising along a curve).

    own_w : float64[k], demand of the home that the first steps cover: they save the import price.
    """
    before = np.zeros(len(owner))
    for j in range(steps_w.shape[1]):
        used = np.clip(own_w - before, 0.0, steps_w[:, j])
        outside = cost[:, j]
        inside = np.minimum(tariff.market_price(outside), outside)
        book.add(owner, row, device, Side.SELL, used, price=inside, step=2 * j)
        book.add(owner, row, device, Side.SELL, steps_w[:, j] - used, price=outside, step=2 * j + 1)
        before = before + steps_w[:, j]


def share_own(owner: IntArray, wanted_w: FloatArray, available_w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share each home's own power among its devices of one kind, in proportion to what they want.

    Returns the part of each device, float64[k], and what is left to each home, float64[n].

    >>> part, left = share_own(np.array([0, 0]), np.array([100.0, 300.0]), np.array([200.0, 50.0]))
    >>> part.tolist(), left.tolist()
    ([50.0, 150.0], [0.0, 50.0])
    """
    total = np.bincount(owner, weights=wanted_w, minlength=len(available_w))
    share = np.where(total > 0.0, np.minimum(available_w / np.where(total > 0.0, total, 1.0), 1.0), 0.0)
    part = wanted_w * share[owner]
    left = available_w - np.bincount(owner, weights=part, minlength=len(available_w))
    return part, np.maximum(left, 0.0)
