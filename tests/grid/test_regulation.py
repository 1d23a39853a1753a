"""Regulators and capacitors between market periods: they come to rest where OpenDSS's controls do (law 10)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.grid import (
    Case,
    Controls,
    Dispatch,
    Settlement,
    load_case,
    settle_jointly,
    settle_taps,
    solve_powerflow,
    with_controls,
)

FEEDERS = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"
pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")

SAME_PU = 1e-6  # what is asked of equal positions; measured are 5e-9 and less
SAME_TAP = 1e-9  # steps are 6e-3; OpenDSS adds them up in floats


def feeder(name: str) -> Path:
    path = FEEDERS / name
    if not path.is_file():
        pytest.skip("the test feeders are not here (../shared)")
    return path


def scaled(case: Case, factor: float) -> Case:
    loads = case.loads
    return replace(case, loads=replace(loads, p_kw=loads.p_kw * factor, q_kvar=loads.q_kvar * factor))


def neutral(case: Case) -> Case:
    assert case.controls is not None
    taps = {(r.transformer, r.tap_winding) for r in case.controls.regulators}
    elements = list(case.controls.transformers)
    for k, winding in taps:
        elements[k] = elements[k].at(winding, 1.0)
    return with_controls(case, replace(case.controls, transformers=tuple(elements)))


class OpenDSS:
    """OpenDSS's static controls on a script, from the positions in which the importer finds the network."""

    def __init__(self, path: Path) -> None:
        from dss import DSS

        DSS.AllowChangeDir = False
        self.engine = DSS.NewContext()
        self.engine.Text.Command = f'redirect "{path}"'
        self.circuit = self.engine.ActiveCircuit
        self.solution = self.circuit.Solution
        self.solution.MaxIterations, self.solution.MaxControlIterations = 100, 100
        self.solution.Solve()
        # At the default of 1e-4 a voltage at the edge of a band is decided by rounding.
        self.solution.Tolerance, self.solution.MaxIterations = 1e-10, 1000

    def to_neutral(self) -> None:
        controls = self.circuit.RegControls
        found = controls.First
        while found:
            self.engine.Text.Command = f"transformer.{controls.Transformer}.wdg={controls.TapWinding} tap=1.0"
            found = controls.Next

    def settle(self, factor: float) -> None:
        # Loads are edited one by one: `loadmult` leaves the laws of loads below their least voltage as they were.
        loads = self.circuit.Loads
        found = loads.First
        while found:
            kw, kvar = loads.kW, loads.kvar
            loads.kW, loads.kvar = kw * factor, kvar * factor
            found = loads.Next
        self.solution.Solve()
        self.rounds = int(self.solution.ControlIterations)
        self.engine.Text.Command = "set controlmode=off"
        self.solution.Tolerance = 1e-12
        self.solution.Solve()
        self.solution.Solve()

    def taps(self, name: str) -> list[float]:
        transformers = self.circuit.Transformers
        transformers.Name = name.partition(".")[2]
        found = []
        for winding in range(transformers.NumWindings):
            transformers.Wdg = winding + 1
            found.append(float(transformers.Tap))
        return found

    def states(self, name: str) -> list[bool]:
        self.circuit.Capacitors.Name = name.partition(".")[2]
        return [bool(state) for state in self.circuit.Capacitors.States]

    def worst(self, settled: Settlement) -> float:
        """Largest difference of a complex voltage, per unit."""
        flat = np.asarray(self.circuit.AllBusVolts, dtype=float)
        volt = dict(zip((n.lower() for n in self.circuit.AllNodeNames), flat[::2] + 1j * flat[1::2], strict=True))
        network = settled.case.network
        base = network.base_kv * 1000.0
        return max(
            abs(settled.after.voltage[k] - volt[f"{bus}.{phase}"] / base[k])
            for k, (bus, phase) in enumerate(zip(network.nodes, network.phase.tolist(), strict=True))
            if k not in set(network.source.tolist())
        )


