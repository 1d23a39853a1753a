"""Curvature of large feeders from their impedances: a low-rank factor and an exact diagonal, without a power flow.

Demand ``ds`` at places moves the currents by ``Q conj(ds)`` with ``Q = M diag(1 / conj(u))``, u the voltage across each
connection, and the voltages by ``-Z Q conj(ds)``. That makes the same demand draw more current, which is worth what
demand itself is worth at the place: with derivatives ``price`` (per kW, + j per kvar) of what is minimised, the second
derivative along ``ds`` is, but for terms of second order in the load,

    2 Re( sum_k conj(price_k) ds_k (Q^H Z Q conj(ds))_k )

So what depends on the wires is computed once per network and places: all impedances between few places, or of many a
basis of the largest, found by subspace iteration, and the driving points. Then every set of prices costs next to
nothing, or a product of slim matrices. What is kept is a function of what it is kept under, so that a clearing does not
depend on those before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp

from tellegen.grid.connections import Wiring
from tellegen.grid.impedance import impedance_entries
from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.powerflow import Factors
from tellegen.grid.sensitivity import Linearisation

RANK = 24
OVERSAMPLING = 10
SHAPES_MAX = 64
"""Kept for as many networks: a process that clears a city meets its topologies in turn."""
KEPT_BYTES_MAX = 64 << 20
"""Of either kind."""
DRIVEN_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What the wires say about some places, whatever the prices.

    Attributes
    ----------
    factors, wiring : of the network; places : int64[p].
    basis : float64[p, r], orthonormal; image : complex128[p, r], ``Q^H Z Q basis``.
    driving : complex128[p], diagonal of ``Q^H Z Q``.
    ends, falls : sparse [N, n] and [p, N], from free voltages to what they are across, and these to places.
    voltage : float64[p], magnitude of the voltages without load, at which all this is.
    """

    factors: Factors
    wiring: Wiring
    places: IntArray
    basis: FloatArray
    image: ComplexArray
    driving: ComplexArray
    ends: sp.csr_matrix
    falls: sp.csr_matrix
    voltage: FloatArray

    @property
    def nbytes(self) -> int:
        """Of the dense arrays."""
        return self.basis.nbytes + self.image.nbytes


_cache: OrderedDict[tuple[int, bytes], Shape] = OrderedDict()


def impedance_curvature(point: Linearisation, price: ComplexArray, places: IntArray) -> tuple[FloatArray, FloatArray]:
    """Factor and diagonal of the second derivative with respect to kW, then kvar, of some places.

    Parameters
    ----------
    point : operating point.
    price : complex128[p], derivative by demand at the places, per kW + j per kvar.
    places : int64[p], distinct.

    Returns
    -------
    float64[2p, r] and float64[2p]; negative curvature is clipped.
    """
    shape = _shape(point, places)
    base, count = point.factors.network.base_kva, places.size
    voltage = shape.falls @ np.abs(shape.ends @ point.voltage)
    # A voltage that has moved since scales the form on both sides; on one side, squared, once it is made symmetric.
    weight = np.conj(price) * (shape.voltage / np.maximum(voltage, 1e-3)) ** 2
    inner = (shape.basis * weight[:, None]).T @ shape.image
    same, mixed = inner.real + inner.real.T, inner.imag - inner.imag.T
    whole = np.block([[same, mixed], [mixed.T, same]]) / base
    values, vectors = la.eigh(whole, driver="evd", check_finite=False)
    keep = np.flatnonzero(values > 1e-9 * float(np.abs(values).max(initial=0.0)))[::-1]
    modes = vectors[:, keep] * np.sqrt(values[keep])
    rank = shape.basis.shape[1]
    factor = np.concatenate([shape.basis @ modes[:rank], shape.basis @ modes[rank:]])
    own = np.tile(2.0 / base * (weight * shape.driving).real, 2)
    assert factor.shape == (2 * count, keep.size)
    return factor, np.maximum(own - (factor**2).sum(axis=1), 0.0)


def impedance_form(point: Linearisation, price: ComplexArray, places: IntArray) -> ComplexArray:
    """The whole form ``F`` of few places: the second derivative along ``ds`` is ``2 Re(sum_kj ds_k F_kj conj(ds_j))``.

    Parameters
    ----------
    point, price, places : as for `impedance_curvature`; sources answer with zeros.

    Returns
    -------
    complex128[p, p], per kVA^2.
    """
    factors, base = point.factors, point.factors.network.base_kva
    if point.wiring.ports is None:
        inside = np.flatnonzero(factors.position[places] >= 0)
        node = factors.position[places[inside]]
        volt = point.voltage[node]
        turn = np.divide(1.0, np.conj(volt), out=np.zeros_like(volt), where=np.abs(volt) > 1e-3)
        form = _between(factors, node) * turn
        form *= (np.conj(price[inside] * turn) / base)[:, None]
        if inside.size == places.size:
            return form
        whole = np.zeros((places.size, places.size), dtype=np.complex128)
        whole[np.ix_(inside, inside)] = form
        return whole
    across = _across(point.factors, point.wiring, point.voltage, places)[0]
    node = np.flatnonzero(np.diff(across.indptr)).astype(np.int64)
    ends = across[node].toarray()
    answer = ends.conj().T @ (_between(factors, node) @ ends)
    return np.asarray((np.conj(price) / base)[:, None] * answer)


