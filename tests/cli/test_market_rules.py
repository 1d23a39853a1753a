"""Market power, dead buses and limits that give way, as the command line tells them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tellegen = Callable[..., Any]
CASE = """function mpc = pocket
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0 0 0 0 1 1 0 0.4 1 1.1 0.8;
  2 1 0 0 0 0 1 1 0 0.4 1 1.1 0.8;
  3 4 0 0 0 0 1 1 0 0.4 1 1.1 0.8;
];
mpc.gen = [ 1 0 0 10 -10 1 1 1 10 -10; ];
mpc.branch = [
  1 2 1e-4 0 0 0.01 0 0 0 0 1 -360 360;
  2 3 1e-4 0 0 0 0 0 0 0 0 -360 360;
];
mpc.gencost = [ 2 0 0 2 300 0; ];
"""
ORDERS = """participant,node,product,side,price,quantity_kw
homes,2,energy,buy,,18
big,2,energy,sell,2.0,9
small,2,energy,sell,0.31,6
farm,3,energy,buy,,5
"""


@pytest.fixture
def pocket(tmp_path: Path) -> tuple[object, ...]:
    """18 kW behind a line of 10, with sellers of 9 and 6 kW; and a farm on a dead branch."""
    (tmp_path / "pocket.m").write_text(CASE)
    (tmp_path / "orders.csv").write_text(ORDERS)
    return "clear", "--network", tmp_path / "pocket.m", "--orders", tmp_path / "orders.csv"


def test_who_is_pivotal_is_told_with_what_it_did_to_the_price(
    pocket: tuple[object, ...], tmp_path: Path, tellegen: Tellegen
) -> None:
    plain = json.loads(tellegen(*pocket, "--json").out)
    assert "mitigation" not in plain
    references = tmp_path / "references.csv"
    references.write_text("participant,product,price\nbig,energy,0.5\nnobody,energy,0.1\n")
    told = json.loads(tellegen(*pocket, "--references", references, "--json").out)
    (finding,) = told["mitigation"]
    assert finding["participant"] == "big"
    assert finding["limit"].startswith("rating of")
    assert finding["needed_kw"] == pytest.approx(8.0, abs=0.01)
    assert finding["others_kw"] == pytest.approx(6.0, abs=0.01)
    assert finding["rows"] == [3]
    assert (finding["offered"], finding["reference"], finding["mitigated"]) == (2.0, 0.5, True)
    assert finding["price_before"] == pytest.approx(2.0) == plain["awards"][1]["price"]
    assert finding["price_after"] == pytest.approx(0.5) == told["awards"][1]["price"]
    said = tellegen(*pocket, "--references", references).out
    assert "pivotal: big on rating of" in said
    assert "held to 0.5" in said
    assert "not energised" in said


def test_a_reference_that_cannot_be_read_is_refused_in_one_line(
    pocket: tuple[object, ...], tmp_path: Path, tellegen: Tellegen
) -> None:
    references = tmp_path / "references.csv"
    for text, word in (
        ("participant,product,price\nbig,gas,0.5\n", "product 'gas'"),
        ("participant,product,price\nbig,energy,much\n", "price 'much'"),
        ("participant,product,price\nbig,energy,1\nbig,energy,2\n", "again"),
        ("participant,price\nbig,1\n", "column 'product'"),
    ):
        references.write_text(text)
        answer = tellegen(*pocket, "--references", references)
        assert answer.status == 2
        assert len(answer.err.splitlines()) == 1
        assert "references.csv" in answer.err
        assert word in answer.err


def test_what_gave_way_has_a_price_per_kwh(pocket: tuple[object, ...], tmp_path: Path, tellegen: Tellegen) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS.replace("2,energy,buy,,18", "2,energy,buy,,30"))
    told = json.loads(tellegen(*pocket, "--json").out)
    assert told["status"] == "relaxed"
    (gave,) = told["relaxations"]
    assert gave["price"] == pytest.approx(10.3)
    assert gave["excess"] == pytest.approx(5.0, abs=0.01)
    assert all(limit["price"] == limit["dual"] == pytest.approx(10.3) for limit in told["limits"])
    assert told["optima"]["seen"] == 1
