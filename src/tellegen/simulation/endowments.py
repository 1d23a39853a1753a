"""What customers of a SimBench grid own: devices from the data set and the additions to it.

What the data set does not say is drawn from the seed, or stated in a constant here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.devices import Batteries, HeatPumps, Inverters, Vehicles, WaterHeaters
from tellegen.errors import InputError
from tellegen.grid.importers import Frame, Profiles
from tellegen.grid.network import Network
from tellegen.simulation.profiles import PER_QUARTER, QUARTER_H, charging_blocks, five_minutes, quarter_of
from tellegen.units import INTERVALS_PER_HOUR, interval_at

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

INTERVALS_PER_DAY = 24 * INTERVALS_PER_HOUR
W_PER_MW = 1e6
KW_PER_MW = 1e3

STORAGE_ONE_WAY = 0.95
"""SimBench gives batteries an efficiency of 0.95; it is taken for each way, so 0.9025 there and back."""
STORAGE_START = 0.3
"""State of charge long before the day that is played, share of capacity; the data set has none."""
VEHICLE_EFFICIENCY = 0.9
MORNING_HOUR, AFTERNOON_HOUR, DEPARTURE_HOUR = 4, 15, 7
DAYTIME_SLACK_H = 4
SESSION_WH_MIN = 50.0
VEHICLE_WEEKS = 8
"""Cars with the same profile read it up to this many weeks apart, so that they do not move as one."""
COP = {"Air": 3.0, "Soil": 4.0}
DESIGN_KELVIN = 32.0
"""A heat pump at full power holds the building at this much above the outdoor temperature."""
BUILDING_HOURS = 60.0
"""Time constant of a building: heat stored per kelvin over heat lost per kelvin."""
TANK_LITRES = (150.0, 200.0, 300.0)
WH_PER_LITRE_KELVIN = 1.163
WATER_W = 2000.0
HOME_W_MAX = 12_000.0
"""Largest device that a single home gets as a copy."""


@dataclass(frozen=True, slots=True)
class Window:
    """The intervals that the series cover, and the local calendar of the day."""

    zone: ZoneInfo
    day: date
    first_interval: int
    intervals: int
    history_days: int
    first_quarter: int
    quarters: int

    def local_midnight(self, days: int) -> datetime:
        """Local midnight so many days after the one that begins the day."""
        return datetime.combine(self.day + timedelta(days=days), time(0), tzinfo=self.zone)

    def series(self, profile: FloatArray) -> FloatArray:
        """A profile over the window at market intervals; neighbours outside it shape its ends."""
        low, high = self.first_quarter, self.first_quarter + self.quarters
        padded = profile[..., max(low - 1, 0) : high + 1]
        out = five_minutes(padded)[..., PER_QUARTER * (low - max(low - 1, 0)) :]
        return np.asarray(out[..., : PER_QUARTER * self.quarters])


def window_of(source: str, profiles: Profiles, day: date, history_days: int, timezone: str) -> Window:
    """The window of a local day with its history.

    Raises
    ------
    InputError : the profiles do not serve the day, or not the history before it.
    """
    zone = ZoneInfo(timezone)
    start = interval_at(datetime.combine(day, time(0), tzinfo=zone))
    end = interval_at(datetime.combine(day + timedelta(days=1), time(0), tzinfo=zone))
    first = start - history_days * INTERVALS_PER_DAY
    low, high = quarter_of(profiles.first_quarter, first), quarter_of(profiles.first_quarter, end)
    if low < 0 or high > profiles.values.shape[1]:
        begins = datetime.strptime(profiles.first_quarter, "%d.%m.%Y %H:%M").date()
        ends = begins + timedelta(days=profiles.values.shape[1] // 96 - 1)
        raise InputError(
            source,
            f"day {day.isoformat()}",
            f"is a day without profiles: with {history_days} days of history they serve "
            f"{(begins + timedelta(days=history_days)).isoformat()} to {ends.isoformat()}",
        )
    return Window(zone, day, start, end - start, history_days, low, high - low)


class Homes:
    """Customers as they come up: base loads first, then owners of devices at buses without one."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.node: list[int] = []
        self.connected_w: list[float] = []
        self._at_node: dict[int, list[int]] = {}
        self._served: dict[tuple[str, int], int] = {}

    def add(self, bus: str, power_w: float) -> int:
        """A new customer at a bus; returns its row."""
        node = self._network.node_index(bus)
        row = len(self.node)
        self.node.append(node)
        self.connected_w.append(power_w)
        self._at_node.setdefault(node, []).append(row)
        return row

    def owner(self, bus: str, kind: str) -> int:
        """The customer who owns the next device of a kind at a bus; returns its row."""
        node = self._network.node_index(bus)
        if node not in self._at_node:
            self.add(bus, 0.0)
        rows = self._at_node[node]
        turn = self._served.get((kind, node), 0)
        self._served[(kind, node)] = turn + 1
        return rows[turn % len(rows)]