def agree(path: Path, factor: float, *, from_neutral: bool = False) -> Settlement:
    case = scaled(load_case(str(path)), factor)
    referee = OpenDSS(path)
    if from_neutral:
        case = neutral(case)
        referee.to_neutral()
    referee.settle(factor)
    settled = settle_taps(case)
    assert settled.settled
    assert settled.case.controls is not None
    for element in settled.case.controls.transformers:
        assert [w.tap for w in element.windings] == pytest.approx(referee.taps(element.name), abs=SAME_TAP)
    for bank in settled.case.controls.capacitors:
        assert bank.on.tolist() == referee.states(bank.name)
    assert settled.rounds == referee.rounds
    assert referee.worst(settled) <= SAME_PU
    return settled


@pytest.mark.parametrize("from_neutral", [False, True])
@pytest.mark.parametrize("factor", [1.0, 0.5, 1.2])
@pytest.mark.parametrize(("name", "regulators"), [("ieee13/IEEE13Nodeckt.dss", 3), ("ieee123/IEEE123Master.dss", 7)])
def test_a_feeder_comes_to_rest_where_opendss_does(
    name: str, regulators: int, factor: float, from_neutral: bool
) -> None:
    settled = agree(feeder(name), factor, from_neutral=from_neutral)
    assert settled.case.controls is not None
    assert len(settled.case.controls.regulators) == regulators
    if factor == 1.0:
        assert bool(settled.moves) == from_neutral  # an imported script stands where OpenDSS's controls left it


@pytest.mark.slow
@pytest.mark.parametrize("from_neutral", [False, True])
@pytest.mark.parametrize("factor", [1.0, 0.5, 1.2])
@pytest.mark.parametrize("name", ["ieee8500/Master.dss", "ieee8500/Master-unbal.dss"])
def test_the_largest_feeder_comes_to_rest_where_opendss_does(name: str, factor: float, from_neutral: bool) -> None:
    settled = agree(feeder(name), factor, from_neutral=from_neutral)
    if factor == 0.5:
        assert sum(move.element.startswith("capacitor.") for move in settled.moves) == 6


