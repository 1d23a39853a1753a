"""Importers: what a file says is what the power flow sees; what is not understood is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid import load_case
from tellegen.grid.network import Case, LimitKind
from tellegen.grid.powerflow import PowerFlow, solve_powerflow

TWO_BUS = """\
function mpc = twobus
% a comment with 'quotes' and [brackets]
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [  % numbers need not be consecutive
    7  3  0    0    0  0    1  1.02  5  12.66 1 1.1 0.9;
    3  1  {p}  {q}  0  0.5  1  1     0  12.66 1 1.04, 0.96
];
mpc.gen = [7 0 0 10 -10 1.02 100 1 10 0
           3 0.2 0 0.1 -0.1 1 100 1 0.5 0];
mpc.branch = [
    7 3 0.01 0.02 0.004 {rate} 0 0 {tap} {shift} 1 -360 360; % a line
    3 7 0.5  0.5  0     0      0 0 0     0       0 -360 360;
];
mpc.gencost = [2 0 0 3 0 20 0; 2 0 0 3 0.5 30 0];
"""

IN_OHMS = """\
function mpc = feeder
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [
 1 3 0   0  0 0 1 1 0 12.66 1 1   1;
 2 1 100 60 0 0 1 1 0 12.66 1 1.1 0.9;
 3 1 90  40 0 0 1 1 0 12.66 1 1.1 0.9;
];
mpc.gen = [1 0 0 10 -10 1 100 1 10 0];
mpc.branch = [
 1 2 0.0922 0.0470 0 0 0 0 0 0 1 -360 360;
 2 3 0.4930 0.2511 0 0 0 0 0 0 1 -360 360;
 1 3 2.0    2.0    0 0 0 0 0 0 0 -360 360;
];
%% convert branch impedances from Ohms to p.u.
[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS, BUS_AREA, VM, ...
    VA, BASE_KV, ZONE, VMAX, VMIN, LAM_P, LAM_Q, MU_VMAX, MU_VMIN] = idx_bus;
[F_BUS, T_BUS, BR_R, BR_X] = idx_brch;
Vbase = mpc.bus(1, BASE_KV) * 1e3;      %% in Volts
Sbase = mpc.baseMVA * 1e6;              %% in VA
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);

