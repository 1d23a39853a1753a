"""Three phases from pandapower's tables, against pandapower's and power-grid-model's own unbalanced power flow."""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid import Case, PowerFlow, load_case, solve_powerflow
from tellegen.grid.importers import case_of_tables
from tellegen.grid.importers.tables import tables_of_net

pp = pytest.importorskip("pandapower")


def converged(net: Any) -> None:
    """pandapower's unbalanced power flow to 1e-11 MVA.

    Its own loop stops at a change of 3e-8 MVA, where voltages of the European feeder are still 2e-6 pu away.
    """
    import pandapower.pf.runpp_3ph as own

    text = inspect.getsource(own)
    stop = "outer_tolerance_mva = 3e-8"
    if stop not in text:
        pytest.skip("this release of pandapower stops by another rule")
    loop = types.ModuleType("converged_3ph")
    exec(compile(text.replace(stop, "outer_tolerance_mva = 1e-11"), "converged_3ph", "exec"), loop.__dict__)
    loop.runpp_3ph(net, max_iteration=300, tolerance_mva=1e-12, numba=False)


def solved(case: Case) -> PowerFlow:
    demand = np.zeros(len(case.network.nodes), dtype=complex)
    units = case.generators
    np.add.at(demand, units.node, -(units.p_kw + 1j * units.q_kvar))
    return solve_powerflow(case.network, demand, loads=case.loads)


def three_phase(net: Any) -> tuple[Case, PowerFlow]:
    case = case_of_tables(tables_of_net("net", net), three_phase=True)
    return case, solved(case)


def difference_pu(net: Any, case: Case, flow: PowerFlow) -> float:
    """Largest complex difference of a voltage to ground."""
    size = [net.res_bus_3ph[f"vm_{letter}_pu"] for letter in "abc"]
    turn = [net.res_bus_3ph[f"va_{letter}_degree"] for letter in "abc"]
    sources = set(case.network.source.tolist())
    worst = 0.0
    for k, (bus, phase) in enumerate(zip(case.network.nodes, case.network.phase.tolist(), strict=True)):
        if k not in sources:
            theirs = size[phase - 1][int(bus)] * np.exp(1j * np.radians(turn[phase - 1][int(bus)]))
            worst = max(worst, abs(theirs - flow.voltage[k]))
    return worst


def street(group: str, shift: float, *, tap: int = 0, magnetising: float = 100.0, capacitance: float = 250.0) -> Any:
    """A transformer pair, a ring, every kind of load and generator, a shunt, an impedance switch, a dangling line."""
    net = pp.create_empty_network(sn_mva=1.0)
    mv, mv2 = (pp.create_bus(net, 20.0) for _ in range(2))
    lv, lv2, lv3, lv4 = (pp.create_bus(net, 0.4) for _ in range(4))
    pp.create_ext_grid(net, mv, 1.02, s_sc_max_mva=200.0, rx_max=0.2, x0x_max=1.5, r0x0_max=0.3)

    def line(a: int, b: int, km: float, **more: Any) -> None:
        zero = {"r0_ohm_per_km": 0.8, "x0_ohm_per_km": 0.3, "c0_nf_per_km": capacitance} | more
        pp.create_line_from_parameters(net, a, b, km, 0.2, 0.08, 400.0, 0.3, **zero)

    line(mv, mv2, 2.0, r0_ohm_per_km=0.4, x0_ohm_per_km=1.1, c0_nf_per_km=120.0, g_us_per_km=3.0)
    pp.create_transformer_from_parameters(
        net, mv2, lv, 0.4, 20.0, 0.41, 1.2, 5.0, 1.1, 0.6, shift_degree=shift, vector_group=group, vk0_percent=4.6,
        vkr0_percent=1.0, mag0_percent=magnetising, mag0_rx=0.3, si0_hv_partial=0.9, tap_side="hv", tap_neutral=0,
        tap_min=-2, tap_max=2, tap_step_percent=2.5, tap_pos=tap, tap_changer_type="Ratio", parallel=2,
    )  # fmt: skip
    line(lv, lv2, 0.15)
    line(lv2, lv3, 0.1)
    line(lv, lv3, 0.2, parallel=2)
    line(lv3, lv4, 0.3)
    pp.create_switch(net, lv4, 4, et="l", closed=False)
    pp.create_asymmetric_load(net, lv2, p_a_mw=0.02, p_b_mw=0.04, p_c_mw=0.005, q_a_mvar=0.01, q_c_mvar=0.002)
    pp.create_asymmetric_load(net, lv3, p_a_mw=0.02, p_b_mw=0.01, q_a_mvar=0.01, type="delta", scaling=0.9)
    pp.create_load(net, lv2, 0.03, 0.01, type="wye")
    pp.create_load(net, lv3, 0.03, 0.01, type="delta")
    pp.create_asymmetric_sgen(net, lv3, p_a_mw=0.03, q_a_mvar=-0.002)
    pp.create_sgen(net, lv2, 0.02, type="wye")
    pp.create_load(net, mv2, 0.3, 0.1, type="wye")
    pp.create_shunt(net, lv2, q_mvar=-0.02, p_mw=0.001)
    return net


