"""Prices lie within cap and floor because nobody's paper does, in gates and in price runs, whatever is claimed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tellegen.grid import Engine
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.market import OrderBook, Parameters, clear
from tellegen.market.facts import CARRIED
from tellegen.market.limits import LimitType
from tellegen.market.outcome import BindingLimit
from tellegen.market.paper import PaperTaken
from tellegen.market.steps import Scenario
from tellegen.operations.administrative import administrative_prices
from tellegen.operations.gate import Cleared, Delivered, GateTask, Period, Wires, clear_feeder
from tellegen.operations.giving_way import gave_way
from tellegen.operations.price_run import MeteredPower
from tellegen.records import Account, ClearingStatus, Orders, Product, Relaxations
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.rules.calendar import TimetableParameters
from tellegen.rules.price_run import PriceRun
from tellegen.settlement import IntervalFacts, settle_intervals
from tellegen.settlement.day_close import share_pool
from tellegen.simulation.workload import ROOT_PRICE, Binding, limits_that_bind, market_books

FIRST, CUSTOMERS = 4_925_928, 12
ROOT = round(ROOT_PRICE * 1e6)
CAP, FLOOR = 5_000_000, -1_000_000
BOOKS = 12


@pytest.fixture(scope="module")
def street() -> tuple[Wires, np.ndarray]:
    """A feeder whose limits bind on an ordinary evening, and where its customers hang."""
    feeder = synthetic_feeder(CUSTOMERS, seed=4)
    book = market_books(feeder, 7, intervals=1)[0].book
    limited = limits_that_bind(feeder.network, book, Binding.LOWEST_VOLTAGE)
    low = np.full(len(feeder.network.nodes), float(np.max(limited.limits["v_min"])))
    return Wires(replace(feeder.network, v_min=low, v_max=np.full(low.size, 1.02))), feeder.customer_node


def orders_at_random(rng: np.random.Generator, node: np.ndarray) -> Orders:
    """Two orders of each home, some of them of hundreds of kW, some at the very cap or floor."""
    rows = np.zeros(2 * node.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"] = np.repeat(np.arange(1, node.size + 1), 2), np.repeat(node, 2)
    rows["product"], rows["side"] = Product.ENERGY, rng.choice([-1, 1], rows.size)
    rows["price_taker"] = rng.random(rows.size) < 0.3
    rows["price_micros"] = rng.choice([CAP, FLOOR, 80_000, 150_000, 400_000], rows.size)
    rows["price_micros"][rows["price_taker"] == 1] = 0
    rows["quantity_w"] = np.exp(rng.uniform(np.log(500), np.log(300_000), rows.size)).astype(np.int64)
    return Orders.from_rows(rows)


def cleared(street: tuple[Wires, np.ndarray], market: str, orders: Orders, delivered: Delivered | None) -> Cleared:
    wires, node = street
    customer = np.arange(1, node.size + 1)
    task = GateTask(
        feeder="F1",
        market=market,
        periods=(Period(FIRST, 1, ROOT, orders, customer, node, delivered),),
        network="street",
        parameters=Parameters(price_cap=CAP / 1e6, price_floor=FLOOR / 1e6),
        customer=customer,
        carry=np.zeros((node.size, CARRIED), dtype=np.int64),
        price_run=PriceRun(),
    )
    return clear_feeder(task, wires)[0]


@pytest.mark.parametrize("seed", range(BOOKS))
def test_prices_lie_within_cap_and_floor(street: tuple[Wires, np.ndarray], seed: int) -> None:
    rng, (_, node) = np.random.default_rng(seed), street
    orders = orders_at_random(rng, node)
    gate = cleared(street, REAL_TIME, orders, None)
    fuse = np.full(node.size, 400_000)
    metered = MeteredPower(
        customer=np.arange(1, node.size + 1),
        node=node,
        net_w=rng.integers(-30_000, 30_000, node.size),
        net_var=rng.integers(-3_000, 3_000, node.size),
        missing=rng.random(node.size) < 0.1,
        import_w=fuse,
        export_w=fuse,
    )
    run = cleared(street, PRICE_RUN, orders, Delivered(gate.awards.by_order(len(orders)), gate.prices, metered))
    for each in (gate, run):
        assert int(each.clearing.status[0]) != ClearingStatus.FALLBACK
        price = each.prices.energy[node]
        assert FLOOR <= int(price.min()) <= int(price.max()) <= CAP


def test_paper_that_is_taken_makes_a_clearing_relaxed(street: tuple[Wires, np.ndarray]) -> None:
    """All homes draw far more than the lowest voltage allows, and nobody sells."""
    _, node = street
    rows = np.zeros(node.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["side"] = np.arange(1, node.size + 1), node, 1
    rows["price_taker"], rows["quantity_w"] = 1, 25_000
    gate = cleared(street, REAL_TIME, Orders.from_rows(rows), None)
    assert int(gate.clearing.status[0]) == ClearingStatus.RELAXED
    assert int(gate.prices.energy[node].max()) <= CAP
    assert set(gate.awards.quantity_mw.tolist()) == {25_000_000}, "price-takers are served; paper is nobody's award"
    assert len(gate.schedules) == node.size
    # what it stood for is evidence: how much, at what prices; it is the root's energy, and the difference rent
    paper, price = paper_of(gate), gate.prices.energy[node]
    assert paper.paper_sold_w[0] > 0, "it sells where homes draw too much"
    assert paper.paper_bought_w[0] == 0
    assert price.min() <= paper.lowest_micros[0] <= paper.highest_micros[0] == price.max()
    assert int(gate.clearing.rent_nanos[0]) >= uncovered(paper) > 0


def paper_of(cleared: Cleared) -> Relaxations:
    """The row of all paper that was taken on the feeder: there is one."""
    evidence = cleared.found.gave_way
    paper = evidence.take(evidence.limit == b"paper")
    assert len(paper) == 1
    return paper


def uncovered(paper: Relaxations) -> int:
    """The least that buyers of paper paid beyond the root's price in an interval, nano-currency."""
    return int(paper.paper_sold_w[0] * (paper.lowest_micros[0] - ROOT)) // 12