class Reader:
    """The profiles of a data set over a window, read once each."""

    def __init__(self, source: str, profiles: Profiles, window: Window) -> None:
        self.source, self.window = source, window
        self._profiles = profiles
        self._series: dict[str, FloatArray] = {}

    def share(self, frame: Frame, row: int, name: str) -> FloatArray:
        """A profile by name, float64[Q]; one that the data set does not have is an `InputError`."""
        try:
            return self._profiles.row(name)
        except KeyError:
            raise InputError(
                self.source, frame.label(row), f"names profile {name!r}, which the data set does not have"
            ) from None

    def series(self, frame: Frame, row: int, name: str) -> FloatArray:
        """A profile by name over the window at market intervals, float64[T]."""
        if name not in self._series:
            self._series[name] = self.window.series(self.share(frame, row, name))
        return self._series[name]


@dataclass(frozen=True, slots=True)
class Unit:
    """A device before it becomes a row of its table: owner, nominal power, and its row in the data set."""

    home: int
    nominal_w: float
    frame: Frame
    row: int
    profile: str


def units_of(frame: Frame, rows: list[int], kind: str, homes: Homes) -> list[Unit]:
    """The devices of some rows of the data set, each with its owner."""
    nominal = abs(frame.numbers("p_mw") * frame.numbers("scaling", 1.0)) * W_PER_MW
    buses, profiles = frame.texts("bus"), frame.texts("profile")
    return [Unit(homes.owner(buses[k], kind), float(nominal[k]), frame, k, profiles[k]) for k in rows]


def multiplied(units: list[Unit], scale: float, households: NDArray[np.int64], rng: np.random.Generator) -> list[Unit]:
    """`scale` times as many devices: some of them, or all and copies in other homes.

    A copy is drawn from the devices of at most `HOME_W_MAX`, and goes to a home of `households` that
    has none of the kind, in an order drawn from `rng`; once each has one, a next round begins.
    """
    wanted = round(scale * len(units))
    if wanted <= len(units):
        kept = np.sort(rng.permutation(len(units))[:wanted])
        return [units[k] for k in kept.tolist()]
    models = [unit for unit in units if unit.nominal_w <= HOME_W_MAX] or units
    without = np.setdiff1d(households, [unit.home for unit in units])
    places = np.concatenate([rng.permutation(without), rng.permutation(households)]).astype(np.int64)
    order = rng.permutation(len(models))
    copies = [
        replace(models[int(order[k % order.size])], home=int(places[k % places.size]))
        for k in range(wanted - len(units))
    ]
    return units + copies


def charging_sessions(cars: list[Unit], reader: Reader, rng: np.random.Generator) -> Vehicles:
    """Charging sessions of the day from blocks of charging power.

    A car arrives when its block begins and needs the energy of the block. Blocks that begin from
    15:00 to 04:00 have until the next 07:00 local time, others until four hours after they would
    have ended, and none longer than until the car comes back for its next block. A block that is
    under way at midnight is there from midnight with what remains.
    """
    window = reader.window
    rows: list[tuple[int, float, int, int, float, float]] = []
    midnight = window.first_quarter + window.quarters - window.intervals // PER_QUARTER
    end = window.first_quarter + window.quarters
    for car in cars:
        share = reader.share(car.frame, car.row, f"{car.profile}_pload")
        weeks = int(rng.integers(-VEHICLE_WEEKS, VEHICLE_WEEKS + 1))
        value = float(rng.uniform(0.8, 1.5))
        own = np.roll(share, weeks * 7 * 96)
        starts, stops = charging_blocks(own)
        nexts = [*starts.tolist()[1:], end + 96 * PER_QUARTER]
        for first, last, again in zip(starts.tolist(), stops.tolist(), nexts, strict=True):
            if last <= midnight or first >= end:
                continue
            arrival = window.first_interval + (max(first, midnight) - midnight) * PER_QUARTER
            begun = window.first_interval + (first - midnight) * PER_QUARTER
            unplugged = window.first_interval + (last - midnight) * PER_QUARTER
            back = window.first_interval + (again - midnight) * PER_QUARTER
            deadline = min(_deadline(begun, unplugged, window), back)
            energy_wh = float(own[max(first, midnight) : last].sum()) * QUARTER_H * car.nominal_w
            if energy_wh >= SESSION_WH_MIN and deadline > arrival:
                rows.append((car.home + 1, car.nominal_w, arrival, deadline, energy_wh, value))
    rows.sort(key=lambda row: (row[0], row[2]))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    return Vehicles(
        customer=np.array(columns[0], dtype=np.int64),
        power_w=np.array(columns[1], dtype=np.float64),
        efficiency=np.full(len(rows), VEHICLE_EFFICIENCY),
        arrival=np.array(columns[2], dtype=np.int64),
        deadline=np.array(columns[3], dtype=np.int64),
        energy_wh=np.array(columns[4], dtype=np.float64),
        value_per_kwh=np.array(columns[5], dtype=np.float64),
    )


