"""A synthetic day of 5-minute registers: appliances in steps, PV on a third of the roofs, feeder voltage.

No household was measured. Powers are drawn per appliance (refrigerator cycles, cooking, washing, lighting, electric
vehicles on a sixth and heat pumps on a fifth of the homes), clouds move as a first-order process over a clear sky,
voltage follows the homes' own power and the feeder's. Registers count whole Wh and varh and never lose a fraction;
voltage is a mean in steps of 0.1 V.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.records import Readings

INTERVALS = 288
HOURS = np.arange(INTERVALS) / 12.0
KINDS_OF_EVENTS = ((2000, 1, 2, 6.0), (2400, 3, 9, 2.0), (500, 12, 30, 0.6), (150, 12, 50, 2.5))
"""Power (W), least and most intervals, how many a day: kettle, cooking, washing, lighting and screens."""
PV_SHARE, VEHICLE_SHARE, HEAT_PUMP_SHARE = 1 / 3, 1 / 6, 1 / 5

Floats = NDArray[np.float64]


def register_day(customers: int, seed: int = 1) -> list[Readings]:
    """Readings of all customers, numbered from 1, at the end of each interval of a day.

    Codes are random bytes: a code cannot be told from them.
    """
    draw = np.random.default_rng(seed)
    load_w, photovoltaic_w = _loads(customers, draw), _photovoltaics(customers, draw)
    net_w = load_w - photovoltaic_w
    reactive_var = load_w * draw.uniform(0.05, 0.3, (customers, 1)) + draw.normal(0.0, 4.0, load_w.shape)
    feeder = net_w.mean(axis=0)
    voltage = 231.0 - feeder / 700.0 - net_w * draw.uniform(1e-4, 6e-4, (customers, 1))
    voltage += draw.normal(0.0, 0.15, load_w.shape) + draw.normal(0.0, 0.6, (customers, 1)) + _wandering(1, draw)
    number = np.arange(1, customers + 1, dtype=np.int32)
    serial = 10_000_000 + draw.permutation(10 * customers)[:customers]
    counter = draw.integers(10_000, 200_000, (customers, 1)) + np.arange(INTERVALS)
    imported, exported = _register(np.maximum(net_w, 0.0), draw), _register(np.maximum(-net_w, 0.0), draw)
    reactive = _register(reactive_var, draw)
    millivolts = np.round(voltage * 10.0).astype(np.int64) * 100
    return [
        Readings(
            customer=number,
            meter=serial,
            counter=counter[:, k],
            import_wh=imported[:, k],
            export_wh=exported[:, k],
            reactive_varh=reactive[:, k],
            voltage_mv=millivolts[:, k],
            tag=np.frombuffer(draw.bytes(16 * customers), dtype="V16"),
        )
        for k in range(INTERVALS)
    ]


def _register(power: Floats, draw: np.random.Generator) -> NDArray[np.int64]:
    """Cumulative whole units at the end of each interval, beginning anywhere."""
    start = draw.integers(0, 30_000_000, (len(power), 1))
    return start + np.floor(np.cumsum(power / 12.0, axis=1)).astype(np.int64)


def _loads(customers: int, draw: np.random.Generator) -> Floats:
    power = draw.uniform(40.0, 180.0, (customers, 1)) + draw.normal(0.0, 3.0, (customers, INTERVALS))
    period = draw.integers(7, 12, (customers, 1))
    running = (np.arange(INTERVALS) + draw.integers(0, 12, (customers, 1))) % period < period // 3
    power += running * draw.uniform(60.0, 120.0, (customers, 1))
    likelihood = 0.2 + np.exp(-((HOURS - 7.5) ** 2) / 3.0) + 1.6 * np.exp(-((HOURS - 19.0) ** 2) / 6.0)
    likelihood /= likelihood.sum()
    for watts, least, most, a_day in KINDS_OF_EVENTS:
        count = draw.poisson(a_day, customers)
        _switch_on(power, np.repeat(np.arange(customers), count), likelihood, watts, least, most, draw)
    vehicles = np.flatnonzero(draw.random(customers) < VEHICLE_SHARE)
    _switch_on(power, vehicles, likelihood, 7400, 12, 48, draw)
    pumps = np.flatnonzero(draw.random(customers) < HEAT_PUMP_SHARE)
    cycle = (np.arange(INTERVALS) + draw.integers(0, 20, (pumps.size, 1))) % draw.integers(8, 20, (pumps.size, 1)) < 5
    power[pumps] += cycle * draw.uniform(900.0, 2500.0, (pumps.size, 1))
    return np.maximum(power, 0.0)


def _switch_on(
    power: Floats,
    homes: NDArray[np.int64],
    likelihood: Floats,
    watts: int,
    least: int,
    most: int,
    draw: np.random.Generator,
) -> None:
    """Add one event to each home named, at a likely time."""
    start = draw.choice(INTERVALS, homes.size, p=likelihood)
    length = draw.integers(least, most + 1, homes.size)
    level = watts * draw.uniform(0.7, 1.2, homes.size)
    for home, at, span, height in zip(homes.tolist(), start.tolist(), length.tolist(), level.tolist(), strict=True):
        power[home, at : at + span] += height * draw.normal(1.0, 0.01, power[home, at : at + span].size)


def _photovoltaics(customers: int, draw: np.random.Generator) -> Floats:
    sky = np.clip(np.sin((HOURS - 6.0) / 14.0 * np.pi), 0.0, None) ** 1.3 * (HOURS > 6.0) * (HOURS < 20.0)
    clouds = np.clip(0.75 + 0.25 * _wandering(1, draw) + 0.06 * _wandering(customers, draw), 0.05, 1.0)
    peak = draw.uniform(2500.0, 9000.0, (customers, 1)) * (draw.random((customers, 1)) < PV_SHARE)
    return np.asarray(peak * sky * clouds)


def _wandering(rows: int, draw: np.random.Generator) -> Floats:
    """A first-order process of unit variance, one row each."""
    steps = draw.normal(0.0, 1.0, (rows, INTERVALS))
    for k in range(1, INTERVALS):
        steps[:, k] = 0.93 * steps[:, k - 1] + np.sqrt(1 - 0.93**2) * steps[:, k]
    return steps
