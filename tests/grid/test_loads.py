"""Loads that depend on voltage and lie between nodes: closed forms, derivatives, edges of the band."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.grid import FixedLoads, GridError, LoadLaw, solve_powerflow, with_plain_loads
from tellegen.grid.loads import Draw
from tellegen.grid.network import Branches, LimitKind, Network

R = 0.1


def three_wires() -> Network:
    """A source and two ends, each behind R per unit; base 100 kVA, the ends half the nominal voltage of the source."""
    y = 1 / R
    matrix = sp.csr_matrix(np.array([[2 * y, -y, -y], [-y, y, 0], [-y, 0, y]], dtype=complex))
    none = Branches((), np.zeros(0, dtype=np.int64), matrix[:0], np.zeros(0), np.full(0, int(LimitKind.CURRENT)))
    return Network(
        "wires", ("root", "a", "b"), np.zeros(3, dtype=np.int64), 100.0, np.array([0.4, 0.2, 0.2]), matrix,
        np.array([0]), np.array([1.0 + 0j]), np.full(3, 0.5), np.full(3, 1.5), none,
    )  # fmt: skip


def law(count: int, exponent: float, **changes: float) -> LoadLaw:
    columns = {"rated_pu": 1.0, "p_exponent": exponent, "q_exponent": exponent, "edge_exponent": exponent}
    columns |= {"low": 0.0, "minimum": 0.0, "maximum": np.inf} | changes
    return LoadLaw(**{name: np.full(count, value) for name, value in columns.items()})


def load(kw: float, exponent: float, node: int = 1, other: int = -1, **changes: float) -> FixedLoads:
    return FixedLoads(
        ("load",), np.array([node]), np.array([kw]), np.zeros(1), np.array([other]), law(1, exponent, **changes)
    )


NOTHING = np.zeros(3, dtype=complex)


@pytest.mark.parametrize(
    ("exponent", "volt"),
    [
        (2.0, 1 / (1 + R * 0.5)),  # a conductance of 0.5 pu divides the voltage
        (1.0, 1 - R * 0.5),  # a current of 0.5 pu
        (0.0, 0.5 + np.sqrt(0.25 - R * 0.5)),  # v (1 - v) = R P
    ],
)
def test_impedance_current_and_power_have_their_closed_forms(exponent: float, volt: float) -> None:
    flow = solve_powerflow(three_wires(), NOTHING, loads=load(50.0, exponent))
    assert abs(flow.voltage[1]) == pytest.approx(volt, abs=1e-12)
    drawn = 50.0 * volt**exponent
    assert flow.root_kw == pytest.approx(drawn / volt, abs=1e-9)  # the current comes from 1 pu
    assert flow.losses_kw == pytest.approx(drawn / volt - drawn, abs=1e-9)


def test_a_load_between_two_equal_nodes_draws_nothing_through_the_earth() -> None:
    """No voltage lies between a and b, so an impedance there takes no power."""
    flow = solve_powerflow(three_wires(), NOTHING, loads=load(50.0, 2.0, other=2))
    assert np.abs(flow.voltage - 1).max() < 1e-12
    assert flow.root_kw == pytest.approx(0, abs=1e-9)


def test_a_load_between_nodes_sends_its_current_back() -> None:
    """Sources at 1 and -1 behind R each feed a load between them: v = 2 - 2 R i."""
    network = three_wires()
    y = 1 / R
    network = dataclasses.replace(
        network,
        nodes=("plus", "a", "b", "minus"),
        phase=np.zeros(4, dtype=np.int64),
        base_kv=np.array([0.2, 0.2, 0.2, 0.2]),
        admittance=sp.csr_matrix(np.array([[y, -y, 0, 0], [-y, y, 0, 0], [0, 0, y, -y], [0, 0, -y, y]], dtype=complex)),
        source=np.array([0, 3]),
        source_voltage=np.array([1.0, -1.0], dtype=complex),
        v_min=np.full(4, 0.5),
        v_max=np.full(4, 1.5),
        branches=dataclasses.replace(network.branches, current_rows=sp.csr_matrix((0, 4), dtype=complex)),
    )
    flow = solve_powerflow(network, np.zeros(4, dtype=complex), loads=load(40.0, 0.0, node=1, other=2))
    current = 0.4 / (1 + np.sqrt(1 - 2 * R * 0.4))  # (2 - 2 R i) i = 0.4
    assert flow.voltage[1] - flow.voltage[2] == pytest.approx(2 - 2 * R * current, abs=1e-12)
    assert flow.losses_kw == pytest.approx(100 * 2 * R * current**2, abs=1e-9)


def test_near_collapse_newton_solves_a_law_as_it_solves_plain_demand() -> None:
    """law 1: the balanced case is the same code, so a law of constant power changes nothing."""
    kw = 0.9999 * 100 / (4 * R)
    plain = solve_powerflow(three_wires(), np.array([0, kw, 0], dtype=complex))
    lawful = solve_powerflow(three_wires(), NOTHING, loads=load(kw, 0.0))
    assert abs(plain.voltage[1] - lawful.voltage[1]) < 1e-6  # the slope of the nose magnifies rounding
    with pytest.raises(GridError, match="beyond what the network can carry"):
        solve_powerflow(three_wires(), NOTHING, loads=load(kw * 1.001, 0.0))


def test_plain_loads_join_demand_also_at_a_source() -> None:
    loads = FixedLoads(("x", "y"), np.array([0, 1]), np.array([7.0, 20.0]), np.zeros(2))
    demand = np.array([0, 10.0, 0], dtype=complex)
    flow = solve_powerflow(three_wires(), demand, loads=loads)
    same = solve_powerflow(three_wires(), np.array([7.0, 30.0, 0], dtype=complex))
    assert np.array_equal(flow.voltage, same.voltage)
    assert flow.root_kw == same.root_kw
    assert flow.losses_kw == same.losses_kw
    assert with_plain_loads(three_wires(), demand, loads).tolist() == [7, 30, 0]


def test_a_lawful_load_at_a_source_is_refused() -> None:
    with pytest.raises(InputError, match="ends at a source"):
        solve_powerflow(three_wires(), NOTHING, loads=load(1.0, 1.0, node=1, other=0))


@given(st.sampled_from([0.0, 1.0]), st.floats(0.3, 0.6), st.floats(0.7, 0.97), st.floats(1.02, 1.3))
@settings(max_examples=50, deadline=None)
def test_power_does_not_jump_at_the_edges_of_the_band(e: float, low: float, minimum: float, maximum: float) -> None:
    table = law(1, e, low=low, minimum=minimum, maximum=maximum)
    for edge in (low, minimum, maximum):
        below, above = (table.factors(np.array([edge * (1 + d)]))[0][0] for d in (-1e-9, 1e-9))
        assert below == pytest.approx(above, rel=1e-6)


@given(
    st.integers(0, 2**31), st.floats(0.2, 1.4), st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.sampled_from([0.0, 1.0])
)
@settings(max_examples=60, deadline=None)
def test_the_current_changes_as_its_derivative_says(
    seed: int, size: float, p_exponent: float, q_exponent: float, edge: float
) -> None:
    rng = np.random.default_rng(seed)
    edges = np.array([0.5, 0.9, 1.1])
    if np.abs(size - edges).min() < 1e-3:  # the slope jumps there
        return
    voltage = size * np.exp(1j * rng.uniform(-3, 3, 3))
    incidence = sp.csr_matrix(np.array([[1.0, 1, 0], [0, -1, 0], [0, 0, 1]]))
    across = np.abs(incidence.T @ voltage)
    rated = across / size
    if across.min() < 0.05:
        return
    draw = Draw(
        load=rng.normal(size=3) + 1j * rng.normal(size=3),
        incidence=incidence,
        power=rng.normal(size=3) + 1j * rng.normal(size=3),
        law=LoadLaw(
            rated, np.full(3, p_exponent), np.full(3, q_exponent), np.full(3, edge), *(np.full(3, x) for x in edges)
        ),
    )
    direction = rng.normal(size=3) + 1j * rng.normal(size=3)
    h = 1e-6
    numeric = (draw.current(voltage + h * direction) - draw.current(voltage - h * direction)) / (2 * h)
    direct, mirrored = draw.derivative(voltage)
    exact = direct @ direction + mirrored @ np.conj(direction)
    scale = np.abs(draw.current(voltage)).max() / min(size, float(across.min())) ** 2
    assert np.abs(numeric - exact).max() <= 1e-6 * max(1.0, scale)
