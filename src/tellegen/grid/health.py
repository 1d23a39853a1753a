"""Is a network fit to run a market on? What looks wrong in it, by name, before any money depends on it.

`examine` looks at a `Case` of any format: everything is derived from the admittances of its elements (the terminals in
`Branches`), so balanced and three-phase networks answer to the same questions. Ranges of line data are wide on purpose:
they catch a wrong unit, not a rare cable (Heuck, Dettmann, Schulz: Elektrische Energieversorgung; Kersting 2018).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from tellegen.errors import TellegenError
from tellegen.grid.health_elements import Span, root_elements, spans
from tellegen.grid.network import Case, ComplexArray, FloatArray, Network
from tellegen.grid.powerflow import PHASES, Factors, GridError, factorise, solve_powerflow

LISTED_MAX = 8
NO_LOAD_PU = (0.7, 1.4)
"""Voltage without load, relative to the root: regulators and capacitors stay inside, a factor of sqrt(3) does not."""
STIFF_OHM = 1e-4
"""A closed switch; what lies below it is a joint rather than a line."""
OVERLOAD_PERCENT = 100.0 + 1e-6
VOLTAGE_SLACK_PU = 1e-9
LARGE_SHARE = 0.6
LOADS_FOR_SHARE = 10
LV_LOAD_KW_MAX = 1000.0
POWER_FACTOR_MIN = 0.4
FLOATING_RATIO = 1e3
"""Zero-sequence over positive-sequence impedance; earthed networks stay below 20, insulated ones above."""
UNBALANCE_RATIO = 2.0


class Severity(StrEnum):
    """How bad it is: an error makes results meaningless, a warning is likely a mistake, a note may be intended."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    Attributes
    ----------
    severity, check : how bad, and the name of the check (``"island"``, ``"impedance"``, ...).
    place : the node, element or load (the first ones of several).
    problem : what is wrong and what would be right, in one line.
    """

    severity: Severity
    check: str
    place: str
    problem: str


@dataclass(frozen=True, slots=True)
class Range:
    """Usual line data of a voltage level: ohm per km of resistance and reactance, and their ratio."""

    below_kv: float
    r_per_km: tuple[float, float]
    x_per_km: tuple[float, float]
    r_over_x: tuple[float, float]


USUAL = (
    Range(1.0, (0.01, 15.0), (0.01, 1.0), (0.1, 100.0)),
    Range(60.0, (0.01, 5.0), (0.03, 1.2), (0.05, 20.0)),
    Range(np.inf, (0.003, 2.0), (0.05, 1.0), (0.01, 5.0)),
)
"""Low, medium and high voltage (line to line)."""


def examine(case: Case) -> tuple[Finding, ...]:
    """Everything that looks wrong in a case, errors first.

    Parameters
    ----------
    case : from `load_case`; its own loads and generator set-points are the load that is checked.

    Returns
    -------
    tuple of `Finding`; empty for a network without a flaw. It never raises for what it finds.

    Examples
    --------
    >>> from tellegen.grid.importers.matpower import case_of_text
    >>> case = case_of_text("two.m", "two", '''
    ... mpc.version = '2'; mpc.baseMVA = 1;
    ... mpc.bus = [1 3 0 0 0 0 1 1 0 0.4 1 1.1 0.9; 2 1 0.3 0 0 0 1 1 0 0.4 1 1.1 0.9];
    ... mpc.gen = [1 0 0 1 -1 1 1 1 1 0];
    ... mpc.branch = [1 2 0.1 0.1 0 0.2 0 0 0 0 1 -360 360];''')
    >>> [(f.severity.value, f.check, f.place) for f in examine(case)]
    [('warning', 'loading', 'branch 1')]
    """
    network = case.network
    parts = spans(network)
    found = [Finding(Severity.WARNING, "import", network.name, warning) for warning in case.warnings]
    found += _names(case)
    islands = _islands(network)
    found += islands + _limits(network) + _impedances(case, parts) + _loops(network, parts) + _crossed(network, parts)
    found += _loads(case)
    if not islands:
        try:
            factors = factorise(network)
        except GridError as problem:
            found.append(Finding(Severity.ERROR, "energised", network.name, str(problem)))
        else:
            found += _ratios(network, factors) + _floating(network, parts, factors, case) + _own_flow(case, factors)
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED_MAX])
    return shown if len(names) <= LISTED_MAX else f"{shown}, ... ({len(names)} in all)"


def _called(network: Network, node: int) -> str:
    phase = int(network.phase[node])
    return f"{network.nodes[node]}.{phase}" if phase else network.nodes[node]


def _names(case: Case) -> list[Finding]:
    network, found = case.network, []
    kinds: list[tuple[str, list[str]]] = [("node", [_called(network, k) for k in range(len(network.nodes))])]
    if case.elements is not None:
        kinds.append(("element", list(case.elements.name)))
        kinds.append(("load", list(case.loads.name)))
    for kind, names in kinds:
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            found.append(
                Finding(
                    Severity.ERROR, "names", _listed(twice), f"is the name of more than one {kind}; rename all but one"
                )
            )
    both = sorted({other for other, _ in network.aliases} & set(network.nodes))
    if both:
        found.append(Finding(Severity.ERROR, "names", _listed(both), "is a node and another name of one; rename it"))
    return found


def _islands(network: Network) -> list[Finding]:
    part = connected_components(abs(network.admittance), directed=False)[1]
    dead = np.flatnonzero(~np.isin(part, part[network.source]))
    if not dead.size:
        return []
    names = [_called(network, int(k)) for k in dead]
    count = len(set(part[dead].tolist()))
    return [
        Finding(
            Severity.ERROR,
            "island",
            _listed(names),
            f"has no path to a source ({count} island{'s' * (count > 1)}); connect it or leave it out",
        )
    ]


def _limits(network: Network) -> list[Finding]:
    crossed = np.flatnonzero(~(network.v_min <= network.v_max))
    found = []
    if crossed.size:
        names = [_called(network, int(k)) for k in crossed]
        found.append(Finding(Severity.ERROR, "limits", _listed(names), "has v_min above v_max"))
    rated: dict[str, bool] = {}
    feeds = root_elements(network)
    for name, rating in zip(network.branches.element, network.branches.rating_pu.tolist(), strict=True):
        if name in feeds:
            continue
        rated[name] = rated.get(name, False) or np.isfinite(rating)
    bare = [name for name, known in rated.items() if not known]
    if bare and len(bare) == len(rated):
        found.append(Finding(Severity.NOTE, "rating", "all elements", "have no rating, so no flow is ever congested"))
    elif bare:
        found.append(Finding(Severity.NOTE, "rating", _listed(bare), "has no rating, so its flow is never congested"))
    return found


def _impedances(case: Case, parts: list[Span]) -> list[Finding]:
    """Series impedance of lines: sign, ratio, and per km where the length is known."""
    lengths = dict(case.lengths_km)
    found = []
    for part in parts:
        ohm = part.impedance_ohm
        if ohm is None or abs(ohm) < STIFF_OHM:
            continue
        level = next(usual for usual in USUAL if part.line_kv < usual.below_kv)
        if ohm.real < 0 or ohm.imag < 0:
            which = "resistance" if ohm.real < 0 else "reactance"
            severity = Severity.ERROR if ohm.real < 0 else Severity.WARNING
            found.append(
                Finding(severity, "impedance", part.name, f"has a negative {which} ({ohm:.4g} ohm); check the sign")
            )
            continue
        if ohm.imag > 0 and not level.r_over_x[0] <= ohm.real / ohm.imag <= level.r_over_x[1]:
            found.append(
                Finding(
                    Severity.WARNING,
                    "impedance",
                    part.name,
                    f"has r/x {ohm.real / ohm.imag:.3g}; at {part.line_kv:.3g} kV {level.r_over_x[0]:g} to "
                    f"{level.r_over_x[1]:g} is usual",
                )
            )
        km = lengths.get(part.name, 0.0)
        if km <= 0:
            continue
        for letter, value, (low, high) in (("r", ohm.real, level.r_per_km), ("x", ohm.imag, level.x_per_km)):
            if not low <= value / km <= high:
                found.append(
                    Finding(
                        Severity.WARNING,
                        "impedance",
                        part.name,
                        f"has {letter} {value / km:.3g} ohm/km; at {part.line_kv:.3g} kV {low:g} to {high:g} is usual; "
                        "check units and length",
                    )
                )
    return found


def _loops(network: Network, parts: list[Span]) -> list[Finding]:
    """Elements that close a loop (a note), a loop of joints without impedance, and elements whose ends are one node."""
    group = list(range(len(network.nodes)))

    def top(k: int) -> int:
        while group[k] != k:
            group[k] = group[group[k]]
            k = group[k]
        return k

    closing: list[str] = []
    stiff: list[str] = []
    bypassed: list[str] = []
    # Joints first, so that a loop that a joint closes is a loop of joints.
    joints = [part.impedance_ohm is not None and abs(part.impedance_ohm) < STIFF_OHM for part in parts]
    for k in np.argsort(~np.array(joints, dtype=np.bool_), kind="stable").tolist():
        part, joint = parts[k], joints[k]
        if part.from_bus == part.to_bus:
            bypassed.append(part.name)
            continue
        # Conductor by conductor: single-phase elements side by side on their own phases are no loop.
        pairs = [(top(a), top(b)) for a, b in zip(part.from_node, part.to_node, strict=False)]
        if any(a == b for a, b in pairs):
            (stiff if joint else closing).append(part.name)
        for a, b in pairs:
            group[a] = b
    found = []
    if bypassed:
        found.append(
            Finding(
                Severity.WARNING, "loop", _listed(bypassed), "has both ends at one node: a closed switch bypasses it"
            )
        )
    if stiff:
        found.append(
            Finding(Severity.WARNING, "loop", _listed(stiff), "closes a loop of switches without impedance; open one")
        )
    if closing:
        found.append(
            Finding(
                Severity.NOTE, "loop", _listed(closing), f"closes a loop ({len(closing)} in all): the network is meshed"
            )
        )
    return found


def _crossed(network: Network, parts: list[Span]) -> list[Finding]:
    names = [
        part.name
        for part in parts
        if part.line and network.phase[list(part.from_node)].tolist() != network.phase[list(part.to_node)].tolist()
    ]
    if not names:
        return []
    return [
        Finding(
            Severity.WARNING,
            "phases",
            _listed(names),
            "has other phases at one end than at the other; check the order of its conductors",
        )
    ]


def _loads(case: Case) -> list[Finding]:
    """Loads of a size, sign or power factor that suggests a wrong unit; uneven phases."""
    network, loads = case.network, case.loads
    found: list[Finding] = []
    total: dict[str, complex] = {}
    at: dict[str, int] = {}
    for name, node, p, q in zip(
        loads.name, loads.node.tolist(), loads.p_kw.tolist(), loads.q_kvar.tolist(), strict=True
    ):
        total[name] = total.get(name, 0j) + complex(p, q)
        at.setdefault(name, node)
    everything = sum(abs(power.real) for power in total.values())
    negative = [name for name, power in total.items() if power.real < 0 and not name.startswith("generator.")]
    if negative:
        found.append(Finding(Severity.NOTE, "load", _listed(negative), "has negative power; it counts as generation"))
    for name, power in total.items():
        line_kv = float(network.base_kv[at[name]]) * (1.0 if network.balanced else np.sqrt(3.0))
        if line_kv < 1.0 and abs(power) > LV_LOAD_KW_MAX:
            found.append(
                Finding(Severity.WARNING, "load", name, f"draws {abs(power):.4g} kVA at low voltage; check its unit")
            )
        elif len(total) >= LOADS_FOR_SHARE and abs(power.real) > LARGE_SHARE * everything:
            found.append(
                Finding(
                    Severity.WARNING,
                    "load",
                    name,
                    f"is {100 * abs(power.real) / everything:.0f} % of all load; check its unit",
                )
            )
    odd = [n for n, s in total.items() if s.real != 0 and abs(s.real) < POWER_FACTOR_MIN * abs(s)]
    if odd:
        found.append(Finding(Severity.NOTE, "load", _listed(odd), f"has a power factor below {POWER_FACTOR_MIN:g}"))
    if not network.balanced and loads.other is None:
        sums = [float(loads.p_kw[network.phase[loads.node] == k].sum()) for k in range(1, PHASES + 1)]
        if max(sums) > UNBALANCE_RATIO * max(min(sums), 0.0) and max(sums) > 0:
            text = ", ".join(f"{k}: {value:.4g} kW" for k, value in enumerate(sums, start=1))
            found.append(Finding(Severity.NOTE, "phases", network.name, f"loads its phases unevenly ({text})"))
    return found


def _ratios(network: Network, factors: Factors) -> list[Finding]:
    """Voltages without load far from the root's: a wrong ratio, tap or nominal voltage."""
    size = np.abs(factors.no_load) / float(np.abs(network.source_voltage).max())
    phase = network.phase[factors.free]
    low, high = NO_LOAD_PU
    wrong = np.flatnonzero((phase <= PHASES) & ~((size >= low) & (size <= high)))
    if not wrong.size:
        return []
    names = [_called(network, int(factors.free[k])) for k in wrong]
    return [
        Finding(
            Severity.ERROR,
            "ratio",
            _listed(names),
            f"stands at {size[wrong[0]]:.3f} pu without load; check the nominal voltage, and ratio and taps of the "
            "transformer that feeds it",
        )
    ]


