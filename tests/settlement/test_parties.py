"""Who is settled on a feeder: homes that moved, providers of reserve, everybody at an administrative price."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import fold, require_balanced
from tellegen.records import Account, Line
from tellegen.rules import Rulebook
from tellegen.settlement import (
    ENERGY_LINES,
    READ,
    IntervalFacts,
    ReserveFacts,
    SettlementError,
    hourly_to_intervals,
    settle_intervals,
    settle_reserves,
    share_of_hour,
    specimen_day,
    specimen_move,
)
from tellegen.units import INTERVALS_PER_HOUR

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
quick = settings(max_examples=40, deadline=None)


def all_read(steps: IntervalFacts) -> IntervalFacts:
    """No meter was missing when the price was made."""
    return replace(steps, counted_feed_in_wh=np.full_like(steps.counted_feed_in_wh, READ))


@given(seed=st.integers(0, 10**6), column=st.integers(0, 3), price=st.integers(-100_000, 400_000))
@quick
def test_a_move_buys_the_position_back_where_it_cleared(seed, column, price):
    """Two settlements: q_DA at the old node's price, back at its price of real time; the rest at the new node."""
    steps = all_read(specimen_day(seed, hours=1, customers=4).steps)
    moved = specimen_move(steps, column, price)
    postings = settle_intervals(moved, RULES)
    mine = postings.take(postings.account == steps.customer[column])
    for line, owed in (
        (Line.FORWARD, steps.forward_wh[:, column] * steps.forward_price[:, column]),
        (
            Line.REAL_TIME,
            steps.real_time_wh[:, column] * price - steps.forward_wh[:, column] * steps.real_time_price[:, column],
        ),
        (Line.IMBALANCE, (steps.metered_wh - steps.real_time_wh)[:, column] * price),
    ):
        rows = mine.take(mine.line == line)
        assert np.array_equal(rows.amount, rows.quantity * rows.price)
        assert int(rows.amount.sum()) == int(owed.sum())
    require_balanced(postings)


@given(seed=st.integers(0, 10**6), column=st.integers(0, 3))
@quick
def test_a_move_makes_no_energy(seed, column):
    """Every Wh of an interval still is somebody's, and the meter counts once."""
    steps = specimen_day(seed, hours=1, customers=4).steps
    before, after = (settle_intervals(facts, RULES) for facts in (steps, specimen_move(steps, column, 70_000)))
    for postings in (before, after):
        energy = postings.take(np.isin(postings.line, sorted(ENERGY_LINES)))
        assert not fold(energy, "interval").quantity.any()
    for line in (Line.FORWARD, Line.REAL_TIME, Line.IMBALANCE, Line.NETWORK_ENERGY, Line.UNACCOUNTED_ENERGY):
        wh = [int(postings.quantity[postings.line == line].sum()) for postings in (before, after)]
        assert wh[0] == wh[1]


def test_the_nodes_of_a_customer_ascend():
    moved = specimen_move(specimen_day(3, hours=1, customers=4).steps, 1, 50_000)
    with pytest.raises(SettlementError, match="the nodes of a customer likewise"):
        replace(moved, node=moved.node * 0)


@given(seed=st.integers(0, 10**6))
@quick
def test_an_administrative_interval_pays_every_deviation_at_its_price(seed):
    """Nothing was awarded: what was bought ahead stands, losses are none, and REAL_TIME is zero."""
    steps = all_read(specimen_day(seed, hours=1, customers=4).steps)
    price = np.full_like(steps.real_time_price, 300_000)
    facts = replace(
        steps,
        real_time_wh=steps.forward_wh,
        real_time_price=price,
        wholesale_real_time_price=price[:, 0],
        losses_wh=steps.losses_wh * 0,
    )
    postings = settle_intervals(facts, RULES)
    require_balanced(postings)
    assert not (postings.line == Line.REAL_TIME).any()
    rows = postings.take(postings.line == Line.IMBALANCE)
    assert set(rows.price.tolist()) <= {300_000}
    assert int(rows.quantity.sum()) == int((steps.metered_wh - steps.forward_wh).sum())
    energy = postings.take(np.isin(postings.line, sorted(ENERGY_LINES)))
    assert not fold(energy, "interval").quantity.any()
    assert not postings.amount[(postings.account == Account.RENT) & (postings.line == Line.RENT_DEVIATION)].any()


def reserves(seed: int) -> ReserveFacts:
    draw = np.random.default_rng(seed)
    wh = draw.integers(0, 4, (4, 6, 3)) * 250
    price = draw.integers(1, 4, (4, 6, 3)) * 1_000
    return ReserveFacts(
        interval=np.arange(6) + 100,
        customer=np.array([2, 5, 5]),
        up_forward_wh=wh[0],
        up_real_time_wh=wh[1],
        up_forward_price=price[0],
        up_real_time_price=price[1],
        down_forward_wh=wh[2],
        down_real_time_wh=wh[3],
        down_forward_price=price[2],
        down_real_time_price=price[3],
    )


@given(seed=st.integers(0, 10**6))
@quick
def test_reserves_are_paid_twice_settled_and_unmetered(seed):
    facts = reserves(seed)
    postings = settle_reserves(facts)
    require_balanced(postings)
    assert np.array_equal(postings.amount, postings.quantity * postings.price)
    assert ((postings.quantity != 0) & (postings.amount != 0)).all()
    for line, way in ((Line.RESERVE_UP, "up"), (Line.RESERVE_DOWN, "down")):
        ahead, now = getattr(facts, f"{way}_forward_wh"), getattr(facts, f"{way}_real_time_wh")
        paid = ahead * getattr(facts, f"{way}_forward_price") + (now - ahead) * getattr(facts, f"{way}_real_time_price")
        for number in (2, 5):
            mine = postings.take((postings.account == number) & (postings.line == line))
            assert int(mine.amount.sum()) == -int(paid[:, facts.customer == number].sum())
            assert int(mine.quantity.sum()) == -int(now[:, facts.customer == number].sum())
    assert set(postings.account.tolist()) <= {2, 5, Account.RESERVES}


def test_capacity_is_not_negative():
    with pytest.raises(SettlementError, match="down_forward_wh is negative"):
        replace(reserves(1), down_forward_wh=reserves(1).down_forward_wh - 10_000)


@given(
    hourly=st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=1, max_size=6),
    first=st.integers(0, 10**7),
)
@quick
def test_the_share_of_one_interval_is_that_of_the_whole_hour(hourly, first):
    """Settlement asks for one interval at a time and gets the same Wh, which sum to the hour."""
    members = np.arange(len(hourly)) * 7
    whole = hourly_to_intervals([hourly], members, first)
    parts = np.stack([share_of_hour(hourly, members, first, k) for k in range(INTERVALS_PER_HOUR)])
    assert np.array_equal(whole, parts)
    assert parts.sum(axis=0).tolist() == hourly
    assert (parts.max(axis=0) - parts.min(axis=0)).max() <= 1
