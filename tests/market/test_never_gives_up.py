"""Where the first search has no ground under its feet: supply saves the day, or what is shed is named and priced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tellegen.grid import load_case
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import FixedLoads, Network
from tellegen.grid.powerflow import GridError, solve_powerflow
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.market import Agreements, LimitType, OrderBook, Parameters, clear, clear_mitigated
from tellegen.market import clearing as engine
from tellegen.market.limits import node_name
from tellegen.market.operating_point import point_at, strayed
from tellegen.market.steps import Scenario
from tellegen.records import ClearingStatus, Product
from tellegen.workbench.declared import generator_offers, set_points

ROOT = 0.3


@pytest.fixture(scope="module")
def weak(tree: Callable[..., Network]) -> Network:
    """A line of 0.15 + 0.2j pu at 1 MVA: it cannot carry 1.5 + 0.5j pu from the root."""
    ohm = np.array([0.16 * (0.15 + 0.2j)])
    return tree([0], ohm, base_kva=1000.0, source_pu=1.05)


def firm(more_kw: float = 0.0) -> OrderBook:
    """Demand that nobody may curtail."""
    return OrderBook.of([1], 1, np.nan, [1500.0 + more_kw], kvar_per_kw=500.0 / (1500.0 + more_kw))


def test_a_dearer_seller_saves_the_day(weak: Network) -> None:
    """Without it there is no power flow; with it all is served, at its price (Ipopt: 1269.618 kW, cost 593.7994)."""
    with pytest.raises(GridError):
        solve_powerflow(weak, np.array([0, 1500 + 500j]))
    outcome = clear(weak, OrderBook.concat(firm(), OrderBook.of([1], -1, 0.4, [1400.0])), ROOT)
    assert outcome.status == ClearingStatus.OPTIMAL
    assert outcome.award_kw == pytest.approx([1500.0, 1269.618], abs=1e-3)
    assert outcome.welfare == pytest.approx(-593.7994, abs=1e-4)
    assert outcome.prices.energy[1] == pytest.approx(0.4, rel=1e-9)


def test_prices_of_a_rescued_clearing_are_derivatives_of_its_welfare(weak: Network) -> None:
    """Two sellers, the cheaper used up: what is on the margin prices demand."""
    sellers = OrderBook.of([1, 1], -1, [0.35, 0.5], [1100.0, 400.0])

    def cleared(more: complex) -> tuple[float, float, float]:
        demand = np.array([0, 1500 + 500j + more])
        outcome = clear(weak, sellers, ROOT, fixed_kva=demand)
        assert outcome.status == ClearingStatus.OPTIMAL
        return outcome.welfare, outcome.prices.energy[1], outcome.prices.reactive[1]

    _, energy, reactive = cleared(0)
    step = 0.5
    assert (cleared(-step)[0] - cleared(step)[0]) / (2 * step) == pytest.approx(energy, rel=1e-6)
    assert (cleared(-step * 1j)[0] - cleared(step * 1j)[0]) / (2 * step) == pytest.approx(reactive, rel=1e-5)


def test_what_cannot_be_served_is_shed_where_it_hurts_least(tree: Callable[..., Network]) -> None:
    """Two loads on one weak line: the one at its end goes first, the one near the root is served in full."""
    network = tree([0, 1], 0.16 * np.array([0.05 + 0.07j, 0.15 + 0.2j]), base_kva=1000.0, source_pu=1.05)
    book = OrderBook.of([1, 2], 1, np.nan, [300.0, 1500.0], kvar_per_kw=1 / 3)
    outcome = clear(network, book, ROOT)
    assert outcome.status == ClearingStatus.RELAXED
    shed = {limit.name: limit.excess for limit in outcome.relaxations if limit.name.startswith("demand")}
    assert set(shed) == {"demand at node 2"}
    assert outcome.award_kw == pytest.approx([300.0, 1500.0 - shed["demand at node 2"]])
    served = np.array([0, 300, outcome.award_kw[1]]) * (1 + 1j / 3)
    assert np.abs(solve_powerflow(network, served).voltage - outcome.flow.voltage).max() < 1e-6
    # Shedding a kW takes its kvar along; together they are worth what shedding costs.
    assert outcome.prices.energy[2] + outcome.prices.reactive[2] / 3 == pytest.approx(2 * (10 + ROOT), rel=1e-6)
    assert np.isfinite(outcome.prices.energy).all()


def test_a_welfare_is_of_what_was_served(weak: Network) -> None:
    outcome = clear(weak, firm(), ROOT)
    assert outcome.welfare == pytest.approx(-ROOT * outcome.flow.root_kw)


def test_a_good_network_needs_no_rescue(weak: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What settles at once is not looked at twice."""

    def never(*_: object) -> None:
        raise AssertionError

    for name in ("interior_point", "Shedding"):
        monkeypatch.setattr(engine, name, never)
    book = OrderBook.of([1, 1], [1, -1], [0.5, 0.2], [400.0, 100.0])
    assert clear(weak, book, ROOT).status == ClearingStatus.OPTIMAL


