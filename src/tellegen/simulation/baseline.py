"""The same day without a market: homes that answer a flat tariff, a clock, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tellegen.agents import DeviceState, OffPeak, Response
from tellegen.agents import World as Behaviour
from tellegen.settlement import Plan, RetailBills, RetailDay, peak_intervals, retail_bills
from tellegen.simulation.opening import morning_after, opening_state, rested
from tellegen.simulation.setup import Setup
from tellegen.simulation.world_day import WorldDay, WorldDiary
from tellegen.units import INTERVALS_PER_HOUR, MICROS

BASELINES = {"flat_smart": Plan.FLAT, "time_of_use": Plan.TIME_OF_USE, "flat": Plan.FLAT}
"""Worlds without a market, with the tariff that they pay, in the order in which they are shown."""

Act = Callable[[int, DeviceState], Response]
"""What all homes do in an interval that finds their devices in a state."""


def simulate_baselines(setup: Setup) -> dict[str, WorldDay]:
    """Play every baseline of a scenario; made to run in a process of its own.

    Smart homes under a flat tariff reckon with the price that the flat tariff comes to where nobody responds.
    """
    setup = rested(setup)
    flat = _by_rule(setup, "flat", Behaviour.FLAT)
    price_micros = bills(setup, flat).peak_price_micros_per_kwh
    days = {
        "flat": flat,
        "time_of_use": _by_rule(setup, "time_of_use", Behaviour.TIME_OF_USE),
        "flat_smart": _smart(setup, price_micros),
    }
    return {name: days[name] for name in BASELINES}


def play(setup: Setup, name: str, opening: DeviceState, act: Act) -> WorldDay:
    """Play the day of a baseline over the plant of the scenario."""
    fleet, world, state = setup.fleet, setup.world(), opening
    diary = WorldDiary(name, fleet, world, setup.close_devices(state, setup.first))
    for interval in range(setup.first, setup.first + setup.intervals):
        actual, response = setup.reality.at(interval), act(interval, state)
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


def _by_rule(setup: Setup, name: str, behaviour: Behaviour) -> WorldDay:
    """A world whose homes hear no prices; a day alike, of which nothing counts, leads up to it."""
    hours = _off_peak(setup)

    def act(interval: int, state: DeviceState) -> Response:
        actual = setup.reality.at(interval)
        return setup.fleet.baseline_step(behaviour, interval, state, actual, off_peak=hours[interval])

    state = setup.fleet.initial_state()
    for interval in range(setup.first, setup.first + setup.community.intervals):
        state = act(interval, state).state
    return play(setup, name, morning_after(setup, state), act)


def _off_peak(setup: Setup) -> dict[int, OffPeak | None]:
    """The off-peak hours that each interval of the day lies in, None in the peak; they reach into other days."""
    first, length = setup.first, setup.community.intervals
    intervals = np.arange(first - length, first + 2 * length)
    peak = peak_intervals(intervals, setup.rules.settlement)
    edges = np.concatenate([intervals[:1], intervals[1:][peak[1:] != peak[:-1]], intervals[-1:] + 1])
    found: dict[int, OffPeak | None] = {}
    for interval in range(first, first + length):
        following = int(np.searchsorted(edges, interval, side="right"))
        hours = OffPeak(int(edges[following - 1]), int(edges[following]))
        found[interval] = None if peak[interval - intervals[0]] else hours
    return found


def _smart(setup: Setup, price_micros: int) -> WorldDay:
    """A world with the market's agents under a flat tariff: the same devices, forecasts and plans, and no market.

    To them a flat tariff is a market whose price is always that of feeding in, and on which buying costs more by as
    much as the tariff is above it.
    """
    settled = setup.rules.settlement
    feed_in_micros = settled.retail.feed_in_micros_per_kwh
    seen, parameters = setup.fleet.tariff, setup.fleet.parameters
    above = (price_micros - feed_in_micros) / MICROS
    fleet = replace(setup.fleet, tariff=replace(seen, network_per_kwh=seen.network_per_kwh + above))
    # the price does not move: thermostats weigh comfort against it as they do on the market
    deviation = parameters.comfort_deviation / (1.0 + seen.sales_tax)
    feed_in, count = feed_in_micros / MICROS, setup.node.size
    price = np.full(setup.community.intervals, feed_in)
    mean, spread = np.full(count, feed_in), np.full(count, deviation)
    plan = fleet.plan(setup.reality.past(setup.first), np.tile(price, (count, 1)), setup.first)

    def act(interval: int, state: DeviceState) -> Response:
        nonlocal plan
        if interval > setup.first and (interval - setup.first) % INTERVALS_PER_HOUR == 0:
            plan = fleet.replan(plan, setup.reality.past(interval))
        return fleet.answer_price(interval, plan, state, setup.reality.at(interval), feed_in, mean, spread)

    return play(setup, "flat_smart", opening_state(setup, fleet, price, deviation), act)


def bills(setup: Setup, day: WorldDay) -> RetailBills:
    """Bills of a baseline under the same revenue requirement and taxes as the market."""
    intervals = np.arange(setup.first, setup.first + setup.intervals)
    customer = np.arange(1, setup.node.size + 1)
    past, span = setup.wholesale.past, setup.intervals
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
        BASELINES[day.name],
        setup.rules.settlement,
    )
