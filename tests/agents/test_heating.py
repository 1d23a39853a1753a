"""Thermostats in the market: comfort first, then price."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.agents.bids import Mode, ramp_setpoint
from tellegen.agents.heating import Bodies, PriceRange, heating_bid, hourly_heating_steps
from tellegen.agents.homes import HOURS
from tellegen.agents.parameters import RampRule
from tellegen.agents.physics import thermal_step

HOUSE = Bodies(*(np.array([v]) for v in (3e3, 3.0, 4e3, 120.0, 21.0, 21.0, 19.0, 23.0)))
PRICES = PriceRange(np.array([0.2]), np.array([0.05]), -0.4, 3.1)
NEED = np.array([3e3])


def after(temperature, power):
    return thermal_step(
        np.array([temperature]),
        HOUSE.gain * power,
        NEED,
        capacity_wh_per_k=HOUSE.capacity_wh_per_k,
        ua_w_per_k=HOUSE.ua_w_per_k,
        surroundings_c=HOUSE.surroundings_c,
        hours=HOURS,
    ).temperature_c[0]


def bid(temperature):
    return heating_bid(HOUSE, np.array([temperature]), NEED, PRICES, RampRule(4.0, 8.0))


def test_in_comfort_nothing_must_run_and_the_bids_are_the_ramp_rule_where_they_lead():
    must, flexible, value = bid(20.0)
    assert must[0] == 0.0
    assert flexible.sum() == pytest.approx(3e3)
    for j in range(4):
        reached = after(20.0, np.array([(j + 0.5) / 4 * 3e3]))
        assert value[0, j] == pytest.approx(0.2 + (21.0 - reached) * 4 * 0.05 / 2)


def test_what_keeps_the_lower_edge_must_run():
    must, _, value = bid(19.01)
    assert after(19.01, must) == pytest.approx(19.0)
    assert 0.0 < must[0] < 3e3
    assert np.all(np.diff(value) < 0)


def test_far_below_the_range_everything_must_run():
    must, flexible, _ = bid(15.0)
    assert must[0] == 3e3
    assert flexible.sum() == 0.0


@given(price=st.floats(0.12, 0.28))
def test_the_power_taken_at_a_price_leads_to_the_set_point_of_that_price(price):
    """The published pair of equations: bid and set-point are inverse, here to within one step's warming."""
    comfort = {name: getattr(HOUSE, name) for name in ("desired_c", "low_c", "high_c")}
    rule = {"ramp_low": 4.0, "ramp_high": 8.0, "mean": PRICES.mean, "deviation": PRICES.deviation}
    settled = ramp_setpoint(np.array([price]), mode=Mode.HEATING, **comfort, **rule)
    must, flexible, value = heating_bid(HOUSE, settled - 0.03, NEED, PRICES, RampRule(4.0, 8.0))
    taken = must + (flexible * (value >= price)).sum(axis=1)
    step = flexible[0, 0] * 3.0 / 4e3 * HOURS
    assert abs(after(settled[0] - 0.03, taken) - settled[0]) <= step / 2 + 1e-9


@given(temperature=st.floats(15.0, 27.0))
def test_no_award_overheats_the_house(temperature):
    must, flexible, _ = bid(temperature)
    whole = must + flexible.sum(axis=1)
    assert whole[0] <= 3e3 + 1e-9
    idle = after(temperature, np.zeros(1))
    assert after(temperature, whole) <= max(23.0, idle) + 1e-9


def test_day_ahead_steps_straddle_the_price_mean_at_the_power_that_holds():
    steps, value = hourly_heating_steps(HOUSE, np.array([1e3]), PRICES, RampRule(4.0, 4.0))
    assert steps.sum() == 2e3
    assert value[0, 1] > 0.2 > value[0, 2]
    assert np.all(np.diff(value) < 0)
