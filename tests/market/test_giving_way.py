"""What cannot be served: which limit gives way, how far and at what price, and what the fallback does.

Each limit on both steps of its penalty curve, on a balanced and on a three-phase feeder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tellegen.grid.network import LimitKind, Network
from tellegen.grid.powerflow import solve_powerflow
from tellegen.market import Agreements, BindingLimit, Clearing, LimitType, OrderBook, Parameters, clear
from tellegen.records import ClearingStatus, Product

ROOT, DEMAND_KW = 0.3, 20.0
STEP = {"margin": ROOT + Parameters().penalty_margin_price, "beyond": ROOT + Parameters().penalty_price}
"""Price of a limit per kW of excess on each step of the published curve."""
Build = Callable[..., Network]


@pytest.fixture(scope="module", params=[False, True], ids=["balanced", "three phases"])
def build(request: pytest.FixtureRequest, tree: Build, phases: Build) -> Build:
    """One line to one bus, as a balanced feeder or by phases; the last node is where the demand hangs."""

    def make(**options: object) -> Network:
        network = tree([0], np.array([0.05 + 0.02j]), **options)
        return phases(network) if request.param else network

    return make


def must_serve(network: Network, kw: float = DEMAND_KW) -> OrderBook:
    return OrderBook.of([len(network.nodes) - 1], 1, np.nan, [kw], participant=7)


def only(cleared: Clearing) -> BindingLimit:
    """The limit that gave way, and that nothing else did."""
    assert cleared.status == ClearingStatus.RELAXED, cleared.reason
    (limit,) = cleared.relaxations
    assert limit.excess > 0
    assert cleared.evidence.max_violation_pu <= 1e-7
    assert np.isfinite(cleared.prices.energy).all()
    return limit


def power_flow(network: Network) -> tuple[float, float, float]:
    """Lowest voltage, largest terminal flow in kVA at nominal voltage, and root kW of the demand."""
    demand = np.zeros(len(network.nodes), dtype=complex)
    demand[-1] = DEMAND_KW
    flow = solve_powerflow(network, demand)
    return float(np.abs(flow.voltage).min()), float(flow.terminal_pu.max()) * network.base_kva, flow.root_kw


@pytest.mark.parametrize(("step", "below_pu"), [("margin", 0.0005), ("beyond", 0.02)])
def test_a_voltage_gives_way_at_its_price_per_kw_equivalent(build: Build, step: str, below_pu: float) -> None:
    network = build()
    cleared = clear(network, must_serve(network), ROOT, v_min=power_flow(network)[0] + below_pu)
    limit = only(cleared)
    assert limit.kind == LimitType.VOLTAGE_MIN
    assert limit.unit == "pu"
    assert limit.excess == pytest.approx(below_pu, rel=1e-6)
    assert limit.price == pytest.approx(STEP[step], rel=1e-9)
    # A kW at the node moves the voltage by about the driving-point impedance that the curve is scaled with.
    assert cleared.prices.voltage[-1] == pytest.approx(limit.price, rel=0.25)


@pytest.mark.parametrize(("step", "share"), [("margin", 1.005), ("beyond", 2.0)])
def test_a_rating_gives_way_at_its_price_per_kva(build: Build, step: str, share: float) -> None:
    network = build()
    phases = 1 if network.balanced else 3
    kva = power_flow(network)[1]
    rated = build(rating_kva=np.array([phases * kva / share]), v_min=0.5)
    # Somebody who will not pay for it: where nobody can choose, both ends of the line say that they are hurt.
    wish = OrderBook.of([len(rated.nodes) - 1], 1, 0.01, [1.0])
    limit = only(clear(rated, OrderBook.concat(must_serve(rated), wish), ROOT))
    assert limit.kind == LimitType.RATING
    assert limit.name.startswith("rating of line 1 at node ")
    assert limit.unit == "kVA at nominal voltage"
    assert limit.excess == pytest.approx(kva - kva / share, rel=1e-6)
    assert limit.price == pytest.approx(STEP[step], rel=1e-9)


@pytest.mark.parametrize(("step", "share"), [("margin", 1.005), ("beyond", 2.0)])
@pytest.mark.parametrize("side", [1, -1], ids=["import", "export"])
def test_the_root_gives_way_at_its_price_per_kw(build: Build, step: str, share: float, side: int) -> None:
    network = build(v_min=0.5, v_max=1.5)
    book = OrderBook.of([len(network.nodes) - 1], side, np.nan, [DEMAND_KW])
    free = abs(clear(network, book, ROOT).flow.root_kw)
    limit = only(clear(network, book, ROOT, root_limit_kw=free / share))
    assert limit.kind == (LimitType.ROOT_IMPORT if side > 0 else LimitType.ROOT_EXPORT)
    assert limit.excess == pytest.approx(free - free / share, rel=1e-6)
    assert (limit.price, limit.dual) == (pytest.approx(STEP[step]), pytest.approx(STEP[step]))


@pytest.mark.parametrize(("step", "offered_kw"), [("margin", 9.95), ("beyond", 4.0)])
def test_reserve_that_is_missing_has_a_price_per_kw(build: Build, step: str, offered_kw: float) -> None:
    network = build()
    last = len(network.nodes) - 1
    need = OrderBook.of([last], 1, np.nan, [10.0], product=Product.RESERVE_UP)
    offer = OrderBook.of([last], -1, 0.02, [offered_kw], product=Product.RESERVE_UP, participant=3)
    cleared = clear(network, OrderBook.concat(need, offer), ROOT)
    limit = only(cleared)
    assert limit.kind == LimitType.RESERVE_UP
    assert limit.excess == pytest.approx(10.0 - offered_kw, rel=1e-6)
    assert limit.price == pytest.approx(STEP[step])
    assert cleared.prices.required[0] == pytest.approx(STEP[step])


@pytest.mark.parametrize(("step", "share"), [("margin", 1.005), ("beyond", 2.0)])
def test_a_connection_gives_way_last(build: Build, step: str, share: float) -> None:
    """At ten times what the network's limits cost: only where nothing else can."""
    network = build()
    agreement = Agreements.of([7], [len(network.nodes) - 1], import_kw=DEMAND_KW / share)
    limit = only(clear(network, must_serve(network), ROOT, agreements=agreement))
    assert limit.kind == LimitType.IMPORT
    assert limit.excess == pytest.approx(DEMAND_KW - DEMAND_KW / share, rel=1e-6)
    assert limit.price == pytest.approx(10 * STEP[step])


