"""How the buses of a network hang together: edges with their impedance, and the tree of shortest ways to the root."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra

from tellegen.grid import Network
from tellegen.grid.network import FloatArray, IntArray

IMPEDANCE_PU_MIN = 1e-12
"""Closed switches have next to none; zero would be no edge at all to a sparse graph."""
SAME_VOLTAGE = 0.05
"""Buses whose nominal voltages differ by a smaller share are joined by a line (or a regulator), not a transformer."""


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """Buses and what joins them.

    The way from the root to a bus is the one of least impedance in per unit. How far a bus is along it, `distance_ohm`,
    counts lines alone, each in ohm at its own voltage, as a stand-in for their length: referred to one voltage, the
    last service transformer would dwarf all lines before it.

    Attributes
    ----------
    bus : name of each of the B buses; ideal nodes behind a source's impedance are none.
    bus_of_node : int64[N], bus of each node of the network, -1 for those ideal nodes.
    root : int64[R], buses at which the root stands.
    element : name of each of the M edges; a transformer of three windings is two edges.
    from_bus, to_bus : int64[M].
    impedance_ohm : float64[M], positive-sequence magnitude at the lower of its nominal voltages.
    parent : int64[B], next bus towards the root, -1 at the root.
    parent_edge : int64[B], the edge that leads there, -1 at the root.
    distance_ohm : float64[B], impedance of the lines from the root, 0 there; NaN for what no edge reaches.
    """

    bus: tuple[str, ...]
    bus_of_node: IntArray
    root: IntArray
    element: tuple[str, ...]
    from_bus: IntArray
    to_bus: IntArray
    impedance_ohm: FloatArray
    parent: IntArray
    parent_edge: IntArray
    distance_ohm: FloatArray

    @property
    def in_tree(self) -> NDArray[np.bool_]:
        """Whether an edge is on the shortest way of some bus, bool[M]; the others close loops."""
        used = np.zeros(len(self.element), dtype=np.bool_)
        used[self.parent_edge[self.parent_edge >= 0]] = True
        return used

    def path(self, bus: int) -> list[int]:
        """Buses from the root to `bus`, both included."""
        way = [bus]
        while self.parent[way[-1]] >= 0:
            way.append(int(self.parent[way[-1]]))
        return way[::-1]

    @classmethod
    def of(cls, network: Network) -> Topology:
        """Topology of a network.

        The impedance of an edge is one over the largest singular value of the admittance between its ends: exact for
        a balanced element, the positive sequence of a transposed three-phase one, whatever its connection.
        """
        hidden = set(network.source.tolist()) if network.root_terminals is not None else set()
        place: dict[str, int] = {}
        bus_of_node = np.array(
            [-1 if k in hidden else place.setdefault(name, len(place)) for k, name in enumerate(network.nodes)],
            dtype=np.int64,
        )
        at_root = network.source if network.root_terminals is None else network.branches.node[network.root_terminals]
        root = np.unique(bus_of_node[at_root])
        kv = np.zeros(len(place))
        kv[bus_of_node[bus_of_node >= 0]] = network.base_kv[bus_of_node >= 0]
        name, ends, impedance_pu = _edges(network, bus_of_node)
        nearest: dict[tuple[int, int], int] = {}
        for k, (a, b) in enumerate(ends.tolist()):
            pair = (min(a, b), max(a, b))
            if pair not in nearest or impedance_pu[k] < impedance_pu[nearest[pair]]:
                nearest[pair] = k
        kept = list(nearest.values())
        graph = sp.csr_matrix((impedance_pu[kept], (ends[kept, 0], ends[kept, 1])), shape=(len(place), len(place)))
        _, before, _ = dijkstra(graph, directed=False, indices=root, return_predecessors=True, min_only=True)
        parent = np.where(before >= 0, before, -1).astype(np.int64)
        edge = [-1 if p < 0 else nearest[min(p, b), max(p, b)] for b, p in enumerate(parent.tolist())]
        parent_edge = np.array(edge, dtype=np.int64)
        ohm = impedance_pu * np.minimum(kv[ends[:, 0]], kv[ends[:, 1]]) ** 2 * 1000.0 / network.base_kva
        is_line = np.abs(kv[ends[:, 0]] / kv[ends[:, 1]] - 1.0) < SAME_VOLTAGE
        return cls(
            bus=tuple(place),
            bus_of_node=bus_of_node,
            root=root,
            element=name,
            from_bus=ends[:, 0],
            to_bus=ends[:, 1],
            impedance_ohm=ohm,
            parent=parent,
            parent_edge=parent_edge,
            distance_ohm=_along(root, parent, parent_edge, np.where(is_line, ohm, 0.0)),
        )


def _along(root: IntArray, parent: IntArray, parent_edge: IntArray, length: FloatArray) -> FloatArray:
    """Sum of `length` over the edges from the root to every bus; NaN where there is no way."""
    distance = np.full(parent.size, np.nan)
    distance[root] = 0.0
    for bus in range(parent.size):
        way = [bus]
        while np.isnan(distance[way[-1]]) and parent[way[-1]] >= 0:
            way.append(int(parent[way[-1]]))
        for nearer, further in zip(way[::-1], way[-2::-1], strict=False):
            distance[further] = distance[nearer] + length[parent_edge[further]]
    return distance


def _edges(network: Network, bus_of_node: IntArray) -> tuple[tuple[str, ...], IntArray, FloatArray]:
    """Names, buses (int64[M, 2]) and impedances (per unit) of what joins two buses."""
    branches = network.branches
    number: dict[str, int] = {}
    element = np.array([number.setdefault(name, len(number)) for name in branches.element], dtype=np.int64)
    entries = sp.coo_matrix(branches.current_rows)
    row_bus, column_bus = bus_of_node[branches.node[entries.row]], bus_of_node[entries.col]
    across = (row_bus >= 0) & (column_bus >= 0) & (row_bus != column_bus) & (entries.data != 0)
    blocks: dict[tuple[int, int, int], list[tuple[int, int, complex]]] = {}
    for row, column, value, a, b in zip(
        entries.row[across].tolist(),
        entries.col[across].tolist(),
        entries.data[across].tolist(),
        row_bus[across].tolist(),
        column_bus[across].tolist(),
        strict=True,
    ):
        blocks.setdefault((int(element[row]), a, b), []).append((row, column, value))
    names = list(number)
    label: list[str] = []
    ends: list[tuple[int, int]] = []
    impedance: list[float] = []
    first_end: dict[int, int] = {}
    for row, which in enumerate(element.tolist()):
        first_end.setdefault(which, int(bus_of_node[branches.node[row]]))
    for (which, a, b), block in blocks.items():
        if a != first_end[which]:
            continue  # seen from its other end
        label.append(names[which])
        ends.append((a, b))
        impedance.append(max(1.0 / _largest_singular_value(block), IMPEDANCE_PU_MIN))
    return tuple(label), np.array(ends, dtype=np.int64).reshape(-1, 2), np.array(impedance, dtype=np.float64)


def _largest_singular_value(block: list[tuple[int, int, complex]]) -> float:
    if len(block) == 1:
        return abs(block[0][2])
    rows = {row: k for k, row in enumerate(sorted({row for row, _, _ in block}))}
    columns = {column: k for k, column in enumerate(sorted({column for _, column, _ in block}))}
    matrix = np.zeros((len(rows), len(columns)), dtype=np.complex128)
    for row, column, value in block:
        matrix[rows[row], columns[column]] += value
    return float(np.linalg.norm(matrix, 2))
