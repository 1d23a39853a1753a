"""Sparse elimination in an order fixed once per network, for matrices whose pattern never changes.

The power flow solves with the admittance matrix ``Y`` and with its real-linear Jacobian ``dv -> F dv + C conj(dv)``:
over and over, with new values, always between the same nodes. A feeder is nearly a tree, so eliminating its leaves
first fills in next to nothing, and a passive network needs no pivoting beyond the 2x2 block of a node. A `Plan` holds
the order and the pattern of the factors; an `Elimination` the factors of one matrix.

Two engines eliminate. SuperLU pivots and finds its pattern anew each time. The compiled loops of
`tellegen.grid.sweeps` do neither and are about eight times as fast; but they need numba (extra `fast`), which takes
a second or two to load, so a program that clears once does without. Who factorises says which engine to use;
`best_engine` tells the fastest that is installed. What the loops eliminate is tried on one right side: where a pivot
vanishes or the trial's backward error is above `BACKWARD_ERROR_LIMIT`, SuperLU takes over, and `Elimination.engine`
says so. Minimum degree: Liu, ACM TOMS 11 (1985).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import SuperLU, splu

from tellegen.errors import TellegenError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

BACKWARD_ERROR_LIMIT = 1e-11
"""Largest residual of the trial, a share of ``|A| |x| + |b|`` in each row; stable ones show 1e-16 to 1e-13."""


COLUMNS_APART = 8
"""Right sides from which a complex elimination solves as one of 2x2 blocks."""


class SingularMatrixError(TellegenError):
    """A matrix has no inverse."""


class MissingEngineError(TellegenError):
    """An engine is asked for that is not installed."""


class Engine(StrEnum):
    """Who eliminates; the sweeps need numba (extra ``fast``)."""

    SWEEPS = "sweeps"
    SUPERLU = "superlu"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Order and pattern of the factors of all matrices on one graph.

    Values of a matrix on the graph, fill included, stand in one array: n diagonals in elimination order, then the
    E entries of the strict lower triangle by column, then the E of the strict upper triangle by row.

    Attributes
    ----------
    order : int64[n], the node eliminated k-th; place : int64[n], its inverse.
    start : int64[n + 1], row : int64[E], columns of the strict lower triangle, rows ascending.
    update : int64[], for each column and each pair of its entries, the entry of the triangles that they update.
    """

    order: IntArray
    place: IntArray
    start: IntArray
    row: IntArray
    update: IntArray

    @property
    def size(self) -> int:
        """Nodes."""
        return int(self.order.size)

    @property
    def values(self) -> int:
        """Length of an array of values: ``n + 2 E``."""
        return int(self.order.size + 2 * self.row.size)

    def positions(self, row: IntArray, column: IntArray) -> IntArray:
        """Where the entries (row, column) of a matrix in the network's order stand among the values.

        Raises
        ------
        KeyError : two nodes of an entry are not joined in the plan's graph.
        """
        i, j = self.place[np.asarray(row)], self.place[np.asarray(column)]
        low, high = np.minimum(i, j), np.maximum(i, j)
        key = np.repeat(np.arange(self.size), np.diff(self.start)) * self.size + self.row
        wanted = low * self.size + high
        found = np.searchsorted(key, wanted)
        known = (i == j) | (np.append(key, -1)[found] == wanted)
        if not known.all():
            first = int(np.argmin(known))
            raise KeyError(f"nodes {int(np.ravel(row)[first])} and {int(np.ravel(column)[first])} are not joined")
        triangle = self.size + np.where(i > j, 0, self.row.size)
        where: IntArray = np.where(i == j, i, triangle + found)
        return where

    def coordinates(self) -> tuple[IntArray, IntArray]:
        """Places (row, column) in elimination order of all values."""
        diagonal, column = np.arange(self.size), np.repeat(np.arange(self.size), np.diff(self.start))
        return np.concatenate([diagonal, self.row, column]), np.concatenate([diagonal, column, self.row])


