"""What homes do that answer a price of which they may buy and sell all they want: their bids, without a market."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.behaviour import DevicePowers
from tellegen.agents.charging import charging_bid, plugged_in
from tellegen.agents.curves import share_own
from tellegen.agents.day_ahead import effective_range
from tellegen.agents.heating import buildings, heating_bid, tanks
from tellegen.agents.homes import HOURS, DeviceState, Homes
from tellegen.agents.knowledge import Actual
from tellegen.agents.parameters import Parameters, Tariff
from tellegen.agents.plan import Plan
from tellegen.agents.real_time import later_prices
from tellegen.agents.storage import storage_bid

FloatArray = NDArray[np.float64]

TIE = 1e-9
"""Prices nearer than this are equal, currency per kWh: a stored kWh is often worth just the price."""


def taken(
    owner: NDArray[np.int64], steps_w: FloatArray, value: FloatArray, sells: float, buys: float, surplus_w: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What devices take of the steps of their bids where a home sells at one price and buys at another.

    The home's surplus serves the first steps, as in `buy_curve`.

    Parameters
    ----------
    owner : int64[k], index of the home of each device. steps_w, value : float64[k, m], falling along a row.
    surplus_w : float64[n], of each home.

    Returns
    -------
    float64[k] in W, and what each home has left to sell, float64[n].

    >>> steps, value, surplus = np.array([[100.0, 100.0]]), np.array([[0.3, 0.1]]), np.array([150.0])
    >>> power, left = taken(np.array([0]), steps, value, 0.05, 0.2, surplus)
    >>> power.tolist(), left.tolist()
    ([150.0], [0.0])
    """
    own_w, left_w = share_own(owner, steps_w.sum(axis=1), surplus_w)
    kept_w = np.clip(own_w[:, None] - (np.cumsum(steps_w, axis=1) - steps_w), 0.0, steps_w)
    taken_w = np.where(value >= sells - TIE, kept_w, 0.0) + np.where(value >= buys - TIE, steps_w - kept_w, 0.0)
    return taken_w.sum(axis=1), left_w


def answers(
    homes: Homes,
    plan: Plan,
    state: DeviceState,
    actual: Actual,
    interval: int,
    price: float,
    price_mean: FloatArray,
    price_deviation: FloatArray,
    tariff: Tariff,
    parameters: Parameters,
) -> DevicePowers:
    """Powers of all devices in an interval at a market price: what they would bid for at it, they do.

    Nobody asks them beforehand, so devices act on what is and not on what was expected of the interval, and batteries
    see what all others do. Plans are made from forecasts as ever. PV is never curtailed and gives no reactive power.
    The other parameters are those of `real_time_orders`.
    """
    sells, buys = price, float(tariff.import_price(price))
    rows = plugged_in(homes.vehicles, state.remaining_wh, interval)
    cars = homes.vehicles.take(rows)
    charging = charging_bid(cars, state.remaining_wh[rows], interval, later_prices(plan, cars, interval))
    net_w = 1000.0 * (actual.load_kw - homes.total(homes.inverters, actual.pv_kw)) + homes.total(cars, charging.must_w)
    heated = []
    for devices, bodies, temperature, draw in (
        (homes.heat_pumps, buildings(homes.heat_pumps), state.building_c, actual.heat_w),
        (homes.water_heaters, tanks(homes.water_heaters), state.tank_c, actual.draw_w),
    ):
        owner = devices.customer - 1
        prices = effective_range(price_mean[owner], price_deviation[owner], tariff, parameters)
        bid = heating_bid(bodies, temperature, draw, prices, parameters.ramp)
        heated.append((devices, bid))
        net_w = net_w + homes.total(devices, bid[0])
    surplus_w = np.maximum(-net_w, 0.0)
    flexible_w, surplus_w = taken(cars.customer - 1, charging.steps_w, charging.value, sells, buys, surplus_w)
    vehicle_w = np.zeros(len(homes.vehicles))
    vehicle_w[rows] = charging.must_w + flexible_w
    net_w = net_w + homes.total(cars, flexible_w)
    powers = []
    for devices, (must_w, steps_w, value) in heated:
        flexible_w, surplus_w = taken(devices.customer - 1, steps_w, value, sells, buys, surplus_w)
        net_w = net_w + homes.total(devices, flexible_w)
        powers.append(must_w + flexible_w)
    battery_w = _stored(homes, plan, state, interval, net_w, sells, buys, parameters)
    return DevicePowers(actual.pv_kw.copy(), np.zeros(len(actual.pv_kw)), battery_w, vehicle_w, powers[0], powers[1])


def _stored(
    homes: Homes,
    plan: Plan,
    state: DeviceState,
    interval: int,
    net_w: FloatArray,
    sells: float,
    buys: float,
    parameters: Parameters,
) -> FloatArray:
    """Power of every battery, charging positive, where its home withdraws `net_w` without it."""
    batteries = homes.batteries
    row, own_w = np.arange(len(batteries)), net_w[batteries.customer - 1]
    own_w = own_w * homes.share_of_kind(batteries, batteries.power_w)
    surplus_w, demand_w = np.maximum(-own_w, 0.0), np.maximum(own_w, 0.0)
    bid = storage_bid(
        batteries,
        state.soc_wh,
        plan.storage_value[interval - plan.first_interval + 1],
        surplus_w=surplus_w,
        demand_w=demand_w,
        wear=parameters.wear_per_kwh,
        hours=HOURS,
    )
    charge_w, _ = taken(row, bid.charge_w, bid.charge_value, sells, buys, surplus_w)
    # a kWh that serves the home spares buying, one beyond that is sold: its cost, mirrored, is what it must be worth
    discharge_w, _ = taken(row, bid.discharge_w, -bid.discharge_cost, -buys, -sells, demand_w)
    return charge_w - discharge_w
