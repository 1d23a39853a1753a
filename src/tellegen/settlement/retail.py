"""Bills of a world without a market, for comparison: the same costs under an ordinary tariff.

A retailer buys each hour's energy of the substation day-ahead, as if it had foreseen it, and what an
interval differs from that in real time. It pays injections a feed-in price, and recovers exactly its
cost from withdrawals: at one price all day, or at a peak and an off-peak price in a fixed ratio.
Network revenue, taxes and their rules are those of the market's world. Every sum is exact; no
rounding to cents takes place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tellegen.books import row_sums
from tellegen.settlement.day_close import sales_tax, share_pool
from tellegen.settlement.facts import SettlementError
from tellegen.settlement.parameters import Parameters, ShareKey
from tellegen.units import (
    INTERVALS_PER_HOUR,
    IntArray,
    allocate,
    amount_nanos,
    check_rows,
    exact_sum,
    interval_start,
    tie_hash,
)


class Plan(StrEnum):
    """How the retailer prices energy."""

    FLAT = "flat"
    TIME_OF_USE = "time_of_use"


class RetailLine(StrEnum):
    """Lines of a retail bill; FEED_IN is a credit."""

    ENERGY = "energy"
    FEED_IN = "feed_in"
    NETWORK_ENERGY = "network_energy"
    NETWORK_FIXED = "network_fixed"
    NETWORK_TRUE_UP = "network_true_up"
    ENERGY_TAX = "energy_tax"
    SALES_TAX = "sales_tax"


@dataclass(frozen=True, slots=True, eq=False)
class RetailDay:
    """What is metered in a world without a market; withdrawals positive.

    Attributes
    ----------
    interval : int64[T], consecutive market intervals of one billing day.
    day_intervals : those the day has; what is due for a day is due for the part of it.
    customer : int64[n], customer numbers.
    import_wh, export_wh : int64[T, n], not negative.
    substation_wh : int64[T], net energy bought at the substation.
    forward_price, wholesale_price : int64[T], day-ahead and real time, micro-currency per kWh.
    key_wh : int64[n], the same frozen keys as in the market's world.

    Raises
    ------
    SettlementError : shapes do not fit.
    """

    interval: IntArray
    customer: IntArray
    import_wh: IntArray
    export_wh: IntArray
    substation_wh: IntArray
    forward_price: IntArray
    wholesale_price: IntArray
    key_wh: IntArray
    day_intervals: int

    def __post_init__(self) -> None:
        periods, customers = np.size(self.interval), np.size(self.customer)
        for name in ("import_wh", "export_wh"):
            if np.shape(getattr(self, name)) != (periods, customers):
                raise SettlementError(f"{name} has shape {np.shape(getattr(self, name))}, {periods, customers} needed")
        vectors = {"substation_wh": periods, "forward_price": periods, "wholesale_price": periods, "key_wh": customers}
        for name, size in vectors.items():
            if np.shape(getattr(self, name)) != (size,):
                raise SettlementError(f"{name} has shape {np.shape(getattr(self, name))}, {(size,)} needed")


@dataclass(frozen=True, slots=True, eq=False)
class RetailBills:
    """Bills of one day, in nano-currency; positive is owed by the customer.

    Attributes
    ----------
    lines : int64[n] per line.
    energy_cost_nanos : wholesale cost and feed-in payments, which the ENERGY line sums to.
    peak_price_micros_per_kwh, off_peak_price_micros_per_kwh : the tariff that results, rounded
        down (for display: the bills are shares of the cost, not products). Equal under FLAT.
    """

    lines: Mapping[RetailLine, IntArray]
    energy_cost_nanos: int
    peak_price_micros_per_kwh: int
    off_peak_price_micros_per_kwh: int

    @property
    def total(self) -> IntArray:
        """Bill of each customer, int64[n]."""
        return np.asarray(row_sums(np.stack(list(self.lines.values()), axis=1)))


def _hourly(day: RetailDay) -> IntArray:
    """Energy of each hour spread evenly over its intervals, int64[T]; a last part of an hour likewise."""
    forward = np.empty_like(day.substation_wh)
    for start in range(0, day.interval.size, INTERVALS_PER_HOUR):
        hour = slice(start, start + INTERVALS_PER_HOUR)
        members = day.interval[hour]
        ties = tie_hash(f"retail day-ahead/{members[0]}", members)
        forward[hour] = allocate(exact_sum(day.substation_wh[hour]), np.ones_like(members), ties)
    return forward


def peak_intervals(interval: IntArray, parameters: Parameters) -> NDArray[np.bool_]:
    """Which market intervals lie in the local peak hours, bool[T].

    Local time is the billing calendar's, daylight saving included.
    """
    zone = ZoneInfo(parameters.time_zone)
    retail = parameters.retail
    hours = [interval_start(number).astimezone(zone).hour for number in interval.tolist()]
    return np.array([retail.peak_start_hour <= hour < retail.peak_end_hour for hour in hours], dtype=np.bool_)


def retail_bills(day: RetailDay, plan: Plan, parameters: Parameters) -> RetailBills:
    """Bills under a flat or a time-of-use tariff that recovers the day's cost exactly.

    With F the substation's energy of each hour, spread over its intervals, cost is
    ``C = sum(F * forward price + (substation - F) * wholesale price) + sum(export) * feed-in price``; with off-peak
    ratio r (1 under FLAT), customer i's energy line is ``C * w_i / sum(w)`` with
    ``w_i = peak import_i + r * off-peak import_i``, by largest remainder.

    Raises
    ------
    SettlementError : there are costs and nobody withdraws.
    """
    first, customers = int(day.interval[0]), day.customer.size
    part = Fraction(day.interval.size, day.day_intervals)
    feed_in = row_sums(day.export_wh.T) * -parameters.retail.feed_in_micros_per_kwh
    forward = _hourly(day)
    bought = amount_nanos(forward, day.forward_price) + amount_nanos(day.substation_wh - forward, day.wholesale_price)
    wholesale = exact_sum(bought)
    cost = wholesale - exact_sum(feed_in)
    ppm = parameters.retail.off_peak_ratio_ppm if plan is Plan.TIME_OF_USE else 1_000_000
    ratio = np.where(peak_intervals(day.interval, parameters), 1_000_000, ppm)
    weight = row_sums((check_rows(day.import_wh, "import") * ratio[:, None]).T)
    whole = exact_sum(weight)
    if cost and not whole:
        raise SettlementError(f"energy cost of {cost} nano-currency cannot be recovered: nobody withdraws")
    energy = allocate(cost, weight, tie_hash(f"retail {plan}/{first}", day.customer))

    imported = row_sums(day.import_wh.T)
    network = imported * parameters.network_withdrawal_micros_per_kwh
    energy_tax = imported * parameters.energy_tax_micros_per_kwh
    fixed = np.full(customers, int(parameters.network_fixed_nanos_per_day * part), dtype=np.int64)
    missing = parameters.network_revenue_nanos(customers, part) - exact_sum(network) - exact_sum(fixed)
    trailing = parameters.true_up_key is ShareKey.TRAILING_WITHDRAWAL and day.key_wh.any()
    key = day.key_wh if trailing else np.ones_like(day.key_wh)
    true_up = share_pool(missing, "network true-up", key, day.customer, first)
    # the rule of the market's world: grid lines in full, energy as far as it is a net supply
    base = np.maximum(network + energy_tax + fixed + true_up + np.maximum(energy + feed_in, 0), 0)
    lines = {
        RetailLine.ENERGY: energy,
        RetailLine.FEED_IN: feed_in,
        RetailLine.NETWORK_ENERGY: network,
        RetailLine.NETWORK_FIXED: fixed,
        RetailLine.NETWORK_TRUE_UP: true_up,
        RetailLine.ENERGY_TAX: energy_tax,
        RetailLine.SALES_TAX: sales_tax(base, parameters.sales_tax_ppm, first, day.customer),
    }
    peak_price = cost * 1_000_000 // whole if whole else 0
    return RetailBills(lines, cost, peak_price, peak_price * ppm // 1_000_000)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changing from one world to another does to the bills of the same customers.

    Attributes
    ----------
    saving_nanos : sum of all bills before less after: money that no customer pays any more.
    transfer_nanos : ``(sum(abs(d)) - abs(sum(d))) / 2`` for the customers' savings d: the gains of
        some that are matched by losses of others (the smaller of all gains and all losses).
    better_off, worse_off : number of customers whose bill falls and rises.
    """

    saving_nanos: int
    transfer_nanos: int
    better_off: int
    worse_off: int


def compare_bills(before_nanos: IntArray, after_nanos: IntArray) -> Comparison:
    """Split what happens to customers' bills into a real saving and a transfer between them.

    >>> compare_bills(np.array([10, 10, 10]), np.array([4, 11, 12]))
    Comparison(saving_nanos=3, transfer_nanos=3, better_off=1, worse_off=2)
    """
    gains = [b - a for b, a in zip(before_nanos.tolist(), after_nanos.tolist(), strict=True)]
    won = sum(gain for gain in gains if gain > 0)
    lost = -sum(gain for gain in gains if gain < 0)
    return Comparison(
        saving_nanos=won - lost,
        transfer_nanos=min(won, lost),
        better_off=sum(gain > 0 for gain in gains),
        worse_off=sum(gain < 0 for gain in gains),
    )
