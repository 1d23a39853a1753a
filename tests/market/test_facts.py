"""Law 1: what goes on record is whole numbers that add up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.grid.network import Network
from tellegen.market import OrderBook, awards, clear, price_table, schedules, to_records
from tellegen.operations.admission import refusals
from tellegen.records import Awards, Orders, RecordError
from tellegen.units import cumulative_energy_wh


def random_orders(seed: int, size: int = 40, customers: int = 12) -> Orders:
    rng = np.random.default_rng(seed)
    customer = np.sort(rng.integers(1, customers + 1, size))
    product = (rng.random(size) < 0.2).astype(np.uint8)
    return Orders(
        customer=customer,
        period=np.zeros(size, dtype=np.uint8),
        device=np.zeros(size, dtype=np.uint8),
        node=customer % 13,
        product=product,
        side=rng.choice([1, -1], size),
        price_taker=(rng.random(size) < 0.2).astype(np.uint8),
        price_micros=rng.choice([0, 100_000, 300_000, 500_000], size),
        quantity_w=rng.integers(0, 4000, size),
        var_per_kw=np.where(product == 0, rng.integers(-300, 300, size), 0),
    )


@pytest.fixture(scope="module")
def network(street: Callable[..., Network]) -> Network:
    return street()


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_record_of_a_clearing_adds_up(network: Network, seed: int) -> None:
    orders = random_orders(seed)
    outcome = clear(network, OrderBook.from_orders(orders), 0.25, v_min=0.98, tie_context="t")
    facts = to_records(outcome, orders, root_price_micros=250_000, intervals=12)
    assert (facts.awards.quantity_mw > 0).all()
    given_mw = facts.awards.by_order(len(orders))
    assert (given_mw <= orders.quantity_w * 1000).all()
    assert np.abs(given_mw - outcome.award_kw * 1e6).max() <= 1 + 1e-6
    prices = facts.prices
    assert np.array_equal(prices.energy, prices.root + prices.losses + prices.congestion + prices.voltage)
    assert np.abs(prices.energy - outcome.prices.energy * 1e6).max() <= 0.5 + 1e-6
    assert (prices.low <= prices.energy).all()
    assert (prices.energy <= prices.high).all()
    row = facts.clearing
    assert row.root_wh[0] == facts.schedules.energy_wh.sum() + row.losses_wh[0]
    paid = int((facts.schedules.energy_wh * prices.energy[facts.schedules.node]).sum())
    paid += int((facts.schedules.reactive_varh * prices.reactive[facts.schedules.node]).sum())
    assert row.rent_nanos[0] == paid - int(row.root_wh[0]) * 250_000
    assert row.status[0] == outcome.status
    # Whole numbers differ from the engine's by rounding only: half a Wh per customer and price.
    assert row.rent_nanos[0] * 1e-9 == pytest.approx(outcome.rent, abs=0.02)


def test_ties_share_whole_milliwatts_and_lose_none(network: Network) -> None:
    count = 7
    same = dict.fromkeys(("period", "device", "product", "price_taker", "var_per_kw"), np.zeros(count, dtype=np.int64))
    orders = Orders(
        customer=np.arange(1, count + 1),
        node=np.full(count, 9),
        side=np.ones(count, dtype=np.int64),
        price_micros=np.full(count, 400_000),
        quantity_w=np.full(count, 1000),
        **same,
    )
    outcome = clear(network, OrderBook.from_orders(orders), 0.25, root_limit_kw=3.3333, tie_context="real_time/7")
    given_mw = awards(outcome, orders).quantity_mw
    assert given_mw.sum() == round(float(outcome.award_kw.sum()) * 1e6)
    assert given_mw.max() - given_mw.min() <= 1


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(-500, 500), st.sampled_from([1, -1])), min_size=1))
@settings(max_examples=50, deadline=None)
def test_energy_is_the_difference_of_whole_registers(steps: list[tuple[int, int, int]]) -> None:
    """Rounding never piles up: after any periods the Wh are those of the summed power."""
    carry = np.zeros((1, 4), dtype=np.int64)
    power_mw = energy = reactive = reactive_micro = 0
    for milliwatts, var_per_kw, side in steps:
        orders = Orders(
            customer=np.array([1]), period=np.array([0]), device=np.array([0]), node=np.array([3]),
            product=np.array([0]),
            side=np.array([side]), price_taker=np.array([1]), price_micros=np.array([0]),
            quantity_w=np.array([10**6]), var_per_kw=np.array([var_per_kw]),
        )  # fmt: skip
        given_rows = Awards(customer=np.array([1]), order=np.array([0]), quantity_mw=np.array([milliwatts]))
        rows, carry = schedules(given_rows, orders, carry)
        power_mw += side * milliwatts
        reactive_micro += side * milliwatts * var_per_kw
        energy += int(rows.energy_wh[0])
        reactive += int(rows.reactive_varh[0])
    assert energy == int(cumulative_energy_wh([power_mw])[0])
    assert reactive == reactive_micro // 12_000_000


@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from([1, 12])), min_size=1))
@settings(max_examples=50, deadline=None)
def test_reserve_is_power_held_times_hours_to_the_last_whole_watt_hour(steps: list[tuple[int, int]]) -> None:
    """What is carried stands with the schedule, so the next one needs no earlier award."""
    carry = np.zeros((1, 4), dtype=np.int64)
    held = wh = 0
    for milliwatts, intervals in steps:
        orders = Orders(
            customer=[1, 0], period=[0, 0], device=[2, 0], node=[3, 1], product=[3, 3], side=[-1, 1],
            price_taker=[0, 1], price_micros=[0, 0], quantity_w=[10**5, 10**5], var_per_kw=[0, 0],
        )  # fmt: skip
        given_rows = Awards(customer=[1, 0], order=[0, 1], quantity_mw=[milliwatts, milliwatts])
        rows, carry = schedules(given_rows, orders, carry, intervals=intervals)
        assert rows.customer.tolist() == [1]  # what the operator requires is nobody's schedule
        carried = (rows.carry_energy, rows.carry_reactive, rows.carry_reserve_up, rows.carry_reserve_down)
        assert carry.tolist() == np.stack(carried, axis=1).tolist()
        held += milliwatts * intervals
        wh += int(rows.reserve_down_wh[0])
    assert wh == held // 12_000
    assert not rows.energy_wh.any()
    assert not rows.reserve_up_wh.any()


@pytest.mark.parametrize(("customer", "side", "product"), [(1, 1, 2), (0, -1, 2), (0, 1, 0)])
def test_the_operator_requires_reserve_and_nobody_else_does(customer: int, side: int, product: int) -> None:
    names = dict.fromkeys(Orders.row_dtype().names or (), np.zeros(1, dtype=np.int64))
    orders = Orders(**names | {"customer": [customer], "side": [side], "product": [product]})
    with pytest.raises(RecordError, match="requires reserve"):
        schedules(Awards.empty(), orders, np.zeros((1, 4), dtype=np.int64))
    rows = np.flatnonzero(refusals(orders, np.array([1]), np.array([0]), -1, 1) == 0)
    assert not rows.size


def test_reactive_awards_count_as_reactive_energy() -> None:
    orders = Orders(
        customer=np.array([2, 2]), period=np.array([0, 0]), device=np.array([1, 1]), node=np.array([3, 3]),
        product=np.array([0, 1]),
        side=np.array([-1, 1]), price_taker=np.array([0, 0]), price_micros=np.array([0, 0]),
        quantity_w=np.array([5000, 3000]), var_per_kw=np.array([100, 0]),
    )  # fmt: skip
    given_rows = Awards(customer=orders.customer, order=np.array([0, 1]), quantity_mw=np.array([4_000_000, 2_000_000]))
    rows, carry = schedules(given_rows, orders, np.zeros((3, 4), dtype=np.int64), intervals=12)
    assert rows.customer.tolist() == [2]
    assert rows.energy_wh.tolist() == [-4000]
    assert rows.reactive_varh.tolist() == [2000 - 400]
    assert not carry.any()


def test_facts_that_do_not_match_are_refused(network: Network) -> None:
    orders = random_orders(1)
    outcome = clear(network, OrderBook.from_orders(orders), 0.25)
    with pytest.raises(RecordError, match="orders, but"):
        awards(outcome, orders.take(np.arange(5)))
    given_rows = awards(outcome, orders)
    with pytest.raises(RecordError, match="outside the carry"):
        schedules(given_rows, orders, np.zeros((2, 4), dtype=np.int64))
    fields = {name: getattr(orders, name) for name in Orders.row_dtype().names}
    scattered = Orders(**fields | {"node": np.arange(len(orders))})
    with pytest.raises(RecordError, match="at two nodes"):
        schedules(given_rows, scattered, np.zeros((12, 4), dtype=np.int64))


def test_a_price_table_has_a_row_per_node(network: Network) -> None:
    table = price_table(clear(network, OrderBook.empty(), 0.25))
    assert table.node.tolist() == list(range(13))
    assert (table.root == 250_000).all()
