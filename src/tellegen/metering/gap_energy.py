"""What becomes of a gap once the register after it is there: estimates stand, or share out what flowed."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from tellegen.metering.gaps import shares
from tellegen.metering.load_profile import Quantity
from tellegen.metering.runs import BoolArray
from tellegen.units import ROW_LIMIT, IntArray, tie_hash


class GapEnergy(StrEnum):
    """What the estimates of a gap become once the register after it is known."""

    ESTIMATED = "estimated"
    """They stay; what flowed besides is unaccounted-for energy."""
    CONSERVED = "conserved"
    """Shares of what flowed over the gap, in proportion to the estimates."""


def conserved(
    customer: IntArray, interval: IntArray, energy_wh: IntArray, fixed: BoolArray, base: IntArray, moved: IntArray
) -> IntArray:
    """Energy whose gaps sum to what their registers moved.

    Withdrawal and injection are shared in proportion to the estimates, reactive energy, which has a sign, by adding
    the same to each; by largest remainder, rule ``gap_energy``, equal remainders by the hash of the interval.

    Parameters
    ----------
    customer, interval : int64[k], ascending by both, each pair once.
    energy_wh : int64[3, k] by `Quantity`, Wh and varh; estimates inside gaps.
    fixed : bool[k], energy that stays as it is, inside a gap too.
    base : int64[k], for the row in which a gap ends the interval whose end its first register stands at; -1 elsewhere.
    moved : int64[3, k], what the registers moved over that gap.

    Returns
    -------
    int64[3, k]. A gap stays as it was where rows of it are missing, or where what is fixed is more than moved.

    >>> wh = np.array([[100, 100, 100], [0, 0, 0], [0, 0, 0]])  # three estimates; the third interval ends the gap
    >>> base, moved = np.array([-1, -1, 9]), np.array([[0, 0, 360], [0, 0, 0], [0, 0, 0]])
    >>> conserved(np.array([5, 5, 5]), np.array([10, 11, 12]), wh, np.zeros(3, dtype=bool), base, moved)[0].tolist()
    [120, 120, 120]
    """
    end = np.flatnonzero(base >= 0)
    length = interval[end] - base[end]
    first = end - length + 1
    whole = first >= 0
    whole[whole] = (customer[first[whole]] == customer[end[whole]]) & (interval[first[whole]] == base[end[whole]] + 1)
    end, length, first = end[whole], length[whole], first[whole]
    row = np.repeat(first, length) + np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    gap = np.repeat(np.arange(end.size), length)
    out = energy_wh.copy()
    free = ~fixed[row]
    ties = _ties(interval[row])
    for quantity in Quantity:
        wh = energy_wh[quantity, row]
        signed = quantity is Quantity.REACTIVE
        kept = np.where(free, 0, wh)
        rest = moved[quantity, end] - np.bincount(gap, kept, end.size).astype(np.int64)
        if signed:
            rest -= np.bincount(gap, np.where(free, wh, 0), end.size).astype(np.int64)
        possible = (np.abs(rest) < ROW_LIMIT) & (signed | (rest >= 0)) & (np.bincount(gap, free, end.size) > 0)
        here = np.flatnonzero(free & possible[gap])
        if not here.size:
            continue
        gaps, group = np.unique(gap[here], return_inverse=True)
        weight = np.ones(here.size, dtype=np.int64) if signed else np.maximum(wh[here], 0)
        weight = np.where(np.bincount(group, weight)[group] == 0, 1, weight)
        share = shares(rest[gaps], weight, group, ties[here])
        out[quantity, row[here]] = share + (wh[here] if signed else 0)
    return out


def _ties(interval: IntArray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    each, place = np.unique(interval, return_inverse=True)
    return tie_hash("gap_energy", each.tolist())[place]