def plan_elimination(graph: sp.spmatrix, pairs: IntArray | None = None) -> Plan:
    """Order the nodes of a graph so that elimination fills in little, and find the pattern of the factors.

    Parameters
    ----------
    graph : sparse [n, n]; stored entries join nodes, in both directions.
    pairs : int64[P, 2], further nodes that are joined, such as the ends of loads between nodes.

    Examples
    --------
    A chain of three nodes needs no fill: two entries below the diagonal.

    >>> plan = plan_elimination(sp.csr_matrix(np.array([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]])))
    >>> plan.size, plan.values
    (3, 7)
    """
    joined = sp.coo_matrix(graph)
    size = int(joined.shape[0])
    ends = np.zeros((0, 2), dtype=np.int64) if pairs is None else np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    one = np.concatenate([joined.row, ends[:, 0]]).astype(np.int64)
    other = np.concatenate([joined.col, ends[:, 1]]).astype(np.int64)
    apart = one != other
    one, other = one[apart], other[apart]
    whole = sp.csc_matrix(
        (np.ones(2 * one.size), (np.concatenate([one, other]), np.concatenate([other, one]))), shape=(size, size)
    )
    whole.data[:] = 1.0
    # Dominant, so that SuperLU keeps to the order it chose.
    dominant = (whole + (size + 1.0) * sp.identity(size)).tocsc()
    order = np.argsort(splu(dominant, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).perm_c)
    place = np.empty(size, dtype=np.int64)
    place[order] = np.arange(size)
    ordered = sp.csc_matrix(whole[order][:, order])
    start, row = _fill(ordered)
    return Plan(order.astype(np.int64), place, start, row, _updates(start, row))


def _fill(ordered: sp.csc_matrix) -> tuple[IntArray, IntArray]:
    """Columns of the factor's strict lower triangle: a node's later neighbours, and those of its children."""
    size = int(ordered.shape[0])
    columns: list[set[int]] = []
    children: list[list[int]] = [[] for _ in range(size)]
    indptr, indices = ordered.indptr.tolist(), ordered.indices.tolist()
    for k in range(size):
        later = {i for i in indices[indptr[k] : indptr[k + 1]] if i > k}
        for child in children[k]:
            later |= columns[child]
        later.discard(k)
        columns.append(later)
        if later:
            children[min(later)].append(k)
    start = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    row = np.fromiter((i for column in columns for i in sorted(column)), dtype=np.int64, count=int(start[-1]))
    return start, row


