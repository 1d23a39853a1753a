import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.agents import Parameters
from tellegen.agents.devices import Batteries
from tellegen.agents.storage import (
    Surroundings,
    schedule,
    storage_bid,
    stored_energy_value,
    terminal_value,
)

CELLS, CELL_WH, HOURS = 4, 1000.0, 1.0
price = st.integers(0, 40).map(lambda cents: cents / 100)


def battery(efficiency=1.0, power_w=2000.0):
    return Batteries(
        np.array([1]), np.array([CELLS * CELL_WH]), np.array([power_w]), np.array([efficiency]), np.array([0.0])
    )


def best_by_enumeration(start, prices, own, efficiency, wear, terminal):
    """Least cost over every sequence of whole-cell moves; currency, value at the end taken off."""
    one_way = np.sqrt(efficiency)
    best = np.inf
    for moves in itertools.product(range(-CELLS, CELLS + 1), repeat=len(prices)):
        level, cost = start, 0.0
        for move, (buy, sell), home in zip(moves, prices, own, strict=True):
            grid = move / one_way if move > 0 else move * one_way
            level += move
            if not 0 <= level <= CELLS or abs(grid) > 2.0 + 1e-9:
                cost = np.inf
                break
            net = home + grid
            base = home * (buy if home > 0 else sell)
            cost += net * (buy if net > 0 else sell) - base + wear * max(-grid, 0.0)
        if np.isfinite(cost):
            best = min(best, cost - terminal[:level].sum())
    return best


@settings(max_examples=15, deadline=None)
@given(
    buys=st.lists(price, min_size=3, max_size=3),
    gaps=st.lists(price, min_size=3, max_size=3),
    own=st.lists(st.sampled_from([-2.0, 0.0, 2.0]), min_size=3, max_size=3),
    efficiency=st.sampled_from([1.0, 0.25]),
    wear=st.sampled_from([0.0, 0.05]),
    end=st.lists(price, min_size=CELLS, max_size=CELLS),
)
def test_the_value_of_stored_energy_is_what_enumeration_finds(buys, gaps, own, efficiency, wear, end):
    """Differences of optimal cost between starting levels equal the summed marginal values."""
    buy = np.array(buys)
    sell = np.maximum(buy - np.array(gaps), 0.0)
    terminal = np.sort(np.array(end))[::-1]
    around = Surroundings(1000 * np.array(own)[None], buy[None], sell[None])
    value = stored_energy_value(battery(efficiency), around, terminal[None], wear=wear, hours=HOURS)[0, 0]
    costs = [
        best_by_enumeration(level, list(zip(buy, sell, strict=True)), own, efficiency, wear, terminal)
        for level in range(CELLS + 1)
    ]
    # one cell is one kWh; only sums of the same cents are compared
    assert np.allclose(-np.diff(costs), value, atol=1e-9)


@settings(deadline=None)
@given(
    prices=st.lists(st.floats(-0.3, 0.6), min_size=6, max_size=6),
    gap=st.floats(0.0, 0.2),
    own=st.lists(st.floats(-5e3, 5e3), min_size=6, max_size=6),
    efficiency=st.floats(0.6, 1.0),
)
def test_the_next_stored_kwh_is_never_worth_more_than_the_last(prices, gap, own, efficiency):
    """The valuation stays concave and finite, negative prices included."""
    sell = np.array(prices)[None]
    around = Surroundings(np.array(own)[None], sell + gap, sell)
    store = battery(efficiency, 3300.0)
    end = terminal_value(store, around, np.array([1700.0]), wear=0.03, cells=12)
    value = stored_energy_value(store, around, end, wear=0.03, hours=0.25)
    assert np.all(np.diff(value, axis=2) <= 1e-9)
    assert np.abs(value).max() < 2.0


