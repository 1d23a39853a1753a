"""Laws of the market on random books: money, bids, ties, ranges, limits that give way, fallbacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.grid.network import Network
from tellegen.market import Clearing, LimitType, OrderBook, Parameters, clear, start_after
from tellegen.records import ClearingStatus, Product, Side

Street = Callable[..., Network]
NODES = 13


def random_book(seed: int, size: int = 60) -> OrderBook:
    """Steps of five prices, so that ties and matched bids abound; price-takers, reactive orders, slopes."""
    rng = np.random.default_rng(seed)
    product = np.where(rng.random(size) < 0.15, int(Product.REACTIVE), int(Product.ENERGY))
    energy = product == Product.ENERGY
    side = np.where(rng.random(size) < 0.6, 1, -1)
    price = np.where(side > 0, rng.choice([0.2, 0.3, 0.4, 0.6], size), rng.choice([0.0, 0.1, 0.2, 0.3], size))
    price = np.where(energy, price, rng.choice([0.0, 0.01], size))
    return OrderBook.of(
        rng.integers(0, NODES, size),
        side,
        np.where(rng.random(size) < 0.15, np.nan, price),
        rng.uniform(0, 4, size) * (rng.random(size) > 0.05),
        slope=np.where(rng.random(size) < 0.2, 0.05, 0.0),
        kvar_per_kw=np.where(energy & (rng.random(size) < 0.4), 0.3, 0.0),
        product=product,
    )


def random_limits(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed + 1000)
    limits = {"v_min": float(rng.choice([0.9, 0.96, 0.98])), "v_max": float(rng.choice([1.01, 1.1]))}
    if rng.random() < 0.5:
        limits["root_limit_kw"] = float(rng.choice([5.0, 20.0]))
    return limits


def nodal_demand(book: OrderBook, award: np.ndarray) -> np.ndarray:
    energy = book.product == Product.ENERGY
    power = np.where(energy, 1 + 1j * book.kvar_per_kw, 1j)
    demand = np.zeros(NODES, dtype=complex)
    np.add.at(demand, book.node, book.side * award * power)
    return demand


@pytest.fixture(scope="module")
def network(street: Street) -> Network:
    return street()


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_laws_of_a_clearing(network: Network, seed: int) -> None:
    book, limits = random_book(seed), random_limits(seed)
    outcome = clear(network, book, 0.25, root_reactive_price=0.005, **limits)  # type: ignore[arg-type]
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason
    prices, award = outcome.prices, outcome.award_kw
    # Law 7: finite prices that are the sum of their parts, inside their range.
    assert np.isfinite(prices.energy).all()
    assert np.isfinite(prices.reactive).all()
    parts = prices.root + prices.losses + prices.congestion + prices.voltage
    assert parts == pytest.approx(prices.energy, abs=1e-12)
    assert prices.reactive_parts.sum(axis=0) == pytest.approx(prices.reactive, abs=1e-12)
    assert (prices.low <= prices.energy).all()
    assert (prices.energy <= prices.high).all()
    # Nobody gets more than was ordered; a price-taker gets all.
    assert (award >= 0).all()
    assert (award <= book.quantity_kw).all()
    assert award[book.price_taker] == pytest.approx(book.quantity_kw[book.price_taker])
    # Nobody is cleared against its bid, nobody in the money is left out.
    energy = book.product == Product.ENERGY
    at = prices.energy[book.node] + book.kvar_per_kw * prices.reactive[book.node]
    gain = book.side * (book.price - np.where(energy, at, prices.reactive[book.node])) - book.slope * award
    priced = ~book.price_taker & (book.quantity_kw > 0)
    tiny = 1e-6
    assert (gain[priced & (award > 1e-7)] >= -tiny).all()
    assert (gain[priced & (award < book.quantity_kw - 1e-7)] <= tiny).all()
    # Law 1: money out of the market is the rent; the root is the residual.
    demand = nodal_demand(book, award)
    paid = prices.energy @ demand.real + prices.reactive @ demand.imag
    cost = 0.25 * outcome.flow.root_kw + 0.005 * outcome.flow.root_kvar
    assert outcome.rent == pytest.approx(paid - cost, abs=1e-9)
    assert outcome.flow.root_kw == pytest.approx(demand.real.sum() + outcome.flow.losses_kw, abs=1e-9)
    # Accepted on evidence.
    assert outcome.evidence.ac_mismatch_pu <= 1e-9
    assert outcome.evidence.max_violation_pu <= 1e-7
    assert outcome.evidence.kkt_residual <= 1e-6
    assert (outcome.status == ClearingStatus.RELAXED) == bool(outcome.relaxations)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_welfare_is_the_best_of_all_dispatches(network: Network, seed: int, other: int) -> None:
    """No dispatch along the way to a random other one is feasible and better."""
    book = random_book(seed)
    outcome = clear(network, book, 0.25, v_min=0.5, v_max=1.5)
    rng = np.random.default_rng(other)
    target = np.where(book.price_taker, outcome.award_kw, book.quantity_kw * rng.random(len(book)))
    for share in (0.01, 0.2, 1.0):
        award = outcome.award_kw + share * (target - outcome.award_kw)
        as_fixed = clear(network, OrderBook.empty(), 0.25, fixed_kva=nodal_demand(book, award), v_min=0.5, v_max=1.5)
        value = np.where(book.price_taker, 0.0, book.side * book.price * award - book.slope * award**2 / 2).sum()
        assert outcome.welfare >= value - 0.25 * as_fixed.flow.root_kw - 1e-9


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_a_warm_start_changes_nothing_but_time(network: Network, seed: int) -> None:
    book, limits = random_book(seed), random_limits(seed)
    far = random_book(seed + 1, 45)
    start = start_after(clear(network, far, 0.27, **limits), far)  # type: ignore[arg-type]
    cold = clear(network, book, 0.25, **limits)  # type: ignore[arg-type]
    warm = clear(network, book, 0.25, start=start, **limits)  # type: ignore[arg-type]
    assert warm.status == cold.status
    assert warm.welfare == pytest.approx(cold.welfare, abs=1e-7)
    unique = np.array_equal(cold.prices.low, cold.prices.high) and np.array_equal(warm.prices.low, warm.prices.high)
    if unique:
        assert warm.prices.energy == pytest.approx(cold.prices.energy, abs=2e-6)


def test_the_same_input_gives_the_same_bits(network: Network) -> None:
    book = random_book(5)
    one, two = (clear(network, book, 0.25, v_min=0.98) for _ in range(2))
    assert one.prices.energy.tobytes() == two.prices.energy.tobytes()
    assert one.award_kw.tobytes() == two.award_kw.tobytes()


def relabelled(network: Network, order: np.ndarray) -> Network:
    """Node k of the result is node ``order[k]`` of the given network."""
    place = np.argsort(order)
    branches = dataclasses.replace(
        network.branches, node=place[network.branches.node], current_rows=network.branches.current_rows[:, order]
    )
    return dataclasses.replace(
        network,
        nodes=tuple(network.nodes[k] for k in order),
        admittance=network.admittance[order][:, order],
        source=place[network.source],
        v_min=network.v_min[order],
        v_max=network.v_max[order],
        branches=branches,
    )


def test_the_numbers_of_nodes_mean_nothing(network: Network) -> None:
    book = random_book(8)
    order = np.random.default_rng(0).permutation(NODES)
    moved = dataclasses.replace(book, node=np.argsort(order)[book.node])
    one = clear(network, book, 0.25, v_min=0.98)
    two = clear(relabelled(network, order), moved, 0.25, v_min=0.98)
    assert two.welfare == pytest.approx(one.welfare, abs=1e-8)
    assert two.prices.energy == pytest.approx(one.prices.energy[order], abs=1e-7)


def test_a_dead_branch_changes_nothing(tree: Callable[..., Network], network: Network) -> None:
    parent = [0, 1, 2, 3, 4, 5, 6, 7, 2, 4, 6, 8, 3]
    length = np.array([0.1, 0.05, 0.06, 0.05, 0.07, 0.05, 0.04, 0.06, 0.02, 0.03, 0.02, 0.03, 0.5])
    book = random_book(9)
    one = clear(network, book, 0.25, v_min=0.98)
    two = clear(tree(parent, (0.32 + 0.08j) * length), book, 0.25, v_min=0.98)
    assert two.prices.energy[:NODES] == pytest.approx(one.prices.energy, abs=1e-7)
    assert two.award_kw == pytest.approx(one.award_kw, abs=1e-6)
    assert two.prices.energy[13] == pytest.approx(two.prices.energy[3], abs=1e-9)


def test_the_base_of_power_means_nothing(street: Street, network: Network) -> None:
    book = random_book(10)
    one = clear(network, book, 0.25, v_min=0.98)
    two = clear(street(base_kva=1e5), book, 0.25, v_min=0.98)
    assert two.prices.energy == pytest.approx(one.prices.energy, abs=1e-6)
    assert two.welfare == pytest.approx(one.welfare, abs=1e-7)


def test_a_currency_of_smaller_coins_scales_money_only(network: Network) -> None:
    book = random_book(11)
    cents = dataclasses.replace(book, price=100 * book.price, slope=100 * book.slope)
    rules = Parameters(penalty_margin_price=500, penalty_price=1000, price_cap=500, price_floor=-100)
    one = clear(network, book, 0.25, v_min=0.98)
    two = clear(network, cents, 25.0, v_min=0.98, parameters=rules)
    assert two.prices.energy == pytest.approx(100 * one.prices.energy, abs=1e-5)
    assert two.rent == pytest.approx(100 * one.rent, abs=1e-4)


def test_on_thick_wires_the_market_is_a_double_auction(tree: Callable[..., Network]) -> None:
    """Almost without losses, and an island at the root: the price is where supply meets demand."""
    copper = tree([0] * 6, np.full(6, 1e-5 + 0j))  # losses of about 1e-6 of the power
    buy = OrderBook.of([1, 2, 3], Side.BUY, [0.5, 0.4, 0.2], [3.0, 3.0, 3.0])
    sell = OrderBook.of([4, 5, 6], Side.SELL, [0.1, 0.3, 0.45], [4.0, 4.0, 4.0])
    outcome = clear(copper, OrderBook.concat(buy, sell), 9.0, root_limit_kw=0.0)
    assert outcome.status == ClearingStatus.OPTIMAL
    assert outcome.award_kw == pytest.approx([3, 3, 0, 4, 2, 0], abs=1e-5)
    assert outcome.prices.energy == pytest.approx(np.full(7, 0.3), abs=1e-6)
    assert outcome.welfare == pytest.approx(1.5 + 1.2 - 0.4 - 0.6, abs=1e-6)
    assert outcome.rent == pytest.approx(0.0, abs=1e-6)


def test_where_the_optimum_leaves_a_range_the_middle_settles(tree: Callable[..., Network]) -> None:
    """Law 7: supply ends exactly where demand ends; any price between the two marginal bids supports it."""
    lossless = tree([0] * 2, np.full(2, 1e-4j))
    book = OrderBook.of([1, 1, 2, 2], [1, 1, -1, -1], [0.6, 0.2, 0.1, 0.5], [5.0, 5.0, 5.0, 5.0])
    outcome = clear(lossless, book, 9.0, root_limit_kw=0.0)
    assert outcome.award_kw == pytest.approx([5, 0, 5, 0], abs=1e-5)
    # One kWh more demand takes the seller at 0.5; one less frees the buyer at 0.2.
    assert outcome.prices.high == pytest.approx(np.full(3, 0.5), abs=1e-6)
    assert outcome.prices.low == pytest.approx(np.full(3, 0.2), abs=1e-6)
    assert outcome.prices.energy == pytest.approx(np.full(3, 0.35), abs=1e-6)
    assert outcome.evidence.kkt_residual < 1e-6


def test_a_unique_price_has_no_range(network: Network) -> None:
    outcome = clear(network, OrderBook.of([9, 12], 1, [0.5, 0.6], [30.0, 30.0]), 0.2, v_min=0.97)
    assert outcome.limits
    assert np.array_equal(outcome.prices.low, outcome.prices.high)


def test_equal_orders_share_the_margin_pro_rata(network: Network) -> None:
    book = OrderBook.of([9, 9, 9, 10], 1, [0.4, 0.4, 0.4, 0.9], [10.0, 20.0, 30.0, 1.0])
    outcome = clear(network, book, 0.2, root_limit_kw=31.0)
    share = outcome.award_kw[:3] / book.quantity_kw[:3]
    assert 0.3 < share[0] < 0.6
    assert share == pytest.approx(np.full(3, share[0]), rel=1e-12)
    assert outcome.award_kw[3] == 1.0
    assert outcome.tie[3] == -1
    assert len(set(outcome.tie[:3].tolist())) == 1


def test_a_limit_that_cannot_be_met_gives_way_at_its_price(network: Network) -> None:
    """Price-takers are never shed: voltage sags, the price says what it is worth, and it is finite."""
    book = OrderBook.concat(OrderBook.of([12], 1, np.nan, [60.0]), OrderBook.of([9], 1, 0.5, [5.0]))
    outcome = clear(network, book, 0.3, v_min=0.95)
    assert outcome.status == ClearingStatus.RELAXED
    assert outcome.award_kw.tolist() == [60.0, 0.0]
    names = {limit.name for limit in outcome.relaxations}
    assert "voltage of node 12 (lowest)" in names
    worst = max(outcome.relaxations, key=lambda limit: limit.excess)
    assert worst.excess == pytest.approx(0.95 - np.abs(outcome.flow.voltage).min(), abs=1e-9)
    assert 0.3 < outcome.prices.energy[12] < 0.3 + 10 * Parameters().penalty_price
    assert outcome.evidence.max_violation_pu <= 1e-7


def test_a_small_excess_is_priced_on_the_first_step(network: Network) -> None:
    taker = OrderBook.of([9], 1, np.nan, [20.0])
    loss = clear(network, taker, 0.3).flow.losses_kw
    slight = clear(network, taker, 0.3, root_limit_kw=(20.0 + loss) / 1.005)
    gross = clear(network, taker, 0.3, root_limit_kw=10.0)
    rules = Parameters()
    assert slight.limits[0].dual == pytest.approx(0.3 + rules.penalty_margin_price)
    assert gross.limits[0].dual == pytest.approx(0.3 + rules.penalty_price)
    assert gross.limits[0].kind == LimitType.ROOT_IMPORT
    assert gross.relaxations[0].excess == pytest.approx(gross.flow.root_kw - 10.0)


def test_demand_beyond_the_network_is_shed_at_a_price(network: Network) -> None:
    outcome = clear(network, OrderBook.of([12], 1, np.nan, [1e5]), 0.3)
    assert outcome.status == ClearingStatus.RELAXED
    short = outcome.relaxations[-1]
    assert short.name == "demand at node 12"
    assert 0 < outcome.award_kw[0] < 1e5
    assert short.excess + outcome.award_kw[0] == pytest.approx(1e5)
    # Who is shed in part is indifferent: the price there is what shedding costs.
    assert outcome.prices.energy[12] == pytest.approx(2 * (10 + 0.3), rel=1e-6)
    assert outcome.prices.energy.max() == outcome.prices.energy[12]
    assert outcome.flow.mismatch_pu <= 1e-9
    assert outcome.starts is not None


def test_supply_beside_what_is_shed_is_used_first(network: Network) -> None:
    """A dear seller at the node serves there; only what is left is shed, and only there."""
    firm = OrderBook.of([12, 3], 1, np.nan, [1e5, 2.0])
    alone = clear(network, firm, 0.3)
    seller = OrderBook.of([12], -1, 4.0, [5e4])
    outcome = clear(network, OrderBook.concat(firm, seller), 0.3)
    assert outcome.status == ClearingStatus.RELAXED
    assert outcome.award_kw[2] == pytest.approx(5e4)
    assert outcome.award_kw[0] == pytest.approx(alone.award_kw[0] + 5e4, rel=1e-6)
    assert outcome.award_kw[1] == 2.0


def test_a_search_cut_short_falls_back_and_says_so(network: Network) -> None:
    book = random_book(3)
    outcome = clear(network, book, 0.25, v_min=0.985, parameters=Parameters(iterations_max=1, kkt_max=1e-15))
    assert outcome.status == ClearingStatus.FALLBACK
    assert "not optimal after" in outcome.reason
    assert (outcome.prices.energy == 0.25).all()
    assert outcome.award_kw[book.price_taker] == pytest.approx(book.quantity_kw[book.price_taker])


@pytest.mark.parametrize(
    "book",
    [
        OrderBook.empty(),
        OrderBook.of([3], 1, 0.5, [0.0]),
        OrderBook.of([3], 1, np.nan, [2.0]),
        OrderBook.of([3], -1, 0.9, [2.0]),
        OrderBook.of([0, 0], [1, -1], [0.5, 0.1], [2.0, 7.0]),
    ],
    ids=["empty", "zero quantity", "must-serve only", "nobody buys", "at the root"],
)
def test_thin_markets_clear(network: Network, book: OrderBook) -> None:
    outcome = clear(network, book, 0.3)
    assert outcome.status == ClearingStatus.OPTIMAL
    assert np.isfinite(outcome.prices.energy).all()
    assert outcome.prices.energy[0] == pytest.approx(0.3)


def test_orders_at_the_root_trade_at_its_price(network: Network) -> None:
    outcome = clear(network, OrderBook.of([0, 0], [1, -1], [0.5, 0.1], [2.0, 7.0]), 0.3)
    assert outcome.award_kw.tolist() == [2.0, 7.0]
    assert outcome.flow.root_kw == pytest.approx(-5.0)
    assert outcome.welfare == pytest.approx(0.5 * 2 - 0.1 * 7 + 0.3 * 5)


def test_a_wash_trade_at_one_node_pays_nothing(network: Network) -> None:
    """Buying from oneself moves no price but the bids' own, and no money."""
    base = random_book(21)
    wash = OrderBook.of([7, 7], [1, -1], [0.9, 0.05], [2.0, 2.0])
    one = clear(network, base, 0.25, v_min=0.98)
    two = clear(network, OrderBook.concat(base, wash), 0.25, v_min=0.98)
    assert two.award_kw[-2:] == pytest.approx([2.0, 2.0])
    assert two.prices.energy == pytest.approx(one.prices.energy, abs=1e-6)
    assert two.rent == pytest.approx(one.rent, abs=1e-5)


