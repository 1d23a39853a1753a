"""Three phases from symmetrical components: what positive and zero sequence say of each element becomes phase matrices.

An element whose phases are alike has, between its two ends, one 2 x 2 admittance per sequence. With
``alpha = exp(2j pi / 3)`` and entries ``y0, y1, y2`` the phase matrix is the circulant

    Y[i, j] = (y0 + y1 alpha^(j - i) + y2 alpha^(i - j)) / 3

(Fortescue 1918). The negative sequence of a transformer is its positive one with the opposite shift.

The per-unit base of a phase is a third of the base of the file, at the voltage to ground, so that impedances, loads and
ratings of the balanced model carry over unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from tellegen.grid.elements import ComplexArray, Elements, FloatArray, IntArray, two_port
from tellegen.grid.network import Branches, LimitKind, Network

PHASES = 3
STIFFNESS = 3e6
"""Positive-sequence admittance of a root, per unit of the network's size: its bus is held to 3e-7 pu.

More would cost digits of the root's power, which is the small difference of two voltages times this.
"""
HOLD = 1e-6
"""Conductance that holds what has no path to earth, of the transformer's rating (OpenDSS: the same in reactance)."""
UNBALANCED = 1e-9
"""Share of a diagonal that a row sum exceeds where there is a path to earth."""


@dataclass(frozen=True, slots=True)
class TwoPorts:
    """Admittance of elements between their ends in one sequence, per unit, complex128[E] each; `ground` complex128[B].

    >>> line = TwoPorts.open(1, 2)
    >>> line.from_to.tolist()
    [0j]
    """

    from_from: ComplexArray
    from_to: ComplexArray
    to_from: ComplexArray
    to_to: ComplexArray
    ground: ComplexArray

    @classmethod
    def of(cls, elements: Elements) -> TwoPorts:
        """Of elements with a series impedance."""
        ff, ft, tf, tt = two_port(elements)
        return cls(ff, ft, tf, tt, elements.node_shunt_pu)

    @classmethod
    def open(cls, count: int, buses: int) -> TwoPorts:
        """Of `count` elements that conduct nothing."""
        ff, ft, tf, tt = np.zeros((4, count), dtype=np.complex128)
        return cls(ff, ft, tf, tt, np.zeros(buses, dtype=np.complex128))

    def entries(self) -> tuple[ComplexArray, ComplexArray, ComplexArray, ComplexArray]:
        """From-from, from-to, to-from, to-to."""
        return self.from_from, self.from_to, self.to_from, self.to_to

    def take(self, where: NDArray[np.intp], ground: ComplexArray) -> TwoPorts:
        """The elements at positions `where`, with another `ground`."""
        ff, ft, tf, tt = (entry[where] for entry in self.entries())
        return TwoPorts(ff, ft, tf, tt, ground)

    def joined(self, other: TwoPorts) -> TwoPorts:
        """These elements and others; both over the same buses."""
        pairs = zip(self.entries(), other.entries(), strict=True)
        ff, ft, tf, tt = (np.concatenate(pair) for pair in pairs)
        return TwoPorts(ff, ft, tf, tt, self.ground + other.ground)


@dataclass(frozen=True, slots=True)
class Sequences:
    """What a three-phase network needs besides its positive sequence.

    Attributes
    ----------
    zero : of the same elements, over the same buses.
    root_negative, root_zero : complex128[R], admittance of each root; ``inf`` where it holds that sequence, too.
    root_name : of each root, which calls the ideal nodes behind it.
    rating_pu : float64[E], of transformers, 0 for other elements.
    size_pu : of the network, by its demand or largest transformer; by it the roots are made stiff.
    """

    zero: TwoPorts
    root_negative: ComplexArray
    root_zero: ComplexArray
    root_name: tuple[str, ...]
    rating_pu: FloatArray
    size_pu: float


def phase_blocks(zero: ComplexArray, positive: ComplexArray, negative: ComplexArray) -> ComplexArray:
    """Phase matrices complex128[E, 3, 3] of sequence admittances, complex128[E] each.

    >>> phase_blocks(np.array([1 + 0j]), np.array([4 + 0j]), np.array([4 + 0j]))[0].real.round(12)
    array([[ 3., -1., -1.],
           [-1.,  3., -1.],
           [-1., -1.,  3.]])
    """
    alpha = np.exp(2j * np.pi / 3)
    step = (np.arange(PHASES)[:, None] - np.arange(PHASES)[None, :]) % PHASES
    parts = [(zero + positive * alpha**-k + negative * alpha**k) / 3 for k in range(PHASES)]
    return np.asarray(np.stack(parts, axis=-1)[:, step])


def _triplets(rows: IntArray, columns: IntArray, blocks: ComplexArray) -> tuple[IntArray, IntArray, ComplexArray]:
    """Entries of phase blocks at block positions (rows, columns)."""
    phase = np.arange(PHASES)
    at_row = np.broadcast_to((PHASES * rows)[:, None, None] + phase[None, :, None], blocks.shape)
    at_column = np.broadcast_to((PHASES * columns)[:, None, None] + phase[None, None, :], blocks.shape)
    return at_row.ravel(), at_column.ravel(), blocks.ravel()


def _matrix(parts: list[tuple[IntArray, IntArray, ComplexArray]], shape: tuple[int, int]) -> sp.csr_matrix:
    rows, columns, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = values != 0
    matrix = sp.csr_matrix((values[kept], (rows[kept], columns[kept])), shape=shape)
    matrix.sum_duplicates()
    return matrix


