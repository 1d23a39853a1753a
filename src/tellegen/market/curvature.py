"""Second derivatives of the search's Lagrangian over demand at nodes, as a factor that outlives the order book.

Where few channels (a node's kW or kvar) carry flexible orders the Hessian is computed exactly, by one batch of
Hessian-vector products. Where many do, a randomised low-rank factor and a diagonal for the rest stand for it (Halko,
Martinsson, Tropp 2011; Hutchinson 1990). Curvature changes only the speed of the search, never where it ends, so it is
kept from interval to interval; it lives on nodes and not on orders, so that orders may come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray
from scipy.linalg import lapack

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.sensitivity import Linearisation
from tellegen.market.steps import Steps

EXACT_CHANNELS_MAX = 500
RANK = 120
PROBES = 16
NEGLIGIBLE = 1e-10
"""Curvature below this share of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """``factor factor' + diag(diagonal)`` over channels (kW of nodes 0..N-1, then kvar), currency/h per kW^2.

    Attributes
    ----------
    covered : bool[2N], channels for which it was computed.
    factor : float64[2N, r]; diagonal : float64[2N].
    """

    covered: NDArray[np.bool_]
    factor: FloatArray
    diagonal: FloatArray

    def covers(self, steps: Steps) -> bool:
        """Whether every channel of these variables was computed."""
        size = self.covered.size // 2
        active = self.covered[steps.node[steps.active != 0]].all()
        return bool(active and self.covered[size + steps.node[steps.reactive != 0]].all())

    def on(self, steps: Steps) -> tuple[FloatArray, FloatArray]:
        """Factor [c, r] with respect to the channels of the variables, and diagonal [m] with respect to these."""
        size, channels = self.covered.size // 2, steps.channels
        p, q = channels.node, size + channels.node
        factor = self.factor[p] * channels.active[:, None] + self.factor[q] * channels.reactive[:, None]
        diagonal = self.diagonal[p] * channels.active**2 + self.diagonal[q] * channels.reactive**2
        return factor, diagonal[steps.channel]


def channels_of(steps: Steps, size: int, before: Curvature | None) -> IntArray:
    """Channels that flexible orders use, now or when curvature was last computed."""
    used = np.zeros(2 * size, dtype=bool) if before is None else before.covered.copy()
    used[steps.node[steps.active != 0]] = True
    used[size + steps.node[steps.reactive != 0]] = True
    return np.flatnonzero(used).astype(np.int64)


def curvature_at(
    point: Linearisation, quantity: IntArray, index: IntArray, weight: FloatArray, channels: IntArray, width: FloatArray
) -> Curvature:
    """Curvature of ``sum(weight * quantity)`` on some channels, its negative part clipped.

    Parameters
    ----------
    point, quantity, index, weight : as for `Linearisation.hessian_product`.
    channels : int64[d], channels wanted.
    width : float64[2N], how far each channel may move (kW); the metric of the low-rank factor.
    """
    size = width.size // 2

    def product(directions: FloatArray) -> FloatArray:
        full = np.zeros((size, directions.shape[1]), dtype=np.complex128)
        real = channels < size
        full[channels[real]] += directions[real]
        full[channels[~real] - size] += 1j * directions[~real]
        answer: ComplexArray = point.hessian_product(quantity, index, weight, full)
        return np.where(real[:, None], answer.real[channels % size], answer.imag[channels % size])

    covered = np.zeros(2 * size, dtype=bool)
    covered[channels] = True
    if channels.size <= EXACT_CHANNELS_MAX:
        inner, rest = _exact(product(np.eye(channels.size))), np.zeros(channels.size)
    else:
        reach = np.maximum(width[channels], 1e-3 * float(width.max()))
        inner, rest = _low_rank(product, reach)
    factor = np.zeros((2 * size, inner.shape[1]))
    factor[channels] = inner
    diagonal = np.zeros(2 * size)
    diagonal[channels] = rest
    return Curvature(covered=covered, factor=factor, diagonal=diagonal)


def _exact(hessian: FloatArray) -> FloatArray:
    symmetric = (hessian + hessian.T) / 2
    # Nearly always it is definite but for rounding, and a triangle is had at a fraction of the price of a spectrum.
    lift = NEGLIGIBLE * float(np.abs(symmetric).max(initial=0.0))
    triangle, failure = lapack.dpotrf(symmetric + lift * np.eye(symmetric.shape[0]), lower=1)
    if symmetric.size and not failure:
        return np.asarray(triangle)
    values, vectors = la.eigh(symmetric, check_finite=False)
    keep = np.flatnonzero(values > NEGLIGIBLE * float(np.abs(values).max(initial=0.0)))[::-1]
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def _low_rank(product: Callable[[FloatArray], FloatArray], reach: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Randomised eigenfactor in the metric of `reach`, and what it leaves on the diagonal."""
    rng = np.random.default_rng(0)
    metric = np.sqrt(reach)[:, None]

    def scaled(directions: FloatArray) -> FloatArray:
        return np.asarray(metric * product(metric * directions))

    sample, _ = la.qr(scaled(rng.standard_normal((reach.size, RANK + 10))), mode="economic")
    image = scaled(sample)
    small = sample.T @ image
    values, vectors = la.eigh((small + small.T) / 2)
    keep = np.flatnonzero(values > 0)[-RANK:][::-1]
    basis = sample @ vectors[:, keep]
    probes = rng.choice(np.array([-1.0, 1.0]), size=(reach.size, PROBES))
    left = scaled(probes) - basis @ (values[keep, None] * (basis.T @ probes))
    rest = np.maximum((probes * left).mean(axis=1), 0.0)
    return np.asarray(basis * np.sqrt(values[keep]) / metric), rest / metric[:, 0] ** 2
