"""From a clearing to the integers that go on record (law 1).

Float ends here. Awards are whole milliwatts, never more than the order; orders that tie share theirs by largest
remainder. A price is whole micro-currency per kWh, and its parts sum to it exactly. Energy is the difference of
cumulative whole Wh, so that rounding never piles up; the root is the residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.network import IntArray
from tellegen.market.outcome import Clearing
from tellegen.records import OPERATOR, Awards, Clearings, Orders, Prices, Product, RecordError, Schedules, Side, Starts
from tellegen.units import (
    INTERVALS_PER_HOUR,
    MICROS,
    allocate,
    amount_nanos,
    check_rows,
    exact_sum,
    tie_hash,
)

MW_INTERVALS_PER_WH = 1000 * INTERVALS_PER_HOUR
MICROVAR_INTERVALS_PER_VARH = MICROS * INTERVALS_PER_HOUR
UNITS = np.array(
    [MW_INTERVALS_PER_WH, MICROVAR_INTERVALS_PER_VARH, MW_INTERVALS_PER_WH, MW_INTERVALS_PER_WH], dtype=np.int64
)
NANO_MAX = 2**62
CARRIED = 4
"""Columns of a carry: energy, reactive energy, reserve up, reserve down."""


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What one clearing puts on record; `carry` goes to the same market's next `schedules`.

    `starts` is what the next clearing starts from besides prices and awards (`market.start`).
    """

    awards: Awards
    prices: Prices
    schedules: Schedules
    starts: Starts
    clearing: Clearings
    carry: IntArray


def to_records(
    clearing: Clearing,
    orders: Orders,
    *,
    root_price_micros: int,
    intervals: int = 1,
    carry: IntArray | None = None,
) -> Facts:
    """All facts of a clearing.

    Parameters
    ----------
    clearing : of the book of `orders`, same rows, without other inflexible demand.
    root_price_micros : micro-currency/kWh, as cleared; the root's reactive power costs nothing.
    intervals : market intervals that the period lasts (1 in real time, 12 for a day-ahead hour).
    carry : int64[n, 4] from the last period of this market (see `schedules`); zero where absent.

    Raises
    ------
    RecordError : orders and clearing differ in length; a customer at two nodes.
    QuantityError : a fact does not fit its row.
    """
    given = awards(clearing, orders)
    prices = price_table(clearing)
    customers = int(orders.customer.max(initial=0))
    before = np.zeros((customers, CARRIED), dtype=np.int64) if carry is None else carry
    rows, after = schedules(given, orders, before, intervals=intervals)
    summary = _summary(clearing, prices, rows, root_price_micros, intervals)
    starts = Starts.empty() if clearing.starts is None else clearing.starts
    return Facts(given, prices, rows, starts, summary, after)


def awards(clearing: Clearing, orders: Orders) -> Awards:
    """Whole milliwatts (millivars): to the nearest, never above the order, ties by largest remainder.

    Orders that get nothing have no row.

    Raises
    ------
    RecordError : orders and clearing differ in length.
    """
    if len(orders) != clearing.award_kw.size:
        raise RecordError(f"{len(orders)} orders, but {clearing.award_kw.size} awards")
    most = orders.quantity_w.astype(np.int64) * 1000
    milliwatts = np.clip(np.rint(clearing.award_kw * 1e6).astype(np.int64), 0, most)
    tie = clearing.tie
    for group in np.unique(tie[tie >= 0]):
        rows = np.flatnonzero(tie == group)
        total = min(round(float(clearing.award_kw[rows].sum()) * 1e6), int(most[rows].sum()))
        if 0 < total < int(most[rows].sum()):
            ties = tie_hash(f"award/{clearing.tie_context}", rows)
            milliwatts[rows] = allocate(total, orders.quantity_w[rows], ties)
        else:
            milliwatts[rows] = most[rows] if total > 0 else 0
    given = np.flatnonzero(milliwatts)
    return Awards(customer=orders.customer[given], order=given.astype(np.int32), quantity_mw=milliwatts[given])


