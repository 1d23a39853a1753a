"""What a feeder's market takes in, and what its interval settles from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.connected import Connected
from tellegen.operations.market_day import beyond_price_limits
from tellegen.records import Energy, Orders
from tellegen.rules import Rules
from tellegen.settlement import ClearedPeriod, IntervalFacts
from tellegen.units import IntArray


def admissible(
    orders: Orders, customer: IntArray, node: IntArray, rules: Rules
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of orders at their customers' own nodes and within the price limits, and the place of each customer.

    One signature covers all that a customer submits, so its orders are refused together.
    """
    place = np.searchsorted(customer, orders.customer)
    inside = np.minimum(place, max(customer.size - 1, 0))
    own = np.zeros(len(orders), dtype=np.bool_)
    if customer.size:
        own = (customer[inside] == orders.customer) & (node[inside] == orders.node)
    bad = beyond_price_limits(orders, rules.tariff)
    if not own.all():
        bad |= np.isin(orders.customer, orders.customer[~own])
    rows = np.flatnonzero(~bad)
    return rows, place[rows]


def interval_facts(
    interval: int, connected: Connected, here: slice, period: ClearedPeriod, energy: Energy, substation: Energy
) -> IntervalFacts:
    """What an interval of one feeder settles from; there is no day-ahead market, so its quantities are zero."""
    customer, node = connected.customer[here], connected.node[here]
    awarded = np.zeros(customer.size, dtype=np.int64)
    awarded[np.searchsorted(customer, period.schedules.customer)] = period.schedules.energy_wh
    nothing, none = np.zeros((1, customer.size), dtype=np.int64), np.zeros(1, dtype=np.int64)
    return IntervalFacts(
        interval=np.array([interval]),
        customer=customer,
        forward_wh=nothing,
        real_time_wh=awarded[None, :],
        forward_price=nothing,
        real_time_price=period.prices.energy[node][None, :],
        reactive_price=period.prices.reactive[node][None, :],
        import_wh=energy.import_wh[None, :],
        export_wh=energy.export_wh[None, :],
        reactive_varh=energy.reactive_varh[None, :],
        root_forward_wh=none,
        losses_wh=period.clearing.losses_wh,
        substation_wh=substation.import_wh - substation.export_wh,
        wholesale_forward_price=none,
        wholesale_real_time_price=period.clearing.root_price,
    )
