"""What a day was worth to its homes besides their bills, so that worlds can be compared honestly.

Two worlds may leave batteries, cars and houses in different states; what is stored more at the end of
one is an asset, what is lacking a debt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.behaviour import DevicePowers
from tellegen.agents.heating import Bodies, buildings, tanks
from tellegen.agents.homes import HOURS, NEGLIGIBLE_WH, DeviceState, Homes
from tellegen.agents.knowledge import Past
from tellegen.agents.parameters import Parameters

FloatArray = NDArray[np.float64]

WEEK = 7 * 288


def battery_wear(homes: Homes, powers: DevicePowers, parameters: Parameters) -> FloatArray:
    """Wear of one interval per home, currency: `wear_per_kwh` on what the batteries discharged."""
    discharged_kwh = np.maximum(-powers.battery_w, 0.0) * HOURS / 1000.0
    return parameters.wear_per_kwh * homes.total(homes.batteries, discharged_kwh)


def discomfort(homes: Homes, state: DeviceState, parameters: Parameters) -> FloatArray:
    """Discomfort of one interval that ends in `state`, per home, currency.

    Quadratic in the distance from the desired temperature. For buildings the coefficient is what their
    owners' bids reveal: by the ramp rule a kWh is worth ``k * dT`` more when it is dT too cold, with
    ``k = ramp * sigma / width``. The kWh warms by gain / C and fades with C / UA, so a flow of
    ``c * dT^2`` per hour is worth ``2 * c * dT * gain / UA`` at the margin, and ``c = k * UA / (2 * gain)``.
    """
    heat_pumps, heaters = homes.heat_pumps, homes.water_heaters
    away = state.building_c - heat_pumps.desired_c
    cold = away < 0.0
    width = np.where(cold, heat_pumps.desired_c - heat_pumps.low_c, heat_pumps.high_c - heat_pumps.desired_c)
    ramp = np.where(cold, parameters.ramp.low, parameters.ramp.high)
    slope = ramp * parameters.comfort_deviation / np.maximum(width, 1e-6)
    building = slope * heat_pumps.ua_w_per_k / 1000.0 / (2.0 * heat_pumps.cop) * away**2 * HOURS
    tank = parameters.tank_comfort * (state.tank_c - heaters.desired_c) ** 2 * HOURS
    return homes.total(heat_pumps, building) + homes.total(heaters, tank)


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """What a state is worth at the end of a day, per home; float64[n] each.

    battery_wh : energy in batteries.
    owed_wh : energy that plugged-in cars still lack, at the meter: charged later.
    heat_wh : electric energy that heat stands for: of what is above the desired temperature what will serve a
        need (`useful_heat_wh`), less what brings cold bodies back to it.
    unmet_wh : energy that cars lacked at deadlines that have passed.
    unmet_cost : the same at each car's `value_per_kwh`, currency.
    """

    battery_wh: FloatArray
    owed_wh: FloatArray
    heat_wh: FloatArray
    unmet_wh: FloatArray
    unmet_cost: FloatArray

    @property
    def stored_wh(self) -> FloatArray:
        """Electric energy that the state stands for, float64[n]."""
        return self.battery_wh + self.heat_wh - self.owed_wh


def useful_heat_wh(excess_k: FloatArray, need_w: FloatArray, bodies: Bodies) -> FloatArray:
    """Heat, in Wh, that a body's temperature above (below) the desired one is worth.

    Below it, what is missing: ``C * dT``, negative. Above it, what will be used before the rest has
    leaked away while the machine rests: from ``C dT/dt = -need - UA * dT`` follows
    ``need * C / UA * log(1 + UA * dT / need)``, which tends to ``C * dT`` without leak and to 0
    without need.

    >>> building = Bodies(*(np.array([v]) for v in (3e3, 3.0, 20e3, 300.0, 21.0, 21.0, 19.0, 23.0)))
    >>> [useful_heat_wh(np.array([1.0]), np.array([need]), building).round(0).item() for need in (0.0, 300.0, 1e9)]
    [0.0, 13863.0, 20000.0]
    """
    stored = bodies.capacity_wh_per_k * np.maximum(excess_k, 0.0)
    leak = bodies.ua_w_per_k * np.maximum(excess_k, 0.0)
    needed = np.maximum(need_w, 0.0)
    ratio = leak / np.where(needed > 0.0, needed, 1.0)
    used = np.where(ratio > 1e-9, np.log1p(ratio) / np.where(ratio > 1e-9, ratio, 1.0), 1.0)
    return np.where(needed > 0.0, stored * used, 0.0) + bodies.capacity_wh_per_k * np.minimum(excess_k, 0.0)


def close_day(homes: Homes, state: DeviceState, interval: int, past: Past | None = None) -> Closing:
    """Value the state at the start of `interval`.

    past : tells the heat that is usually needed, the mean of the last week; without it heat above the
        desired temperature counts for nothing.
    """
    cars, heat_pumps, heaters = homes.vehicles, homes.heat_pumps, homes.water_heaters
    lacking = np.where(state.remaining_wh > NEGLIGIBLE_WH, state.remaining_wh, 0.0)
    left = cars.deadline <= interval
    charging = (cars.arrival < interval) & ~left
    electric = []
    for bodies, temperature, series in (
        (buildings(heat_pumps), state.building_c, None if past is None else past.heat_w),
        (tanks(heaters), state.tank_c, None if past is None else past.draw_w),
    ):
        need = np.zeros(len(temperature))
        if series is not None and series.shape[1]:
            # holding the desired temperature has a standing loss too; excess heat serves it as well
            standing = bodies.ua_w_per_k * (bodies.desired_c - bodies.surroundings_c)
            need = series[:, -WEEK:].mean(axis=1) + standing
        electric.append(useful_heat_wh(temperature - bodies.desired_c, need, bodies) / bodies.gain)
    heat, water = electric
    unmet = np.where(left, lacking, 0.0)
    return Closing(
        battery_wh=homes.total(homes.batteries, state.soc_wh),
        owed_wh=homes.total(cars, np.where(charging, lacking, 0.0)),
        heat_wh=homes.total(heat_pumps, heat) + homes.total(heaters, water),
        unmet_wh=homes.total(cars, unmet),
        unmet_cost=homes.total(cars, unmet / 1000.0 * cars.value_per_kwh),
    )