def test_reactive_power_is_paid_for_where_it_holds_the_voltage(network: Network) -> None:
    load = OrderBook.of([12], 1, 0.8, [45.0])
    helper = OrderBook.of([12], Side.SELL, 0.01, [20.0], product=Product.REACTIVE)
    alone = clear(network, load, 0.3, v_min=0.97)
    helped = clear(network, OrderBook.concat(load, helper), 0.3, v_min=0.97)
    assert helped.award_kw[0] > alone.award_kw[0]
    assert helped.award_kw[1] > 0
    assert helped.prices.reactive[12] >= 0.01 - 1e-7


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"root_price": np.nan}, "root_price"),
        ({"root_limit_kw": -1.0}, "root limit"),
        ({"v_min": 1.2}, "v_min below v_max"),
        ({"v_max": np.nan}, "v_min below v_max"),
        ({"fixed_kva": np.zeros(3, dtype=complex)}, "inflexible demand"),
        ({"book": OrderBook.of([99], 1, 0.3, [1.0])}, "node 99"),
    ],
)
def test_input_that_makes_no_sense_is_refused(network: Network, change: dict[str, object], match: str) -> None:
    given = {"book": OrderBook.empty(), "root_price": 0.3, **change}
    with pytest.raises(InputError, match=match):
        clear(network, **given)  # type: ignore[arg-type]


