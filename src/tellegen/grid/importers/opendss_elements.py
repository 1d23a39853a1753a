"""OpenDSS's element tables to primitive admittances with ratings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.controls import SwitchedCapacitor, TapTransformer
from tellegen.grid.importers.opendss_script import GIVEN, Row, Script
from tellegen.grid.network import LimitKind
from tellegen.grid.primitives import (
    GROUND,
    Primitive,
    Winding,
    line,
    opened,
    sequence_matrix,
    series_branch,
    star_or_delta,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]


@dataclass(slots=True)
class Nodes:
    """Numbers for nodes ``(bus, phase)`` in the order in which elements name them."""

    script: Script
    index: dict[tuple[str, int], int] = field(default_factory=dict)

    def at(self, bus: str, place: str) -> str:
        """Name of the bus in a connection such as ``"671.1.2.3"``; refuses a bus without a nominal voltage."""
        name = bus.partition(".")[0].lower()
        if not self.script.base_kv.get(name, 0.0) > 0:
            raise InputError(
                self.script.source,
                f"bus {name}",
                f"of {place} has no nominal voltage; let the script 'set voltagebases=[...]' and 'calcvoltagebases'",
            )
        return name

    def ends(self, bus: str, phases: int, conductors: int, place: str) -> list[int]:
        """Node indices of the conductors of one terminal; those not named are 1, 2, ... and then ground."""
        name = self.at(bus, place)
        given = [int(word) for word in bus.split(".")[1:]]
        numbers = given[:conductors] + [k + 1 if k < phases else 0 for k in range(len(given), conductors)]
        return [GROUND if k == 0 else self.index.setdefault((name, k), len(self.index)) for k in numbers]


@dataclass(frozen=True, slots=True)
class Element:
    """A primitive with what is measured at its ends.

    `rating` is in amperes (`LimitKind.CURRENT`) or kVA (APPARENT_POWER) per end, ``inf`` for none; `metered` says
    whether its ends appear among the branches of the network. `model` is what a control may move, with its branch rows
    still unknown.
    """

    primitive: Primitive
    rating: FloatArray
    kind: IntArray
    metered: bool
    model: TapTransformer | SwitchedCapacitor | None = None


def elements(script: Script, nodes: Nodes) -> Iterator[Element]:
    """All lines, transformers, capacitors and reactors of a script."""
    for row in script.tables["Line"]:
        yield _line(script, nodes, row)
    for row in script.tables["Transformer"]:
        yield _transformer(script, nodes, row)
    for row in script.tables["Capacitor"]:
        yield _capacitor(script, nodes, row)
    for row in script.tables["Reactor"]:
        yield _reactor(script, nodes, row)


def _place(script: Script, kind: str, row: Row) -> str:
    """The element's name, after a check that its table is for the circuit's frequency."""
    name = f"{kind}.{row['Name']}".lower()
    if abs(float(row["BaseFreq"]) - script.frequency_hz) > 1e-9:
        raise InputError(
            script.source,
            name,
            f"has basefreq {row['BaseFreq']:g}, the circuit {script.frequency_hz:g} Hz; set defaultbasefrequency",
        )
    return name


def _finish(
    script: Script,
    name: str,
    ends: list[int],
    admittance: ComplexArray,
    *,
    rating: FloatArray | None = None,
    kind: IntArray | None = None,
) -> Element:
    return Element(
        primitive=_checked(script, name, ends, opened(admittance, _open(script, name, len(ends)))),
        rating=np.full(len(ends), np.inf) if rating is None else rating,
        kind=np.full(len(ends), int(LimitKind.CURRENT)) if kind is None else kind,
        metered=rating is not None,
    )


def _open(script: Script, name: str, ends: int) -> NDArray[np.bool_]:
    """Which conductor ends are switched open."""
    gone = np.zeros(ends, dtype=np.bool_)
    gone[[k for k in script.open_ends.get(name, ()) if k < ends]] = True
    return gone


def _checked(script: Script, name: str, ends: list[int], admittance: ComplexArray) -> Primitive:
    if not np.isfinite(admittance).all():
        raise InputError(script.source, name, "has no finite admittance; check its impedance and ratings")
    return Primitive(name, np.array(ends, dtype=np.int64), admittance)


ASSUMED_AMPERES = 400.0


def _inverse_fails(script: Script, name: str) -> InputError:
    return InputError(script.source, name, "has a singular impedance matrix; give it an impedance above zero")


def _line(script: Script, nodes: Nodes, row: Row) -> Element:
    name, phases = _place(script, "line", row), int(row["Phases"])
    length = float(row["Length"])
    impedance = (np.array(row["RMatrix"]) + 1j * np.array(row["XMatrix"])) * length
    ends = nodes.ends(row["Bus1"], phases, phases, name) + nodes.ends(row["Bus2"], phases, phases, name)
    try:
        admittance = line(impedance, np.array(row["CMatrix"]) * length, script.frequency_hz)
    except np.linalg.LinAlgError:
        raise _inverse_fails(script, name) from None
    rating = np.full(2 * phases, _line_amperes(script, row))
    return _finish(script, name, ends, admittance, rating=rating)


def _line_amperes(script: Script, row: Row) -> float:
    """What a line may carry; ``inf`` where the script does not say. OpenDSS then assumes 400 A, whatever the line."""
    amperes, code = float(row["NormAmps"]), str(row.get("LineCode") or "").lower()
    # A line takes the ampacity of its code along as if it were its own.
    own = "NormAmps" in row[GIVEN] and (not code or amperes != ASSUMED_AMPERES)
    stated = own or code in script.rated_codes or bool(row.get("Geometry") or row.get("Spacing"))
    return amperes if stated and amperes > 0 else np.inf


def _transformer(script: Script, nodes: Nodes, row: Row) -> Element:
    name, phases = _place(script, "transformer", row), int(row["Phases"])
    windings = tuple(
        Winding(
            delta=str(connection).lower().startswith(("d", "ll")),
            kv=float(kv),
            kva=float(kva),
            tap=float(tap),
            r_percent=float(r),
            neutral_ohm=None if rn < 0 else complex(rn, xn),
        )
        for connection, kv, kva, tap, r, rn, xn in zip(
            row["Conn"], row["kV"], row["kVA"], row["Tap"], row["pctR"], row["RNeut"], row["XNeut"], strict=True
        )
    )
    if any(not (w.kv > 0 and w.kva > 0 and w.tap > 0) for w in windings):
        raise InputError(script.source, name, "needs a positive kV, kVA and tap for every winding")
    if len(windings) < 2:
        raise InputError(script.source, name, "has one winding; two or more are read")
    ends: list[int] = []
    rating, kind = [], []
    for bus, winding in zip(row["Bus"], windings, strict=True):
        # A delta of three phases has a fourth conductor that is connected to nothing, whatever node it names.
        unused = winding.delta and phases >= 3
        terminal = nodes.ends(bus, phases, phases if unused else phases + 1, name) + [GROUND] * unused
        ends += terminal
        per_phase = winding.kva / phases
        to_ground = not winding.delta and (terminal[phases] == GROUND or GROUND in terminal)
        if to_ground:
            rating += [per_phase] * (phases + 1)
            kind += [int(LimitKind.APPARENT_POWER)] * (phases + 1)
        else:
            amperes = per_phase * 1000.0 / winding.rated_volt(phases)
            around = np.sqrt(3.0) if winding.delta and phases == 3 else 1.0
            rating += [amperes * around] * (phases + 1)
            kind += [int(LimitKind.CURRENT)] * (phases + 1)
    model = TapTransformer(
        name=name,
        node=np.array(ends, dtype=np.int64),
        row=np.full(len(ends), -1, dtype=np.int64),
        phases=phases,
        windings=windings,
        x_percent=np.array(row["XSCArray"], dtype=np.float64),
        no_load_percent=float(row["pctNoLoadLoss"]),
        magnetising_percent=float(row["pctIMag"]),
        float_ppm=float(row["ppm_Antifloat"]),
        low_voltage_leads=str(row["LeadLag"]).lower() in ("lead", "euro"),
        tap_min=np.array(row["MinTap"], dtype=np.float64),
        tap_max=np.array(row["MaxTap"], dtype=np.float64),
        steps=np.array(row["NumTaps"], dtype=np.int64),
        open_end=_open(script, name, len(ends)),
    )
    try:
        admittance = model.admittance()
    except np.linalg.LinAlgError:
        raise _inverse_fails(script, name) from None
    return Element(
        primitive=_checked(script, name, ends, admittance),
        rating=np.array(rating),
        kind=np.array(kind, dtype=np.int64),
        metered=True,
        model=model,
    )


def _shunt_ends(nodes: Nodes, row: Row, name: str, phases: int, delta: bool) -> list[int]:
    if delta:
        return nodes.ends(row["Bus1"], phases, phases if phases > 2 else phases + 1, name)
    return nodes.ends(row["Bus1"], phases, phases, name) + nodes.ends(row["Bus2"], phases, phases, name)


def _capacitor(script: Script, nodes: Nodes, row: Row) -> Element:
    name, phases = _place(script, "capacitor", row), int(row["Phases"])
    if "CMatrix" in row[GIVEN]:
        raise InputError(script.source, name, "is given by a cmatrix; give kvar and kv, or cuf")
    delta = str(row["Conn"]).lower().startswith(("d", "ll"))
    omega = 2 * np.pi * script.frequency_hz
    steps = [
        1 / complex(float(r), float(x) - 1e6 / (omega * float(microfarad))) if microfarad > 0 else 0j
        for microfarad, r, x in zip(row["Cuf"], row["R"], row["XL"], strict=True)
    ]
    ends = _shunt_ends(nodes, row, name, phases, delta)
    gone = _open(script, name, len(ends))
    # A control opens all conductors of the first terminal as well as the steps.
    whole = gone[: len(ends) if delta else phases].all()
    model = SwitchedCapacitor(
        name=name,
        node=np.array(ends, dtype=np.int64),
        phases=phases,
        delta=delta,
        step_siemens=np.array(steps, dtype=np.complex128),
        on=np.array(row["States"], dtype=np.bool_) & (not whole),
    )
    admittance = model.admittance() if whole else opened(model.admittance(), gone)
    return Element(
        primitive=_checked(script, name, ends, admittance),
        rating=np.full(len(ends), np.inf),
        kind=np.full(len(ends), int(LimitKind.CURRENT)),
        metered=False,
        model=model if whole or not gone.any() else None,
    )


def _reactor(script: Script, nodes: Nodes, row: Row) -> Element:
    name, phases = _place(script, "reactor", row), int(row["Phases"])
    delta = str(row["Conn"]).lower().startswith(("d", "ll"))
    if row["Parallel"] or {"RMatrix", "XMatrix", "Z0", "Z1", "Z2", "RCurve", "LCurve"} & set(row[GIVEN]):
        raise InputError(
            script.source, name, "is given by matrices, sequences, curves or in parallel; give r and x, or kvar and kv"
        )
    impedance = complex(float(row["R"]), float(row["X"]))
    if impedance == 0:
        raise InputError(script.source, name, "has zero impedance; give r or x, or join its buses")
    admittance = 1 / impedance + (1 / float(row["Rp"]) if row["Rp"] else 0.0)
    ends = _shunt_ends(nodes, row, name, phases, delta)
    value = np.full(phases, admittance, dtype=np.complex128)
    matrix = star_or_delta(value, delta, len(ends) if delta else phases)
    amperes = float(row["NormAmps"]) if "NormAmps" in row[GIVEN] else 0.0
    series = not delta and all(k != GROUND for k in ends[phases:])
    rating = np.full(len(ends), amperes if amperes > 0 else np.inf) if series else None
    return _finish(script, name, ends, matrix, rating=rating)


@dataclass(frozen=True, slots=True)
class Source:
    """A voltage source: a branch from ideal nodes of its own to its bus, and their voltages in volts."""

    element: Element
    bus: str
    ideal: tuple[int, ...]
    voltage: ComplexArray


def sources(script: Script, nodes: Nodes) -> list[Source]:
    """The voltage sources, each as an impedance behind ideal nodes called by the source's name."""
    found = []
    for row in script.tables["Vsource"]:
        name, phases = _place(script, "vsource", row), int(row["Phases"])
        if str(row["Model"]).lower() != "thevenin" or str(row["Sequence"]).lower()[:3] != "pos":
            raise InputError(script.source, name, "must be a thevenin source of positive sequence")
        if float(row["Frequency"]) != script.frequency_hz:
            raise InputError(script.source, name, f"has {row['Frequency']:g} Hz, the circuit {script.frequency_hz:g}")
        if any(k != GROUND for k in nodes.ends(row["Bus2"], 0, phases, name)):
            raise InputError(script.source, name, "must be connected to ground at bus2")
        positive, zero = complex(row["R1"], row["X1"]), complex(row["R0"], row["X0"])
        if row["Z2"] and abs(complex(*row["Z2"]) - positive) > 1e-12 * abs(positive):
            raise InputError(script.source, name, "has a negative-sequence impedance of its own; leave z2 out")
        ends = nodes.ends(row["Bus1"], phases, phases, name)
        ideal = tuple(nodes.index.setdefault((name, k + 1), len(nodes.index)) for k in range(phases))
        impedance = sequence_matrix(positive, zero, phases)
        try:
            admittance = series_branch(impedance, np.zeros_like(impedance))
        except np.linalg.LinAlgError:
            raise _inverse_fails(script, name) from None
        across = 2 * np.sin(np.pi / phases) if phases > 1 else 1.0
        size = float(row["BasekV"]) * 1000.0 * float(row["pu"]) / across
        turn = np.radians(float(row["Angle"]) - 360.0 / phases * np.arange(phases))
        found.append(
            Source(
                element=_finish(script, name, [*ideal, *ends], admittance, rating=np.full(2 * phases, np.inf)),
                bus=nodes.at(row["Bus1"], name),
                ideal=ideal,
                voltage=size * np.exp(1j * turn),
            )
        )
    return found
