"""An OpenDSS script as element tables (extra ``plant``).

OpenDSS is the only complete reader of its own language. It parses here, and its controls find the positions of taps
and capacitors; impedances, ratings, loads are read from its tables as numbers. Nothing of its admittance matrix or of
its solution is used: `tellegen.grid` builds and solves its own. A script may come from anybody: OpenDSS is told what
`tellegen.foreign.opendss_reader` lets through, in a process that can do nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tellegen.errors import InputError
from tellegen.foreign.confined import Confined, printable
from tellegen.foreign.documents import json_document
from tellegen.foreign.opendss_engine import CONTROLS, READ, REFUSED_AT
from tellegen.foreign.opendss_reader import NO_LIBRARY, OUTSIDE, Reading, read_script

GIVEN = "given"
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
    remarks : what of the script is left out, and what the system lacks to confine OpenDSS.
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
    remarks: tuple[str, ...]


def run_script(path: Path) -> Script:
    """Let OpenDSS compile and solve a script, and read its tables.

    Raises
    ------
    InputError : dss-python is missing, a file cannot be read, a word is not allowed, OpenDSS refuses the script,
        crashes on it, comes to a limit or finds no solution, or it holds an element that has no model here.
    """
    if not path.is_file():
        raise InputError(path, "file", "cannot be read (No such file or directory)")
    if find_spec("dss") is None:
        raise InputError(path, "package dss-python", "is needed: pip install 'tellegen[plant]'")
    # It gets ready while the script is read.
    with Confined("tellegen.foreign.opendss_engine:answer_scripts", str(path), "OpenDSS") as engine:
        reading = read_script(path)
        text = "\n".join(command.text for command in reading.commands)
        try:
            answer = engine.ask(text.encode())
        except InputError as refusal:
            raise _placed(refusal, reading) from None
        missing = engine.barriers.missing
    remarks = []
    if reading.left_out:
        remarks.append(f"left out, for nothing but the network is read: {', '.join(sorted(reading.left_out))}")
    if missing:
        remarks.append(f"OpenDSS ran without {missing}, which this system does not offer; see docs/security.md")
    return _script(str(path), answer, reading, tuple(remarks))


def _placed(refusal: InputError, reading: Reading) -> InputError:
    """A refusal of a command, at the command's file and line."""
    head, _, number = refusal.place.partition(" ")
    if f"{head} " != REFUSED_AT or not number.isdecimal() or int(number) >= len(reading.commands):
        return refusal
    place = reading.commands[int(number)].place
    if place.startswith(OUTSIDE):
        return InputError(refusal.source, "redirect", NO_LIBRARY)
    return InputError(refusal.source, place, f"is refused by OpenDSS: {refusal.problem}")


def _script(source: str, answer: bytes, reading: Reading, remarks: tuple[str, ...]) -> Script:
    """Tables from the answer, which is as foreign as the script: it must have the form that is expected."""
    try:
        said = json_document(answer.decode(), source, "OpenDSS")
        tables = {}
        for kind in (*READ, *CONTROLS):
            table = said["tables"][kind]
            tables[kind] = rows(table["all"], table["given"])
        base_kv = {str(bus): float(kv) for bus, kv in said["base_kv"].items()}
        return Script(
            source=source,
            name=printable(str(said["name"]), 100),
            frequency_hz=float(said["frequency_hz"]),
            load_factor=float(said["load_factor"]),
            generator_factor=float(said["generator_factor"]),
            v_min=float(said["v_min"]),
            v_max=float(said["v_max"]),
            tables=tables,
            base_kv=base_kv,
            open_ends={str(name): tuple(int(k) for k in ends) for name, ends in said["open_ends"].items()},
            output_kva={str(name): complex(float(p), float(q)) for name, (p, q) in said["outputs"].items()},
            standing=tuple(str(name) for name in said["standing"]),
            coordinates={bus: at for bus, at in reading.coordinates.items() if bus in base_kv},
            rated_codes=frozenset(
                str(row["Name"]).lower() for row in said["codes"] if "NormAmps" in row or "Ratings" in row
            ),
            remarks=remarks,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise InputError(source, "OpenDSS", f"answers what is no table ({printable(str(failure), 80)})") from None


def rows(table: list[Row], given: list[Row] | None) -> list[Row]:
    """Enabled rows; key `GIVEN` lists the properties that the script set, where they are known."""
    if given is not None:
        for row, own in zip(table, given, strict=True):
            row[GIVEN] = tuple(own)
    return [row for row in table if row["Enabled"]]
