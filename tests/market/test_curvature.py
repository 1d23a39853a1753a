"""Curvature from impedances: close to the exact second derivative, at home on places that were never asked before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from tellegen.grid import Connector, load_case, wire
from tellegen.grid.impedance import impedance_entries
from tellegen.grid.network import Network
from tellegen.grid.powerflow import Factors, factorise, solve_powerflow
from tellegen.grid.sensitivity import Quantity, linearise
from tellegen.market.impedance_curvature import impedance_curvature

Street = Callable[..., Network]
IEEE13 = Path(__file__).parents[2].parent / "shared" / "data" / "feeders" / "ieee13" / "IEEE13Nodeckt.dss"


def test_entries_are_those_of_the_inverse(street: Street) -> None:
    factors = factorise(street())
    entries = impedance_entries(factors.y_free)
    assert entries is not None
    inverse = np.linalg.inv(factors.y_free.toarray())
    assert np.abs(entries.diagonal() - np.diag(inverse)).max() < 1e-12
    # Neighbours are entries too.
    pattern = sp.coo_matrix(factors.y_free)
    assert (
        np.abs(np.asarray(entries[pattern.row, pattern.col]).ravel() - inverse[pattern.row, pattern.col]).max() < 1e-12
    )


@pytest.mark.parametrize("root_price", [0.3, -0.05])
def test_it_is_the_second_derivative_but_for_the_load(street: Street, root_price: float) -> None:
    network = street()
    demand = np.zeros(13, dtype=complex)
    demand[[4, 8, 11]] = 1.0 + 0.3j
    point = linearise(network, demand, solve_powerflow(network, demand))
    places = np.arange(1, 13)
    quantity, index = np.array([Quantity.ROOT_KW, Quantity.VOLTAGE]), np.array([0, 8])
    weight = np.array([root_price, -2.0])
    price = weight @ point.gradients(quantity, index)
    factor, rest = impedance_curvature(point, price[places], places)
    model = factor @ factor.T + np.diag(rest)
    exact = np.zeros((24, 24))
    for k, place in enumerate(places):
        for part, unit in enumerate((1.0, 1.0j)):
            direction = np.zeros((13, 1), dtype=complex)
            direction[place] = unit
            answer = point.hessian_product(quantity, index, weight, direction)[places, 0]
            exact[:, k + 12 * part] = np.concatenate([answer.real, answer.imag])
    values, vectors = np.linalg.eigh((exact + exact.T) / 2)
    clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
    # A few per cent of voltage drop is a few per cent of curvature, several times over.
    assert np.abs(model - clipped).max() < 0.25 * max(np.abs(exact).max(), 1e-12)
    if root_price > 0:
        assert np.abs(model - clipped).max() < 0.1 * np.abs(exact).max()


@pytest.mark.skipif(not IEEE13.exists(), reason="the IEEE feeders are not beside the project")
def test_places_between_phases_bend_like_the_exact_ones() -> None:
    pytest.importorskip("dss", reason="OpenDSS scripts need the extra 'plant'")
    case = load_case(str(IEEE13))
    network, connector = case.network, Connector(case.network)
    where = [("671", ""), ("680", "1-2"), ("675", "1-2-3"), ("634", "2"), ("645", "2-3"), ("633", "1.2"), ("680", "1")]
    places = np.array(sorted(connector.place(*place) for place in where))
    factors = factorise(network)
    wiring = wire(network, factors.free, case.loads, connector.table())
    demand = np.zeros(wiring.places, dtype=complex)
    demand[places] = 20 + 5j
    flow = solve_powerflow(network, demand, wiring=wiring, factors=factors)
    point = linearise(network, demand, flow, wiring=wiring, factors=factors)
    root = (np.array([Quantity.ROOT_KW]), np.array([0]))
    price = 0.3 * point.gradients(*root)[0]
    factor, rest = impedance_curvature(point, price[places], places)
    model = factor @ factor.T + np.diag(rest)
    unit = np.zeros((wiring.places, places.size), dtype=complex)
    unit[places, np.arange(places.size)] = 1.0
    exact = point.hessian_product(*root, np.array([0.3]), unit)[places].real
    # Loads that answer to voltage and second orders of the load are left out; transformers and phases are not.
    assert np.abs(model[: places.size, : places.size] - exact).max() < 0.15 * np.abs(exact).max()


def test_it_does_not_depend_on_what_was_computed_before(street: Street) -> None:
    """Bit for bit: a replay in another process meets other operating points first."""
    places = np.arange(1, 13)

    def at(factors: Factors, load: complex) -> tuple[np.ndarray, np.ndarray]:
        network, demand = factors.network, np.zeros(13, dtype=complex)
        demand[[4, 8, 11]] = load
        point = linearise(network, demand, solve_powerflow(network, demand, factors=factors), factors=factors)
        return impedance_curvature(point, np.full(places.size, 0.3 + 0.1j), places)

    fresh, used = factorise(street()), factorise(street())
    at(used, -2 + 0j)
    for one, other in zip(at(fresh, 1 + 0.3j), at(used, 1 + 0.3j), strict=True):
        assert np.array_equal(one, other)
