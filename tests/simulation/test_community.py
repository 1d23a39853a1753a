"""A community is the data set's homes and devices, brought to market intervals without losing energy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import fields
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tellegen.errors import InputError
from tellegen.grid.importers import Frame, simbench_profiles, simbench_tables
from tellegen.simulation.community import Community, build_community
from tellegen.simulation.profiles import charging_blocks, five_minutes
from tellegen.units import interval_at

CODE = "1-LV-rural1--2-sw"
SPRING = date(2016, 4, 28)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=2, min_side=3), elements=st.floats(0, 1e4)))
def test_five_minutes_keep_the_energy_of_each_quarter_hour(quarters: np.ndarray) -> None:
    """Law 2: coarse readings are profiled to market intervals, conserving energy."""
    fine = five_minutes(quarters)
    assert fine.shape == (*quarters.shape[:-1], 3 * quarters.shape[-1])
    means = fine.reshape(*quarters.shape, 3).mean(axis=-1)
    assert means == pytest.approx(quarters, rel=1e-12, abs=1e-9)
    assert (fine >= -1e-9).all()
    padded = np.concatenate([quarters[..., :1], quarters, quarters[..., -1:]], axis=-1)
    high = np.repeat(np.maximum.reduce([padded[..., :-2], quarters, padded[..., 2:]]), 3, axis=-1)
    low = np.repeat(np.minimum.reduce([padded[..., :-2], quarters, padded[..., 2:]]), 3, axis=-1)
    assert (fine <= high * (1 + 1e-12) + 1e-9).all()
    assert (fine >= low * (1 - 1e-12) - 1e-9).all()


def test_a_steady_rise_becomes_a_straight_line() -> None:
    assert five_minutes(np.arange(0.0, 15.0, 3.0))[3:-3] == pytest.approx(np.arange(2.0, 11.0))


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.0005, 0.4, 1.0])))
def test_charging_blocks_cover_all_charging_once(share: np.ndarray) -> None:
    starts, stops = charging_blocks(share)
    inside = np.zeros(share.size, dtype=bool)
    for first, last in zip(starts, stops, strict=True):
        assert not inside[first:last].any()
        inside[first:last] = True
    assert np.array_equal(inside, share > 1e-3)


@pytest.fixture(scope="module")
def grids() -> None:
    """The data set, found without importing the package that opens it."""
    if importlib.util.find_spec("simbench") is None:
        pytest.skip("the extra `grids` is not installed")


def build(day: date = SPRING, **options: Any) -> Community:
    return build_community(CODE, day, **({"seed": 5, "history_days": 8} | options))


def test_energy_of_the_day_is_the_data_sets(grids: None) -> None:
    """Base load, heat and sun of the day are the profiles of the data set, to their precision."""
    home = build(water_heaters=0)
    tables, profiles = simbench_tables(CODE), simbench_profiles(CODE)
    first = int((datetime(2016, 4, 28) - datetime(2016, 1, 1)).total_seconds() // 900) - 4  # CEST is an hour ahead
    quarters = slice(first, first + 96)

    def energy_kwh(frame: Frame, wanted: tuple[str, ...], row: Callable[[str], str]) -> float:
        each = zip(abs(frame.numbers("p_mw")) * 1000, frame.texts("profile"), strict=True)
        return float(
            sum(kw * profiles.row(row(name))[quarters].sum() / 4 for kw, name in each if name.startswith(wanted))
        )

    today = slice(home.history, None)
    load = tables.frame("load")
    base = energy_kwh(load, ("H0", "G", "L"), lambda name: f"{name}_pload")
    heat = energy_kwh(load, ("Air", "Soil"), lambda name: f"{name}_pload")
    sun = energy_kwh(tables.frame("sgen"), ("PV",), str)
    sun += energy_kwh(tables.frame("storage"), ("Storage_PV",), lambda name: name.split("_")[1])
    # The interpolation conserves each quarter-hour; float32 profiles bring 1e-7.
    assert home.load_kw[:, today].sum() / 12 == pytest.approx(base, rel=1e-6)
    pumps = home.heat_pumps
    assert (pumps.demand_w[:, today] / pumps.cop[:, None]).sum() / 12e3 == pytest.approx(heat, rel=1e-6)
    assert home.pv_kw[:, today].sum() / 12 == pytest.approx(sun, rel=1e-6)
    assert sun > 100


@pytest.mark.parametrize(("day", "intervals"), [(date(2016, 3, 27), 276), (SPRING, 288), (date(2016, 10, 30), 300)])
def test_the_day_is_local_and_as_long_as_the_clocks_make_it(grids: None, day: date, intervals: int) -> None:
    home = build(day)
    assert home.intervals == intervals
    assert home.first_interval == interval_at(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Europe/Berlin")))
    assert home.load_kw.shape == (len(home.names), 8 * 288 + intervals)
    for devices in (home.inverters.pv_kw, home.heat_pumps.demand_w, home.water_heaters.draw_w):
        assert devices.shape[1] == 8 * 288 + intervals


def test_the_sun_stands_highest_after_one_in_summer_time(grids: None) -> None:
    """Solar noon in northern Germany is about 13:15 summer time: clock and data set agree."""
    total = np.zeros(288)
    for day in (10, 20, 30):
        total += build(date(2016, 6, day)).pv_kw[:, -288:].sum(axis=0)
    centre = (total * (np.arange(288) + 0.5)).sum() / total.sum() / 12
    assert 12.5 < centre < 14.0


def test_history_is_the_same_whatever_the_day_it_leads_to(grids: None) -> None:
    """What agents learn from is the past itself, not something made for the day."""
    earlier, later = build(SPRING), build(date(2016, 4, 29))
    assert np.array_equal(earlier.load_kw[:, 288:-1], later.load_kw[:, : earlier.load_kw.shape[1] - 289])


def test_a_seed_decides_everything(grids: None) -> None:
    def content(home: Community) -> list[bytes]:
        tables = (home.customers, home.vehicles, home.water_heaters, home.heat_pumps, home.inverters, home.batteries)
        return [getattr(table, f.name).tobytes() for table in tables for f in fields(table)]

    assert content(build(vehicle_scale=2.5)) == content(build(vehicle_scale=2.5))
    assert content(build(vehicle_scale=2.5)) != content(build(vehicle_scale=2.5, seed=6))


def test_customers_are_numbered_metered_and_fused(grids: None) -> None:
    home = build(pv_scale=2.0)
    who = home.customers
    count = len(home.names)
    assert who.customer.tolist() == list(range(1, count + 1))
    assert home.names[0] == "home-001"
    assert np.unique(who.meter).size == count
    assert not np.isin(who.node, home.case.network.source).any()
    nominal = np.zeros(count)
    np.add.at(nominal, home.inverters.customer - 1, home.inverters.rated_kva * 1000)
    np.add.at(nominal, home.heat_pumps.customer - 1, home.heat_pumps.power_w)
    np.add.at(nominal, home.batteries.customer - 1, home.batteries.power_w)
    assert np.all(who.fuse_w >= nominal)
    assert np.all(home.pv_kw <= home.inverters.rated_kva[:, None])


def test_every_session_can_be_served_before_its_deadline(grids: None) -> None:
    for seed in range(6):
        home = build(vehicle_scale=4.0, seed=seed)
        cars = home.vehicles
        assert len(cars) > 0
        end = home.first_interval + home.intervals
        assert np.all((cars.arrival >= home.first_interval) & (cars.arrival < end))
        hours = (cars.deadline - cars.arrival) / 12
        assert np.all(cars.energy_wh <= cars.power_w * hours * (1 + 1e-9))
        assert np.all(cars.deadline <= end + 10 * 12)


def test_cars_leave_in_the_morning_local_time(grids: None) -> None:
    cars = build(vehicle_scale=4.0).vehicles
    seven = interval_at(datetime(2016, 4, 29, 7, tzinfo=ZoneInfo("Europe/Berlin")))
    midnight = interval_at(datetime(2016, 4, 28, tzinfo=ZoneInfo("Europe/Berlin")))
    evening = cars.arrival >= midnight + 15 * 12
    assert np.any(cars.deadline[evening] == seven)
    assert np.all(cars.deadline[evening] <= seven)


def test_more_devices_go_to_homes_that_have_none(grids: None) -> None:
    once, twice, half = build(), build(pv_scale=2.0), build(pv_scale=0.5)
    assert len(twice.inverters) == 2 * len(once.inverters)
    assert len(half.inverters) == round(0.5 * len(once.inverters))
    assert np.array_equal(twice.inverters.pv_kw[: len(once.inverters)], once.inverters.pv_kw)
    owners = np.unique(twice.inverters.customer).size
    assert owners == min(len(once.names), len(twice.inverters))


def test_batteries_stand_where_the_sun_is(grids: None) -> None:
    home = build(battery_scale=2.0)
    assert np.isin(home.batteries.customer, home.inverters.customer).all()
    assert np.all((home.batteries.soc_wh > 0) & (home.batteries.soc_wh < home.batteries.capacity_wh))


def test_water_heaters_are_wished_for(grids: None) -> None:
    assert len(build(water_heaters=0).water_heaters) == 0
    few, many = build(water_heaters=3).water_heaters, build(water_heaters=10_000).water_heaters
    assert len(few) == 3
    assert np.unique(many.customer).size == len(many)
    daily_kwh = few.draw_w.reshape(3, -1, 288).sum(axis=2) / 12e3
    # two to four persons with 1.5 kWh each; a draw at the edge of a day may fall into the next
    assert np.all((daily_kwh > 2.0) & (daily_kwh < 7.0))


@pytest.mark.parametrize("day", [date(2016, 1, 5), date(2017, 3, 1), date(2015, 6, 1)])
def test_a_day_without_profiles_is_refused(grids: None, day: date) -> None:
    with pytest.raises(InputError, match="a day without profiles"):
        build(day)


def test_an_unknown_grid_is_refused(grids: None) -> None:
    with pytest.raises(InputError, match="not a SimBench code"):
        build_community("1-LV-nowhere--2-sw", SPRING, seed=1)
