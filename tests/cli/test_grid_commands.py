"""``tellegen clear`` and ``powerflow``: documents, exit statuses, one-line errors."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from answers import RESISTANCE_PU, ROOT_PRICE, Tellegen, matpower, refused

ORDERS = "participant,node,phases,product,side,price,quantity_kw,kvar_per_kw"


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
    "deep.json": ("[" * 100_000, ["nested too deeply"]),
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
