"""What devices do: follow a dispatch, or behave as they do where no market speaks to them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.charging import plugged_in
from tellegen.agents.curves import Offers
from tellegen.agents.devices import Devices, Vehicles
from tellegen.agents.heating import buildings, tanks
from tellegen.agents.homes import HOURS, DeviceState, Homes
from tellegen.agents.knowledge import Actual
from tellegen.agents.physics import battery_step, reactive_limit_kvar, thermal_step, vehicle_step
from tellegen.records import Device, Product

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FULL_AWARD = 0.999
"""Share of an offer from which on PV counts as not curtailed: it may then give more than it foresaw."""


SPREAD = (5**0.5 - 1) / 2
"""Multiples of it, less their whole part, are spread evenly over [0, 1) however many there are."""


class World(IntEnum):
    """Behaviour of homes that hear no prices."""

    FLAT = 0
    TIME_OF_USE = 1


@dataclass(frozen=True, slots=True)
class OffPeak:
    """The off-peak hours that an interval lies in, from market interval `opened` until the peak begins at `closed`."""

    opened: int
    closed: int


@dataclass(frozen=True, slots=True, eq=False)
class DevicePowers:
    """Mean power of every device over an interval, at the meter.

    pv_kw, pv_kvar : float64[inverters], injected (positive), reactive withdrawal positive.
    battery_w : float64[batteries], charging positive. vehicle_w : float64[vehicles].
    heat_pump_w : float64[heat pumps]. water_heater_w : float64[water heaters].
    """

    pv_kw: FloatArray
    pv_kvar: FloatArray
    battery_w: FloatArray
    vehicle_w: FloatArray
    heat_pump_w: FloatArray
    water_heater_w: FloatArray

    def chosen(self, other: DevicePowers, homes: Homes, use_other: BoolArray) -> DevicePowers:
        """These powers, but those of `other` in the homes where `use_other` bool[n] is set."""

        def pick(devices: Devices, here: FloatArray, there: FloatArray) -> FloatArray:
            return np.asarray(np.where(use_other[devices.customer - 1], there, here))

        return DevicePowers(
            pick(homes.inverters, self.pv_kw, other.pv_kw),
            pick(homes.inverters, self.pv_kvar, other.pv_kvar),
            pick(homes.batteries, self.battery_w, other.battery_w),
            pick(homes.vehicles, self.vehicle_w, other.vehicle_w),
            pick(homes.heat_pumps, self.heat_pump_w, other.heat_pump_w),
            pick(homes.water_heaters, self.water_heater_w, other.water_heater_w),
        )


def dispatched(
    homes: Homes, state: DeviceState, actual: Actual, interval: int, offers: Offers, quantity_mw: NDArray[np.int64]
) -> DevicePowers:
    """Powers with which devices follow their awards, as far as they can.

    PV gives what the sun allows: up to its award where it was curtailed, freely where its whole offer
    was taken. Thermal machines stop at the upper edge of the comfort range.

    Parameters
    ----------
    quantity_mw : int64[m], awards in mW (mvar) for the rows of ``offers.orders``.
    """
    orders = offers.orders
    awarded = quantity_mw / 1000.0

    def total(kind: Device, count: int, values: FloatArray, product: Product = Product.ENERGY) -> FloatArray:
        mine = (orders.device == int(kind)) & (orders.product == int(product))
        return np.asarray(np.bincount(offers.row[mine], weights=values[mine], minlength=count))

    signed = awarded * orders.side
    inverters = homes.inverters
    offered_w = total(Device.PV, len(inverters), orders.quantity_w.astype(np.float64))
    cap_w = total(Device.PV, len(inverters), awarded)
    free = cap_w >= FULL_AWARD * offered_w
    pv_kw = np.where(free, actual.pv_kw, np.minimum(actual.pv_kw, cap_w / 1000.0))
    limit = reactive_limit_kvar(inverters.rated_kva, pv_kw)
    kvar = np.clip(total(Device.PV, len(inverters), signed, Product.REACTIVE) / 1000.0, -limit, limit)
    vehicle_w = np.zeros(len(homes.vehicles))
    here = plugged_in(homes.vehicles, state.remaining_wh, interval)
    vehicle_w[here] = total(Device.VEHICLE, len(vehicle_w), awarded)[here]
    heaters = []
    for kind, bodies, temperature, draw in (
        (Device.HEAT_PUMP, buildings(homes.heat_pumps), state.building_c, actual.heat_w),
        (Device.WATER_HEATER, tanks(homes.water_heaters), state.tank_c, actual.draw_w),
    ):
        wanted = total(kind, len(temperature), awarded)
        heaters.append(np.minimum(wanted, bodies.power_to_reach(bodies.high_c, temperature, draw)))
    return DevicePowers(
        pv_kw, kvar, total(Device.BATTERY, len(homes.batteries), signed), vehicle_w, heaters[0], heaters[1]
    )


def local_behaviour(
    homes: Homes, state: DeviceState, actual: Actual, interval: int, world: World, *, off_peak: OffPeak | None = None
) -> DevicePowers:
    """Powers of devices that hear no prices.

    Thermostats hold the desired temperature, PV is never curtailed and gives no reactive power.

    - `World.FLAT`: cars charge at full power from arrival; a battery takes the home's surplus and
      serves its demand, and never exchanges with the grid.
    - `World.TIME_OF_USE`: cars wait for off-peak hours as long as their deadline allows, and those that waited start
      at moments spread over what is left of them (`waiting`); who comes in off-peak hours charges at once. A battery
      takes surplus at any time; it serves the home in the peak, and with what that left in the first half of the
      off-peak hours that follow. In the second half it keeps its energy for the peak.

    Parameters
    ----------
    off_peak : under `World.TIME_OF_USE`, the off-peak hours that the interval lies in; None in the peak.
    """
    heat_bodies, tank_bodies = buildings(homes.heat_pumps), tanks(homes.water_heaters)
    heat_pump_w = heat_bodies.power_to_reach(heat_bodies.desired_c, state.building_c, actual.heat_w)
    water_heater_w = tank_bodies.power_to_reach(tank_bodies.desired_c, state.tank_c, actual.draw_w)
    cars = homes.vehicles
    vehicle_w = np.zeros(len(cars))
    here = plugged_in(cars, state.remaining_wh, interval)
    at_once = np.minimum(cars.power_w, state.remaining_wh / HOURS)
    if world is World.TIME_OF_USE and off_peak is None:
        later_wh = np.maximum(cars.deadline - interval - 1, 0) * cars.power_w * HOURS
        at_once = np.clip((state.remaining_wh - later_wh) / HOURS, 0.0, at_once)
    elif world is World.TIME_OF_USE and off_peak is not None:
        at_once[waiting(cars, state.remaining_wh, interval, off_peak)] = 0.0
    vehicle_w[here] = at_once[here]
    net_w = (
        1000.0 * (actual.load_kw - homes.total(homes.inverters, actual.pv_kw))
        + homes.total(cars, vehicle_w)
        + homes.total(homes.heat_pumps, heat_pump_w)
        + homes.total(homes.water_heaters, water_heater_w)
    )
    batteries = homes.batteries
    share = homes.share_of_kind(batteries, batteries.power_w)
    battery_w = -share * net_w[batteries.customer - 1]
    if world is World.TIME_OF_USE and off_peak is not None and 2 * interval >= off_peak.opened + off_peak.closed:
        battery_w = np.maximum(battery_w, 0.0)
    return DevicePowers(
        actual.pv_kw.copy(), np.zeros(len(actual.pv_kw)), battery_w, vehicle_w, heat_pump_w, water_heater_w
    )


def waiting(cars: Vehicles, remaining_wh: FloatArray, interval: int, off_peak: OffPeak) -> BoolArray:
    """Which cars let off-peak hours pass for now, bool[k].

    Those that stood there when these hours began do not start together: of the time that they could wait and still be
    charged before the next peak, or before they leave, each waits a share of its own.

    >>> cars = Vehicles(np.array([1, 2]), np.full(2, 12e3), np.ones(2), np.zeros(2), np.full(2, 40), np.full(2, 4e3),
    ...                 np.ones(2))
    >>> [int(waiting(cars, cars.energy_wh, t, OffPeak(10, 30)).sum()) for t in (10, 13, 14, 19, 20)]
    [2, 2, 1, 1, 0]
    """
    needed = np.ceil(remaining_wh / (cars.power_w * HOURS) - 1e-9)
    spare = np.minimum(cars.deadline, off_peak.closed) - off_peak.opened - needed
    share = cars.customer * SPREAD % 1.0
    return np.asarray((cars.arrival < off_peak.opened) & (interval - off_peak.opened < share * spare))


def advance(homes: Homes, state: DeviceState, actual: Actual, powers: DevicePowers) -> tuple[DeviceState, DevicePowers]:
    """Move all devices through one interval; returns the new state and the powers that really flowed."""
    battery = battery_step(
        state.soc_wh,
        powers.battery_w,
        capacity_wh=homes.batteries.capacity_wh,
        limit_w=homes.batteries.power_w,
        efficiency=homes.batteries.efficiency,
        hours=HOURS,
    )
    remaining, vehicle_w = vehicle_step(
        state.remaining_wh, powers.vehicle_w, limit_w=homes.vehicles.power_w, hours=HOURS
    )
    temperatures, electric = [], []
    for bodies, temperature, draw, power in (
        (buildings(homes.heat_pumps), state.building_c, actual.heat_w, powers.heat_pump_w),
        (tanks(homes.water_heaters), state.tank_c, actual.draw_w, powers.water_heater_w),
    ):
        flowing = np.clip(power, 0.0, bodies.power_w)
        step = thermal_step(
            temperature,
            bodies.gain * flowing,
            draw,
            capacity_wh_per_k=bodies.capacity_wh_per_k,
            ua_w_per_k=bodies.ua_w_per_k,
            surroundings_c=bodies.surroundings_c,
            hours=HOURS,
        )
        temperatures.append(step.temperature_c)
        electric.append(flowing)
    after = DeviceState(battery.soc_wh, remaining, temperatures[0], temperatures[1])
    flowed = DevicePowers(powers.pv_kw, powers.pv_kvar, battery.power_w, vehicle_w, electric[0], electric[1])
    return after, flowed
