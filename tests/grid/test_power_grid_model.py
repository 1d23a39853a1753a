"""power-grid-model, a solver in C++ with models of its own: a third opinion on balanced and unbalanced power flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tellegen.grid import Case, solve_powerflow
from tellegen.grid.importers import case_of_tables
from tellegen.grid.importers.tables import tables_of_net

pp = pytest.importorskip("pandapower")
pgm = pytest.importorskip("power_grid_model", reason="the peer power-grid-model is not installed")
pytestmark = pytest.mark.slow

STIFF_VA = 1e16
"""Short-circuit power that makes its source ideal."""
VOLT_PER_KV = 1e3
WATT_PER_MW = 1e6
WINDING = {"D": 2, "YN": 1, "Y": 0, "yn": 1, "y": 0, "d": 2}


def theirs(net: Any, *, symmetric: bool) -> np.ndarray:
    """Complex voltages to ground (per unit) in the order of the bus table: [B] or [B, 3]."""
    bus = {k: row for row, k in enumerate(net.bus.index)}
    serial = iter(range(len(bus), 10**9))
    data = {}
    nodes = pgm.initialize_array("input", "node", len(bus))
    nodes["id"] = list(bus.values())
    nodes["u_rated"] = net.bus.vn_kv * VOLT_PER_KV
    data["node"] = nodes
    lines, switch = net.line[net.line.in_service], net.switch[~net.switch.closed & (net.switch.et == "l")]
    parts = pgm.initialize_array("input", "line", len(lines))
    parts["id"] = [next(serial) for _ in range(len(lines))]
    parts["from_node"], parts["to_node"] = lines.from_bus.map(bus), lines.to_bus.map(bus)
    opened = set(zip(switch.element, switch.bus, strict=True))
    parts["from_status"] = [(k, b) not in opened for k, b in lines.from_bus.items()]
    parts["to_status"] = [(k, b) not in opened for k, b in lines.to_bus.items()]
    for own, column in (
        ("r1", "r_ohm_per_km"),
        ("x1", "x_ohm_per_km"),
        ("r0", "r0_ohm_per_km"),
        ("x0", "x0_ohm_per_km"),
    ):
        parts[own] = lines.get(column, lines[column.replace("0_", "_")]) * lines.length_km / lines.parallel
    for own, column in (("c1", "c_nf_per_km"), ("c0", "c0_nf_per_km")):
        parts[own] = lines.get(column, lines["c_nf_per_km"]) * 1e-9 * lines.length_km * lines.parallel
    parts["tan1"] = parts["tan0"] = 0.0
    parts["i_n"] = 1e3
    data["line"] = parts
    trafo = net.trafo[net.trafo.in_service]
    units = pgm.initialize_array("input", "transformer", len(trafo))
    units["id"] = [next(serial) for _ in range(len(trafo))]
    units["from_node"], units["to_node"] = trafo.hv_bus.map(bus), trafo.lv_bus.map(bus)
    units["from_status"] = units["to_status"] = 1
    units["u1"], units["u2"] = trafo.vn_hv_kv * VOLT_PER_KV, trafo.vn_lv_kv * VOLT_PER_KV
    units["sn"], units["uk"] = trafo.sn_mva * WATT_PER_MW, trafo.vk_percent / 100
    units["pk"] = trafo.vkr_percent / 100 * trafo.sn_mva * WATT_PER_MW
    units["i0"] = units["p0"] = 0.0
    units["clock"] = (trafo.shift_degree / 30).astype(int)
    given = trafo.vector_group if "vector_group" in trafo else [None] * len(trafo)
    groups = [
        g if isinstance(g, str) else ("Dyn" if hour % 2 else "YNyn")
        for g, hour in zip(given, units["clock"], strict=True)
    ]
    units["winding_from"] = [WINDING["YN" if g.startswith("YN") else g[0]] for g in groups]
    units["winding_to"] = [WINDING["yn" if g.rstrip("0123456789").endswith("n") else "d"] for g in groups]
    steps = (trafo.tap_pos - trafo.tap_neutral).where(trafo.get("tap_changer_type") == "Ratio", 0)
    units["tap_side"], units["tap_nom"], units["tap_pos"] = 0, 0, steps.fillna(0)
    units["tap_min"], units["tap_max"] = -20, 20
    units["tap_size"] = trafo.tap_step_percent.fillna(0) / 100 * units["u1"]
    data["transformer"] = units
    source = pgm.initialize_array("input", "source", len(net.ext_grid))
    source["id"] = [next(serial) for _ in range(len(net.ext_grid))]
    source["node"], source["u_ref"], source["status"] = net.ext_grid.bus.map(bus), net.ext_grid.vm_pu, 1
    source["u_ref_angle"] = np.radians(net.ext_grid.va_degree)
    source["sk"], source["rx_ratio"], source["z01_ratio"] = STIFF_VA, 0.1, 1.0
    data["source"] = source
    rows = [
        (row.bus, [row.p_mw * row.scaling / 3] * 3, [row.q_mvar * row.scaling / 3] * 3) for row in net.load.itertuples()
    ]
    rows += [(r.bus, [-r.p_mw * r.scaling / 3] * 3, [-r.q_mvar * r.scaling / 3] * 3) for r in net.sgen.itertuples()]
    for r in net.asymmetric_load.itertuples():
        rows.append((r.bus, [r.p_a_mw, r.p_b_mw, r.p_c_mw], [r.q_a_mvar, r.q_b_mvar, r.q_c_mvar]))
    loads = pgm.initialize_array("input", "asym_load", len(rows))
    loads["id"] = [next(serial) for _ in rows]
    loads["node"], loads["status"], loads["type"] = [bus[b] for b, _, _ in rows], 1, 0
    loads["p_specified"] = np.array([p for _, p, _ in rows]) * WATT_PER_MW
    loads["q_specified"] = np.array([q for _, _, q in rows]) * WATT_PER_MW
    data["asym_load"] = loads
    result = pgm.PowerGridModel(data, system_frequency=net.f_hz).calculate_power_flow(
        symmetric=symmetric, error_tolerance=1e-10, max_iterations=100
    )["node"]
    return np.asarray(result["u_pu"] * np.exp(1j * result["u_angle"]))


def largest_difference(net: Any, *, three_phase: bool) -> float:
    case: Case = case_of_tables(tables_of_net("net", net), three_phase=three_phase)
    network, units = case.network, case.generators
    demand = np.zeros(len(network.nodes), dtype=complex)
    np.add.at(demand, units.node, -(units.p_kw + 1j * units.q_kvar))
    flow = solve_powerflow(network, demand, loads=case.loads)
    peer = theirs(net, symmetric=not three_phase)
    position = {str(k): row for row, k in enumerate(net.bus.index)}
    sources = set(network.source.tolist()) if three_phase else set()
    worst = 0.0
    for k, (name, phase) in enumerate(zip(network.nodes, network.phase.tolist(), strict=True)):
        if k not in sources:
            other = peer[position[name], phase - 1] if three_phase else peer[position[name]]
            worst = max(worst, abs(flow.voltage[k] - other))
    return worst


def test_case33bw() -> None:
    import pandapower.networks as shipped

    assert largest_difference(shipped.case33bw(), three_phase=False) < 1e-9


@pytest.mark.parametrize("code", ["1-LV-rural3--2-no_sw", "1-LV-urban6--0-no_sw"])
def test_simbench(code: str) -> None:
    """Without magnetising branches, which pandapower puts in the middle of a T and the peer at both ends."""
    simbench = pytest.importorskip("simbench")
    net = simbench.get_simbench_net(code)
    net.storage.drop(net.storage.index, inplace=True)
    net.trafo["pfe_kw"] = net.trafo["i0_percent"] = 0.0
    assert largest_difference(net, three_phase=False) < 1e-8


def test_a_street_in_three_phases() -> None:
    """A transformer whose zero sequence is its positive one, as the peer has it; a root that holds all sequences."""
    net = pp.create_empty_network(sn_mva=1.0)
    mv, lv, lv2, lv3 = (pp.create_bus(net, kv) for kv in (10.0, 0.4, 0.4, 0.4))
    pp.create_ext_grid(net, mv, 1.01)
    for group, shift in (("Dyn", 150.0), ("Dyn", 330.0), ("YNyn", 0.0)):
        net.trafo.drop(net.trafo.index, inplace=True)
        net.line.drop(net.line.index, inplace=True)
        net.asymmetric_load.drop(net.asymmetric_load.index, inplace=True)
        pp.create_transformer_from_parameters(
            net, mv, lv, 0.25, 10.0, 0.4, 1.2, 4.0, 0.0, 0.0, shift_degree=shift, vector_group=group, vk0_percent=4.0,
            vkr0_percent=1.2, mag0_percent=1e12, mag0_rx=0.0, si0_hv_partial=0.5, tap_side="hv", tap_neutral=0,
            tap_min=-2, tap_max=2, tap_step_percent=2.5, tap_pos=1, tap_changer_type="Ratio",
        )  # fmt: skip
        for a, b in ((lv, lv2), (lv2, lv3), (lv, lv3)):
            pp.create_line_from_parameters(
                net, a, b, 0.2, 0.2, 0.08, 260.0, 0.3, r0_ohm_per_km=0.8, x0_ohm_per_km=0.3, c0_nf_per_km=200.0
            )
        pp.create_asymmetric_load(net, lv2, p_a_mw=0.03, p_b_mw=0.001, q_a_mvar=0.01)
        pp.create_asymmetric_load(net, lv3, p_b_mw=0.02, p_c_mw=-0.03, q_c_mvar=0.004)
        assert largest_difference(net, three_phase=True) < 1e-6


def test_the_european_feeder() -> None:
    import pandapower.networks as shipped

    net = shipped.ieee_european_lv_asymmetric()
    net.trafo["mag0_percent"] = 1e12
    net.ext_grid["s_sc_max_mva"] = np.nan
    assert largest_difference(net, three_phase=True) < 1e-6
