"""Derivatives on three-phase feeders: legs between phases, loads with laws of voltage, a root behind its impedance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tellegen.grid import Connector, Quantity, factorise, linearise, load_case, solve_powerflow, wire

FEEDERS = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"
pytest.importorskip("dss", reason="OpenDSS scripts need the extra 'plant'")
pytestmark = pytest.mark.skipif(not FEEDERS.exists(), reason="the IEEE feeders are not beside the project")


@pytest.fixture(scope="module")
def point():
    """IEEE 13 with its own loads (delta, constant current and impedance) and customers on four sorts of places."""
    case = load_case(str(FEEDERS / "ieee13" / "IEEE13Nodeckt.dss"))
    network = case.network
    connector = Connector(network)
    where = [
        ("671", ""),
        ("680", "1-2"),
        ("675", "1-2-3"),
        ("634", "2"),
        ("645", "2-3"),
        ("671", "3-1"),
        ("633", "1.2"),
    ]
    places = [connector.place(bus, phases) for bus, phases in where]
    factors = factorise(network)
    wiring = wire(network, factors.free, case.loads, connector.table())
    demand = np.zeros(wiring.places, dtype=complex)
    demand[places] = [90 + 20j, 40 - 10j, -60 + 5j, 15, 25 + 12j, 30, 22 + 3j]
    return network, factors, wiring, demand, places


def measured(network, factors, wiring, demand, quantity, index):
    flow = solve_powerflow(network, demand, wiring=wiring, factors=factors)
    values = [flow.root_kw, flow.root_kvar]
    return np.array([
        values[q] if q <= Quantity.ROOT_KVAR
        else abs(flow.voltage[k]) if q == Quantity.VOLTAGE
        else flow.terminal_pu[k]
        for q, k in zip(quantity, index, strict=True)
    ])  # fmt: skip


def asked(network):
    node = network.nodes.index("675")
    element = [k for k, name in enumerate(network.branches.element) if name.endswith(("632670", "xfm1"))][:4]
    quantity = np.array([0, 1, 2, 2] + [3] * len(element))
    index = np.array([0, 0, node, node + 1, *element])
    return quantity, index


def test_gradients_equal_finite_differences(point) -> None:
    network, factors, wiring, demand, places = point
    quantity, index = asked(network)
    flow = solve_powerflow(network, demand, wiring=wiring, factors=factors)
    gradient = linearise(network, demand, flow, wiring=wiring, factors=factors).gradients(quantity, index)
    scale = np.abs(gradient).max(axis=1)
    for place in places:
        for unit in (1.0, 1.0j):
            h = 0.5
            ends = []
            for sign in (1, -1):
                moved = demand.copy()
                moved[place] += sign * h * unit
                ends.append(measured(network, factors, wiring, moved, quantity, index))
            slope = (ends[0] - ends[1]) / (2 * h)
            exact = gradient[:, place].real if unit == 1.0 else gradient[:, place].imag
            np.testing.assert_allclose(exact / scale, slope / scale, atol=2e-6)


def test_hessian_products_equal_differences_of_gradients(point) -> None:
    network, factors, wiring, demand, places = point
    quantity, index = asked(network)
    weight = np.array([1.0, 0.2, 300.0, -200.0, *[50.0] * (quantity.size - 4)])
    rng = np.random.default_rng(3)
    direction = np.zeros(demand.size, dtype=complex)
    direction[places] = rng.standard_normal(len(places)) + 1j * rng.standard_normal(len(places))

    def slope(at):
        flow = solve_powerflow(network, at, wiring=wiring, factors=factors)
        return weight @ linearise(network, at, flow, wiring=wiring, factors=factors).gradients(quantity, index)

    flow = solve_powerflow(network, demand, wiring=wiring, factors=factors)
    line = linearise(network, demand, flow, wiring=wiring, factors=factors)
    product = line.hessian_product(quantity, index, weight, direction[:, None])[:, 0]
    h = 0.5
    numeric = (slope(demand + h * direction) - slope(demand - h * direction)) / (2 * h)
    free = np.setdiff1d(np.arange(demand.size), network.source)
    scale = np.abs(numeric[free]).max()
    np.testing.assert_allclose(product[free] / scale, numeric[free] / scale, atol=1e-5)


def test_a_connection_is_the_mean_of_its_legs(point) -> None:
    network, factors = point[:2]
    connector = Connector(network)
    star = connector.place("671", "")
    nodes = [connector.place("671", str(k)) for k in (1, 2, 3)]
    apart = wire(network, factors.free, None, connector.table())
    idle = np.zeros(apart.places, dtype=complex)
    flow = solve_powerflow(network, idle, wiring=apart, factors=factors)
    gradient = linearise(network, idle, flow, wiring=apart, factors=factors).gradients(np.array([0]), np.array([0]))[0]
    assert gradient[star] == pytest.approx(gradient[nodes].mean(), rel=1e-12)
