"""OpenDSS scripts: three-phase feeders, node by node.

OpenDSS parses the script and its controls set taps and capacitors (`opendss_script`); the admittance is built here
from primitive matrices. A node is one phase of a bus. Voltage sources are ideal nodes of their own behind the
source's impedance, which is a branch; the root's power is metered at the source's bus.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from tellegen.errors import InputError
from tellegen.foreign.confined import printable
from tellegen.grid.importers.draft import listed
from tellegen.grid.importers.opendss_controls import controls
from tellegen.grid.importers.opendss_elements import Element, Nodes, Source, elements, sources
from tellegen.grid.importers.opendss_loads import loads
from tellegen.grid.importers.opendss_script import Script, run_script
from tellegen.grid.network import Branches, Case, FixedLoads, Generators, LimitKind, Network
from tellegen.grid.positions import with_controls
from tellegen.grid.primitives import GROUND

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]

BASE_KVA = 10_000.0
"""Base of power. Switches of a microohm have admittances of 1e6 pu even so; a smaller base would leave fewer digits."""
PHASES = 3


def read_opendss(path: Path) -> Case:
    """Read a script.

    Raises
    ------
    InputError : see `run_script`; or a part of the circuit is connected to no source, an element is inconsistent.
    """
    script = run_script(path)
    try:
        return case_of_script(script)
    except (ValueError, KeyError, IndexError, TypeError, ArithmeticError) as failure:
        # What OpenDSS says of a stranger's script need not make sense, a node called "x" say.
        what = f"{type(failure).__name__}: {failure}"
        raise InputError(path, "circuit", f"has no network that makes sense ({printable(what, 120)})") from failure


def case_of_script(script: Script) -> Case:
    """Network and loads of a script that has run."""
    nodes = Nodes(script)
    warnings = list(script.remarks)
    feeds = sources(script, nodes)
    if not feeds:
        raise InputError(script.source, "vsource", "is missing: nothing energises the circuit")
    parts = [feed.element for feed in feeds] + list(elements(script, nodes))
    table, rated_volt = loads(script, nodes, warnings)
    base_kv = _base_kv(script, nodes, feeds)
    admittance = _admittance(parts, len(nodes.index))
    _check_connected(script, nodes, feeds, admittance)
    per_unit = sp.diags(base_kv * 1000.0)
    # volt * volt / volt-ampere: rows are currents per unit of base_kva / base_kv of their own node.
    scaled = sp.csr_matrix(per_unit @ admittance @ per_unit) / (BASE_KVA * 1000.0)
    branches, element_rows = _branches(parts, base_kv)
    moving = controls(script, nodes, parts, element_rows, warnings)
    phase = np.array([number for _, number in nodes.index], dtype=np.int64)
    ideal = np.array([k for feed in feeds for k in feed.ideal], dtype=np.int64)
    order = np.argsort(ideal)
    volt = np.concatenate([feed.voltage for feed in feeds])
    voltage = np.asarray(volt / (base_kv[ideal] * 1000.0), dtype=np.complex128)
    is_phase = phase <= PHASES
    network = Network(
        name=script.name,
        nodes=tuple(bus for bus, _ in nodes.index),
        phase=phase,
        base_kva=BASE_KVA,
        base_kv=base_kv,
        admittance=scaled,
        source=ideal[order],
        source_voltage=voltage[order],
        v_min=np.where(is_phase, script.v_min, 0.0),
        v_max=np.where(is_phase, script.v_max, np.inf),
        branches=branches,
        root_terminals=_root_terminals(feeds, element_rows),
    )
    neutral = sorted({bus for bus, number in nodes.index if number > PHASES})
    if neutral:
        warnings.append(f"nodes above 3 are taken as neutrals, without voltage limits: {listed(neutral)}")
    case = Case(
        network=network,
        loads=_per_unit(table, rated_volt, base_kv),
        generators=_no_generators(),
        root_price=None,
        warnings=tuple(warnings),
        controls=moving,
        coordinates=_coordinates(script, nodes, feeds),
    )
    # Once through what every later move goes through: coming back to the file's positions is then exact.
    return case if moving is None else with_controls(case, moving)


def _coordinates(script: Script, nodes: Nodes, feeds: list[Source]) -> FloatArray | None:
    if not script.coordinates:
        return None
    own = {node: feed.bus for feed in feeds for node in feed.ideal}
    unknown = (np.nan, np.nan)
    return np.array([script.coordinates.get(own.get(k, bus), unknown) for k, (bus, _) in enumerate(nodes.index)])


def _base_kv(script: Script, nodes: Nodes, feeds: list[Source]) -> FloatArray:
    own = {node: feed.bus for feed in feeds for node in feed.ideal}
    return np.array([script.base_kv[own.get(k, bus)] for k, (bus, _) in enumerate(nodes.index)], dtype=np.float64)


def _admittance(parts: list[Element], size: int) -> sp.csr_matrix:
    """Sum of all primitives in siemens; the ground is left out."""
    rows = np.concatenate([np.repeat(part.primitive.node, part.primitive.node.size) for part in parts])
    columns = np.concatenate([np.tile(part.primitive.node, part.primitive.node.size) for part in parts])
    values = np.concatenate([part.primitive.admittance.ravel() for part in parts])
    kept = (rows != GROUND) & (columns != GROUND) & (values != 0)
    matrix = sp.csr_matrix((values[kept], (rows[kept], columns[kept])), shape=(size, size))
    matrix.sum_duplicates()
    return matrix


def _check_connected(script: Script, nodes: Nodes, feeds: list[Source], admittance: sp.csr_matrix) -> None:
    _, part = connected_components(abs(admittance), directed=False)
    fed = np.isin(part, [part[feed.ideal[0]] for feed in feeds])
    dead = [f"{bus}.{number}" for k, (bus, number) in enumerate(nodes.index) if not fed[k]]
    if dead:
        raise InputError(
            script.source,
            f"bus {listed(dead)}",
            "is not connected to a source; connect it, or disable what is there",
        )


def _branches(parts: list[Element], base_kv: FloatArray) -> tuple[Branches, dict[str, IntArray]]:
    """Ends of the metered elements at nodes, and the rows of each element among them (-1: at ground)."""
    names: list[str] = []
    node, rating, kind = [], [], []
    row, column, value = [], [], []
    where: dict[str, IntArray] = {}
    for part in parts:
        if not part.metered:
            continue
        primitive = part.primitive
        real = np.flatnonzero(primitive.node != GROUND)
        at = np.arange(len(names), len(names) + real.size)
        places = np.full(primitive.node.size, -1, dtype=np.int64)
        places[real] = at
        where[primitive.name] = places
        names += [primitive.name] * real.size
        node.append(primitive.node[real])
        rating.append(part.rating[real])
        kind.append(part.kind[real])
        row.append(np.repeat(at, real.size))
        column.append(np.tile(primitive.node[real], real.size))
        value.append(primitive.admittance[np.ix_(real, real)].ravel())
    at_node, kinds, ratings = np.concatenate(node), np.concatenate(kind), np.concatenate(rating)
    entry, into = np.concatenate(row), np.concatenate(column)
    base_ampere = BASE_KVA / base_kv
    per_unit = np.concatenate(value) * base_kv[into] * 1000.0 / base_ampere[at_node[entry]]
    return (
        Branches(
            element=tuple(names),
            node=at_node,
            current_rows=sp.csr_matrix((per_unit, (entry, into)), shape=(len(names), base_kv.size)),
            rating_pu=np.where(kinds == LimitKind.CURRENT, ratings / base_ampere[at_node], ratings / BASE_KVA),
            kind=kinds,
        ),
        where,
    )


def _root_terminals(feeds: list[Source], element_rows: dict[str, IntArray]) -> IntArray:
    """Rows of the bus ends of the sources' impedances."""
    return np.concatenate([element_rows[feed.element.primitive.name][len(feed.ideal) :] for feed in feeds])


def _per_unit(table: FixedLoads, rated_volt: list[float], base_kv: FloatArray) -> FixedLoads:
    if table.law is None:
        return table
    rated = np.array(rated_volt, dtype=np.float64) / (base_kv[table.node] * 1000.0)
    return replace(table, law=replace(table.law, rated_pu=rated))


def _no_generators() -> Generators:
    none = np.zeros(0)
    nowhere = np.zeros(0, dtype=np.int64)
    return Generators((), nowhere, none, none, none, none, none, none, np.zeros(0, dtype=np.bool_), none, none)
