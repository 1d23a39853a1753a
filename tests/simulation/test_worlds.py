"""Worlds that are compared are alike in all but the way of paying, and end as they began."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from tellegen.settlement import peak_intervals
from tellegen.simulation.baseline import BASELINES, simulate_baselines
from tellegen.simulation.opening import rested
from tellegen.simulation.residents import Before
from tellegen.simulation.scenario import CommunityScales, Day, Feeder, Scenario
from tellegen.simulation.setup import Setup, prepare
from tellegen.simulation.summary import about, world_section
from tellegen.simulation.world_day import DEVICE_KINDS, WorldDay

CAR = DEVICE_KINDS.index("vehicle")


@pytest.fixture(scope="module")
def setup(extras: None) -> Setup:
    return rested(
        prepare(
            Scenario(
                name="A day on a small feeder",
                seed=3,
                feeder=Feeder(grid="simbench:1-LV-rural1--2-sw", v_min_pu=0.99, v_max_pu=1.035),
                day=Day(date=date(2016, 5, 14)),
                community=CommunityScales(pv_scale=3, battery_scale=2, vehicle_scale=6, heat_pump_scale=3),
            )
        )
    )


@pytest.fixture(scope="module")
def worlds(setup: Setup) -> dict[str, WorldDay]:
    return simulate_baselines(setup)


@pytest.mark.parametrize("name", BASELINES)
def test_a_day_ends_as_it_began(setup: Setup, worlds: dict[str, WorldDay], name: str) -> None:
    """Or a world would be cheap because its cars are empty at midnight."""
    day, homes = worlds[name], setup.fleet.homes
    capacity = homes.batteries.capacity_wh.sum()
    assert abs(day.closing.battery_wh.sum() - day.opening.battery_wh.sum()) < 0.03 * capacity
    tonight = homes.vehicles.energy_wh[setup.tonight].sum()
    assert tonight > 0.0
    assert abs(day.closing.owed_wh.sum() - day.opening.owed_wh.sum()) < 0.1 * tonight
    kelvin = (homes.heat_pumps.capacity_wh_per_k / homes.heat_pumps.cop).sum()  # a house forgets in days, not in one
    assert abs(day.closing.heat_wh.sum() - day.opening.heat_wh.sum()) < 0.05 * kelvin


@pytest.mark.parametrize("name", BASELINES)
def test_cars_are_charged_with_what_they_came_for_or_it_is_said(
    setup: Setup, worlds: dict[str, WorldDay], name: str
) -> None:
    """Charged, and more owed at the end than at the start, is what the day's sessions want: in every world the same."""
    day, cars = worlds[name], setup.fleet.homes.vehicles
    charged = day.device_w[:, CAR].sum(dtype=np.float64) / 12
    more_owed = (day.closing.owed_wh + day.closing.unmet_wh - day.opening.owed_wh).sum()
    wanted = cars.energy_wh[cars.arrival >= setup.first].sum()
    assert charged + more_owed == pytest.approx(wanted, abs=len(cars))  # less than a Wh a car counts as full
    assert day.closing.unmet_wh.sum() < 0.02 * wanted


def test_the_market_begins_with_the_cars_that_it_leaves_for_the_night(setup: Setup) -> None:
    state, cars = Before.of(setup).opening, setup.fleet.homes.vehicles
    before = np.arange(len(cars) - setup.tonight.size, len(cars))
    assert np.all(cars.arrival[before] < setup.first)
    assert np.all(state.remaining_wh[before] <= cars.energy_wh[before])
    assert state.remaining_wh[before].sum() > 0.5 * cars.energy_wh[before].sum(), (
        "the night is cheaper than the evening"
    )
    others = np.arange(before[0])
    assert np.array_equal(state.remaining_wh[others], cars.energy_wh[others])


def test_a_time_of_use_tariff_moves_demand_out_of_its_peak(setup: Setup, worlds: dict[str, WorldDay]) -> None:
    peak = peak_intervals(np.arange(setup.first, setup.first + setup.intervals), setup.rules.settlement)
    assert 0 < peak.sum() < peak.size / 2

    def in_peak(name: str) -> int:
        return int(worlds[name].import_wh[peak][:, 1:].sum())

    assert in_peak("time_of_use") < in_peak("flat")