def _deadline(begun: int, unplugged: int, window: Window) -> int:
    """Interval at whose start a car leaves, never before its block would have ended."""
    for days in (-1, 0, 1):
        start = interval_at(window.local_midnight(days))
        following = interval_at(window.local_midnight(days + 1))
        if not start <= begun < following:
            continue
        hour = (begun - start) / INTERVALS_PER_HOUR
        departure = window.local_midnight(days + (hour >= AFTERNOON_HOUR)).replace(hour=DEPARTURE_HOUR)
        if hour >= AFTERNOON_HOUR or hour < MORNING_HOUR:
            return max(interval_at(departure), unplugged)
    return unplugged + DAYTIME_SLACK_H * INTERVALS_PER_HOUR


def heat_pumps(pumps: list[Unit], reader: Reader) -> HeatPumps:
    """Heat pumps whose thermostat at the set-point draws the profile of the data set."""
    count = len(pumps)
    power = np.array([pump.nominal_w for pump in pumps], dtype=np.float64)
    cop = np.array([COP[pump.profile.split("_")[0]] for pump in pumps], dtype=np.float64)
    share = np.array([reader.series(pump.frame, pump.row, f"{pump.profile}_pload") for pump in pumps])
    ua = cop * power / DESIGN_KELVIN
    return HeatPumps(
        customer=np.array([pump.home + 1 for pump in pumps], dtype=np.int64),
        power_w=power,
        cop=cop,
        ua_w_per_k=ua,
        capacity_wh_per_k=ua * BUILDING_HOURS,
        temperature_c=np.full(count, 21.0),
        desired_c=np.full(count, 21.0),
        low_c=np.full(count, 20.0),
        high_c=np.full(count, 22.5),
        demand_w=share.reshape(count, PER_QUARTER * reader.window.quarters) * (cop * power)[:, None],
    )


def inverters(units: list[Unit], reader: Reader) -> Inverters:
    """Photovoltaics of static generators, and those in front of storage units.

    A storage unit of the data set (``PV_Storage``) feeds in what photovoltaics of its nominal power
    leave after the battery ran by itself. Here its owner decides about the battery, so the
    photovoltaics get the plain profile that the name carries (``Storage_PV3_H0-A``: ``PV3``).
    """
    plain = [unit.profile.split("_")[1] if unit.profile.startswith("Storage_") else unit.profile for unit in units]
    share = np.array([reader.series(unit.frame, unit.row, name) for unit, name in zip(units, plain, strict=True)])
    rated_kva = np.array([unit.nominal_w / 1000 for unit in units], dtype=np.float64)
    return Inverters(
        customer=np.array([unit.home + 1 for unit in units], dtype=np.int64),
        rated_kva=rated_kva,
        pv_kw=share.reshape(len(units), PER_QUARTER * reader.window.quarters) * rated_kva[:, None],
    )


def batteries(units: list[Unit]) -> Batteries:
    """Batteries of storage units."""
    capacity = np.array([float(unit.frame.numbers("max_e_mwh", 0.0)[unit.row]) for unit in units]) * W_PER_MW
    return Batteries(
        customer=np.array([unit.home + 1 for unit in units], dtype=np.int64),
        capacity_wh=capacity,
        power_w=np.array([float(unit.frame.numbers("sn_mva", 0.0)[unit.row]) for unit in units]) * W_PER_MW,
        efficiency=np.full(len(units), STORAGE_ONE_WAY**2),
        soc_wh=capacity * STORAGE_START,
    )


def water_tanks(candidates: NDArray[np.int64], wanted: int, window: Window, rng: np.random.Generator) -> WaterHeaters:
    """Resistance tanks in homes without a heat pump; not part of the data set.

    Each draws 1.5 kWh of hot water per person and day (two to four persons) in eight to sixteen
    draws, most of them in the morning and the evening.
    """
    count = min(wanted, candidates.size)
    homes = np.sort(rng.choice(candidates, size=count, replace=False)) if count else np.zeros(0, dtype=np.int64)
    width = PER_QUARTER * window.quarters
    draw = np.zeros((count, width))
    for tank in range(count):
        daily_wh = 1500.0 * int(rng.integers(2, 5))
        for start in range(0, width, INTERVALS_PER_DAY):
            times = int(rng.integers(8, 17))
            centre = rng.choice([7.0, 13.0, 20.0], size=times, p=[0.4, 0.15, 0.45])
            at = start + np.rint(rng.normal(centre, 1.2) * INTERVALS_PER_HOUR).astype(np.int64)
            size = rng.gamma(1.5, 1.0, size=times)
            inside = (at >= 0) & (at < width)
            np.add.at(draw[tank], at[inside], (size / size.sum() * daily_wh * INTERVALS_PER_HOUR)[inside])
    litres = rng.choice(np.array(TANK_LITRES), size=count)
    return WaterHeaters(
        customer=homes + 1,
        power_w=np.full(count, WATER_W),
        capacity_wh_per_k=litres * WH_PER_LITRE_KELVIN,
        ua_w_per_k=0.5 + litres * 0.006,
        temperature_c=rng.uniform(54.0, 60.0, size=count),
        desired_c=np.full(count, 57.0),
        low_c=np.full(count, 50.0),
        high_c=np.full(count, 65.0),
        ambient_c=np.full(count, 18.0),
        draw_w=draw,
    )
