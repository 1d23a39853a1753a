"""Second derivatives of the search's Lagrangian by the channels of the variables, as a factor.

Where few channels trade, the form follows from all impedances between their places and the prices of the moment, or,
once that proved too rough, exactly from one batch of Hessian-vector products. Where many trade, from the largest
impedances (`impedance_curvature`). Curvature changes only the speed of the search, not what is optimal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from scipy.linalg import lapack

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.sensitivity import Linearisation
from tellegen.market.impedance_curvature import impedance_curvature, impedance_form
from tellegen.market.operating_point import Point, Task, weighted_terms
from tellegen.market.steps import Channels, Scenario

WHOLE_CHANNELS_MAX, WHOLE_CHANNELS_UNBALANCED_MAX = 250, 100
"""So many channels are bent as a whole, on a balanced network and on another, whose matrices are wider."""
EXACT_CHANNELS_MAX = 60
"""So few are bent exactly from the first."""
COLUMNS_MAX = 30
FAINT = 1e-5
"""A direction of less curvature than this share of the largest is left to the diagonal."""
NEGLIGIBLE = 1e-10
"""Curvature below this share of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Bend:
    """Curvature ``factor factor'`` over channels and ``diag(rest)`` over variables, currency/h per kW^2.

    Attributes
    ----------
    factor : float64[c, r]; rest : float64[m].
    square : float64[c, c], ``factor factor'`` where channels are few; else None.
    """

    factor: FloatArray
    rest: FloatArray
    square: FloatArray | None = None

    def with_more(self, direction: FloatArray) -> Bend:
        """With ``direction direction'`` added, float64[c]."""
        square = None if self.square is None else self.square + direction[:, None] * direction
        return Bend(np.column_stack([self.factor, direction]), self.rest, square)


def bend_at(task: Task, point: Point, rows: IntArray, dual: FloatArray, *, exact: bool = False) -> Bend:
    """Curvature at a point with duals of some rows, its negative part clipped; `exact` where channels are few."""
    steps = task.steps
    size, count = steps.width.size, steps.channels.place.size
    if count <= (WHOLE_CHANNELS_MAX if task.network.balanced else WHOLE_CHANNELS_UNBALANCED_MAX):
        square = np.zeros((count, count))
        for scenario, line in zip(steps.scenarios, point.lines, strict=True):
            terms = weighted_terms(task, rows, dual, scenario)
            if not np.any(terms[2]):
                continue
            part = _exact if exact or count <= EXACT_CHANNELS_MAX else _whole
            square += part(line, terms, steps.channels, scenario)
        factor, square = _definite(square)
        return Bend(factor, np.zeros(size), square)
    width = np.bincount(steps.channel, steps.width, minlength=count).astype(np.float64)
    parts = []
    for scenario, line in zip(steps.scenarios, point.lines, strict=True):
        terms = weighted_terms(task, rows, dual, scenario)
        if np.any(terms[2]):
            parts.append(_of_many(line, terms, steps.channels, scenario))
    if not parts:
        return Bend(np.zeros((count, 0)), np.zeros(size))
    factor, rest = _slim(np.concatenate([factor for factor, _ in parts], axis=1), np.sqrt(width) + 1e-300)
    return Bend(factor, np.sum([rest, *(diagonal for _, diagonal in parts)], axis=0)[steps.channel])


def sharpened(bend: Bend, task: Task, point: Point, rows: IntArray, dual: FloatArray, among: IntArray) -> Bend:
    """The curvature made exact among some channels, int64[s]; beside others it stays as it was.

    What is free to move mostly moves against its neighbours, and that is what a few large impedances do not tell.
    """
    square = np.zeros((among.size, among.size))
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        terms = weighted_terms(task, rows, dual, scenario)
        if np.any(terms[2]):
            square += _exact(line, terms, task.steps.channels.take(among), scenario)
    own = bend.factor[among]
    values, vectors = la.eigh(square - own @ own.T, driver="evd", check_finite=False)
    keep = values > NEGLIGIBLE * float(np.abs(values).max(initial=0.0))
    more = np.zeros((bend.factor.shape[0], int(keep.sum())))
    more[among] = vectors[:, keep] * np.sqrt(values[keep])
    rest = bend.rest.copy()
    rest[np.isin(task.steps.channel, among)] = 0.0
    return Bend(np.concatenate([bend.factor, more], axis=1), rest)


