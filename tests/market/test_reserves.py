"""Reserves up and down, cleared with energy on the same wires: what is sold can be delivered when it is called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tellegen.grid import solve_powerflow
from tellegen.grid.network import Network
from tellegen.market import Agreements, Clearing, LimitType, OrderBook, clear, start_after
from tellegen.records import ClearingStatus, Product

Street = Callable[..., Network]
HOUSES = np.array([9, 10, 11, 12, 5, 7, 8])
UP, DOWN = Product.RESERVE_UP, Product.RESERVE_DOWN


def energy(slope: float = 0.0) -> OrderBook:
    """Houses that would buy 9 kW each at falling prices, and one that sells."""
    buy = OrderBook.of(HOUSES, 1, 0.36 + 0.02 * np.arange(7), 9.0, slope=slope, kvar_per_kw=0.2, participant=HOUSES)
    sell = OrderBook.of([12, 7], -1, [0.27, 0.31], [6.0, 8.0], slope=slope, participant=[112, 107])
    return OrderBook.concat(buy, sell)


def offers(product: Product) -> OrderBook:
    price = 0.02 + 0.004 * np.arange(7)
    return OrderBook.of(HOUSES, -1, price, 4.0, product=product, participant=HOUSES)


def required(product: Product, kw: float, price: float = 3.0) -> OrderBook:
    return OrderBook.of([0], 1, price, [kw], product=product)


def both(kw_up: float = 10.3, kw_down: float = 8.6, slope: float = 0.0) -> OrderBook:
    return OrderBook.concat(
        energy(slope), offers(UP), offers(DOWN), required(UP, kw_up), required(DOWN, kw_down)
    )  # fmt: skip


def award_of(book: OrderBook, cleared: Clearing, product: Product, side: int) -> np.ndarray:
    return cleared.award_kw[(book.product == product) & (book.side == side)]


@pytest.mark.parametrize("slope", [0.0, 0.004], ids=["steps", "quadratic"])
@pytest.mark.parametrize("limits", [{}, {"v_min": 0.975}, {"root_limit_kw": 50.0}], ids=["free", "voltage", "root"])
def test_a_reserve_price_is_what_one_more_kw_required_costs(street: Street, limits: dict, slope: float) -> None:
    def solve(up: float, down: float) -> Clearing:
        return clear(street(), both(up, down, slope), 0.25, **limits)

    base = solve(10.3, 8.6)
    assert base.status == ClearingStatus.OPTIMAL, base.reason
    for k, (up, down) in enumerate(((1e-3, 0.0), (0.0, 1e-3))):
        value = 3.0 * 2e-3
        slope_of = (solve(10.3 - up, 8.6 - down).welfare - solve(10.3 + up, 8.6 + down).welfare + value) / 2e-3
        assert base.prices.required[k] == pytest.approx(slope_of, rel=5e-6, abs=1e-9)


def test_where_whole_offers_meet_the_requirement_its_price_has_a_range(street: Street) -> None:
    """Law 7: 8 kW are exactly the two cheapest offers; half a price below and half above settle it."""
    cleared, less, more = (clear(street(), both(10.3, 8.0 + d), 0.25) for d in (0.0, -1e-4, 1e-4))
    assert less.prices.required[1] < more.prices.required[1]
    assert cleared.prices.required_low[1] == pytest.approx(less.prices.required[1], rel=1e-4)
    assert cleared.prices.required_high[1] == pytest.approx(more.prices.required[1], rel=1e-4)
    assert cleared.prices.required[1] == pytest.approx(
        (less.prices.required[1] + more.prices.required[1]) / 2, rel=1e-4
    )


@pytest.mark.parametrize("limits", [{}, {"v_min": 0.975}, {"root_limit_kw": 50.0}], ids=["free", "voltage", "root"])
def test_energy_prices_count_what_reserve_needs(street: Street, limits: dict) -> None:
    """Law 7: with reserve on the wires too, a price is still the derivative of welfare."""
    book = both()
    base = clear(street(), book, 0.25, **limits)
    for node in (9, 12, 3):
        ends = []
        for h in (1e-3, -1e-3):
            extra = np.zeros(13, dtype=complex)
            extra[node] = h
            ends.append(clear(street(), book, 0.25, fixed_kva=extra, **limits).welfare)
        assert base.prices.energy[node] == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=5e-6)


def test_all_that_is_sold_can_be_called_within_limits(street: Street) -> None:
    """Without the called scenarios, calling reserve down would break the voltage limit that the dispatch meets."""
    network, book = street(), both(12.0, 20.0)
    cleared = clear(network, book, 0.25, v_min=0.975)
    assert cleared.status == ClearingStatus.OPTIMAL, cleared.reason
    sold_down = award_of(book, cleared, DOWN, -1)
    assert sold_down.sum() == pytest.approx(20.0, abs=1e-6)
    demand = np.zeros(13, dtype=complex)
    moved = book.product == Product.ENERGY
    np.add.at(
        demand, book.node[moved], (book.side * cleared.award_kw * (1 + 1j * book.kvar_per_kw))[moved]
    )  # fmt: skip
    called = demand.copy()
    np.add.at(called, HOUSES, sold_down)
    volt = np.abs(solve_powerflow(network, called).voltage)
    assert volt.min() >= 0.975 - 1e-7
    assert any(limit.scenario == 2 and limit.kind == LimitType.VOLTAGE_MIN for limit in cleared.limits)
    alone = clear(network, energy(), 0.25, v_min=0.975)
    naive = np.zeros(13, dtype=complex)
    only = energy()
    np.add.at(naive, only.node, only.side * alone.award_kw * (1 + 1j * only.kvar_per_kw))
    np.add.at(naive, HOUSES, sold_down)
    assert np.abs(solve_powerflow(network, naive).voltage).min() < 0.975 - 1e-4


def test_nobody_sells_reserve_that_its_dispatch_leaves_no_room_for(street: Street) -> None:
    book = both(24.0, 20.0)
    cleared = clear(street(), book, 0.25)
    for house in HOUSES.tolist():
        mine = book.participant == house
        net = (book.side * cleared.award_kw)[mine & (book.product == Product.ENERGY)].sum()
        up = cleared.award_kw[mine & (book.product == UP)].sum()
        down = cleared.award_kw[mine & (book.product == DOWN)].sum()
        assert net - up >= -1e-6  # a load can only leave off what it draws
        assert net + down <= 9.0 + 1e-6


def test_reserve_costs_what_is_forgone_for_it(street: Street) -> None:
    """One seller must hold back a kW of energy for each kW of reserve: its reserve is worth the margin forgone."""
    sell = OrderBook.of([9], -1, 0.10, 5.0, participant=1)
    offer = OrderBook.of([9], -1, 0.01, 5.0, product=UP, participant=1)
    book = OrderBook.concat(sell, offer, required(UP, 2.0))
    cleared = clear(street(), book, 0.30)
    assert cleared.award_kw[:2] == pytest.approx([3.0, 2.0], abs=1e-6)
    assert cleared.prices.required[0] == pytest.approx(0.01 + cleared.prices.energy[9] - 0.10, rel=1e-6)


def test_too_little_reserve_is_priced_by_the_published_curve(street: Street) -> None:
    book = OrderBook.concat(energy(), offers(UP), required(UP, 40.0, np.nan))
    cleared = clear(street(), book, 0.25)
    assert cleared.status == ClearingStatus.RELAXED
    (short,) = (limit for limit in cleared.relaxations if limit.kind == LimitType.RESERVE_UP)
    assert short.unit == "kW"
    assert short.excess == pytest.approx(40.0 - award_of(book, cleared, UP, -1).sum(), abs=1e-5)
    assert cleared.prices.required[0] == pytest.approx(10.25)


def test_a_requirement_with_a_price_is_met_only_up_to_that_price(street: Street) -> None:
    book = OrderBook.concat(offers(UP), required(UP, 20.0, 0.03))
    cleared = clear(street(), book, 0.25)
    assert cleared.status == ClearingStatus.OPTIMAL
    assert award_of(book, cleared, UP, 1)[0] == pytest.approx(12.0, abs=1e-6)  # the offers at 0.020, 0.024, 0.028


def test_money_out_of_the_market_is_rent(street: Street) -> None:
    book = both(12.0, 20.0)
    cleared = clear(street(), book, 0.25, v_min=0.975)
    price = cleared.prices.of_orders(book)
    coupled = np.where(book.product == Product.ENERGY, book.kvar_per_kw * cleared.prices.reactive[book.node], 0.0)
    paid = (book.side * cleared.award_kw * (price + coupled)).sum()
    assert cleared.rent == pytest.approx(paid - 0.25 * cleared.flow.root_kw, abs=1e-9)
    assert cleared.rent > 0


def test_stored_energy_stands_behind_reserve(street: Street) -> None:
    """With 2 kWh stored, a period of five minutes and reserve that must last an hour: u + x / 12 <= 2."""
    sell = OrderBook.of([9], -1, 0.20, 6.0, participant=5)
    offer = OrderBook.of([9], -1, 0.01, 6.0, product=UP, participant=5)
    book = OrderBook.concat(sell, offer, required(UP, 5.0))
    cleared = clear(street(), book, 0.30, agreements=Agreements.of([5], [9], energy_up_kwh=2.0))
    sold, reserve = cleared.award_kw[:2]
    assert reserve + sold / 12 <= 2.0 + 1e-6
    assert reserve == pytest.approx(2.0, abs=1e-6)
    (limit,) = (limit for limit in cleared.limits if limit.kind == LimitType.STORED_UP)
    assert limit.name == "stored energy of participant 5 at node 9"


def test_a_connection_limits_what_its_orders_take_together(street: Street) -> None:
    book = OrderBook.concat(
        OrderBook.of([9, 9], 1, [0.9, 0.8], [4.0, 4.0], participant=3), OrderBook.of([9], -1, 0.2, 1.5, participant=3)
    )
    cleared = clear(street(), book, 0.25, agreements=Agreements.of([3], [9], import_kw=5.0, export_kw=1.0))
    assert (book.side * cleared.award_kw).sum() == pytest.approx(5.0, abs=1e-6)
    free = clear(street(), book, 0.25)
    assert (book.side * free.award_kw).sum() == pytest.approx(6.5, abs=1e-6)


def test_flexible_capacity_is_shed_before_a_limit_gives_way_and_firm_capacity_is_not(street: Street) -> None:
    book = OrderBook.of(HOUSES, 1, np.nan, 14.0, participant=HOUSES)
    firm = clear(street(), book, 0.25, v_min=0.97)
    assert firm.status == ClearingStatus.RELAXED
    flexible = clear(street(), book, 0.25, v_min=0.97, agreements=Agreements.of(HOUSES, HOUSES, firm_import_kw=3.0))
    assert flexible.status == ClearingStatus.OPTIMAL, flexible.reason
    assert (flexible.award_kw >= 3.0 - 1e-9).all()
    assert flexible.award_kw.min() < 14.0 - 1e-3
    partly = (flexible.award_kw > 3.0 + 1e-6) & (flexible.award_kw < 14.0 - 1e-6)
    assert partly.any()
    np.testing.assert_allclose(flexible.prices.energy[HOUSES[partly]], 2.0, rtol=1e-6)


def test_a_must_run_beyond_its_connection_is_named(street: Street) -> None:
    book = OrderBook.of([9], 1, np.nan, 8.0, participant=3)
    cleared = clear(street(), book, 0.25, agreements=Agreements.of([3], [9], import_kw=5.0))
    assert cleared.status == ClearingStatus.RELAXED
    (gave,) = cleared.relaxations
    assert gave.name == "import of participant 3 at node 9"
    assert gave.excess == pytest.approx(3.0)


def test_warm_and_cold_agree_with_reserves(street: Street) -> None:
    network = street()
    before = both(10.0, 8.0)
    start = start_after(clear(network, before, 0.25, v_min=0.975), before)
    book = both(11.0, 12.0)
    cold, warm = (clear(network, book, 0.25, v_min=0.975, start=s) for s in (None, start))
    np.testing.assert_allclose(warm.prices.energy, cold.prices.energy, rtol=1e-7)
    np.testing.assert_allclose(warm.prices.reserve, cold.prices.reserve, rtol=1e-6, atol=1e-9)
    assert warm.evidence.iterations <= cold.evidence.iterations


@pytest.mark.parametrize("count", [61, 251])
def test_a_market_of_reserve_alone_bends_nothing(tree: Callable[..., Network], count: int) -> None:
    """Nobody who trades moves the dispatch: what the root's energy costs has no curvature, however many they are."""
    network = tree(list(range(count)), np.full(count, 1e-5 + 1e-5j))
    offers = OrderBook.of(np.arange(1, count + 1), -1, 0.01 + 1e-5 * np.arange(count), 1.0, product=Product.RESERVE_UP)
    wanted = OrderBook.of([1], 1, 0.5, [count / 2], product=Product.RESERVE_UP)
    outcome = clear(network, OrderBook.concat(wanted, offers), 0.3)
    assert outcome.status == ClearingStatus.OPTIMAL
    assert outcome.award_kw[1:].sum() == pytest.approx(count / 2)