def test_rows_mean_what_they_say(setup: Setup, worlds: dict[str, WorldDay]) -> None:
    """What homes use comes from meters, the sun and batteries; limits are as deep as voltages lie beyond them."""
    for day in worlds.values():
        told = world_section(setup, day, 0, 5 * 10**9, 2 * 10**9)
        base = setup.reality.load_kw[:, -setup.intervals :].sum() / 12
        devices = dict(zip(DEVICE_KINDS, day.device_w.sum(axis=(0, 2), dtype=np.float64) / 12e3, strict=True))
        used = base + devices["vehicle"] + devices["heat_pump"] + devices["water_heater"]
        assert told["used_kwh"] == pytest.approx(used, abs=0.5)  # registers show whole Wh
        assert told["import_kwh"] - told["export_kwh"] == pytest.approx(
            used + devices["battery"] + devices["pv"], abs=0.5
        )
        assert (told["bills_before_tax_eur"], told["tax_eur"], told["bills_eur"]) == (3.0, 2.0, 5.0)
        gained = sum(
            sign * (end - start) for sign, (start, end) in zip((1, -1, 1), told["stores"].values(), strict=True)
        )
        assert told["drawn_from_stores_kwh"] == pytest.approx(-gained, abs=0.01)
        worst = max(told["v_max_pu"] - 1.035, 0.99 - told["v_min_pu"], 0.0)
        assert told["voltage_excess_pu"] == pytest.approx(worst, abs=1e-5)
        assert (told["voltage_violations"] > 0) == (told["voltage_excess_pu_hours"] > 0)
        assert (told["max_loading_percent"] > 100) == (told["overload_percent_hours"] > 0)


def test_the_first_lines_say_what_is_made_up(setup: Setup) -> None:
    said = " ".join(about(setup))
    counts = setup.community.devices
    assert counts["pv"].here == 3 * counts["pv"].data_set
    for words in (
        "Simulated: a spring day, Saturday 14 May 2016",
        f"{counts['pv'].here} solar roofs ({counts['pv'].data_set})",
        "multiplied",
        "made-up",
        "Seed 3",
        setup.rules.docket,
        setup.rulebook.sha256[:12],
    ):
        assert words in said, words


def lived(setup: Setup, **errors: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Energy and reactive energy of homes over an hour of load alone, Wh and varh, and losses at its end."""
    scenario = setup.scenario.model_copy(update={"plant": setup.scenario.plant.model_copy(update=errors)})
    world = replace(setup, scenario=scenario).world()
    before, nothing, lost = world.registers, np.zeros(setup.node.size), 0.0
    for interval in range(setup.first, setup.first + 12):
        here = setup.reality.at(interval)
        lost = world.step(interval, 20 * here.load_kw, 20 * here.load_kvar, nothing, nothing).losses_kw
    net = world.registers.import_wh - world.registers.export_wh - before.import_wh + before.export_wh
    return net[1:], (world.registers.reactive_varh - before.reactive_varh)[1:], lost


def test_a_plant_differs_in_what_its_errors_name(setup: Setup) -> None:
    """Reactive power moves no energy; unequal phases lose more in the wires; load that answers voltage draws less."""
    energy, reactive, lost = lived(setup)
    other_energy, other_reactive, _ = lived(setup, reactive_error=0.2)
    assert np.allclose(other_energy, energy)
    share = other_reactive[reactive != 0] / reactive[reactive != 0]
    assert 0.8 <= share.min() < 0.9 < 1.1 < share.max() <= 1.2
    same_energy, _, more_lost = lived(setup, phase_unbalance=0.5)
    assert np.allclose(same_energy, energy)
    assert more_lost > 1.01 * lost
    less, _, _ = lived(setup, voltage_response=1.0)
    assert (less <= energy + 1e-9).all()
    assert less.sum() < 0.999 * energy.sum()
