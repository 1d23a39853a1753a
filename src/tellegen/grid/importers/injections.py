"""What a pandapower network connects to its wires: loads, storage, generators, the root and costs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.foreign.documents import json_document
from tellegen.grid.elements import ComplexArray, IntArray
from tellegen.grid.importers.draft import listed
from tellegen.grid.importers.piecewise import Segment, segments, with_segments
from tellegen.grid.importers.tables import Frame, Tables
from tellegen.grid.network import FixedLoads, Generators

KW_PER_MW = 1000.0


def has_kind(tables: Tables, name: str) -> bool:
    """Whether a table has a row in service."""
    return bool(tables.frame(name).flags("in_service", True).any())


def roots(tables: Tables, bus: Frame) -> tuple[IntArray, ComplexArray]:
    """Bus positions and complex voltages (per unit) that external grids and slack generators hold."""
    grid = tables.frame("ext_grid")
    grid = grid.take(grid.flags("in_service", True))
    unit = tables.frame("gen")
    unit = unit.take(unit.flags("in_service", True) & unit.flags("slack", False))
    at = np.concatenate([grid.references("bus", bus), unit.references("bus", bus)])
    angle = np.concatenate([grid.numbers("va_degree", 0.0), np.zeros(len(unit))])
    size = np.concatenate([grid.numbers("vm_pu", 1.0), unit.numbers("vm_pu", 1.0)])
    if (size <= 0).any():
        raise InputError(tables.source, "table ext_grid, vm_pu", "must be positive")
    return at.astype(np.int64), size * np.exp(1j * np.radians(angle))


def loads(tables: Tables, bus: Frame, warnings: list[str]) -> FixedLoads:
    """Loads and storage units as constant power, consumption positive."""
    names: list[str] = []
    at, p_kw, q_kvar = [], [], []
    for kind in ("load", "storage"):
        frame = tables.frame(kind)
        frame = frame.take(frame.flags("in_service", True))
        scale = frame.numbers("scaling", 1.0) * KW_PER_MW
        names += frame.labels()
        at.append(frame.references("bus", bus))
        p_kw.append(frame.numbers("p_mw") * scale)
        q_kvar.append(frame.numbers("q_mvar", 0.0) * scale)
        share = np.zeros(len(frame))
        for column in frame.columns:
            if column.startswith(("const_z", "const_i")):
                share = share + abs(frame.numbers(column, 0.0))
        depends = [frame.label(int(k)) for k in np.nonzero(share)[0]]
        if depends:
            warnings.append(f"taken as constant power, though the file makes them depend on voltage: {listed(depends)}")
    return FixedLoads(
        name=tuple(names),
        node=np.concatenate(at).astype(np.int64),
        p_kw=np.concatenate(p_kw),
        q_kvar=np.concatenate(q_kvar),
    )


def _costs(tables: Tables) -> dict[tuple[str, int], tuple[float, float]]:
    """Linear (currency/MWh) and quadratic (currency/MW^2h) cost by element kind and index."""
    frame = tables.frame("poly_cost")
    linear, square = frame.numbers("cp1_eur_per_mw", 0.0), frame.numbers("cp2_eur_per_mw2", 0.0)
    kinds, numbers = frame.texts("et"), frame.numbers("element")
    out: dict[tuple[str, int], tuple[float, float]] = {}
    for row, kind in enumerate(kinds):
        key = (kind, int(numbers[row]))
        if key in out:
            raise InputError(tables.source, frame.label(row), f"is a second cost of {kind} {key[1]}")
        out[key] = (float(linear[row]), float(square[row]))
    return out


def _stepped_costs(tables: Tables) -> dict[tuple[str, int], list[Segment]]:
    """Segments of the piecewise linear costs by element kind and index; ``points`` are [from MW, to MW, per MWh]."""
    frame = tables.frame("pwl_cost")
    kinds, numbers, points = frame.texts("et"), frame.numbers("element"), frame.columns.get("points", [])
    power = frame.texts("power_type")
    known = _costs(tables)
    out: dict[tuple[str, int], list[Segment]] = {}
    for row, kind in enumerate(kinds):
        key = (kind, int(numbers[row]))
        if power[row] not in ("", "p"):
            raise InputError(tables.source, frame.label(row), "is a cost of reactive power, which is not read")
        if key in out or key in known:
            raise InputError(tables.source, frame.label(row), f"is a second cost of {kind} {key[1]}")
        out[key] = _segments_of(tables, frame.label(row), f"{kind} {key[1]}", points[row])
    return out


def _segments_of(tables: Tables, label: str, element: str, points: object) -> list[Segment]:
    if isinstance(points, str):
        try:
            points = json_document(points, tables.source)
        except InputError:
            points = None
    if not isinstance(points, list) or not all(isinstance(part, list) and len(part) == 3 for part in points):
        raise InputError(tables.source, f"{label}, points", "must be a list of [from MW, to MW, cost per MWh]")
    edges, level = [float(part[0]) for part in points] + [float(points[-1][1])], [0.0]
    for start, end, slope in points:
        level.append(level[-1] + (float(end) - float(start)) * float(slope))
    if any(a[1] != b[0] for a, b in pairwise(points)):
        raise InputError(tables.source, f"{label} of {element}", "has segments that do not join")
    try:
        return segments([KW_PER_MW * edge for edge in edges], level)
    except ValueError as problem:
        raise InputError(tables.source, f"{label} of {element}", str(problem)) from None


def root_price(tables: Tables, warnings: list[str]) -> float | None:
    """Linear cost of the external grid, in currency per kWh (the file has it per MWh)."""
    grid = tables.frame("ext_grid")
    grid = grid.take(grid.flags("in_service", True))
    costs = _costs(tables)
    given = [costs[("ext_grid", k)] for k in grid.index if ("ext_grid", k) in costs]
    for key, parts in _stepped_costs(tables).items():
        if key[0] != "ext_grid" or key[1] not in grid.index:
            continue
        if len({round(slope, 12) for _, _, slope in parts}) == 1:
            given.append((parts[0][2] * KW_PER_MW, 0.0))
        else:
            warnings.append(f"ext_grid {key[1]} has several marginal costs, so no price is taken from it")
    if not given:
        return None
    if any(square for _, square in given):
        warnings.append("the quadratic part of the external grid's cost is left out")
    if len({linear for linear, _ in given}) > 1:
        raise InputError(tables.source, "table poly_cost", "gives external grids different prices; one is needed")
    return given[0][0] / KW_PER_MW


def _unit_rows(
    tables: Tables,
    kind: str,
    bus: Frame,
    costs: dict[tuple[str, int], tuple[float, float]],
    stepped: dict[tuple[str, int], list[Segment]],
    warnings: list[str],
) -> Generators:
    frame = tables.frame(kind)
    frame = frame.take(frame.flags("in_service", True) & ~frame.flags("slack", False))
    scale = frame.numbers("scaling", 1.0) * KW_PER_MW
    p_kw, q_kvar = frame.numbers("p_mw") * scale, frame.numbers("q_mvar", 0.0) * scale
    movable = frame.flags("controllable", True)
    steps = {k: stepped[kind, n] for k, n in enumerate(frame.index) if (kind, n) in stepped and movable[k]}
    plain = costs | dict.fromkeys(stepped, (0.0, 0.0))
    cost = np.array([plain.get((kind, k), (np.nan, np.nan)) for k in frame.index]).reshape(-1, 2)
    has_cost: NDArray[np.bool_] = np.isfinite(cost[:, 0]) & movable
    if kind == "gen" and len(frame):
        warnings.append(f"voltage set-points are not held, power is: {listed(list(frame.labels()))}")
    low, high = frame.numbers("min_p_mw", np.nan) * KW_PER_MW, frame.numbers("max_p_mw", np.nan) * KW_PER_MW
    open_ended = [frame.label(int(k)) for k in np.nonzero(has_cost & ~(np.isfinite(low) & np.isfinite(high)))[0]]
    if open_ended:
        warnings.append(f"no power limits with the cost, so from 0 to the set-point: {listed(open_ended)}")
    low = np.where(np.isfinite(low), low, np.minimum(p_kw, 0.0))
    high = np.where(np.isfinite(high), high, np.maximum(p_kw, 0.0))
    q_low, q_high = frame.numbers("min_q_mvar", np.nan) * KW_PER_MW, frame.numbers("max_q_mvar", np.nan) * KW_PER_MW
    crossed = np.nonzero(has_cost & ((low > high) | (q_low > q_high)))[0]
    if crossed.size:
        raise InputError(tables.source, frame.label(int(crossed[0])), "has a lower limit above its upper limit")
    units = Generators(
        name=frame.labels(),
        node=frame.references("bus", bus),
        p_kw=p_kw,
        q_kvar=q_kvar,
        p_min_kw=np.where(has_cost, low, p_kw),
        p_max_kw=np.where(has_cost, high, p_kw),
        q_min_kvar=np.where(has_cost & np.isfinite(q_low), q_low, q_kvar),
        q_max_kvar=np.where(has_cost & np.isfinite(q_high), q_high, q_kvar),
        has_cost=has_cost,
        cost_linear=np.where(has_cost, cost[:, 0] / KW_PER_MW, 0.0),
        cost_quadratic=np.where(has_cost, cost[:, 1] / KW_PER_MW**2, 0.0),
    )
    return with_segments(units, steps)


def generators(tables: Tables, bus: Frame, warnings: list[str]) -> Generators:
    """Static generators and generators (not slack); those with a cost can be dispatched."""
    costs, stepped = _costs(tables), _stepped_costs(tables)
    foreign = sorted({kind for kind, _ in (*costs, *stepped)} - {"ext_grid", "sgen", "gen"})
    if foreign:
        warnings.append(f"costs are read for ext_grid, sgen and gen only, not for {listed(foreign)}")
    a, b = (_unit_rows(tables, kind, bus, costs, stepped, warnings) for kind in ("sgen", "gen"))
    columns = ["node", "p_kw", "q_kvar", "p_min_kw", "p_max_kw", "q_min_kvar", "q_max_kvar", "has_cost"]
    columns += ["cost_linear", "cost_quadratic"]
    return Generators(name=a.name + b.name, **{c: np.concatenate([getattr(a, c), getattr(b, c)]) for c in columns})
