"""What customers own: one table per kind of device, one row per device (law 4).

Series (``float64[k, T]``) run over the same market intervals as the base load of the community
they belong to: history first, the day that is played last. A power is electric and counted at the
meter, withdrawal positive, unless a name says otherwise. ``customer`` is a customer number (1..n);
a customer may own several devices, of one kind too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import TellegenError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class DeviceError(TellegenError):
    """A device table is not a table: its columns do not have one row per device."""


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    """Base of all device tables.

    Attributes
    ----------
    customer : int64[k], owner of each device, a customer number from 1.
    """

    customer: IntArray

    def __post_init__(self) -> None:
        for spec in fields(self):
            values = np.asarray(getattr(self, spec.name), dtype=np.int64 if spec.type == "IntArray" else np.float64)
            if values.ndim == 0 or values.shape[0] != np.asarray(self.customer).shape[0]:
                raise DeviceError(
                    f"{type(self).__name__}.{spec.name}: shape {values.shape}, "
                    f"{np.asarray(self.customer).shape[0]} rows needed"
                )
            object.__setattr__(self, spec.name, values)

    def __len__(self) -> int:
        return int(self.customer.size)

    def take(self, where: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Rows by integer index or boolean mask."""
        return type(self)(**{spec.name: getattr(self, spec.name)[where] for spec in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class Batteries(Devices):
    """Stationary batteries.

    Attributes
    ----------
    capacity_wh : float64[k], usable energy.
    power_w : float64[k], limit of charging and of discharging, at the meter.
    efficiency : float64[k], round trip, in (0, 1]; each way loses by its square root.
    soc_wh : float64[k], energy held when the day starts.

    >>> Batteries(np.array([1]), np.array([10e3]), np.array([5e3]), np.array([0.9]), np.array([0.0])).power_w
    array([5000.])
    """

    capacity_wh: FloatArray
    power_w: FloatArray
    efficiency: FloatArray
    soc_wh: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Vehicles(Devices):
    """Charging sessions of electric vehicles; a customer may have several, one after another.

    Attributes
    ----------
    power_w : float64[k], limit of charging, at the meter.
    efficiency : float64[k], energy in the car per energy at the meter, in (0, 1].
    arrival : int64[k], first market interval in which the car is plugged in.
    deadline : int64[k], market interval at whose start the car leaves (half-open session).
    energy_wh : float64[k], energy to deliver by the deadline, at the meter.
    value_per_kwh : float64[k], what a kWh that is missing at the deadline costs its owner.
    """

    power_w: FloatArray
    efficiency: FloatArray
    arrival: IntArray
    deadline: IntArray
    energy_wh: FloatArray
    value_per_kwh: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class HeatPumps(Devices):
    """Electric heat pumps, each with the building it heats: one resistance, one capacity.

    ``capacity * dT/dt = cop * P - demand(t) - ua * (T - desired)``: a thermostat that holds
    ``desired`` draws exactly ``demand / cop``. Units of the left side: Wh/K per hour, that is W.

    Attributes
    ----------
    power_w : float64[k], rated electric power; the machine modulates from 0.
    cop : float64[k], heat per electric energy.
    ua_w_per_k : float64[k], heat lost per kelvin above `desired_c`, beyond the demand.
    capacity_wh_per_k : float64[k], heat stored per kelvin.
    temperature_c : float64[k], at the start of the day.
    desired_c, low_c, high_c : float64[k], set-point and comfort range.
    demand_w : float64[k, T], heat that holds `desired_c`.
    """

    power_w: FloatArray
    cop: FloatArray
    ua_w_per_k: FloatArray
    capacity_wh_per_k: FloatArray
    temperature_c: FloatArray
    desired_c: FloatArray
    low_c: FloatArray
    high_c: FloatArray
    demand_w: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class WaterHeaters(Devices):
    """Electric resistance tanks, fully mixed.

    ``capacity * dT/dt = P - draw(t) - ua * (T - ambient)``.

    Attributes
    ----------
    power_w : float64[k], rated electric power of the element.
    capacity_wh_per_k : float64[k], heat stored per kelvin.
    ua_w_per_k : float64[k], standing loss per kelvin above `ambient_c`.
    temperature_c : float64[k], at the start of the day.
    desired_c, low_c, high_c : float64[k], set-point and comfort range.
    ambient_c : float64[k], temperature around the tank.
    draw_w : float64[k, T], heat that leaves with the hot water drawn.
    """

    power_w: FloatArray
    capacity_wh_per_k: FloatArray
    ua_w_per_k: FloatArray
    temperature_c: FloatArray
    desired_c: FloatArray
    low_c: FloatArray
    high_c: FloatArray
    ambient_c: FloatArray
    draw_w: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Inverters(Devices):
    """Photovoltaic inverters: active power can be curtailed, reactive power is free within limits.

    ``p^2 + q^2 <= rated^2`` and a power factor of at least `POWER_FACTOR_MIN`.

    Attributes
    ----------
    rated_kva : float64[k], apparent power of the inverter.
    pv_kw : float64[k, T], power that the sun offers (positive), never above `rated_kva`.
    """

    rated_kva: FloatArray
    pv_kw: FloatArray


POWER_FACTOR_MIN = 0.9
"""Lowest power factor of an inverter (VDE-AR-N 4105 asks 0.90 of plants above 4.6 kVA)."""