def test_what_is_flexible_goes_before_anything_gives_way(build: Build) -> None:
    network = build(v_min=0.5)
    last = len(network.nodes) - 1
    wish = OrderBook.of([last], 1, Parameters().price_cap - 0.01, [5.0])
    cleared = clear(network, OrderBook.concat(must_serve(network), wish), ROOT, root_limit_kw=22.0)
    assert cleared.status == ClearingStatus.OPTIMAL
    assert 0.0 < cleared.award_kw[1] < 5.0
    assert cleared.prices.energy[last] == pytest.approx(Parameters().price_cap - 0.01)
    # The root's limit is worth what the customer is, less the root price, by the margin of losses.
    (limit,) = cleared.limits
    assert limit.kind == LimitType.ROOT_IMPORT
    assert limit.price == pytest.approx(cleared.prices.congestion[last] * ROOT / (cleared.prices.losses[last] + ROOT))


# Fallbacks


def test_rounds_that_run_out_end_in_administrative_prices(build: Build) -> None:
    network = build()
    spread = np.linspace(0.0, 0.1, len(network.nodes))
    outcome = clear(
        network, must_serve(network), ROOT, v_min=0.999, last_spread=spread, parameters=Parameters(iterations_max=0)
    )
    assert outcome.status == ClearingStatus.FALLBACK
    assert "not optimal after 0" in outcome.reason
    np.testing.assert_allclose(outcome.prices.energy, ROOT + spread)
    assert outcome.award_kw.tolist() == [DEMAND_KW]
    assert outcome.starts is None
    assert outcome.limits == outcome.relaxations == ()
    dear = clear(
        network,
        must_serve(network),
        ROOT,
        v_min=0.999,
        last_spread=1e3 * spread,
        parameters=Parameters(iterations_max=0, price_cap=5.0),
    )
    np.testing.assert_allclose(dear.prices.energy, np.minimum(ROOT + 1e3 * spread, 5.0))


