"""Where the first search has no ground under its feet: supply saves the day, or what is shed is named and priced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tellegen.grid.network import Network
from tellegen.grid.powerflow import GridError, solve_powerflow
from tellegen.market import OrderBook, Parameters, clear, clear_mitigated, trust
from tellegen.market import clearing as engine
from tellegen.market.effort import Effort
from tellegen.market.operating_point import point_at, strayed
from tellegen.market.relief import cautious
from tellegen.market.search import Guess
from tellegen.records import ClearingStatus

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

    for name in ("relief", "cautious", "shed"):
        monkeypatch.setattr(engine, name, never)
    book = OrderBook.of([1, 1], [1, -1], [0.5, 0.2], [400.0, 100.0])
    assert clear(weak, book, ROOT).status == ClearingStatus.OPTIMAL


def test_supply_that_nobody_may_curtail_is_shed_too(tree: Callable[..., Network]) -> None:
    """More than the line can bring to the root at any voltage: what the last kW loses in the wires prices it."""
    network = tree([0], np.array([0.16 * (0.15 + 0.2j)]), base_kva=1000.0, source_pu=1.05, v_max=3.0)
    outcome = clear(network, OrderBook.of([1], -1, np.nan, [8000.0]), ROOT)
    assert outcome.status == ClearingStatus.RELAXED
    (short,) = outcome.relaxations
    assert short.name == "supply at node 1"
    assert short.excess + outcome.award_kw[0] == pytest.approx(8000.0)
    assert outcome.prices.energy[1] == pytest.approx(-2 * (10 + ROOT), rel=1e-6)


def test_rows_that_join_last_of_all_are_no_trouble(
    tree: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cautious steps that take limits into account one at a time come near the optimum all the same."""
    ohm = np.full(8, 0.16 * (0.02 + 0.026j))
    network = tree(list(range(8)), ohm, base_kva=1000.0, source_pu=1.0, v_min=0.97)
    book = OrderBook.of(range(1, 9), 1, np.linspace(0.5, 0.8, 8), 60.0, kvar_per_kw=1 / 3)
    run = engine.clear_in_full(network, book, ROOT)
    assert run.found is not None
    monkeypatch.setattr(trust, "ROWS_JOIN", 1)
    monkeypatch.setattr(trust, "JOININGS_MAX", 1)
    width = run.task.steps.width
    near = cautious(run.task, Guess(width, np.zeros(0, dtype=np.int64), np.zeros(0)), Effort(200))
    assert near.rows.size == near.dual.size
    assert near.y == pytest.approx(run.found.point.y, abs=1e-2 * width.max())


def test_nobody_is_cut_off_because_a_search_did_not_settle(weak: Network) -> None:
    """With a power flow for all that is firm, whatever else fails ends in administrative prices, and says so."""
    book = OrderBook.concat(firm(-900.0), OrderBook.of([1], -1, 0.4, [100.0]))
    outcome = clear(weak, book, ROOT, parameters=Parameters(iterations_max=0))
    assert outcome.status == ClearingStatus.FALLBACK
    assert outcome.award_kw[0] == pytest.approx(600.0)
    assert "relieved search" in outcome.reason


def test_all_tries_together_have_a_limit(weak: Network) -> None:
    outcome = clear(weak, firm(), ROOT, parameters=Parameters(programs_max=5))
    assert outcome.status == ClearingStatus.FALLBACK
    assert outcome.evidence.iterations <= 5
    assert "shedding: " in outcome.reason


def test_a_network_too_large_for_rescues_serves_a_share(weak: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wires carry of the demand (P v^2 at their limit), at administrative prices; the reason says why."""
    monkeypatch.setattr(engine, "RESCUED_NODES_MAX", 0)
    outcome = clear(weak, firm(), ROOT)
    assert outcome.status == ClearingStatus.FALLBACK
    assert "not rescued: 2 nodes" in outcome.reason
    served = outcome.award_kw[0] / 1500.0
    assert 0.5 < served < 1.0
    assert outcome.evidence.ac_mismatch_pu < 1e-9
    with pytest.raises(GridError):
        solve_powerflow(weak, np.array([0, (served + 1 / 512) * (1500 + 500j)]))


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
