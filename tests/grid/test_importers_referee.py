"""pandapower's own power flow confirms what the importers read (law 10: nothing believed unchecked)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid import load_case
from tellegen.grid.importers import case_of_tables
from tellegen.grid.importers.tables import tables_of_net
from tellegen.grid.network import Case
from tellegen.grid.powerflow import PowerFlow, solve_powerflow

pp = pytest.importorskip("pandapower")
simbench = pytest.importorskip("simbench")


def own_flow(case: Case) -> PowerFlow:
    demand = np.zeros(len(case.network.nodes), dtype=complex)
    np.add.at(demand, case.loads.node, case.loads.p_kw + 1j * case.loads.q_kvar)
    np.add.at(demand, case.generators.node, -case.generators.p_kw - 1j * case.generators.q_kvar)
    return solve_powerflow(case.network, demand)


def agrees(case: Case, net: Any) -> None:
    """Voltages to 1e-8 pu in magnitude and angle, losses and root power to 1e-5 kW."""
    pp.runpp(net, tolerance_mva=1e-10, numba=False)
    flow = own_flow(case)
    buses = [int(name) for name in case.network.nodes]
    expected = net.res_bus.vm_pu.loc[buses].to_numpy() * np.exp(
        1j * np.radians(net.res_bus.va_degree.loc[buses].to_numpy())
    )
    assert np.abs(flow.voltage - expected).max() < 1e-8
    for bus, node in case.network.aliases:
        assert net.res_bus.vm_pu[int(bus)] == pytest.approx(net.res_bus.vm_pu[int(node)], abs=1e-12)
    assert len(buses) + len(case.network.aliases) == int(net.res_bus.vm_pu.notna().sum())
    root_kw = 1000 * net.res_ext_grid.p_mw.sum()
    served_mw = net.res_load.p_mw.sum() + net.res_storage.p_mw.sum() - net.res_sgen.p_mw.sum()
    losses_kw = root_kw - 1000 * served_mw
    assert flow.root_kw == pytest.approx(root_kw, abs=1e-5)
    assert flow.losses_kw == pytest.approx(losses_kw, abs=1e-5)
    loading: dict[str, float] = {}
    for name, percent in zip(case.network.branches.element, flow.loading_percent.tolist(), strict=True):
        loading[name] = max(loading.get(name, 0.0), percent)
    for index, percent in net.res_line.loading_percent.items():
        if f"line {index}" in loading:
            assert loading[f"line {index}"] == pytest.approx(percent, abs=1e-6)


def test_case33bw_by_name_and_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """33 buses of Baran and Wu: 202.677 kW of losses, 0.91309 pu at bus 18 (index 17)."""
    monkeypatch.setenv("TELLEGEN_CACHE", str(tmp_path / "cache"))
    import pandapower.networks as shipped

    net = shipped.case33bw()
    case = load_case("pandapower:case33bw")
    agrees(case, net)
    flow = own_flow(case)
    assert flow.losses_kw == pytest.approx(202.677, abs=5e-4)
    assert abs(flow.voltage[case.network.node_index("17")]) == pytest.approx(0.913090, abs=5e-7)
    assert case.root_price == pytest.approx(0.02)
    pp.to_json(net, str(tmp_path / "case33bw.json"))
    agrees(load_case(str(tmp_path / "case33bw.json")), net)


def test_case33bw_as_matpower_text(tmp_path: Path) -> None:
    """The same feeder in ohms and kW, as MATPOWER ships it, written out here from pandapower's table."""
    import pandapower.networks as shipped

    net = shipped.case33bw()
    bus = [[k + 1, 1 if k else 3, 0.0, 0.0, 0, 0, 1, 1, 0, 12.66, 1, 1.1, 0.9] for k in range(33)]
    for row in net.load.itertuples():
        bus[row.bus][2] += row.p_mw * 1000
        bus[row.bus][3] += row.q_mvar * 1000
    branch = [
        [row.from_bus + 1, row.to_bus + 1, row.r_ohm_per_km, row.x_ohm_per_km, 0, 0, 0, 0, 0, 0, int(row.in_service)]
        for row in net.line.itertuples()
    ]

    def rows(values: list[list[Any]]) -> str:
        return "[\n" + "".join("\t" + "\t".join(f"{v:.12g}" for v in row) + ";\n" for row in values) + "];\n"

    text = "function mpc = case33bw\nmpc.version = '2';\nmpc.baseMVA = 10;\n"
    text += "mpc.bus = " + rows(bus) + "mpc.gen = [1 0 0 10 -10 1 100 1 10 0];\nmpc.branch = " + rows(branch)
    text += "mpc.gencost = [\n\t2\t0\t0\t3\t0\t20\t0;\n];\n"
    text += "Vbase = mpc.bus(1, BASE_KV) * 1e3;\nSbase = mpc.baseMVA * 1e6;\n"
    text += "mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);\n"
    text += "mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;\n"
    (tmp_path / "case33bw.m").write_text(text)
    case = load_case(str(tmp_path / "case33bw.m"))
    pp.runpp(net, tolerance_mva=1e-10, numba=False)
    flow = own_flow(case)
    assert np.abs(np.abs(flow.voltage) - net.res_bus.vm_pu.to_numpy()).max() < 1e-8
    assert flow.losses_kw == pytest.approx(202.677, abs=5e-4)
    assert case.root_price == pytest.approx(0.02)


