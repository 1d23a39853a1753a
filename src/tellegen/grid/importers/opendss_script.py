"""OpenDSS runs a script and hands over its element tables (extra ``plant``).

OpenDSS is the only complete reader of its own language. It parses here, and its controls find the positions of taps
and capacitors; impedances, ratings, loads are read from its tables as numbers. Nothing of its admittance matrix or of
its solution is used: `tellegen.grid` builds and solves its own.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellegen.errors import InputError

ITERATIONS = 100
"""Least limit on solution and control iterations; the defaults of 15 and 10 are too few for large feeders."""
FULL = 1
"""OpenDSS's flag for all properties, defaults too."""
GIVEN = "given"
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

_MATRIX = re.compile(r'"([CRX]Matrix)"\s*:\s*\[[^"]*\]')
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Script:
    """The circuit of a script after its controls have settled.

    Attributes
    ----------
    source : the file.
    name : of the circuit.
    frequency_hz : at which it is solved.
    load_factor, generator_factor : multipliers of all loads and generators that are not fixed.
    v_min, v_max : normal voltage limits, per unit.
    tables : rows of each class in `READ` and `CONTROLS`, enabled elements only, with OpenDSS's property names as keys.
    base_kv : nominal voltage to ground of each bus.
    open_ends : conductor ends that are switched open, by element name, counted terminal by terminal from 0.
    coordinates : where buses stand on the script's map, (x, y) by name; those without coordinates are left out.
    output_kva : power that converters inject, kW + j kvar by element name, as OpenDSS solved them.
    standing : names of controls that act between periods and have no model here.
    rated_codes : line codes (lower case) that say what their lines may carry.
    """

    source: str
    name: str
    frequency_hz: float
    load_factor: float
    generator_factor: float
    v_min: float
    v_max: float
    tables: dict[str, list[Row]]
    base_kv: dict[str, float]
    open_ends: dict[str, tuple[int, ...]]
    output_kva: dict[str, complex]
    standing: tuple[str, ...]
    coordinates: dict[str, tuple[float, float]]
    rated_codes: frozenset[str]


def run_script(path: Path) -> Script:
    """Let OpenDSS compile and solve a script, and read its tables.

    Raises
    ------
    InputError : dss-python is missing, the file cannot be read, OpenDSS refuses it or finds no solution, or it holds
        an element that has no model here.
    """
    if not path.is_file():
        raise InputError(path, "file", "cannot be read (No such file or directory)")
    if '"' in str(path.resolve()):
        raise InputError(path, "file name", "has a quotation mark, which OpenDSS cannot read")
    try:
        from dss import DSS, DSSException
    except ImportError:
        raise InputError(path, "package dss-python", "is needed: pip install 'tellegen[plant]'") from None
    DSS.AllowChangeDir = False
    DSS.AllowForms = False
    DSS.AllowEditor = False
    engine = DSS.NewContext()
    engine.AllowForms = False
    try:
        # Reports that a script asks for (show, export) go where nobody looks, not beside the user's files.
        with _muted(engine), tempfile.TemporaryDirectory() as folder:
            engine.DataPath = folder
            engine.Text.Command = f'redirect "{path.resolve()}"'
            if engine.NumCircuits == 0:
                raise InputError(path, "circuit", "is missing: the script has no 'new circuit'")
            return _read(engine, str(path))
    except DSSException as failure:
        raise InputError(path, "OpenDSS", f"refuses the script: {_one_line(str(failure), path)}") from None


@contextmanager
def _muted(engine: Any) -> Iterator[None]:
    """Drop what a script would print (`help`, say), which would stand amid a document on standard output."""
    api = engine._api_util
    silence = api.ffi.callback("int32_t(void*, char*, int32_t, int64_t, int32_t)", lambda *_: 0)
    api.lib.DSS_RegisterMessageCallback(silence)
    try:
        yield
    finally:
        api.lib.DSS_RegisterMessageCallback(api.ffi.NULL)


def _one_line(message: str, path: Path) -> str:
    """OpenDSS's words on one line, files named relative to the script's folder."""
    return " ".join(message.replace(f"{path.resolve().parent}/", "").split())


