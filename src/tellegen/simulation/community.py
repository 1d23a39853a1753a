"""A real community for one day: the homes of a SimBench grid, what they own and what they need.

A customer is one base load of the grid. Heat pumps, cars, batteries and photovoltaics belong to a
customer at their bus, in order, one of a kind each as far as possible; at a bus without base load
they make a customer of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.devices import Batteries, HeatPumps, Inverters, Vehicles, WaterHeaters
from tellegen.errors import InputError
from tellegen.grid.importers import load_case, simbench_profiles, simbench_tables
from tellegen.grid.network import Case
from tellegen.simulation.endowments import (
    INTERVALS_PER_DAY,
    KW_PER_MW,
    W_PER_MW,
    WATER_W,
    Homes,
    Reader,
    batteries,
    charging_sessions,
    heat_pumps,
    inverters,
    multiplied,
    units_of,
    water_tanks,
    window_of,
)
from tellegen.simulation.profiles import PER_QUARTER

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]

FUSES_A = (35, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 630, 1000, 1600, 2500, 4000)
LINE_VOLTS = 400.0


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """Where customers are connected: one row per customer.

    customer int64[n] from 1; node int64[n], node index; meter int64[n], serial number; fuse_w
    int64[n], connection capacity in both directions.
    """

    customer: IntArray
    node: IntArray
    meter: IntArray
    fuse_w: IntArray


@dataclass(frozen=True, slots=True)
class DeviceCount:
    """Devices of a kind: how many customers have here, and how many the data set gives them."""

    here: int
    data_set: int


@dataclass(frozen=True, slots=True, eq=False)
class Community:
    """A day of a community, with the history from which its agents may learn.

    Attributes
    ----------
    case : the market's network.
    customers, names : connection points; public names (``home-001``), length n.
    day, timezone : billing day and its IANA time zone.
    first_interval, intervals : market interval of local midnight; length of the day in intervals
        (288; 276 or 300 when the clocks change).
    history_days : days of 288 intervals before midnight that the series hold.
    load_kw, load_kvar : float64[n, T], base load (consumption positive), with
        ``T = history_days * 288 + intervals``; column 0 is interval
        ``first_interval - history_days * 288``. The reactive power that heat pumps draw in the data
        set is part of the base load.
    batteries, vehicles, heat_pumps, water_heaters, inverters : what customers own.
    charging_w : float64[n], what the cars of each home can draw, all at once.
    devices : how many there are of each kind, ``pv``, ``batteries``, ``vehicles``, ``heat_pumps``, ``water_heaters``.
    """

    case: Case
    customers: Connections
    names: tuple[str, ...]
    day: date
    timezone: str
    first_interval: int
    intervals: int
    history_days: int
    load_kw: FloatArray
    load_kvar: FloatArray
    batteries: Batteries
    vehicles: Vehicles
    heat_pumps: HeatPumps
    water_heaters: WaterHeaters
    inverters: Inverters
    charging_w: FloatArray
    devices: Mapping[str, DeviceCount]

    @property
    def pv_kw(self) -> FloatArray:
        """Available photovoltaic power per inverter, float64[n_pv, T]."""
        return self.inverters.pv_kw

    @property
    def history(self) -> int:
        """Column of the series at which the day begins."""
        return self.history_days * INTERVALS_PER_DAY


def _kind_of_load(profile: str) -> Literal["vehicle", "heat_pump", "base"]:
    if profile.startswith(("HLS", "APLS")):
        return "vehicle"
    return "heat_pump" if profile.startswith(("Air", "Soil")) else "base"


def build_community(
    code: str,
    day: date,
    *,
    seed: int,
    history_days: int = 28,
    timezone: str = "Europe/Berlin",
    water_heaters: int = 12,
    pv_scale: float = 1.0,
    vehicle_scale: float = 1.0,
    heat_pump_scale: float = 1.0,
    battery_scale: float = 1.0,
) -> Community:
    """Build a community from a SimBench grid (extra ``grids``).

    Parameters
    ----------
    code : SimBench code, with or without ``simbench:`` in front.
    day : a local day of 2016 with `history_days` days of profiles before it.
    seed : draws meter numbers, weeks of cars, water heaters and their draws, values of energy.
    water_heaters : homes that get an electric water heater; an addition to the data set.
    pv_scale, vehicle_scale, heat_pump_scale, battery_scale : multiples of the number of devices; 1
        is the data set. Above 1, copies of devices of the data set go to homes without one, drawn
        from the seed; below 1, some are left out.

    Raises
    ------
    InputError : unknown code, or a day without profiles.
    """
    source = code if code.startswith("simbench:") else f"simbench:{code}"
    tables, profiles = simbench_tables(source[9:]), simbench_profiles(source[9:])
    case = load_case(source)
    window = window_of(source, profiles, day, history_days, timezone)
    load = tables.frame("load")
    load = load.take(load.flags("in_service", True))
    names, buses = load.texts("profile"), load.texts("bus")
    scaling = load.numbers("scaling", 1.0)
    p_mw, q_mvar = load.numbers("p_mw") * scaling, load.numbers("q_mvar", 0.0) * scaling

    reader = Reader(source, profiles, window)
    homes = Homes(case.network)
    rows: dict[str, list[int]] = {"base": [], "vehicle": [], "heat_pump": []}
    for row, name in enumerate(names):
        rows[_kind_of_load(name)].append(row)
    owners = [homes.add(buses[row], float(p_mw[row]) * W_PER_MW) for row in rows["base"]]
    if not owners:
        raise InputError(source, "table load", "has no base load, so no customers")
    households = np.arange(len(owners))

    rng = np.random.default_rng([seed, 1])
    sgen, storage = (tables.frame(kind) for kind in ("sgen", "storage"))
    sgen, storage = (frame.take(frame.flags("in_service", True)) for frame in (sgen, storage))
    stores = units_of(storage, list(range(len(storage))), "inverter", homes)
    suns = units_of(sgen, list(range(len(sgen))), "inverter", homes) + stores
    given = {"pv": len(suns), "batteries": len(stores), "vehicles": len(rows["vehicle"])}
    given |= {"heat_pumps": len(rows["heat_pump"]), "water_heaters": 0}
    suns = multiplied(suns, pv_scale, households, rng)
    cells = multiplied(stores, battery_scale, np.array(sorted({sun.home for sun in suns}), dtype=np.int64), rng)
    cars = multiplied(units_of(load, rows["vehicle"], "vehicle", homes), vehicle_scale, households, rng)
    pumps = multiplied(units_of(load, rows["heat_pump"], "heat_pump", homes), heat_pump_scale, households, rng)
    heaters = water_tanks(
        np.setdiff1d(households, [pump.home for pump in pumps]), water_heaters, window, np.random.default_rng([seed, 2])
    )
    for unit in suns + cells + cars + pumps:
        homes.connected_w[unit.home] += unit.nominal_w
    for home in (heaters.customer - 1).tolist():
        homes.connected_w[home] += WATER_W

    here = {"pv": len(suns), "batteries": len(cells), "vehicles": len(cars)}
    here |= {"heat_pumps": len(pumps), "water_heaters": len(heaters)}
    count, width = len(homes.node), PER_QUARTER * window.quarters
    load_kw, load_kvar = np.zeros((count, width)), np.zeros((count, width))
    for home, row in zip(owners, rows["base"], strict=True):
        load_kw[home] += reader.series(load, row, f"{names[row]}_pload") * p_mw[row] * KW_PER_MW
        load_kvar[home] += reader.series(load, row, f"{names[row]}_qload") * q_mvar[row] * KW_PER_MW
    for pump in pumps:
        load_kvar[pump.home] += reader.series(load, pump.row, f"{pump.profile}_qload") * q_mvar[pump.row] * KW_PER_MW
    digits = max(3, len(str(count)))
    charging_w = np.zeros(count)
    np.add.at(charging_w, np.array([car.home for car in cars], dtype=np.int64), [car.nominal_w for car in cars])
    return Community(
        case=case,
        customers=_connections(homes, np.random.default_rng([seed, 3])),
        names=tuple(f"home-{k + 1:0{digits}d}" for k in range(count)),
        day=day,
        timezone=timezone,
        first_interval=window.first_interval,
        intervals=window.intervals,
        history_days=history_days,
        load_kw=load_kw,
        load_kvar=load_kvar,
        batteries=batteries(cells),
        vehicles=charging_sessions(cars, reader, rng),
        heat_pumps=heat_pumps(pumps, reader),
        water_heaters=heaters,
        inverters=inverters(suns, reader),
        charging_w=charging_w,
        devices={kind: DeviceCount(here[kind], count) for kind, count in given.items()},
    )


def _connections(homes: Homes, rng: np.random.Generator) -> Connections:
    count = len(homes.node)
    capacity = np.array(FUSES_A) * np.sqrt(3.0) * LINE_VOLTS
    step = np.searchsorted(capacity, np.array(homes.connected_w))
    if (step >= capacity.size).any():
        fuse_w = np.where(step < capacity.size, capacity[np.minimum(step, capacity.size - 1)], homes.connected_w)
    else:
        fuse_w = capacity[step]
    serial = 10_000_000 + rng.permutation(9 * count)[:count] * 7919 % 89_999_999
    return Connections(
        customer=np.arange(1, count + 1, dtype=np.int64),
        node=np.array(homes.node, dtype=np.int64),
        meter=serial.astype(np.int64),
        fuse_w=np.floor(fuse_w).astype(np.int64),
    )
