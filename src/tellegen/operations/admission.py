"""Which orders a gate takes: at their customers' own nodes, within the price limits of the rulebook, no more than their
connections can carry, and none of who claimed and did not deliver (`operations.delivery`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.market.facts import requires_reserve
from tellegen.records import OPERATOR, Orders, Product, Refusal, Side
from tellegen.units import IntArray


def refusals(
    orders: Orders,
    customer: IntArray,
    node: IntArray,
    floor_micros: int,
    cap_micros: int,
    capacity_w: IntArray | None = None,
    held: IntArray | None = None,
) -> NDArray[np.uint8]:
    """Why each row is not taken, `Refusal`; 0: it is.

    One signature covers all that a customer submits, so its orders are refused together. The operator may require
    reserve, which is of the whole network, and nothing else. Nobody else may require it.

    Parameters
    ----------
    customer, node : int64[c], who is connected, ascending, and where.
    capacity_w : int64[c], most that each may ask for in energy, all its steps together, and offer; None: any quantity.
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
    if capacity_w is not None and customer.size:
        for side in (Side.BUY, Side.SELL):
            rows = np.flatnonzero(own & (orders.product == Product.ENERGY) & (orders.side == side))
            total = np.zeros(customer.size, dtype=np.int64)
            np.add.at(total, inside[rows], orders.quantity_w[rows])
            refusal[(total > capacity_w)[inside] & ~operator] = Refusal.BEYOND_CONNECTION
    bad = beyond_price_limits(orders, floor_micros, cap_micros)
    if not own.all():
        bad |= np.isin(orders.customer, orders.customer[~own])
    refusal[bad] = Refusal.OUT_OF_RANGE
    if held is not None and held.size:
        refusal[np.isin(orders.customer, held)] = Refusal.NOT_DELIVERED
    return refusal


def beyond_price_limits(orders: Orders, floor_micros: int, cap_micros: int) -> NDArray[np.bool_]:
    """Orders of customers with a price outside the rulebook's cap and floor; price-takers name no price.

    One signature covers all that a customer submits, so its orders are refused together.
    """
    price = orders.price_micros
    outside = (price > cap_micros) | (price < floor_micros)
    return np.isin(orders.customer, orders.customer[outside & (orders.price_taker == 0)])
