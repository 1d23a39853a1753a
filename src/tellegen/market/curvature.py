"""Second derivatives of the search's Lagrangian over demand at nodes, as a factor.

Where few channels (a node's kW or kvar) carry flexible orders the Hessian is computed exactly, by one batch of
Hessian-vector products. Where many do, it follows from the impedances of the network and the prices of the moment
(`impedance_curvature`). Curvature changes only the speed of the search, not what is optimal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from scipy.linalg import lapack

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.sensitivity import Linearisation
from tellegen.market.impedance_curvature import impedance_curvature
from tellegen.market.steps import Scenario, Steps

EXACT_CHANNELS_MAX = 300
COLUMNS_MAX = 30
FAINT = 1e-5
"""A direction of less curvature than this share of the largest is left to the diagonal."""
NEGLIGIBLE = 1e-10
"""Curvature below this share of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """``factor factor' + diag(diagonal)`` over channels (kW of nodes 0..N-1, then kvar), currency/h per kW^2.

    Attributes
    ----------
    factor : float64[2N, r]; diagonal : float64[2N].
    """

    factor: FloatArray
    diagonal: FloatArray

    def on(self, steps: Steps, scenario: Scenario) -> tuple[FloatArray, FloatArray]:
        """Factor [c, r] with respect to the channels of the variables in a scenario, and diagonal [c]."""
        size, channels = self.diagonal.size // 2, steps.channels
        p, q, called = channels.place, size + channels.place, channels.activation(scenario)
        factor = self.factor[p] * (called * channels.active)[:, None]
        factor += self.factor[q] * (called * channels.reactive)[:, None]
        diagonal = self.diagonal[p] * channels.active**2 + self.diagonal[q] * channels.reactive**2
        return factor, called**2 * diagonal


def bend_of(curvature: Sequence[Curvature], steps: Steps) -> tuple[FloatArray, FloatArray]:
    """Factor [c, r] on the channels of the variables, and diagonal [m] on these, of all scenarios together."""
    parts = [part.on(steps, scenario) for part, scenario in zip(curvature, steps.scenarios, strict=True)]
    factor = np.concatenate([factor for factor, _ in parts], axis=1)
    if factor.shape[0] <= EXACT_CHANNELS_MAX:
        return factor, np.sum([diagonal for _, diagonal in parts], axis=0)[steps.channel]
    width = np.bincount(steps.channel, steps.width, minlength=factor.shape[0])
    factor, rest = _slim(factor, np.sqrt(width) + 1e-300)
    return factor, np.sum([rest, *(diagonal for _, diagonal in parts)], axis=0)[steps.channel]


def _slim(factor: FloatArray, metric: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The strongest directions of a factor, and the diagonal of the rest: kW and kvar of one channel move together."""
    scaled = factor * metric[:, None]
    values, vectors = la.eigh(scaled.T @ scaled, driver="evd", check_finite=False)
    keep = np.flatnonzero(values > FAINT * float(values.max(initial=0.0)))[-COLUMNS_MAX:][::-1]
    slim = factor @ vectors[:, keep]
    return np.asarray(slim), np.maximum((factor**2).sum(axis=1) - (slim**2).sum(axis=1), 0.0)


def reach_of(steps: Steps, size: int, scenario: Scenario) -> tuple[IntArray, FloatArray]:
    """Channels that flexible orders use in a scenario, and how far they may go.

    Returns
    -------
    Channels int64[d], and float64[2 * size], kW by which each may move.
    """
    channels = steps.channels
    called = channels.activation(scenario) != 0
    used = np.zeros(2 * size, dtype=bool)
    used[channels.place[called & (channels.active != 0)]] = True
    used[size + channels.place[called & (channels.reactive != 0)]] = True
    most = np.bincount(steps.channel, steps.width, minlength=channels.place.size) * np.abs(
        channels.activation(scenario)
    )
    width = np.zeros(2 * size)
    np.add.at(width, channels.place, most * np.abs(channels.active))
    np.add.at(width, size + channels.place, most * np.abs(channels.reactive))
    return np.flatnonzero(used).astype(np.int64), width


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

    if not np.any(weight):
        return Curvature(np.zeros((2 * size, 0)), np.zeros(2 * size))
    if channels.size <= EXACT_CHANNELS_MAX:
        inner, rest = _exact(product(np.eye(channels.size))), np.zeros(channels.size)
    else:
        places, at = np.unique(channels % size, return_inverse=True)
        price = point.weighted_gradient(quantity, index, weight, places)
        reach = np.maximum(width[places], width[size + places])
        both, own = impedance_curvature(point, price, places, reach)
        chosen = np.where(channels < size, at, places.size + at)
        inner, rest = both[chosen], own[chosen]
    factor = np.zeros((2 * size, inner.shape[1]))
    factor[channels] = inner
    diagonal = np.zeros(2 * size)
    diagonal[channels] = rest
    return Curvature(factor=factor, diagonal=diagonal)


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
