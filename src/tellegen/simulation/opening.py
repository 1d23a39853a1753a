"""How a day begins: as it ends, where one day is like the next.

A day that began with empty cars and cold houses, or ended so, would count as cheap or dear what the day after pays or
saves. So the day before is taken to be like the day that is played, and each world begins with what such a day leaves
there: batteries, heat, and cars that stand until the morning.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellegen.agents import DeviceState, Fleet, World
from tellegen.agents.answers import taken
from tellegen.agents.charging import charging_bid, plugged_in
from tellegen.agents.day_ahead import effective_range
from tellegen.agents.heating import PriceRange, buildings, heating_bid, tanks
from tellegen.agents.homes import HOURS
from tellegen.agents.physics import vehicle_step
from tellegen.simulation.setup import Setup

FloatArray = NDArray[np.float64]

LEAD_UP_DAYS = 2
"""Days before the one that counts: batteries that are seldom full or empty remember the one before it."""


def morning_after(setup: Setup, state: DeviceState) -> DeviceState:
    """The state in which a day begins that follows on one alike, which ended in `state`."""
    remaining = setup.fleet.homes.vehicles.energy_wh.copy()
    remaining[remaining.size - setup.tonight.size :] = state.remaining_wh[setup.tonight]
    return replace(state, remaining_wh=remaining)


def rested(setup: Setup) -> Setup:
    """The setup with batteries as charged at midnight as homes leave them that store their sun for themselves.

    So they begin the day in every world, but where homes keep energy by the clock, and so owners want them at its end.
    """
    homes, state = setup.fleet.homes, setup.fleet.initial_state()
    for _ in range(LEAD_UP_DAYS):
        for interval in range(setup.first, setup.first + setup.community.intervals):
            state = setup.fleet.baseline_step(World.FLAT, interval, state, setup.reality.at(interval)).state
        state = morning_after(setup, state)
    homes = replace(homes, batteries=replace(homes.batteries, soc_wh=state.soc_wh))
    return replace(setup, fleet=replace(setup.fleet, homes=homes))


def opening_state(setup: Setup, fleet: Fleet, price: FloatArray, deviation: float) -> DeviceState:
    """The state in which the day begins for homes that answer prices, nearly.

    Found without wires and forecasts: thermostats and the cars of the night live through a day like that which is
    played, by the rules of their bids. Batteries begin as charged as owners want them at the day's end (`rested`).

    Parameters
    ----------
    fleet : with the tariff that the homes see.
    price : float64[T], market price at all homes, known to them, currency per kWh.
    deviation : standard deviation of market prices with which thermostats bid.
    """
    homes, mean = fleet.homes, float(price.mean())
    state = fleet.initial_state()
    night = homes.vehicles.take(setup.tonight)
    remaining = night.energy_wh.copy()
    everyone = np.ones(len(homes))
    prices = effective_range(mean * everyone, deviation * everyone, fleet.tariff, fleet.parameters)
    buys = fleet.tariff.import_price(price)
    behind = _behind_the_meter(setup, fleet, price)[night.customer - 1]
    later = np.concatenate([behind, behind], axis=1)
    heated = [
        (buildings(homes.heat_pumps), homes.heat_pumps.customer - 1, state.building_c),
        (tanks(homes.water_heaters), homes.water_heaters.customer - 1, state.tank_c),
    ]
    for k in range(setup.community.intervals):
        interval = setup.first + k
        actual = setup.reality.at(interval)
        own_kw = homes.total(homes.inverters, actual.pv_kw) - actual.load_kw
        surplus_w = 1000.0 * np.maximum(own_kw, 0.0)
        here = plugged_in(night, remaining, interval)
        if here.size:
            cars = night.take(here)
            left = later[here, k + 1 : k + 1 + int((cars.deadline - interval).max())]
            bid = charging_bid(cars, remaining[here], interval, left)
            flexible_w, surplus_w = taken(cars.customer - 1, bid.steps_w, bid.value, price[k], buys[k], surplus_w)
            power_w = bid.must_w + flexible_w
            remaining[here], _ = vehicle_step(remaining[here], power_w, limit_w=cars.power_w, hours=HOURS)
        reached = []
        for (bodies, owner, temperature), draw in zip(heated, (actual.heat_w, actual.draw_w), strict=True):
            own = PriceRange(prices.mean[owner], prices.deviation[owner], prices.floor, prices.cap)
            must_w, steps_w, value = heating_bid(bodies, temperature, draw, own, fleet.parameters.ramp)
            flexible_w, surplus_w = taken(owner, steps_w, value, price[k], buys[k], surplus_w)
            reached.append((bodies, owner, bodies.temperature_after(must_w + flexible_w, temperature, draw)))
        heated = reached
    evening = state.remaining_wh.copy()
    evening[setup.tonight] = remaining
    ended = DeviceState(state.soc_wh, evening, heated[0][2], heated[1][2])
    return morning_after(setup, ended)


def _behind_the_meter(setup: Setup, fleet: Fleet, price: FloatArray) -> FloatArray:
    """What a further kWh costs each home through the day, float64[n, T]: less where it has more sun than it needs."""
    homes, day = fleet.homes, setup.reality.past(setup.first + setup.community.intervals)
    net_w = 1000.0 * day.load_kw[:, -price.size :]
    for devices, power_w in (
        (homes.inverters, -1000.0 * day.pv_kw[:, -price.size :]),
        (homes.heat_pumps, buildings(homes.heat_pumps).holding_w(day.heat_w[:, -price.size :])),
    ):
        np.add.at(net_w, devices.customer - 1, power_w)
    return np.asarray(np.where(net_w < 0.0, price, fleet.tariff.import_price(price)))