%% convert loads from kW to MW
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
"""


def two_bus(**values: object) -> str:
    given = {"p": 1.0, "q": 0.4, "rate": 5, "tap": 0.98, "shift": 30} | values
    text = TWO_BUS
    for key, value in given.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def written(folder: Path, text: str, name: str = "case.m") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def own_flow(case: Case) -> PowerFlow:
    """Power flow of the loads and generator set-points in the file."""
    demand = np.zeros(len(case.network.nodes), dtype=complex)
    np.add.at(demand, case.loads.node, case.loads.p_kw + 1j * case.loads.q_kvar)
    np.add.at(demand, case.generators.node, -case.generators.p_kw - 1j * case.generators.q_kvar)
    return solve_powerflow(case.network, demand)


def test_matpower_branch_is_an_ideal_transformer_and_a_pi(tmp_path: Path) -> None:
    case = load_case(written(tmp_path, two_bus()))
    net = case.network
    assert net.nodes == ("7", "3")
    assert net.base_kva == 10_000
    assert net.source.tolist() == [0]
    assert net.source_voltage[0] == pytest.approx(1.02 * np.exp(1j * np.radians(5)))
    a, ys = 0.98 * np.exp(1j * np.radians(30)), 1 / (0.01 + 0.02j)
    expected = [[(ys + 0.002j) / abs(a) ** 2, -ys / np.conj(a)], [-ys / a, ys + 0.002j + 0.05j]]
    assert np.abs(net.admittance.toarray() - expected).max() < 1e-12
    assert (net.v_min[1], net.v_max[1]) == (0.96, 1.04)
    assert net.branches.element == ("branch 1", "branch 1")
    assert net.branches.rating_pu.tolist() == [0.5, 0.5]
    assert set(net.branches.kind.tolist()) == {int(LimitKind.APPARENT_POWER)}
    v = own_flow(case).voltage
    s_to = v[1] * np.conj(net.admittance[1] @ v)  # power that the network takes up at bus 3
    assert s_to[0] * 10 == pytest.approx(-(1.0 - 0.2 + 0.4j), abs=1e-9)


def test_a_cost_per_mwh_becomes_a_price_per_kwh(tmp_path: Path) -> None:
    case = load_case(written(tmp_path, two_bus()))
    assert case.root_price == pytest.approx(0.02)
    units = case.generators
    assert units.name == ("gen 2",)
    assert (units.cost_linear[0], units.cost_quadratic[0]) == pytest.approx((0.03, 0.5e-6))
    assert (units.p_min_kw[0], units.p_max_kw[0], units.q_min_kvar[0], units.q_max_kvar[0]) == (0, 500, -100, 100)
    assert units.has_cost[0]


def test_a_rating_of_zero_is_no_rating(tmp_path: Path) -> None:
    case = load_case(written(tmp_path, two_bus(rate=0)))
    assert np.isinf(case.network.branches.rating_pu).all()


def test_ohms_and_kilowatts_are_converted_as_the_file_says(tmp_path: Path) -> None:
    case = load_case(written(tmp_path, IN_OHMS))
    assert case.loads.p_kw.tolist() == [100, 90]
    assert case.elements is not None
    assert case.elements.impedance_pu[0] * 12.66**2 / 10 == pytest.approx(0.0922 + 0.0470j)
    assert case.network.branches.element[:2] == ("branch 1", "branch 2")


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        (("7 0 0 10", "8 0 0 10"), "line 9", "bus 8"),
        (("0.01 0.02", "0 0"), "line 12", "zero impedance"),
        (("0.01 0.02", "nan 0.02"), "line 12", "'nan'"),
        (("0.01 0.02", "Inf 0.02"), "line 12", "finite"),
        (("0.01 0.02", "zero 0.02"), "line 12", "'zero'"),
        (("1 -360 360; % a line", "0 -360 360;"), "line 7, bus 3", "not connected"),
        ((" 0.5  1  1 ", " 0.5  1 "), "line 7", "values in mpc.bus"),
        (("7  3  0", "7  1  0"), "mpc.bus", "no reference bus"),
        (("3  1  1.0", "7  1  1.0"), "line 7", "given once"),
        (("mpc.baseMVA = 10;", ""), "mpc.baseMVA", "missing"),
        (("mpc.baseMVA = 10;", "mpc.baseMVA = 0;"), "line 4", "positive"),
        (("mpc.baseMVA = 10;", "mpc.baseMVA = 1e308;"), "line 4", "positive"),
        (("mpc.baseMVA = 10;", "mpc.baseMVA = 1e-320;"), "line 4", "positive"),
        (("0  0.5  1", "0  1e308  1"), "line 7", "finite"),
        (("'2'", "'1'"), "line 3", "version"),
        (("mpc.gencost", "mpc.bus(:, 3) = mpc.bus(:, 3) * 2;\nmpc.gencost"), "line 15", "nothing is executed"),
        (("mpc.gencost", "system('true');\nmpc.gencost"), "line 15", "nothing is executed"),
        (("2 0 0 3 0.5 30 0", "1 0 0 3 0 0 1 20 2 30"), "line 15, gen 2", "not convex"),
        (("2 0 0 3 0.5 30 0", "1 0 0 3 0 0 1 20"), "line 15", "announces 3 points, has 2"),
        (("2 0 0 3 0.5 30 0", "3 0 0 3 0 0 1 20"), "line 15", "cost model 3"),
        (("2 0 0 3 0.5 30 0", "2 0 0 4 1 0.5 30 0"), "line 15", "degree"),
        (("2 0 0 3 0.5 30 0];", "2 0 0 3 0.5 30 0"), "line 15", "closing bracket"),
    ],
)
def test_a_matpower_fault_is_named_by_its_line(
    tmp_path: Path, change: tuple[str, str], place: str, problem: str
) -> None:
    text = two_bus()
    assert change[0] in text
    with pytest.raises(InputError) as caught:
        load_case(written(tmp_path, text.replace(*change)))
    assert place in caught.value.place
    assert problem in str(caught.value)


@pytest.mark.parametrize("divisor", ["0", "0.0", "1e999", "1e308", "0.0000000000001"])
def test_loads_are_divided_by_a_unit(tmp_path: Path, divisor: str) -> None:
    with pytest.raises(InputError, match="no unit"):
        load_case(written(tmp_path, IN_OHMS.replace("[PD, QD]) / 1e3", f"[PD, QD]) / {divisor}")))


@pytest.mark.parametrize("base_kv", ["0", "1e-200", "-1", "1e99"])
def test_ohms_are_converted_by_a_voltage(tmp_path: Path, base_kv: str) -> None:
    with pytest.raises(InputError, match="base voltage"):
        load_case(written(tmp_path, IN_OHMS.replace("1 3 0   0  0 0 1 1 0 12.66", f"1 3 0   0  0 0 1 1 0 {base_kv}")))


def test_an_isolated_bus_is_left_out_with_a_warning(tmp_path: Path) -> None:
    text = (
        two_bus()
        .replace("mpc.gen =", "mpc.dcline = [1 2 3];\nmpc.gen =")
        .replace("0.96\n]", "0.96\n 9 4 1 1 0 0 1 1 0 12.66 1 1.1 0.9\n]")
    )
    case = load_case(written(tmp_path, text))
    assert "9" not in case.network.nodes
    assert any("type 4" in warning for warning in case.warnings)
    assert any("mpc.dcline" in warning for warning in case.warnings)


def test_bad_specs_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_case(str(tmp_path / "missing.m"))
    with pytest.raises(InputError, match="cannot be read"):
        load_case(str(tmp_path / "missing.json"))
    with pytest.raises(InputError, match="cannot be read"):
        load_case(str(tmp_path / "missing.dss"))
    with pytest.raises(InputError, match="is not known"):
        load_case("feeder.xlsx")
    with pytest.raises(InputError, match="must be letters"):
        load_case("simbench:../../etc")


def table(columns: dict[str, list[object]], index: list[int] | None = None) -> dict[str, object]:
    names = list(columns)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    text = json.dumps({"columns": names, "index": index or list(range(len(rows))), "data": rows})
    return {"_module": "pandas.core.frame", "_class": "DataFrame", "_object": text, "orient": "split", "dtype": {}}


def small_net(**tables: object) -> dict[str, object]:
    net: dict[str, object] = {
        "bus": table({"vn_kv": [20.0, 0.4, 0.4], "in_service": [True] * 3}, [5, 2, 9]),
        "ext_grid": table({"bus": [5], "vm_pu": [1.0], "va_degree": [0.0], "in_service": [True]}),
        "trafo": table(
            {
                "hv_bus": [5],
                "lv_bus": [2],
                "sn_mva": [0.4],
                "vn_hv_kv": [20.0],
                "vn_lv_kv": [0.4],
                "vk_percent": [6.0],
                "vkr_percent": [1.4],
                "in_service": [True],
            }
        ),
        "line": table(
            {
                "from_bus": [2],
                "to_bus": [9],
                "length_km": [0.1],
                "r_ohm_per_km": [0.2],
                "x_ohm_per_km": [0.08],
                "max_i_ka": [0.2],
                "in_service": [True],
            }
        ),
        "load": table({"bus": [9], "p_mw": [0.01], "q_mvar": [0.002], "in_service": [True]}),
        "sn_mva": 1.0,
        "f_hz": 50.0,
        "name": "small",
    }
    net.update(tables)
    return {"_module": "pandapower.auxiliary", "_class": "pandapowerNet", "_object": net}


def save(folder: Path, net: object) -> str:
    return written(folder, json.dumps(net), "net.json")


def test_a_pandapower_file_is_read_without_pandapower(tmp_path: Path) -> None:
    case = load_case(save(tmp_path, small_net()))
    net = case.network
    assert net.nodes == ("5", "2", "9")
    assert (net.v_min[1], net.v_max[1]) == (0.95, 1.05)
    assert case.root_price is None
    kinds = dict(zip(net.branches.element, net.branches.kind.tolist(), strict=True))
    assert kinds == {"line 0": int(LimitKind.CURRENT), "trafo 0": int(LimitKind.APPARENT_POWER)}
    line = np.array(net.branches.element) == "line 0"
    assert net.branches.rating_pu[line] == pytest.approx(0.2 / (1.0 / (np.sqrt(3) * 0.4)))
    assert own_flow(case).root_kw == pytest.approx(10.0, abs=0.05)


def test_nothing_that_a_file_names_is_imported(tmp_path: Path) -> None:
    net = small_net()
    net["_object"]["std_types"] = {"_module": "os", "_class": "function", "_object": "remove"}  # type: ignore[index]
    net["_object"]["evil"] = {"_module": "no.such.module", "_class": "Bomb", "_object": {}}  # type: ignore[index]
    assert load_case(save(tmp_path, net)).network.nodes == ("5", "2", "9")


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"load": table({"bus": [77], "p_mw": [0.01]})}, "load 0, bus 77 is not in the bus table"),
        ({"load": table({"bus": [9], "p_mw": [None]})}, "load 0, p_mw is missing"),
        ({"load": table({"bus": [9], "p_mw": ["much"]})}, "not a number"),
        ({"ext_grid": table({"bus": [], "vm_pu": []})}, "root is missing"),
        ({"trafo3w": table({"hv_bus": [5], "in_service": [True]})}, "trafo3w has 1 rows in service"),
        ({"dcline": table({"from_bus": [5], "in_service": [True]})}, "dcline has 1 rows in service"),
        ({"asymmetric_load": table({"bus": [5], "in_service": [True]})}, "line 0, r0_ohm_per_km is missing"),
        ({"ward": table({"bus": [5], "in_service": [True]})}, "ward has 1 rows in service"),
        ({"switch": table({"bus": [9], "element": [0], "et": ["t"], "closed": [False]})}, "not at an end"),
        ({"switch": table({"bus": [9], "element": [0], "et": ["x"], "closed": [False]})}, "must be b, l or t"),
        ({"sn_mva": "one"}, "sn_mva must be a positive number"),
        ({"bus": {"_class": "DataFrame", "_object": "{"}}, "table bus is not JSON"),
    ],
)
def test_a_pandapower_fault_is_named_by_table_and_row(tmp_path: Path, tables: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load_case(save(tmp_path, small_net(**tables)))


@pytest.mark.parametrize(("column", "value"), [("r_ohm_per_km", float("nan")), ("x_ohm_per_km", float("inf"))])
def test_an_impedance_that_is_no_number_is_refused(tmp_path: Path, column: str, value: float) -> None:
    net = small_net()
    line = json.loads(net["_object"]["line"]["_object"])  # type: ignore[index]
    line["data"][0][line["columns"].index(column)] = value
    net["_object"]["line"]["_object"] = json.dumps(line)  # type: ignore[index]
    with pytest.raises(InputError, match=rf"line 0, {column}"):
        load_case(save(tmp_path, net))


def test_a_line_without_length_is_refused(tmp_path: Path) -> None:
    net = small_net()
    text = net["_object"]["line"]["_object"].replace("0.1, 0.2", "0.0, 0.2")  # type: ignore[index]
    net["_object"]["line"]["_object"] = text  # type: ignore[index]
    with pytest.raises(InputError, match="line 0 has zero impedance"):
        load_case(save(tmp_path, net))


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    for text, problem in (("{", "not JSON"), ("[1]", "no bus table"), ('{"a": 1}', "no bus table")):
        with pytest.raises(InputError, match=problem):
            load_case(written(tmp_path, text, "net.json"))


def test_a_closed_switch_makes_two_buses_one_node(tmp_path: Path) -> None:
    buses = table({"vn_kv": [20.0, 0.4, 0.4, 0.4], "min_vm_pu": [None, None, 0.9, 0.97]}, [5, 2, 9, 4])
    switch = table({"bus": [9], "element": [4], "et": ["b"], "closed": [True], "z_ohm": [0.0]})
    load = table({"bus": [4], "p_mw": [0.01], "q_mvar": [0.002]})
    joined = load_case(save(tmp_path, small_net(bus=buses, switch=switch, load=load)))
    plain = load_case(save(tmp_path, small_net()))
    assert joined.network.nodes == plain.network.nodes
    assert joined.network.node_index("4") == joined.network.node_index("9") == 2
    assert joined.network.v_min[2] == 0.97
    assert own_flow(joined).voltage == pytest.approx(own_flow(plain).voltage)


def test_what_is_not_fed_is_left_out_and_named(tmp_path: Path) -> None:
    """An open line leaves its far end dead; the load there is named, and its charging stays."""
    switch = table({"bus": [2], "element": [0], "et": ["l"], "closed": [False]})
    case = load_case(save(tmp_path, small_net(switch=switch)))
    assert case.network.nodes == ("5", "2")
    said = " ".join(case.warnings)
    assert "left out: 9" in said
    assert "load 0" in said
    assert own_flow(case).root_kw == pytest.approx(0.0, abs=1e-9)


def test_a_cost_on_a_static_generator_is_an_offer(tmp_path: Path) -> None:
    sgen = table({"bus": [9, 9], "p_mw": [0.02, 0.01], "q_mvar": [0.0, 0.0], "max_p_mw": [0.03, None]})
    cost = table(
        {
            "element": [0, 0],
            "et": ["ext_grid", "sgen"],
            "cp1_eur_per_mw": [80.0, 50.0],
            "cp2_eur_per_mw2": [0.0, 200.0],
        }
    )
    case = load_case(save(tmp_path, small_net(sgen=sgen, poly_cost=cost)))
    assert case.root_price == pytest.approx(0.08)
    assert case.generators.has_cost.tolist() == [True, False]
    assert (case.generators.cost_linear[0], case.generators.cost_quadratic[0]) == pytest.approx((0.05, 2e-4))
    assert (case.generators.p_min_kw[0], case.generators.p_max_kw[0]) == (0.0, 30.0)


def test_loads_that_depend_on_voltage_are_named(tmp_path: Path) -> None:
    load = table({"bus": [9], "p_mw": [0.01], "q_mvar": [0.0], "const_z_p_percent": [30.0]})
    case = load_case(save(tmp_path, small_net(load=load)))
    assert any("constant power" in warning and "load 0" in warning for warning in case.warnings)


def test_a_convex_piecewise_cost_is_one_offer_per_segment(tmp_path: Path) -> None:
    """A battery: 0.2 MW of discharge in two steps, 0.1 MW of charge, worth 10 to 40 per MWh, in both formats."""
    text = two_bus().replace("1 100 1 0.5 0]", "1 100 1 0.2 -0.1]")
    text = text.replace("2 0 0 3 0.5 30 0", "1 0 0 4 -0.1 -1 0 0 0.05 1.5 0.2 7.5")
    units = load_case(written(tmp_path, text.replace("3 0.2 0 0.1", "3 0.12 0 0.1"))).generators
    assert units.name == ("gen 2",) * 3
    assert units.cost_linear == pytest.approx([0.01, 0.03, 0.04])
    assert units.p_min_kw.tolist() == pytest.approx([-100, 0, 0])
    assert units.p_max_kw.tolist() == pytest.approx([0, 50, 150])
    assert units.p_kw.tolist() == pytest.approx([0, 50, 70])
    assert units.q_max_kvar.tolist() == [100, 0, 0]
    assert units.has_cost.all()

    sgen = table({"bus": [9], "p_mw": [0.12], "q_mvar": [0.0], "min_p_mw": [-0.1], "max_p_mw": [0.2]})
    points = [[[-0.1, 0.0, 10.0], [0.0, 0.05, 30.0], [0.05, 0.2, 40.0]]]
    cost = table({"element": [0], "et": ["sgen"], "power_type": ["p"], "points": points})
    same = load_case(save(tmp_path, small_net(sgen=sgen, pwl_cost=cost))).generators
    assert same.cost_linear == pytest.approx(units.cost_linear)
    assert same.p_max_kw == pytest.approx(units.p_max_kw)
    cost = table({"element": [0], "et": ["sgen"], "points": [[[0.0, 0.1, 30.0], [0.1, 0.2, 10.0]]]})
    with pytest.raises(InputError, match="pwl_cost 0 of sgen 0 has a cost that is not convex"):
        load_case(save(tmp_path, small_net(sgen=sgen, pwl_cost=cost)))


def test_a_piecewise_cost_runs_what_must_run_first() -> None:
    from tellegen.grid.importers.piecewise import clipped, segments

    parts = segments([0, 10, 30], [0, 1, 5])
    assert clipped(parts, 4, 25) == [(4, 10, 0.1), (10, 25, 0.2)]
    assert clipped(parts, 12, 50) == [(12, 50, 0.2)]
    assert clipped(parts, -5, 5) == [(-5, 0, 0.1), (0, 5, 0.1)]


def test_a_reference_with_several_marginal_costs_has_no_price(tmp_path: Path) -> None:
    case = load_case(written(tmp_path, two_bus().replace("2 0 0 3 0 20 0", "1 0 0 3 0 0 1 20 2 50")))
    assert case.root_price is None
    assert any("several marginal costs" in warning for warning in case.warnings)
    case = load_case(written(tmp_path, two_bus().replace("2 0 0 3 0 20 0", "1 0 0 2 0 0 1 20")))
    assert case.root_price == pytest.approx(0.02)


def test_a_loop_of_closed_switches_is_named(tmp_path: Path) -> None:
    """Nothing says how two joints side by side share their current."""
    buses = table({"vn_kv": [20.0, 0.4, 0.4, 0.4]}, [5, 2, 9, 4])
    switch = table(
        {"bus": [9, 4, 9], "element": [4, 9, 4], "et": ["b", "b", "b"], "closed": [True, True, False]}, [3, 7, 8]
    )
    case = load_case(save(tmp_path, small_net(bus=buses, switch=switch)))
    (said,) = [warning for warning in case.warnings if "loop of switches" in warning]
    assert said.endswith(": switch 7")


def test_three_phases_are_asked_only_of_formats_that_have_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="balanced form"):
        load_case(written(tmp_path, two_bus()), three_phase=True)
    with pytest.raises(InputError, match="only in three phases"):
        load_case(str(tmp_path / "none.dss"), three_phase=False)
