"""Power flow and its sensitivities against closed forms, pandapower and finite differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.grid import GridError, Quantity, linearise, solve_powerflow
from tellegen.grid.network import Branches, LimitKind, Network


def line(impedance_pu: complex, base_kva: float = 100.0, kind: LimitKind = LimitKind.CURRENT) -> Network:
    y = 1 / impedance_pu
    matrix = sp.csr_matrix(np.array([[y, -y], [-y, y]]))
    ends = Branches(("line 0", "line 0"), np.array([0, 1]), matrix, np.array([0.5, 0.5]), np.full(2, int(kind)))
    return Network(
        "two buses", ("root", "end"), np.zeros(2, dtype=np.int64), base_kva, np.full(2, 0.4), matrix, np.array([0]),
        np.array([1.0 + 0j]), np.full(2, 0.9), np.full(2, 1.1), ends,
    )  # fmt: skip


def meshed(seed: int, kind: LimitKind = LimitKind.APPARENT_POWER, nodes: int = 12) -> Network:
    """A ring with spokes and shunts, two sources of different angle."""
    rng = np.random.default_rng(seed)
    ends = [(k, (k + 1) % nodes) for k in range(nodes)] + [(k, (k + 4) % nodes) for k in range(0, nodes, 3)]
    rows = np.zeros((2 * len(ends), nodes), dtype=complex)
    matrix = np.zeros((nodes, nodes), dtype=complex)
    for k, (a, b) in enumerate(ends):
        y = 1 / complex(rng.uniform(0.01, 0.05), rng.uniform(0.005, 0.05))
        shunt = 1j * rng.uniform(0, 0.01)
        for row, (here, there) in ((2 * k, (a, b)), (2 * k + 1, (b, a))):
            rows[row, here], rows[row, there] = y + shunt, -y
            matrix[here] += rows[row]
    terminals = np.array([node for pair in ends for node in pair])
    branches = Branches(
        tuple(f"line {k // 2}" for k in range(2 * len(ends))),
        terminals,
        sp.csr_matrix(rows),
        np.full(2 * len(ends), np.inf),
        np.full(2 * len(ends), int(kind)),
    )
    return Network(
        "ring", tuple(map(str, range(nodes))), np.zeros(nodes, dtype=np.int64), 50.0, np.full(nodes, 0.4),
        sp.csr_matrix(matrix), np.array([0, 6]), np.array([1.02, 1.01 * np.exp(-0.01j)]), np.full(nodes, 0.9),
        np.full(nodes, 1.1), branches,
    )  # fmt: skip


def demand_of(network: Network, seed: int, size_kw: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return size_kw * (rng.uniform(-1, 1, len(network.nodes)) + 0.4j * rng.uniform(-1, 1, len(network.nodes)))


@given(st.floats(0.01, 0.1), st.floats(0.0, 0.1), st.floats(-1.2, 1.2), st.floats(-0.4, 0.4))
@settings(max_examples=40, deadline=None)
def test_a_line_follows_the_closed_form_of_two_buses(r: float, x: float, p: float, q: float) -> None:
    square = 1 - 2 * (r * p + x * q)
    inside = square**2 / 4 - (r * r + x * x) * (p * p + q * q)
    if inside < 1e-3:  # too near the collapse for double precision to keep ten digits
        return
    volt = np.sqrt(square / 2 + np.sqrt(inside))
    flow = solve_powerflow(line(complex(r, x)), np.array([0, 100 * complex(p, q)]))
    assert abs(flow.voltage[1]) == pytest.approx(volt, abs=1e-10)
    assert flow.losses_kw == pytest.approx(100 * r * (p * p + q * q) / volt**2, abs=1e-8)
    assert flow.mismatch_pu <= 1e-11


def test_close_to_collapse_newton_finds_the_upper_solution() -> None:
    limit = 1 / (4 * 0.1)  # v (1 - v) = r p has no real root beyond p = 1 / (4 r)
    flow = solve_powerflow(line(0.1 + 0j), np.array([0, 100 * 0.9999 * limit + 0j]))
    assert abs(flow.voltage[1]) == pytest.approx(0.5 + np.sqrt(0.25 - 0.25 * 0.9999), abs=1e-7)
    with pytest.raises(GridError, match="beyond what the network can carry"):
        solve_powerflow(line(0.1 + 0j), np.array([0, 100 * 1.0001 * limit + 0j]))


@pytest.mark.parametrize("kind", list(LimitKind))
def test_power_in_is_power_out_on_every_branch(kind: LimitKind) -> None:
    """Law 1: the root is the residual; Tellegen: branch losses sum to what the sources feed in beyond demand."""
    network = meshed(3, kind)
    demand = demand_of(network, 4)
    flow = solve_powerflow(network, demand)
    current = network.branches.current_rows @ flow.voltage
    into_branches = (flow.voltage[network.branches.node] * np.conj(current)).sum() * network.base_kva
    assert flow.losses_kw == pytest.approx(into_branches.real, abs=1e-9)
    assert flow.root_kw == pytest.approx(demand.real.sum() + flow.losses_kw, abs=1e-9)
    assert flow.root_kvar == pytest.approx(demand.imag.sum() + into_branches.imag, abs=1e-9)
    expected = np.abs(current) * (np.abs(flow.voltage[network.branches.node]) if kind else 1.0)
    assert flow.terminal_pu == pytest.approx(expected, abs=1e-14)


def test_loading_is_percent_of_the_rating() -> None:
    flow = solve_powerflow(line(0.1 + 0j), np.array([0, 9.0 + 0j]))
    assert flow.loading_percent == pytest.approx(100 * flow.terminal_pu / 0.5)
    unrated = solve_powerflow(meshed(1), demand_of(meshed(1), 1))
    assert not unrated.loading_percent.any()


def test_demand_at_the_root_takes_no_wires() -> None:
    network = meshed(1)
    demand = demand_of(network, 2)
    more = demand.copy()
    more[0] += 7 + 3j
    first, second = solve_powerflow(network, demand), solve_powerflow(network, more)
    assert second.root_kw - first.root_kw == pytest.approx(7, abs=1e-9)
    assert np.array_equal(first.voltage, second.voltage)


def test_a_warm_start_ends_at_the_same_voltage() -> None:
    network = meshed(5)
    demand = demand_of(network, 6)
    near = solve_powerflow(network, 1.05 * demand)
    cold, warm = solve_powerflow(network, demand), solve_powerflow(network, demand, start=near.voltage)
    assert np.abs(cold.voltage - warm.voltage).max() < 1e-11


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_base_of_power_changes_nothing(factor: float) -> None:
    network = meshed(2)
    branches = dataclasses.replace(network.branches, current_rows=network.branches.current_rows / factor)
    other = dataclasses.replace(
        network, base_kva=network.base_kva * factor, admittance=network.admittance / factor, branches=branches
    )
    demand = demand_of(network, 3)
    one, two = solve_powerflow(network, demand), solve_powerflow(other, demand)
    assert np.abs(one.voltage - two.voltage).max() < 1e-10
    assert one.root_kw == pytest.approx(two.root_kw, abs=1e-7)


@pytest.mark.parametrize("demand", [np.array([0, np.nan]), np.array([0, np.inf]), np.zeros(3)])
def test_demand_that_makes_no_sense_is_refused(demand: np.ndarray) -> None:
    with pytest.raises(GridError):
        solve_powerflow(line(0.1 + 0j), demand.astype(complex))


def test_a_node_without_a_source_is_named() -> None:
    network = line(0.1 + 0j)
    lonely = sp.csr_matrix(sp.block_diag([network.admittance, sp.csr_matrix((1, 1))]))
    rows = sp.csr_matrix(sp.hstack([network.branches.current_rows, sp.csr_matrix((2, 1))]))
    three = dataclasses.replace(
        network,
        nodes=("root", "end", "island"),
        phase=np.zeros(3, dtype=np.int64),
        base_kv=np.full(3, 0.4),
        admittance=lonely,
        v_min=np.full(3, 0.9),
        v_max=np.full(3, 1.1),
        branches=dataclasses.replace(network.branches, current_rows=rows),
    )
    with pytest.raises(GridError, match="not connected to a source"):
        solve_powerflow(three, np.zeros(3, dtype=complex))


@pytest.mark.parametrize("kind", list(LimitKind))
def test_gradients_are_central_differences(kind: LimitKind) -> None:
    """Law 10: finite differences referee the adjoint."""
    network = meshed(7, kind)
    demand = demand_of(network, 8)
    quantity = np.array([Quantity.ROOT_KW, Quantity.ROOT_KVAR, Quantity.VOLTAGE, Quantity.TERMINAL, Quantity.TERMINAL])
    index = np.array([0, 0, 4, 3, 0])  # terminal 0 is at a source

    def measure(at: np.ndarray) -> np.ndarray:
        flow = solve_powerflow(network, at)
        return np.array([flow.root_kw, flow.root_kvar, abs(flow.voltage[4]), flow.terminal_pu[3], flow.terminal_pu[0]])

    gradient = linearise(network, demand, solve_powerflow(network, demand)).gradients(quantity, index)
    for node in (0, 2, 4, 9):
        for unit, part in ((1.0, gradient.real), (1j, gradient.imag)):
            step = np.zeros(len(network.nodes), dtype=complex)
            step[node] = 1e-3 * unit
            difference = (measure(demand + step) - measure(demand - step)) / 2e-3
            assert part[:, node] == pytest.approx(difference, abs=2e-8)


@pytest.mark.parametrize("kind", list(LimitKind))
def test_hessian_products_are_differences_of_gradients(kind: LimitKind) -> None:
    network = meshed(9, kind)
    demand = demand_of(network, 10)
    quantity = np.array([Quantity.ROOT_KW, Quantity.ROOT_KVAR, Quantity.VOLTAGE, Quantity.TERMINAL, Quantity.TERMINAL])
    index, weight = np.array([0, 0, 4, 3, 0]), np.array([0.3, 0.1, 20.0, 8.0, 5.0])

    def gradient(at: np.ndarray) -> np.ndarray:
        return weight @ linearise(network, at, solve_powerflow(network, at)).gradients(quantity, index)

    direction = demand_of(network, 11, 1.0)
    direction[network.source] = 0
    point = linearise(network, demand, solve_powerflow(network, demand))
    product = point.hessian_product(quantity, index, weight, direction[:, None])[:, 0]
    difference = (gradient(demand + 1e-3 * direction) - gradient(demand - 1e-3 * direction)) / 2e-3
    assert np.abs(product - difference).max() < 1e-6 * np.abs(product).max()


def test_the_hessian_is_symmetric() -> None:
    network = meshed(12)
    demand = demand_of(network, 13)
    size = len(network.nodes)
    every = np.concatenate([np.eye(size), 1j * np.eye(size)], axis=1)
    point = linearise(network, demand, solve_powerflow(network, demand))
    product = point.hessian_product(np.array([0, 2]), np.array([0, 4]), np.array([1.0, -5.0]), every)
    matrix = np.concatenate([product.real, product.imag])
    assert np.abs(matrix - matrix.T).max() < 1e-12 * np.abs(matrix).max()


def test_the_voltage_of_a_source_answers_to_nothing() -> None:
    network = meshed(1)
    demand = demand_of(network, 1)
    point = linearise(network, demand, solve_powerflow(network, demand))
    with pytest.raises(IndexError):
        point.gradients(np.array([Quantity.VOLTAGE]), np.array([6]))


def test_case33bw_agrees_with_pandapower() -> None:
    """Law 10: an independent power flow on the Baran-Wu feeder."""
    networks = pytest.importorskip("pandapower.networks")
    pandapower = pytest.importorskip("pandapower")
    from tellegen.grid import load_case

    case = load_case("pandapower:case33bw")
    demand = np.zeros(len(case.network.nodes), dtype=complex)
    np.add.at(demand, case.loads.node, case.loads.p_kw + 1j * case.loads.q_kvar)
    flow = solve_powerflow(case.network, demand)
    assert flow.losses_kw == pytest.approx(202.677, abs=5e-4)
    referee = networks.case33bw()
    pandapower.runpp(referee, tolerance_mva=1e-12, numba=False)
    for name, volt in zip(case.network.nodes, np.abs(flow.voltage), strict=True):
        assert volt == pytest.approx(referee.res_bus.vm_pu.at[int(name)], abs=1e-9)
    assert flow.losses_kw == pytest.approx(1e3 * referee.res_line.pl_mw.sum(), abs=1e-5)
