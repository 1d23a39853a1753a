"""Everything in settlement that divides: largest remainders with hashed ties (law 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tellegen.units import INTERVALS_PER_HOUR, IntArray, QuantityError, check_rows, exact_sum, tie_hash


def hourly_to_intervals(energy_wh: ArrayLike, members: ArrayLike, first_interval: int) -> IntArray:
    """Spread hourly energy over the market intervals of each hour, conserving every Wh.

    An hour's energy is split evenly; the Wh that are left over go to the intervals with the
    smallest hashes for the member, so that neither an interval nor a member is favoured.

    Parameters
    ----------
    energy_wh : int64[hours, n], signed.
    members : int64[n], customer numbers (0 for the root) whose hashes break the ties.
    first_interval : number of the first interval of the first hour.

    Returns
    -------
    int64[hours * INTERVALS_PER_HOUR, n]; each hour's rows sum to the hour.

    >>> hourly_to_intervals([[25]], [1], 0)[:, 0].sum()
    np.int64(25)
    """
    hourly = check_rows(energy_wh, "hourly energy")
    member = np.asarray(members, dtype=np.int64)
    hours, width = hourly.shape
    ties = (
        np.stack(
            [
                tie_hash(f"hour to interval/{first_interval + k}", member.tolist())
                for k in range(hours * INTERVALS_PER_HOUR)
            ]
        )
        if hours
        else np.zeros((0, width), dtype=np.uint64)
    )
    by_hour = ties.reshape(hours, INTERVALS_PER_HOUR, width)
    rank = np.argsort(np.argsort(by_hour, axis=1, kind="stable"), axis=1, kind="stable")
    quotient, rest = np.divmod(np.abs(hourly), INTERVALS_PER_HOUR)
    share = quotient[:, None, :] + (rank < rest[:, None, :])
    return np.asarray(share * np.sign(hourly)[:, None, :]).reshape(hours * INTERVALS_PER_HOUR, width)


def round_to_multiples(values: ArrayLike, quantum: int, context: str, members: ArrayLike) -> IntArray:
    """Round signed integers to multiples of `quantum` so that their sum rounds as a whole.

    The result sums to the multiple of `quantum` nearest to ``sum(values)`` (half goes up): each
    value is rounded down, and those with the largest remainders are lifted, ties by hash. So each
    differs from its value by less than one quantum, and the sum by at most half of one.

    >>> round_to_multiples([4, 4, 4], 10, "doc", [1, 2, 3]).sum()
    np.int64(10)
    """
    value = np.asarray(values)
    if value.dtype.kind not in "iu":
        raise QuantityError(f"values to round must be integers, not {value.dtype}")
    floor, remainder = np.divmod(value.astype(np.int64), quantum)
    lifted = (exact_sum(remainder) + quantum // 2) // quantum
    order = np.lexsort((tie_hash(context, np.asarray(members).tolist()), -remainder))
    floor[order[:lifted]] += 1
    return np.asarray(floor * quantum)
