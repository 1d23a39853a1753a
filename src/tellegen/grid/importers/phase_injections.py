"""What a pandapower network connects to single phases: loads, generators and the root's short-circuit impedance.

A node of the draft is ``3 b + k``, phase k + 1 of bus b. A ``wye`` load draws from each phase to earth; phases a, b,
c of a ``delta`` load lie between a-b, b-c, c-a. A load of the balanced tables draws a third on each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.elements import ComplexArray, FloatArray, IntArray
from tellegen.grid.importers.draft import listed
from tellegen.grid.importers.injections import KW_PER_MW, generators, loads
from tellegen.grid.importers.sequences import PHASES
from tellegen.grid.importers.tables import Frame, Tables
from tellegen.grid.loads import GROUND
from tellegen.grid.network import FixedLoads, Generators

UNBALANCED_KINDS = ("asymmetric_load", "asymmetric_sgen")
SHORT_CIRCUIT_FACTOR = 1.1
"""Voltage factor c that pandapower's unbalanced power flow puts on ``s_sc_max_mva`` (IEC 60909, table 1)."""
_NEXT = np.array([1, 2, 0])


def _delta(frame: Frame) -> list[bool]:
    """Whether each row is connected between phases."""
    out = []
    for row, text in enumerate(frame.texts("type")):
        kind = text.strip().lower()
        if frame.name.endswith("load") and kind not in ("", "wye", "delta"):
            raise InputError(frame.source, f"{frame.label(row)}, type", f"is {text!r}; it must be wye or delta")
        out.append(kind == "delta")
    return out


def _phase_powers(frame: Frame) -> tuple[FloatArray, FloatArray]:
    """kW and kvar of phases a, b, c: float64[rows, 3]."""
    scale = frame.numbers("scaling", 1.0)[:, None] * KW_PER_MW
    p = np.stack([frame.numbers(f"p_{phase}_mw", 0.0) for phase in "abc"], axis=1)
    q = np.stack([frame.numbers(f"q_{phase}_mvar", 0.0) for phase in "abc"], axis=1)
    return p * scale, q * scale


def _spread(
    names: list[str], at: IntArray, p_kw: FloatArray, q_kvar: FloatArray, delta: list[bool]
) -> tuple[list[str], IntArray, IntArray, FloatArray, FloatArray]:
    """Rows per phase that draws anything: names, nodes, other ends, kW, kvar."""
    used = (p_kw != 0) | (q_kvar != 0)
    row, phase = np.nonzero(used)
    node = PHASES * at[row] + phase
    between = np.array(delta, dtype=np.bool_)[row] if row.size else np.zeros(0, dtype=np.bool_)
    other = np.where(between, PHASES * at[row] + _NEXT[phase], GROUND)
    return [names[k] for k in row.tolist()], node, other.astype(np.int64), p_kw[used], q_kvar[used]


def phase_loads(tables: Tables, bus: Frame, warnings: list[str]) -> FixedLoads:
    """All loads and storage units, and static generators connected in delta (as negative loads)."""
    plain = loads(tables, bus, warnings)
    balanced = _live(tables, "load")
    shape = dict(zip(balanced.labels(), _delta(balanced), strict=True))
    third = np.full((len(plain.name), PHASES), 1.0 / PHASES)
    parts = [
        _spread(
            list(plain.name),
            plain.node,
            plain.p_kw[:, None] * third,
            plain.q_kvar[:, None] * third,
            [shape.get(name, False) for name in plain.name],
        )
    ]
    frame = _live(tables, "asymmetric_load")
    parts.append(_spread(list(frame.labels()), frame.references("bus", bus), *_phase_powers(frame), _delta(frame)))
    for kind in ("sgen", "asymmetric_sgen"):
        frame = _live(tables, kind)
        frame = frame.take(np.array(_delta(frame), dtype=np.bool_))
        if not len(frame):
            continue
        if kind == "sgen":
            scale = frame.numbers("scaling", 1.0) * KW_PER_MW / PHASES
            p = np.repeat((frame.numbers("p_mw") * scale)[:, None], PHASES, axis=1)
            q = np.repeat((frame.numbers("q_mvar", 0.0) * scale)[:, None], PHASES, axis=1)
        else:
            p, q = _phase_powers(frame)
        warnings.append(f"generators between phases are taken as negative loads: {listed(list(frame.labels()))}")
        parts.append(_spread(list(frame.labels()), frame.references("bus", bus), -p, -q, [True] * len(frame)))
    names, node, other, p_kw, q_kvar = zip(*parts, strict=True)
    ends = np.concatenate(other)
    return FixedLoads(
        name=tuple(name for part in names for name in part),
        node=np.concatenate(node).astype(np.int64),
        p_kw=np.concatenate(p_kw),
        q_kvar=np.concatenate(q_kvar),
        other=ends if (ends != GROUND).any() else None,
    )


def _live(tables: Tables, kind: str) -> Frame:
    frame = tables.frame(kind)
    return frame.take(frame.flags("in_service", True))


