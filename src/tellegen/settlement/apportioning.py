"""Everything in settlement that divides: largest remainders with hashed ties (law 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    hours, width = hourly.shape
    shares = np.zeros((hours, INTERVALS_PER_HOUR, width), dtype=np.int64)
    for hour in range(hours):
        ties = _ties_of_hour(members, first_interval + hour * INTERVALS_PER_HOUR)
        for k in range(INTERVALS_PER_HOUR):
            shares[hour, k] = _share(hourly[hour], ties, k)
    return shares.reshape(hours * INTERVALS_PER_HOUR, width)


def share_of_hour(hourly_wh: ArrayLike, members: ArrayLike, first_interval_of_hour: int, k: int) -> IntArray:
    """Row `k` of what `hourly_to_intervals` makes of one hour, alone: settlement asks for one interval at a time.

    Parameters
    ----------
    hourly_wh : int64[n], or of several quantities int64[q, n]; signed.
    members : int64[n], as there.
    k : 0 to ``INTERVALS_PER_HOUR - 1``.

    >>> sum(int(share_of_hour([25], [1], 0, k)[0]) for k in range(12))
    25
    """
    return _share(check_rows(hourly_wh, "hourly energy"), _ties_of_hour(members, first_interval_of_hour), k)


def _ties_of_hour(members: ArrayLike, first_interval: int) -> NDArray[np.uint64]:
    numbers = range(first_interval, first_interval + INTERVALS_PER_HOUR)
    return np.stack([tie_hash(f"hour to interval/{number}", members) for number in numbers])


def _share(hourly: IntArray, ties: NDArray[np.uint64], k: int) -> IntArray:
    before = np.count_nonzero(ties < ties[k], axis=0) + np.count_nonzero(ties[:k] == ties[k], axis=0)
    quotient, rest = np.divmod(np.abs(hourly), INTERVALS_PER_HOUR)
    return np.asarray((quotient + (before < rest)) * np.sign(hourly))


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
    order = np.lexsort((tie_hash(context, members), -remainder))
    floor[order[:lifted]] += 1
    return np.asarray(floor * quantum)