def awkward_net() -> Any:
    """Every branch model at once: taps on both sides, a vector group, parallels, shunts, switches."""
    net = pp.create_empty_network(sn_mva=1.0)
    mv, mv2, mv3 = (pp.create_bus(net, 20.0) for _ in range(3))
    lv, lv2, lv3, lv4 = (pp.create_bus(net, 0.4) for _ in range(4))
    pp.create_ext_grid(net, mv, vm_pu=1.02, va_degree=10.0)
    for a, b, km in ((mv, mv2, 1.5), (mv2, mv3, 2.0), (mv, mv3, 3.0)):
        pp.create_line_from_parameters(net, a, b, km, 0.2, 0.12, 270.0, 0.3, parallel=2 if a == mv2 else 1)
    net.line["g_us_per_km"] = 4.0
    for side, hv, low, pos in (("hv", mv2, lv, -2), ("lv", mv3, lv2, 1)):
        pp.create_transformer_from_parameters(
            net, hv, low, 0.4, 20.0, 0.42, 1.4, 6.0, 1.2, 0.4, shift_degree=150.0, tap_side=side, tap_neutral=0,
            tap_min=-2, tap_max=2, tap_step_percent=2.5, tap_pos=pos, tap_changer_type="Ratio", parallel=2
        )  # fmt: skip
    for a, b in ((lv, lv3), (lv2, lv4), (lv3, lv4)):
        pp.create_line_from_parameters(net, a, b, 0.2, 0.2, 0.08, 830.0, 0.27, df=0.9)
    pp.create_switch(net, lv4, 5, et="l", closed=False)  # the ring is open, its last line hangs on lv3
    lv5 = pp.create_bus(net, 0.4)
    pp.create_switch(net, lv4, lv5, et="b", closed=True)
    lv6 = pp.create_bus(net, 0.4)
    pp.create_switch(net, lv3, lv6, et="b", closed=True, z_ohm=0.02)
    pp.create_bus(net, 0.4)  # fed by nothing
    pp.create_shunt(net, lv3, q_mvar=-0.02, p_mw=0.0, vn_kv=0.41, step=2)
    pp.create_load(net, lv3, 0.06, 0.02, scaling=1.1)
    pp.create_load(net, lv5, 0.09, 0.01)
    pp.create_load(net, lv6, 0.02, 0.005)
    pp.create_load(net, lv3, 0.5, 0.0, in_service=False)
    pp.create_sgen(net, lv4, 0.03, 0.004, scaling=0.8)
    pp.create_storage(net, lv3, -0.01, 0.02, q_mvar=0.001)
    return net


def test_every_branch_model_at_once(tmp_path: Path) -> None:
    net = awkward_net()
    case = case_of_tables(tables_of_net("awkward", net))
    agrees(case, net)
    pp.to_json(net, str(tmp_path / "awkward.json"))
    again = load_case(str(tmp_path / "awkward.json"))
    assert np.abs((again.network.admittance - case.network.admittance).toarray()).max() < 1e-9
    said = " ".join(case.warnings)
    assert "line 5" in said  # open at an end
    assert "left out: 9" in said  # the bus that nothing feeds


def test_a_simbench_grid_is_kept_after_the_first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLEGEN_CACHE", str(tmp_path))
    net = simbench.get_simbench_net("1-LV-rural1--2-sw")
    opened = []
    monkeypatch.setattr(simbench, "get_simbench_net", lambda code: opened.append(code) or net)
    first = load_case("simbench:1-LV-rural1--2-sw")
    agrees(first, net)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".npz"}
    again = load_case("simbench:1-LV-rural1--2-sw")
    assert again.network.nodes == first.network.nodes
    assert np.array_equal(again.network.admittance.toarray(), first.network.admittance.toarray())
    assert np.array_equal(again.loads.p_kw, first.loads.p_kw)
    assert again.warnings == first.warnings
    assert opened == ["1-LV-rural1--2-sw"]  # the second time nothing was opened with its own package


def test_a_damaged_cache_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLEGEN_CACHE", str(tmp_path))
    first = load_case("pandapower:panda_four_load_branch")
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text()[:50])
    assert load_case("pandapower:panda_four_load_branch").network.nodes == first.network.nodes
    assert json.loads(kept.read_text())["frames"]


def test_unknown_grids_name_a_known_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLEGEN_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="not a SimBench code"):
        load_case("simbench:1-LV-rural9--2-sw")
    with pytest.raises(InputError, match="not among those"):
        load_case("pandapower:no_such_network")
    with pytest.raises(InputError, match="not among those"):
        load_case("pandapower:np")


@pytest.mark.slow
@pytest.mark.parametrize("code", ["1-LV-rural3--2-no_sw", "1-LV-semiurb5--2-sw", "1-MV-rural--0-sw"])
def test_simbench_grids_of_all_kinds(code: str) -> None:
    agrees(load_case(f"simbench:{code}"), simbench.get_simbench_net(code))
