"""Homes: who owns which device, and the state the devices are in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.devices import Batteries, Devices, HeatPumps, Inverters, Vehicles, WaterHeaters
from tellegen.errors import TellegenError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HOURS = 1.0 / 12.0
"""Length of a market interval in hours."""
PER_HOUR = 12
NEGLIGIBLE_WH = 0.5
"""A car that lacks less than this is full."""


class FleetError(TellegenError):
    """Devices and homes do not belong together."""


@dataclass(frozen=True, slots=True, eq=False)
class Homes:
    """Homes and the ratings of their devices, without any series: what agents may know of themselves.

    Attributes
    ----------
    node : int64[n], node of customer 1..n.
    batteries, vehicles, heat_pumps, water_heaters, inverters : device tables; their series are empty.
    """

    node: IntArray
    batteries: Batteries
    vehicles: Vehicles
    heat_pumps: HeatPumps
    water_heaters: WaterHeaters
    inverters: Inverters

    def __post_init__(self) -> None:
        for devices in (self.batteries, self.vehicles, self.heat_pumps, self.water_heaters, self.inverters):
            if len(devices) and not (devices.customer.min() >= 1 and devices.customer.max() <= len(self.node)):
                raise FleetError(f"{type(devices).__name__}: a customer is not in 1..{len(self.node)}")
        for devices, ratings in (
            (self.batteries, ("capacity_wh", "power_w", "efficiency")),
            (self.vehicles, ("power_w",)),
            (self.heat_pumps, ("cop", "capacity_wh_per_k")),
            (self.water_heaters, ("capacity_wh_per_k",)),
        ):
            for rating in ratings:
                values = getattr(devices, rating)
                if not np.all(np.isfinite(values) & (values > 0.0)):
                    raise FleetError(f"{type(devices).__name__}.{rating}: a value is not positive")

    def __len__(self) -> int:
        return len(self.node)

    def total(self, devices: Devices, per_device: FloatArray) -> FloatArray:
        """Sum a quantity of devices per home, float64[n]."""
        return np.asarray(np.bincount(devices.customer - 1, weights=per_device, minlength=len(self.node)))

    def share_of_kind(self, devices: Devices, weight: FloatArray) -> FloatArray:
        """Share of each device in its home's devices of that kind, by `weight`; float64[k]."""
        total = self.total(devices, weight)[devices.customer - 1]
        return np.asarray(weight / np.where(total > 0.0, total, 1.0))


def without_series(
    heat_pumps: HeatPumps, water_heaters: WaterHeaters, inverters: Inverters
) -> tuple[HeatPumps, WaterHeaters, Inverters]:
    """The same devices, their series cut off."""
    return (
        replace(heat_pumps, demand_w=np.zeros((len(heat_pumps), 0))),
        replace(water_heaters, draw_w=np.zeros((len(water_heaters), 0))),
        replace(inverters, pv_kw=np.zeros((len(inverters), 0))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class DeviceState:
    """State at the start of an interval, replaced and never changed.

    soc_wh : float64[batteries]. remaining_wh : float64[vehicles], still to deliver, at the meter.
    building_c : float64[heat pumps]. tank_c : float64[water heaters].
    """

    soc_wh: FloatArray
    remaining_wh: FloatArray
    building_c: FloatArray
    tank_c: FloatArray


def initial_state(homes: Homes) -> DeviceState:
    """State with which the device tables start the day."""
    return DeviceState(
        soc_wh=homes.batteries.soc_wh.copy(),
        remaining_wh=homes.vehicles.energy_wh.copy(),
        building_c=homes.heat_pumps.temperature_c.copy(),
        tank_c=homes.water_heaters.temperature_c.copy(),
    )


def empty_batteries() -> Batteries:
    """A table of no batteries."""
    none = np.zeros(0)
    return Batteries(np.zeros(0, dtype=np.int64), none, none, none, none)


def empty_vehicles() -> Vehicles:
    """A table of no charging sessions."""
    none, no_time = np.zeros(0), np.zeros(0, dtype=np.int64)
    return Vehicles(no_time, none, none, no_time, no_time, none, none)


def empty_heat_pumps() -> HeatPumps:
    """A table of no heat pumps."""
    none = np.zeros(0)
    return HeatPumps(np.zeros(0, dtype=np.int64), none, none, none, none, none, none, none, none, np.zeros((0, 0)))


def empty_water_heaters() -> WaterHeaters:
    """A table of no water heaters."""
    none = np.zeros(0)
    return WaterHeaters(np.zeros(0, dtype=np.int64), none, none, none, none, none, none, none, none, np.zeros((0, 0)))


def empty_inverters() -> Inverters:
    """A table of no inverters."""
    return Inverters(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 0)))