def phase_generators(tables: Tables, bus: Frame, warnings: list[str]) -> Generators:
    """Generators to earth, a row per phase that shares its name; a cost holds for each phase on its own."""
    units = generators(tables, bus, warnings)
    static = _live(tables, "sgen")
    delta = {name for name, between in zip(static.labels(), _delta(static), strict=True) if between}
    star = np.array([name not in delta for name in units.name], dtype=np.bool_)
    dispatched = [name for name, cost in zip(units.name, units.has_cost, strict=True) if cost]
    if dispatched:
        lost = [name for name in dispatched if name in delta]
        if lost:
            warnings.append(f"costs of generators between phases are not read: {listed(lost)}")
        warnings.append(
            f"each phase of a generator with a cost is dispatched on its own: "
            f"{listed([name for name in dispatched if name not in delta])}"
        )
    rows = np.repeat(np.flatnonzero(star), PHASES)
    phase = np.tile(np.arange(PHASES), int(star.sum()))
    third = {c: getattr(units, c)[rows] / PHASES for c in _POWERS}
    frame = _live(tables, "asymmetric_sgen")
    frame = frame.take(~np.array(_delta(frame), dtype=np.bool_))
    names, node, _, p_kw, q_kvar = _spread(
        list(frame.labels()), frame.references("bus", bus), *_phase_powers(frame), [False] * len(frame)
    )
    none = np.zeros(len(names))
    own = dict(zip(_POWERS, (p_kw, q_kvar, p_kw, p_kw, q_kvar, q_kvar), strict=True))
    return Generators(
        name=(*(units.name[k] for k in rows), *names),
        node=np.concatenate([PHASES * units.node[rows] + phase, node]).astype(np.int64),
        **{column: np.concatenate([third[column], own[column]]) for column in _POWERS},
        has_cost=np.concatenate([units.has_cost[rows], none > 0]),
        cost_linear=np.concatenate([units.cost_linear[rows], none]),
        cost_quadratic=np.concatenate([PHASES * units.cost_quadratic[rows], none]),
    )


_POWERS = ("p_kw", "q_kvar", "p_min_kw", "p_max_kw", "q_min_kvar", "q_max_kvar")


def summed_over_phases(
    tables: Tables, bus: Frame, fixed: FixedLoads, units: Generators, warnings: list[str]
) -> tuple[FixedLoads, Generators]:
    """Balanced loads and generators with the totals of what stands on single phases."""
    for kind in UNBALANCED_KINDS:
        frame = _live(tables, kind)
        if not len(frame):
            continue
        warnings.append(f"taken as balanced: {listed(list(frame.labels()))}")
        p_kw, q_kvar = (power.sum(axis=1) for power in _phase_powers(frame))
        sign = 1.0 if kind == "asymmetric_load" else -1.0
        fixed = replace(
            fixed,
            name=fixed.name + frame.labels(),
            node=np.concatenate([fixed.node, frame.references("bus", bus)]),
            p_kw=np.concatenate([fixed.p_kw, sign * p_kw]),
            q_kvar=np.concatenate([fixed.q_kvar, sign * q_kvar]),
        )
    return fixed, units


def root_admittances(tables: Tables, warnings: list[str]) -> tuple[ComplexArray, ComplexArray, tuple[str, ...]]:
    """Negative- and zero-sequence admittance of each root (per unit of the file's base), and their names.

    ``inf`` where the file has no short-circuit data: that root holds its bus in every sequence.
    """
    grid = _live(tables, "ext_grid")
    unit = tables.frame("gen")
    unit = unit.take(unit.flags("in_service", True) & unit.flags("slack", False))
    power = grid.numbers("s_sc_max_mva", np.nan)
    rx, x0x = grid.numbers("rx_max", np.nan), grid.numbers("x0x_max", np.nan)
    r0x0 = grid.numbers("r0x0_max", np.nan)
    known = (power > 0) & np.isfinite(rx) & np.isfinite(x0x) & np.isfinite(r0x0) & (x0x > 0)
    bare = [name for name, ok in zip(grid.labels(), known, strict=True) if not ok] + list(unit.labels())
    if bare:
        warnings.append(f"without s_sc_max_mva, rx_max, x0x_max, r0x0_max all sequences are held: {listed(bare)}")
    x = SHORT_CIRCUIT_FACTOR * tables.sn_mva / np.where(known, power, 1.0) / np.sqrt(np.where(known, rx, 0.0) ** 2 + 1)
    x0 = np.where(known, x0x, 1.0) * x
    negative = 1 / (x * (np.where(known, rx, 0.0) + 1j))
    zero = 1 / (x0 * (np.where(known, r0x0, 0.0) + 1j))
    held = np.full(len(unit), np.inf, dtype=np.complex128)
    return (
        np.concatenate([np.where(known, negative, np.inf), held]),
        np.concatenate([np.where(known, zero, np.inf), held]),
        grid.labels() + unit.labels(),
    )
