"""Meshed operation: power flow and prices of rings, where radial reasoning fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tellegen.grid import Case, solve_powerflow
from tellegen.grid.importers import case_of_tables
from tellegen.grid.importers.tables import tables_of_net
from tellegen.market import OrderBook, clear
from tellegen.records import Side

pp = pytest.importorskip("pandapower")


def ringed33() -> Any:
    """case33bw with its five ties closed."""
    import pandapower.networks as shipped

    net = shipped.case33bw()
    net.line["in_service"] = True
    return net


def demand_of(case: Case) -> np.ndarray:
    demand = np.zeros(len(case.network.nodes), dtype=complex)
    np.add.at(demand, case.loads.node, case.loads.p_kw + 1j * case.loads.q_kvar)
    np.add.at(demand, case.generators.node, -(case.generators.p_kw + 1j * case.generators.q_kvar))
    return demand


def agrees(net: Any) -> None:
    pp.runpp(net, tolerance_mva=1e-10, numba=False)
    case = case_of_tables(tables_of_net("net", net))
    voltage = solve_powerflow(case.network, demand_of(case)).voltage
    buses = [int(name) for name in case.network.nodes]
    theirs = net.res_bus.vm_pu.loc[buses] * np.exp(1j * np.radians(net.res_bus.va_degree.loc[buses]))
    assert np.abs(voltage - theirs.to_numpy()).max() < 1e-8


def test_closed_ties_of_case33bw() -> None:
    net = ringed33()
    agrees(net)
    assert 1000 * net.res_line.pl_mw.sum() < 202.677  # rings lose less than the tree


@pytest.mark.slow
def test_closed_rings_of_a_medium_voltage_grid() -> None:
    """A SimBench grid with every line switch closed."""
    simbench = pytest.importorskip("simbench")
    net = simbench.get_simbench_net("1-MV-rural--0-sw")
    shut = net.switch.closed.sum()
    net.switch.loc[net.switch.et == "l", "closed"] = True
    net.switch.loc[net.switch.et == "b", "closed"] = True
    assert net.switch.closed.sum() > shut
    agrees(net)


def market33() -> tuple[Case, OrderBook]:
    """Every load bids a falling curve at its node; half of them own a roof."""
    case = case_of_tables(tables_of_net("net", ringed33()))
    rng = np.random.default_rng(5)
    node, size = case.loads.node, case.loads.p_kw
    buys = OrderBook.of(node, Side.BUY, rng.uniform(0.4, 0.8, node.size), 1.5 * size, slope=0.2 / size, kvar_per_kw=0.4)
    roofs = node[::2]
    sells = OrderBook.of(roofs, Side.SELL, rng.uniform(0.02, 0.2, roofs.size), 80.0, slope=0.001)
    return case, OrderBook.concat(buys, sells)


@pytest.mark.parametrize(("v_min", "rating_kva"), [(0.9, np.inf), (0.972, np.inf), (0.9, 900.0)])
def test_prices_of_a_ring_are_derivatives_of_welfare(v_min: float, rating_kva: float) -> None:
    """Loose, with voltages binding, and with a line of the ring congested."""
    from dataclasses import replace

    case, book = market33()
    network = case.network
    if np.isfinite(rating_kva):
        rating = network.branches.rating_pu.copy()
        for k, name in enumerate(network.branches.element):
            if name == "line 1":
                rating[k] = rating_kva / network.base_kva
        network = replace(network, branches=replace(network.branches, rating_pu=rating))

    def welfare(at: int, kw: float) -> float:
        fixed = np.zeros(len(network.nodes), dtype=complex)
        fixed[at] = kw
        return clear(network, book, 0.3, fixed_kva=fixed, v_min=v_min).welfare

    cleared = clear(network, book, 0.3, v_min=v_min)
    assert cleared.status.name == "OPTIMAL"
    assert bool(cleared.limits) == (v_min > 0.95 or np.isfinite(rating_kva))
    step = 0.5
    for at in (7, 17, 24, 32):
        slope = -(welfare(at, step) - welfare(at, -step)) / (2 * step)
        assert cleared.prices.energy[at] == pytest.approx(slope, rel=2e-5)
