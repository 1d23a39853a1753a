"""The tree of a network: ways of least impedance, and how far along them a bus is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from tellegen.grid.network import Branches, Network
from tellegen.workbench import Feeder, Topology, load_network


def tree_network(parent: list[int], ohm: list[float], loops: list[tuple[int, int, float]] = []) -> Network:  # noqa: B006
    """Node k + 1 hangs on ``parent[k]`` through ``ohm[k]``; `loops` close rings. One ohm is one per unit."""
    ends = np.array([(p, k + 1) for k, p in enumerate(parent)] + [(a, b) for a, b, _ in loops])
    y = 1.0 / np.array(ohm + [z for _, _, z in loops], dtype=complex)
    size, count = len(parent) + 1, len(ends)
    at = np.arange(count)
    rows = np.concatenate([at, at, at + count, at + count])
    columns = np.concatenate([ends[:, 0], ends[:, 1], ends[:, 1], ends[:, 0]])
    current = csr_matrix((np.concatenate([y, -y, y, -y]), (rows, columns)), shape=(2 * count, size))
    incidence = csr_matrix((np.ones(2 * count), (np.arange(2 * count), ends.T.ravel())), shape=(2 * count, size))
    branches = Branches(
        element=tuple(f"line {k}" for k in at) * 2,
        node=ends.T.ravel(),
        current_rows=current,
        rating_pu=np.full(2 * count, np.inf),
        kind=np.zeros(2 * count, dtype=np.int64),
    )
    return Network(
        name="tree",
        nodes=tuple(f"n{k}" for k in range(size)),
        phase=np.zeros(size, dtype=np.int64),
        base_kva=1000.0,
        base_kv=np.ones(size),
        admittance=csr_matrix(incidence.T @ current),
        source=np.array([0]),
        source_voltage=np.array([1 + 0j]),
        v_min=np.full(size, 0.9),
        v_max=np.full(size, 1.1),
        branches=branches,
    )


trees = st.integers(1, 30).flatmap(
    lambda size: st.tuples(
        st.tuples(*(st.integers(0, k) for k in range(size))).map(list),
        st.lists(st.floats(1e-6, 1e3), min_size=size, max_size=size),
    )
)


@settings(max_examples=60, deadline=None)
@given(tree=trees)
def test_in_a_tree_the_distance_is_the_sum_on_the_way(tree: tuple[list[int], list[float]]) -> None:
    parent, ohm = tree
    found = Topology.of(tree_network(parent, ohm))
    assert found.parent.tolist() == [-1, *parent]
    assert found.in_tree.all()
    for bus in range(len(parent) + 1):
        way = found.path(bus)
        assert way[0] == 0
        assert found.distance_ohm[bus] == pytest.approx(sum(ohm[k - 1] for k in way[1:]))


def test_a_ring_is_opened_where_the_way_is_longest() -> None:
    found = Topology.of(tree_network([0, 1, 2], [1.0, 1.0, 1.0], [(0, 3, 0.5), (0, 1, 5.0)]))
    assert found.parent.tolist() == [-1, 0, 3, 0]
    assert found.in_tree.tolist() == [True, False, True, True, False]
    assert found.distance_ohm.tolist() == pytest.approx([0.0, 1.0, 1.5, 0.5])


def test_a_transformer_is_no_distance(street: Feeder) -> None:
    way = street.topology
    assert way.bus == ("1", "2", "3", "4", "5", "6")
    ohm = 0.4**2 / 0.1 * np.abs([0.01 + 0.04j, 0.04 + 0.015j, 0.05 + 0.02j, 0.03 + 0.01j, 0.02 + 0.01j])
    np.testing.assert_allclose(way.impedance_ohm, ohm)
    np.testing.assert_allclose(way.distance_ohm, [0, 0, ohm[1], ohm[1] + ohm[2], ohm[3], ohm[3] + ohm[4]])
    assert way.path(3) == [0, 1, 2, 3]


def test_a_bus_that_nothing_metered_reaches_has_no_distance() -> None:
    network = tree_network([0, 1], [1.0, 1.0])
    branches = network.branches
    kept = np.array([0, 2])
    alone = replace(
        network,
        branches=Branches(
            ("line 0", "line 0"),
            branches.node[kept],
            branches.current_rows[kept],
            branches.rating_pu[kept],
            branches.kind[kept],
        ),
    )
    found = Topology.of(alone)
    assert found.distance_ohm[:2].tolist() == [0.0, 1.0]
    assert np.isnan(found.distance_ohm[2])


def test_three_phases_join_by_their_positive_sequence(tmp_path: Path) -> None:
    """Line and delta-wye transformer of a script, whose z1 are known."""
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    (tmp_path / "three.dss").write_text(
        "clear\nnew circuit.three basekv=10 bus1=top phases=3\n"
        "new transformer.t phases=3 windings=2 buses=(top head) conns=(delta wye) kvs=(10 0.4) kvas=(100 100)\n"
        "~ xhl=4 %rs=(0 0)\n"
        "new linecode.c nphases=3 r1=0.3 x1=0.4 r0=1.2 x0=1.6 c1=0 c0=0 units=km\n"
        "new line.a bus1=head bus2=end linecode=c length=2 units=km\n"
        "new load.a bus1=end phases=3 kv=0.4 kw=2\n"
        "set voltagebases=[10 0.4]\ncalcvoltagebases\nsolve\n"
    )
    feeder = load_network(tmp_path / "three.dss")
    elements = {row["element"]: row for row in feeder.elements.iter_rows(named=True)}
    assert elements["line.a"]["impedance_ohm"] == pytest.approx(2 * 0.5)
    assert elements["transformer.t"]["impedance_ohm"] == pytest.approx(0.04 * 0.4**2 / 0.1, rel=1e-4)
    assert elements["transformer.t"]["from_node"] == "top"
    assert feeder.nodes.filter(node="end")["distance_ohm"].to_list() == pytest.approx([1.0] * 3)
