"""Who knows what, and when: the past that agents see, the present that devices feel.

Agents are given a `Past` and nothing else of the series, so that none can look ahead. Reality keeps
the whole series and hands out the past up to an interval, or the present of one interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import TellegenError

FloatArray = NDArray[np.float64]


class KnowledgeError(TellegenError):
    """An interval outside the series was asked for, or series do not have one length."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Series up to, and without, the market interval `known_until`; the last column came just before it.

    load_kw, load_kvar : float64[n, H], base load of each customer.
    pv_kw : float64[k, H], power the sun offered to each inverter (positive).
    heat_w, draw_w : float64[k, H], heat needed per heat pump, and drawn per water heater.
    """

    known_until: int
    load_kw: FloatArray
    load_kvar: FloatArray
    pv_kw: FloatArray
    heat_w: FloatArray
    draw_w: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Actual:
    """What happens in one market interval, shapes as in `Past` without the time axis."""

    load_kw: FloatArray
    load_kvar: FloatArray
    pv_kw: FloatArray
    heat_w: FloatArray
    draw_w: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Reality:
    """All series, past and to come; column 0 is market interval `first_column`. Agents never hold it.

    >>> series = np.arange(4.0).reshape(1, 4)
    >>> world = Reality(100, series, series, series, series, series)
    >>> world.past(102).load_kw.tolist(), world.at(102).load_kw.tolist()
    ([[0.0, 1.0]], [2.0])
    """

    first_column: int
    load_kw: FloatArray
    load_kvar: FloatArray
    pv_kw: FloatArray
    heat_w: FloatArray
    draw_w: FloatArray

    def __post_init__(self) -> None:
        lengths = {a.shape[1] for a in self._series() if a.shape[0]}
        if len(lengths) > 1:
            raise KnowledgeError(f"series have different lengths: {sorted(lengths)}")

    def _series(self) -> tuple[FloatArray, ...]:
        return (self.load_kw, self.load_kvar, self.pv_kw, self.heat_w, self.draw_w)

    def _column(self, interval: int) -> int:
        column = interval - self.first_column
        if not 0 <= column <= self.load_kw.shape[1]:
            raise KnowledgeError(
                f"interval {interval} is outside the series, which run from {self.first_column} "
                f"for {self.load_kw.shape[1]} intervals"
            )
        return column

    def past(self, interval: int) -> Past:
        """Everything before `interval`; the arrays cannot be written to."""
        column = self._column(interval)
        slices = [a[:, :column] if a.shape[0] else np.zeros((0, column)) for a in self._series()]
        for view in slices:
            view.flags.writeable = False
        return Past(interval, *slices)

    def at(self, interval: int) -> Actual:
        """What happens in `interval`."""
        column = self._column(interval)
        return Actual(*(a[:, column] if a.shape[0] else np.zeros(0) for a in self._series()))
