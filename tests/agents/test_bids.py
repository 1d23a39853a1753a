import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.agents.bids import Mode, ramp_bid, ramp_setpoint

PUBLISHED = {"desired_c": 72.0, "low_c": 69.0, "high_c": 77.0, "ramp_low": 0.667, "ramp_high": 0.360, "mean": 0.10}
"""The published example: base 72 F, range -3/+5 F, ramps 0.667 and 0.360; prices in currency per kWh."""


def bid(temperature, mode=Mode.COOLING, deviation=0.02, **change):
    return float(ramp_bid(temperature, mode=mode, deviation=deviation, floor=0.0, cap=9999.0, **(PUBLISHED | change)))


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (69.0, 0.10 - 3 * 0.667 * 0.02 / 3),
        (70.5, 0.10 - 1.5 * 0.667 * 0.02 / 3),
        (72.0, 0.10),
        (74.5, 0.10 + 2.5 * 0.360 * 0.02 / 5),
        (77.0, 0.10 + 5 * 0.360 * 0.02 / 5),
    ],
)
def test_a_cooling_bid_is_the_published_equation(temperature, expected):
    assert bid(temperature) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (0.10, 72.0),
        (0.10 + 0.004, 72 + 0.004 * 5 / (0.360 * 0.02)),
        (0.10 - 0.005, 72 - 0.005 * 3 / (0.667 * 0.02)),
        (0.50, 77.0),
        (0.0, 69.0),
    ],
)
def test_a_cooling_setpoint_is_the_published_equation(price, expected):
    setpoint = float(ramp_setpoint(price, mode=Mode.COOLING, deviation=0.02, **PUBLISHED))
    assert setpoint == pytest.approx(expected, abs=1e-9)


def test_heating_mirrors_cooling():
    assert bid(71.0, Mode.HEATING) == pytest.approx(0.10 + 1 * 0.667 * 0.02 / 3)
    assert bid(75.0, Mode.HEATING) == pytest.approx(0.10 - 3 * 0.360 * 0.02 / 5)


def test_outside_the_comfort_range_it_must_run_or_rest():
    assert bid(77.5) == 9999.0
    assert bid(68.5) == 0.0
    assert bid(68.5, Mode.HEATING) == 9999.0
    assert bid(77.5, Mode.HEATING) == 0.0


def test_without_price_movement_the_bid_is_the_mean_and_the_setpoint_the_desired_temperature():
    assert bid(75.0, deviation=0.0) == 0.10
    assert float(ramp_setpoint(0.3, mode=Mode.COOLING, deviation=0.0, **PUBLISHED)) == 72.0


def test_a_range_of_no_width_bids_the_mean():
    assert bid(72.0, low_c=72.0, high_c=72.0) == 0.10


@given(temperature=st.floats(69.1, 76.9), mode=st.sampled_from(list(Mode)))
def test_the_setpoint_answers_the_bid(temperature, mode):
    """A device whose bid just clears is at its set-point."""
    price = bid(temperature, mode)
    setpoint = float(ramp_setpoint(price, mode=mode, deviation=0.02, **PUBLISHED))
    assert setpoint == pytest.approx(temperature, abs=1e-6)


def test_bids_stay_between_floor_and_cap():
    held = ramp_bid(np.array([69.5, 76.5]), mode=Mode.COOLING, deviation=5.0, floor=0.05, cap=0.3, **PUBLISHED)
    assert held.tolist() == [0.05, 0.3]
