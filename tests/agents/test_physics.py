import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tellegen.agents.physics import battery_step, heat_to_reach, reactive_limit_kvar, thermal_step, vehicle_step

share = st.floats(0.0, 1.0)


@given(
    soc=share, power=st.floats(-2e4, 2e4), efficiency=st.floats(0.5, 1.0), hours=st.sampled_from([1 / 12, 0.25, 1.0])
)
def test_a_battery_neither_makes_nor_loses_energy_unseen(soc, power, efficiency, hours):
    capacity, limit = np.array([10e3]), np.array([5e3])
    before = soc * capacity
    step = battery_step(
        before, np.array([power]), capacity_wh=capacity, limit_w=limit, efficiency=np.array([efficiency]), hours=hours
    )
    assert np.allclose(step.power_w * hours, step.soc_wh - before + step.loss_wh, atol=1e-9)
    assert step.loss_wh[0] >= -1e-9
    assert 0.0 <= step.soc_wh[0] <= capacity[0]
    assert abs(step.power_w[0]) <= limit[0]


def test_a_round_trip_returns_the_stated_efficiency():
    rating = {"capacity_wh": np.array([10e3]), "limit_w": np.array([5e3]), "efficiency": np.array([0.81]), "hours": 1.0}
    charged = battery_step(np.array([0.0]), np.array([1000.0]), **rating)
    emptied = battery_step(charged.soc_wh, np.array([-5e3]), **rating)
    assert np.isclose(-emptied.power_w[0], 810.0)
    assert np.isclose(emptied.soc_wh[0], 0.0, atol=1e-9)


def test_a_car_stops_when_it_is_full():
    remaining, power = vehicle_step(
        np.array([100.0, 5e3]), np.array([11e3, 11e3]), limit_w=np.array([11e3, 3.7e3]), hours=1 / 12
    )
    assert np.allclose(power, [1200.0, 3700.0])
    assert np.allclose(remaining, [0.0, 5e3 - 3700 / 12])


@given(
    temperature=st.floats(10, 70),
    heat=st.floats(0, 9e3),
    draw=st.floats(0, 9e3),
    capacity=st.floats(100, 2e4),
    ua=st.sampled_from([0.0, 1e-9, 1.5, 150.0, 5e3]),
    hours=st.sampled_from([1 / 12, 1.0]),
)
def test_heat_put_in_is_stored_drawn_or_lost(temperature, heat, draw, capacity, ua, hours):
    step = thermal_step(
        np.array([temperature]),
        np.array([heat]),
        np.array([draw]),
        capacity_wh_per_k=np.array([capacity]),
        ua_w_per_k=np.array([ua]),
        surroundings_c=np.array([20.0]),
        hours=hours,
    )
    # the loss is integrated apart, so the sum is a check of both; float noise only
    scale = abs(heat) + abs(draw) + ua * 50 + 1.0
    assert abs(step.heat_in_wh - step.stored_wh - step.drawn_wh - step.lost_wh)[0] < 1e-8 * scale
    assert np.isclose(step.stored_wh[0], capacity * (step.temperature_c[0] - temperature), atol=1e-6)


def test_two_half_steps_are_one_step():
    body = {"capacity_wh_per_k": np.array([3e3]), "ua_w_per_k": np.array([150.0]), "surroundings_c": np.array([20.0])}
    inputs = np.array([5e3]), np.array([1e3])
    once = thermal_step(np.array([19.0]), *inputs, hours=1.0, **body)
    half = thermal_step(np.array([19.0]), *inputs, hours=0.5, **body)
    twice = thermal_step(half.temperature_c, *inputs, hours=0.5, **body)
    assert np.allclose(once.temperature_c, twice.temperature_c, atol=1e-12)
    assert np.allclose(once.lost_wh, half.lost_wh + twice.lost_wh, atol=1e-9)


@given(target=st.floats(15, 25), start=st.floats(15, 25), draw=st.floats(0, 5e3))
def test_the_heat_to_reach_a_temperature_reaches_it(target, start, draw):
    body = {
        "capacity_wh_per_k": np.array([3e3]),
        "ua_w_per_k": np.array([150.0]),
        "surroundings_c": np.array([20.0]),
        "hours": 1 / 12,
    }
    heat = heat_to_reach(np.array([target]), np.array([start]), np.array([draw]), **body)
    assert np.isclose(
        thermal_step(np.array([start]), heat, np.array([draw]), **body).temperature_c[0], target, atol=1e-9
    )


@given(power=st.floats(0, 10), rated=st.floats(1, 10))
def test_an_inverter_keeps_its_circle_and_its_power_factor(power, rated):
    power = min(power, rated)
    q = reactive_limit_kvar(np.array([rated]), np.array([power]))[0]
    assert power**2 + q**2 <= rated**2 * (1 + 1e-9)
    assert power >= 0.9 * np.hypot(power, q) - 1e-9