def price_table(clearing: Clearing) -> Prices:
    """Prices in whole micro-currency; the rounding of the parts is taken by the losses.

    Raises
    ------
    QuantityError : a price does not fit its row.
    """
    prices = clearing.prices
    micros = {
        name: check_rows(np.rint(getattr(prices, name) * MICROS).astype(np.int64), f"price part {name}")
        for name in ("energy", "root", "congestion", "voltage", "low", "high", "reactive")
    }
    reserve = check_rows(np.rint(prices.reserve * MICROS).astype(np.int64), "price of reserve")
    energy = micros["energy"]
    return Prices(
        node=np.arange(energy.size, dtype=np.int32),
        energy=energy,
        root=micros["root"],
        losses=energy - micros["root"] - micros["congestion"] - micros["voltage"],
        congestion=micros["congestion"],
        voltage=micros["voltage"],
        low=np.minimum(micros["low"], energy),
        high=np.maximum(micros["high"], energy),
        reactive=micros["reactive"],
        reserve_up=reserve[0],
        reserve_down=reserve[1],
    )


def schedules(
    given: Awards, orders: Orders, carry_mw_intervals: IntArray, *, intervals: int = 1
) -> tuple[Schedules, IntArray]:
    """Whole Wh and varh awarded to each customer that has orders, and what is carried to the next period.

    Reserve that the operator requires (a buy order of `OPERATOR`) is nobody's schedule.

    Parameters
    ----------
    given : awards. orders : the book that `given.order` counts rows of.
    carry_mw_intervals : int64[n, 4], for customers 1..n: milliwatt-intervals, microvar-intervals, milliwatt-intervals
        of reserve up and down not yet turned into whole Wh and varh.
    intervals : market intervals that the period lasts.

    Returns
    -------
    Schedules, one row per customer in rising order, withdrawal positive; and the new carry. Over any run of periods the
    Wh are the whole Wh of the summed power: ``units.cumulative_energy_wh`` of it, to the last unit.

    Raises
    ------
    RecordError : awards and orders do not match, a customer is beyond the carry or at two nodes.

    Examples
    --------
    7 W bought for six intervals is 3.5 Wh: three whole Wh now, the half is carried.

    >>> one = dict(period=[0], device=[0], node=[4], product=[0], side=[1], price_taker=[1])
    >>> one |= dict(price_micros=[0], var_per_kw=[0])
    >>> orders = Orders(customer=np.array([1]), quantity_w=np.array([7]), **{k: np.array(v) for k, v in one.items()})
    >>> given = Awards(customer=np.array([1]), order=np.array([0]), quantity_mw=np.array([7000]))
    >>> rows, carry = schedules(given, orders, np.zeros((1, 4), dtype=np.int64), intervals=6)
    >>> rows.energy_wh.tolist(), carry.tolist()
    ([3], [[6000, 0, 0, 0]])
    """
    known = not len(given) or 0 <= int(given.order.min()) <= int(given.order.max()) < len(orders)
    if not known or not np.array_equal(given.customer, orders.customer[given.order]):
        raise RecordError("awards are not of these orders")
    carry = np.array(carry_mw_intervals, dtype=np.int64, copy=True)
    mine = orders.customer != OPERATOR
    customer, first, place = np.unique(orders.customer[mine].astype(np.int64), return_index=True, return_inverse=True)
    if customer.size and (customer[0] < 1 or customer[-1] > carry.shape[0]):
        raise RecordError(f"customer {customer[0]}..{customer[-1]} is outside the carry of 1..{carry.shape[0]}")
    node = orders.node[mine][first]
    if not np.array_equal(node[place], orders.node[mine]):
        row = int(np.flatnonzero(mine)[np.argmax(node[place] != orders.node[mine])])
        raise RecordError(f"order row {row}: customer {orders.customer[row]} is at two nodes")
    wrong = mine == requires_reserve(orders)
    if wrong.any():
        raise RecordError(
            f"order row {int(np.argmax(wrong))}: the operator, and nobody else, requires reserve and only that"
        )
    place_of = np.full(len(orders), customer.size, dtype=np.int64)
    place_of[mine] = place
    signed = given.quantity_mw * orders.side[given.order].astype(np.int64)
    at, product = place_of[given.order], orders.product[given.order]
    sums = np.zeros((customer.size + 1, CARRIED), dtype=np.int64)
    # mW x var/kW = microvar; a reactive award of 1 mvar is 1000 of them.
    for column, kind, amount in (
        (0, Product.ENERGY, signed),
        (1, Product.ENERGY, signed * orders.var_per_kw[given.order]),
        (1, Product.REACTIVE, 1000 * signed),
        (2, Product.RESERVE_UP, -signed),
        (3, Product.RESERVE_DOWN, -signed),
    ):
        rows = np.flatnonzero(product == kind)
        np.add.at(sums[:, column], at[rows], amount[rows])
    whole, rest = np.divmod(carry[customer - 1] + sums[:-1] * intervals, UNITS)
    carry[customer - 1] = rest
    carried = rest.astype(np.int32)
    table = Schedules(
        customer=customer.astype(np.int32),
        node=node,
        energy_wh=check_rows(whole[:, 0], "scheduled energy"),
        reactive_varh=check_rows(whole[:, 1], "scheduled reactive energy"),
        reserve_up_wh=check_rows(whole[:, 2], "scheduled reserve"),
        reserve_down_wh=check_rows(whole[:, 3], "scheduled reserve"),
        carry_energy=carried[:, 0],
        carry_reactive=carried[:, 1],
        carry_reserve_up=carried[:, 2],
        carry_reserve_down=carried[:, 3],
    )
    return table, carry