@settings(deadline=None)
@given(
    prices=st.lists(st.floats(0.0, 0.6), min_size=6, max_size=6),
    soc=st.floats(0.0, 1.0),
    efficiency=st.floats(0.6, 1.0),
    wear=st.floats(0.0, 0.1),
)
def test_a_battery_never_buys_above_its_later_value(prices, soc, efficiency, wear):
    """With nothing to gain at the end, a charged kWh is worth at most its best later sale."""
    sell = np.array(prices)[None]
    around = Surroundings(np.zeros((1, 6)), sell, sell)
    store = battery(efficiency)
    value = stored_energy_value(store, around, np.zeros((1, 24)), wear=wear, hours=HOURS)
    none = np.zeros(1)
    for t in range(6):
        bid = storage_bid(
            store, np.array([soc * 4000]), value[t + 1], surplus_w=none, demand_w=none, wear=wear, hours=HOURS
        )
        later = max(0.0, *((p - wear) * efficiency for p in prices[t + 1 :]), 0.0)
        assert bid.charge_value.max() <= later + 1e-9
        assert np.all(np.diff(bid.charge_value) <= 1e-12)
        assert np.all(np.diff(bid.discharge_cost) >= -1e-12)
        assert bid.discharge_cost.min() >= bid.charge_value.max() - 1e-12


def test_a_schedule_buys_cheap_sells_dear_and_ends_where_it_began():
    sell = np.array([[0.10] * 12 + [0.02] * 12 + [0.40] * 12 + [0.10] * 24])
    around = Surroundings(np.zeros((1, 60)), sell + 0.05, sell)
    store = battery(0.9)
    target = np.array([2000.0])
    end = terminal_value(store, around, target, wear=0.02, cells=40)
    value = stored_energy_value(store, around, end, wear=0.02)
    power, energy = schedule(store, around, value, target, wear=0.02)
    assert power[0, 12:24].sum() > 0 > power[0, 24:36].sum()
    assert np.all(power[0, 12:24] >= 0)
    assert abs(energy[0, -1] - 2000.0) <= CELLS * CELL_WH / 40
    assert np.all((energy >= -1e-6) & (energy <= 4000 + 1e-6))


def test_a_battery_behind_a_meter_serves_the_home_before_the_grid():
    """Own use saves surcharges: with flat prices it stores surplus and covers demand before it sells."""
    own = np.array([[-1000.0] * 12 + [1000.0] * 12])
    flat = np.full((1, 24), 0.10)
    around = Surroundings(own, flat + 0.12, flat)
    store = battery(0.9)
    value = stored_energy_value(store, around, np.zeros((1, 40)), wear=0.03)
    power, _ = schedule(store, around, value, np.array([0.0]), wear=0.03)
    assert np.all(own + power >= -1000.0 - 1e-6)
    assert power[0, :12].sum() == pytest.approx(12_000.0, rel=0.05)
    assert np.all(power[0, 12:22] >= -1000.0 - 1e-6)
    assert power[0, 12:].sum() < -0.8 * 12_000 * 0.9


@pytest.mark.parametrize("back", [True, False])
def test_batteries_come_back_to_their_start_only_if_told_to(make, back):
    """A sunny day leaves energy over; unless held to their start, batteries keep what tomorrow pays for."""
    town = make(seed=2, parameters=Parameters(return_to_start=back))
    homes = town.fleet.homes
    price = np.full((len(homes), 288), 0.1)
    plan = town.fleet.plan(town.reality.past(town.first), price, town.first)
    start = homes.batteries.soc_wh
    _, energy = schedule(homes.batteries, plan.storage_around, plan.storage_value, start, wear=0.03)
    gap = np.abs(energy[:, -1] - start) / homes.batteries.capacity_wh
    assert (gap.max() < 0.05) == back


def test_a_battery_does_not_burn_energy_when_stored_energy_is_worth_less_than_nothing():
    """At negative prices a round trip would look like a gain; it is never offered."""
    store, none = battery(0.64), np.zeros(1)
    value = np.full((1, 8), -0.2)
    bid = storage_bid(store, np.array([2e3]), value, surplus_w=none, demand_w=none, wear=0.0, hours=HOURS)
    assert bid.charge_value.max() == pytest.approx(-0.16)
    assert bid.discharge_cost.min() >= bid.charge_value.max()