@pytest.mark.parametrize(("group", "shift", "tap"), [("Dyn", 150.0, 2), ("Dyn", 330.0, 0), ("YNyn", 0.0, -2)])
def test_sequences_become_phases_as_pandapower_solves_them(group: str, shift: float, tap: int) -> None:
    """Within 3e-7 pu: the share by which the stiff root gives way."""
    net = street(group, shift, tap=tap)
    converged(net)
    case, flow = three_phase(net)
    assert difference_pu(net, case, flow) < 3e-7
    assert flow.root_kw == pytest.approx(1000 * net.res_ext_grid_3ph.filter(regex="^p_").sum().sum(), rel=1e-6)
    assert flow.mismatch_pu < 1e-9


def test_the_european_feeder_by_its_asymmetric_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLEGEN_CACHE", str(tmp_path))
    import pandapower.networks as shipped

    net = shipped.ieee_european_lv_asymmetric()
    converged(net)
    case = load_case("pandapower:ieee_european_lv_asymmetric")
    assert len(case.network.nodes) == 3 * 907 + 3
    flow = solved(case)
    assert difference_pu(net, case, flow) < 3e-7
    assert len(case.loads.name) < len(net.asymmetric_load) + 1  # a single-phase customer is one row
    pp.to_json(net, str(tmp_path / "eu.json"))
    again = solved(load_case(str(tmp_path / "eu.json")))
    assert np.abs(again.voltage - flow.voltage).max() < 1e-12


def test_balanced_loads_stay_balanced() -> None:
    """With equal phases the three-phase network has the voltages of the balanced one, and no neutral shift."""
    net = street("Dyn", 150.0)
    net.asymmetric_load.drop(net.asymmetric_load.index, inplace=True)
    net.asymmetric_sgen.drop(net.asymmetric_sgen.index, inplace=True)
    case, flow = three_phase(net)
    plain = case_of_tables(tables_of_net("net", net))
    assert plain.network.balanced
    single = solved(plain)
    own = [k for k in range(len(case.network.nodes)) if k not in set(case.network.source.tolist())]
    assert np.abs(flow.voltage[own][::3] - single.voltage).max() < 3e-7
    assert flow.root_kw == pytest.approx(single.root_kw, rel=1e-6)
    assert flow.loading_percent.max() == pytest.approx(single.loading_percent.max(), rel=1e-6)


def test_asymmetric_loads_can_be_asked_for_as_balanced() -> None:
    case = case_of_tables(tables_of_net("net", street("Dyn", 150.0)), three_phase=False)
    assert case.network.balanced
    assert case.loads.p_kw.sum() == pytest.approx(1000 * (0.065 + 0.027 + 0.03 + 0.03 + 0.3 - 0.03))
    assert any("balanced" in warning and "asymmetric_load 0" in warning for warning in case.warnings)