def _floating(network: Network, parts: list[Span], factors: Factors, case: Case) -> list[Finding]:
    """Sections without a path to earth: their zero-sequence impedance is out of all proportion."""
    if network.balanced:
        return []
    buses = {name: k for k, name in enumerate(dict.fromkeys(network.nodes))}
    lines = [part for part in parts if part.line]
    rows, columns = [buses[p.from_bus] for p in lines], [buses[p.to_bus] for p in lines]
    graph = sp.coo_matrix((np.ones(len(lines)), (rows, columns)), shape=(len(buses), len(buses)))
    section = connected_components(graph, directed=False)[1]
    place = {int(node): k for k, node in enumerate(factors.free)}
    phases: dict[str, dict[int, int]] = {}
    for k, name in enumerate(network.nodes):
        if k in place and 1 <= network.phase[k] <= PHASES:
            phases.setdefault(name, {})[int(network.phase[k])] = place[k]
    chosen: dict[int, str] = {}
    root = {int(section[buses[network.nodes[network.branches.node[k]]]]) for k in _root_rows(network)}
    for name, own in phases.items():
        if len(own) == PHASES and int(section[buses[name]]) not in root:
            chosen.setdefault(int(section[buses[name]]), name)
    turn = np.exp(-2j * np.pi / 3 * np.arange(PHASES))
    held: set[int] = set()
    for part, name in chosen.items():
        at = [phases[name][k] for k in (1, 2, 3)]
        seen = []
        for pattern in (np.ones(PHASES), turn):
            right: ComplexArray = np.zeros(factors.free.size, dtype=np.complex128)
            right[at] = pattern
            seen.append(abs(np.vdot(pattern, factors.lu.solve(right)[at])))
        if seen[0] > FLOATING_RATIO * seen[1]:
            held.add(part)
    found = []
    loads = case.loads
    grounded = loads.node if loads.other is None else loads.node[loads.other < 0]
    with_load = {int(section[buses[network.nodes[k]]]) for k in grounded.tolist()}
    for part in sorted(held):
        members = [name for name, k in buses.items() if section[k] == part]
        more = "; loads from phase to earth there have no firm voltage" if part in with_load else ""
        found.append(
            Finding(
                Severity.WARNING if more else Severity.NOTE,
                "earth",
                _listed(members),
                f"is a section without a path to earth: a delta or a star without neutral feeds it{more}",
            )
        )
    return found