def test_without_a_power_flow_the_wires_carry_what_they_can(build: Build) -> None:
    network = build()
    outcome = clear(network, must_serve(network, 1e5), ROOT)
    assert outcome.status == ClearingStatus.RELAXED
    assert [limit.name.startswith("demand at node ") for limit in outcome.relaxations].count(True) == 1
    assert outcome.prices.energy.max() <= 2 * (10 + ROOT) + 1e-6
    assert 0 < outcome.award_kw[0] < 1e5
    assert outcome.flow.root_kw == pytest.approx(outcome.award_kw[0] + outcome.flow.losses_kw)
    assert outcome.flow.mismatch_pu <= 1e-9


@pytest.mark.parametrize("spread", [None, np.zeros(1), np.array([np.nan])], ids=["none", "other size", "unknown"])
def test_a_fallback_without_a_known_spread_is_the_root_price(build: Build, spread: np.ndarray | None) -> None:
    network = build()
    if spread is not None and np.isnan(spread).any():
        spread = np.full(len(network.nodes), np.nan)
    outcome = clear(
        network, must_serve(network), ROOT, last_spread=spread, parameters=Parameters(iterations_max=0)
    )  # fmt: skip
    np.testing.assert_array_equal(outcome.prices.energy, np.full(len(network.nodes), ROOT))


def test_customers_on_several_phases_fall_back_to_the_mean_of_their_phases(tree: Build, phases: Build) -> None:
    from tellegen.grid import Connector

    network = phases(tree([0], np.array([0.05 + 0.02j])))
    connector = Connector(network)
    places = [connector.place("1", ""), connector.place("1", "1.3"), connector.place("1", "2")]
    book = OrderBook.of(places, 1, np.nan, 2.0, connections=connector.table())
    spread = np.array([0.0, 0.0, 0.0, 0.03, 0.06, 0.12])
    outcome = clear(network, book, ROOT, last_spread=spread, parameters=Parameters(iterations_max=0))
    np.testing.assert_allclose(outcome.prices.of_orders(book), ROOT + np.array([0.07, 0.075, 0.06]))
    np.testing.assert_allclose(outcome.prices.congestion[:6], spread)


def test_kind_of_rating_is_said_in_the_unit(tree: Build) -> None:
    network = tree([0], np.array([0.05 + 0j]), rating_kva=np.array([10.0]), kind=LimitKind.APPARENT_POWER)
    book = OrderBook.concat(must_serve(network), OrderBook.of([1], 1, 0.01, [1.0]))
    limit = max(clear(network, book, ROOT).relaxations, key=lambda limit: limit.excess)
    assert limit.unit == "kVA"
    assert limit.price == pytest.approx(limit.dual)


def test_each_limit_that_gives_way_is_listed_and_counts_though_all_move_alike(tree: Build) -> None:
    """One buyer is all that can choose, so voltages of both nodes differ by a factor; each has its own penalty."""
    network = tree([0, 1], np.array([0.08 + 0.032j, 0.048 + 0.016j]), v_max=1.02)
    book = OrderBook.of([2, 1], [-1, 1], [np.nan, 0.1], [150.0, 5.0])
    cleared = clear(network, book, ROOT)
    volt = np.abs(cleared.flow.voltage)[1:]
    assert [limit.index for limit in cleared.relaxations] == [1, 2]
    assert [limit.excess for limit in cleared.relaxations] == pytest.approx(volt - 1.02, abs=1e-9)
    assert [limit.price for limit in cleared.relaxations] == pytest.approx([STEP["beyond"]] * 2)
