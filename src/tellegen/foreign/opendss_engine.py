"""OpenDSS inside a confined process: it is told commands, one by one, and says what stands in its tables.

A request is text, a command a line. The answer is one JSON document; its tables are OpenDSS's own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tellegen.errors import InputError

ITERATIONS = 100
"""Least limit on solution and control iterations; the defaults of 15 and 10 are too few for large feeders."""
FULL = 1
"""OpenDSS's flag for all properties, defaults too."""
READ = ("Vsource", "Line", "Transformer", "Capacitor", "Reactor", "Load", "Generator", "PVSystem", "Storage")
CONTROLS = ("RegControl", "CapControl")
"""Controls whose settings are read."""
STANDING = frozenset({"invcontrol", "expcontrol", "storagecontroller", "gendispatcher", "espvlcontrol", "upfccontrol"})
"""Controls that would act between periods and have no model here."""
WITHOUT_CURRENT = frozenset(
    {"monitor", "energymeter", "sensor", "fmonitor", "regcontrol", "capcontrol", "swtcontrol", "relay", "recloser"}
    | {"fuse", "invcontrol", "expcontrol", "storagecontroller", "gendispatcher", "espvlcontrol", "upfccontrol"}
)
"""Classes that measure or switch; what they did is in the tables."""
REFUSED_AT = "command "
"""How the place of a refusal begins when it is a command's number, from 0."""

_MATRIX = re.compile(r'"([CRX]Matrix)"\s*:\s*\[[^"]*\]')


def quiet_engine() -> Any:
    """An engine without windows, editor, change of folder or words of its own."""
    from dss import DSS

    DSS.AllowChangeDir = False
    DSS.AllowForms = False
    DSS.AllowEditor = False
    engine = DSS.NewContext()
    engine.AllowForms = False
    return engine


def answer_scripts() -> Callable[[bytes], bytes]:
    """Get ready for scripts; what is loaded late is loaded now."""
    engine = quiet_engine()
    tell(engine, ["new circuit.small", "new capacitor.c bus1=sourcebus kv=115 kvar=1", "solve"])
    tables_of(engine)
    tell(engine, ["clear"])

    def answer(request: bytes) -> bytes:
        tell(engine, request.decode().split("\n"))
        if engine.NumCircuits == 0:
            raise InputError("", "circuit", "is missing: the script has no 'new circuit'")
        return tables_of(engine).encode()

    return answer


def tell(engine: Any, commands: list[str]) -> None:
    """Carry out commands.

    Raises
    ------
    InputError : OpenDSS refuses one; its place says which.
    """
    from dss import DSSException

    for number, command in enumerate(commands):
        try:
            engine.Text.Command = command
        except DSSException as failure:
            raise InputError("", f"{REFUSED_AT}{number}", str(failure)) from None


def tables_of(engine: Any) -> str:
    """Tables of the circuit after its controls have settled, as a JSON document.

    Raises
    ------
    InputError : it is no snapshot, has no solution, or an element without a model here.
    """
    circuit = engine.ActiveCircuit
    solution = circuit.Solution
    if int(solution.Mode) != 0:
        raise InputError("", "mode", "is not snapshot; leave out 'set mode', or end with 'set mode=snapshot'")
    if int(solution.Year) != 0:
        raise InputError("", "year", f"is {int(solution.Year)}; growth of loads is not read, set year=0")
    solution.MaxIterations = max(int(solution.MaxIterations), ITERATIONS)
    solution.MaxControlIterations = max(int(solution.MaxControlIterations), ITERATIONS)
    solution.Solve()
    if not solution.Converged:
        raise InputError("", "OpenDSS", "finds no power flow for the script; its loads may be too large")
    tables = ",".join(f'"{kind}":{_table(circuit, kind)}' for kind in (*READ, *CONTROLS))
    said = {
        "name": str(circuit.Name),
        "frequency_hz": float(solution.Frequency),
        "load_factor": float(solution.LoadMult),
        "generator_factor": float(solution.GenMult),
        "v_min": float(circuit.Settings.NormVminpu),
        "v_max": float(circuit.Settings.NormVmaxpu),
        "base_kv": _base_kv(circuit),
        "open_ends": _open_ends(circuit),
        "outputs": _outputs(circuit),
        "standing": [name for name in _elements(circuit) if name.partition(".")[0] in STANDING],
        "codes": json.loads(_rows(circuit, "LineCode", 0)),
    }
    return f'{{"tables":{{{tables}}},{json.dumps(said)[1:]}'


def _rows(circuit: Any, kind: str, flags: int) -> str:
    circuit.SetActiveClass(kind)
    return str(circuit.ActiveClass.ToJSON(flags)) if int(circuit.ActiveClass.Count) else "[]"


def _table(circuit: Any, kind: str) -> str:
    """All properties of a class's rows, and beside them those that the script gave."""
    unset = kind in ("Capacitor", "Reactor")
    text = _rows(circuit, kind, FULL)
    # Matrices of capacitors and reactors that were never set are printed as whatever lies in memory, even not numbers.
    text = blanked(text) if unset else text
    given = _rows(circuit, kind, 0) if unset or kind == "Line" else "null"
    return f'{{"all":{text},"given":{given}}}'


def blanked(text: str) -> str:
    """A table without its matrices."""
    return _MATRIX.sub(r'"\1":null', text)


def _elements(circuit: Any) -> list[str]:
    return [str(name).lower() for name in circuit.AllElementNames]


def _base_kv(circuit: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in circuit.AllBusNames:
        circuit.SetActiveBus(name)
        found[str(name).lower()] = float(circuit.ActiveBus.kVBase)
    return found


def _open_ends(circuit: Any) -> dict[str, list[int]]:
    """Open conductor ends of enabled elements; refuses classes that carry current and are not read."""
    known = {kind.lower() for kind in READ}
    found: dict[str, list[int]] = {}
    element = circuit.ActiveCktElement
    for name in circuit.AllElementNames:
        kind = str(name).partition(".")[0].lower()
        if kind in WITHOUT_CURRENT:
            continue
        circuit.SetActiveElement(name)
        if not element.Enabled:
            continue
        if kind not in known:
            raise InputError("", str(name), f"has no model here; known are {', '.join(READ)}")
        conductors = int(element.NumConductors)
        ends = [
            terminal * conductors + conductor
            for terminal in range(int(element.NumTerminals))
            for conductor in range(conductors)
            if element.IsOpen(terminal + 1, conductor + 1)
        ]
        if ends:
            found[str(name).lower()] = ends
    return found


def _outputs(circuit: Any) -> dict[str, tuple[float, float]]:
    """Power that converters inject, kW and kvar."""
    names = [name for name in _elements(circuit) if name.partition(".")[0] in ("pvsystem", "storage")]
    if names:
        # Their output is a result of the solution, so it is as exact as that.
        solution = circuit.Solution
        solution.ControlMode, solution.Tolerance = -1, 1e-10
        solution.Solve()
    found = {}
    for name in names:
        circuit.SetActiveElement(name)
        power = circuit.ActiveCktElement.TotalPowers
        found[name] = -float(power[0]), -float(power[1])
    return found
