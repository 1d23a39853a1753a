"""OpenDSS's loads, generators and converters as connections with laws of voltage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.importers.draft import listed
from tellegen.grid.importers.opendss_elements import Nodes
from tellegen.grid.importers.opendss_script import Row, Script
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import FixedLoads
from tellegen.grid.primitives import GROUND

Band = tuple[float, float, float]
NO_BAND: Band = (0.0, 0.0, np.inf)


@dataclass(slots=True)
class _Columns:
    """Rows of the table under construction; one per phase and part of a load."""

    name: list[str] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    other: list[int] = field(default_factory=list)
    volt: list[float] = field(default_factory=list)
    numbers: list[tuple[float, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Part:
    """Share of a load's P and Q that follows one law."""

    p_share: float
    q_share: float
    p_exponent: float
    q_exponent: float
    edge_exponent: float
    band: Band


def loads(script: Script, nodes: Nodes, warnings: list[str]) -> tuple[FixedLoads, list[float]]:
    """Loads, and generators as negative ones; with each row's rated voltage in volts.

    The rated voltages become per unit once the nodes have their bases; see `LoadLaw.rated_pu`.
    """
    columns = _Columns()
    for row in script.tables["Load"]:
        _load(script, nodes, row, columns)
    for row in script.tables["Generator"]:
        _generator(script, nodes, row, columns)
    converters = [(kind, row) for kind in ("PVSystem", "Storage") for row in script.tables[kind]]
    for kind, row in converters:
        name = f"{kind}.{row['Name']}".lower()
        power = -script.output_kva[name]
        _add(script, nodes, row, columns, name, power, (_Part(1, 1, 0, 0, 0, NO_BAND),), float(row["kV"]))
    if converters:
        names = listed([f"{kind}.{row['Name']}".lower() for kind, row in converters])
        warnings.append(f"taken as constant power at what OpenDSS finds they inject: {names}")
    numbers = np.array(columns.numbers, dtype=np.float64).reshape(-1, 8)
    count = len(columns.name)
    table = FixedLoads(
        name=tuple(columns.name),
        node=np.array(columns.node, dtype=np.int64),
        p_kw=numbers[:, 0],
        q_kvar=numbers[:, 1],
        other=np.array(columns.other, dtype=np.int64),
        law=LoadLaw(np.ones(count), *(numbers[:, k] for k in range(2, 8))),
    )
    return table, columns.volt


def _add(
    script: Script,
    nodes: Nodes,
    row: Row,
    columns: _Columns,
    name: str,
    power_kva: complex,
    parts: tuple[_Part, ...],
    kv: float,
) -> None:
    """Add an element's phases: a star lies from each phase to the neutral, a delta from phase to phase."""
    phases = int(row["Phases"])
    delta = str(row.get("Conn", "wye")).lower().startswith(("d", "ll"))
    conductors = phases + 1 if not delta or phases < 3 else phases
    ends = nodes.ends(row["Bus1"], phases, conductors, name)
    if script.open_ends.get(name):
        raise InputError(script.source, name, "has an open conductor; disable it instead")
    volt = kv * 1000.0 / (np.sqrt(3.0) if not delta and phases in (2, 3) else 1.0)
    if not volt > 0:
        raise InputError(script.source, name, "needs a positive kV")
    for phase in range(phases):
        a, b = ends[phase], ends[(phase + 1) % conductors if delta else phases]
        if a == GROUND and b != GROUND:
            a, b = b, a
        if a == b:
            raise InputError(script.source, name, "has both ends of a phase at one node")
        for part in parts:
            columns.name.append(name)
            columns.node.append(a)
            columns.other.append(b)
            columns.volt.append(volt)
            columns.numbers.append(
                (
                    power_kva.real * part.p_share / phases,
                    power_kva.imag * part.q_share / phases,
                    part.p_exponent,
                    part.q_exponent,
                    part.edge_exponent,
                    *part.band,
                )
            )


def _load(script: Script, nodes: Nodes, row: Row, columns: _Columns) -> None:
    name, model = f"load.{row['Name']}".lower(), int(row["Model"])
    band = (float(row["VLowpu"]), float(row["VMinpu"]), float(row["VMaxpu"]))
    fixed = str(row["Status"]).lower() in ("fixed", "exempt")
    power = complex(float(row["kW"]), float(row["kvar"])) * (1.0 if fixed else script.load_factor)
    if float(row["RNeut"]) >= 0:
        raise InputError(script.source, name, "has a neutral impedance; model it as a reactor at a fourth node")
    if model == 1:
        parts: tuple[_Part, ...] = (_Part(1, 1, 0, 0, 0, band),)
    elif model == 2:
        parts = (_Part(1, 1, 2, 2, 2, NO_BAND),)
    elif model == 3:
        parts = (_Part(1, 1, 0, 2, 0, band),)
    elif model == 4:
        parts = (_Part(1, 1, float(row["CVRWatts"]), float(row["CVRVars"]), 0, band),)
    elif model == 5:
        parts = (_Part(1, 1, 1, 1, 1, band),)
    elif model == 8:
        parts = _zip_parts(script, row, name, band)
    else:
        raise InputError(script.source, name, f"has model {model}; models 1, 2, 3, 4, 5 and 8 are read")
    _add(script, nodes, row, columns, name, power, parts, float(row["kV"]))


def _zip_parts(script: Script, row: Row, name: str, band: Band) -> tuple[_Part, ...]:
    shares = [float(value) for value in row["ZIPV"]]
    if len(shares) != 7:
        raise InputError(script.source, name, "has model 8 without its seven zipv values")
    if shares[6] > 0 and shares[6] > band[0]:
        raise InputError(
            script.source, name, f"drops out below {shares[6]:g} pu; that is not read, set the last zipv to 0"
        )
    z, i, p = ((shares[k], shares[k + 3]) for k in range(3))
    # At and below vlow all three parts are the same impedance, so constant impedance needs the band for nothing.
    parts = (
        _Part(z[0], z[1], 2, 2, 2, NO_BAND),
        _Part(i[0], i[1], 1, 1, 1, band),
        _Part(p[0], p[1], 0, 0, 0, band),
    )
    return tuple(part for part in parts if part.p_share or part.q_share)


def _generator(script: Script, nodes: Nodes, row: Row, columns: _Columns) -> None:
    name, model = f"generator.{row['Name']}".lower(), int(row["Model"])
    fixed = str(row["Status"]).lower() == "fixed"
    power = -complex(float(row["kW"]), float(row["kvar"])) * (1.0 if fixed else script.generator_factor)
    if model == 1:
        # A generator is an impedance below vminpu that meets constant power at the edge: a ramp from zero.
        parts = (_Part(1, 1, 0, 0, 0, (0.0, float(row["VMinpu"]), float(row["VMaxpu"]))),)
    elif model == 2:
        parts = (_Part(1, 1, 2, 2, 2, NO_BAND),)
    else:
        raise InputError(script.source, name, f"has model {model}; models 1 and 2 (no voltage set-point) are read")
    _add(script, nodes, row, columns, name, power, parts, float(row["kV"]))