def _read(engine: Any, source: str) -> Script:
    circuit = engine.ActiveCircuit
    solution = circuit.Solution
    if int(solution.Mode) != 0:
        raise InputError(source, "mode", "is not snapshot; leave out 'set mode', or end with 'set mode=snapshot'")
    if int(solution.Year) != 0:
        raise InputError(source, "year", f"is {int(solution.Year)}; growth of loads is not read, set year=0")
    solution.MaxIterations = max(int(solution.MaxIterations), ITERATIONS)
    solution.MaxControlIterations = max(int(solution.MaxControlIterations), ITERATIONS)
    solution.Solve()
    if not solution.Converged:
        raise InputError(source, "OpenDSS", "finds no power flow for the script; its loads may be too large")
    tables: dict[str, list[Row]] = {}
    for kind in (*READ, *CONTROLS):
        circuit.SetActiveClass(kind)
        unset = kind in ("Capacitor", "Reactor")
        tables[kind] = _table(circuit.ActiveClass, stated=unset or kind == "Line", blank=unset)
    return Script(
        source=source,
        name=str(circuit.Name),
        frequency_hz=float(solution.Frequency),
        load_factor=float(solution.LoadMult),
        generator_factor=float(solution.GenMult),
        v_min=float(circuit.Settings.NormVminpu),
        v_max=float(circuit.Settings.NormVmaxpu),
        tables=tables,
        base_kv=_base_kv(circuit),
        open_ends=_open_ends(circuit, source),
        output_kva=_outputs(circuit, tables),
        standing=_standing(circuit),
        coordinates=_coordinates(circuit),
        rated_codes=_rated_codes(circuit),
    )


def _rated_codes(circuit: Any) -> frozenset[str]:
    circuit.SetActiveClass("LineCode")
    if int(circuit.ActiveClass.Count) == 0:
        return frozenset()
    rows: list[Row] = json.loads(circuit.ActiveClass.ToJSON(0))
    return frozenset(str(row["Name"]).lower() for row in rows if "NormAmps" in row or "Ratings" in row)


def _table(kind: Any, *, stated: bool, blank: bool) -> list[Row]:
    """Enabled rows of the active class with all properties.

    Key `GIVEN` lists those the script set, where that is `stated`; `blank` leaves matrices out.
    """
    if int(kind.Count) == 0:
        return []
    text = str(kind.ToJSON(FULL))
    # Matrices of capacitors and reactors that were never set are printed as whatever lies in memory, even not numbers.
    rows: list[Row] = json.loads(_MATRIX.sub(r'"\1":null', text) if blank else text)
    if stated:
        for row, given in zip(rows, json.loads(kind.ToJSON(0)), strict=True):
            row[GIVEN] = tuple(given)
    return [row for row in rows if row["Enabled"]]


def _base_kv(circuit: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in circuit.AllBusNames:
        circuit.SetActiveBus(name)
        found[str(name).lower()] = float(circuit.ActiveBus.kVBase)
    return found


def _coordinates(circuit: Any) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for name in circuit.AllBusNames:
        circuit.SetActiveBus(name)
        bus = circuit.ActiveBus
        if bus.Coorddefined:
            found[str(name).lower()] = float(bus.x), float(bus.y)
    return found


def _open_ends(circuit: Any, source: str) -> dict[str, tuple[int, ...]]:
    """Open conductor ends of enabled elements; refuses classes that carry current and are not read."""
    known = {kind.lower() for kind in READ}
    found: dict[str, tuple[int, ...]] = {}
    element = circuit.ActiveCktElement
    for name in circuit.AllElementNames:
        kind = str(name).partition(".")[0].lower()
        if kind in WITHOUT_CURRENT:
            continue
        circuit.SetActiveElement(name)
        if not element.Enabled:
            continue
        if kind not in known:
            raise InputError(source, str(name), f"has no model here; known are {', '.join(READ)}")
        conductors = int(element.NumConductors)
        ends = [
            terminal * conductors + conductor
            for terminal in range(int(element.NumTerminals))
            for conductor in range(conductors)
            if element.IsOpen(terminal + 1, conductor + 1)
        ]
        if ends:
            found[str(name).lower()] = tuple(ends)
    return found


def _standing(circuit: Any) -> tuple[str, ...]:
    names = [str(name).lower() for name in circuit.AllElementNames]
    return tuple(name for name in names if name.partition(".")[0] in STANDING)


def _outputs(circuit: Any, tables: dict[str, list[Row]]) -> dict[str, complex]:
    found: dict[str, complex] = {}
    if tables["PVSystem"] or tables["Storage"]:
        # Their output is a result of the solution, so it is as exact as that.
        solution = circuit.Solution
        solution.ControlMode, solution.Tolerance = -1, 1e-10
        solution.Solve()
    for kind in ("PVSystem", "Storage"):
        for row in tables[kind]:
            name = f"{kind}.{row['Name']}".lower()
            circuit.SetActiveElement(name)
            power = circuit.ActiveCktElement.TotalPowers
            found[name] = -complex(float(power[0]), float(power[1]))
    return found