def _root_rows(network: Network) -> list[int]:
    return [] if network.root_terminals is None else [int(k) for k in network.root_terminals]


def _own_flow(case: Case, factors: Factors) -> list[Finding]:
    """Power flow of the file's own loads and set-points: whether there is one, overloads, voltages."""
    network, units = case.network, case.generators
    demand = np.zeros(len(network.nodes), dtype=np.complex128)
    np.add.at(demand, units.node, -(units.p_kw + 1j * units.q_kvar))
    try:
        flow = solve_powerflow(network, demand, loads=case.loads, factors=factors)
    except TellegenError as problem:
        return [Finding(Severity.ERROR, "powerflow", network.name, f"its own load has no power flow ({problem})")]
    found = []
    worst: dict[str, float] = {}
    for name, percent in zip(network.branches.element, flow.loading_percent.tolist(), strict=True):
        worst[name] = max(worst.get(name, 0.0), percent)
    over = sorted((name for name, percent in worst.items() if percent > OVERLOAD_PERCENT), key=lambda n: -worst[n])
    if over:
        found.append(
            Finding(
                Severity.WARNING,
                "loading",
                _listed(over),
                f"is overloaded by the file's own load, up to {worst[over[0]]:.1f} %",
            )
        )
    found += _outside(network, np.abs(flow.voltage))
    return found


def _outside(network: Network, size: FloatArray) -> list[Finding]:
    found = []
    free = np.ones(size.size, dtype=np.bool_)
    free[network.source] = False
    sides = (
        ("below", size < network.v_min - VOLTAGE_SLACK_PU, np.argsort(size), network.v_min),
        ("above", size > network.v_max + VOLTAGE_SLACK_PU, np.argsort(-size), network.v_max),
    )
    for side, wrong, order, limit in sides:
        nodes = [int(k) for k in order if wrong[k] and free[k]]
        if nodes:
            found.append(
                Finding(
                    Severity.WARNING,
                    "voltage",
                    _listed([_called(network, k) for k in nodes]),
                    f"is {side} its limit at the file's own load: {size[nodes[0]]:.4f} pu, limit {limit[nodes[0]]:g}",
                )
            )
    return found
