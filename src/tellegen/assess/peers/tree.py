"""A one-phase radial network as the list of branches that branch-flow formulations are written in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order

from tellegen.grid.network import ComplexArray, FloatArray, IntArray, LimitKind, Network

RECIPROCAL = 1e-9
"""Relative difference of the two mutual admittances of a branch above which it shifts phase."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Node by node the branch that feeds it; per unit; index 0..N-1 as the network's nodes.

    Attributes
    ----------
    parent : int64[N], -1 at the root.
    impedance : complex128[N] of the branch above, 0 at the root.
    shunt : complex128[N], admittance to ground; taps and line charging are in it (every reciprocal two-port is a pi).
    current_max : float64[N], on the branch above; inf without a rating.
    power_max_parent, power_max_child : float64[N], apparent power at either end of it.
    """

    parent: IntArray
    impedance: ComplexArray
    shunt: ComplexArray
    current_max: FloatArray
    power_max_parent: FloatArray
    power_max_child: FloatArray


def tree_of(network: Network) -> Tree | str:
    """The tree of a network, or in words why it is none.

    >>> from tellegen.grid.network import Branches
    >>> y = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.9), np.full(2, 1.1), line)
    >>> tree = tree_of(net)
    >>> tree.parent.tolist(), tree.impedance.real.tolist()
    ([-1, 0], [0.0, 0.1])
    """
    size = len(network.nodes)
    if not network.balanced:
        return "it has more than one phase"
    if network.source.size != 1 or network.root_terminals is not None:
        return "it does not have one ideal source"
    y = sp.coo_matrix(network.admittance)
    y.sum_duplicates()
    mutual = sp.csr_matrix((y.data[y.row != y.col], (y.row[y.row != y.col], y.col[y.row != y.col])), shape=(size, size))
    mutual.eliminate_zeros()
    if mutual.nnz != 2 * (size - 1):
        return "it is meshed"
    if abs(mutual - mutual.T).max() > RECIPROCAL * abs(mutual).max():
        return "it has a phase shift"
    root = int(network.source[0])
    order, above = breadth_first_order(abs(mutual), root, directed=False)
    if order.size != size:
        return "part of it hangs on no source"
    parent = above.astype(np.int64)
    parent[root] = -1
    below = np.setdiff1d(np.arange(size), [root])
    impedance = np.zeros(size, dtype=np.complex128)
    impedance[below] = -1.0 / np.asarray(mutual[below, parent[below]]).ravel()
    shunt = np.asarray(sp.csr_matrix(network.admittance).sum(axis=1)).ravel().astype(np.complex128)
    shunt[np.abs(shunt) < RECIPROCAL * np.abs(network.admittance.diagonal())] = 0.0
    limits = _ratings(network, parent, impedance)
    return limits if isinstance(limits, str) else Tree(parent, impedance, shunt, *limits)


def _ratings(network: Network, parent: IntArray, impedance: ComplexArray) -> tuple[FloatArray, ...] | str:
    """Ratings of the branch above each node: of its current, and of its power at either end."""
    size, branches = len(network.nodes), network.branches
    most = [np.full(size, np.inf) for _ in range(3)]
    rows = sp.csr_matrix(branches.current_rows)
    for k in np.flatnonzero(np.isfinite(branches.rating_pu) & (branches.rating_pu > 0)):
        row = rows[k]
        near = int(branches.node[k])
        far = [int(n) for n in row.indices[row.data != 0] if n != near]
        if len(far) != 1:
            return f"{branches.element[k]} is rated and is no branch between two nodes"
        child = near if parent[near] == far[0] else far[0]
        series = 1.0 / impedance[child]
        if np.abs(row.toarray()[0, [near, far[0]]] - [series, -series]).max() > 1e-6 * abs(series):
            return f"{branches.element[k]} is rated and has line charging, taps or a parallel"
        place = 0 if branches.kind[k] == LimitKind.CURRENT else (2 if near == child else 1)
        most[place][child] = min(most[place][child], float(branches.rating_pu[k]))
    return tuple(most)
