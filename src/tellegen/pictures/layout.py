"""Where buses are drawn: on the file's map, else as a one-line diagram of the tree.

In the diagram x grows with the impedance from the root, every way keeps one height, and what branches off takes the
nearest height that is free; laterals are placed from the far end, so that those nearer to the root go further out and
cross nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.network import FloatArray, IntArray
from tellegen.workbench import Feeder, Topology

COVERED_MIN = 0.6
"""Share of buses with coordinates from which the file's map is used; the rest is put between its neighbours."""
EDGE_RANGE = (0.4, 3.0)
"""Shortest and longest edge of a diagram, in medians: closed switches must show, transformers must not dwarf cables."""
SMOOTHING_ROUNDS = 200


def bus_places(feeder: Feeder) -> tuple[FloatArray, bool]:
    """Positions of the buses, float64[B, 2], and whether they are the file's own."""
    way = feeder.topology
    if feeder.case.coordinates is not None:
        places = np.full((len(way.bus), 2), np.nan)
        shown = way.bus_of_node >= 0
        places[way.bus_of_node[shown]] = feeder.case.coordinates[shown]
        known = np.isfinite(places).all(axis=1)
        if known.mean() >= COVERED_MIN and np.ptp(places[known], axis=0).max() > 0:
            return _between(places, known, way), True
    return tree_places(way), False


def _between(places: FloatArray, known: NDArray[np.bool_], way: Topology) -> FloatArray:
    """Buses without coordinates go to the middle of their neighbours."""
    filled = np.where(known[:, None], places, np.nanmean(places, axis=0))
    if known.all():
        return filled
    degree = np.bincount(way.from_bus, minlength=len(known)) + np.bincount(way.to_bus, minlength=len(known))
    for _ in range(SMOOTHING_ROUNDS):
        total = np.zeros_like(filled)
        np.add.at(total, way.from_bus, filled[way.to_bus])
        np.add.at(total, way.to_bus, filled[way.from_bus])
        filled = np.where(known[:, None], filled, total / np.maximum(degree, 1)[:, None])
    return filled


def tree_places(way: Topology) -> FloatArray:
    """A one-line diagram of the tree: x in medians of the edges' impedance, y in rows; float64[B, 2]."""
    length = _edge_lengths(way)
    children: list[list[int]] = [[] for _ in way.bus]
    x = np.zeros(len(way.bus))
    waiting = np.flatnonzero(way.parent < 0)[::-1].tolist()
    for bus, above in enumerate(way.parent.tolist()):
        if above >= 0:
            children[above].append(bus)
    visited: list[int] = []
    while waiting:
        bus = waiting.pop()
        visited.append(bus)
        for child in children[bus]:
            x[child] = x[bus] + length[child]
            waiting.append(child)
    reach = x.copy()
    for bus in reversed(visited):
        if way.parent[bus] >= 0:
            reach[way.parent[bus]] = max(reach[way.parent[bus]], reach[bus])
    return np.stack([x, _rows(x, reach, children, way.parent)], axis=1)


def _edge_lengths(way: Topology) -> FloatArray:
    edge = way.parent_edge
    ohm = np.where(edge >= 0, way.impedance_ohm[np.maximum(edge, 0)] if way.impedance_ohm.size else 0.0, 0.0)
    used = ohm[edge >= 0]
    middle = float(np.median(used)) if used.size else 1.0
    return np.asarray(np.clip(ohm / max(middle, 1e-15), *EDGE_RANGE))


def _rows(x: FloatArray, reach: FloatArray, children: list[list[int]], parent: IntArray) -> FloatArray:
    """Row of every bus; a way and what is drawn across it never share a row at the same x."""
    taken: dict[int, list[tuple[float, float]]] = {}
    row = np.zeros(len(x))
    starts = [(k, None) for k in range(len(x)) if parent[k] < 0][::-1]
    todo: list[tuple[int, int | None]] = list(starts)
    side = 1
    while todo:
        first, above = todo.pop()
        way = [first]
        while children[way[-1]]:
            way.append(max(children[way[-1]], key=lambda bus: (reach[bus], -bus)))
        begin, end = x[first] if above is None else x[above], x[way[-1]]
        home = 0 if above is None else int(row[above])
        at = _free_row(taken, home, begin, end, side, own=above is None)
        if above is not None:
            side = -side
        taken.setdefault(at, []).append((begin, end))
        row[way] = at
        on_way = set(way)
        # The last in is placed first: ways that leave at the far end.
        for bus in way:
            todo.extend((child, bus) for child in children[bus] if child not in on_way)
    return row


def _free_row(
    taken: dict[int, list[tuple[float, float]]], home: int, begin: float, end: float, side: int, *, own: bool
) -> int:
    step = 0 if own else 1
    while True:
        for sign in (side, -side):
            at = home + sign * step
            if all(end < left - 0.2 or right + 0.2 < begin for left, right in taken.get(at, ())):
                return at
        step += 1
