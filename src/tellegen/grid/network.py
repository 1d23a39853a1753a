"""The network as the market sees it: nodes, admittances, limits.

One per-unit formulation serves balanced and unbalanced feeders. A *node* is one electrical point: a
bus of a balanced single-phase equivalent, or one phase of a bus of a three-phase feeder. Complex
power at a node is ``voltage * conj(current)`` in per unit of ``base_kva``, so ``kW = pu * base_kva``
in both cases (in a balanced equivalent the power of a node is the three-phase total).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.controls import Controls
from tellegen.grid.elements import Elements
from tellegen.grid.loads import LoadLaw

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


class LimitKind(IntEnum):
    """What the rating of a branch terminal limits."""

    CURRENT = 0
    APPARENT_POWER = 1


@dataclass(frozen=True, slots=True)
class Branches:
    """The terminals of lines and transformers at which a flow is measured and may be limited.

    A branch appears once per terminal (and phase). ``current_rows @ voltage`` is the per-unit
    current that enters the branch at the terminal.

    Attributes
    ----------
    element : names of the branch, one per row (``"line 3"``); rows of one branch share the name.
    node : node index of the terminal, int64[K].
    current_rows : sparse complex [K, N], per-unit admittance rows.
    rating_pu : float64[K], in per unit of base current (CURRENT) or of ``base_kva``
        (APPARENT_POWER); ``inf`` where the file gives none.
    kind : int64[K], a `LimitKind` per row.
    """

    element: tuple[str, ...]
    node: IntArray
    current_rows: sp.csr_matrix
    rating_pu: FloatArray
    kind: IntArray


@dataclass(frozen=True, slots=True)
class Network:
    """An energised network in per unit.

    Attributes
    ----------
    name : what the file calls it.
    nodes : public name of each node, as orders call it (bus name, number or index), length N.
    phase : int64[N]; 0 for balanced, else 1, 2 or 3.
    base_kva : per-unit base of power.
    base_kv : float64[N], nominal voltage per node (line to line where balanced).
    admittance : sparse complex [N, N], per unit, sources included.
    source : int64[S], nodes held at ``source_voltage`` (the root).
    source_voltage : complex128[S], per unit.
    v_min, v_max : float64[N], per-unit voltage limits (they do not bind at sources).
    branches : terminals with their currents and ratings.
    aliases : (other name, node name) of buses that a closed switch makes one node.
    root_terminals : rows of `branches` through which the root's power is metered, where the sources stand behind an
        impedance that is not the network's; None: at the sources themselves.
    """

    name: str
    nodes: tuple[str, ...]
    phase: IntArray
    base_kva: float
    base_kv: FloatArray
    admittance: sp.csr_matrix
    source: IntArray
    source_voltage: ComplexArray
    v_min: FloatArray
    v_max: FloatArray
    branches: Branches
    aliases: tuple[tuple[str, str], ...] = ()
    root_terminals: IntArray | None = None

    @property
    def balanced(self) -> bool:
        """Whether every node stands for three equal phases."""
        return not self.phase.any()

    @property
    def free(self) -> IntArray:
        """Indices of the nodes that are not sources, ascending."""
        return np.setdiff1d(np.arange(len(self.nodes)), self.source)

    def node_index(self, name: str) -> int:
        """Index of the (first) node called `name`.

        Raises
        ------
        InputError : no node has this name.
        """
        called = dict(self.aliases).get(str(name), str(name))
        try:
            return self.nodes.index(called)
        except ValueError:
            raise InputError(
                self.name, f"node '{name}'", "is not in the network; `tellegen powerflow --json` lists nodes"
            ) from None


@dataclass(frozen=True, slots=True)
class FixedLoads:
    """Inflexible demand that the file itself declares; consumption positive.

    Attributes
    ----------
    name : per row; the phases and parts of one load share its name.
    node : int64[L], where the load is connected.
    p_kw, q_kvar : float64[L], at rated voltage.
    other : int64[L], the node at its other end, -1 for ground; None: all to ground.
    law : how the rows depend on voltage; None: constant power.
    """

    name: tuple[str, ...]
    node: IntArray
    p_kw: FloatArray
    q_kvar: FloatArray
    other: IntArray | None = None
    law: LoadLaw | None = None


@dataclass(frozen=True, slots=True)
class Generators:
    """Generators that the file declares; injection positive.

    Without a cost (``has_cost`` False) a generator injects its set-point ``p_kw``, ``q_kvar``.
    With one it may be dispatched in [p_min_kw, p_max_kw] at marginal cost
    ``cost_linear + 2 * cost_quadratic * p`` (currency per kWh, p in kW), and its reactive power is
    free in [q_min_kvar, q_max_kvar].
    """

    name: tuple[str, ...]
    node: IntArray
    p_kw: FloatArray
    q_kvar: FloatArray
    p_min_kw: FloatArray
    p_max_kw: FloatArray
    q_min_kvar: FloatArray
    q_max_kvar: FloatArray
    has_cost: NDArray[np.bool_]
    cost_linear: FloatArray
    cost_quadratic: FloatArray


@dataclass(frozen=True, slots=True)
class Case:
    """What an importer returns: a network, what the file connects to it, what it warned about.

    `root_price` is the file's reference cost in currency per kWh, or None. `warnings` name every
    part of the file that was left out or approximated. `elements` are the lines and transformers
    from which a balanced importer assembled the admittance; `lengths_km` are (element, km) where the
    file says them. `controls` are the taps and capacitors that may move between periods, with what moves
    them; they stand still until `tellegen.grid.regulation` is asked. `coordinates` float64[N, 2] is where the nodes
    stand on the file's own map (x, y; NaN where it does not say), or None.
    """

    network: Network
    loads: FixedLoads
    generators: Generators
    root_price: float | None
    warnings: tuple[str, ...] = ()
    elements: Elements | None = None
    lengths_km: tuple[tuple[str, float], ...] = ()
    controls: Controls | None = None
    coordinates: FloatArray | None = None
