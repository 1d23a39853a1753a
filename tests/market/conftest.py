"""Small feeders for the market's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

from tellegen.grid.network import Branches, LimitKind, Network


def make_feeder(
    parent: list[int],
    impedance_ohm: np.ndarray,
    *,
    kv: float = 0.4,
    base_kva: float = 100.0,
    rating_kva: np.ndarray | None = None,
    kind: LimitKind = LimitKind.CURRENT,
    v_min: float = 0.9,
    v_max: float = 1.1,
    source_pu: float = 1.0,
    names: list[str] | None = None,
) -> Network:
    """A tree: node k + 1 hangs on ``parent[k]`` through ``impedance_ohm[k]``; node 0 is the root."""
    size = len(parent) + 1
    admittance = kv**2 * 1e3 / base_kva / np.asarray(impedance_ohm)
    child, above = np.arange(1, size), np.asarray(parent)
    lines = sp.csr_matrix(
        (
            np.concatenate([np.ones(size - 1), -np.ones(size - 1)]),
            (np.tile(child - 1, 2), np.concatenate([above, child])),
        ),
        shape=(size - 1, size),
    )
    flow = sp.diags(admittance) @ lines
    rating = np.full(size - 1, np.inf) if rating_kva is None else np.asarray(rating_kva, dtype=float) / base_kva
    branches = Branches(
        element=tuple(f"line {k}" for k in child) * 2,
        node=np.concatenate([above, child]),
        current_rows=sp.csr_matrix(sp.vstack([flow, -flow])),
        rating_pu=np.tile(rating, 2),
        kind=np.full(2 * (size - 1), int(kind)),
    )
    return Network(
        name="feeder",
        nodes=tuple(names) if names else tuple(str(k) for k in range(size)),
        phase=np.zeros(size, dtype=np.int64),
        base_kva=base_kva,
        base_kv=np.full(size, kv),
        admittance=sp.csr_matrix(lines.T @ flow),
        source=np.array([0]),
        source_voltage=np.array([source_pu + 0j]),
        v_min=np.full(size, v_min),
        v_max=np.full(size, v_max),
        branches=branches,
    )


@pytest.fixture(scope="session")
def tree() -> Callable[..., Network]:
    """`make_feeder`."""
    return make_feeder


def in_phases(network: Network, coupling: float = 0.3) -> Network:
    """Three phases of a balanced feeder, node ``3 k + p`` for phase p + 1 of node k; each phase carries a third.

    `coupling` is the mutual impedance of two phases as a share of their own.
    """
    mutual = np.linalg.inv(np.full((3, 3), coupling) + (1 - coupling) * np.eye(3)) / 3
    branches = network.branches
    size = len(network.nodes)
    return Network(
        name=network.name,
        nodes=tuple(np.repeat(network.nodes, 3).tolist()),
        phase=np.tile([1, 2, 3], size),
        base_kva=network.base_kva,
        base_kv=np.repeat(network.base_kv, 3) / np.sqrt(3),
        admittance=sp.csr_matrix(sp.kron(network.admittance, mutual)),
        source=(3 * network.source[:, None] + np.arange(3)).ravel(),
        source_voltage=(network.source_voltage[:, None] * np.exp(-2j * np.pi / 3 * np.arange(3))).ravel(),
        v_min=np.repeat(network.v_min, 3),
        v_max=np.repeat(network.v_max, 3),
        branches=Branches(
            element=tuple(np.repeat(branches.element, 3).tolist()),
            node=(3 * branches.node[:, None] + np.arange(3)).ravel(),
            current_rows=sp.csr_matrix(sp.kron(branches.current_rows, mutual)),
            rating_pu=np.repeat(branches.rating_pu, 3) / 3,
            kind=np.repeat(branches.kind, 3),
        ),
    )


@pytest.fixture(scope="session")
def phases() -> Callable[..., Network]:
    """`in_phases`."""
    return in_phases


@pytest.fixture(scope="session")
def street() -> Callable[..., Network]:
    """A low-voltage street: a main of eight nodes with a house line of one node at every second."""

    def build(**options: object) -> Network:
        parent = [0, 1, 2, 3, 4, 5, 6, 7, 2, 4, 6, 8]
        length_km = np.array([0.1, 0.05, 0.06, 0.05, 0.07, 0.05, 0.04, 0.06, 0.02, 0.03, 0.02, 0.03])
        return make_feeder(parent, (0.32 + 0.08j) * length_km, **options)  # type: ignore[arg-type]

    return build
