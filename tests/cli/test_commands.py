"""What people and programs may rely on at the command line: documents, exit statuses, one-line errors."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tellegen = Callable[..., Any]

RESISTANCE_PU = 0.5
ROOT_PRICE = 0.2
ORDERS = "participant,node,phases,product,side,price,quantity_kw,kvar_per_kw"


def matpower(
    *,
    r: float = RESISTANCE_PU,
    x: float = 0.0,
    rating_mva: float = 0.0,
    load_mw: float = 0.0,
    v_min: float = 0.8,
    generator: str = "",
    generator_cost: str = "",
    root_cost: str = f"2 0 0 2 {1000 * ROOT_PRICE} 0;",
) -> str:
    """Two buses of 1 MVA base with one line between them; the root holds 1 pu."""
    costs = f"mpc.gencost = [\n{root_cost}\n{generator_cost}\n];" if root_cost else ""
    return f"""function mpc = two
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0 0 0 0 1 1.0 0 0.4 1 1.1 {v_min};
  2 1 {load_mw} 0 0 0 1 1.0 0 0.4 1 1.1 {v_min};
];
mpc.gen = [
  1 0 0 10 -10 1 1 1 10 -10;
  {generator}
];
mpc.branch = [
  1 2 {r} {x} 0 {rating_mva} 0 0 0 0 1 -360 360;
];
{costs}
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "two.m"
    path.write_text(matpower())
    return path


@pytest.fixture
def orders(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: str, header: str = ORDERS) -> Path:
        path = tmp_path / "orders.csv"
        path.write_text("\n".join([header, *rows, ""]))
        return path

    return write


def refused(answer: Any, *words: str) -> None:
    """Exit 2, nothing on stdout, one line on stderr that says where."""
    assert answer.status == 2, answer
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1, answer.err
    assert answer.err.startswith("tellegen: ")
    for word in words:
        assert word in answer.err, answer.err


# tellegen clear