def _updates(start: IntArray, row: IntArray) -> IntArray:
    """Entry (row[f], row[e]) for each pair e < f of each column, in the order in which the sweeps need them."""
    size = start.size - 1
    column = np.repeat(np.arange(size), np.diff(start))
    key = column * size + row
    behind = start[column + 1] - np.arange(row.size) - 1
    first = np.repeat(np.arange(row.size), behind)
    begin = np.concatenate([[0], np.cumsum(behind)])[:-1]
    second = first + 1 + np.arange(first.size) - np.repeat(begin, behind)
    return np.asarray(np.searchsorted(key, row[first] * size + row[second]), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Elimination:
    """Factors of one matrix, complex or real-linear, on a plan's graph.

    Attributes
    ----------
    plan : order and pattern.
    engine : who eliminated; SuperLU where numba is missing or elimination without pivoting lost accuracy.
    backward_error : of the trial, largest row of ``|A x - b| / (|A| |x| + |b|)``; NaN under SuperLU, which pivots.
    """

    plan: Plan
    engine: Engine
    backward_error: float
    _factors: ComplexArray | FloatArray
    _lu: SuperLU | None = None

    @property
    def paired(self) -> bool:
        """Whether the matrix is real-linear: one 2x2 block an entry."""
        return self._factors.ndim == 2

    def solve(self, right: ComplexArray, *, transposed: bool = False) -> ComplexArray:
        """Solve for complex right sides [n] or [n, m].

        Parameters
        ----------
        right : in the network's order.
        transposed : solve with the transpose: of the complex matrix, or of the real one, that is the adjoint
            ``F^H w + C^T conj(w)`` of ``F dv + C conj(dv)``.
        """
        wide = np.ascontiguousarray(right, dtype=np.complex128)
        columns = wide[:, None] if wide.ndim == 1 else wide
        if self._lu is not None:
            solution = self._pivoted(columns, transposed)
        else:
            solution = self._swept(columns, transposed)
        return solution[:, 0] if wide.ndim == 1 else solution

    def triangles(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """What the sweeps go through: inverse diagonal and strict triangles of ``A = L D U``."""
        return _parts(self.plan, self._factors)

    def _swept(self, right: ComplexArray, transposed: bool) -> ComplexArray:
        plan, solution = self.plan, np.empty_like(right)
        # Many complex right sides go faster with real and imaginary parts apart.
        apart = self.paired or right.shape[1] >= COLUMNS_APART
        diagonal, lower, upper = self.triangles()
        if apart and not self.paired:
            diagonal, lower, upper = blocks(diagonal), blocks(lower), blocks(upper)
        if transposed:
            lower, upper = upper, lower
        if apart:
            turned = transposed and self.paired
            _sweeps().solve_blocks(plan.order, plan.start, plan.row, diagonal, lower, upper, turned, right, solution)
        else:
            _sweeps().solve_complex(plan.order, plan.start, plan.row, diagonal, lower, upper, right, solution)
        return solution

    def _pivoted(self, right: ComplexArray, transposed: bool) -> ComplexArray:
        plan, way = self.plan, "T" if transposed else "N"
        ordered, lu = right[plan.order], self._lu
        assert lu is not None
        if not self.paired:
            return np.ascontiguousarray(lu.solve(ordered, trans=way)[plan.place])
        stacked = np.stack([ordered.real, ordered.imag], axis=1).reshape(2 * plan.size, -1)
        solved = lu.solve(stacked, trans=way).reshape(plan.size, 2, -1)
        return np.ascontiguousarray((solved[:, 0] + 1j * solved[:, 1])[plan.place])


def eliminate(plan: Plan, values: ComplexArray | FloatArray, *, engine: Engine = Engine.SUPERLU) -> Elimination:
    """Factorise one matrix.

    Parameters
    ----------
    plan : whose graph joins the matrix's nodes.
    values : complex128[n + 2 E], or float64[n + 2 E, 4] for 2x2 blocks ``a, b, c, d`` of a real-linear map, in the
        order that `Plan` describes; see `blocks` and `mirrored_blocks`.
    engine : asked for. Sweeps that are not accurate give way to SuperLU.

    Raises
    ------
    SingularMatrixError : the matrix has no inverse. MissingEngineError : the sweeps are asked for and not installed.

    Examples
    --------
    >>> matrix = sp.csr_matrix(np.array([[4 + 1j, -1, 0], [-1, 3, -2], [0, -2, 5j]]))
    >>> plan = plan_elimination(matrix)
    >>> values = np.zeros(plan.values, dtype=complex)
    >>> rows, columns = matrix.nonzero()
    >>> values[plan.positions(rows, columns)] = matrix.data
    >>> x = eliminate(plan, values).solve(np.array([1, 2, 3j]))
    >>> bool(np.abs(matrix @ x - np.array([1, 2, 3j])).max() < 1e-14)
    True
    """
    if engine is Engine.SWEEPS:
        factors = values.copy()
        diagonal, lower, upper = _parts(plan, factors)
        kernel = _sweeps().eliminate_blocks if factors.ndim == 2 else _sweeps().eliminate_complex
        if kernel(plan.start, plan.row, plan.update, diagonal, lower, upper) < 0:
            found = Elimination(plan, Engine.SWEEPS, 0.0, factors)
            error = _backward_error(plan, values, found)
            if error <= BACKWARD_ERROR_LIMIT:
                return Elimination(plan, Engine.SWEEPS, error, factors)
    return _pivoting(plan, values)


def blocks(values: ComplexArray) -> FloatArray:
    """The 2x2 blocks of multiplication by complex numbers, float64[k, 4]."""
    real, imag = np.real(values), np.imag(values)
    return np.stack([real, -imag, imag, real], axis=-1)


def mirrored_blocks(values: ComplexArray) -> FloatArray:
    """The 2x2 blocks of multiplication of the conjugate by complex numbers, float64[k, 4]."""
    real, imag = np.real(values), np.imag(values)
    return np.stack([real, imag, imag, -real], axis=-1)


@cache
def best_engine() -> Engine:
    """The fastest engine that is installed; the sweeps are loaded, or compiled if they never were."""
    try:
        _load_all()
    except MissingEngineError:
        return Engine.SUPERLU
    return Engine.SWEEPS


def _load_all() -> None:
    """Call each loop once, so that no clearing waits for one."""
    plan = plan_elimination(sp.csr_matrix(np.array([[2.0, 1.0], [1.0, 2.0]])))
    values = np.array([2.0, 2.0, 1.0, 1.0], dtype=np.complex128)
    one, none = np.ones(2, dtype=np.complex128), np.zeros(0)
    for matrix in (blocks(values), values):
        found = eliminate(plan, matrix, engine=Engine.SWEEPS)
        for columns in (1, COLUMNS_APART):
            found.solve(np.ones((2, columns), dtype=np.complex128))
    # Only now, so that an import error means that numba is missing.
    from tellegen.grid.contraction import contract

    begin, nowhere, law = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((7, 0))
    power, start = none.astype(np.complex128), one.copy()
    loop: Callable[..., Any] = contract
    loop(
        plan.start,
        plan.row,
        *found.triangles(),
        one,
        one,
        one.real.copy(),
        begin,
        nowhere,
        none,
        power,
        law,
        start,
        1.0,
        1.0,
        1,
    )


def _sweeps() -> ModuleType:
    # Importing numba takes longer than many a command.
    try:
        from tellegen.grid import sweeps
    except ImportError as error:
        raise MissingEngineError(
            "engine 'sweeps' needs numba; install the extra 'fast' or ask for 'superlu'"
        ) from error
    return sweeps


def _parts(plan: Plan, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Views of the diagonals, the lower and the upper triangle."""
    size, entries = plan.size, plan.row.size
    return values[:size], values[size : size + entries], values[size + entries :]


@lru_cache(maxsize=64)
def _trial(size: int) -> ComplexArray:
    """A right side with no symmetry and no zero, in elimination order."""
    return np.asarray(np.exp(1j * (np.arange(size) + 0.5)), dtype=np.complex128)


def _backward_error(plan: Plan, values: ComplexArray | FloatArray, found: Elimination) -> float:
    kernels = _sweeps()
    kernel = kernels.residual_blocks if values.ndim == 2 else kernels.residual_complex
    right = _trial(plan.size)
    solution = found.solve(right[plan.place])[plan.order]
    return float(kernel(plan.start, plan.row, *_parts(plan, values), solution, right))


def _pivoting(plan: Plan, values: ComplexArray | FloatArray) -> Elimination:
    gather, indices, indptr = _columns(plan, values.ndim == 2)
    size = indptr.size - 1
    matrix = sp.csc_matrix((values.ravel()[gather], indices, indptr), shape=(size, size))
    try:
        lu = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.01, options={"SymmetricMode": True})
    except RuntimeError as error:
        raise SingularMatrixError("the matrix has no inverse") from error
    return Elimination(plan, Engine.SUPERLU, float("nan"), values, lu)


@lru_cache(maxsize=16)
def _columns(plan: Plan, paired: bool) -> tuple[IntArray, NDArray[np.int32], NDArray[np.int32]]:
    """Compressed columns of the whole matrix: which value (or number of a block) stands where."""
    row, column = plan.coordinates()
    if paired:
        row = np.stack([2 * row, 2 * row, 2 * row + 1, 2 * row + 1], axis=1).ravel()
        column = np.stack([2 * column, 2 * column + 1, 2 * column, 2 * column + 1], axis=1).ravel()
    size = 2 * plan.size if paired else plan.size
    gather = np.lexsort((row, column))
    indptr = np.searchsorted(column[gather], np.arange(size + 1))
    return gather, row[gather].astype(np.int32), indptr.astype(np.int32)
