"""OpenDSS scripts: what we read and solve is what OpenDSS solves (law 10), on feeders and on the smallest circuits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid import LimitKind, load_case

FEEDERS = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"
pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")

Solve = Callable[[Path], Any]
SAME_PU = 1e-6  # what the task of reading a feeder is judged by; measured are 3e-9 and less
FLOATING_PU = 5e-6  # voltage to earth of a part that only ppm shunts hold: rounding over a tiny admittance
SAME_CIRCUIT_PU = 1e-8  # tiny circuits: OpenDSS's own rounding at stiff sources
# Where only `ppm` ties a delta winding to earth the condition number is 3e9: a dense LU is off by 6e-9 there.
TIED_BY_PPM_PU = 2e-8


def feeder(name: str) -> Path:
    path = FEEDERS / name
    if not path.is_file():
        pytest.skip("the test feeders are not here (../shared)")
    return path


def agree(path: Path, opendss: Solve, ours: Solve, differences: Solve, same_pu: float) -> tuple[Any, Any]:
    case, flow = ours(path)
    answer = opendss(path)
    worst = np.abs(differences(case, flow, answer))
    assert worst.max() <= same_pu
    assert complex(flow.root_kw, flow.root_kvar) == pytest.approx(answer.root, rel=1e-6, abs=1e-4)
    assert flow.losses_kw == pytest.approx(answer.losses_kw, rel=1e-5, abs=1e-4)
    return case, flow


@pytest.mark.parametrize(
    ("name", "nodes", "root_kw", "losses_kw"),
    [
        ("ieee13/IEEE13Nodeckt.dss", 41, 3567.05, 112.391),
        ("ieee123/IEEE123Master.dss", 278, 3615.27, 95.978),
        ("european-lv/Master.dss", 2721, 58.99, 0.880),
        ("ieee8500/Master.dss", 8531, 11983.43, 1210.26),
        ("ieee8500/Master-unbal.dss", 8531, 12047.63, 1274.46),
    ],
)
def test_a_feeder_has_the_voltages_that_opendss_finds(
    name: str, nodes: int, root_kw: float, losses_kw: float, opendss: Solve, ours: Solve, differences: Solve
) -> None:
    """law 10: OpenDSS is the referee of the power flow, to 1e-6 pu at every node; the totals are a regression."""
    case, flow = agree(feeder(name), opendss, ours, differences, SAME_PU)
    assert len(case.network.nodes) - case.network.source.size == nodes
    assert flow.root_kw == pytest.approx(root_kw, abs=0.006)
    assert flow.losses_kw == pytest.approx(losses_kw, abs=0.006)
    assert not case.warnings


@pytest.mark.parametrize("name", ["ieee13/IEEE13Nodeckt.dss", "ieee123/IEEE123Master.dss"])
def test_every_element_has_the_admittance_that_opendss_gives_it(name: str, opendss: Solve) -> None:
    from tellegen.grid.importers.opendss_elements import Nodes, elements, sources
    from tellegen.grid.importers.opendss_script import run_script

    script = run_script(feeder(name))
    circuit = opendss(feeder(name)).engine.ActiveCircuit
    nodes = Nodes(script)
    sources(script, nodes)
    count = 0
    for element in elements(script, nodes):
        circuit.SetActiveElement(element.primitive.name)
        flat = np.asarray(circuit.ActiveCktElement.Yprim, dtype=float)
        theirs = (flat[::2] + 1j * flat[1::2]).reshape(element.primitive.admittance.shape)
        assert np.abs(element.primitive.admittance - theirs).max() <= 1e-9 * np.abs(theirs).max()
        count += 1
    assert count > 10


def circuit(tmp_path: Path, *lines: str, bases: str = "12.47 0.48 0.208") -> Path:
    """A stiff 12.47 kV source at bus ``s`` and what the lines add."""
    path = tmp_path / "circuit.dss"
    head = ("clear", "new circuit.small basekv=12.47 pu=1.02 bus1=s r1=0.1 x1=0.5 r0=0.2 x0=0.7")
    tail = (f"set voltagebases=[{bases}]", "calcvoltagebases", "solve", "")
    path.write_text("\n".join([*head, *lines, *tail]))
    return path


UNEQUAL = (
    "new load.a bus1=b.1 phases=1 kv=0.277 kw=60 kvar=20 vminpu=0.7 vmaxpu=1.3",
    "new load.b bus1=b.2 phases=1 kv=0.277 kw=30 kvar=15 vminpu=0.7 vmaxpu=1.3",
    "new load.c bus1=b.2.3 phases=1 conn=delta kv=0.48 kw=25 kvar=-5 vminpu=0.7 vmaxpu=1.3",
)
BETWEEN = (
    "new load.ab bus1=b.1.2 phases=1 conn=delta kv=0.48 kw=40 kvar=10 vminpu=0.7 vmaxpu=1.3",
    "new load.abc bus1=b phases=3 conn=delta kv=0.48 kw=90 kvar=30 vminpu=0.7 vmaxpu=1.3",
)


@pytest.mark.parametrize("tap", ["taps=(1 1)", "taps=(1.025 0.98)"])
@pytest.mark.parametrize("side", ["", "leadlag=lead"])
@pytest.mark.parametrize(("high", "low"), [("wye", "wye"), ("delta", "wye"), ("wye", "delta"), ("delta", "delta")])
def test_a_transformer_bank_of_each_connection(
    high: str, low: str, side: str, tap: str, tmp_path: Path, opendss: Solve, ours: Solve, differences: Solve
) -> None:
    path = circuit(
        tmp_path,
        f"new transformer.t phases=3 windings=2 buses=(s b) conns=({high} {low}) kvs=(12.47 0.48) kvas=(300 300) "
        f"%rs=(0.6 0.7) xhl=4.5 %noloadloss=0.3 %imag=0.5 {tap} {side}",
        *(UNEQUAL if low == "wye" else BETWEEN),
    )
    agree(path, opendss, ours, differences, SAME_CIRCUIT_PU if low == "wye" else TIED_BY_PPM_PU)


CIRCUITS = {
    "open delta: two single-phase transformers between lines": (
        "new transformer.x phases=1 windings=2 buses=(s.1.2 b.1.2) conns=(delta delta) kvs=(12.47 0.48) "
        "kvas=(100 100) xhl=3 %rs=(0.5 0.5) ppm=10",
        "new transformer.y phases=1 windings=2 buses=(s.2.3 b.2.3) conns=(delta delta) kvs=(12.47 0.48) "
        "kvas=(100 100) xhl=3 %rs=(0.5 0.5) ppm=10",
        *BETWEEN,
    ),
    "open wye to open delta": (
        "new transformer.x phases=1 windings=2 buses=(s.1 b.1.2) conns=(wye delta) kvs=(7.2 0.48) kvas=(100 100) "
        "xhl=3 ppm=10",
        "new transformer.y phases=1 windings=2 buses=(s.2 b.2.3) conns=(wye delta) kvs=(7.2 0.48) kvas=(100 100) "
        "xhl=3 ppm=10",
        *BETWEEN,
    ),
    "centre tap: two 120 V legs and a 240 V load": (
        "new transformer.c phases=1 windings=3 buses=(s.2 b.1.0 b.0.2) kvs=(7.2 0.12 0.12) kvas=(50 50 50) "
        "%rs=(0.6 1.2 1.2) xhl=2.04 xht=2.04 xlt=1.36 %noloadloss=0.2 %imag=0.5",
        "new load.one bus1=b.1 phases=1 kv=0.12 kw=9 kvar=2 vminpu=0.7 vmaxpu=1.3",
        "new load.two bus1=b.2 phases=1 kv=0.12 kw=4 kvar=1 vminpu=0.7 vmaxpu=1.3",
        "new load.both bus1=b.1.2 phases=1 conn=delta kv=0.24 kw=7 kvar=3 vminpu=0.7 vmaxpu=1.3",
        "new load.half bus1=b.1.2 phases=2 conn=wye kv=0.208 kw=3 kvar=1 vminpu=0.7 vmaxpu=1.3",
    ),
    "three windings": (
        "new transformer.w phases=3 windings=3 buses=(s b t) conns=(wye wye delta) kvs=(12.47 0.48 4.16) "
        "kvas=(500 300 200) xhl=5 xht=6 xlt=7 %rs=(0.5 0.6 0.7)",
        *UNEQUAL,
        "new load.t bus1=t phases=3 conn=delta kv=4.16 kw=100 kvar=50",
    ),
    "a neutral earthed through a reactor at a fourth node": (
        "new transformer.n phases=3 windings=2 buses=(s b.1.2.3.4) conns=(delta wye) kvs=(12.47 0.48) "
        "kvas=(300 300) xhl=4",
        "new reactor.n phases=1 bus1=b.4 r=0.2 x=0.3",
        *UNEQUAL,
    ),
    "a neutral impedance of the winding": (
        "new transformer.n phases=3 windings=2 buses=(s b.1.2.3.4) conns=(delta wye) kvs=(12.47 0.48) "
        "kvas=(300 300) xhl=4 wdg=2 rneut=0.1 xneut=0.2",
        *UNEQUAL,
    ),
    "lines by sequence, by matrix and with charge; one phase crossed over": (
        "new line.one bus1=s bus2=m r1=0.3 x1=0.6 r0=0.5 x0=1.8 c1=9 c0=4 length=3 units=km",
        "new linecode.two nphases=2 rmatrix=[0.4|0.1 0.5] xmatrix=[0.9|0.3 0.8] cmatrix=[10|-2 9] units=mi",
        "new line.two phases=2 bus1=m.1.3 bus2=e.3.1 linecode=two length=4000 units=ft",
        "new load.e bus1=e.1 phases=1 kv=7.2 kw=500 kvar=100",
        "new load.f bus1=e.3.1 phases=1 conn=delta kv=12.47 kw=300 kvar=100",
    ),
    "a line by its geometry": (
        "new wiredata.w rac=0.3 gmrac=0.0074 diam=1.0 runits=km gmrunits=m radunits=cm rdc=0.29",
        "new linegeometry.g nconds=4 nphases=3 reduce=yes cond=1 wire=w x=-1 h=9 units=m cond=2 wire=w x=0 h=9 units=m "
        "cond=3 wire=w x=1 h=9 units=m cond=4 wire=w x=0.3 h=8 units=m",
        "new line.g bus1=s bus2=m geometry=g length=2 units=km",
        "new load.m bus1=m phases=3 kv=12.47 kw=900 kvar=300",
    ),
    "an open conductor": (
        "new line.o bus1=s bus2=m r1=0.3 x1=0.6 r0=0.5 x0=1.8 c1=9 c0=4 length=3 units=km",
        "new line.p bus1=s bus2=m r1=0.6 x1=0.9 r0=0.8 x0=1.8 c1=9 c0=4 length=3 units=km",
        "new load.m bus1=m phases=3 kv=12.47 kw=900 kvar=300",
        "open line.o term=2 cond=2",
    ),
    "capacitors in star, delta, steps and off; a series reactor": (
        "new reactor.r bus1=s bus2=m r=0.2 x=2",
        "new capacitor.y bus1=m phases=3 kvar=300 kv=12.47",
        "new capacitor.d bus1=m phases=3 conn=delta kvar=150 kv=12.47",
        "new capacitor.l bus1=m.1.2 phases=1 conn=delta kvar=50 kv=12.47",
        "new capacitor.s bus1=m phases=3 numsteps=3 kvar=[100 100 100] kv=12.47 states=[1 0 1]",
        "new capacitor.t bus1=m.2 phases=1 kvar=[70] kv=7.2 r=[2] xl=[9]",
        "new capacitor.off bus1=m phases=3 kvar=300 kv=12.47 states=[0]",
        "new reactor.q bus1=m phases=3 kvar=80 kv=12.47",
        "new load.m bus1=m phases=3 kv=12.47 kw=900 kvar=300",
    ),
    "generators and a second source": (
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        "new generator.g bus1=m phases=3 kv=12.47 kw=400 kvar=100",
        "new generator.h bus1=m.2 phases=1 kv=7.2 kw=100 pf=1",
        "new generator.d bus1=m phases=3 conn=delta kv=12.47 kw=100 pf=0.9 vmaxpu=1.01",
        "new generator.z bus1=m phases=3 kv=12.47 kw=100 kvar=0 model=2",
        "new vsource.far bus1=m basekv=12.47 pu=1.01 angle=-1 r1=5 x1=20 r0=5 x0=20",
        "new vsource.leg phases=1 bus1=m.3 basekv=7.2 pu=1.0 angle=119 r1=50 x1=200",
        "new load.m bus1=m phases=3 kv=12.47 kw=900 kvar=300",
    ),
    "loads stated in every way": (
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        "new load.a bus1=m phases=3 kv=12.47 kva=900 pf=0.9",
        "new load.b bus1=m phases=3 kv=12.47 xfkva=300 pf=0.9 allocationfactor=0.7",
        "new load.c bus1=m phases=3 kv=12.47 kwh=30000 kwhdays=30 pf=-0.9 cfactor=3",
        "new load.d bus1=m phases=3 kv=12.47 kw=-100 pf=1",
        "new load.e bus1=m phases=2 kv=12.47 kw=50 pf=1",
        "new load.f bus1=m.1.2.3 phases=2 conn=delta kv=12.47 kw=50 pf=1",
        "new load.g bus1=m.2.0 phases=1 conn=delta kv=7.2 kw=50 pf=1",
        "new load.h bus1=m.0.2 phases=1 kv=7.2 kw=50 pf=1",
        "new load.off bus1=nowhere phases=3 kv=12.47 kw=1000 enabled=no",
    ),
    "a series capacitor, a switch and a bank turned round": (
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        "new capacitor.c bus1=m bus2=c phases=3 cuf=[2000]",
        "new load.c bus1=c phases=3 kv=12.47 kw=100",
        "new line.w bus1=m bus2=q switch=yes",
        "new load.q bus1=q phases=3 kv=12.47 kw=100",
        "new transformer.u phases=1 windings=2 buses=(m.1.2 u.2.1) conns=(delta delta) kvs=(12.47 0.48) kvas=(30 20) "
        "xhl=4 %loadloss=1",
        "new load.u bus1=u.1.2 phases=1 kv=0.48 kw=10",
    ),
    "multipliers of loads": (
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        "new load.v bus1=m phases=3 kv=12.47 kw=900 kvar=300",
        "new load.f bus1=m phases=3 kv=12.47 kw=300 kvar=300 status=fixed",
        "new load.x bus1=m phases=3 kv=12.47 kw=200 kvar=100 status=exempt",
        "set loadmult=0.6",
    ),
}


@pytest.mark.parametrize("name", CIRCUITS)
def test_a_small_circuit(name: str, tmp_path: Path, opendss: Solve, ours: Solve, differences: Solve) -> None:
    path = circuit(tmp_path, *CIRCUITS[name], bases="12.47 4.16 0.48 0.208")
    agree(path, opendss, ours, differences, SAME_CIRCUIT_PU)


MODELS = {
    "constant power": "model=1",
    "constant impedance": "model=2",
    "constant power, reactive part an impedance": "model=3",
    "exponents": "model=4 cvrwatts=0.8 cvrvars=3",
    "linear and quadratic": "model=4",
    "constant current": "model=5",
    "zip": "model=8 zipv=[0.3 0.5 0.2 0.6 0.1 0.3 0]",
}


@pytest.mark.parametrize("connection", ["bus1=m phases=3 conn=wye kv=12.47", "bus1=m.1.3 phases=1 conn=delta kv=12.47"])
@pytest.mark.parametrize("pu", [0.3, 0.7, 0.93, 1.0, 1.12])
@pytest.mark.parametrize("model", MODELS)
def test_a_load_leaves_its_band_as_opendss_says(
    model: str, pu: float, connection: str, tmp_path: Path, opendss: Solve, ours: Solve, differences: Solve
) -> None:
    """Below vlowpu, on the ramp to vminpu, inside the band, above vmaxpu."""
    path = circuit(
        tmp_path,
        f"edit vsource.source pu={pu}",
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        f"new load.l {connection} kw=600 kvar=250 {MODELS[model]}",
    )
    agree(path, opendss, ours, differences, SAME_CIRCUIT_PU)


def test_controls_settle_taps_and_capacitors_before_they_freeze(tmp_path: Path, ours: Solve) -> None:
    path = circuit(
        tmp_path,
        "new transformer.r phases=1 windings=2 buses=(s.1 m.1) kvs=(7.2 7.2) kvas=(5000 5000) xhl=0.1",
        "new regcontrol.r transformer=r winding=2 vreg=124 band=1 ptratio=60",
        "new load.m bus1=m.1 phases=1 kv=7.2 kw=900 kvar=300",
    )
    case, flow = ours(path)
    volt = abs(flow.voltage[case.network.node_index("m")]) * case.network.base_kv[case.network.node_index("m")]
    assert 1000 * volt / 60 == pytest.approx(124, abs=0.5)


def test_ratings_become_limits_of_current_and_power(tmp_path: Path, ours: Solve) -> None:
    path = circuit(
        tmp_path,
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0 normamps=50",
        "new transformer.t phases=3 windings=2 buses=(m b) conns=(delta wye) kvs=(12.47 0.48) kvas=(150 150) xhl=4",
        "new load.b bus1=b phases=3 kv=0.48 kw=120 kvar=0 vminpu=0.7",
    )
    case, flow = ours(path)
    branches = case.network.branches
    kinds = {
        (e, case.network.nodes[n]): int(k)
        for e, n, k in zip(branches.element, branches.node, branches.kind, strict=True)
    }
    assert kinds["line.l", "m"] == kinds["transformer.t", "m"] == LimitKind.CURRENT
    assert kinds["transformer.t", "b"] == LimitKind.APPARENT_POWER
    percent = dict(zip(branches.element, flow.loading_percent.tolist(), strict=True))
    assert percent["transformer.t"] == pytest.approx(80, rel=1e-3)  # 120 of 150 kVA at unity power factor
    amperes = (120 + flow.losses_kw) / (np.sqrt(3) * 12.47 * 1.02)
    assert percent["line.l"] == pytest.approx(100 * amperes / 50, rel=0.01)


def test_lines_carry_the_currents_that_opendss_finds(opendss: Solve, ours: Solve) -> None:
    """law 10: amperes at the worst end and conductor of each line."""
    path = feeder("ieee13/IEEE13Nodeckt.dss")
    case, flow = ours(path)
    engine_circuit = opendss(path).engine.ActiveCircuit
    branches, network = case.network.branches, case.network
    ampere = flow.terminal_pu * network.base_kva / network.base_kv[branches.node]
    lines = sorted({element for element in branches.element if element.startswith("line.")})
    for element in lines:
        engine_circuit.SetActiveElement(element)
        theirs = np.asarray(engine_circuit.ActiveCktElement.CurrentsMagAng, dtype=float)[::2].max()
        worst = max(ampere[k] for k, name in enumerate(branches.element) if name == element)
        # The 671-692 switch is a tenth of a microohm: its current is a difference of nearly equal voltages.
        assert worst == pytest.approx(theirs, rel=1e-5)
    assert len(lines) == 12


def test_a_line_is_rated_where_the_script_says_so(tmp_path: Path, ours: Solve) -> None:
    """OpenDSS assumes 400 A of every line that says nothing; no such limit is in the file."""
    path = circuit(
        tmp_path,
        "new linecode.bare nphases=3 r1=.1 x1=.2 r0=.3 x0=.6 units=km",
        "new linecode.cable like=bare normamps=250",
        "new line.none bus1=s bus2=a length=1 units=km linecode=bare",
        "new line.coded bus1=a bus2=b length=1 units=km linecode=cable",
        "new line.own bus1=b bus2=c length=1 units=km linecode=bare normamps=123",
        "new line.plain bus1=c bus2=d length=1 units=km r1=.1 x1=.2 r0=.3 x0=.6 normamps=400",
        "new load.d bus1=d phases=3 kv=12.47 kw=900 kvar=300",
    )
    case, _ = ours(path)
    branches, network = case.network.branches, case.network
    ampere = branches.rating_pu * network.base_kva / network.base_kv[branches.node]
    rated = {name: round(float(a), 6) for name, a in zip(branches.element, ampere, strict=True) if name[:4] == "line"}
    assert rated == {"line.none": np.inf, "line.coded": 250, "line.own": 123, "line.plain": 400}


def test_nodes_carry_phases_bases_and_the_limits_of_the_file(tmp_path: Path, ours: Solve) -> None:
    path = circuit(
        tmp_path,
        "set normvminpu=0.94 normvmaxpu=1.06",
        "new transformer.n phases=3 windings=2 buses=(s b.1.2.3.4) conns=(delta wye) kvs=(12.47 0.48) kvas=(300 300)",
        "new reactor.n phases=1 bus1=b.4 r=0.2 x=0.3",
        *UNEQUAL,
    )
    case, _ = ours(path)
    network = case.network
    at = [k for k, bus in enumerate(network.nodes) if bus == "b"]
    assert [int(network.phase[k]) for k in at] == [1, 2, 3, 4]
    assert network.base_kv[at] == pytest.approx([0.48 / np.sqrt(3)] * 4)
    assert network.v_min[at].tolist() == [0.94, 0.94, 0.94, 0.0]
    assert network.v_max[at].tolist() == [1.06, 1.06, 1.06, np.inf]
    assert any("neutral" in warning for warning in case.warnings)


def test_a_converter_injects_what_its_inverter_allows_and_is_named(
    tmp_path: Path, opendss: Solve, ours: Solve, differences: Solve
) -> None:
    path = circuit(
        tmp_path,
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        "new pvsystem.roof bus1=m phases=3 kv=12.47 kva=400 pmpp=500 irradiance=0.6 pf=1 %cutin=0 %cutout=0",
        "new load.m bus1=m phases=3 kv=12.47 kw=900 kvar=300",
    )
    case, _ = agree(path, opendss, ours, differences, SAME_CIRCUIT_PU)
    assert any("pvsystem.roof" in warning for warning in case.warnings)


BAD = {
    "a file that is not there": (("redirect nowhere.dss",), "nowhere.dss"),
    "a word that is no property": (("new line.l bus1=s bus2=m colour=3",), "colour"),
    "a class that does not exist": (("new windmill.a bus1=s",), "windmill"),
    "a line code that was not defined": (("new line.l bus1=s bus2=m linecode=zz",), "zz"),
    "an element that has no model": (("new isource.i bus1=s amps=3",), "Isource.i"),
    "a bus that hangs on nothing": (("new line.l bus1=p bus2=q", "new load.q bus1=q kv=12.47 kw=1"), "p.1"),
    "a phase that hangs on nothing": (("new load.q bus1=s.4 phases=1 kv=7.2 kw=1",), "s.4"),
    "a load model that is not read": (("new load.q bus1=s kv=12.47 kw=1 model=7",), "model 7"),
    "a generator that holds a voltage": (("new generator.q bus1=s kv=12.47 kw=1 model=3",), "model 3"),
    "another frequency": (("new line.l bus1=s bus2=m basefreq=50",), "basefreq"),
    "a load beyond all wires": (
        ("new reactor.q bus1=s bus2=m r=900", "new load.q bus1=m kv=12.47 kw=1e6 vminpu=0 vlowpu=0"),
        "power flow",
    ),
    "a mode of time series": (("set mode=daily",), "snapshot"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_script_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    lines, word = BAD[name]
    with pytest.raises(InputError) as refusal:
        load_case(str(circuit(tmp_path, *lines)))
    assert word.lower() in str(refusal.value).lower()
    assert len(str(refusal.value).splitlines()) == 1
    assert "circuit.dss" in str(refusal.value)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dss", None)
    with pytest.raises(InputError, match=r"tellegen\[plant\]"):
        load_case(str(circuit(tmp_path)))


def test_matrices_that_opendss_never_set_are_not_read() -> None:
    """It prints such a matrix as the memory it finds, which need not be numbers."""
    from tellegen.foreign.opendss_engine import blanked
    from tellegen.grid.importers.opendss_script import rows

    garbage = '"CMatrix" : [[0.0, Nan], [+Inf, 5e-324]], '
    told = blanked(f'[{{"Name" : "c", {garbage}"Cuf" : [2.0], "Enabled" : true}}]')
    (row,) = rows(json.loads(told), [{"Name": "c", "Cuf": [2.0], "Enabled": True}])
    assert row["CMatrix"] is None
    assert row["Cuf"] == [2.0]
    assert row["given"] == ("Name", "Cuf", "Enabled")


def test_a_script_without_voltage_bases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.dss"
    path.write_text("new circuit.bare\nnew line.l bus1=sourcebus bus2=m\nsolve\n")
    with pytest.raises(InputError, match="voltagebases"):
        load_case(str(path))
    path.write_text("! nothing\n")
    with pytest.raises(InputError, match="new circuit"):
        load_case(str(path))


def test_a_script_writes_no_reports_beside_the_users_files(tmp_path: Path) -> None:
    path = circuit(tmp_path, "new load.m bus1=s phases=3 kv=12.47 kw=900 kvar=300", "solve")
    path.write_text(path.read_text() + "show voltages ln nodes\nexport voltages\nshow taps\n")
    load_case(str(path))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_command_prints_every_node_phase_and_element(tmp_path: Path, tellegen: Callable[..., Any]) -> None:
    path = circuit(
        tmp_path,
        "new line.l bus1=s bus2=m r1=1 x1=2 r0=2 x0=5 c1=0 c0=0",
        "new load.m bus1=m phases=3 kv=12.47 kw=900 kvar=300",
    )
    answer = tellegen("powerflow", "--network", path, "--json")
    assert answer.status == 0
    told = json.loads(answer.out)
    assert [(v["node"], v["phase"]) for v in told["voltages"]] == [(b, p) for b in ("s", "m") for p in (1, 2, 3)]
    assert [e["element"] for e in told["loadings"]] == ["line.l"]
    assert told["root_kw"] == pytest.approx(900 + told["losses_kw"], abs=1e-6)
    assert told["root_kvar"] > 300
    assert "at s.1\n" in tellegen("powerflow", "--network", path).out


def random_feeder(seed: int) -> list[str]:
    """A tree of lines and transformers of drawn connections, with loads of drawn models and connections."""
    rng = np.random.default_rng(seed)
    buses: list[tuple[str, float, bool]] = [("s", 12.47, True)]
    lines: list[str] = []
    for k in range(int(rng.integers(4, 9))):
        bus, kv, earthed = buses[int(rng.integers(len(buses)))]
        name = f"b{k}"
        if rng.random() < 0.4:
            low = float(rng.choice([4.16, 0.48]))
            high_side, low_side = rng.choice(["wye", "delta"], 2)
            tap = rng.uniform(0.97, 1.03, 2)
            lines.append(
                f"new transformer.t{k} phases=3 windings=2 buses=({bus} {name}) conns=({high_side} {low_side}) "
                f"kvs=({kv} {low}) kvas=(800 800) xhl={rng.uniform(2, 6):.3f} %rs=({rng.uniform(0.2, 1):.3f} 0.5) "
                f"%noloadloss={rng.uniform(0, 0.4):.3f} %imag={rng.uniform(0, 1):.3f} "
                f"taps=({tap[0]:.4f} {tap[1]:.4f}) leadlag={rng.choice(['lag', 'lead'])} ppm={rng.choice([20, 100])}"
            )
            kv, earthed = low, low_side == "wye"
        else:
            z = kv**2 * rng.uniform(1e-4, 4e-4, 4)
            lines.append(
                f"new line.l{k} bus1={bus} bus2={name} r1={z[0]:.6g} x1={z[1]:.6g} r0={2 * z[2]:.6g} x0={3 * z[3]:.6g} "
                f"c1={rng.uniform(0, 50):.3f} c0={rng.uniform(0, 20):.3f} length={rng.uniform(0.2, 2):.3f}"
            )
        buses.append((name, kv, earthed))
        model = int(rng.choice([1, 2, 3, 4, 5, 8]))
        zipv = " zipv=[0.3 0.3 0.4 0.5 0.2 0.3 0]" if model == 8 else ""
        power = f"kw={rng.uniform(-5, 25):.3f} kvar={rng.uniform(-5, 10):.3f} model={model}{zipv}"
        a, b = rng.permutation([1, 2, 3])[:2]
        lines.append(f"new load.d{k} bus1={name}.{a}.{b} phases=1 conn=delta kv={kv} {power}")
        # Behind a delta only ppm shunts lead to earth; a load there has no definite voltage.
        if earthed and rng.random() < 0.5:
            lines.append(f"new load.y{k} bus1={name}.{a} phases=1 kv={kv / np.sqrt(3):.6f} kw=3 kvar=1 vminpu=0.8")
    return lines


@pytest.mark.parametrize("seed", range(25))
def test_drawn_feeders_agree(seed: int, tmp_path: Path, opendss: Solve, ours: Solve, differences: Solve) -> None:
    """law 10: connections in cascade, floating deltas and loads that unbalance them."""
    path = circuit(tmp_path, *random_feeder(seed), bases="12.47 4.16 0.48")
    agree(path, opendss, ours, differences, FLOATING_PU)


def test_a_script_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output holds the answer alone, whatever a script asks OpenDSS to say."""
    path = circuit(tmp_path, "new line.l bus1=s bus2=b r1=0.1 x1=0.1 normamps=200", "new load.a bus1=b kv=12.47 kw=9")
    path.write_text(path.read_text() + "help\nhelp command\n? load.a.kw\nshow taps\n")
    load_case(str(path))
    assert capfd.readouterr() == ("", "")
