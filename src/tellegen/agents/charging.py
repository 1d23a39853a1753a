"""When does a car charge? Cheapest intervals before its deadline, and what the next kWh is worth.

A car that lacks energy has a number of intervals left. What can no longer be postponed must run,
whatever the price. The rest is worth the expected price of the interval that it would spare: with
later prices sorted, a car that needs ``m`` more intervals would otherwise charge in the ``m`` cheapest,
so a kWh now saves the ``m``-th cheapest price, and never more than the energy is worth to its owner.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.devices import Vehicles
from tellegen.agents.homes import HOURS, NEGLIGIBLE_WH, PER_HOUR

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PER_DAY = 288


def plugged_in(vehicles: Vehicles, remaining_wh: FloatArray, interval: int) -> IntArray:
    """Rows of the sessions that are plugged in during `interval` and still lack energy.

    A session is not visible before its arrival: agents do not know who will come home when.
    """
    here = (vehicles.arrival <= interval) & (interval < vehicles.deadline)
    return np.flatnonzero(here & (remaining_wh > NEGLIGIBLE_WH))


@dataclass(frozen=True, slots=True)
class ChargingBid:
    """What cars want in one interval: must-run power in W [k], flexible steps in W [k, 2] and their
    value behind the meter [k, 2] in currency per kWh, falling.
    """

    must_w: FloatArray
    steps_w: FloatArray
    value: FloatArray


def charging_bid(cars: Vehicles, remaining_wh: FloatArray, interval: int, later_price: FloatArray) -> ChargingBid:
    """Bid of plugged-in cars for `interval`.

    Parameters
    ----------
    cars, remaining_wh : the sessions in question, k rows, each with ``interval < deadline``.
    later_price : float64[k, L], effective price expected of the intervals after this one, L at least
        the most intervals that any car has left after this one.

    >>> car = Vehicles(np.array([1]), np.array([12e3]), np.array([0.9]), np.array([0]), np.array([4]),
    ...                np.array([2500.0]), np.array([1.0]))
    >>> bid = charging_bid(car, car.energy_wh, 0, np.array([[0.3, 0.1, 0.2]]))
    >>> bid.must_w.tolist(), bid.steps_w.tolist(), bid.value.tolist()
    ([0.0], [[6000.0, 6000.0]], [[0.3, 0.2]])
    """
    count = len(cars)
    later = cars.deadline - interval - 1
    slot_wh = cars.power_w * HOURS
    must_wh = np.clip(remaining_wh - later * slot_wh, 0.0, slot_wh)
    flexible_wh = np.minimum(remaining_wh, slot_wh) - must_wh
    slots = np.minimum((remaining_wh - must_wh) / slot_wh, later)
    last = np.maximum(np.ceil(slots - 1e-9).astype(np.int64), 1)
    part = np.clip(slots - (last - 1), 0.0, 1.0)
    reachable = np.arange(later_price.shape[1]) < later[:, None]
    ranked = np.sort(np.where(reachable, later_price, np.inf), axis=1)
    ranked = np.concatenate([np.full((count, 1), np.inf), ranked], axis=1)
    rows = np.arange(count)
    dearest = ranked[rows, np.minimum(last, ranked.shape[1] - 1)]
    second = np.where(last >= 2, ranked[rows, np.minimum(last - 1, ranked.shape[1] - 1)], dearest)
    first_wh = np.minimum(part * slot_wh, flexible_wh)
    steps = np.stack([first_wh, flexible_wh - first_wh], axis=1) / HOURS
    value = np.minimum(np.stack([dearest, second], axis=1), cars.value_per_kwh[:, None])
    return ChargingBid(must_wh / HOURS, steps, value)


@dataclass(frozen=True, slots=True)
class ChargingPlan:
    """Energy of sessions by hour: planned and spare in W [k, hours], and the value of each [k]."""

    planned_w: FloatArray
    planned_value: FloatArray
    spare_w: FloatArray
    spare_value: FloatArray


def charging_plan(cars: Vehicles, first_interval: int, hourly_price: FloatArray, hours: int) -> ChargingPlan:
    """Spread each session's energy over the cheapest hours in which its car is plugged in.

    A planned kWh is worth the price of the cheapest hour with room left, where it would go instead; an
    hour left spare is worth the price of the dearest planned hour, which it would relieve.

    Parameters
    ----------
    cars : sessions with what they still lack as `energy_wh`.
    hourly_price : float64[k, H], effective price of hours from `first_interval` on, beyond the day
        where sessions run on. hours : how many of them belong to the day.
    """
    start = first_interval + PER_HOUR * np.arange(hourly_price.shape[1])
    overlap = np.minimum(cars.deadline[:, None], start + PER_HOUR) - np.maximum(cars.arrival[:, None], start)
    room_wh = np.clip(overlap, 0, PER_HOUR) * cars.power_w[:, None] * HOURS
    price = np.where(room_wh > 0.0, hourly_price, np.inf)
    order = np.argsort(price, axis=1, kind="stable")
    sorted_room = np.take_along_axis(room_wh, order, axis=1)
    before = np.cumsum(sorted_room, axis=1) - sorted_room
    sorted_plan = np.clip(cars.energy_wh[:, None] - before, 0.0, sorted_room)
    sorted_price = np.take_along_axis(price, order, axis=1)
    used, free = sorted_plan > 0.0, (sorted_room - sorted_plan) > 0.0
    dearest = np.where(used, sorted_price, -np.inf).max(axis=1, initial=-np.inf)
    cheapest = np.where(free, sorted_price, np.inf).min(axis=1, initial=np.inf)
    planned = np.zeros_like(room_wh)
    np.put_along_axis(planned, order, sorted_plan, axis=1)
    marginal = np.where(used & (sorted_price == dearest[:, None]), sorted_plan, 0.0).max(axis=1, initial=0.0)
    spare = np.minimum(room_wh - planned, marginal[:, None])
    worth = np.minimum(np.maximum(cheapest, dearest), cars.value_per_kwh)
    relief = np.minimum(np.where(np.isfinite(dearest), dearest, 0.0), worth)
    return ChargingPlan(planned[:, :hours], worth, spare[:, :hours], relief)


def with_the_night_before(cars: Vehicles, first_interval: int, intervals: int) -> tuple[Vehicles, IntArray]:
    """The sessions of a day, and once more a day earlier those that run on over its end.

    So a day begins with the cars that it leaves to the next: a car that stands until the morning after stood there
    the evening before too. It does so no longer than until the home's next session at the same power, which is
    the same car coming back.

    Returns
    -------
    The table, the sessions of the night before last; and the rows of those that they are copies of, in that order.

    >>> one = Vehicles(np.array([1]), np.array([11e3]), np.array([0.9]), np.array([250]), np.array([350]),
    ...                np.array([9e3]), np.array([1.0]))
    >>> both, tonight = with_the_night_before(one, 0, 288)
    >>> both.arrival.tolist(), both.deadline.tolist(), tonight.tolist()
    ([250, -38], [350, 62], [0])
    """
    end = first_interval + intervals
    tonight = np.flatnonzero(cars.deadline > end)
    before = cars.take(tonight)
    same_car = (cars.customer == before.customer[:, None]) & (cars.power_w == before.power_w[:, None])
    back = np.where(same_car, cars.arrival, end).min(axis=1, initial=end)
    before = replace(before, arrival=before.arrival - intervals, deadline=np.minimum(before.deadline - intervals, back))
    return joined(cars, before), tonight


def joined(first: Vehicles, second: Vehicles) -> Vehicles:
    """Two tables of sessions as one."""
    both = {spec.name: [getattr(table, spec.name) for table in (first, second)] for spec in fields(Vehicles)}
    return Vehicles(**{name: np.concatenate(columns) for name, columns in both.items()})


def expected_sessions(past: Vehicles, first_interval: int, intervals: int, *, days: int = 7) -> Vehicles:
    """Sessions expected in a day: those that began at the same times `days` days before.

    Only sessions of `past` that began before `first_interval` are looked at.
    """
    shift = days * PER_DAY
    seen = past.arrival < first_interval
    then = (past.arrival >= first_interval - shift) & (past.arrival < first_interval - shift + intervals)
    rows = past.take(np.flatnonzero(seen & then))
    return replace(rows, arrival=rows.arrival + shift, deadline=rows.deadline + shift)


def of_cars_away(expected: Vehicles, standing: Vehicles) -> Vehicles:
    """Expected sessions but for those of cars that will still stand there: no car arrives twice.

    Sessions of a home at the same power are of the same car.

    >>> one = Vehicles(np.array([1]), np.array([11e3]), np.array([0.9]), np.array([250]), np.array([350]),
    ...                np.array([9e3]), np.array([1.0]))
    >>> [len(of_cars_away(replace(one, arrival=np.array([when])), one)) for when in (349, 350)]
    [0, 1]
    """
    same_car = (expected.customer[:, None] == standing.customer) & (expected.power_w[:, None] == standing.power_w)
    there = (same_car & (standing.deadline > expected.arrival[:, None])).any(axis=1)
    return expected.take(~there)