def test_nobody_is_cut_off_because_a_search_did_not_settle(weak: Network) -> None:
    """With a power flow for all that is firm, whatever else fails ends in administrative prices, and says so."""
    book = OrderBook.concat(firm(-900.0), OrderBook.of([1], -1, 0.4, [100.0]))
    outcome = clear(weak, book, ROOT, parameters=Parameters(iterations_max=0))
    assert outcome.status == ClearingStatus.FALLBACK
    assert outcome.award_kw[0] == pytest.approx(600.0)
    assert "search from an interior point" in outcome.reason


def test_all_tries_together_have_a_limit(weak: Network) -> None:
    outcome = clear(weak, firm(), ROOT, parameters=Parameters(programs_max=5))
    assert outcome.status == ClearingStatus.FALLBACK
    assert outcome.evidence.iterations <= 5
    assert "shedding at 20.6: " in outcome.reason


def test_a_dispatch_of_the_low_voltage_branch_is_no_end(weak: Network) -> None:
    """Newton from a low voltage stays there, where it is told to follow; a point there is told from the usual one."""
    demand = np.array([0, 1100 * (1 + 1j / 3)])
    low = np.array([1.05, 0.4 - 0.2j])
    high = solve_powerflow(weak, demand, start=low)
    followed = solve_powerflow(weak, demand, start=low, follow=True)
    assert abs(followed.voltage[1]) < 0.5 < abs(high.voltage[1])
    run = engine.clear_in_full(weak, OrderBook.of([1], 1, np.nan, [1100.0], kvar_per_kw=1 / 3), ROOT)
    assert run.found is not None
    assert not strayed(run.task, run.found.point)
    assert strayed(run.task, point_at(run.task, run.found.point.y, (followed.voltage,)))


def test_who_could_set_the_price_is_asked_where_power_is_shed_too(weak: Network) -> None:
    """Of two sellers each could have relieved the wires further than the other alone."""
    sellers = OrderBook.of([1, 1], -1, [0.5, 3.0], [150.0, 150.0], participant=[1, 2])
    outcome = clear_mitigated(weak, OrderBook.concat(firm(700.0), sellers), ROOT)
    assert any(limit.name == "demand at node 1" for limit in outcome.clearing.relaxations)
    assert {finding.participant for finding in outcome.findings} == {1, 2}


@pytest.mark.parametrize(
    ("name", "cost"),
    [("case39", 25671.4417), ("case118", 101272.4645), ("iceland", 4780.3046)],
)
def test_transmission_cases_end_where_ipopt_does(name: str, cost: float) -> None:
    """Voltages without load are two to four times those in service: no power flow is found from there."""
    pytest.importorskip("pandapower", reason="pandapower is not installed (extra `grids`)")
    case = load_case(f"pandapower:{name}")
    assert case.root_price is not None
    fixed = set_points(case, dispatchable=False)
    outcome = clear(case.network, generator_offers(case), case.root_price, fixed_kva=fixed, loads=case.loads)
    assert outcome.status == ClearingStatus.OPTIMAL
    # Ipopt stops at 1e-9 of its scale, on the dear side.
    assert outcome.welfare == pytest.approx(-cost, rel=3e-6)
    assert outcome.welfare > -cost


def test_where_limits_cannot_hold_they_give_way_and_nobody_is_shed() -> None:
    """Ipopt calls it infeasible; here what is too low is listed."""
    pytest.importorskip("pandapower", reason="pandapower is not installed (extra `grids`)")
    case = load_case("pandapower:case57")
    assert case.root_price is not None
    outcome = clear(case.network, generator_offers(case), case.root_price, loads=case.loads)
    assert outcome.status == ClearingStatus.RELAXED
    assert {limit.kind for limit in outcome.relaxations} == {LimitType.VOLTAGE_MIN, LimitType.VOLTAGE_MAX}


@pytest.mark.parametrize("v_max", [1.1, 3.0])
def test_firm_supply_is_shed_by_node(tree: Callable[..., Network], v_max: float) -> None:
    """At 1.1 pu the best dispatch would stand at collapse: shedding is priced below limits then, and they hold."""
    network = tree([0], np.array([0.16 * (0.15 + 0.2j)]), base_kva=1000.0, source_pu=1.05, v_max=v_max)
    outcome = clear(network, OrderBook.of([1], -1, np.nan, [8000.0]), ROOT)
    assert outcome.status == ClearingStatus.RELAXED
    short = outcome.relaxations[-1]
    assert short.name == "supply at node 1"
    assert short.excess + outcome.award_kw[0] == pytest.approx(8000.0)
    assert outcome.prices.energy[1] == pytest.approx(-short.price, rel=1e-5)
    assert abs(outcome.flow.voltage[1]) < v_max + 0.002


