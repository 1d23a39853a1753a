"""A one-line diagram of any tree can be read: nothing lies on anything else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.pictures.layout import bus_places, tree_places
from tellegen.workbench import Feeder, Topology


def topology(parent: list[int], ohm: list[float]) -> Topology:
    size = len(parent) + 1
    child = np.arange(1, size)
    above = np.array(parent, dtype=np.int64)
    distance = np.zeros(size)
    for k, p in enumerate(parent):
        distance[k + 1] = distance[p] + ohm[k]
    return Topology(
        bus=tuple(map(str, range(size))),
        bus_of_node=np.arange(size),
        root=np.array([0]),
        element=tuple(f"line {k}" for k in child),
        from_bus=above,
        to_bus=child,
        impedance_ohm=np.array(ohm),
        parent=np.concatenate([[-1], above]),
        parent_edge=np.arange(size) - 1,
        distance_ohm=distance,
    )


trees = st.integers(1, 60).flatmap(
    lambda size: st.tuples(
        st.tuples(*(st.integers(max(0, k - 6), k) for k in range(size))).map(list),
        st.lists(st.floats(1e-9, 1e3), min_size=size, max_size=size),
    )
)


@settings(max_examples=100, deadline=None)
@given(tree=trees)
def test_buses_stand_apart_and_further_out_than_their_parents(tree: tuple[list[int], list[float]]) -> None:
    way = topology(*tree)
    places = tree_places(way)
    assert len({(round(x, 6), y) for x, y in places.tolist()}) == len(way.bus)
    assert (places[1:, 0] > places[way.parent[1:], 0]).all()
    np.testing.assert_array_equal(places[0], 0.0)


@settings(max_examples=100, deadline=None)
@given(tree=trees)
def test_no_two_stretches_of_wire_share_a_row(tree: tuple[list[int], list[float]]) -> None:
    """Horizontal runs, each from its parent's x to its own, overlap in no row except on one and the same way."""
    way = topology(*tree)
    x, row = tree_places(way).T
    for at in np.unique(row):
        runs = sorted((x[way.parent[k]], x[k]) for k in np.flatnonzero(row == at) if k)
        for (_, end), (begin, _) in pairwise(runs):
            assert begin >= end - 1e-9


def test_coordinates_of_the_file_are_used_and_gaps_are_filled_between_neighbours(street: Feeder) -> None:
    assert not bus_places(street)[1]
    places = np.array([[0.0, 0], [1, 0], [2, 0], [np.nan, np.nan], [1, 1], [1, 2]])
    drawn, own = bus_places(Feeder("mapped", replace(street.case, coordinates=places)))
    assert own
    np.testing.assert_allclose(drawn[[0, 1, 2, 4, 5]], places[[0, 1, 2, 4, 5]])
    np.testing.assert_allclose(drawn[3], [2, 0])
    places[2:] = np.nan
    assert not bus_places(Feeder("half", replace(street.case, coordinates=places)))[1]


def test_a_diagram_needs_no_picture_library(street_file: Path, street: Feeder) -> None:
    """Layout is arithmetic: it runs on the base installation."""
    assert tree_places(street.topology).shape == (6, 2)
