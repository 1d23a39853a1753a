"""Which orders a gate takes: at their customers' own nodes, and within the price limits of the rulebook."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.market.facts import requires_reserve
from tellegen.records import OPERATOR, Orders
from tellegen.units import IntArray

OPERATOR_PLACE = -1


def admissible(
    orders: Orders, customer: IntArray, node: IntArray, floor_micros: int, cap_micros: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of orders at their customers' own nodes and within the price limits, and the place of each customer.

    One signature covers all that a customer submits, so its orders are refused together. The operator may require
    reserve, which is of the whole network, and nothing else; its place is `OPERATOR_PLACE`. Nobody else may require it.
    """
    place = np.searchsorted(customer, orders.customer)
    inside = np.minimum(place, max(customer.size - 1, 0))
    own = np.zeros(len(orders), dtype=np.bool_)
    if customer.size:
        own = (customer[inside] == orders.customer) & (node[inside] == orders.node) & ~requires_reserve(orders)
    operator = orders.customer == OPERATOR
    own = np.where(operator, requires_reserve(orders), own)
    place[operator] = OPERATOR_PLACE
    bad = beyond_price_limits(orders, floor_micros, cap_micros)
    if not own.all():
        bad |= np.isin(orders.customer, orders.customer[~own])
    rows = np.flatnonzero(~bad)
    return rows, place[rows]


def beyond_price_limits(orders: Orders, floor_micros: int, cap_micros: int) -> NDArray[np.bool_]:
    """Orders of customers with a price outside the rulebook's cap and floor; price-takers name no price.

    One signature covers all that a customer submits, so its orders are refused together.
    """
    price = orders.price_micros
    outside = (price > cap_micros) | (price < floor_micros)
    return np.isin(orders.customer, orders.customer[outside & (orders.price_taker == 0)])