_Terms = tuple[IntArray, IntArray, FloatArray]


def _whole(line: Linearisation, terms: _Terms, channels: Channels, scenario: Scenario) -> FloatArray:
    """The form of the impedances between all places, [c, c]."""
    places, at = _places(channels, scenario)
    if not places.size:
        return np.zeros((at.size, at.size))
    called = channels.activation(scenario)
    price = line.weighted_gradient(*terms, places)
    unit = called * (channels.active + 1j * channels.reactive)
    form = impedance_form(line, price, places)
    if places.size != at.size or (at[1:] < at[:-1]).any():
        form = form[np.ix_(at, at)]
    half = (form * np.conj(unit)).real * unit.real[:, None] - (form * np.conj(unit)).imag * unit.imag[:, None]
    return np.asarray(half + half.T)


def _exact(line: Linearisation, terms: _Terms, channels: Channels, scenario: Scenario) -> FloatArray:
    """The exact second derivative, [c, c]."""
    count = channels.place.size
    direction = np.zeros((line.wiring.places, count), dtype=np.complex128)
    direction[channels.place, np.arange(count)] = channels.activation(scenario) * (
        channels.active + 1j * channels.reactive
    )
    product = channels.project(line.hessian_product(*terms, direction).T, scenario)
    return (product + product.T) / 2


def _of_many(
    line: Linearisation, terms: _Terms, channels: Channels, scenario: Scenario
) -> tuple[FloatArray, FloatArray]:
    """Factor [c, r] and diagonal [c] from the largest impedances."""
    places, at = _places(channels, scenario)
    if not places.size:
        return np.zeros((at.size, 0)), np.zeros(at.size)
    called = channels.activation(scenario)
    active, reactive = called * channels.active, called * channels.reactive
    both, own = impedance_curvature(line, line.weighted_gradient(*terms, places), places)
    factor = both[at] * active[:, None] + both[places.size + at] * reactive[:, None]
    return factor, own[at] * active**2 + own[places.size + at] * reactive**2


def _places(channels: Channels, scenario: Scenario) -> tuple[IntArray, IntArray]:
    """Places at which something acts in a scenario, and for each channel which of them is its own (0 for idle ones)."""
    acts = (channels.activation(scenario) != 0) & ((channels.active != 0) | (channels.reactive != 0))
    places = np.unique(channels.place[acts])
    return places, np.minimum(np.searchsorted(places, channels.place), max(places.size - 1, 0))


def _slim(factor: FloatArray, metric: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The strongest directions of a factor, and the diagonal of the rest: kW and kvar of one channel move together."""
    scaled = factor * metric[:, None]
    values, vectors = la.eigh(scaled.T @ scaled, driver="evd", check_finite=False)
    keep = np.flatnonzero(values > FAINT * float(values.max(initial=0.0)))[-COLUMNS_MAX:][::-1]
    slim = factor @ vectors[:, keep]
    return np.asarray(slim), np.maximum((factor**2).sum(axis=1) - (slim**2).sum(axis=1), 0.0)


def _definite(symmetric: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A factor of the positive part of a symmetric form, and that part."""
    # Nearly always it is definite but for rounding, and a triangle is had at a fraction of the price of a spectrum.
    lifted = symmetric.copy()
    lifted[np.diag_indices(symmetric.shape[0])] += NEGLIGIBLE * float(np.abs(symmetric).max(initial=0.0))
    if not lifted.any():
        return np.zeros((symmetric.shape[0], 0)), lifted
    triangle, failure = lapack.dpotrf(lifted, lower=1)
    if not failure:
        return np.asarray(triangle), lifted
    values, vectors = la.eigh(symmetric, driver="evd", check_finite=False)
    keep = np.flatnonzero(values > NEGLIGIBLE * float(np.abs(values).max(initial=0.0)))[::-1]
    factor = np.asarray(vectors[:, keep] * np.sqrt(values[keep]))
    return factor, factor @ factor.T
