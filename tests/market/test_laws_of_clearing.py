"""Laws that every clearing keeps, on balanced and three-phase streets with random books.

Nothing here knows how the engine works: welfare, prices and awards of markets that must be alike are compared, an
independent power flow replays what was sold, and each order is asked whether it would rather have traded otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.grid import Connector, Network, solve_powerflow
from tellegen.grid.connections import Connections, wire
from tellegen.grid.elimination import Engine
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import Branches, FixedLoads, LimitKind
from tellegen.grid.powerflow import factorise
from tellegen.market import Agreements, Clearing, LimitType, OrderBook, Parameters, clear, start_after
from tellegen.records import ClearingStatus, Product, Side

ROOT, ROOT_REACTIVE = 0.25, 0.005
PARENT = [0, 1, 2, 3, 4, 5, 6, 7, 2, 4, 6, 8]
OHM = (0.32 + 0.08j) * np.array([0.1, 0.05, 0.06, 0.05, 0.07, 0.05, 0.04, 0.06, 0.02, 0.03, 0.02, 0.03])
MUTUAL = 0.3
SHIFT = np.exp(-2j * np.pi / 3 * np.arange(3))
PRICE = 2e-6
"""Two accepted optima may each be 1e-6 from stationary."""
UP, DOWN = Product.RESERVE_UP, Product.RESERVE_DOWN
ROWS = ("node", "product", "side", "price", "slope", "quantity_kw", "kvar_per_kw", "participant")
seeds = st.integers(0, 10**6)


def feeder(
    phases: int = 1,
    *,
    parent: list[int] = PARENT,
    ohm: np.ndarray = OHM,
    mutual: float = MUTUAL,
    rating_kva: float = np.inf,
    kind: LimitKind = LimitKind.CURRENT,
    base_kva: float = 100.0,
    source: np.ndarray | None = None,
) -> Network:
    """A tree of one node per bus, or of three: node ``3 k + p`` is phase p + 1 of bus k; bus 0 is the root.

    Three phases have the positive-sequence impedance `ohm` and couple by `mutual` of it; ratings are of the whole line.
    """
    size, kv = len(parent) + 1, 0.4 if phases == 1 else 0.4 / np.sqrt(3)
    coupling = np.identity(phases) + (mutual if phases > 1 else 0.0)
    blocks = [kv**2 * 1e3 / base_kva * np.linalg.inv(z * coupling) for z in ohm]
    child, above = np.arange(1, size), np.asarray(parent)
    ends = sp.csr_matrix(
        (np.repeat([1.0, -1.0], size - 1), (np.tile(child - 1, 2), np.concatenate([above, child]))),
        shape=(size - 1, size),
    )
    ends = sp.csr_matrix(sp.kron(ends, np.identity(phases)))
    flow = sp.csr_matrix(sp.block_diag(blocks) @ ends)
    at = (np.concatenate([above, child])[:, None] * phases + np.arange(phases)).ravel()
    return Network(
        name="street",
        nodes=tuple(str(k // phases) for k in range(size * phases)),
        phase=np.tile(np.arange(1, 4), size) if phases == 3 else np.zeros(size, dtype=np.int64),
        base_kva=base_kva,
        base_kv=np.full(size * phases, kv),
        admittance=sp.csr_matrix(ends.T @ flow),
        source=np.arange(phases),
        source_voltage=(np.ones(1) + 0j if phases == 1 else SHIFT) if source is None else source,
        v_min=np.full(size * phases, 0.9),
        v_max=np.full(size * phases, 1.1),
        branches=Branches(
            element=tuple(f"line {k}" for k in np.repeat(child, phases)) * 2,
            node=at,
            current_rows=sp.csr_matrix(sp.vstack([flow, -flow])),
            rating_pu=np.full(at.size, rating_kva / phases / base_kva),
            kind=np.full(at.size, int(kind)),
        ),
    )


@cache
def street(phases: int, limited: str = "") -> Network:
    kind = LimitKind.APPARENT_POWER if limited == "S" else LimitKind.CURRENT
    return feeder(phases, rating_kva=18.0 if limited else np.inf, kind=kind)


@cache
def table(phases: int) -> tuple[np.ndarray, Connections]:
    """Places where people live: every node, or a phase, two, three, between two, delta, at some buses."""
    if phases == 1:
        return np.arange(1, 13), Connections.none()
    rng, connector = np.random.default_rng(5), Connector(street(3))
    kinds = ("1", "2", "3", "1-2", "2-3", "1-3", "1.2", "2.3", "1.3", "", "1-2-3")
    found = [connector.place(str(rng.integers(1, 13)), kinds[k % len(kinds)]) for k in range(22)]
    return np.array(found), connector.table()


def market(seed: int, phases: int = 1, size: int = 40, scale: float = 1.0, plain: bool = False) -> OrderBook:
    """Buyers and sellers, steps and slopes, ties in every second book, price-takers, reactive orders."""
    rng, (places, connections) = np.random.default_rng(seed), table(phases)
    product = np.where(rng.random(size) < 0.15, int(Product.REACTIVE), int(Product.ENERGY))
    side, energy = np.where(rng.random(size) < 0.6, 1, -1), product == Product.ENERGY
    buys, sells = rng.uniform(0.15, 0.7, size), rng.uniform(-0.2, 0.35, size)
    if seed % 2:
        buys, sells = rng.choice([0.2, 0.3, 0.4, 0.6], size), rng.choice([-0.2, 0.0, 0.1, 0.3], size)
    price = np.where(energy, np.where(side > 0, buys, sells), rng.choice([0.0, 0.01], size))
    taker, sloped = rng.random(size) < 0.15, rng.random(size) < 0.2
    kw = (1.0 if phases == 1 else 0.4) * scale * rng.uniform(0, 4, size) * (rng.random(size) > 0.05)
    return OrderBook.of(
        rng.choice(places, size), side, np.where(taker & (not plain), np.nan, price), kw,
        slope=np.where(sloped & (not plain), 0.05 / scale, 0.0),
        kvar_per_kw=np.where(energy & (rng.random(size) < 0.4), rng.uniform(-0.5, 0.5, size), 0.0),
        product=product, connections=connections,
    )  # fmt: skip


def limits(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed + 1000)
    chosen = {"v_min": float(rng.choice([0.9, 0.96, 0.98])), "v_max": float(rng.choice([1.01, 1.1]))}
    if rng.random() < 0.4:
        chosen["root_limit_kw"] = float(rng.choice([5.0, 20.0]))
    return chosen


def on(seed: int, phases: int) -> Callable[..., Clearing]:
    """A market place: network, root prices and limits of a seed; clears books."""
    network = street(phases, ("", "I", "S")[seed % 3])

    def solve(book: OrderBook, **more: Any) -> Clearing:
        return clear(network, book, ROOT, **{"root_reactive_price": ROOT_REACTIVE, **limits(seed), **more})

    return solve


def chosen(book: OrderBook, rows: np.ndarray) -> OrderBook:
    return replace(book, **{name: getattr(book, name)[rows] for name in ROWS})


def paid(book: OrderBook, outcome: Clearing) -> float:
    return float((book.side * outcome.award_kw * unit_price(book, outcome)).sum())


def unit_price(book: OrderBook, outcome: Clearing) -> np.ndarray:
    coupled = np.where(book.product == Product.ENERGY, book.kvar_per_kw * outcome.prices.reactive[book.node], 0.0)
    return outcome.prices.of_orders(book) + coupled


def is_unique(outcome: Clearing) -> bool:
    return np.array_equal(outcome.prices.low, outcome.prices.high)


def assert_alike(one: Clearing, two: Clearing, book: OrderBook, *, money: float = 1.0) -> None:
    """Same status and welfare; same unique prices, where somebody trades; `money` coins of `two` are one of `one`."""
    assert two.status == one.status, two.reason
    assert two.welfare / money == pytest.approx(one.welfare, rel=1e-8, abs=1e-8)
    if is_unique(one) and is_unique(two):
        size = max(1.0, float(np.abs(one.prices.energy).max()))
        at = np.unique(book.node)
        assert two.prices.energy[at] / money == pytest.approx(one.prices.energy[at], abs=PRICE * size)


# -- what everybody can check of one clearing ---------------------------------------------------------------------


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


# -- markets that must be alike -----------------------------------------------------------------------------------


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_order_of_the_rows_means_nothing(seed: int, phases: int) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    order = np.random.default_rng(seed).permutation(len(book))
    one, two = solve(book), solve(chosen(book, order))
    assert_alike(one, two, book)
    assert two.award_kw == pytest.approx(one.award_kw[order], abs=1e-6)


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_splitting_an_order_in_two_changes_nothing(seed: int, phases: int) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    part = np.where(book.slope > 0, 1.0, np.random.default_rng(seed).random(len(book)))
    rest = replace(book, quantity_kw=book.quantity_kw * (1 - part), slope=np.zeros(len(book)))
    one = solve(book)
    two = solve(OrderBook.concat(replace(book, quantity_kw=book.quantity_kw * part), rest))
    assert_alike(one, two, book)
    assert two.award_kw[: len(book)] + two.award_kw[len(book) :] == pytest.approx(one.award_kw, abs=1e-6)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_equal_orders_share_in_proportion_wherever_they_stand(seed: int) -> None:
    book, rng = market(seed, plain=True), np.random.default_rng(seed)
    book = replace(book, price=np.round(book.price, 1), kvar_per_kw=np.zeros(len(book)))
    outcome = on(seed, 1)(chosen(book, rng.permutation(len(book))))
    book = chosen(book, np.random.default_rng(seed).permutation(len(book)))
    live = book.quantity_kw > 0
    for tie in np.unique(outcome.tie[outcome.tie >= 0]):
        members = (outcome.tie == tie) & live
        share = outcome.award_kw[members] / book.quantity_kw[members]
        assert share == pytest.approx(np.full(share.size, share[0]), rel=1e-12, abs=1e-15)


@given(seeds, st.sampled_from([1, 3]), st.sampled_from([1e-3, 0.1, 1e3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_coin_means_nothing(seed: int, phases: int, money: float) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    rules = Parameters(
        price_cap=5 * money, price_floor=-money, penalty_margin_price=5 * money, penalty_price=10 * money,
        curtailment_price=2 * money, kkt_max=1e-6 * money,
    )  # fmt: skip
    network = street(phases, ("", "I", "S")[seed % 3])
    coins = replace(book, price=money * book.price, slope=money * book.slope)
    two = clear(network, coins, ROOT * money, root_reactive_price=ROOT_REACTIVE * money, parameters=rules,
                **limits(seed))  # type: ignore[arg-type]  # fmt: skip
    assert_alike(solve(book), two, book, money=money)


@given(seeds, st.sampled_from([1, 3]), st.sampled_from([1e-9, 1e-3, 1e3, 1e9]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_watt_and_a_gigawatt_are_cleared_alike_on_wires_of_their_size(seed: int, phases: int, size: float) -> None:
    book, bounds = market(seed, phases), limits(seed)
    one = clear(street(phases), book, ROOT, **bounds)  # type: ignore[arg-type]
    bounds = {name: value * size if name == "root_limit_kw" else value for name, value in bounds.items()}
    grown = replace(book, quantity_kw=size * book.quantity_kw, slope=book.slope / size)
    two = clear(feeder(phases, ohm=OHM / size, base_kva=100 * size), grown, ROOT, **bounds)  # type: ignore[arg-type]
    assert two.status == one.status, two.reason
    assert two.welfare / size == pytest.approx(one.welfare, rel=1e-7, abs=1e-7)
    if is_unique(one):
        assert two.prices.energy == pytest.approx(one.prices.energy, rel=1e-5, abs=PRICE)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_a_joint_in_a_line_and_an_unloaded_spur_change_nothing(seed: int) -> None:
    """Line 4 is cut in two by bus 13; bus 14 hangs on bus 7 with nobody there."""
    rng, at = np.random.default_rng(seed), 3
    share = rng.uniform(0.1, 0.9)
    ohm = np.concatenate([OHM, [share * OHM[at], 0.01 + 0.02j]])
    ohm[at] *= 1 - share
    parent = [*PARENT, PARENT[at], 7]
    parent[at] = 13
    rating = 18.0 if seed % 2 else np.inf
    book, bounds = market(seed), limits(seed)
    one = clear(feeder(rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    two = clear(feeder(parent=parent, ohm=ohm, rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    assert_alike(one, two, book)
    assert two.award_kw == pytest.approx(one.award_kw, abs=1e-5)
    assert two.prices.energy[14] == pytest.approx(two.prices.energy[7], abs=1e-9)


@given(seeds)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_switches_of_a_microohm_change_nothing_to_speak_of(seed: int) -> None:
    closed = np.random.default_rng(seed).random(OHM.size) < 0.3
    one, two = (feeder(ohm=np.where(closed, ohm, OHM), rating_kva=18.0) for ohm in (1e-6, 1e-9))
    book, bounds = market(seed), limits(seed)
    outcomes = [clear(network, book, ROOT, **bounds) for network in (one, two)]  # type: ignore[arg-type]
    assert outcomes[1].status == outcomes[0].status
    # A microohm in series moves voltages by 1e-7 pu, and welfare by what such a voltage is worth.
    assert outcomes[1].welfare == pytest.approx(outcomes[0].welfare, abs=1e-4)


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_warm_start_from_any_market_changes_nothing_but_time(seed: int, phases: int) -> None:
    """Also from one with other people, four times the quantities, a negative root price and narrow limits."""
    book, solve = market(seed, phases), on(seed, phases)
    far = market(seed + 1, phases, size=17, scale=4.0, plain=True)
    before = solve(far, v_min=0.99, v_max=1.003)
    assert before.status != ClearingStatus.FALLBACK, before.reason
    cold = solve(book)
    for state in (start_after(before, far), start_after(cold, book)):
        assert_alike(cold, solve(book, start=state), book)


# -- comparisons --------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_another_participant_never_lowers_welfare(seed: int, phases: int) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    one, two = solve(book), solve(OrderBook.concat(book, market(seed + 7, phases, size=3, plain=True)))
    if one.status == two.status == ClearingStatus.OPTIMAL:
        assert two.welfare >= one.welfare - 1e-8 * max(1.0, abs(one.welfare))


@given(seeds, st.sampled_from([1, 3]), st.sampled_from([0.01, 0.1, 0.4]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_better_bid_never_gets_less(seed: int, phases: int, better: float) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    row = int(np.random.default_rng(seed).choice(np.flatnonzero(~book.price_taker)))
    price = book.price.copy()
    price[row] += book.side[row] * better
    one, two = solve(book), solve(replace(book, price=price))
    assert two.award_kw[row] >= one.award_kw[row] - 1e-6


# -- prices are derivatives ---------------------------------------------------------------------------------------

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


# -- three phases -------------------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_three_like_phases_without_coupling_are_the_balanced_street(seed: int) -> None:
    book, bounds, rating = market(seed), limits(seed), 12.0 if seed % 2 else np.inf
    one = clear(feeder(rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    thirds = [
        replace(book, node=3 * book.node + p, quantity_kw=book.quantity_kw / 3, slope=3 * book.slope) for p in range(3)
    ]
    network = feeder(3, mutual=0.0, rating_kva=rating)
    two = clear(network, OrderBook.concat(*thirds), ROOT, **bounds)  # type: ignore[arg-type]
    assert two.status == one.status, two.reason
    assert two.welfare == pytest.approx(one.welfare, rel=1e-8, abs=1e-8)
    assert two.award_kw.reshape(3, -1).sum(axis=0) == pytest.approx(one.award_kw, abs=1e-5)
    if is_unique(one) and is_unique(two):
        per_phase = two.prices.energy.reshape(-1, 3)
        assert per_phase == pytest.approx(np.repeat(one.prices.energy[:, None], 3, axis=1), abs=PRICE)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_a_delta_customer_is_three_customers_between_phases(seed: int) -> None:
    connector, rng = Connector(street(3)), np.random.default_rng(seed)
    delta, pairs = connector.place("9", "1-2-3"), [connector.place("9", name) for name in ("1-2", "2-3", "1-3")]
    connections = connector.table()
    rest = OrderBook.of(
        rng.integers(3, 39, 20), 1, rng.uniform(0.1, 0.6, 20), rng.uniform(0, 3, 20), connections=connections
    )
    kw = rng.uniform(1, 12)
    solve = on(seed, 3)
    one = solve(
        OrderBook.concat(rest, OrderBook.of([delta], 1, np.nan, [kw], kvar_per_kw=0.3, connections=connections))
    )
    many = OrderBook.concat(rest, OrderBook.of(pairs, 1, np.nan, kw / 3, kvar_per_kw=0.3, connections=connections))
    assert_alike(one, solve(many), many)
    assert one.prices.energy[delta] == pytest.approx(one.prices.energy[pairs].mean(), rel=1e-12)


@given(seeds, st.permutations([0, 1, 2]))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_the_names_of_the_phases_mean_nothing(seed: int, order: list[int]) -> None:
    """What stood on phase p stands on phase ``order[p]``, the source's voltages too."""
    place = 3 * (np.arange(39) // 3) + np.array(order)[np.arange(39) % 3]
    source = np.empty(3, dtype=complex)
    source[order] = SHIFT
    book, bounds, rating = market(seed, 3), limits(seed), 18.0 if seed % 2 else np.inf
    legs = book.connections
    other = np.where(legs.other < 0, -1, place[legs.other])
    moved = replace(
        book,
        node=np.where(book.node < 39, place[np.minimum(book.node, 38)], book.node),
        connections=replace(legs, node=place[legs.node], other=other),
    )
    one = clear(feeder(3, rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    two = clear(feeder(3, rating_kva=rating, source=source), moved, ROOT, **bounds)  # type: ignore[arg-type]
    assert two.status == one.status, two.reason
    assert two.welfare == pytest.approx(one.welfare, rel=1e-8, abs=1e-8)
    assert two.award_kw == pytest.approx(one.award_kw, abs=1e-5)
    if is_unique(one) and is_unique(two):
        at = np.unique(book.node[book.node < 39])
        assert two.prices.energy[place[at]] == pytest.approx(one.prices.energy[at], abs=PRICE)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_rent_counts_what_the_files_own_loads_draw_at_their_voltage(seed: int) -> None:
    """Constant-impedance loads pay their nodal price for what they draw; with the market's orders that is the rent."""
    rng, network = np.random.default_rng(seed), street(1)
    at, kw = np.array([5, 8, 12]), rng.uniform(0.5, 4, 3)
    one, none = np.ones(3), np.zeros(3)
    law = LoadLaw(one, 2 * one, 2 * one, none, none, none, np.full(3, np.inf))
    loads = FixedLoads(("a", "b", "c"), at, kw, 0.3 * kw, law=law)
    book = market(seed)
    outcome = clear(network, book, ROOT, root_reactive_price=ROOT_REACTIVE, loads=loads, v_min=0.9, v_max=1.1)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason
    drawn = kw * (1 + 0.3j) * np.abs(outcome.flow.voltage[at]) ** 2
    own = outcome.prices.energy[at] @ drawn.real + outcome.prices.reactive[at] @ drawn.imag
    root = ROOT * outcome.flow.root_kw + ROOT_REACTIVE * outcome.flow.root_kvar
    assert outcome.rent == pytest.approx(paid(book, outcome) + own - root, abs=1e-7)


# -- reserves and agreements --------------------------------------------------------------------------------------


def with_reserve(seed: int, phases: int) -> tuple[OrderBook, Agreements]:
    rng, scale = np.random.default_rng(seed), 1.0 if phases == 1 else 0.5
    book = market(seed, phases, size=25, scale=2.0)
    book = replace(book, participant=rng.integers(1, 10, 25))
    parts = [book]
    for product in (UP, DOWN):
        rows = rng.choice(25, 10)
        parts.append(
            OrderBook.of(
                book.node[rows], -1, rng.uniform(0, 0.08, 10), scale * rng.uniform(0, 3, 10), product=product,
                participant=book.participant[rows], connections=book.connections,
            )
        )  # fmt: skip
        kw = [12 * scale * rng.uniform(0.2, 0.8)]
        parts.append(OrderBook.of([0], 1, 3.0, kw, product=product, connections=book.connections))
    who = np.unique(np.stack([book.participant, book.node]), axis=1)[:, ::3]

    def some(low: float, high: float) -> np.ndarray:
        return np.where(rng.random(who.shape[1]) < 0.5, np.inf, rng.uniform(low, high, who.shape[1]))

    agreed = Agreements.of(
        who[0], who[1], import_kw=some(1, 6), export_kw=some(1, 6), firm_import_kw=some(0, 2),
        firm_export_kw=some(0, 2), energy_up_kwh=some(0, 3), energy_down_kwh=some(0, 3),
    )  # fmt: skip
    return OrderBook.concat(*parts), agreed


def call(book: OrderBook, outcome: Clearing, sign: int, product: Product | None) -> np.ndarray:
    """Demand at every place with all reserve of a product called."""
    size = 13 * (3 if len(book.connections) else 1) + len(book.connections)
    power = np.where(book.product == Product.REACTIVE, 1j, 1 + 1j * book.kvar_per_kw)
    moved, demand = np.isin(book.product, (Product.ENERGY, Product.REACTIVE)), np.zeros(size, dtype=complex)
    np.add.at(demand, book.node[moved], (book.side * outcome.award_kw * power)[moved])
    if product is not None:
        sold = (book.product == product) & (book.side < 0)
        np.add.at(demand, book.node[sold], sign * outcome.award_kw[sold])
    return demand


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=14, deadline=None, derandomize=True)
def test_what_is_sold_as_reserve_can_be_called_and_agreements_hold(seed: int, phases: int) -> None:
    (book, agreed), bounds = with_reserve(seed, phases), limits(seed)
    network = street(phases, "I" if seed % 2 else "")
    outcome = clear(network, book, ROOT, root_reactive_price=ROOT_REACTIVE, agreements=agreed, **bounds)  # type: ignore[arg-type]
    bill = paid(book, outcome)
    root = ROOT * outcome.flow.root_kw + ROOT_REACTIVE * outcome.flow.root_kvar
    assert outcome.rent == pytest.approx(bill - root, abs=1e-9 * max(1.0, abs(bill)))
    if outcome.status != ClearingStatus.OPTIMAL:
        return
    wiring, factors = wire(network, network.free, None, book.connections), factorise(network)
    for sign, product in ((0, None), (-1, UP), (1, DOWN)):
        flow = solve_powerflow(network, call(book, outcome, sign, product), wiring=wiring, factors=factors)
        volt = np.abs(flow.voltage[network.free])
        assert volt.min() >= bounds["v_min"] - 2e-7
        assert volt.max() <= bounds["v_max"] + 2e-7
        assert (flow.terminal_pu <= network.branches.rating_pu * (1 + 2e-7)).all()
        assert abs(flow.root_kw) <= bounds.get("root_limit_kw", np.inf) * (1 + 2e-7)
    for product in (UP, DOWN):
        assert (book.side * outcome.award_kw)[book.product == product].sum() <= 1e-6
    for k in range(agreed.participant.size):
        mine = (book.participant == agreed.participant[k]) & (book.node == agreed.place[k])
        energy, up, down = (mine & (book.product == product) for product in (Product.ENERGY, UP, DOWN))
        net = (book.side * outcome.award_kw)[energy].sum()
        u, w = outcome.award_kw[up].sum(), outcome.award_kw[down].sum()
        assert u - net <= agreed.export_kw[k] + 1e-6
        assert net + w <= agreed.import_kw[k] + 1e-6
        assert u - net / 12 <= agreed.energy_up_kwh[k] + 1e-6
        assert net / 12 + w <= agreed.energy_down_kwh[k] + 1e-6


def test_stored_energy_limits_reserve_of_one_who_draws_power_meanwhile() -> None:
    """2 kW drawn for five minutes add 1/6 kWh to the half kWh that stands behind reserve which lasts an hour."""
    draws = OrderBook.of([5], 1, np.nan, [2.0], participant=1)
    offers = OrderBook.of([5, 9], -1, [0.01, 0.02], [2.0, 2.0], product=UP, participant=[1, 2])
    book = OrderBook.concat(draws, offers, OrderBook.of([0], 1, 3.0, [2.0], product=UP))
    outcome = clear(feeder(), book, ROOT, agreements=Agreements.of([1], [5], energy_up_kwh=0.5))
    assert outcome.award_kw[1:3] == pytest.approx([0.5 + 2 / 12, 2 - 0.5 - 2 / 12], abs=1e-6)
    assert outcome.prices.required[0] == pytest.approx(0.02, abs=1e-6)


# -- odd numbers --------------------------------------------------------------------------------------------------


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


# -- both ways of elimination -------------------------------------------------------------------------------------


def test_compiled_sweeps_find_what_superlu_finds() -> None:
    pytest.importorskip("numba", reason="the sweeps are compiled by numba")
    for seed in range(4):
        network = feeder(3, rating_kva=18.0)
        one, two = (
            clear(network, market(seed, 3), ROOT, engine=engine, **limits(seed))  # type: ignore[arg-type]
            for engine in (Engine.SUPERLU, Engine.SWEEPS)
        )
        assert two.status == one.status
        assert two.welfare == pytest.approx(one.welfare, rel=1e-9, abs=1e-9)
        assert two.award_kw == pytest.approx(one.award_kw, abs=1e-6)


# -- laws that the engine breaks today ----------------------------------------------------------------------------


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


def test_a_warm_start_from_any_market_with_reserves_never_ends_worse_than_a_cold_one() -> None:
    network, bounds = street(1, "I"), limits(9)
    (book, agreed), (far, far_agreed) = with_reserve(9, 1), with_reserve(10, 1)
    before = clear(network, far, 0.02, agreements=far_agreed, v_min=0.985, v_max=1.003)
    cold = clear(network, book, ROOT, agreements=agreed, **bounds)  # type: ignore[arg-type]
    start = start_after(before, far, agreements=far_agreed)
    warm = clear(network, book, ROOT, agreements=agreed, start=start, **bounds)  # type: ignore[arg-type]
    assert cold.status != ClearingStatus.FALLBACK, cold.reason
    assert warm.status == cold.status, warm.reason
