import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.agents.charging import charging_bid, charging_plan, expected_sessions, plugged_in
from tellegen.agents.devices import Vehicles
from tellegen.agents.homes import HOURS
from tellegen.agents.physics import vehicle_step


def car(power_w=12e3, arrival=0, deadline=12, energy_wh=3e3, value=1.0):
    return Vehicles(
        np.array([1]),
        np.array([power_w]),
        np.array([0.9]),
        np.array([arrival]),
        np.array([deadline]),
        np.array([energy_wh]),
        np.array([value]),
    )


@settings(deadline=None)
@given(
    stay=st.integers(1, 40),
    fill=st.floats(0.01, 1.0),
    expected=st.lists(st.floats(-0.3, 3.0), min_size=40, max_size=40),
    cleared=st.lists(st.floats(-0.3, 3.0), min_size=40, max_size=40),
)
def test_a_car_is_full_at_its_deadline_whatever_the_prices(stay, fill, expected, cleared):
    """Where the energy fits before the deadline at all, must-run brings it in."""
    session = car(deadline=stay, energy_wh=fill * stay * 1000.0)
    remaining = session.energy_wh
    for t in range(stay):
        if not plugged_in(session, remaining, t).size:
            break
        bid = charging_bid(session, remaining, t, np.array([expected[t + 1 : stay]]))
        taken = np.where(bid.value > cleared[t], bid.steps_w, 0.0).sum(axis=1)
        remaining, _ = vehicle_step(remaining, bid.must_w + taken, limit_w=session.power_w, hours=HOURS)
    assert remaining[0] <= 0.5


def test_nothing_must_run_while_there_is_time():
    bid = charging_bid(car(), np.array([3e3]), 0, np.full((1, 11), 0.2))
    assert bid.must_w[0] == 0.0
    assert bid.steps_w.sum() == 12e3


def test_a_car_bids_the_price_it_would_spare_and_never_above_its_value():
    """Three intervals needed, so the third cheapest later price is at stake."""
    later = np.array([[0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]])
    assert charging_bid(car(), np.array([3e3]), 0, later).value[0, 0] == 0.3
    assert charging_bid(car(value=0.25), np.array([3e3]), 0, later).value[0, 0] == 0.25


def test_the_next_kwh_is_worth_less_than_the_first():
    bid = charging_bid(car(), np.array([2.5e3]), 0, np.linspace(0.1, 0.6, 11)[None])
    assert bid.value[0, 0] > bid.value[0, 1]
    assert np.allclose(bid.steps_w, [[6e3, 6e3]])


def test_the_last_intervals_are_bought_at_any_price():
    bid = charging_bid(car(), np.array([3e3]), 9, np.full((1, 2), 9.0))
    assert bid.must_w[0] == 12e3
    assert bid.steps_w.sum() == 0.0


def test_a_car_is_unseen_before_it_arrives_and_after_it_leaves():
    session = car(arrival=5, deadline=8)
    assert [plugged_in(session, session.energy_wh, t).size for t in (4, 5, 7, 8)] == [0, 1, 1, 0]


def test_a_day_ahead_plan_uses_the_cheapest_hours_the_car_is_there():
    session = car(power_w=3e3, arrival=12, deadline=60, energy_wh=5e3)
    plan = charging_plan(session, 0, np.array([[0.0, 0.4, 0.1, 0.3, 0.2, 0.0]]), hours=5)
    assert np.allclose(plan.planned_w, [[0.0, 0.0, 3e3, 0.0, 2e3]])
    assert plan.planned_value[0] == 0.2
    assert plan.spare_value[0] == 0.2


def test_a_full_day_ahead_plan_has_no_cheaper_hour_to_go_to():
    session = car(power_w=3e3, deadline=24, energy_wh=9e3)
    plan = charging_plan(session, 0, np.array([[0.1, 0.4]]), hours=2)
    assert np.allclose(plan.planned_w, 3e3)
    assert plan.planned_value[0] == 1.0


def test_sessions_are_expected_as_a_week_before():
    past = Vehicles(
        *(np.array([a, a]) for a in (1, 1e3, 0.9)),
        np.array([100, 2000]),
        np.array([150, 2100]),
        *(np.array([a, a]) for a in (5e3, 1.0)),
    )
    expected = expected_sessions(past, 7 * 288, 288)
    assert expected.arrival.tolist() == [100 + 7 * 288]
    assert expected.deadline.tolist() == [150 + 7 * 288]
