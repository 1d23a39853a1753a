"""Laws of one clearing: money, bids and prices, with nothing but the outcome at hand.

Each order is asked whether it would rather have traded otherwise; markets cleared again say what a price is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streets import ROOT, ROOT_REACTIVE, feeder, market, on, paid, seeds, street, table, unit_price

from tellegen.market import Clearing, LimitType, OrderBook, Parameters, clear
from tellegen.records import ClearingStatus, Product, Side


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_money_parts_awards_and_bids_are_in_order(seed: int, phases: int) -> None:
    book = market(seed, phases)
    outcome = on(seed, phases)(book)
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason
    prices, award = outcome.prices, outcome.award_kw
    bill = paid(book, outcome)
    root = ROOT * outcome.flow.root_kw + ROOT_REACTIVE * outcome.flow.root_kvar
    assert outcome.rent == pytest.approx(bill - root, abs=1e-9 * max(1.0, abs(bill)))
    assert prices.root + prices.losses + prices.congestion + prices.voltage == pytest.approx(prices.energy, abs=1e-12)
    assert prices.reactive_parts.sum(axis=0) == pytest.approx(prices.reactive, abs=1e-12)
    assert (prices.low <= prices.energy).all()
    assert (prices.energy <= prices.high).all()
    assert (award >= 0).all()
    assert (award <= book.quantity_kw).all()
    assert np.array_equal(award[book.price_taker], book.quantity_kw[book.price_taker])


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_at_the_prices_nobody_would_rather_have_traded_otherwise(seed: int, phases: int) -> None:
    """Duality: each step is the best that its owner could do at the price it faces."""
    book = market(seed, phases)
    outcome = on(seed, phases)(book)
    margin = book.side * (book.price - unit_price(book, outcome))
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.where(
            book.slope > 0, np.clip(margin / book.slope, 0, book.quantity_kw), book.quantity_kw * (margin > 0)
        )
    taken = outcome.award_kw
    forgone = margin * (best - taken) - book.slope * (best**2 - taken**2) / 2
    priced = ~book.price_taker
    assert forgone[priced].max(initial=0.0) <= 2e-6 * max(1.0, float(book.quantity_kw.max()))


BINDING: dict[str, tuple[str, dict[str, float], float, set[LimitType]]] = {
    "nothing": ("", {}, ROOT, set()),
    "lowest voltage": ("", {"v_min": 0.99}, ROOT, {LimitType.VOLTAGE_MIN}),
    "highest voltage": ("", {"v_max": 1.004}, ROOT, {LimitType.VOLTAGE_MAX}),
    "import": ("", {"root_limit_kw": 6.0}, 0.1, {LimitType.ROOT_IMPORT}),
    "export": ("", {"root_limit_kw": 3.0}, 0.6, {LimitType.ROOT_EXPORT}),
    "current": ("I", {}, 0.1, {LimitType.RATING}),
    "power": ("S", {}, 0.1, {LimitType.RATING}),
}


@pytest.mark.parametrize("sloped", [False, True], ids=["steps", "quadratic"])
@pytest.mark.parametrize("binding", BINDING)
@pytest.mark.parametrize("phases", [1, 3])
def test_a_price_is_the_derivative_of_welfare_or_between_its_two_sides(phases: int, binding: str, sloped: bool) -> None:
    limited, bounds, root, kinds = BINDING[binding]
    network, (places, connections) = street(phases, limited), table(phases)
    book = market(20, phases, size=36, scale=2.0, plain=True)
    if binding == "highest voltage":
        book = replace(book, side=np.where(np.arange(36) % 4 == 0, book.side, -1), price=book.price - 0.3)
    book = replace(book, slope=np.full(36, 0.03 if sloped else 0.0))

    def solve(extra: OrderBook | None = None) -> Clearing:
        both = book if extra is None else OrderBook.concat(book, extra)
        return clear(network, both, root, root_reactive_price=ROOT_REACTIVE, **bounds)  # type: ignore[arg-type]

    base = solve()
    assert base.status == ClearingStatus.OPTIMAL, base.reason
    assert kinds <= {limit.kind for limit in base.limits}
    rng, h = np.random.default_rng(3), 1e-3
    for place in rng.choice(places[places >= phases], 2, replace=False):
        for product, own in ((Product.ENERGY, base.prices.energy), (Product.REACTIVE, base.prices.reactive)):
            ends = [
                solve(OrderBook.of([place], side, np.nan, [h], product=product, connections=connections))
                for side in (Side.SELL, Side.BUY)
            ]
            less, more = (ends[0].welfare - base.welfare) / h, (base.welfare - ends[1].welfare) / h
            # A price moves along its own slope within h; where an order's step ends there, it jumps.
            central = (less + more) / 2
            assert own[place] == pytest.approx(central, abs=1e-6) or less - 1e-5 <= own[place] <= more + 1e-5


def test_the_ends_of_a_range_are_the_two_one_sided_derivatives() -> None:
    """Supply ends exactly where demand ends, and the root is shut."""
    network = feeder()
    book = OrderBook.of([4, 4, 9, 9], [1, 1, -1, -1], [0.6, 0.2, 0.1, 0.5], [5.0, 5.0, 8.0, 8.0])

    def solve(supply_kw: float, extra: float = 0.0, second_kw: float = 5.0) -> Clearing:
        quantity = np.array([5.0, second_kw, supply_kw, 8.0])
        demand = np.zeros(13, dtype=complex)
        demand[4] = extra
        return clear(network, replace(book, quantity_kw=quantity), 9.0, root_limit_kw=0.0, fixed_kva=demand)

    exact = float(solve(8.0, second_kw=0.0).award_kw[2])
    base, h = solve(exact), 1e-3
    less, more = (solve(exact, side * h).welfare for side in (-1, 1))
    assert base.prices.low[4] < base.prices.high[4]
    assert base.prices.low[4] == pytest.approx((less - base.welfare) / h, abs=1e-3)
    assert base.prices.high[4] == pytest.approx((base.welfare - more) / h, abs=1e-3)
    assert base.prices.energy[4] == pytest.approx((base.prices.low[4] + base.prices.high[4]) / 2)


def test_between_two_lines_of_one_rating_the_price_has_a_range() -> None:
    """One more kW at the joint costs congestion, one less frees none: 0.499 and 0.251."""
    network = feeder(parent=[0, 1], ohm=np.full(2, 0.02 + 0.01j), rating_kva=10.0)
    book, h = OrderBook.of([2], 1, 0.5, [50.0]), 1e-3
    base = clear(network, book, ROOT)
    less, more = (clear(network, book, ROOT, fixed_kva=np.array([0, s * h, 0j])).welfare for s in (-1, 1))
    assert base.prices.low[1] == pytest.approx((less - base.welfare) / h, abs=1e-3)
    assert base.prices.high[1] == pytest.approx((base.welfare - more) / h, abs=1e-3)


def test_a_clearing_called_optimal_stands_on_the_evidence_that_was_asked_for() -> None:
    """Every rating is what flows there anyway."""
    network, book = feeder(), market(5)
    flow = clear(network, book, ROOT).flow
    tight = replace(network, branches=replace(network.branches, rating_pu=np.maximum(flow.terminal_pu, 1e-9)))
    outcome = clear(tight, book, ROOT)
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason
    assert outcome.evidence.kkt_residual <= Parameters().kkt_max
