"""The same day without a market: flat tariff and no response, or a time-of-use tariff."""

from __future__ import annotations

import numpy as np

from tellegen.agents import World as Behaviour
from tellegen.settlement import Plan, RetailBills, RetailDay, peak_intervals, retail_bills
from tellegen.simulation.scenario import Scenario
from tellegen.simulation.setup import Setup, prepare
from tellegen.simulation.world_day import WorldDay, WorldDiary

BASELINES = {"flat": (Behaviour.FLAT, Plan.FLAT), "time_of_use": (Behaviour.TIME_OF_USE, Plan.TIME_OF_USE)}


def simulate_baselines(scenario: Scenario) -> dict[str, WorldDay]:
    """Play every baseline of a scenario; made to run in a process of its own."""
    setup = prepare(scenario)
    return {name: simulate(setup, name) for name in BASELINES}


def simulate(setup: Setup, name: str) -> WorldDay:
    """Play the day of a baseline over the plant of the scenario."""
    behaviour, _ = BASELINES[name]
    fleet, world = setup.fleet, setup.world()
    state = fleet.initial_state()
    diary = WorldDiary(name, fleet, world, setup.close_devices(state, setup.first))
    intervals = np.arange(setup.first, setup.first + setup.intervals)
    peak = peak_intervals(intervals, setup.rules.settlement)
    for interval, in_peak in zip(intervals.tolist(), peak.tolist(), strict=True):
        actual = setup.reality.at(interval)
        response = fleet.baseline_step(behaviour, interval, state, actual, off_peak=not in_peak)
        seen = world.step(
            interval,
            actual.load_kw,
            actual.load_kvar,
            response.customer_kw - actual.load_kw,
            response.customer_kvar - actual.load_kvar,
        )
        diary.add(seen, response)
        state = response.state
    return diary.close(setup.close_devices(state, setup.first + setup.intervals))


def bills(setup: Setup, day: WorldDay) -> RetailBills:
    """Bills of a baseline under the same revenue requirement and taxes as the market."""
    intervals = np.arange(setup.first, setup.first + setup.intervals)
    customer = np.arange(1, setup.node.size + 1)
    past, span = setup.wholesale.past, setup.intervals
    _, plan = BASELINES[day.name]
    substation = day.import_wh[:, 0] - day.export_wh[:, 0]
    return retail_bills(
        RetailDay(
            interval=intervals,
            customer=customer,
            import_wh=day.import_wh[:, 1:],
            export_wh=day.export_wh[:, 1:],
            substation_wh=substation,
            forward_price=setup.wholesale.day_ahead_micros[past : past + span],
            wholesale_price=setup.wholesale.real_time_micros[past : past + span],
            key_wh=setup.trailing_wh(),
            day_intervals=setup.community.intervals,
        ),
        plan,
        setup.rules.settlement,
    )
