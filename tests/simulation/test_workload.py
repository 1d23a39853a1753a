"""Markets to measure with: all bids new, orders and book the same, and limits that do bind."""

from __future__ import annotations

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid.network import FixedLoads
from tellegen.grid.synthetic import Feeder, synthetic_feeder
from tellegen.market import LimitType, OrderBook
from tellegen.records import ClearingStatus, Side
from tellegen.simulation.workload import (
    BidForm,
    Binding,
    LoadCustomers,
    Situation,
    binding_count,
    limits_that_bind,
    market_books,
)


@pytest.fixture(scope="module", params=[1, 3], ids=["balanced", "three-phase"])
def feeder(request: pytest.FixtureRequest) -> Feeder:
    return synthetic_feeder(60, phases=request.param, seed=1)


@pytest.mark.parametrize("form", BidForm)
@pytest.mark.parametrize("situation", Situation)
def test_every_bid_is_new_in_every_interval(feeder: Feeder, form: BidForm, situation: Situation) -> None:
    one, two = market_books(feeder, 3, intervals=2, form=form, situation=situation)
    assert not set(one.book.price.tolist()) & set(two.book.price.tolist())
    again = market_books(feeder, 3, intervals=1, form=form, situation=situation)[0]
    assert np.array_equal(one.book.price, again.book.price)
    assert np.array_equal(one.book.quantity_kw, again.book.quantity_kw)


def test_recorded_orders_are_the_book(feeder: Feeder) -> None:
    round_ = market_books(feeder, 3)[0]
    assert round_.orders is not None
    book = OrderBook.from_orders(round_.orders)
    for column in ("node", "side", "price", "slope", "quantity_kw", "kvar_per_kw"):
        assert np.array_equal(getattr(book, column), getattr(round_.book, column))
    starts = np.flatnonzero(np.diff(round_.orders.customer))
    assert np.unique(round_.orders.customer).size == starts.size + 1


def test_homes_bid_two_or_three_steps_and_batteries_stand_on_both_sides(feeder: Feeder) -> None:
    book = market_books(feeder, 3, battery_share=1.0, pv_share=0.0)[0].book
    buys = np.bincount(book.node[(book.side == Side.BUY) & (book.kvar_per_kw > 0)])[feeder.customer_node]
    assert set(buys.tolist()) == {2, 3}
    for node in feeder.customer_node[:10]:
        plain = (book.node == node) & (book.kvar_per_kw == 0)
        buy, sell = plain & (book.side == Side.BUY), plain & (book.side == Side.SELL)
        assert buy.sum() == sell.sum() == 1
        assert book.price[buy][0] < book.price[sell][0]


@pytest.mark.parametrize("form", BidForm)
@pytest.mark.parametrize(
    ("situation", "binding", "kinds"),
    [
        (Situation.EVENING, Binding.LOWEST_VOLTAGE, {LimitType.VOLTAGE_MIN}),
        (Situation.NOON, Binding.HIGHEST_VOLTAGE, {LimitType.VOLTAGE_MAX}),
        (Situation.EVENING, Binding.RATING, {LimitType.RATING}),
        (Situation.EVENING, Binding.ROOT, {LimitType.ROOT_IMPORT}),
        (Situation.NOON, Binding.ROOT, {LimitType.ROOT_EXPORT}),
        (Situation.EVENING, Binding.NOTHING, set()),
    ],
)
def test_the_limit_that_was_asked_for_binds(
    feeder: Feeder, form: BidForm, situation: Situation, binding: Binding, kinds: set[LimitType]
) -> None:
    book = market_books(feeder, 2, form=form, situation=situation)[0].book
    outcome = limits_that_bind(feeder.network, book, binding).clear(book)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason
    assert {limit.kind for limit in outcome.limits if limit.dual > 0} == kinds
    assert (binding_count(outcome) > 0) == bool(kinds)
    assert all(binding_count(outcome, kind) > 0 for kind in kinds)


def test_the_customers_of_a_file_draw_what_its_loads_draw() -> None:
    """Two loads at a node are one customer; of a load between nodes each end has half; the root has none."""
    network = synthetic_feeder(5, phases=3, seed=0).network
    a, b = network.free[:2].tolist()
    loads = FixedLoads(
        ("x", "y", "z", "s"),
        np.array([a, a, a, network.source[0]]),
        np.array([1.0, 2.0, 4.0, 8.0]),
        np.array([0.1, 0.2, 0.4, 0.8]),
        np.array([-1, -1, b, -1]),
    )
    customers = LoadCustomers.of(network, loads)
    assert customers.customer_node.tolist() == [a, b]
    assert customers.peak_kw == pytest.approx([5.0, 2.0])
    assert customers.peak_kvar == pytest.approx([0.5, 0.2])
    nothing = FixedLoads((), np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="market needs customers"):
        LoadCustomers.of(network, nothing)


def test_a_balanced_market_without_sun_raises_no_voltage() -> None:
    """On three phases the load of one may raise another; on a balanced feeder nothing does."""
    feeder = synthetic_feeder(60, phases=1, seed=1)
    book = market_books(feeder, 2, pv_share=0.0, battery_share=0.0)[0].book
    with pytest.raises(InputError, match="highest voltage"):
        limits_that_bind(feeder.network, book, Binding.HIGHEST_VOLTAGE)
