"""From what a file says to an energised network: the one assembly that all importers share.

A `Draft` is in terms of the file's buses. `energise` joins buses that closed switches make one
node, leaves out what no source feeds, and assembles admittance and terminal currents.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from tellegen.errors import InputError
from tellegen.grid.elements import Elements, admittance_matrix, terminal_current_rows
from tellegen.grid.importers.sequences import PHASES, Sequences, held_to_earth, in_three_phases
from tellegen.grid.loads import GROUND
from tellegen.grid.network import Branches, Case, FixedLoads, Generators, LimitKind, Network

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

V_MIN_DEFAULT, V_MAX_DEFAULT = 0.95, 1.05
NAMED_AT_MOST = 8
"""How many names a warning lists before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A network as a file states it; every index is a bus position in the file's order.

    `rating_from_pu`, `rating_to_pu` (float64[E], ``inf`` for none) and `kind` (int64[E],
    `LimitKind`) belong to the rows of `elements`. `fused` pairs are joined without impedance.
    With `sequences` the network gets three phases, and a load or generator at phase k of bus b stands
    at ``3 b + k - 1``. `lengths_km` are known lengths of elements by name.
    `coordinates` is float64[B, 2], x and y on the file's map, NaN where it does not say.
    """

    source: str
    name: str
    base_kva: float
    buses: tuple[str, ...]
    base_kv: FloatArray
    v_min: FloatArray
    v_max: FloatArray
    elements: Elements
    rating_from_pu: FloatArray
    rating_to_pu: FloatArray
    kind: IntArray
    root: IntArray
    root_voltage: ComplexArray
    loads: FixedLoads
    generators: Generators
    root_price: float | None = None
    fused: tuple[tuple[int, int], ...] = ()
    in_service: NDArray[np.bool_] | None = None
    coordinates: FloatArray | None = None
    warnings: list[str] = field(default_factory=list)
    sequences: Sequences | None = None
    lengths_km: tuple[tuple[str, float], ...] = ()


def listed(names: list[str]) -> str:
    """The first names of a list and how many there are in all."""
    shown = ", ".join(names[:NAMED_AT_MOST])
    return shown if len(names) <= NAMED_AT_MOST else f"{shown}, ... ({len(names)} in all)"


def _components(size: int, pairs: NDArray[np.int64]) -> IntArray:
    graph = sp.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def fed_buses(draft: Draft) -> NDArray[np.bool_]:
    """Whether each bus is connected to a root, bool[B]."""
    pairs = np.concatenate(
        [
            np.stack([draft.elements.from_node, draft.elements.to_node], axis=1),
            np.array(draft.fused, dtype=np.int64).reshape(-1, 2),
        ]
    )
    part = _components(len(draft.buses), pairs)
    fed = np.isin(part, part[draft.root])
    return fed if draft.in_service is None else fed & draft.in_service


def _take_loads(loads: FixedLoads, keep: NDArray[np.bool_], node: IntArray) -> FixedLoads:
    where = np.nonzero(keep)[0]
    other = None if loads.other is None else loads.other[where]
    return FixedLoads(
        name=tuple(loads.name[k] for k in where),
        node=node[loads.node[where]],
        p_kw=loads.p_kw[where],
        q_kvar=loads.q_kvar[where],
        other=None if other is None else np.where(other == GROUND, GROUND, node[other]),
    )


def _take_generators(units: Generators, keep: NDArray[np.bool_], node: IntArray) -> Generators:
    where = np.nonzero(keep)[0]
    numbers = ("p_kw", "q_kvar", "p_min_kw", "p_max_kw", "q_min_kvar", "q_max_kvar", "cost_linear", "cost_quadratic")
    return replace(
        units,
        name=tuple(units.name[k] for k in where),
        node=node[units.node[where]],
        has_cost=units.has_cost[where],
        **{column: getattr(units, column)[where] for column in numbers},
    )


def _root_nodes(draft: Draft, node: IntArray) -> tuple[IntArray, ComplexArray]:
    """Root nodes and voltages; two roots on one node must agree."""
    held: dict[int, complex] = {}
    for bus, voltage in zip(draft.root.tolist(), draft.root_voltage.tolist(), strict=True):
        at = int(node[bus])
        if abs(held.setdefault(at, voltage) - voltage) > 0:
            raise InputError(draft.source, f"bus {draft.buses[bus]}", "is held at two different voltages")
    order = sorted(held)
    return np.array(order, dtype=np.int64), np.array([held[k] for k in order], dtype=np.complex128)


def _check_numbers(draft: Draft) -> None:
    elements = draft.elements
    for column in ("impedance_pu", "from_shunt_pu", "to_shunt_pu", "ratio"):
        values = getattr(elements, column)
        bad = np.nonzero(~np.isfinite(values))[0]
        if bad.size:
            raise InputError(draft.source, elements.name[int(bad[0])], f"has no finite {column.removesuffix('_pu')}")
    zero = np.nonzero((elements.impedance_pu == 0) | (elements.ratio == 0))[0]
    if zero.size:
        raise InputError(
            draft.source,
            elements.name[int(zero[0])],
            "has zero impedance; give it one, or make the two buses one",
        )
    for column, what in (("base_kv", "nominal voltage"), ("v_max", "voltage limit")):
        wrong = np.nonzero(~(getattr(draft, column) > 0))[0]
        if wrong.size:
            raise InputError(draft.source, f"bus {draft.buses[int(wrong[0])]}", f"needs a positive {what}")


def energise(draft: Draft) -> Case:
    """Build the `Case` of a draft.

    Raises
    ------
    InputError : an impedance is zero or not finite, there is no root, or roots contradict.
    """
    _check_numbers(draft)
    if draft.root.size == 0:
        raise InputError(draft.source, "root", "is missing: no bus holds the voltage (external grid, reference bus)")
    fed = fed_buses(draft)
    if not fed[draft.root].all():
        raise InputError(draft.source, f"bus {draft.buses[int(draft.root[0])]}", "is a root but out of service")
    warnings = list(draft.warnings)

    group = _components(len(draft.buses), np.array(draft.fused, dtype=np.int64).reshape(-1, 2))
    # A joined node is called by the root in it, else by its first bus in the file's order.
    first: dict[int, int] = {}
    for bus in [*draft.root.tolist(), *np.nonzero(fed)[0].tolist()]:
        first.setdefault(int(group[bus]), bus)
    kept = sorted(first.values())
    position = {int(group[bus]): k for k, bus in enumerate(kept)}
    node = np.array([position[int(g)] if f else -1 for g, f in zip(group, fed, strict=True)], dtype=np.int64)
    aliases = tuple(
        (draft.buses[bus], draft.buses[kept[node[bus]]])
        for bus in range(len(draft.buses))
        if node[bus] >= 0 and kept[node[bus]] != bus
    )

    dead = [draft.buses[bus] for bus in np.nonzero(~fed)[0] if draft.in_service is None or draft.in_service[bus]]
    if dead:
        warnings.append(f"buses not connected to the root are left out: {listed(dead)}")
    width = PHASES if draft.sequences is not None else 1
    load_fed, unit_fed = fed[draft.loads.node // width], fed[draft.generators.node // width]
    lost = [n for n, ok in zip(draft.loads.name, load_fed, strict=True) if not ok]
    lost += [n for n, ok in zip(draft.generators.name, unit_fed, strict=True) if not ok]
    if lost:
        warnings.append(f"not fed, so left out: {listed(list(dict.fromkeys(lost)))}")

    size = len(kept)
    live = fed[draft.elements.from_node] & fed[draft.elements.to_node]
    where = np.nonzero(live)[0]
    shunt = np.zeros(size, dtype=np.complex128)
    np.add.at(shunt, node[fed], draft.elements.node_shunt_pu[fed])
    elements = Elements(
        name=tuple(draft.elements.name[k] for k in where),
        from_node=node[draft.elements.from_node[where]],
        to_node=node[draft.elements.to_node[where]],
        impedance_pu=draft.elements.impedance_pu[where],
        from_shunt_pu=draft.elements.from_shunt_pu[where],
        to_shunt_pu=draft.elements.to_shunt_pu[where],
        ratio=draft.elements.ratio[where],
        node_shunt_pu=shunt,
    )
    v_min, v_max = np.zeros(size), np.full(size, np.inf)
    np.maximum.at(v_min, node[fed], draft.v_min[fed])
    np.minimum.at(v_max, node[fed], draft.v_max[fed])
    crossed = np.nonzero(v_min > v_max)[0]
    if crossed.size:
        raise InputError(draft.source, f"bus {draft.buses[kept[int(crossed[0])]]}", "has v_min above v_max")
    root, root_voltage = _root_nodes(draft, node)
    network = Network(
        name=draft.name,
        nodes=tuple(draft.buses[bus] for bus in kept),
        phase=np.zeros(size, dtype=np.int64),
        base_kva=draft.base_kva,
        base_kv=draft.base_kv[kept],
        admittance=admittance_matrix(elements),
        source=root,
        source_voltage=root_voltage,
        v_min=v_min,
        v_max=v_max,
        branches=Branches(
            element=elements.name + elements.name,
            node=np.concatenate([elements.from_node, elements.to_node]),
            current_rows=terminal_current_rows(elements),
            rating_pu=np.concatenate([draft.rating_from_pu[where], draft.rating_to_pu[where]]),
            kind=np.concatenate([draft.kind[where], draft.kind[where]]),
        ),
        aliases=aliases,
        not_energised=tuple(draft.buses[bus] for bus in np.nonzero(~fed)[0]),
    )
    if draft.sequences is not None:
        sequences = _take_sequences(draft, draft.sequences, where, node, fed, root)
        zero, floating = held_to_earth(network, elements, sequences)
        if floating:
            warnings.append(f"no path to earth, held by a millionth of the transformer's rating: {listed(floating)}")
        network = in_three_phases(network, elements, replace(sequences, zero=zero))
        node = np.where(np.repeat(fed, PHASES), PHASES * np.repeat(node, PHASES) + np.tile(range(PHASES), fed.size), -1)
    return Case(
        network=network,
        loads=_take_loads(draft.loads, load_fed, node),
        generators=_take_generators(draft.generators, unit_fed, node),
        root_price=draft.root_price,
        warnings=tuple(warnings),
        elements=elements if draft.sequences is None else None,
        lengths_km=draft.lengths_km,
        coordinates=None if draft.coordinates is None else draft.coordinates[kept],
    )


def _take_sequences(
    draft: Draft,
    sequences: Sequences,
    where: NDArray[np.intp],
    node: IntArray,
    fed: NDArray[np.bool_],
    root: IntArray,
) -> Sequences:
    """Of the elements at `where`, over nodes instead of buses; several roots at one node are one."""
    ground = np.zeros(int(node.max()) + 1, dtype=np.complex128)
    np.add.at(ground, node[fed], sequences.zero.ground[fed])
    at = [int(np.flatnonzero(root == node[bus])[0]) for bus in draft.root]
    negative, zero = np.zeros(root.size, dtype=np.complex128), np.zeros(root.size, dtype=np.complex128)
    names = [""] * root.size
    for k, row in enumerate(at):
        names[row] = names[row] or sequences.root_name[k]
        negative[row] += sequences.root_negative[k]
        zero[row] += sequences.root_zero[k]
    return replace(
        sequences,
        zero=sequences.zero.take(where, ground),
        root_negative=negative,
        root_zero=zero,
        root_name=tuple(names),
        rating_pu=sequences.rating_pu[where],
    )


__all__ = ["V_MAX_DEFAULT", "V_MIN_DEFAULT", "Draft", "LimitKind", "energise", "fed_buses", "listed"]
