"""What each element of a network is between its two ends, read back from its terminal admittances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.grid.network import ComplexArray, Network

SAME_BASE = 1e-6
"""Nominal voltages that differ by less are one level."""
NO_LINES = ("transformer.", "reactor.", "trafo ")
"""How importers call what has a level on both sides and yet is no line (regulators, chokes)."""


@dataclass(frozen=True, slots=True)
class Span:
    """An element between two buses.

    Attributes
    ----------
    name : of the element.
    from_bus, to_bus : names of its ends (the first two of a transformer of more windings).
    from_node, to_node : nodes of its conductors at each end, in their order.
    line_kv : nominal voltage line to line at the from end.
    line : whether both ends are of one voltage level, and the element is neither transformer nor reactor.
    impedance_ohm : series impedance per phase (positive sequence of several conductors); None for transformers and
        for what has no through path.
    """

    name: str
    from_bus: str
    to_bus: str
    from_node: tuple[int, ...]
    to_node: tuple[int, ...]
    line_kv: float
    line: bool
    impedance_ohm: complex | None


def root_elements(network: Network) -> set[str]:
    """Names of the impedances behind which the sources stand."""
    if network.root_terminals is None:
        return set()
    return {network.branches.element[k] for k in network.root_terminals.tolist()}


def spans(network: Network) -> list[Span]:
    """The elements of a network that lie between two nodes; shunts are left out."""
    branches = network.branches
    rows: dict[str, list[int]] = {}
    for k, name in enumerate(branches.element):
        rows.setdefault(name, []).append(k)
    feeds = root_elements(network)
    found = []
    for name, own in rows.items():
        ends: dict[str, list[int]] = {}
        at = branches.node[own]
        if len(own) == 2 and network.nodes[at[0]] == network.nodes[at[1]]:
            # A balanced element that a closed switch bypasses has both ends at one node.
            ends = {"": [own[0]], " ": [own[1]]}
        else:
            for row, node in zip(own, at.tolist(), strict=True):
                ends.setdefault(network.nodes[node], []).append(row)
        if len(ends) < 2 or name in feeds:
            continue
        first, second = list(ends.values())[:2]
        a, b = branches.node[first], branches.node[second]
        level = float(network.base_kv[a[0]])
        line = abs(level - float(network.base_kv[b[0]])) <= SAME_BASE * level and not name.startswith(NO_LINES)
        found.append(
            Span(
                name=name,
                from_bus=network.nodes[a[0]],
                to_bus=network.nodes[b[0]],
                from_node=tuple(a.tolist()),
                to_node=tuple(b.tolist()),
                line_kv=level * (1.0 if network.balanced else np.sqrt(3.0)),
                line=line,
                impedance_ohm=_series_ohm(network, np.array(first), b, level) if line and len(a) == len(b) else None,
            )
        )
    return found


def _series_ohm(network: Network, rows: np.ndarray, far: np.ndarray, level_kv: float) -> complex | None:
    """Series impedance of a line from the admittance between its ends: own less mutual."""
    mutual: ComplexArray = -network.branches.current_rows[rows][:, far].toarray()
    if not np.isfinite(mutual).all() or np.linalg.matrix_rank(mutual) < len(rows):
        return None
    impedance = np.linalg.inv(mutual)
    own = complex(np.trace(impedance)) / len(rows)
    if len(rows) > 1:
        own -= (complex(impedance.sum()) - complex(np.trace(impedance))) / (len(rows) * (len(rows) - 1))
    return own * level_kv**2 * 1000.0 / network.base_kva
