"""A whole day of one world, as arrays: what the comparison of worlds is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellegen.agents import Closing, DevicePowers, Fleet, Response
from tellegen.simulation.world import FeederWorld, Observation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DEVICE_KINDS = ("pv", "battery", "vehicle", "heat_pump", "water_heater")


@dataclass(frozen=True, slots=True, eq=False)
class WorldDay:
    """What one world did over T intervals with n customers on N nodes.

    Attributes
    ----------
    name : ``market``, ``flat_smart``, ``time_of_use`` or ``flat``.
    import_wh, export_wh : int64[T, n + 1], counted by perfect meters; column 0 is the substation.
    root_kw, losses_kw, loading_percent_max, overload_percent : float64[T].
    voltage_violations, loading_violations : int64[T].
    voltage_pu : float32[T, N].
    device_w : float32[T, 5, n], power of each kind of device (`DEVICE_KINDS`), withdrawal positive.
    curtailed_kwh : PV energy not used. wear, discomfort : currency over the day.
    opening, closing : what devices held at the start and at the end.
    """

    name: str
    import_wh: IntArray
    export_wh: IntArray
    root_kw: FloatArray
    losses_kw: FloatArray
    loading_percent_max: FloatArray
    overload_percent: FloatArray
    voltage_violations: IntArray
    loading_violations: IntArray
    voltage_pu: NDArray[np.float32]
    device_w: NDArray[np.float32]
    curtailed_kwh: float
    wear: float
    discomfort: float
    opening: Closing
    closing: Closing


@dataclass(slots=True)
class WorldDiary:
    """Collects a `WorldDay` interval by interval."""

    name: str
    fleet: Fleet
    world: FeederWorld
    opening: Closing
    _registers: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    _seen: list[Observation] = field(default_factory=list)
    _devices: list[FloatArray] = field(default_factory=list)
    _curtailed_kwh: float = 0.0
    _wear: float = 0.0
    _discomfort: float = 0.0

    def __post_init__(self) -> None:
        self._registers.append(self.world.registers.whole()[:2])

    def add(self, observation: Observation, response: Response) -> None:
        """Note one interval."""
        self._registers.append(self.world.registers.whole()[:2])
        self._seen.append(observation)
        self._devices.append(_by_customer(self.fleet, response.powers))
        self._curtailed_kwh += float(response.curtailed_kw.sum()) / 12.0
        self._wear += float(response.wear.sum())
        self._discomfort += float(response.discomfort.sum())

    def close(self, closing: Closing) -> WorldDay:
        """The day as arrays."""
        imported, exported = (np.stack([r[k] for r in self._registers]) for k in (0, 1))
        seen = self._seen
        return WorldDay(
            name=self.name,
            import_wh=imported[1:] - imported[:-1],
            export_wh=exported[1:] - exported[:-1],
            root_kw=np.array([o.root_kw for o in seen]),
            losses_kw=np.array([o.losses_kw for o in seen]),
            loading_percent_max=np.array([o.loading_percent_max for o in seen]),
            overload_percent=np.array([o.overload_percent for o in seen]),
            voltage_violations=np.array([o.voltage_violations for o in seen], dtype=np.int64),
            loading_violations=np.array([o.loading_violations for o in seen], dtype=np.int64),
            voltage_pu=np.stack([o.voltage_pu for o in seen]).astype(np.float32),
            device_w=np.stack(self._devices).astype(np.float32),
            curtailed_kwh=self._curtailed_kwh,
            wear=self._wear,
            discomfort=self._discomfort,
            opening=self.opening,
            closing=closing,
        )


def _by_customer(fleet: Fleet, powers: DevicePowers) -> FloatArray:
    homes = fleet.homes
    return np.stack(
        [
            homes.total(homes.inverters, -1000.0 * powers.pv_kw),
            homes.total(homes.batteries, powers.battery_w),
            homes.total(homes.vehicles, powers.vehicle_w),
            homes.total(homes.heat_pumps, powers.heat_pump_w),
            homes.total(homes.water_heaters, powers.water_heater_w),
        ]
    )