def test_the_price_behind_a_wire_is_what_one_more_kwh_costs(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    """law 7: on two buses the price is known in closed form.

    With a resistance R (pu) and a demand P (pu), the far voltage v solves v (1 - v) = R P and the root
    supplies (1 - v) / R, which grows by 1 / sqrt(1 - 4 R P) for each unit of demand.
    """
    demand_kw = 100.0
    answer = tellegen("clear", "--network", network, "--orders", orders(f"shop,2,,energy,buy,,{demand_kw},"), "--json")
    assert answer.status == 0
    told = json.loads(answer.out)
    root = math.sqrt(1 - 4 * RESISTANCE_PU * demand_kw / 1000)
    v = (1 + root) / 2
    prices = {p["node"]: p for p in told["prices"]}
    assert prices["1"]["energy"] == pytest.approx(ROOT_PRICE, abs=1e-12)
    assert prices["2"]["energy"] == pytest.approx(ROOT_PRICE / root, rel=1e-9)
    assert prices["2"]["energy_parts"]["losses"] == pytest.approx(ROOT_PRICE / root - ROOT_PRICE, rel=1e-8)
    root_kw = 1000 * (1 - v) / RESISTANCE_PU
    assert told["network"]["root_kw"] == pytest.approx(root_kw, rel=1e-10)
    assert told["network"]["losses_kw"] == pytest.approx(root_kw - demand_kw, rel=1e-9)
    assert told["welfare"] == pytest.approx(-ROOT_PRICE * root_kw, rel=1e-10)
    assert told["rent"] == pytest.approx(ROOT_PRICE * (demand_kw / root - root_kw), rel=1e-8)
    assert told["awards"] == [
        {
            "row": 2,
            "participant": "shop",
            "node": "2",
            "phases": "",
            "product": "energy",
            "side": "buy",
            "quantity_kw": pytest.approx(demand_kw),
            "price": prices["2"]["energy"],
        }
    ]


def test_clear_prints_the_documented_json(network: Path, orders: Callable[..., Path], tellegen: Tellegen) -> None:
    file = orders("a,2,,energy,buy,0.5,10,", "b,2,,energy,sell,0.1,4,", "b,2,,reactive,sell,0.01,2,")
    told = json.loads(tellegen("clear", "--network", network, "--orders", file, "--json").out)
    assert set(told) >= {
        "status",
        "welfare",
        "rent",
        "prices",
        "reserve_prices",
        "awards",
        "network",
        "evidence",
    }
    assert told["status"] == "optimal"
    for price in told["prices"]:
        assert set(price) == {"node", "phase", "energy", "energy_parts", "energy_range", "reactive"}
        assert set(price["energy_parts"]) == {"energy", "losses", "congestion", "voltage"}
        assert price["phase"] == 0
        assert sum(price["energy_parts"].values()) == pytest.approx(price["energy"], abs=1e-12)
        low, high = price["energy_range"]
        assert low <= price["energy"] <= high
    assert isinstance(told["reserve_prices"], list)
    assert [award["row"] for award in told["awards"]] == [2, 3, 4]
    for award in told["awards"]:
        assert set(award) == {"row", "participant", "node", "phases", "product", "side", "quantity_kw", "price"}
    assert set(told["network"]) == {"voltages", "loadings", "losses_kw", "root_kw"}
    assert all(set(v) == {"node", "phase", "pu"} for v in told["network"]["voltages"])
    assert all(set(v) == {"element", "percent"} for v in told["network"]["loadings"])
    assert set(told["evidence"]) == {"ac_mismatch_pu", "kkt_residual", "max_violation_pu", "iterations"}


def test_a_seller_earns_the_price_of_its_node_and_a_curve_is_walked_in_order(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    file = orders("pv,2,,energy,sell,0.05,6,", "pv,2,,energy,sell,0.9,6,", "home,2,,energy,buy,0.7,3,")
    told = json.loads(tellegen("clear", "--network", network, "--orders", file, "--json").out)
    cheap, dear, home = told["awards"]
    assert (cheap["quantity_kw"], dear["quantity_kw"], home["quantity_kw"]) == pytest.approx((6.0, 0.0, 3.0))
    assert told["network"]["root_kw"] < 0
    assert cheap["price"] < ROOT_PRICE


def test_a_rating_in_the_file_binds(tmp_path: Path, orders: Callable[..., Path], tellegen: Tellegen) -> None:
    """law 7: behind a full line the bid of the buyer on the margin is the price."""
    path = tmp_path / "two.m"
    path.write_text(matpower(r=0.01, rating_mva=0.05))
    file = orders("a,2,,energy,buy,0.8,40,", "b,2,,energy,buy,0.5,40,")
    told = json.loads(tellegen("clear", "--network", path, "--orders", file, "--json").out)
    assert told["status"] == "optimal"
    price = {p["node"]: p for p in told["prices"]}["2"]
    assert price["energy"] == pytest.approx(0.5, rel=1e-6)
    assert price["energy_parts"]["congestion"] > 0.25
    assert told["awards"][0]["quantity_kw"] == pytest.approx(40.0)
    assert 0 < told["awards"][1]["quantity_kw"] < 10.1
    assert max(e["percent"] for e in told["network"]["loadings"]) == pytest.approx(100.0, abs=1e-3)


def test_voltage_limits_of_the_command_line_bind_below_the_root(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    file = orders("a,2,,energy,buy,0.8,200,")
    told = json.loads(tellegen("clear", "--network", network, "--orders", file, "--v-min", "0.97", "--json").out)
    far = next(v for v in told["network"]["voltages"] if v["node"] == "2")
    assert far["pu"] == pytest.approx(0.97, abs=1e-6)
    price = {p["node"]: p for p in told["prices"]}["2"]
    assert price["energy"] == pytest.approx(0.8, rel=1e-6)
    assert price["energy_parts"]["voltage"] > 0


def test_the_roots_limit_binds_both_ways(network: Path, orders: Callable[..., Path], tellegen: Tellegen) -> None:
    for side, sign in (("buy", 1), ("sell", -1)):
        file = orders(f"a,2,,energy,{side},{0.9 if sign > 0 else 0.01},50,")
        answer = tellegen("clear", "--network", network, "--orders", file, "--root-limit-kw", "20", "--json")
        assert json.loads(answer.out)["network"]["root_kw"] == pytest.approx(sign * 20.0, abs=1e-4)


def test_the_networks_own_loads_and_generators_take_part_unless_left_out(
    tmp_path: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    path = tmp_path / "two.m"
    path.write_text(matpower(load_mw=0.05, generator="2 0 0 0 0 1 1 1 0.03 0;", generator_cost="2 0 0 2 100 0;"))
    file = orders("a,2,,energy,buy,,1,")
    whole = json.loads(tellegen("clear", "--network", path, "--orders", file, "--json").out)
    alone = json.loads(tellegen("clear", "--network", path, "--orders", file, "--orders-only", "--json").out)
    assert len(whole["awards"]) == len(alone["awards"]) == 1
    assert whole["network"]["root_kw"] == pytest.approx(21.0, abs=0.5)
    assert alone["network"]["root_kw"] == pytest.approx(1.0, abs=0.01)


def test_a_demand_that_the_wires_cannot_carry_is_a_flagged_answer(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    """law 7: clearing always ends with finite prices and a status; relaxed and fallback are answers too."""
    answer = tellegen(
        "clear", "--network", network, "--orders", orders("a,2,,energy,buy,,300,"), "--v-min", "0.95", "--json"
    )
    assert answer.status == 0
    told = json.loads(answer.out)
    assert told["status"] in {"relaxed", "fallback"}
    assert all(math.isfinite(p["energy"]) for p in told["prices"])


def test_the_table_for_people_shows_status_awards_and_prices(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    answer = tellegen("clear", "--network", network, "--orders", orders("shop,2,,energy,buy,0.5,10,"))
    assert answer.status == 0
    assert answer.err == ""
    for word in ("optimal", "shop", "10.0000", "welfare", "prices"):
        assert word in answer.out


BAD_ORDERS = {
    "a node that is not there": (["a,7,,energy,buy,0.3,1,"], ["row 2", "node '7'", "not in the network"]),
    "a price that is not a number": (["a,2,,energy,buy,NaN,1,"], ["row 2", "price"]),
    "a quantity that is not a number": (["a,2,,energy,buy,0.3,nan,"], ["row 2", "quantity_kw"]),
    "an infinite quantity": (["a,2,,energy,buy,0.3,inf,"], ["row 2", "quantity_kw"]),
    "a negative quantity": (["a,2,,energy,buy,0.3,-1,"], ["row 2", "negative", "sell order injects"]),
    "the same row twice": (["a,2,,energy,buy,0.3,1,", "a,2,,energy,buy,0.3,1,"], ["row 3", "repeats row 2"]),
    "a curve out of order": (["a,2,,energy,buy,0.3,1,", "a,2,,energy,buy,0.5,1,"], ["row 3", "fall for a buyer"]),
    "a side nobody knows": (["a,2,,energy,lend,0.3,1,"], ["row 2", "buy or sell"]),
    "a product nobody knows": (["a,2,,gas,buy,0.3,1,"], ["row 2", "'gas'"]),
    "nobody behind the order": ([",2,,energy,buy,0.3,1,"], ["row 2", "participant"]),
    "a field too few": (["a,2,,energy,buy,0.3"], ["row 2", "6 fields"]),
    "no orders at all": ([], ["holds no rows"]),
    "a quote that never ends": (['"a,2,,energy,buy,0.3,1,'], ["row", "CSV"]),
}


@pytest.mark.parametrize("case", BAD_ORDERS)
def test_a_bad_order_file_is_refused_with_file_row_and_remedy(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen, case: str
) -> None:
    rows, words = BAD_ORDERS[case]
    file = orders(*rows)
    refused(tellegen("clear", "--network", network, "--orders", file), str(file), *words)


def test_an_order_file_that_is_missing_lacks_a_column_or_is_no_text(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen, tmp_path: Path
) -> None:
    refused(tellegen("clear", "--network", network, "--orders", tmp_path / "none.csv"), "none.csv")
    file = orders("a,2,1", header="participant,node,price")
    refused(tellegen("clear", "--network", network, "--orders", file), "column 'product'", "is missing")
    file.write_bytes(b"\xff\xfe\x00")
    refused(tellegen("clear", "--network", network, "--orders", file), "UTF-8")
    refused(tellegen("clear", "--network", network, "--orders", tmp_path), str(tmp_path))


BAD_NETWORKS = {
    "missing.m": (None, ["cannot be read"]),
    "empty.m": ("", ["mpc.bus"]),
    "torn.m": (matpower()[:240], ["line"]),
    "zero.m": (matpower(r=0.0), ["line 13", "zero impedance"]),
    "nan.m": (matpower().replace("2 1 0.0 0", "2 1 NaN 0"), ["line 6", "number"]),
    "island.m": (matpower().replace("1 2 0.5", "1 1 0.5"), ["bus 2"]),
    "stranger.m": (matpower().replace("1 2 0.5", "1 9 0.5"), ["line 13", "bus 9"]),
    "program.m": (matpower() + "\nmpc.bus(2,3) = rand();\n", ["nothing is executed"]),
    "broken.json": ('{"bus": ', ["not JSON"]),
    "list.json": ("[1, 2]", ["bus table"]),
    "hollow.json": ('{"bus": {"_class": "DataFrame", "_object": "{"}}', ["table bus"]),
    "deep.json": ("[" * 100_000, ["not JSON"]),
    "network.txt": ("bus", ["format"]),
}


@pytest.mark.parametrize("name", BAD_NETWORKS)
@pytest.mark.parametrize("command", ["clear", "powerflow"])
def test_a_bad_network_is_refused_with_its_place(
    orders: Callable[..., Path], tellegen: Tellegen, tmp_path: Path, name: str, command: str
) -> None:
    text, words = BAD_NETWORKS[name]
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    more = ["--orders", orders("a,2,,energy,buy,0.3,1,")] if command == "clear" else []
    refused(tellegen(command, "--network", path, *more), str(path), *words)


@pytest.mark.parametrize("spec", ["simbench:1-LV-nowhere", "pandapower:../../etc/passwd", "pandapower:nope"])
def test_a_network_of_no_data_set_is_refused(tellegen: Tellegen, spec: str) -> None:
    pytest.importorskip("simbench")
    refused(tellegen("powerflow", "--network", spec), spec)


def test_a_file_without_a_reference_cost_needs_a_root_price(
    tmp_path: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    path = tmp_path / "two.m"
    path.write_text(matpower(root_cost=""))
    file = orders("a,2,,energy,buy,0.3,1,")
    refused(tellegen("clear", "--network", path, "--orders", file), str(path), "--root-price")
    assert tellegen("clear", "--network", path, "--orders", file, "--root-price", "0.1").status == 0


@pytest.mark.parametrize(
    "option",
    [
        ("--root-price", "nan"),
        ("--root-price", "dear"),
        ("--root-price", "inf"),
        ("--root-limit-kw", "-1"),
        ("--root-limit-kw", "nan"),
        ("--v-min", "1.2"),
        ("--v-max", "0.9"),
        ("--v-min", "nan"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen, option: tuple[str, str]
) -> None:
    file = orders("a,2,,energy,buy,0.3,1,")
    refused(tellegen("clear", "--network", network, "--orders", file, *option), option[0])


def test_what_an_error_refuses_is_not_preceded_by_warnings(
    tmp_path: Path, orders: Callable[..., Path], tellegen: Tellegen
) -> None:
    """One line on stderr, even where the network alone would earn a warning."""
    path = tmp_path / "two.m"
    path.write_text(matpower() + "\nmpc.areas = [1 1];\n")
    warned = tellegen("clear", "--network", path, "--orders", orders("a,2,,energy,buy,0.3,1,"), "--json")
    assert warned.status == 0
    assert "warning" in warned.err
    assert json.loads(warned.out)["warnings"]
    refused(tellegen("clear", "--network", path, "--orders", orders("a,9,,energy,buy,0.3,1,")), "node '9'")


# tellegen powerflow


def test_powerflow_prints_the_documented_json(tmp_path: Path, tellegen: Tellegen) -> None:
    path = tmp_path / "two.m"
    path.write_text(matpower(load_mw=0.1))
    answer = tellegen("powerflow", "--network", path, "--json")
    assert answer.status == 0
    told = json.loads(answer.out)
    assert set(told) >= {"voltages", "loadings", "losses_kw", "root_kw", "root_kvar"}
    v = (1 + math.sqrt(0.8)) / 2
    assert [node["pu"] for node in told["voltages"]] == pytest.approx([1.0, v], rel=1e-10)
    assert told["root_kw"] == pytest.approx(2000 * (1 - v), rel=1e-10)
    assert told["root_kvar"] == pytest.approx(0.0, abs=1e-9)
    people = tellegen("powerflow", "--network", path)
    assert people.status == 0
    assert "voltages" in people.out


def test_a_load_beyond_the_network_is_an_error_and_no_traceback(tmp_path: Path, tellegen: Tellegen) -> None:
    path = tmp_path / "two.m"
    path.write_text(matpower(load_mw=5.0))
    refused(tellegen("powerflow", "--network", path))


# tellegen demo, run


SCENARIO = """
name = "x"
seed = 1
[feeder]
grid = "simbench:1-LV-rural1--2-sw"
[day]
date = 2016-05-14
hours = 4
"""
RULES = (Path(__file__).parents[2] / "src/tellegen/rules/rulebooks/default/2016-01-01.toml").read_text()


def fault(customer: str, start_hour: int, hours: int) -> str:
    return f'[fault]\ncustomer = "{customer}"\nstart_hour = {start_hour}\nhours = {hours}\n'


BAD_SCENARIOS = {
    "no TOML": ("name = ", ["not TOML"]),
    "an unknown key": (SCENARIO + "[plant]\nweather = 1\n", ["plant.weather"]),
    "an unknown section": (SCENARIO + "[moon]\nphase = 1\n", ["moon"]),
    "a missing section": ('name = "x"\nseed = 1\n', ["feeder"]),
    "a seed that is no number": (SCENARIO.replace("seed = 1", 'seed = "one"'), ["seed"]),
    "a negative seed": (SCENARIO.replace("seed = 1", "seed = -1"), ["seed"]),
    "a share above one half": (SCENARIO + "[plant]\nmovement = 0.9\n", ["plant.movement"]),
    "a limit that is not a number": (SCENARIO.replace("[day]", "v_min_pu = nan\n[day]"), ["feeder.v_min_pu"]),
    "a time zone nobody knows": (SCENARIO + 'timezone = "Mars/Olympus"\n', ["day.timezone"]),
    "a day without profiles": (SCENARIO.replace("2016-05-14", "2016-01-03"), ["2016"]),
    "a day of another year": (SCENARIO.replace("2016-05-14", "2019-05-14"), ["2019"]),
    "an unknown feeder": (SCENARIO.replace("rural1", "rural99"), ["rural99", "SimBench"]),
    "a feeder that has no homes": (SCENARIO.replace("simbench:1-LV-rural1--2-sw", "simbench:"), ["simbench"]),
    "a fault beyond the day": (SCENARIO + fault("home-003", 3, 3), ["[fault]", "within the day"]),
    "a fault before anything is known": (SCENARIO + fault("home-003", 0, 1), ["[fault]", "an hour from its start"]),
    "a fault at nobody's meter": (SCENARIO + fault("home-999", 1, 1), ["fault.customer", "home-999"]),
    "prices that are not there": (SCENARIO + '[prices]\nfile = "none.csv"\n', ["none.csv"]),
    "rules that are not there": ('rulebook = "rules"\n' + SCENARIO, ["rules"]),
}


@pytest.fixture
def scenario(extras: None, tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        return path

    return write


def nothing_left(folder: Path) -> None:
    """No run, no part of one."""
    assert [p.name for p in folder.iterdir() if p.is_dir() and p.name not in {"rules"}] == []


@pytest.mark.parametrize("case", BAD_SCENARIOS)
def test_a_bad_scenario_is_refused_and_nothing_is_written(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path, case: str
) -> None:
    text, words = BAD_SCENARIOS[case]
    refused(tellegen("run", scenario(text), "--out", tmp_path / "run"), *words)
    nothing_left(tmp_path)


def prices_of(change: Callable[[list[list[str]]], list[list[str]]]) -> str:
    """An hourly price file of nine days, changed."""
    rows = [
        [f"2016-05-{6 + hour // 24:02d}T{hour % 24:02d}:00:00+02:00", f"{0.05 + 0.001 * (hour % 24):.4f}"]
        for hour in range(9 * 24)
    ]
    return "".join(",".join(row) + "\n" for row in change(rows))


BAD_PRICES = {
    "a gap": (lambda rows: rows[:100] + rows[103:], ["row 100", "gap"]),
    "a time twice": (lambda rows: [*rows[:50], rows[49], *rows[50:]], ["row 51", "repeats"]),
    "not a number": (lambda rows: [*rows[:9], [rows[9][0], "NaN"], *rows[10:]], ["row 10", "price 'NaN'"]),
    "a time without a zone": (lambda rows: [[rows[0][0][:19], "0.1"], *rows[1:]], ["row 1", "zone"]),
    "no time": (lambda rows: [*rows[:2], ["noon", "0.1"], *rows[3:]], ["row 3", "noon"]),
    "a column too many": (lambda rows: [[*rows[0], "1", "2"], *rows[1:]], ["row 1", "4 columns"]),
    "another year": (lambda rows: [[r[0].replace("2016", "2015"), r[1]] for r in rows], ["2016-05-14", "not covered"]),
    "nothing": (lambda rows: [], ["no rows"]),
}


@pytest.mark.parametrize("case", BAD_PRICES)
def test_a_bad_price_file_is_refused_and_nothing_is_written(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path, case: str
) -> None:
    change, words = BAD_PRICES[case]
    (tmp_path / "prices.csv").write_text(prices_of(change))
    answer = tellegen("run", scenario(SCENARIO), "--out", tmp_path / "run", "--prices", tmp_path / "prices.csv")
    refused(answer, "prices.csv", *words)
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("2016-01-01.toml", RULES.replace('"0.080"', "0.080"), ["withdrawal_per_kwh"]),
        ("2016-01-01.toml", RULES.replace("[taxes]", "[taxes]\nwindow = 3"), ["taxes", "window"]),
        ("2016-01-01.toml", RULES.replace('certify = "metrology institute"', 'certify = "auditor"'), ["roles"]),
        ("2016-13-01.toml", RULES, ["file name"]),
        ("2019-01-01.toml", RULES, ["2016-05-14", "governed by no version"]),
    ],
)
def test_bad_rules_are_refused_and_nothing_is_written(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    """law 1: a rulebook holds no float."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / name).write_text(text)
    answer = tellegen("run", scenario('rulebook = "rules"\n' + SCENARIO), "--out", tmp_path / "run")
    refused(answer, *words)
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hours", "3"),
        ("--hours", "26"),
        ("--hours", "four"),
        ("--price-day", "yesterday"),
        ("--sunshine",),
    ],
)
def test_a_bad_option_of_a_run_is_refused(tellegen: Tellegen, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused(tellegen("demo", "--out", tmp_path / "run", *arguments), arguments[0], "--help")
    nothing_left(tmp_path)


def test_a_run_never_overwrites(scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("two years of work")
    refused(tellegen("run", scenario(SCENARIO), "--out", full), "full", "not empty")
    refused(tellegen("demo", "--hours", "4", "--out", full / "thesis.txt"), "thesis.txt", "not empty")
    assert [p.name for p in full.iterdir()] == ["thesis.txt"]
    refused(tellegen("run", scenario(SCENARIO), "--out", full / ".."), "not empty")
    refused(tellegen("run", tmp_path / "none.toml", "--out", tmp_path / "run"), "none.toml")


def test_a_new_demo_replaces_the_last_one_only_once_it_is_complete(
    run_copy: Path, scenario_file: Path, tellegen: Tellegen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tellegen.simulation.scenario import read_scenario

    monkeypatch.setattr("tellegen.simulation.scenario.demo_scenario", lambda: read_scenario(scenario_file))
    folder = run_copy.parent
    monkeypatch.chdir(folder)
    last = run_copy.rename(folder / "tellegen-demo")
    refused(tellegen("demo", "--prices", "none.csv"), "none.csv")
    (last / "report.html").write_text("the last demo, looked at")
    refused(tellegen("demo", "--out", last), "not empty")
    assert tellegen("verify", last).status == 1
    answer = tellegen("demo")
    assert answer.status == 0
    assert "tellegen-demo/report.html" in " ".join(answer.out.split())
    assert [p.name for p in folder.iterdir()] == ["tellegen-demo"]
    assert tellegen("verify", last).status == 0


def test_without_the_plant_a_run_says_which_extra_is_missing(
    scenario_file: Path, tellegen: Tellegen, tmp_path: Path, extras: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dss", None)
    refused(tellegen("run", scenario_file, "--out", tmp_path / "run"), "pip install 'tellegen[plant]'")
    nothing_left(tmp_path)


def test_an_out_directory_that_cannot_be_made_is_one_line(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused(tellegen("run", scenario(SCENARIO), "--out", tmp_path / "file" / "run"), "file")


# tellegen verify, replay, correct, erase, receipt


def test_verify_prints_the_documented_json(run_directory: Path, tellegen: Tellegen) -> None:
    told = json.loads(tellegen("verify", run_directory, "--json").out)
    assert set(told) == {"ok", "checks"}
    assert all(set(check) == {"name", "ok", "count", "detail"} for check in told["checks"])
    people = tellegen("verify", run_directory)
    assert people.status == 0
    assert "the record verifies" in people.out


def test_a_run_is_the_directory_the_contract_names(run_directory: Path) -> None:
    for name in ("journal", "books.sqlite", "summary.json", "report.html"):
        assert (run_directory / name).exists(), name
    for name in ("prices", "awards", "readings", "postings", "statements"):
        assert (run_directory / "tables" / f"{name}.parquet").is_file(), name


@pytest.mark.parametrize("command", ["verify", "replay", "receipt", "erase", "correct", "publish"])
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "hollow"])
def test_a_directory_that_is_no_run_is_refused(tellegen: Tellegen, tmp_path: Path, command: str, kind: str) -> None:
    place = tmp_path / "run"
    if kind == "file":
        place.write_text("")
    elif kind != "missing":
        place.mkdir()
    if kind == "hollow":
        (place / "journal").mkdir()
    more = {
        "receipt": ("--entry", "0"),
        "erase": ("--customer", "home-001", "--yes"),
        "correct": ("--file", tmp_path / "c.toml"),
    }
    (tmp_path / "c.toml").write_text(CORRECTION)
    answer = tellegen(command, place, *more.get(command, ()))
    if (command, kind) == ("verify", "hollow"):
        assert answer.status == 1
    else:
        refused(answer, str(place))


CORRECTION = """
customer = "home-005"
reason = "read again"
known_at = 2016-06-01T08:00:00Z
first_interval = 2016-05-13T23:00:00Z
import_wh = [10, 20]
export_wh = [0, 0]
reactive_varh = [0, 0]
"""
BAD_CORRECTIONS = {
    "no TOML": ("customer", ["not TOML"]),
    "an unknown key": (CORRECTION + "amount = 3\n", ["amount"]),
    "a key too few": (CORRECTION.replace('reason = "read again"', ""), ["reason"]),
    "nobody": (CORRECTION.replace("home-005", "home-999"), ["home-999", "not enrolled"]),
    "no zone": (CORRECTION.replace("08:00:00Z", "08:00:00"), ["known_at", "time zone"]),
    "between two intervals": (CORRECTION.replace("23:00:00Z", "23:01:00Z"), ["first_interval"]),
    "another day": (CORRECTION.replace("2016-05-13T", "2016-04-13T"), ["first_interval", "not closed here"]),
    "a register that runs backwards": (CORRECTION.replace("[10, 20]", "[20, 10]"), ["import_wh", "backwards"]),
    "lists of unequal length": (CORRECTION.replace("[10, 20]", "[10, 20, 30]"), ["registers"]),
    "a float": (CORRECTION.replace("[10, 20]", "[10, 20.5]"), ["import_wh"]),
    "a jump no fuse lets through": (CORRECTION.replace("[10, 20]", "[0, 9000000000]"), []),
    "registers beyond all counting": (CORRECTION.replace("[10, 20]", "[0, 99999999999999999999]"), ["import_wh"]),
}


@pytest.mark.parametrize("case", BAD_CORRECTIONS)
def test_a_bad_correction_is_refused_and_nothing_is_written(
    run_copy: Path, tmp_path: Path, tellegen: Tellegen, case: str
) -> None:
    text, words = BAD_CORRECTIONS[case]
    file = tmp_path / "correction.toml"
    file.write_text(text)
    before = {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()}
    refused(tellegen("correct", run_copy, "--file", file), *words)
    assert {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()} == before


def test_the_same_correction_is_not_made_twice(run_copy: Path, tmp_path: Path, tellegen: Tellegen) -> None:
    file = tmp_path / "correction.toml"
    file.write_text(CORRECTION)
    assert tellegen("correct", run_copy, "--file", file).status == 0
    before = {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()}
    refused(tellegen("correct", run_copy, "--file", file), "correction.toml", "on record already", "known_at")
    assert {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()} == before
    assert tellegen("verify", run_copy).status == 0


def test_a_receipt_of_what_is_not_there_is_refused(run_directory: Path, tellegen: Tellegen) -> None:
    refused(tellegen("receipt", run_directory, "--entry", "99999"), "entries 0 to")
    refused(tellegen("receipt", run_directory, "--entry", "-1"), "entries 0 to")
    refused(tellegen("receipt", run_directory, "--entry", "0", "--row", "77"), "rows 0 to")
    refused(tellegen("receipt", run_directory, "--entry", "0", "--row", "-1", "--json"), "rows 0 to")


def test_erasing_asks_first(
    run_copy: Path, tellegen: Tellegen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = tmp_path / "answers"
    answers.write_text("n\n")
    with answers.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        answer = tellegen("erase", run_copy, "--customer", "home-001")
    assert answer.status == 1
    assert "nothing was done" in answer.err
    assert tellegen("verify", run_copy).status == 0
    refused(tellegen("erase", run_copy, "--customer", "home-999"), "home-999")


def test_a_damaged_journal_is_no_traceback_for_any_command(run_copy: Path, tellegen: Tellegen, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CORRECTION)
    for name in ("log/000000.seg", "payloads/000000.seg", "checkpoints", "operator.pub"):
        file = run_copy / "journal" / name
        whole = file.read_bytes()
        file.write_bytes(
            whole[: len(whole) // 3] + bytes([whole[len(whole) // 3] ^ 0xFF]) + whole[len(whole) // 3 + 1 :]
        )
        assert tellegen("verify", run_copy).status == 1
        for command in (("replay",), ("correct", "--file", tmp_path / "c.toml", "--preview")):
            answer = tellegen(command[0], run_copy, *command[1:])
            # a correction reads the readings around what it corrects, and no others
            assert answer.status in {1, 2} or (name, command[0]) == ("payloads/000000.seg", "correct"), (name, command)
            assert len(answer.err.splitlines()) <= 1
        file.write_bytes(whole)
    assert tellegen("verify", run_copy).status == 0


def test_a_run_without_its_vault_can_be_verified_but_not_replayed(run_copy: Path, tellegen: Tellegen) -> None:
    shutil.rmtree(run_copy / "vault")
    assert tellegen("verify", run_copy).status == 0
    refused(tellegen("replay", run_copy), "vault")


# tellegen rules, bench, doctor, and the rest


def test_rules_are_shown_by_day_and_compared(tellegen: Tellegen) -> None:
    shown = tellegen("rules", "show", "--at", "2016-05-14", "--json")
    assert shown.status == 0
    assert json.loads(shown.out)["effective"] == "2016-01-01"
    changes = json.loads(tellegen("rules", "diff", "2016-12-31", "2017-01-01", "--json").out)
    assert {"key": "network.withdrawal_per_kwh", "before": "0.080", "after": "0.085"} in changes
    assert tellegen("rules", "diff", "2016-05-14", "2016-05-15").out == ""
    refused(tellegen("rules", "show", "--at", "2001-01-01"), "2001-01-01", "2016-01-01")
    refused(tellegen("rules", "show", "--at", "soon"), "--at")


def test_a_benchmark_prints_the_documented_json(tellegen: Tellegen, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellegen import assess

    class Addition(assess.Benchmark):
        def measure(self, options: assess.Options, report: assess.Report) -> None:
            options.progress("adding")
            report.figures += [assess.Figure("sum", 2.0, "ms", target=3.0), assess.Figure("free", 1.0, "ms")]

    monkeypatch.setitem(assess.BENCHMARKS, "quick", Addition("one addition", "nowhere"))
    told = json.loads(tellegen("bench", "quick", "--json").out)
    assert told["figures"] == [
        {"name": "sum", "value": 2.0, "unit": "ms", "target": 3.0, "met": True},
        {"name": "free", "value": 1.0, "unit": "ms"},
    ]
    assert "one addition" in tellegen("bench", "quick").out
    assert "quick" in tellegen("bench").out
    assert "quick" in json.loads(tellegen("bench", "list", "--json").out)
    refused(tellegen("bench", "nope"), "nope", "clearing")


def test_doctor_says_what_is_installed(tellegen: Tellegen) -> None:
    told = json.loads(tellegen("doctor", "--json").out)
    assert told["parts"]["numpy"]
    assert "numpy" in tellegen("doctor").out


def test_a_command_line_that_means_nothing_is_one_line(tellegen: Tellegen) -> None:
    refused(tellegen("frobnicate"), "frobnicate", "tellegen --help")
    refused(tellegen("clear"), "--", "tellegen clear --help")
    refused(tellegen("clear", "--netwrk", "x"), "--network")
    refused(tellegen("verify"), "directory")


def test_help_and_version_are_no_errors(tellegen: Tellegen) -> None:
    shown = tellegen("--help")
    assert shown.status == 0
    for command in ("demo", "run", "clear", "powerflow", "verify", "replay", "correct", "bench", "rules", "doctor"):
        assert command in shown.out
        assert tellegen(command, "--help").status == 0
    assert tellegen("--version").out.strip().count(".") == 2
    assert "Usage" in tellegen().out


def test_what_is_printed_as_json_is_one_document(run_directory: Path, network: Path, tellegen: Tellegen) -> None:
    """Progress, warnings and errors go to stderr; stdout holds one document and nothing else."""
    for command in (
        ("verify", run_directory, "--json"),
        ("powerflow", "--network", network, "--json"),
        ("rules", "show", "--at", "2016-05-14", "--json"),
        ("doctor", "--json"),
        ("receipt", run_directory, "--entry", "3", "--json"),
    ):
        answer = tellegen(*command)
        assert answer.status == 0, command
        json.loads(answer.out)


def test_columns_of_an_order_file_may_stand_in_any_order(
    network: Path, orders: Callable[..., Path], tellegen: Tellegen, tmp_path: Path
) -> None:
    path = tmp_path / "other.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["quantity_kw", "price", "side", "product", "node", "participant"])
        writer.writerow(["10", "0.5", "buy", "energy", "2", "a"])
    other = json.loads(tellegen("clear", "--network", network, "--orders", path, "--json").out)
    same = json.loads(
        tellegen("clear", "--network", network, "--orders", orders("a,2,,energy,buy,0.5,10,"), "--json").out
    )
    assert other["prices"] == same["prices"]
    assert other["awards"] == same["awards"]
