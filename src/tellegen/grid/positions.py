"""A case with its taps and capacitors at other positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from tellegen.errors import InputError
from tellegen.grid.controls import Controls, TapTransformer
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


def steps_moved(document: Controls, now: Controls) -> IntArray:
    """Steps from the positions of a network's document to those of now, int64[r]; what `at_steps` undoes.

    One number for each winding that a regulator moves, then one for each capacitor bank.
    """
    taps = [
        round((now.transformers[k].windings[w].tap - element.windings[w].tap) / element.step(w))
        for k, w, element in _moving(document)
    ]
    banks = [later.last_on - bank.last_on for bank, later in zip(document.capacitors, now.capacitors, strict=True)]
    return np.array([*taps, *banks], dtype=np.int64)


def at_steps(case: Case, steps: IntArray) -> Case:
    """A network's document with its taps and capacitors so many steps away; the document itself where none moved.

    Raises
    ------
    InputError : another number of steps than there are windings and banks that move.
    """
    controls = case.controls
    moving = [] if controls is None else _moving(controls)
    banks = () if controls is None else controls.capacitors
    if steps.size != len(moving) + len(banks):
        raise InputError(case.network.name, "taps", f"are {steps.size}, and {len(moving) + len(banks)} can move")
    if controls is None or not steps.any():
        return case
    transformers, capacitors = list(controls.transformers), list(banks)
    for (k, winding, _), count in zip(moving, steps[: len(moving)].tolist(), strict=True):
        transformers[k] = transformers[k].moved(winding, count)
    for k, count in enumerate(steps[len(moving) :].tolist()):
        for _ in range(abs(count)):
            capacitors[k] = capacitors[k].moved(1 if count > 0 else -1)
    return with_controls(case, replace(controls, transformers=tuple(transformers), capacitors=tuple(capacitors)))


def _moving(controls: Controls) -> list[tuple[int, int, TapTransformer]]:
    """Transformers and windings that regulators move, each once."""
    named = sorted({(regulator.transformer, regulator.tap_winding) for regulator in controls.regulators})
    return [(k, winding, controls.transformers[k]) for k, winding in named]
