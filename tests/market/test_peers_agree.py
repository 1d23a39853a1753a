"""Law 10: independent formulations agree. Other equations, other solvers, the same welfare and the same prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tellegen.assess.peers.instance import Instance
from tellegen.assess.peers.judging import Timed, judge, prepare_ours
from tellegen.assess.peers.markets import district
from tellegen.assess.peers.programs import branch_flow_sqp, ipopt, pandapower_opf, socp
from tellegen.grid import Network
from tellegen.grid.connections import Connections
from tellegen.grid.network import LimitKind
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.market import OrderBook, clear

SEEDS = (1, 2, 3)
WELFARE, PRICE = 1e-7, 1e-5
"""Of the money that changes hands; of the root price: what PIQP at 1e-10 leaves."""
IPOPT_PRICE = 1e-4
"""Ipopt at 1e-8 stops short of the vertices of step bids; its prices are so much less exact."""


def compare(instance: Instance, result: dict[str, np.ndarray], violation: float = 1e-6, price: float = PRICE) -> None:
    mine = prepare_ours(instance, 0)()
    assert mine.optimal
    assert min(mine.binding) > 0
    verdict = judge(instance, Timed.of(result), mine.timed)
    assert verdict.books == len(instance.books)
    assert verdict.violation < violation
    assert abs(verdict.shortfall) < WELFARE
    assert verdict.price_difference < price


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("season", ["evening", "noon"])
@pytest.mark.parametrize("sloped", [False, True], ids=["steps", "quadratic"])
def test_branch_flow_programs_agree(season: str, seed: int, sloped: bool) -> None:
    pytest.importorskip("piqp", reason="PIQP is not installed")
    instance = district(25, 1, season, seed=seed, sloped=sloped)
    compare(instance, branch_flow_sqp.solve(instance.arrays()))


@pytest.mark.parametrize("seed", SEEDS)
def test_second_order_cones_agree_where_losses_have_a_price(seed: int) -> None:
    pytest.importorskip("clarabel", reason="Clarabel is not installed")
    instance = district(25, 1, "evening", seed=seed)
    compare(instance, socp.solve(instance.arrays()), violation=1e-5)


def test_second_order_cones_invent_losses_where_the_highest_voltage_binds() -> None:
    """The relaxation claims more welfare than there is; on the network its dispatch exceeds the limit."""
    pytest.importorskip("clarabel", reason="Clarabel is not installed")
    instance = district(60, 1, "noon", seed=3)
    mine = prepare_ours(instance, 0)()
    verdict = judge(instance, Timed.of(socp.solve(instance.arrays())), mine.timed)
    assert verdict.violation > 1e-4
    assert verdict.shortfall < -1e-3
    assert not verdict.counts


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("season", ["evening", "noon"])
def test_ipopt_agrees(season: str, phases: int) -> None:
    pytest.importorskip("casadi", reason="CasADi is not installed")
    instance = district(25, 1, season, phases=phases)
    compare(instance, ipopt.solve(instance.arrays()), price=IPOPT_PRICE)


@pytest.mark.slow
def test_pandapower_agrees(street: Callable[..., Network]) -> None:
    pytest.importorskip("pandapower", reason="pandapower is not installed (extra `grids`)")
    book = OrderBook.of([9, 10, 11, 12], [1, 1, -1, 1], [0.5, 0.45, 0.35, 0.6], [30.0, 25.0, 5.0, 30.0])
    instance = Instance("street", street(), (book,), np.array([0.3]), v_min=0.97)
    verdict = judge(instance, Timed.of(pandapower_opf.solve(instance.arrays())), prepare_ours(instance, 0)().timed)
    assert abs(verdict.shortfall) < 1e-5
    assert verdict.violation < 1e-5
    assert verdict.price_difference < 1e-3


@pytest.mark.parametrize("kind", LimitKind)
@pytest.mark.parametrize("program", [branch_flow_sqp, socp, ipopt], ids=["branch flow", "cones", "ipopt"])
def test_ratings_and_the_root_limit_mean_the_same(
    street: Callable[..., Network], kind: LimitKind, program: object
) -> None:
    needs = {branch_flow_sqp: "piqp", socp: "clarabel", ipopt: "casadi"}[program]  # type: ignore[index]
    pytest.importorskip(needs, reason=f"{needs} is not installed")
    rating = np.full(12, np.inf)
    rating[3] = 45.0
    houses = (9, 10, 11, 12, 5, 7, 8)
    book = OrderBook.concat(
        OrderBook.of(houses, 1, 0.4 + 0.02 * np.arange(7), 16.0, slope=0.004, kvar_per_kw=0.2),
        OrderBook.of([10, 12], 1, np.nan, [3.0, 4.0], kvar_per_kw=0.3),
    )
    network = street(rating_kva=rating, kind=kind, v_min=0.7)
    instance = Instance("street", network, (book,), np.array([0.3]), root_limit_kw=80.0)
    compare(instance, program.solve(instance.arrays()), violation=1e-5, price=IPOPT_PRICE)  # type: ignore[attr-defined]


def test_customers_between_phases_mean_the_same() -> None:
    """Ipopt, which has their currents as unknowns of their own, finds what our engine finds."""
    pytest.importorskip("casadi", reason="CasADi is not installed")
    feeder = synthetic_feeder(12, phases=3, seed=2)
    network = feeder.network
    bus = {}
    for k in network.free.tolist():
        bus.setdefault(network.nodes[k], []).append(k)
    three = [nodes for nodes in bus.values() if len(nodes) == 3][-3:]
    # A phase-to-phase customer, a delta one, and one on three phases to ground.
    legs = [[(three[0][0], three[0][1], 1.0)], [(a, b, 1 / 3) for a, b in _ring(three[1])]]
    legs.append([(k, -1, 1 / 3) for k in three[2]])
    flat = [leg for row in legs for leg in row]
    table = Connections(
        start=np.cumsum([0, *(len(row) for row in legs)]),
        node=np.array([leg[0] for leg in flat]),
        other=np.array([leg[1] for leg in flat]),
        share=np.array([leg[2] for leg in flat]),
        name=("pair", "delta", "three"),
    )
    size = len(network.nodes)
    node = np.concatenate([feeder.customer_node, size + np.arange(3)])
    bids = OrderBook.of(node, 1, np.linspace(0.3, 0.6, node.size), np.r_[np.full(12, 4.0), [6.0, 9.0, 9.0]], slope=0.01)
    book = replace(bids, connections=table)
    loose = clear(network, book, 0.25, v_min=0.8)
    lowest = float(np.abs(loose.flow.voltage[network.free]).min())
    instance = Instance("between", network, (book,), np.array([0.25]), v_min=lowest + 0.004)
    compare(instance, ipopt.solve(instance.arrays()), price=IPOPT_PRICE)


def _ring(nodes: list[int]) -> list[tuple[int, int]]:
    return [(nodes[0], nodes[1]), (nodes[1], nodes[2]), (nodes[2], nodes[0])]
