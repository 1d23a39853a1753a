"""From what a file connects to the network's nodes to the `Draw` that the power flow solves."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from tellegen.errors import InputError
from tellegen.grid.loads import GROUND, Draw, LoadLaw
from tellegen.grid.network import ComplexArray, FixedLoads, IntArray, Network


def with_plain_loads(network: Network, demand_kva: ComplexArray, loads: FixedLoads | None) -> ComplexArray:
    """Demand of the nodes, complex128[N], with those `loads` that are constant power to ground."""
    demand = np.asarray(demand_kva, dtype=np.complex128)
    if loads is None or loads.law is not None or loads.other is not None:
        return demand
    demand = demand.copy()
    np.add.at(demand, loads.node, loads.p_kw + 1j * loads.q_kvar)
    return demand


def connect(network: Network, free: IntArray, demand_kva: ComplexArray, loads: FixedLoads | None) -> Draw:
    """Demand of the free nodes and the connections that load them, per unit.

    Parameters
    ----------
    free : int64[n], nodes that are not sources.
    demand_kva : complex128[N], constant power to ground, from `with_plain_loads`.
    loads : the same as there.

    Returns
    -------
    Draw. The voltage of a connection is per unit of the base of its first node.

    Raises
    ------
    InputError : a connection ends at a source.
    """
    load = demand_kva[free] / network.base_kva
    if loads is None or loads.node.size == 0 or (loads.other is None and loads.law is None):
        return Draw(load)
    power = np.asarray(loads.p_kw + 1j * loads.q_kvar, dtype=np.complex128) / network.base_kva
    count, size = loads.node.size, len(network.nodes)
    other = np.full(count, GROUND, dtype=np.int64) if loads.other is None else loads.other
    held = np.flatnonzero(np.isin(loads.node, network.source) | np.isin(other, network.source))
    if held.size:
        raise InputError(
            network.name, loads.name[int(held[0])], "ends at a source, where only constant power is served"
        )
    row = np.arange(count)
    pair = np.flatnonzero(other != GROUND)
    scale = network.base_kv[other[pair]] / network.base_kv[loads.node[pair]]
    incidence = sp.csr_matrix(
        (
            np.concatenate([np.ones(count), -scale]),
            (np.concatenate([loads.node, other[pair]]), np.concatenate([row, pair])),
        ),
        shape=(size, count),
    )
    return Draw(
        load=load,
        incidence=sp.csr_matrix(incidence[free]),
        power=power,
        law=loads.law if loads.law is not None else _constant_power(count),
    )


def _constant_power(count: int) -> LoadLaw:
    one, none = np.ones(count), np.zeros(count)
    return LoadLaw(one, none, none, none, none, none, np.full(count, np.inf))
