"""A made-up neighbourhood, and a market without wires to play it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tellegen.agents import (
    Batteries,
    Fleet,
    HeatPumps,
    Inverters,
    Parameters,
    Reality,
    Tariff,
    Vehicles,
    WaterHeaters,
    connect,
)
from tellegen.records import Orders

PER_DAY = 288
FIRST = 1_600_000
"""Market interval at which the day starts; the history lies before it."""


@dataclass(frozen=True)
class Neighbourhood:
    """A fleet with its reality, the day's first interval, and wholesale prices of history and day."""

    fleet: Fleet
    reality: Reality
    first: int
    price: np.ndarray


def build(
    homes: int = 12,
    history_days: int = 10,
    *,
    seed: int = 1,
    tariff: Tariff | None = None,
    parameters: Parameters | None = None,
    change_after: int | None = None,
) -> Neighbourhood:
    """Make a neighbourhood; `change_after` draws everything from that interval on anew."""
    rng = np.random.default_rng(seed)
    total = (history_days + 1) * PER_DAY
    hour = (np.arange(total) % PER_DAY) / 12.0
    evening = 0.3 + 0.7 * np.exp(-0.5 * ((hour - 19) / 2.5) ** 2) + 0.3 * np.exp(-0.5 * ((hour - 7.5) / 1.5) ** 2)
    load = rng.uniform(0.3, 1.2, (homes, 1)) * evening * rng.uniform(0.6, 1.4, (homes, total))
    daily = np.repeat(rng.uniform(0.5, 1.0, history_days + 1), PER_DAY)
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0.0) * (hour > 6) * (hour < 18) * daily
    owners = np.arange(1, homes + 1)
    solar = owners[: max(homes // 2, 1)]
    rated = rng.uniform(4.0, 9.0, solar.size)
    pv = rated[:, None] * sun * 0.9
    heat_owner = owners[homes // 3 : homes // 3 + max(homes // 3, 1)]
    need = rng.uniform(1500, 4000, (heat_owner.size, 1)) * (1.2 - 0.4 * np.sin((hour - 8) / 12 * np.pi))
    water_owner = owners[-max(homes // 4, 1) :]
    draw = np.where(rng.random((water_owner.size, total)) < 0.03, 6000.0, 0.0)
    price = 0.08 + 0.06 * np.exp(-0.5 * ((hour - 19) / 2) ** 2) - 0.05 * np.exp(-0.5 * ((hour - 13) / 2.5) ** 2)
    price = price + 0.01 * rng.standard_normal(total)
    if change_after is not None:
        column = change_after - (FIRST - history_days * PER_DAY)
        other = np.random.default_rng(seed + 1)
        for series in (load, pv, need, draw):
            series[:, column:] = other.uniform(0.0, 1.0, series[:, column:].shape) * series.max()
        pv[:, column:] = np.minimum(pv[:, column:], rated[:, None])
        price[column:] = other.uniform(-0.1, 0.5, price[column:].shape)
    k = solar.size
    stores = max(k // 2, 1)
    capacity = rng.uniform(5e3, 15e3, stores)
    cars = owners[::3]
    arrival = FIRST + rng.integers(-30, 260, cars.size)
    stay = rng.integers(20, 150, cars.size)
    power = rng.choice([3700.0, 11000.0], cars.size)
    lacking = np.minimum(rng.uniform(3e3, 15e3, cars.size), power * stay / 12 * 0.9)
    if change_after is not None:
        later = arrival > change_after
        arrival, stay = np.where(later, arrival + 7, arrival), np.where(later, stay + 5, stay)
        lacking = np.where(later, lacking / 2, lacking)
    fleet, reality = connect(
        np.arange(1, homes + 1),
        load,
        0.2 * load,
        FIRST - history_days * PER_DAY,
        batteries=Batteries(
            solar[:stores], capacity, capacity / 2, np.full(stores, 0.9), capacity * rng.uniform(0.2, 0.6, stores)
        ),
        vehicles=Vehicles(
            cars,
            power,
            np.full(cars.size, 0.9),
            arrival,
            arrival + stay,
            lacking,
            np.full(cars.size, 1.0),
        ),
        heat_pumps=HeatPumps(
            heat_owner,
            np.full(heat_owner.size, 3000.0),
            np.full(heat_owner.size, 3.0),
            np.full(heat_owner.size, 120.0),
            np.full(heat_owner.size, 4000.0),
            np.full(heat_owner.size, 21.0),
            np.full(heat_owner.size, 21.0),
            np.full(heat_owner.size, 19.5),
            np.full(heat_owner.size, 22.5),
            need,
        ),
        water_heaters=WaterHeaters(
            water_owner,
            np.full(water_owner.size, 2000.0),
            np.full(water_owner.size, 230.0),
            np.full(water_owner.size, 1.5),
            np.full(water_owner.size, 55.0),
            np.full(water_owner.size, 55.0),
            np.full(water_owner.size, 45.0),
            np.full(water_owner.size, 65.0),
            np.full(water_owner.size, 20.0),
            draw,
        ),
        inverters=Inverters(solar, rated, pv),
        tariff=tariff or Tariff(),
        parameters=parameters or Parameters(),
    )
    return Neighbourhood(fleet, reality, FIRST, price)


def awards_at(orders: Orders, price: float) -> np.ndarray:
    """Awards in mW where every order meets one price: all within the money, none at it or beyond."""
    limit = orders.price_micros / 1e6
    wins = (orders.price_taker == 1) | np.where(orders.side > 0, limit > price, limit < price)
    return np.where(wins & (orders.product == 0), orders.quantity_w * 1000, 0)


@pytest.fixture(scope="session")
def neighbourhood() -> Neighbourhood:
    return build()


@pytest.fixture(scope="session")
def make() -> Callable[..., Neighbourhood]:
    return build


@pytest.fixture(scope="session")
def clear_at() -> Callable[[Orders, float], np.ndarray]:
    return awards_at