def crowded(tree: Callable[..., Network]) -> tuple[Network, OrderBook]:
    rng = np.random.default_rng(2)
    size = 300
    parent = [max(0, k - int(rng.integers(1, 4))) if k % 40 else 0 for k in range(size)]
    network = tree(parent, (0.3 + 0.1j) * rng.uniform(0.005, 0.02, size), base_kva=1000.0)
    side = np.where(rng.random(size) < 0.7, 1, -1)
    price = np.where(side > 0, rng.uniform(0.2, 0.7, size), rng.uniform(0.0, 0.2, size))
    return network, OrderBook.of(np.arange(1, size + 1), side, price, rng.uniform(0.5, 2.0, size), kvar_per_kw=0.2)


def test_many_customers_take_the_low_rank_road_to_the_same_place(
    tree: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curvature changes the speed of the search, never where it ends."""
    network, book = crowded(tree)
    rough: Clearing = clear(network, book, 0.3, v_min=0.97)
    monkeypatch.setattr("tellegen.market.curvature.EXACT_CHANNELS_MAX", 10_000)
    exact = clear(network, book, 0.3, v_min=0.97)
    assert rough.status == exact.status == ClearingStatus.OPTIMAL
    assert rough.limits
    assert rough.prices.energy == pytest.approx(exact.prices.energy, abs=2e-6)
