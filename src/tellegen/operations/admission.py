"""Which orders a gate takes: at their customers' own nodes, within the price limits of the rulebook, no more than their
connections can carry and their devices can do, and none of who claimed and did not deliver (`operations.delivery`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tellegen.market.facts import requires_reserve
from tellegen.operations.devices import Devices, key_of
from tellegen.records import OPERATOR, Device, Orders, Product, Refusal, Side
from tellegen.rules.price_run import PriceRun
from tellegen.units import IntArray, sums_at

QUANTITY_MAX_W = 10**9
"""So much of an order is counted, far beyond what any device can do: so sums and reactive power stay whole numbers."""
_VAR_PER_KVAR = 1_000
_UNBOUNDED = 2**61


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What bounds the quantities that customers order.

    Attributes
    ----------
    capacity_w : int64[c], most energy that each customer may ask for, all its steps together, and offer; None: any.
    carries_w : int64[c], what each one's connection carries, for orders of the connection itself (device LOAD).
    devices : assets behind the orders; None: any quantity of any device is taken.
    attested : an asset counts only where somebody vouches for it.
    reserve_of_devices : a connection as such holds no reserve; it bears some where false.
    """

    capacity_w: IntArray | None = None
    carries_w: IntArray | None = None
    devices: Devices | None = None
    attested: bool = True
    reserve_of_devices: bool = True

    @classmethod
    def of(cls, rules: PriceRun, capacity_w: IntArray | None, devices: Devices | None) -> Self:
        """What some rules ask for."""
        return cls(
            capacity_w=capacity_w if rules.within_connection else None,
            carries_w=capacity_w,
            devices=devices if rules.within_devices else None,
            attested=rules.attested,
            reserve_of_devices=rules.reserve_of_devices,
        )


def refusals(
    orders: Orders,
    customer: IntArray,
    node: IntArray,
    floor_micros: int,
    cap_micros: int,
    limits: Limits | None = None,
    held: IntArray | None = None,
) -> NDArray[np.uint8]:
    """Why each row is not taken, `Refusal`; 0: it is.

    One signature covers all that a customer submits, so its orders are refused together. The operator may require
    reserve, which is of the whole network, and nothing else. Nobody else may require it.

    Parameters
    ----------
    customer, node : int64[c], who is connected, ascending, and where.
    limits : of quantities; None: any are taken.
    held : customers who claimed and did not deliver; whatever else is wrong with their orders, that is why.
    """
    place = np.searchsorted(customer, orders.customer)
    inside = np.minimum(place, max(customer.size - 1, 0))
    own = np.zeros(len(orders), dtype=np.bool_)
    if customer.size:
        own = (customer[inside] == orders.customer) & (node[inside] == orders.node) & ~requires_reserve(orders)
    operator = orders.customer == OPERATOR
    own = np.where(operator, requires_reserve(orders), own)
    refusal = np.zeros(len(orders), dtype=np.uint8)
    if limits is not None and customer.size:
        mine = own & ~operator
        if limits.devices is not None:
            found = _beyond_devices(orders, limits, limits.devices, inside)
            found[~mine] = Refusal.NONE
            worst = np.zeros(customer.size, dtype=np.uint8)
            np.maximum.at(worst, inside[mine], found[mine])
            refusal[mine] = worst[inside[mine]]
        if limits.capacity_w is not None:
            for side in (Side.BUY, Side.SELL):
                rows = np.flatnonzero(mine & (orders.product == Product.ENERGY) & (orders.side == side))
                total = sums_at(customer.size, inside[rows], orders.quantity_w[rows])
                refusal[(total > limits.capacity_w)[inside] & ~operator] = Refusal.BEYOND_CONNECTION
    bad = beyond_price_limits(orders, floor_micros, cap_micros)
    if not own.all():
        bad |= np.isin(orders.customer, orders.customer[~own])
    refusal[bad] = Refusal.OUT_OF_RANGE
    if held is not None and held.size:
        refusal[np.isin(orders.customer, held)] = Refusal.NOT_DELIVERED
    return refusal


def _beyond_devices(orders: Orders, limits: Limits, devices: Devices, inside: IntArray) -> NDArray[np.uint8]:
    """Why the device behind each order does not bear it, all that the customer orders for it together.

    Energy is bounded by what a device may draw or feed in, reactive power, with what comes along with energy, by its
    rated power, and reserve, which may turn one into the other, by the sum of the two.
    """
    row, load = devices.row_of(orders), orders.device == Device.LOAD
    there = row >= 0
    known = there | load
    if limits.reserve_of_devices:
        known[load & np.isin(orders.product, (Product.RESERVE_UP, Product.RESERVE_DOWN))] = False
    refusal = np.where(known, Refusal.NONE, Refusal.NOT_REGISTERED).astype(np.uint8)
    if limits.attested:
        refusal[there] = np.where(devices.attested[row[there]], Refusal.NONE, Refusal.NOT_ATTESTED)
    # a connection is bounded as such (`within_connection`), but for its reactive power
    import_w, export_w, rated_va = (np.where(load, _UNBOUNDED, 0) for _ in range(3))
    if limits.carries_w is not None:
        rated_va[load] = limits.carries_w[inside[load]]
    import_w[there], export_w[there], rated_va[there] = (
        of[row[there]] for of in (devices.import_w, devices.export_w, devices.capacity_w)
    )
    _, asset = np.unique(key_of(orders), return_inverse=True)
    counted, energy = np.minimum(orders.quantity_w, QUANTITY_MAX_W), orders.product == Product.ENERGY
    along = np.where(energy, counted * np.abs(orders.var_per_kw.astype(np.int64)) // _VAR_PER_KVAR, 0)
    var = np.where(orders.product == Product.REACTIVE, counted, along)
    var_side = np.where(energy, orders.side * np.sign(orders.var_per_kw), orders.side)
    asked = [(var, var_side == side, rated_va) for side in Side]
    asked += [(counted, energy & (orders.side == Side.BUY), import_w)]
    asked += [(counted, energy & (orders.side == Side.SELL), export_w)]
    asked += [
        (counted, orders.product == each, import_w + export_w) for each in (Product.RESERVE_UP, Product.RESERVE_DOWN)
    ]
    for quantity, rows, bound in asked:
        total = sums_at(asset.max(initial=0) + 1, asset[rows], quantity[rows])
        refusal[(total[asset] > bound) & (refusal == Refusal.NONE)] = Refusal.BEYOND_DEVICE
    return refusal


def beyond_price_limits(orders: Orders, floor_micros: int, cap_micros: int) -> NDArray[np.bool_]:
    """Orders of customers with a price outside the rulebook's cap and floor; price-takers name no price.

    One signature covers all that a customer submits, so its orders are refused together.
    """
    price = orders.price_micros
    outside = (price > cap_micros) | (price < floor_micros)
    return np.isin(orders.customer, orders.customer[outside & (orders.price_taker == 0)])