def test_what_gave_way_tells_of_no_home_how_much_it_was(street: tuple[Wires, np.ndarray]) -> None:
    """Paper at a node is what its home drew too much: whoever reads the record learns what all did together."""
    wires, node = street
    book = OrderBook.from_orders(orders_at_random(np.random.default_rng(1), node))
    outcome = clear(wires.at(np.zeros(0, dtype=np.int64), Engine.SUPERLU).network, book, ROOT_PRICE)

    def told(kw: list[float]) -> Relaxations:
        short = [
            BindingLimit(f"demand at node {n}", LimitType.SERVED, n, Scenario.DISPATCH, 1.0, "kW", excess, price=4.0)
            for n, excess in zip(node, kw, strict=False)
        ]
        return gave_way(replace(outcome, relaxations=tuple(short)), PaperTaken(node[: len(kw)], np.array(kw)))

    evidence = told([-2.0, -3.0, 0.5])
    assert evidence.equals(told([-3.0, -2.0, 0.5]))
    assert evidence.limit.tolist() == [b"demand and supply at nodes", b"paper"]
    assert evidence.paper_sold_w.tolist() == [0, 5_000]
    assert evidence.paper_bought_w.tolist() == [0, 500]


def test_a_feeder_without_customers_has_its_run_where_reserve_is_required(street: tuple[Wires, np.ndarray]) -> None:
    """The operator's requirement is the gate's; the run has nobody to ask."""
    rows = np.zeros(1, dtype=Orders.row_dtype())
    rows["product"], rows["side"], rows["quantity_w"] = Product.RESERVE_UP, 1, 5_000
    rows["price_micros"] = 100_000
    nobody = np.zeros(0, dtype=np.int64)
    empty = street[0], nobody
    gate = cleared(empty, REAL_TIME, Orders.from_rows(rows), None)
    metered = MeteredPower(nobody, nobody, nobody, nobody, nobody.astype(bool), nobody, nobody)
    run = cleared(
        empty, PRICE_RUN, Orders.from_rows(rows), Delivered(np.zeros(1, dtype=np.int64), gate.prices, metered)
    )
    assert int(run.clearing.status[0]) == ClearingStatus.OPTIMAL
    assert run.prices.reserve_up.tolist() == gate.prices.reserve_up.tolist()


