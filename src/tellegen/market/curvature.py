"""Second derivatives of the search's Lagrangian over demand at nodes, as a factor that outlives the order book.

Where few channels (a node's kW or kvar) carry flexible orders the Hessian is computed exactly, by one batch of
Hessian-vector products. Where many do, a randomised low-rank factor and a diagonal for the rest stand for it (Halko,
Martinsson, Tropp 2011; Hutchinson 1990). Curvature changes only the speed of the search, never where it ends, so it is
kept from interval to interval; it lives on nodes and not on orders, so that orders may come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from numpy.typing import NDArray
from scipy.linalg import lapack

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.grid.sensitivity import Linearisation
from tellegen.market.steps import Scenario, Steps

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

    def covers(self, steps: Steps, scenario: Scenario) -> bool:
        """Whether every channel that these variables move in a scenario was computed."""
        return bool(self.covered[_moved(steps, self.covered.size // 2, scenario)].all())

    def on(self, steps: Steps, scenario: Scenario) -> tuple[FloatArray, FloatArray]:
        """Factor [c, r] with respect to the channels of the variables in a scenario, and diagonal [c]."""
        size, channels = self.covered.size // 2, steps.channels
        p, q, called = channels.place, size + channels.place, channels.activation(scenario)
        factor = self.factor[p] * (called * channels.active)[:, None]
        factor += self.factor[q] * (called * channels.reactive)[:, None]
        diagonal = self.diagonal[p] * channels.active**2 + self.diagonal[q] * channels.reactive**2
        return factor, called**2 * diagonal


def covers(curvature: Sequence[Curvature], steps: Steps) -> bool:
    """Whether the curvature of every scenario was computed for all that these variables move there."""
    scenarios = steps.scenarios
    return len(curvature) == len(scenarios) and all(
        part.covers(steps, scenario) for part, scenario in zip(curvature, scenarios, strict=True)
    )


def bend_of(curvature: Sequence[Curvature], steps: Steps) -> tuple[FloatArray, FloatArray]:
    """Factor [c, r] on the channels of the variables, and diagonal [m] on these, of all scenarios together."""
    parts = [part.on(steps, scenario) for part, scenario in zip(curvature, steps.scenarios, strict=True)]
    factor = np.concatenate([factor for factor, _ in parts], axis=1)
    return factor, np.sum([diagonal for _, diagonal in parts], axis=0)[steps.channel]


def _moved(steps: Steps, size: int, scenario: Scenario) -> IntArray:
    channels = steps.channels
    called = channels.activation(scenario) != 0
    return np.concatenate(
        [channels.place[called & (channels.active != 0)], size + channels.place[called & (channels.reactive != 0)]]
    )


def reach_of(steps: Steps, size: int, scenario: Scenario, before: Curvature | None) -> tuple[IntArray, FloatArray]:
    """Channels that flexible orders use in a scenario, now or when curvature was last computed; how far they may go.

    Returns
    -------
    Channels int64[d], and float64[2 * size], kW by which each may move.
    """
    used = np.zeros(2 * size, dtype=bool) if before is None else before.covered.copy()
    used[_moved(steps, size, scenario)] = True
    channels = steps.channels
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

    covered = np.zeros(2 * size, dtype=bool)
    covered[channels] = True
    if not np.any(weight):
        return Curvature(covered, np.zeros((2 * size, 0)), np.zeros(2 * size))
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
