"""What a health report finds in a network that somebody got wrong, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellegen.grid import Case, load_case
from tellegen.grid.health import Finding, Severity, examine
from tellegen.grid.importers.matpower import case_of_text

STREET = """\
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0    0    0 0 1 1 0 11  1 1.1  0.9;
  2 1 0    0    0 0 1 1 0 0.4 1 1.05 0.95;
  3 1 0.05 0.01 0 0 1 1 0 0.4 1 1.05 0.95;
  4 1 {load} 0.01 0 0 1 1 0 0.4 1 1.05 0.95;
];
mpc.gen = [1 0 0 1 -1 1.02 1 1 1 0];
mpc.branch = [
  1 2 0.01 0.05 0 0.4 0 0 {tap} 0 1 -360 360;
  2 3 {r} 0.05 0 {rate} 0 0 0 0 1 -360 360;
  3 4 0.1 0.05 0 0.3 0 0 0 0 1 -360 360;
  2 4 0.1 0.05 0 0.3 0 0 0 0 {tie} -360 360;
];
"""


def street(**values: object) -> Case:
    given = {"load": 0.04, "tap": 1, "r": 0.1, "rate": 0.3, "tie": 0} | values
    text = STREET
    for key, value in given.items():
        text = text.replace("{" + key + "}", str(value))
    return case_of_text("street.m", "street", text)


def found(case: Case) -> set[tuple[str, str, str]]:
    return {(f.severity.value, f.check, f.place) for f in examine(case)}


def test_a_sound_street_has_no_findings() -> None:
    assert examine(street()) == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tie": 1}, ("note", "loop", "branch 4")),
        ({"r": -0.1}, ("error", "impedance", "branch 2")),
        ({"r": 0.1, "rate": 0.05}, ("warning", "loading", "branch 2")),
        ({"rate": 0}, ("note", "rating", "branch 2")),
        ({"r": 50}, ("error", "powerflow", "street")),
        ({"r": 0.00001}, ("warning", "impedance", "branch 2")),
        ({"tap": 1.7320508}, ("error", "ratio", "2, 3, 4")),
        ({"load": 40}, ("warning", "load", "load 4")),
        ({"load": -0.04}, ("note", "load", "load 4")),
        ({"load": 0.001}, ("note", "load", "load 4")),
    ],
)
def test_what_is_wrong_is_called_by_its_name(values: dict[str, object], expected: tuple[str, str, str]) -> None:
    assert expected in found(street(**values))


def test_limits_that_the_own_load_breaks() -> None:
    findings = examine(street(load=0.35, rate=0.8))
    (low,) = [f for f in findings if f.check == "voltage"]
    assert low.place == "4"
    assert "limit 0.95" in low.problem


def test_islands_duplicates_and_crossed_limits_of_a_given_network() -> None:
    case = street()
    network = case.network
    y = network.admittance.tolil()
    y[3, :] = y[:, 3] = 0
    y[3, 3] = 1.0
    cut = replace(case, network=replace(network, admittance=y.tocsr()))
    assert ("error", "island", "4") in found(cut)
    twin = replace(case, network=replace(network, nodes=("1", "2", "3", "3")))
    assert ("error", "names", "3") in found(twin)
    v_min = network.v_min.copy()
    v_min[2] = 1.2
    assert ("error", "limits", "3") in found(replace(case, network=replace(network, v_min=v_min)))


def test_errors_come_first() -> None:
    ranks = [list(Severity).index(f.severity) for f in examine(street(tie=1, r=-0.1))]
    assert ranks == sorted(ranks)
    assert isinstance(examine(street(tie=1))[0], Finding)


THREE_PHASE = """
clear
new circuit.street basekv=11 pu=1.0 bus1=sub mvasc3=150 mvasc1=120
new linecode.main nphases=3 r1=0.32 x1=0.08 r0=1.2 x0=0.3 c1=0 c0=0 units=km normamps=200
new linecode.drop nphases=1 r1=0.8 x1=0.08 r0=0.8 x0=0.08 c1=0 c0=0 units=km normamps=80
new transformer.sub phases=3 windings=2 buses=(sub head) conns=({conns}) kvs=(11 0.4) kvas=(100 100) xhl=4
new line.main bus1=head bus2=end linecode=main length=0.3 units=km
new line.drop phases=1 bus1=end.2 bus2=home.{phase} linecode=drop length=0.05 units=km
new load.home bus1=home.{phase} phases=1 kv=0.23 kw=2 pf=0.98
set voltagebases=[11 0.4]
calcvoltagebases
solve
"""


def scripted(folder: Path, **values: str) -> Case:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    text = THREE_PHASE
    for key, value in ({"conns": "delta wye", "phase": "2"} | values).items():
        text = text.replace("{" + key + "}", value)
    path = folder / "street.dss"
    path.write_text(text)
    return load_case(str(path))


def test_three_phases_are_followed_conductor_by_conductor(tmp_path: Path) -> None:
    sound = found(scripted(tmp_path))
    assert not {check for _, check, _ in sound} & {"earth", "loop", "ratio", "impedance", "island"}
    assert not any(place == "line.drop" for _, _, place in sound)
    crossed = found(scripted(tmp_path, phase="3"))
    assert ("warning", "phases", "line.drop") in crossed


def test_a_load_to_earth_behind_a_delta_has_no_firm_voltage(tmp_path: Path) -> None:
    findings = examine(scripted(tmp_path, conns="wye delta"))
    (earth,) = [f for f in findings if f.check == "earth"]
    assert earth.severity is Severity.WARNING
    assert set(earth.place.split(", ")) == {"head", "end", "home"}
    assert "no firm voltage" in earth.problem


def test_a_published_feeder_has_no_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pandapower")
    monkeypatch.setenv("TELLEGEN_CACHE", str(tmp_path))
    findings = examine(load_case("pandapower:case33bw"))
    assert not [f for f in findings if f.severity is Severity.ERROR]
    assert np.all([f.check in {"impedance", "load", "rating"} for f in findings])
