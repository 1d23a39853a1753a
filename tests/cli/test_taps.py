"""`tellegen settle-taps`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.grid import Connections, Dispatch, FixedLoads, LoadLaw, load_case
from tellegen.market import OrderBook
from tellegen.records import Product, Side
from tellegen.workbench import dispatch_market

Tellegen = Callable[..., Any]

SCRIPT = """clear
new circuit.street basekv=12.47 pu=1.0 bus1=s r1=0.1 x1=0.5 r0=0.2 x0=0.7
new transformer.t phases=3 windings=2 buses=(s a) kvs=(12.47 12.47) kvas=(5000 5000) xhl=0.5
new line.l bus1=a bus2=b r1=1.5 x1=3 r0=3 x0=8 c1=0 c0=0
new load.b bus1=b phases=3 kv=12.47 kw=2000 kvar=700 vminpu=0.7 vmaxpu=1.3
new capacitor.k bus1=b phases=3 kvar=300 kv=12.47
new capcontrol.k capacitor=k element=line.l type=kvar on=400 off=-100
new regcontrol.r transformer=t winding=2 vreg=122 band=1.5 ptratio=60 r=5 x=9 ctprim=200
set voltagebases=[12.47]
calcvoltagebases
solve
"""
BALANCED = """function mpc = two
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0 0 0 0 1 1.0 0 0.4 1 1.1 0.8;
  2 1 0.05 0.02 0 0 1 1.0 0 0.4 1 1.1 0.8;
];
mpc.gen = [
  1 0 0 10 -10 1 1 1 10 -10;
];
mpc.branch = [
  1 2 0.5 0.1 0 0 0 0 0 0 1 -360 360;
];
mpc.gencost = [
  2 0 0 2 200 0;
];
"""


@pytest.fixture
def street(tmp_path: Path) -> Path:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    path = tmp_path / "street.dss"
    path.write_text(SCRIPT)
    return path


def test_a_file_stands_where_its_controls_left_it(street: Path, tellegen: Tellegen) -> None:
    answer = tellegen("settle-taps", "--network", street, "--json")
    document = json.loads(answer.out)
    assert answer.status == 0
    assert document["settled"]
    assert document["moves"] == []
    assert document["power_flows"] == 1
    assert [(entry["element"], entry["steps"]) for entry in document["positions"]] == [
        ("transformer.t", 0),
        ("capacitor.k", 0),
    ]


def test_moves_and_voltages_are_told_and_the_network_is_written(
    street: Path, tmp_path: Path, tellegen: Tellegen
) -> None:
    written = tmp_path / "light.json"
    answer = tellegen("settle-taps", "--network", street, "--load-factor", 0.1, "--out", written, "--json")
    document = json.loads(answer.out)
    assert answer.status == 0
    tap, bank = document["positions"]
    assert tap["steps"] < 0
    assert (bank["before"], bank["after"]) == (1, 0)
    assert tap["after"] == pytest.approx(tap["before"] + 0.00625 * tap["steps"])
    assert sum(m["steps"] for m in document["moves"] if m["winding"]) == tap["steps"]
    at_b = [v for v in document["voltages"] if v["node"] == "b"]
    assert len(at_b) == 3
    assert all(v["after"] < v["before"] for v in at_b)
    assert document["root_kw_before"] == pytest.approx(200 + document["losses_kw_before"], rel=1e-6)

    # The document is a network like any other: with the file's whole load the tap goes back up from where it lies.
    flow = json.loads(tellegen("powerflow", "--network", written, "--json").out)
    assert flow["root_kw"] > 2000
    again = json.loads(tellegen("settle-taps", "--network", written, "--json").out)
    assert again["positions"][0]["before"] == tap["after"]
    assert again["positions"][0]["steps"] > 0
    still = json.loads(tellegen("settle-taps", "--network", written, "--load-factor", 0.1, "--json").out)
    assert still["moves"] == []
    assert not list(tmp_path.glob("*.part"))


def test_a_person_reads_the_same(street: Path, tellegen: Tellegen) -> None:
    answer = tellegen("settle-taps", "--network", street, "--load-factor", 0.1)
    assert "1 regulators, 1 capacitor controls" in answer.out
    assert "settled after" in answer.out
    assert "transformer.t: tap of winding 2" in answer.out
    assert "capacitor.k: steps in 1 to 0 (-1)" in answer.out


def test_controls_that_never_rest_are_an_answer_of_no(street: Path, tmp_path: Path, tellegen: Tellegen) -> None:
    """The document is edited so that no state of the bank contents its control."""
    written = tmp_path / "street.json"
    assert tellegen("settle-taps", "--network", street, "--out", written).status == 0
    document = json.loads(written.read_text())
    document["case"]["controls"]["switches"][0].update(on=-1e6, off=1e6)
    fight, unwritten = tmp_path / "fight.json", tmp_path / "unwritten.json"
    fight.write_text(json.dumps(document))
    answer = tellegen("settle-taps", "--network", fight, "--out", unwritten, "--json")
    assert answer.status == 1
    assert json.loads(answer.out)["cycle"] == ["capcontrol.k"]
    assert not unwritten.exists()
    assert "go round in circles" in tellegen("settle-taps", "--network", fight).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "x.txt"), "--out"),
        (("--root-price", "0.2"), "--orders"),
        (("--load-factor", "nan"), "--load-factor"),
        (("--orders", "nothing.csv", "--root-price", "0.1"), "nothing.csv"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    arguments: tuple[str, ...], words: str, street: Path, tellegen: Tellegen
) -> None:
    answer = tellegen("settle-taps", "--network", street, *arguments)
    assert answer.status == 2
    assert answer.out == ""
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


def test_orders_are_cleared_and_settled_at_their_dispatch(tmp_path: Path, tellegen: Tellegen) -> None:
    network, orders = tmp_path / "two.m", tmp_path / "orders.csv"
    network.write_text(BALANCED)
    orders.write_text(
        "participant,node,product,side,price,quantity_kw,kvar_per_kw\nshop,2,energy,buy,0.9,40,0.3\n"
        "roof,2,energy,sell,0.05,15,0\nbank,2,reactive,sell,0.001,5,\n"
    )
    cleared = json.loads(tellegen("clear", "--network", network, "--orders", orders, "--json").out)
    answer = tellegen("settle-taps", "--network", network, "--orders", orders, "--json")
    document = json.loads(answer.out)
    assert answer.status == 0
    assert document["clearings"] == [cleared["status"]] == ["optimal"]
    # What is settled at is the dispatch itself: the same power flow comes out.
    assert document["root_kw_after"] == pytest.approx(cleared["network"]["root_kw"], rel=1e-9)
    wanted = {v["node"]: v["pu"] for v in cleared["network"]["voltages"]}
    assert {v["node"]: v["after"] for v in document["voltages"]} == pytest.approx(wanted, abs=1e-9)


def test_awards_at_connections_are_drawn_leg_by_leg(street: Path) -> None:
    network = load_case(str(street)).network
    size = len(network.nodes)
    book = OrderBook.of(
        [2, size, size + 1, 2],
        [Side.BUY, Side.SELL, Side.BUY, Side.SELL],
        0.1,
        [4, 6, 8, 5],
        kvar_per_kw=[0, 0.5, 0, 0],
        product=[Product.ENERGY, Product.ENERGY, Product.ENERGY, Product.RESERVE_UP],
        connections=Connections(
            np.array([0, 2, 3]),
            np.array([3, 4, 5]),
            np.array([-1, -1, 3]),
            np.array([0.5, 0.5, 1.0]),
            ("two", "between"),
        ),
    )
    one = np.ones(1)
    given = Dispatch(
        np.zeros(size, dtype=complex),
        FixedLoads(("x",), np.array([4]), one, one, None, LoadLaw(one, 2 * one, 2 * one, one, one, one, one)),
    )
    drawn = dispatch_market.awarded(network, book, np.array([4.0, 6.0, 8.0, 5.0]), given)
    # Reserve that nobody calls draws nothing.
    assert drawn.demand_kva[2] == 4
    assert drawn.demand_kva.sum() == 4
    loads = drawn.loads
    assert loads.other is not None
    assert loads.law is not None
    assert loads.node.tolist() == [4, 3, 4, 5]
    assert loads.other.tolist() == [-1, -1, -1, 3]
    assert loads.p_kw.tolist() == [1, -3, -3, 8]
    assert loads.q_kvar.tolist() == [1, -1.5, -1.5, 0]
    assert loads.law.p_exponent.tolist() == [2, 0, 0, 0]