def requires_reserve(orders: Orders) -> NDArray[np.bool_]:
    """Rows that ask for reserve, bool[orders]: who sells it offers it, who buys it requires it of the network."""
    return np.asarray((orders.side == Side.BUY) & (orders.product > Product.REACTIVE))


def _summary(
    clearing: Clearing, prices: Prices, scheduled: Schedules, root_price_micros: int, intervals: int
) -> Clearings:
    """One row: the root is schedules plus modelled losses, the rent is schedules at prices less the root."""
    hours = intervals / INTERVALS_PER_HOUR
    flow = clearing.flow
    losses_wh = round(flow.losses_kw * hours * 1000)
    root_wh = exact_sum(scheduled.energy_wh) + losses_wh
    root_varh = round(flow.root_kvar * hours * 1000)
    paid = exact_sum(amount_nanos(scheduled.energy_wh, prices.energy[scheduled.node]))
    paid += exact_sum(amount_nanos(scheduled.reactive_varh, prices.reactive[scheduled.node]))
    rent = paid - root_wh * root_price_micros
    evidence = clearing.evidence
    return Clearings(
        status=np.array([int(clearing.status)]),
        root_price=np.array([root_price_micros]),
        root_wh=np.array([root_wh]),
        root_varh=np.array([root_varh]),
        losses_wh=np.array([losses_wh]),
        rent_nanos=np.array([rent]),
        welfare_micros_per_h=np.array([round(clearing.welfare * MICROS)]),
        iterations=np.array([evidence.iterations]),
        binding=np.array([len(clearing.limits)]),
        violation_nano_pu=np.array([_nano(evidence.max_violation_pu)]),
        mismatch_nano_pu=np.array([_nano(evidence.ac_mismatch_pu)]),
        kkt_nano=np.array([_nano(evidence.kkt_residual)]),
    )


def _nano(value: float) -> int:
    """Whole billionths, rounded up; what is not known (a fallback's residual) is the largest."""
    scaled = value * 1e9
    return int(np.ceil(scaled)) if scaled < NANO_MAX else NANO_MAX