def short_circuit_zero(group: str, shift: float) -> tuple[complex, complex]:
    """Zero-sequence admittance (per unit) at the high and at the low side of the transformer alone."""
    net = street(group, shift, capacitance=0.0)
    case = case_of_tables(tables_of_net("net", net), three_phase=True)
    branches = case.network.branches
    rows = [k for k, name in enumerate(branches.element) if name == "trafo 0"]
    block = branches.current_rows[rows][:, branches.node[rows]].toarray()
    return block[:3, :3].sum() / 3, block[3:, 3:].sum() / 3


@pytest.mark.parametrize(
    ("group", "shift", "sides"),
    [("Dyn", 150, "lv"), ("YNd", 150, "hv"), ("Yyn", 0, "lv"), ("YNy", 0, "hv"), ("Yzn", 150, "lv"), ("Dzn", 0, "lv")],
)
def test_zero_sequence_current_flows_only_at_an_earthed_star(group: str, shift: float, sides: str) -> None:
    net = street(group, shift)
    high, low = short_circuit_zero(group, shift)
    assert (abs(high) > 1e-6) == (sides == "hv")
    assert (abs(low) > 1e-6) == (sides == "lv")
    assert net.trafo.vk0_percent[0] == 4.6
    # Leakage in per unit at the rated voltage; a star without delta conducts through its core only.
    vk = (4.6 / 100) / (2 * 0.4)
    seen = 1 / max(abs(high), abs(low))
    if group in ("Yzn", "Dzn"):
        assert seen == pytest.approx(vk * (0.41 / 0.4) ** 2, rel=1e-9)
    elif group in ("Yyn", "YNy"):
        assert seen > vk


@pytest.mark.parametrize("group", ["Yyn", "YNyn", "Dyn"])
def test_zero_sequence_between_earthed_stars_passes(group: str) -> None:
    """A load from one phase to earth at the low side draws zero sequence at the high side only through YNyn."""
    case, flow = three_phase(street(group, 150.0 if group == "Dyn" else 0.0))
    branches = case.network.branches
    rows = [k for k, name in enumerate(branches.element) if name == "trafo 0"][:3]
    zero = abs((branches.current_rows[rows] @ flow.voltage).sum())
    assert (zero > 1e-5) == (group == "YNyn")


def test_a_section_without_earth_is_held_and_named() -> None:
    net = street("Yd", 150.0, capacitance=0.0)
    net.asymmetric_load["type"] = "delta"
    net.load["type"] = "delta"
    net.asymmetric_sgen.drop(net.asymmetric_sgen.index, inplace=True)
    net.sgen.drop(net.sgen.index, inplace=True)
    net.shunt.drop(net.shunt.index, inplace=True)
    net.load.loc[2, "type"] = "wye"
    case, flow = three_phase(net)
    assert any("no path to earth" in warning and "2" in warning for warning in case.warnings)
    assert flow.mismatch_pu < 1e-9
    at = [k for k, bus in enumerate(case.network.nodes) if bus == "3"]
    assert abs(flow.voltage[at].sum()) / 3 < 1e-3  # nothing drives a zero sequence there


def test_what_three_phases_need_is_asked_for() -> None:
    for column, table, problem in (
        ("r0_ohm_per_km", "line", "r0_ohm_per_km is missing"),
        ("vector_group", "trafo", "vector_group is missing"),
    ):
        net = street("Dyn", 150.0)
        del net[table][column]
        with pytest.raises(InputError, match=problem):
            three_phase(net)
    net = street("Dyn", 150.0)
    net.trafo["vector_group"] = "ZNyn"
    with pytest.raises(InputError, match="vector_group is 'ZNyn'"):
        three_phase(net)
    net = street("Dyn", 0.0)
    case, _ = three_phase(net)
    assert any("contradicts the vector group Dyn" in warning for warning in case.warnings)
    net = street("Dyn", 150.0)
    net.ext_grid["s_sc_max_mva"] = np.nan
    case, flow = three_phase(net)
    assert any("all sequences are held" in warning for warning in case.warnings)
    assert abs(abs(flow.voltage[0]) - 1.02) < 1e-6