def test_what_paper_leaves_uncovered_is_rent_and_shared_by_frozen_keys(
    street: tuple[Wires, np.ndarray],
) -> None:
    """Homes pay scarcity prices for energy that the root sold at its own: the difference is nobody's, and goes back."""
    _, node = street
    rows = np.zeros(node.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["side"] = np.arange(1, node.size + 1), node, 1
    rows["price_taker"], rows["quantity_w"] = 1, 24_000
    gate = cleared(street, REAL_TIME, Orders.from_rows(rows), None)
    nothing, whole = np.zeros((1, node.size), dtype=np.int64), np.full((1, node.size), 2_000)
    losses = int(gate.clearing.losses_wh[0])
    none = np.zeros(1, dtype=np.int64)
    postings = settle_intervals(
        IntervalFacts(
            interval=np.array([FIRST]),
            customer=np.arange(1, node.size + 1),
            node=node,
            forward_wh=nothing,
            real_time_wh=whole,
            forward_price=nothing,
            real_time_price=gate.prices.energy[node][None],
            reactive_price=nothing,
            import_wh=whole,
            export_wh=nothing,
            reactive_varh=nothing,
            counted_feed_in_wh=nothing - 1,
            root_forward_wh=none,
            losses_wh=np.array([losses]),
            substation_wh=np.array([int(whole.sum()) + losses]),
            wholesale_forward_price=none,
            wholesale_real_time_price=np.array([ROOT]),
        ),
        Rulebook.load().versions[0].settlement,
    )
    assert int(postings.amount.sum()) == 0
    rent = -int(postings.amount[postings.account == Account.RENT].sum())
    assert rent >= uncovered(paper_of(gate)) > 0
    shares = share_pool(-rent, "rent", np.arange(1, node.size + 1), np.arange(1, node.size + 1), FIRST)
    assert int(shares.sum()) == -rent
    assert np.abs(np.diff(np.diff(shares))).max() <= 2, "in proportion to keys that the day before has frozen"


def test_an_administrative_price_lies_within_cap_and_floor_by_rule(street: tuple[Wires, np.ndarray]) -> None:
    """The last difference from the root's price may have been of scarcity; the record says what it came to."""
    _, node = street
    rows = np.zeros(node.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["side"] = np.arange(1, node.size + 1), node, 1
    rows["price_taker"], rows["quantity_w"] = 1, 25_000
    last = cleared(street, REAL_TIME, Orders.from_rows(rows), None).prices
    for root in (CAP - 100_000, ROOT):
        stands = administrative_prices(TimetableParameters(), len(last), root, (last, ROOT), None, (FLOOR, CAP))
        assert FLOOR <= int(stands.energy.min()) <= int(stands.energy.max()) <= CAP
        beyond = last.energy - ROOT + root
        assert np.maximum(stands.high, stands.energy).tolist() == np.maximum(beyond, stands.energy).tolist()
        assert (stands.root + stands.losses).tolist() == stands.energy.tolist()


@pytest.mark.parametrize("root", [6_000_000, -1_500_000])
def test_a_root_price_beyond_the_bounds_enters_at_the_bound(street: tuple[Wires, np.ndarray], root: int) -> None:
    """Else paper would trade with the root, and its losses would be somebody's."""
    wires, node = street
    rows = np.zeros(node.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["side"] = np.arange(1, node.size + 1), node, 1
    rows["price_taker"], rows["quantity_w"] = 1, 1_000
    customer = np.arange(1, node.size + 1)
    task = GateTask(
        feeder="F1",
        market=REAL_TIME,
        periods=(Period(FIRST, 1, root, Orders.from_rows(rows), customer, node),),
        network="street",
        parameters=Parameters(price_cap=CAP / 1e6, price_floor=FLOOR / 1e6),
        customer=customer,
        carry=np.zeros((node.size, CARRIED), dtype=np.int64),
        price_run=PriceRun(),
    )
    (done,) = clear_feeder(task, wires)
    assert FLOOR <= int(done.prices.energy[node].min()) <= int(done.prices.energy[node].max()) <= CAP
    assert int(done.clearing.root_price[0]) == root
    assert int(done.clearing.losses_wh[0]) < 100
