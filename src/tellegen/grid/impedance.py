"""Entries of the impedance matrix where the factors of the admittance have theirs: every diagonal, most neighbours.

With ``Y = L U`` (rows and columns ordered alike) the inverse Z satisfies ``Z L = U^-1`` and ``U Z = L^-1``, which give
its entries on the pattern of L and U from the last column to the first (Takahashi, Fagan, Chin 1973)::

    Z[S, j] = -Z[S, S] L[S, j],   Z[j, S] = -U[j, S] Z[S, S] / U[j, j],   Z[j, j] = (1 - U[j, S] Z[S, j]) / U[j, j]

where S are the rows below the diagonal of L's column j. A feeder's factors are nearly as sparse as the feeder.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import SuperLU, splu

from tellegen.grid.network import ComplexArray


def impedance_entries(admittance: sp.csr_matrix) -> sp.csr_matrix | None:
    """Entries of the inverse on the pattern of the factors, complex [n, n]; None where rows had to be pivoted.

    Examples
    --------
    >>> y = sp.csc_matrix(np.array([[3.0, -1, 0], [-1, 3, -2], [0, -2, 5]]) + 0j)
    >>> z = impedance_entries(y)
    >>> bool(np.allclose(z.diagonal(), np.linalg.inv(y.toarray()).diagonal()))
    True
    """
    options = {"SymmetricMode": True}
    lu = splu(sp.csc_matrix(admittance), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    if not np.array_equal(lu.perm_r, lu.perm_c):
        return None
    lower, upper = sp.csc_matrix(lu.L), sp.csr_matrix(lu.U)
    lower.sort_indices()
    upper.sort_indices()
    size = lower.shape[0]
    starts, below, factors = lower.indptr.tolist(), lower.indices.tolist(), lower.data.tolist()
    row_starts, beside, row_factors = upper.indptr.tolist(), upper.indices.tolist(), upper.data.tolist()
    # column[j] holds Z[i, j] for i > j, row[j] holds Z[j, k] for k > j.
    column: list[dict[int, complex]] = [{} for _ in range(size)]
    row: list[dict[int, complex]] = [{} for _ in range(size)]
    diagonal = [0j] * size
    for j in range(size - 1, -1, -1):
        set_l = below[starts[j] + 1 : starts[j + 1]]
        value_l = factors[starts[j] + 1 : starts[j + 1]]
        set_u = beside[row_starts[j] + 1 : row_starts[j + 1]]
        value_u = row_factors[row_starts[j] + 1 : row_starts[j + 1]]
        pivot = row_factors[row_starts[j]]

        def entry(a: int, b: int) -> complex:
            return diagonal[a] if a == b else column[b][a] if a > b else row[a][b]

        try:
            down = {i: -sum(entry(i, k) * v for k, v in zip(set_l, value_l, strict=True)) for i in set_u}
            along = {i: -sum(v * entry(k, i) for k, v in zip(set_u, value_u, strict=True)) / pivot for i in set_l}
        except KeyError:
            return None
        column[j], row[j] = down, along
        diagonal[j] = (1.0 - sum(v * down[k] for k, v in zip(set_u, value_u, strict=True))) / pivot
    return _assemble(column, row, diagonal, lu)


def _assemble(
    column: list[dict[int, complex]], row: list[dict[int, complex]], diagonal: list[complex], lu: SuperLU
) -> sp.csr_matrix:
    size = len(diagonal)
    at_column = np.repeat(np.arange(size), [len(part) for part in column])
    at_row = np.repeat(np.arange(size), [len(part) for part in row])
    below = np.array([i for part in column for i in part], dtype=np.int64)
    beside = np.array([k for part in row for k in part], dtype=np.int64)
    data: ComplexArray = np.array(
        [*diagonal, *(v for part in column for v in part.values()), *(v for part in row for v in part.values())],
        dtype=np.complex128,
    )
    rows = np.concatenate([np.arange(size), below, at_row])
    columns = np.concatenate([np.arange(size), at_column, beside])
    known = sp.csr_matrix((data, (rows, columns)), shape=(size, size))
    # A[i, j] stands at [perm_r[i], perm_c[j]] of L U, so Z[i, j] at [perm_c[i], perm_r[j]] of its inverse.
    order = np.asarray(lu.perm_c)
    return sp.csr_matrix(known[order][:, order])