def held_to_earth(network: Network, elements: Elements, sequences: Sequences) -> tuple[TwoPorts, list[str]]:
    """Zero sequence with a conductance where it has no path to earth, and the names of those buses.

    A section behind a delta or a star without neutral, without line capacitance, has no voltage to earth of its own.
    """
    zero, size = sequences.zero, len(network.nodes)
    f, t = elements.from_node, elements.to_node
    diagonal, total = np.abs(zero.ground), zero.ground.copy()
    for at, own, mutual in ((f, zero.from_from, zero.from_to), (t, zero.to_to, zero.to_from)):
        np.add.at(diagonal, at, np.abs(own))
        np.add.at(total, at, own + mutual)
    earthed = np.abs(total) > UNBALANCED * diagonal
    earthed[network.source] = True
    linked = np.abs(zero.from_to) > 0
    graph = sp.coo_matrix((np.ones(int(linked.sum())), (f[linked], t[linked])), shape=(size, size))
    part = connected_components(graph, directed=False)[1]
    floating = ~np.isin(part, part[earthed])
    if not floating.any():
        return zero, []
    hold = np.zeros(size)
    for at in (f, t):
        np.add.at(hold, at, HOLD * sequences.rating_pu)
    held = np.where(floating, hold, 0.0)
    bare = np.flatnonzero(floating & ~np.isin(part, part[held > 0]))
    held[bare] = HOLD
    return replace(zero, ground=zero.ground + held), [network.nodes[k] for k in np.flatnonzero(floating)]


def in_three_phases(network: Network, elements: Elements, sequences: Sequences) -> Network:
    """The three-phase network of a balanced one.

    Node ``3 b + k`` is phase ``k + 1`` of bus b. Each root bus hangs on three ideal nodes of its own, which stand at
    the end: the positive sequence is held (to 3e-7 pu), the others see the root's short-circuit impedance.
    """
    zero = sequences.zero
    buses, roots, count = len(network.nodes), network.source.size, len(elements.name)
    positive = TwoPorts.of(elements)
    negative = TwoPorts.of(replace(elements, ratio=elements.ratio.conj()))
    ff, ft, tf, tt = (
        phase_blocks(a, b, c) for a, b, c in zip(zero.entries(), positive.entries(), negative.entries(), strict=True)
    )
    ground = phase_blocks(zero.ground, positive.ground, negative.ground)
    stiff = STIFFNESS * sequences.size_pu
    hold = np.full(roots, stiff, dtype=np.complex128)
    weak = [np.where(np.isfinite(y), y, hold) for y in (sequences.root_zero, sequences.root_negative)]
    feed = phase_blocks(weak[0], hold, weak[1])

    f, t, bus = elements.from_node, elements.to_node, network.source
    ideal = buses + np.arange(roots)
    size = PHASES * (buses + roots)
    every = np.arange(buses)
    admittance = _matrix(
        [
            *(_triplets(*part) for part in ((f, f, ff), (f, t, ft), (t, f, tf), (t, t, tt), (every, every, ground))),
            *(_triplets(*part) for part in ((ideal, ideal, feed), (ideal, bus, -feed), (bus, ideal, -feed))),
            _triplets(bus, bus, feed),
        ],
        (size, size),
    )
    at, last = np.arange(count), 2 * count + np.arange(roots)
    shape = (PHASES * (2 * count + roots), size)
    rows = _matrix(
        [
            *(_triplets(*part) for part in ((at, f, ff), (at, t, ft), (at + count, f, tf), (at + count, t, tt))),
            *(_triplets(*part) for part in ((last, bus, feed), (last, ideal, -feed))),
        ],
        shape,
    )
    terminals = network.branches
    phase = np.arange(PHASES)
    turn = np.exp(-2j * np.pi / 3 * phase)

    return Network(
        name=network.name,
        nodes=tuple(name for name in (*network.nodes, *sequences.root_name) for _ in range(PHASES)),
        phase=np.tile(phase + 1, buses + roots).astype(np.int64),
        base_kva=network.base_kva / PHASES,
        base_kv=np.repeat(np.concatenate([network.base_kv, network.base_kv[bus]]), PHASES) / np.sqrt(3.0),
        admittance=admittance,
        source=PHASES * buses + np.arange(PHASES * roots),
        source_voltage=np.outer(network.source_voltage, turn).ravel(),
        v_min=np.repeat(np.concatenate([network.v_min, np.zeros(roots)]), PHASES),
        v_max=np.repeat(np.concatenate([network.v_max, np.full(roots, np.inf)]), PHASES),
        branches=Branches(
            element=tuple(name for name in (*terminals.element, *sequences.root_name) for _ in range(PHASES)),
            node=(PHASES * np.concatenate([terminals.node, bus])[:, None] + phase).ravel(),
            current_rows=rows,
            rating_pu=np.repeat(np.concatenate([terminals.rating_pu, np.full(roots, np.inf)]), PHASES),
            kind=np.repeat(np.concatenate([terminals.kind, np.full(roots, int(LimitKind.CURRENT))]), PHASES),
        ),
        aliases=network.aliases,
        root_terminals=np.arange(PHASES * 2 * count, shape[0], dtype=np.int64),
    )
