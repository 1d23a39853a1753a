"""MATPOWER case files (format version 2), read as text: nothing in them is executed.

Source of the format: MATPOWER User's Manual, appendix B. The matrices ``bus``, ``gen``, ``branch``
and ``gencost`` are read. Many distribution cases end with statements that convert ohms to per unit
and kW to MW; exactly these are recognised, and any other statement that computes is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError, printable
from tellegen.foreign.opendss_text import shown
from tellegen.foreign.regular import regular_bytes
from tellegen.grid.elements import Elements
from tellegen.grid.importers.draft import Draft, energise, fed_buses, listed
from tellegen.grid.importers.piecewise import Segment, segments, with_segments
from tellegen.grid.network import Case, FixedLoads, Generators, LimitKind

FILE_BYTES_MAX = 128 * 2**20
ROWS_MAX = 500_000
KW_PER_MW = 1000.0
WIDTH_MIN = {"bus": 13, "gen": 10, "branch": 11, "gencost": 4}
FINITE_MAX = 1e100
"""What is beyond it may become infinite where units are converted."""
BASE_RANGE = (1e-9, 1e9)
"""Of bases (MVA, kV), and of what loads are divided by."""
UNLIMITED_ANGLE = 360.0

FloatArray = NDArray[np.float64]

_ASSIGN = re.compile(r"^mpc\.(\w+)\s*=\s*(.*)$", re.DOTALL)
_NAMES = re.compile(r"^\[[A-Z0-9_,\s]*\]\s*=\s*(idx_\w+|define_constants)(\(\))?$")
_VBASE = re.compile(r"^Vbase=mpc\.bus\(1,(BASE_KV|10)\)\*1(e3|000)$")
_SBASE = re.compile(r"^Sbase=mpc\.baseMVA\*1(e6|000000)$")
_OHMS = re.compile(
    r"^mpc\.branch\(:,\[(?:BR_R,?BR_X|3,?4)\]\)=mpc\.branch\(:,\[(?:BR_R,?BR_X|3,?4)\]\)/\(Vbase\^2/Sbase\)$"
)
_LOADS = re.compile(r"^mpc\.bus\(:,\[(?:PD,?QD|3,?4)\]\)=mpc\.bus\(:,\[(?:PD,?QD|3,?4)\]\)/(\d+(?:\.\d+)?(?:e\d+)?)$")


@dataclass(slots=True)
class _Matrix:
    """Rows of numbers and the line of the file on which each stands."""

    rows: list[list[float]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Text:
    """What the file assigns: matrices, scalars, conversions; and what is left unread."""

    matrices: dict[str, _Matrix] = field(default_factory=dict)
    scalars: dict[str, tuple[str, int]] = field(default_factory=dict)
    ohms: bool = False
    load_divisor: float = 1.0
    unread: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Cost:
    """Currency per kWh and per kW^2 h, or segments."""

    linear: float
    quadratic: float
    segments: tuple[Segment, ...] = ()


def _uncommented(line: str) -> str:
    """A line without its comment; a percent sign inside quotes is text."""
    quoted = False
    for k, c in enumerate(line):
        if c == "'" and (quoted or k == 0 or (line[k - 1] not in ")]}" and not line[k - 1].isalnum())):
            quoted = not quoted
        elif c == "%" and not quoted:
            return line[:k]
    return line


def _statements(text: str) -> list[list[tuple[int, str]]]:
    """Statements as lists of (line number, text); brackets hold a statement open over lines."""
    out: list[list[tuple[int, str]]] = []
    now: list[tuple[int, str]] = []
    depth, joined = 0, False
    in_block = False
    for number, raw in enumerate(text.splitlines(), start=1):
        if raw.strip() in ("%{", "%}"):
            in_block = raw.strip() == "%{"
            continue
        if in_block:
            continue
        line = _uncommented(raw).rstrip()
        joined_next = line.endswith("...")
        line = line.removesuffix("...")
        start = 0
        for k, c in enumerate(line):
            if c in "[{(":
                depth += 1
            elif c in "]})":
                depth -= 1
            elif c == ";" and depth == 0:
                now.append((number, line[start:k]))
                out.append(now)
                now, start = [], k + 1
        if line[start:].strip() or (depth and now):
            now.append((number, line[start:]))
        joined = joined_next
        if depth <= 0 and not joined and now:
            out.append(now)
            now = []
    if now:
        out.append(now)
    return [s for s in out if any(part.strip() for _, part in s)]


def _number(source: str, line: int, word: str) -> float:
    try:
        if word.lower().lstrip("+-") in ("infinity", "nan") or "_" in word:
            raise ValueError
        return float(word)
    except ValueError:
        raise InputError(source, f"line {line}", f"has {shown(word)} where a number is needed") from None


def _matrix(source: str, name: str, statement: list[tuple[int, str]]) -> _Matrix:
    """Numbers between the brackets of an assignment; a row ends at ``;`` or at the end of its line."""
    matrix = _Matrix()
    opened = closed = False
    for line, text in statement:
        part = text
        if not opened:
            part, opened = part.split("[", 1)[1], True
        if "]" in part:
            part, rest = part.split("]", 1)
            closed = True
            if rest.strip():
                raise InputError(source, f"line {line}", f"computes with mpc.{name}; give the matrix itself")
        for row in part.split(";"):
            words = row.replace(",", " ").split()
            if words:
                matrix.rows.append([_number(source, line, word) for word in words])
                matrix.lines.append(line)
    if not closed:
        raise InputError(source, f"line {statement[0][0]}", f"mpc.{name} has no closing bracket")
    if len(matrix.rows) > ROWS_MAX:
        raise InputError(source, f"mpc.{name}", f"has {len(matrix.rows)} rows, limit {ROWS_MAX}")
    widths = [len(row) for row in matrix.rows]
    for at, width in enumerate(widths):
        if width < WIDTH_MIN[name] or (name != "gencost" and width != widths[0]):
            need = max(WIDTH_MIN[name], widths[0] if name != "gencost" else 0)
            raise InputError(source, f"line {matrix.lines[at]}", f"has {width} values in mpc.{name}, {need} are needed")
    return matrix


def _parse(source: str, text: str) -> _Text:
    found = _Text()
    for statement in _statements(text):
        line = statement[0][0]
        whole = " ".join(part for _, part in statement).strip()
        tight = re.sub(r"\s+", "", re.sub(r"(?<=[\w])\s+(?=[\w])", ",", whole))
        assigned = _ASSIGN.match(whole)
        if whole.startswith("function") or whole in ("end", "return", "define_constants") or _NAMES.match(whole):
            continue
        if _VBASE.match(tight) or _SBASE.match(tight):
            continue
        if _OHMS.match(tight):
            found.ohms = True
        elif loads := _LOADS.match(tight):
            found.load_divisor *= float(loads.group(1))
            if not BASE_RANGE[0] <= found.load_divisor <= BASE_RANGE[1]:
                raise InputError(source, f"line {line}", "divides loads by what is no unit; divide by 1e3 for kW")
        elif assigned and assigned.group(2).startswith("["):
            name = assigned.group(1)
            if name in WIDTH_MIN:
                if name in found.matrices:
                    raise InputError(source, f"line {line}", f"assigns mpc.{name} a second time")
                found.matrices[name] = _matrix(source, name, statement)
            else:
                found.unread.append(f"mpc.{name}")
        elif assigned and assigned.group(1) in ("version", "baseMVA"):
            found.scalars[assigned.group(1)] = (assigned.group(2).strip(), line)
        elif assigned and not assigned.group(2).startswith("mpc."):
            found.unread.append(f"mpc.{assigned.group(1)}")
        else:
            raise InputError(source, f"line {line}", "computes; nothing is executed, give the finished matrices")
    return found


def read_matpower(path: Path) -> Case:
    """Read a MATPOWER case.

    Buses are called by their number. Costs, per MWh in the file, become per kWh: those of the
    generator at the reference bus give `Case.root_price`. A piecewise linear cost that is convex
    becomes one row of `Generators` per segment. A rating ``rateA`` of 0 is none.
    A PV bus is not held at its voltage: its generator injects what the file says, with a warning.

    Raises
    ------
    InputError : the file cannot be read, or a row is malformed; the line is named.
    """
    source = str(path)
    text = regular_bytes(path, FILE_BYTES_MAX).decode(errors="replace")
    return case_of_text(source, printable(path.stem), text)


def case_of_text(source: str, name: str, text: str) -> Case:
    """Convert the text of a MATPOWER case; see `read_matpower`."""
    found = _parse(source, text)
    for needed in ("bus", "gen", "branch"):
        if needed not in found.matrices or not found.matrices[needed].rows:
            raise InputError(source, f"mpc.{needed}", "is missing or has no rows")
    version, line = found.scalars.get("version", ("'2'", 0))
    if version.strip("'\"") != "2":
        raise InputError(source, f"line {line}", f"has format version {shown(version)}, 2 is needed")
    base_text, line = found.scalars.get("baseMVA", ("", 0))
    if not base_text:
        raise InputError(source, "mpc.baseMVA", "is missing")
    base_mva = _number(source, line, base_text)
    if not BASE_RANGE[0] <= base_mva <= BASE_RANGE[1]:
        raise InputError(source, f"line {line}", "needs a positive baseMVA, from {:g} to {:g}".format(*BASE_RANGE))

    warnings = [f"not read: {listed(found.unread)}"] if found.unread else []
    draft = _draft(source, name, base_mva, found, warnings)
    numbers, lines = draft.buses, found.matrices["bus"].lines
    isolated = draft.in_service if draft.in_service is not None else np.ones(len(numbers), dtype=np.bool_)
    for bus in np.nonzero(~fed_buses(draft) & isolated)[0].tolist():
        raise InputError(
            source, f"line {lines[bus]}, bus {numbers[bus]}", "is not connected to the reference bus; make it type 4"
        )
    return energise(draft)


def _finite(source: str, name: str, matrix: _Matrix, columns: tuple[int, ...]) -> FloatArray:
    """The matrix as float64[rows, width] after checking the columns that are used."""
    values = np.array(matrix.rows)
    for row, column in np.argwhere(~(np.abs(values[:, list(columns)]) < FINITE_MAX)).tolist():
        raise InputError(
            source, f"line {matrix.lines[row]}", f"has no finite value in column {columns[column] + 1} of mpc.{name}"
        )
    return values


def _positions(
    source: str, name: str, matrix: _Matrix, numbers: FloatArray, index: dict[int, int]
) -> NDArray[np.int64]:
    for row, number in enumerate(numbers.tolist()):
        if int(number) not in index:
            raise InputError(
                source, f"line {matrix.lines[row]}", f"mpc.{name} names bus {number:g}, which is not in mpc.bus"
            )
    return np.array([index[int(number)] for number in numbers], dtype=np.int64)


def _draft(source: str, name: str, base_mva: float, found: _Text, warnings: list[str]) -> Draft:
    table = found.matrices["bus"]
    bus = _finite(source, "bus", table, (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12))
    index: dict[int, int] = {}
    for row, number in enumerate(bus[:, 0].tolist()):
        if number != int(number) or number < 0 or int(number) in index:
            raise InputError(source, f"line {table.lines[row]}", f"bus number {number:g} must be whole and given once")
        index[int(number)] = row
    kind = bus[:, 1].astype(np.int64)
    roots = np.nonzero(kind == 3)[0]
    if not roots.size:
        raise InputError(source, "mpc.bus", "has no reference bus (type 3)")
    base_kv = bus[:, 9]
    isolated = kind == 4
    if isolated.any():
        warnings.append(f"isolated buses (type 4) are left out: {listed([f'{n:g}' for n in bus[isolated, 0]])}")

    units, root_voltage, root_price = _generators(source, found, bus, index, roots, warnings)
    elements, rating = _elements(source, found, bus, index, base_mva, warnings)
    demand = (bus[:, 2:4] / found.load_divisor) * KW_PER_MW
    drawing = np.nonzero((demand != 0).any(axis=1))[0]
    return Draft(
        source=source,
        name=name,
        base_kva=base_mva * KW_PER_MW,
        buses=tuple(f"{number:.0f}" for number in bus[:, 0]),
        base_kv=np.where(base_kv > 0, base_kv, 1.0),
        v_min=bus[:, 12],
        v_max=bus[:, 11],
        elements=elements,
        rating_from_pu=rating,
        rating_to_pu=rating,
        kind=np.full(rating.size, int(LimitKind.APPARENT_POWER), dtype=np.int64),
        root=roots.astype(np.int64),
        root_voltage=root_voltage,
        loads=FixedLoads(
            name=tuple(f"load {bus[k, 0]:.0f}" for k in drawing),
            node=drawing.astype(np.int64),
            p_kw=demand[drawing, 0],
            q_kvar=demand[drawing, 1],
        ),
        generators=units,
        root_price=root_price,
        in_service=~isolated,
        warnings=warnings,
    )


def _elements(
    source: str, found: _Text, bus: FloatArray, index: dict[int, int], base_mva: float, warnings: list[str]
) -> tuple[Elements, FloatArray]:
    table = found.matrices["branch"]
    branch = _finite(source, "branch", table, (0, 1, 2, 3, 4, 8, 9, 10))
    f = _positions(source, "branch", table, branch[:, 0], index)
    t = _positions(source, "branch", table, branch[:, 1], index)
    impedance = branch[:, 2] + 1j * branch[:, 3]
    if found.ohms:
        if not BASE_RANGE[0] <= bus[0, 9] <= BASE_RANGE[1]:
            raise InputError(source, "mpc.bus", "converts ohms by a first base voltage that is none; give it in kV")
        impedance = impedance / (bus[0, 9] ** 2 / base_mva)
    on = branch[:, 10] > 0
    for row in np.nonzero(on & (impedance == 0))[0].tolist():
        raise InputError(
            source, f"line {table.lines[row]}", "is a branch of zero impedance; give it one or join its buses"
        )
    if branch.shape[1] >= 13:
        angle = np.abs(branch[:, 11:13])
        if ((angle > 0) & (angle < UNLIMITED_ANGLE)).any():
            warnings.append("limits of angle differences (angmin, angmax) are not read")
    rating = np.where(branch[:, 5] > 0, branch[:, 5] / base_mva, np.inf)
    charging = np.asarray(0.5j * branch[:, 4], dtype=np.complex128)
    tap = np.where(branch[:, 8] == 0, 1.0, branch[:, 8])
    elements = Elements(
        name=tuple(f"branch {k + 1}" for k in np.nonzero(on)[0]),
        from_node=f[on],
        to_node=t[on],
        impedance_pu=impedance[on],
        from_shunt_pu=charging[on],
        to_shunt_pu=charging[on],
        ratio=(tap * np.exp(1j * np.radians(branch[:, 9])))[on],
        node_shunt_pu=np.asarray((bus[:, 4] + 1j * bus[:, 5]) / base_mva, dtype=np.complex128),
    )
    return elements, rating[on]


def _costs(source: str, found: _Text, count: int, live: NDArray[np.bool_]) -> list[_Cost | None]:
    """Cost of each generator, or None; those not `live` are not looked into."""
    table = found.matrices.get("gencost")
    if table is None:
        return [None] * count
    if len(table.rows) not in (count, 2 * count):
        raise InputError(source, "mpc.gencost", f"has {len(table.rows)} rows for {count} generators")
    out: list[_Cost | None] = []
    for k, (row, line) in enumerate(zip(table.rows[:count], table.lines, strict=False)):
        model, terms = row[0], int(row[3]) if np.isfinite(row[3]) else 0
        if not live[k]:
            out.append(None)
            continue
        if model == 1:
            out.append(_piecewise(source, line, k, row, terms))
            continue
        if model != 2:
            raise InputError(
                source, f"line {line}", f"has cost model {model:g}; 1 (piecewise) or 2 (polynomial) is needed"
            )
        if not 1 <= terms <= len(row) - 4:
            raise InputError(source, f"line {line}", f"announces {row[3]:g} coefficients, has {len(row) - 4}")
        falling = row[4 : 4 + terms]
        if not np.isfinite(falling).all():
            raise InputError(source, f"line {line}", "has a cost that is not a finite number")
        if any(falling[:-3]):
            raise InputError(source, f"line {line}", "is a cost of degree above 2")
        rising = [*reversed(falling), 0.0, 0.0]
        out.append(_Cost(rising[1] / KW_PER_MW, rising[2] / KW_PER_MW**2))
    return out


def _piecewise(source: str, line: int, generator: int, row: list[float], points: int) -> _Cost:
    """Cost of model 1: points of MW and currency per hour."""
    if not 2 <= points <= (len(row) - 4) // 2:
        raise InputError(source, f"line {line}", f"announces {row[3]:g} points, has {(len(row) - 4) // 2}")
    values = row[4 : 4 + 2 * points]
    try:
        parts = segments([KW_PER_MW * mw for mw in values[::2]], values[1::2])
    except ValueError as problem:
        raise InputError(source, f"line {line}, gen {generator + 1}", str(problem)) from None
    if len({round(slope, 12) for _, _, slope in parts}) == 1:
        return _Cost(parts[0][2], 0.0)
    return _Cost(np.nan, 0.0, tuple(parts))


def _generators(
    source: str,
    found: _Text,
    bus: FloatArray,
    index: dict[int, int],
    roots: NDArray[np.intp],
    warnings: list[str],
) -> tuple[Generators, NDArray[np.complex128], float | None]:
    table = found.matrices["gen"]
    gen = _finite(source, "gen", table, (0, 1, 2, 5, 7))
    at = _positions(source, "gen", table, gen[:, 0], index)
    costs = _costs(source, found, len(gen), gen[:, 7] > 0)
    if len(found.matrices.get("gencost", _Matrix()).rows) == 2 * len(gen):
        warnings.append("costs of reactive power (second half of mpc.gencost) are not read")
    on = gen[:, 7] > 0
    magnitude = bus[:, 7].copy()
    root_price: float | None = None
    for row in np.nonzero(on & np.isin(at, roots))[0].tolist():
        magnitude[at[row]] = gen[row, 5]
        cost = costs[row]
        if cost is None:
            continue
        if cost.segments:
            warnings.append(
                f"gen {row + 1} at the reference bus has several marginal costs, so no price is taken from it"
            )
            continue
        if root_price is not None and root_price != cost.linear:
            raise InputError(source, f"line {table.lines[row]}", "is a second generator at the root with another cost")
        root_price = cost.linear
        if cost.quadratic:
            warnings.append("the quadratic part of the cost at the reference bus is left out")
    if (magnitude[roots] <= 0).any():
        raise InputError(source, "mpc.gen", "holds the reference bus at no positive voltage")
    voltage = magnitude[roots] * np.exp(1j * np.radians(bus[roots, 8]))

    rows = np.nonzero(on & ~np.isin(at, roots))[0]
    held = [f"gen {k + 1}" for k in rows if bus[at[k], 1] == 2]
    if held:
        warnings.append(f"voltage set-points are not held, power is: {listed(held)}")
    given = [costs[k] for k in rows]
    priced = np.array([cost is not None for cost in given], dtype=np.bool_)
    linear = np.array([0.0 if cost is None else cost.linear for cost in given])
    square = np.array([0.0 if cost is None else cost.quadratic for cost in given])
    limits = gen[rows][:, [9, 8, 4, 3]]  # Pmin, Pmax, Qmin, Qmax
    for k, row in enumerate(rows.tolist()):
        low_p, high_p, low_q, high_q = limits[k]
        if priced[k] and not (low_p <= high_p and low_q <= high_q):
            raise InputError(source, f"line {table.lines[row]}", "has a lower limit above its upper limit")
    p, q = gen[rows, 1], gen[rows, 2]
    units = Generators(
        name=tuple(f"gen {k + 1}" for k in rows),
        node=at[rows],
        p_kw=p * KW_PER_MW,
        q_kvar=q * KW_PER_MW,
        p_min_kw=np.where(priced, limits[:, 0], p) * KW_PER_MW,
        p_max_kw=np.where(priced, limits[:, 1], p) * KW_PER_MW,
        q_min_kvar=np.where(priced, limits[:, 2], q) * KW_PER_MW,
        q_max_kvar=np.where(priced, limits[:, 3], q) * KW_PER_MW,
        has_cost=priced,
        cost_linear=linear,
        cost_quadratic=square,
    )
    stepped = {k: cost.segments for k, cost in enumerate(given) if cost is not None and cost.segments}
    return with_segments(units, stepped), voltage, root_price