def _between(factors: Factors, node: IntArray) -> ComplexArray:
    """Impedances between free nodes, complex128[n, n]; kept for the networks and nodes used last."""
    key = (id(factors), node.tobytes())
    known = _impedances.get(key)
    if known is None or known[0] is not factors:
        unit = np.zeros((factors.free.size, node.size), dtype=np.complex128)
        unit[node, np.arange(node.size)] = 1.0
        known = _impedances[key] = factors, factors.lu.solve(unit)[node]
        _trim(_impedances, lambda kept: kept[1].nbytes)
    _impedances.move_to_end(key)
    return known[1]


_impedances: OrderedDict[tuple[int, bytes], tuple[Factors, ComplexArray]] = OrderedDict()


_Kept = TypeVar("_Kept")


def _trim(kept: OrderedDict[tuple[int, bytes], _Kept], size: Callable[[_Kept], int]) -> None:
    """Forget what was not used for longest, as long as that is too much; never the last."""
    while len(kept) > 1 and (len(kept) > SHAPES_MAX or sum(map(size, kept.values())) > KEPT_BYTES_MAX):
        kept.popitem(last=False)


def _across(
    factors: Factors, wiring: Wiring, voltage: ComplexArray, places: IntArray
) -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
    """Currents [n, p] that a unit of ``conj(ds)`` at each place draws; and `Shape.ends`, `Shape.falls`."""
    size = len(factors.network.nodes)
    ends = sp.csr_matrix(
        (np.ones(factors.free.size), (np.arange(factors.free.size), factors.free)), shape=(factors.free.size, size)
    )
    if wiring.ports is None:
        falls = sp.csr_matrix((np.ones(places.size), (places, np.arange(places.size))), shape=(size, places.size))
    else:
        falls = sp.csr_matrix(wiring.ports[:, places])
        if wiring.incidence is not None:
            ends = sp.csr_matrix(sp.hstack([ends, wiring.incidence[:, wiring.power.size :]]))
    to_ends = sp.csr_matrix(ends.T)
    volt = to_ends @ voltage
    turn = np.divide(1.0, np.conj(volt), out=np.zeros_like(volt), where=np.abs(volt) > 1e-3)
    across = sp.csr_matrix(ends @ sp.diags(turn) @ falls)
    return across, to_ends, sp.csr_matrix(abs(falls).T)


def _shape(point: Linearisation, places: IntArray) -> Shape:
    """Shape of these places, kept for the networks and places used last."""
    key = (id(point.factors), places.tobytes())
    known = _cache.get(key)
    if known is not None and known.factors is point.factors and _alike(known.wiring, point.wiring):
        _cache.move_to_end(key)
        return known
    fresh = _make_shape(point.factors, point.wiring, places)
    _cache[key] = fresh
    _cache.move_to_end(key)
    _trim(_cache, lambda shape: shape.nbytes)
    return fresh


def _alike(one: Wiring, other: Wiring) -> bool:
    if one is other or (one.ports is None and other.ports is None):
        return True
    if one.ports is None or other.ports is None or one.ports.shape != other.ports.shape:
        return False
    # Ports alone do not say between which nodes a pair lies.
    same_pairs = one.incidence is None or (
        other.incidence is not None
        and one.incidence.shape == other.incidence.shape
        and abs(one.incidence - other.incidence).nnz == 0
    )
    return same_pairs and abs(one.ports - other.ports).nnz == 0


def _make_shape(factors: Factors, wiring: Wiring, places: IntArray) -> Shape:
    across, ends, falls = _across(factors, wiring, factors.no_load, places)
    back = sp.csr_matrix(across.conj().T)

    def image(directions: FloatArray) -> ComplexArray:
        right = np.asarray(across @ directions).astype(np.complex128)
        return np.asarray(back @ factors.lu.solve(right))

    rng = np.random.default_rng(0)
    count = min(places.size, RANK + OVERSAMPLING)
    sample, _ = la.qr(image(rng.standard_normal((places.size, count))).real, mode="economic")
    first = image(sample)
    small = sample.T @ first.real
    # Resistance and reactance fall together along a feeder: the basis of one serves both.
    _, vectors = la.eigh((small + small.T) / 2)
    chosen = vectors[:, ::-1][:, : min(RANK, count)]
    return Shape(
        factors=factors,
        wiring=wiring,
        places=places,
        basis=sample @ chosen,
        image=first @ chosen,
        driving=_driving(factors, across),
        ends=ends,
        falls=falls,
        voltage=falls @ np.abs(ends @ factors.no_load),
    )


def _driving(factors: Factors, across: sp.csr_matrix) -> ComplexArray:
    """Diagonal of ``Q^H Z Q``."""
    columns = sp.csc_matrix(across)
    legs = np.diff(columns.indptr)
    entries = impedance_entries(factors.y_free)
    answer = np.zeros(across.shape[1], dtype=np.complex128)
    unknown = np.arange(across.shape[1])
    if entries is not None:
        # At one end of each place, from the entries alone; between more ends where all their entries are known.
        one = np.flatnonzero(legs == 1)
        node, weight = columns.indices[columns.indptr[one]], columns.data[columns.indptr[one]]
        answer[one] = np.abs(weight) ** 2 * entries.diagonal()[node]
        unknown = np.flatnonzero(legs > 1)
    for start in range(0, unknown.size, DRIVEN_AT_ONCE):
        part = unknown[start : start + DRIVEN_AT_ONCE]
        right = columns[:, part].toarray()
        answer[part] = (right.conj() * factors.lu.solve(right)).sum(axis=0)
    return answer
