"""`tellegen network`: a health report for people and scripts, and documents that no accident overwrites."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellegen.grid import load_case

Tellegen = Callable[..., Any]

STREET = """\
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0    0    0 0 1 1 0 0.4 1 1.05 0.95;
  2 1 0.05 0.01 0 0 1 1 0 0.4 1 1.05 0.95;
];
mpc.gen = [1 0 0 1 -1 1 1 1 1 0];
mpc.branch = [1 2 {r} 0.05 0 {rate} 0 0 0 0 1 -360 360];
"""


@pytest.fixture
def street(tmp_path: Path) -> Callable[..., Path]:
    def write(r: float = 0.1, rate: float = 0.3) -> Path:
        path = tmp_path / "street.m"
        path.write_text(STREET.replace("{r}", str(r)).replace("{rate}", str(rate)))
        return path

    return write


def test_a_sound_network_is_done_a_warned_one_too_and_errors_exit_1(
    street: Callable[..., Path], tellegen: Tellegen
) -> None:
    sound = tellegen("network", "check", "--network", street(), "--json")
    assert sound.status == 0
    assert json.loads(sound.out) == {
        "ok": True,
        "nodes": 2,
        "counts": {"error": 0, "warning": 0, "note": 0},
        "findings": [],
    }
    warned = tellegen("network", "check", "--network", street(rate=0.02), "--json")
    assert warned.status == 0
    assert [f["check"] for f in json.loads(warned.out)["findings"]] == ["loading"]
    wrong = tellegen("network", "check", "--network", street(r=-0.1), "--json")
    assert wrong.status == 1
    told = json.loads(wrong.out)
    assert not told["ok"]
    assert told["findings"][0]["severity"] == "error"
    assert told["findings"][0]["place"] == "branch 1"
    spoken = tellegen("network", "check", "--network", street(r=-0.1))
    assert spoken.status == 1
    assert "street: 2 nodes, 1 error, 0 warnings, 0 notes" in spoken.out


def test_an_unreadable_network_is_one_line(tmp_path: Path, tellegen: Tellegen) -> None:
    answer = tellegen("network", "check", "--network", tmp_path / "none.m")
    assert answer.status == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1


def test_a_converted_network_is_the_same_and_no_file_is_lost(
    tmp_path: Path, street: Callable[..., Path], tellegen: Tellegen
) -> None:
    out = tmp_path / "street.json"
    path = street()
    assert tellegen("network", "convert", "--network", path, "--out", out).status == 0
    assert (
        tellegen("powerflow", "--network", out, "--json").out == tellegen("powerflow", "--network", path, "--json").out
    )
    network, original = load_case(str(out)).network, load_case(str(path)).network
    assert network.nodes == original.nodes
    assert abs(network.admittance - original.admittance).max() == 0
    assert load_case(str(out)).root_price == load_case(str(path)).root_price
    before = out.read_bytes()
    refused = tellegen("network", "convert", "--network", street(r=0.2), "--out", out)
    assert refused.status == 2
    assert "--force" in refused.err
    assert out.read_bytes() == before
    assert tellegen("network", "convert", "--network", street(r=0.2), "--out", out, "--force").status == 0
    assert out.read_bytes() != before
    assert tellegen("network", "convert", "--network", path, "--out", tmp_path / "street.m").status == 2


def test_a_three_phase_network_is_converted_with_its_loads_and_controls(tmp_path: Path, tellegen: Tellegen) -> None:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    script, out, orders = tmp_path / "street.dss", tmp_path / "street.json", tmp_path / "orders.csv"
    script.write_text(
        "clear\nnew circuit.street basekv=0.4 bus1=head mvasc3=20 mvasc1=20\n"
        "new line.a bus1=head bus2=end r1=0.1 x1=0.05 r0=0.3 x0=0.1 c1=0 c0=0\n"
        "new load.a bus1=end.2 phases=1 kv=0.23 kw=5 model=2\nset voltagebases=[0.4]\ncalcvoltagebases\n"
        "buscoords map.csv\nsolve\n"
    )
    (tmp_path / "map.csv").write_text("head, 1, 2\n")
    assert tellegen("network", "convert", "--network", script, "--out", out).status == 0
    orders.write_text(
        "participant,node,phases,product,side,price,quantity_kw\nsun,end,1,energy,sell,0.1,4\nweld,END,2-3,energy,buy,0.9,3\n"
    )
    words = ("--orders", orders, "--root-price", 0.3, "--json")
    one, other = (json.loads(tellegen("clear", "--network", file, *words).out) for file in (script, out))
    assert one == other
    assert [award["node"] for award in one["awards"]] == ["end", "end"]
