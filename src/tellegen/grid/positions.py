"""A case with its taps and capacitors at other positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from tellegen.grid.controls import Controls
from tellegen.grid.network import Case, ComplexArray, IntArray
from tellegen.grid.primitives import GROUND


def with_controls(case: Case, controls: Controls) -> Case:
    """The case with its controls' elements at other positions: new admittance, new branch currents.

    Only what the moving elements touch is computed anew, from their data and `Controls.rest`: positions that come back
    bring the same admittance back, bit for bit.
    """
    network = case.network
    row, column, siemens = controls.touched()
    volt = network.base_kv * 1000.0
    per_unit = volt[row] * siemens * volt[column] / (network.base_kva * 1000.0)
    admittance = _replaced(network.admittance, row, column, per_unit)
    branches = network.branches
    rows = sp.csr_matrix(branches.current_rows, dtype=np.complex128, copy=True)
    rows.sort_indices()
    base_ampere = network.base_kva / network.base_kv
    for element in controls.transformers:
        real = np.flatnonzero(element.node != GROUND)
        node = element.node[real]
        block = element.admittance()[np.ix_(real, real)] * volt[node] / base_ampere[node][:, None]
        for place, values in zip(element.row[real].tolist(), block, strict=True):
            low, high = int(rows.indptr[place]), int(rows.indptr[place + 1])
            rows.data[low:high] = 0.0
            np.add.at(rows.data, low + np.searchsorted(rows.indices[low:high], node), values)
    fresh_network = replace(network, admittance=admittance, branches=replace(branches, current_rows=rows))
    return replace(case, network=fresh_network, controls=controls)


def _replaced(matrix: sp.csr_matrix, row: IntArray, column: IntArray, value: ComplexArray) -> sp.csr_matrix:
    """A matrix with other values at some entries, which it may lack."""
    size = matrix.shape[0]
    entry = matrix.tocoo()
    key, fresh = entry.row.astype(np.int64) * size + entry.col, row * size + column
    kept = ~np.isin(key, fresh)
    return sp.csr_matrix(
        (
            np.concatenate([entry.data[kept].astype(np.complex128), value]),
            (np.concatenate([entry.row[kept], row]), np.concatenate([entry.col[kept], column])),
        ),
        shape=matrix.shape,
    )


def positions(controls: Controls | None) -> tuple[object, ...]:
    """All taps and steps, to be compared."""
    if controls is None:
        return ()
    taps = tuple(tuple(winding.tap for winding in element.windings) for element in controls.transformers)
    return taps, tuple(tuple(bank.on.tolist()) for bank in controls.capacitors)
