"""Odd numbers: quantities and prices beyond measure, thousands of orders, limits that touch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from streets import ROOT, feeder, market, unit_price

from tellegen.errors import InputError
from tellegen.market import OrderBook, clear
from tellegen.records import ClearingStatus


@pytest.mark.parametrize("field", ["slope", "quantity_kw", "kvar_per_kw"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_where_they_stand(field: str, value: float) -> None:
    book = market(1)
    column = getattr(book, field).copy()
    column[3] = value
    with pytest.raises(InputError, match="row 3"):
        replace(book, **{field: column})


@pytest.mark.parametrize("kw", [1e-12, 1e-9, 1e-3, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("side", [1, -1])
def test_one_order_beyond_all_measure_is_served_as_far_as_the_wires_carry(kw: float, side: int) -> None:
    book = OrderBook.concat(market(2), OrderBook.of([5], side, 0.3 * side, [kw]))
    outcome = clear(feeder(), book, ROOT, v_min=0.96, v_max=1.04)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason
    assert 0 <= outcome.award_kw[-1] <= kw
    if kw < 1:
        assert outcome.award_kw[-1] == pytest.approx(kw, rel=1e-9)
    if kw > 1e3:
        assert outcome.prices.energy[5] == pytest.approx(0.3 * side, abs=1e-6)


@pytest.mark.parametrize("sellers", [0.0, 0.5])
def test_thousands_of_equal_orders_are_cleared_and_share(sellers: float) -> None:
    rng, size = np.random.default_rng(0), 3000
    side = np.where(rng.random(size) < sellers, -1, 1)
    book = OrderBook.of(rng.integers(1, 13, size), side, 0.4, rng.uniform(0.01, 0.1, size))
    outcome = clear(feeder(), book, ROOT, v_min=0.97)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason
    for node in range(1, 13):
        for way in (1, -1):
            here = (book.node == node) & (book.side == way)
            share = outcome.award_kw[here] / book.quantity_kw[here]
            assert share == pytest.approx(np.full(share.size, share[:1]), rel=1e-12)


@pytest.mark.parametrize("kind", ["steps", "slopes", "power factors"])
def test_a_thousand_orders_at_one_node_of_two(kind: str) -> None:
    rng, size = np.random.default_rng(1), 1000
    side = np.where(rng.random(size) < 0.7, 1, -1)
    book = OrderBook.of(
        np.ones(size, dtype=int), side, rng.uniform(0.1, 0.6, size), rng.uniform(0, 0.2, size),
        slope=rng.uniform(0.01, 1, size) if kind == "slopes" else 0.0,
        kvar_per_kw=rng.uniform(-0.5, 0.5, size) if kind == "power factors" else 0.0,
    )  # fmt: skip
    network = feeder(parent=[0], ohm=np.array([0.06 + 0.03j]))
    outcome = clear(network, book, ROOT, v_min=0.985)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason
    gain = side * (book.price - unit_price(book, outcome)) - book.slope * outcome.award_kw
    assert gain[outcome.award_kw > 1e-7].min() >= -2e-6
    assert gain[outcome.award_kw < book.quantity_kw - 1e-7].max() <= 2e-6


def test_limits_that_touch_where_the_market_stands_anyway_change_nothing() -> None:
    network, book = feeder(), market(4)
    free = clear(network, book, ROOT)
    volt, root = np.abs(free.flow.voltage), abs(free.flow.root_kw)
    for bounds in (
        {"v_min": float(volt[1:].min())},
        {"v_max": float(volt[1:].max() + 1e-15)},
        {"v_min": volt - 1e-9, "v_max": volt + 1e-9},
        {"root_limit_kw": root},
    ):
        touched = clear(network, book, ROOT, **bounds)  # type: ignore[arg-type]
        assert touched.status == ClearingStatus.OPTIMAL, touched.reason
        assert touched.welfare == pytest.approx(free.welfare, abs=1e-6)


def test_voltage_limits_of_another_network_are_refused() -> None:
    with pytest.raises(InputError, match="voltage limits"):
        clear(feeder(), market(1), ROOT, v_min=np.full(5, 0.9))


@pytest.mark.parametrize(("node", "root_price"), [(0, 0.25), (5, 0.0), (5, -0.1)])
def test_a_falling_bid_is_cleared_where_losses_have_no_convex_price(node: int, root_price: float) -> None:
    """At the root there are no losses; at a price of nothing or less they bend nothing."""
    bid = root_price + 0.1
    outcome = clear(feeder(), OrderBook.of([node], 1, bid, [4.0], slope=0.05), root_price)
    assert outcome.award_kw[0] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(("side", "price"), [(-1, 5.0), (1, -5.0)])
def test_one_unawarded_order_without_measure_does_not_stop_the_market(side: int, price: float) -> None:
    """A hundred million kW that nobody takes, at a modest price."""
    book = OrderBook.concat(market(1), OrderBook.of([5], side, price, [1e8]))
    assert clear(feeder(), book, ROOT, v_min=0.96).status == ClearingStatus.OPTIMAL


@pytest.mark.parametrize("side", [-1, 1])
def test_one_order_at_a_wild_price_does_not_stop_the_market(side: int) -> None:
    """One kW; order files allow prices to 1e6."""
    book = OrderBook.concat(market(1), OrderBook.of([5], side, 1e6, [1.0]))
    assert clear(feeder(), book, ROOT, v_min=0.96).status == ClearingStatus.OPTIMAL