def test_reactive_price_takers_are_not_shed_by_the_kw(weak: Network) -> None:
    book = OrderBook.concat(firm(), OrderBook.of([1], 1, np.nan, [100.0], product=Product.REACTIVE))
    outcome = clear(weak, book, ROOT)
    assert outcome.status == ClearingStatus.RELAXED
    assert outcome.award_kw[0] < 1500.0
    assert outcome.award_kw[1] == 100.0


def test_limits_of_participants_know_what_was_shed(weak: Network) -> None:
    """1,500 kW are asked through a connection of 1,000, but the wires carry less than that."""
    book = replace(firm(), participant=np.array([7]))
    agreements = Agreements.of([7], [1], import_kw=1000.0)
    outcome = clear(weak, book, ROOT, agreements=agreements)
    assert outcome.award_kw[0] < 1000.0
    assert not any(limit.kind == LimitType.IMPORT for limit in outcome.limits)
    assert outcome.award_kw == pytest.approx(clear(weak, book, ROOT).award_kw)


def test_a_rescue_with_reserve_on_offer(weak: Network) -> None:
    """What is called must have a power flow too: the seller keeps what the engine's reserve would need."""
    book = OrderBook.concat(
        firm(),
        OrderBook.of([1], -1, 0.4, [1400.0], participant=[1]),
        OrderBook.of([1], -1, 0.01, [200.0], product=Product.RESERVE_DOWN, participant=[1]),
        OrderBook.of([0], 1, np.nan, [50.0], product=Product.RESERVE_DOWN, participant=[0]),
    )
    outcome = clear(weak, book, ROOT)
    assert outcome.status == ClearingStatus.OPTIMAL
    # With 50 kW less fed in the lowest voltage must hold: so many more stand above the 1269.618 kW that it asks for.
    assert outcome.award_kw == pytest.approx([1500.0, 1319.618, 50.0, 50.0], abs=1e-3)
    called = dict(outcome.called)[Scenario.DOWN]
    assert abs(called.voltage[1]) == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize("law", [None, LoadLaw(*(np.full(3, k) for k in (1.0, 0, 0, 0, 0, 0, np.inf)))])
def test_loads_between_phases_are_shed(law: LoadLaw | None) -> None:
    feeder = synthetic_feeder(6, phases=3, seed=2)
    network = feeder.network
    buses = [network.nodes[k] for k in network.free.tolist()]
    bus = next(name for name in reversed(buses) if buses.count(name) == 3)
    at = [k for k in network.free.tolist() if network.nodes[k] == bus]
    loads = FixedLoads(
        name=("mill",) * 3,
        node=np.array(at),
        p_kw=np.full(3, 2000.0),
        q_kvar=np.full(3, 500.0),
        other=np.array([*at[1:], at[0]]),
        law=law,
    )
    with pytest.raises(GridError):
        solve_powerflow(network, np.zeros(len(network.nodes), dtype=np.complex128), loads=loads)
    outcome = clear(network, OrderBook.of(feeder.customer_node, 1, np.nan, 1.0), ROOT, loads=loads)
    assert outcome.status == ClearingStatus.RELAXED
    assert outcome.award_kw[:-1] == pytest.approx(1.0)
    shed = [limit for limit in outcome.relaxations if limit.kind == LimitType.SERVED]
    pairs = zip(at, [*at[1:], at[0]], strict=True)
    names = {f"demand at node {node_name(network, a)} to {node_name(network, b)}" for a, b in pairs}
    assert names <= {limit.name for limit in shed}
    assert outcome.prices.energy.size == len(network.nodes)


def test_steps_that_are_cut_are_named(weak: Network) -> None:
    """An offer of a terawatt does not set the measure of the search, nor does its being cut decide anything."""
    book = OrderBook.concat(firm(-900.0), OrderBook.of([1], -1, 0.2, [1e9]))
    outcome = clear(weak, book, ROOT)
    assert outcome.status == ClearingStatus.OPTIMAL
    (warning,) = outcome.warnings
    assert "1e+09 kW at node 1 to " in warning
    assert "taken" not in warning
    like = clear(weak, replace(book, quantity_kw=np.array([600.0, 3000.0])), ROOT)
    assert outcome.award_kw == pytest.approx(like.award_kw, rel=1e-6)
    assert not like.warnings


def test_the_fallback_says_where_the_wires_fail(weak: Network) -> None:
    outcome = clear(weak, firm(), ROOT, parameters=Parameters(programs_max=3))
    assert outcome.status == ClearingStatus.FALLBACK
    assert "beyond 76.465 % of what is inflexible, where the voltage of node 1 moves most" in outcome.reason
