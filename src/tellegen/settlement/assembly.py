"""From records to the facts of a day: which schedule, price and reading belongs to which interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tellegen.records import OPERATOR, AllocationKeys, Clearings, Customers, Energy, Prices, Schedules
from tellegen.settlement.apportioning import hourly_to_intervals
from tellegen.settlement.facts import DayFacts, IntervalFacts, SettlementError, keys_of, with_energy
from tellegen.units import INTERVALS_PER_HOUR, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ClearedPeriod:
    """What one clearing put on record: an hour of the day-ahead market or a real-time interval."""

    schedules: Schedules
    prices: Prices
    clearing: Clearings

    def __post_init__(self) -> None:
        if len(self.clearing) != 1:
            raise SettlementError(f"a cleared period has one clearing row, not {len(self.clearing)}")


def assemble_day(
    first_interval: int,
    customers: Customers,
    day_ahead: Sequence[ClearedPeriod],
    real_time: Sequence[ClearedPeriod],
    energy: Energy,
    keys: AllocationKeys,
    *,
    rounding_carry_nanos: IntArray | None = None,
) -> DayFacts:
    """Lay the records of a billing day out as arrays.

    Parameters
    ----------
    first_interval : number of the day's first market interval.
    customers : enrolment; each customer is priced at its own node.
    day_ahead : one period per hour, in order.
    real_time : one period per market interval, in order; ``INTERVALS_PER_HOUR`` for each hour.
    energy : validated energy, a row for every customer and for the substation (customer 0) in every
        interval, estimates included; of several rows the last counts.
    keys : frozen sharing keys of the day.
    rounding_carry_nanos : int64[n] by ascending customer number; zeros if None.

    Returns
    -------
    DayFacts with customers in ascending order. A customer without a schedule was awarded nothing.

    Raises
    ------
    SettlementError : the periods do not cover the same time, a price or a validated reading is
        missing, or a record names an unknown customer.
    """
    periods = len(day_ahead) * INTERVALS_PER_HOUR
    if not periods or len(real_time) != periods:
        raise SettlementError(
            f"{len(day_ahead)} day-ahead hours need {periods} real-time periods, not {len(real_time)}"
        )
    order = np.argsort(customers.customer, kind="stable")
    number = customers.customer[order].astype(np.int64)
    node = customers.node[order].astype(np.int64)
    interval = first_interval + np.arange(periods, dtype=np.int64)
    _require_energy(energy, interval, number)

    hourly = np.stack([_scheduled(period.schedules, number) for period in day_ahead])
    root_hourly = np.array([[int(period.clearing.root_wh[0])] for period in day_ahead], dtype=np.int64)
    hourly_price = np.stack([_at_nodes(period.prices, "energy", node) for period in day_ahead])
    root_price = np.array([period.clearing.root_price[0] for period in day_ahead], dtype=np.int64)
    nothing = np.zeros((periods, number.size), dtype=np.int64)
    steps = IntervalFacts(
        interval=interval,
        customer=number,
        node=node,
        forward_wh=hourly_to_intervals(hourly, number, first_interval),
        real_time_wh=np.stack([_scheduled(period.schedules, number) for period in real_time]),
        forward_price=np.repeat(hourly_price, INTERVALS_PER_HOUR, axis=0),
        real_time_price=np.stack([_at_nodes(period.prices, "energy", node) for period in real_time]),
        reactive_price=np.stack([_at_nodes(period.prices, "reactive", node) for period in real_time]),
        import_wh=nothing,
        export_wh=nothing,
        reactive_varh=nothing,
        root_forward_wh=hourly_to_intervals(root_hourly, np.array([OPERATOR]), first_interval)[:, 0],
        losses_wh=np.array([period.clearing.losses_wh[0] for period in real_time], dtype=np.int64),
        substation_wh=np.zeros(periods, dtype=np.int64),
        wholesale_forward_price=np.repeat(root_price, INTERVALS_PER_HOUR),
        wholesale_real_time_price=np.array([period.clearing.root_price[0] for period in real_time], dtype=np.int64),
    )
    carry = np.zeros(number.size, dtype=np.int64) if rounding_carry_nanos is None else rounding_carry_nanos
    return with_energy(DayFacts(steps=steps, key_wh=keys_of(keys, number), rounding_carry_nanos=carry), energy)


def _scheduled(schedules: Schedules, customer: IntArray) -> IntArray:
    number = schedules.customer.astype(np.int64)
    unknown = number[~np.isin(number, customer)]
    if unknown.size:
        raise SettlementError(f"a schedule names customer {int(unknown[0])}, who is not enrolled")
    energy = np.zeros(customer.size, dtype=np.int64)
    np.add.at(energy, np.searchsorted(customer, number), schedules.energy_wh)
    return energy


def _at_nodes(prices: Prices, column: str, node: IntArray) -> IntArray:
    order = np.argsort(prices.node, kind="stable")
    known = prices.node[order].astype(np.int64)
    place = np.minimum(np.searchsorted(known, node), max(known.size - 1, 0))
    missing = node[known[place] != node] if known.size else node
    if missing.size:
        raise SettlementError(f"node {int(missing[0])} of a customer has no price")
    return np.asarray(getattr(prices, column)[order][place], dtype=np.int64)


def _require_energy(energy: Energy, interval: IntArray, customer: IntArray) -> None:
    wanted = np.concatenate([np.array([OPERATOR], dtype=np.int64), customer])
    seen = np.zeros((interval.size, wanted.size), dtype=np.bool_)
    inside = energy.take(np.isin(energy.interval, interval) & np.isin(energy.customer, wanted))
    seen[inside.interval - interval[0], np.searchsorted(wanted, inside.customer.astype(np.int64))] = True
    missing = np.argwhere(~seen)
    if missing.size:
        row, column = missing[0].tolist()
        raise SettlementError(
            f"{len(missing)} validated readings are missing, first that of customer {int(wanted[column])} in interval "
            f"{int(interval[row])}; an interval closes with its estimates"
        )
