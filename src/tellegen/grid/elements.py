"""Two-terminal elements, from which admittance and terminal currents are assembled in one place.

An element is an ideal transformer of complex ratio ``a`` at its *from* terminal, followed by a pi:
series impedance ``z`` and one shunt admittance at each end of it. Its terminal currents are

    i_from = (1/z + y_from) / |a|^2 * v_from - 1 / (z * conj(a)) * v_to
    i_to   = -1 / (z * a) * v_from + (1/z + y_to) * v_to

so that ``a = tap * exp(j * shift)`` has the meaning it has in MATPOWER and pandapower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Elements:
    """Lines, transformers and shunts of a network in per unit.

    Attributes
    ----------
    name : name of each element, length E (``"line 3"``).
    from_node, to_node : int64[E], node indices of the terminals.
    impedance_pu : complex128[E], series impedance, not zero.
    from_shunt_pu, to_shunt_pu : complex128[E], shunt admittance at each end of the pi.
    ratio : complex128[E], ideal transformer at the from terminal; 1 for a line.
    node_shunt_pu : complex128[N], admittance to ground at each node.
    """

    name: tuple[str, ...]
    from_node: IntArray
    to_node: IntArray
    impedance_pu: ComplexArray
    from_shunt_pu: ComplexArray
    to_shunt_pu: ComplexArray
    ratio: ComplexArray
    node_shunt_pu: ComplexArray


def two_port(elements: Elements) -> tuple[ComplexArray, ComplexArray, ComplexArray, ComplexArray]:
    """Entries ``(from-from, from-to, to-from, to-to)`` of the admittance of each element, each [E]."""
    series = 1.0 / elements.impedance_pu
    a = elements.ratio
    return (
        (series + elements.from_shunt_pu) / (a * a.conj()),
        -series / a.conj(),
        -series / a,
        series + elements.to_shunt_pu,
    )


def admittance_matrix(elements: Elements) -> sp.csr_matrix:
    """Sparse complex [N, N] admittance: ``admittance @ voltage`` is the current into the network.

    >>> one = np.ones(1, dtype=complex)
    >>> line = Elements(("line 0",), np.array([0]), np.array([1]), 0.5 * one, 0 * one, 0 * one, one, np.zeros(2) * 1j)
    >>> admittance_matrix(line).toarray().real
    array([[ 2., -2.],
           [-2.,  2.]])
    """
    size = elements.node_shunt_pu.size
    f, t, ground = elements.from_node, elements.to_node, np.arange(size)
    rows = np.concatenate([f, f, t, t, ground])
    columns = np.concatenate([f, t, f, t, ground])
    values = np.concatenate([*two_port(elements), elements.node_shunt_pu])
    matrix = sp.csr_matrix((values, (rows, columns)), shape=(size, size))
    matrix.sum_duplicates()
    return matrix


def terminal_current_rows(elements: Elements) -> sp.csr_matrix:
    """Sparse complex [2E, N]: per-unit current that enters each element, from-terminals first."""
    size, count = elements.node_shunt_pu.size, elements.from_node.size
    f, t, at = elements.from_node, elements.to_node, np.arange(count)
    rows = np.concatenate([at, at, at + count, at + count])
    columns = np.concatenate([f, t, f, t])
    return sp.csr_matrix((np.concatenate(two_port(elements)), (rows, columns)), shape=(2 * count, size))