def circuit(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "circuit.dss"
    head = (
        "clear",
        "new circuit.small basekv=12.47 pu=1.0 bus1=s r1=0.1 x1=0.5 r0=0.2 x0=0.7",
        "set maxcontroliter=100",
    )
    tail = ("set voltagebases=[12.47 4.16]", "calcvoltagebases", "solve", "")
    path.write_text("\n".join([*head, *lines, *tail]))
    return path


BANK = "new transformer.t phases=3 windings=2 buses=(s a) kvs=(12.47 12.47) kvas=(5000 5000) xhl=0.5 %rs=(0.1 0.1)"
LINE = "new line.l bus1=a bus2=b r1=1.5 x1=3 r0=3 x0=8 c1=0 c0=0"
UNEQUAL = (
    "new load.a bus1=b.1 phases=1 kv=7.2 kw=700 kvar=200 vminpu=0.7 vmaxpu=1.3",
    "new load.b bus1=b.2 phases=1 kv=7.2 kw=400 kvar=150 vminpu=0.7 vmaxpu=1.3",
    "new load.c bus1=b.3 phases=1 kv=7.2 kw=900 kvar=350 vminpu=0.7 vmaxpu=1.3",
)
REG = "new regcontrol.r transformer=t winding=2 vreg=124 band=1.5 ptratio=60"
CONTROLS = {
    "the first phase counts": (BANK, LINE, f"{REG} r=3 x=6 ctprim=300"),
    "the second phase counts": (BANK, LINE, f"{REG} ptphase=2"),
    "the highest phase counts": (BANK, LINE, f"{REG} ptphase=max r=2 x=4 ctprim=300"),
    "the lowest phase counts": (BANK, LINE, f"{REG} ptphase=min r=2 x=4 ctprim=300"),
    "drop compensated by magnitudes": (BANK, LINE, f"{REG} ldc_z=5 ctprim=300"),
    "a voltage far away": (BANK, LINE, f"{REG} bus=b.3"),
    "a voltage far away with its own transformer, never too much here": (
        BANK,
        LINE,
        f"{REG} bus=b.2 remoteptratio=55 vlimit=125.5",
    ),
    "the tap of the other winding": (BANK, LINE, f"{REG} tapwinding=1"),
    "one step at a time, the faster one first": (
        BANK,
        LINE,
        f"{REG} maxtapchange=1 delay=30",
        "new transformer.u phases=1 windings=2 buses=(b.3 c.3) kvs=(7.2 7.2) kvas=(3000 3000) xhl=0.5",
        "new load.u bus1=c.3 phases=1 kv=7.2 kw=300 kvar=100 vminpu=0.7 vmaxpu=1.3",
        "new regcontrol.u transformer=u winding=2 vreg=122 band=1 ptratio=60 maxtapchange=1 delay=15",
    ),
    "inverse time": (
        BANK,
        LINE,
        f"{REG} inversetime=yes",
        "new transformer.u phases=1 windings=2 buses=(b.3 c.3) kvs=(7.2 7.2) kvas=(3000 3000) xhl=0.5",
        "new load.u bus1=c.3 phases=1 kv=7.2 kw=300 kvar=100 vminpu=0.7 vmaxpu=1.3",
        "new regcontrol.u transformer=u winding=2 vreg=122 band=1 ptratio=60 inversetime=yes",
    ),
    "a delta winding": (
        "new transformer.t phases=3 windings=2 buses=(s a) conns=(wye delta) kvs=(12.47 4.16) kvas=(5000 5000) xhl=2",
        "new line.l bus1=a bus2=b r1=0.2 x1=0.3 r0=0.3 x0=0.8 c1=0 c0=0",
        "new regcontrol.r transformer=t winding=2 vreg=121 band=1.5 ptratio=34.67 r=1 x=2 ctprim=700",
    ),
    "no control wants what its range does not hold": (
        BANK,
        LINE,
        "transformer.t.wdg=2 maxtap=1.05",
        f"{REG} r=5 x=9 ctprim=200",
    ),
    "a capacitor by voltage": (
        BANK,
        LINE,
        "new capacitor.k bus1=b phases=3 kvar=(300 300 300) kv=12.47 numsteps=3 states=(1 0 0)",
        "new capcontrol.k capacitor=k element=line.l terminal=2 type=voltage ptratio=60 on=117 off=118.4",
    ),
    "a capacitor by the mean voltage": (
        BANK,
        LINE,
        "new capacitor.k bus1=b phases=3 kvar=600 kv=12.47",
        "new capcontrol.k capacitor=k element=line.l terminal=2 type=voltage ptratio=60 on=116.5 off=118.5 ptphase=avg",
    ),
    "a delta capacitor by the voltage between phases": (
        BANK,
        LINE,
        "new capacitor.k bus1=b phases=3 kvar=600 kv=12.47 conn=delta",
        "new capcontrol.k capacitor=k element=line.l terminal=2 type=voltage ptratio=104 on=116.5 off=118.5 ptphase=2",
    ),
    "a capacitor by current": (
        BANK,
        LINE,
        "new capacitor.k bus1=b phases=3 kvar=600 kv=12.47",
        "new capcontrol.k capacitor=k element=line.l terminal=1 type=current ctratio=1 on=95 off=70 ctphase=max",
    ),
    "a capacitor by kvar, overruled by voltage": (
        BANK,
        LINE,
        "new capacitor.k bus1=b phases=3 kvar=(300 300) kv=12.47 numsteps=2",
        "new capcontrol.k capacitor=k element=line.l terminal=1 type=kvar on=500 off=-50 voltoverride=yes vmin=112 "
        "vmax=128 ptratio=60 delay=40",
        f"{REG} delay=45",
    ),
    "a capacitor overruled by the voltage of a bus": (
        BANK,
        LINE,
        "makebuslist",
        "new capacitor.k bus1=b phases=3 kvar=400 kv=12.47",
        "new capcontrol.k capacitor=k element=line.l terminal=1 type=kvar on=9000 off=-9000 voltoverride=yes vmin=115 "
        "vmax=118 ptratio=60 vbus=b ptphase=3",
    ),
}


@pytest.mark.parametrize("what", CONTROLS)
def test_every_setting_means_what_opendss_takes_it_for(what: str, tmp_path: Path) -> None:
    loads = UNEQUAL
    if what == "a delta winding":
        loads = ("new load.d bus1=b phases=3 conn=delta kv=4.16 kw=1500 kvar=500 vminpu=0.7 vmaxpu=1.3",)
    path = circuit(tmp_path, *CONTROLS[what], *loads)
    moved = [len(agree(path, factor).moves) for factor in (1.0, 0.2, 1.6)]
    assert sum(moved) > 0


@pytest.mark.parametrize("neutral_then", ["revneutral=yes", "revvreg=119 revband=1.5 revr=1 revx=2"])
def test_a_regulator_that_power_passes_backwards_turns_round(neutral_then: str, tmp_path: Path) -> None:
    path = circuit(tmp_path, BANK, LINE, f"{REG} reversible=yes revthreshold=100 {neutral_then}", *UNEQUAL)
    settled = agree(path, -0.8)
    assert settled.moves


def settled_circuit(tmp_path: Path, *lines: str) -> Case:
    return load_case(str(circuit(tmp_path, BANK, LINE, f"{REG} r=5 x=9 ctprim=200", *UNEQUAL, *lines)))


def test_nobody_wants_to_move_where_all_have_settled(tmp_path: Path) -> None:
    case = settled_circuit(tmp_path)

    @settings(max_examples=25, deadline=None)
    @given(st.floats(0.0, 1.8))
    def at(factor: float) -> None:
        once = settle_taps(scaled(case, factor))
        again = settle_taps(once.case)
        assert once.settled
        assert again.settled
        assert again.moves == ()
        assert again.rounds == 1
        assert sum(move.steps for move in once.moves) * 0.00625 == pytest.approx(_tap(once.case) - _tap(case))

    at()


def _tap(case: Case) -> float:
    assert case.controls is not None
    return case.controls.transformers[0].windings[1].tap


def test_a_tap_that_comes_back_brings_the_same_network_back(tmp_path: Path) -> None:
    """bit for bit: what a period is cleared on does not depend on the way there."""
    case = settled_circuit(tmp_path, "new capacitor.k bus1=b phases=3 kvar=300 kv=12.47")
    assert case.controls is not None
    there = with_controls(case, replace(case.controls, transformers=(case.controls.transformers[0].moved(1, -7),)))
    assert there.controls is not None
    back = with_controls(there, replace(there.controls, transformers=(there.controls.transformers[0].moved(1, 7),)))
    assert (there.network.admittance != case.network.admittance).nnz > 0
    for name in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(back.network.admittance, name), getattr(case.network.admittance, name))
        rows = (back.network.branches.current_rows, case.network.branches.current_rows)
        assert np.array_equal(getattr(rows[0], name), getattr(rows[1], name))


def test_moved_positions_are_the_network_that_a_script_with_them_describes(tmp_path: Path) -> None:
    capacitor = "new capacitor.k bus1=b phases=3 kvar=(300 200) kv=12.47 numsteps=2 states=({})"
    control = "new capcontrol.k capacitor=k element=line.l type=voltage ptratio=60 on=1 off=200"
    lines = (BANK, LINE, capacitor.format("0 0"), *UNEQUAL)
    case = load_case(str(circuit(tmp_path, *lines, f"{REG} maxtapchange=0", control)))
    assert case.controls is not None
    moved = with_controls(
        case,
        replace(
            case.controls,
            transformers=(case.controls.transformers[0].at(1, 1.05),),
            capacitors=(case.controls.capacitors[0].moved(1),),
        ),
    )
    written = (f"{BANK} taps=(1 1.05)", LINE, capacitor.format("1 0"), *UNEQUAL)
    wanted = load_case(str(circuit(tmp_path, *written)))
    difference = abs(moved.network.admittance - wanted.network.admittance)
    assert difference.max() <= 1e-12 * abs(wanted.network.admittance).max()
    rows = abs(moved.network.branches.current_rows - wanted.network.branches.current_rows)
    assert rows.max() <= 1e-12 * abs(wanted.network.branches.current_rows).max()


def test_controls_that_fight_are_named(tmp_path: Path) -> None:
    """Two regulators in a row, the outer one on the voltage behind the inner one: what one gives the other takes."""
    case = load_case(
        str(
            circuit(
                tmp_path,
                BANK,
                LINE,
                *UNEQUAL,
                "new capacitor.k bus1=b phases=3 kvar=900 kv=12.47",
                "new capcontrol.k capacitor=k element=line.l terminal=2 type=voltage ptratio=60 on=400 off=500",
            )
        )
    )
    assert case.controls is not None
    # Closes below 119.5 V and opens above 115 V: no state of the bank contents it.
    upset = replace(case.controls.switches[0], on=119.5, off=115.0)
    case = replace(case, controls=replace(case.controls, switches=(upset,)))
    settled = settle_taps(case)
    assert not settled.settled
    assert settled.cycle == ("capcontrol.k",)
    assert settled.rounds < 10


def test_a_limit_on_rounds_is_said_to_be_one(tmp_path: Path) -> None:
    case = scaled(settled_circuit(tmp_path), 0.1)
    settled = settle_taps(case, rounds_max=2)
    assert (settled.settled, settled.cycle, settled.rounds) == (False, (), 2)
    assert settle_taps(settled.case).settled


def test_controls_without_a_model_stand_still_and_are_named(tmp_path: Path) -> None:
    case = load_case(
        str(
            circuit(
                tmp_path,
                BANK,
                LINE,
                *UNEQUAL,
                f"{REG} cogen=yes",
                "new capacitor.k bus1=b phases=3 kvar=300 kv=12.47",
                "new capcontrol.k capacitor=k element=line.l type=time on=8 off=20",
            )
        )
    )
    assert case.controls is None
    (warning,) = (text for text in case.warnings if "no model" in text)
    assert "regcontrol.r" in warning
    assert "capcontrol.k" in warning
    assert settle_taps(case).moves == ()


class Customer:
    """Stands for a market: demand at bus b, a function of the voltage that the positions give it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, case: Case) -> Dispatch:
        self.asked += 1
        demand = np.zeros(len(case.network.nodes), dtype=complex)
        demand[case.network.node_index("b")] = self.answer(_tap(case))
        return Dispatch(demand, case.loads)


def test_a_dispatch_and_the_taps_that_suit_it_are_found_together(tmp_path: Path) -> None:
    """The dispatch answers to the voltage a little: after some rounds neither wants to change."""
    case = settled_circuit(tmp_path)
    customer = Customer(lambda tap: 600 + 300 * (tap - 1))
    joint = settle_jointly(case, customer)
    assert joint.settled
    assert joint.steps[0].moves
    assert customer.asked == len(joint.steps) >= 2
    assert not joint.steps[-1].moves
    last = solve_powerflow(joint.case.network, customer(joint.case).demand_kva, loads=joint.case.loads)
    assert last.voltage == pytest.approx(joint.steps[-1].after.voltage, abs=1e-12)


def test_a_dispatch_that_undoes_every_move_is_found_out(tmp_path: Path) -> None:
    """Buys where the tap is low and sells where it is high: the tap goes up and down for ever."""
    case = settled_circuit(tmp_path)
    start = _tap(case)
    joint = settle_jointly(case, Customer(lambda tap: 900 if tap <= start else -900))
    assert not joint.settled
    assert joint.cycle == ("regcontrol.r",)
    assert len(joint.steps) < 8


def test_a_joint_settlement_has_a_limit(tmp_path: Path) -> None:
    case = settled_circuit(tmp_path)
    joint = settle_jointly(case, Customer(lambda tap: 900), rounds_max=1)
    assert not joint.settled
    assert joint.cycle == ()


def test_a_network_without_controls_stays_as_it_is(tmp_path: Path) -> None:
    case = load_case(str(circuit(tmp_path, BANK, LINE, *UNEQUAL)))
    settled = settle_taps(case)
    assert settled.case is case
    assert settled.settled
    assert isinstance(load_case(str(circuit(tmp_path, BANK, REG))).controls, Controls)
