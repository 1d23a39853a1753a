"""Estimates from a customer's own past, and energy from registers that were learned later."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tellegen.metering.devices import MeteringError
from tellegen.metering.runs import Runs
from tellegen.records import Energy, Quality, ValidationRule
from tellegen.units import IntArray, check_rows

NOT_KNOWN = 2**31 - 1
"""Stillness that no meter reaches."""


def daily_profile(past_wh: ArrayLike) -> IntArray:
    """Mean day of each customer, in whole units that add up over the day (law 1).

    The mean of an interval over D days is rounded cumulatively: it is the difference of
    ``floor(S / D)`` at its end and start, with S the energy of all days up to that time of day. So
    the profile's total is the mean day's, rounded once.

    Parameters
    ----------
    past_wh : int64[days, intervals, n]; import, export or reactive energy of past days.

    Returns
    -------
    int64[intervals, n].

    Raises
    ------
    MeteringError : no past day, or not three dimensions.

    >>> daily_profile([[[1], [2]], [[2], [2]]]).ravel().tolist()  # days of 3 and 4 Wh
    [1, 2]
    """
    past = check_rows(past_wh, "past energy")
    if past.ndim != 3 or not len(past):
        raise MeteringError(f"past energy must be [days, intervals, customers] with a day at least, not {past.shape}")
    until = np.cumsum(past.sum(axis=0), axis=0) // len(past)
    return np.diff(until, axis=0, prepend=0)


def longest_stillness(past_import_wh: ArrayLike, past_export_wh: ArrayLike) -> IntArray:
    """Longest run of past intervals without any movement, in intervals, int64[n].

    Parameters
    ----------
    past_import_wh, past_export_wh : int64[T, n], successive intervals. Without a past nothing is unusual:
        the result is `NOT_KNOWN`.

    >>> longest_stillness([[5, 0], [0, 0], [0, 1], [2, 1]], np.zeros((4, 2), dtype=int)).tolist()
    [2, 2]
    """
    moved = check_rows(past_import_wh, "past import") + check_rows(past_export_wh, "past export")
    if not len(moved):
        return np.full(moved.shape[-1], NOT_KNOWN, dtype=np.int64)
    return Runs.of((moved == 0).T).longest(moved.shape[1])


def energy_from_registers(
    customer: int, first_interval: int, import_wh: ArrayLike, export_wh: ArrayLike, reactive_varh: ArrayLike
) -> Energy:
    """Corrected energy of successive intervals from registers that were read out later.

    Parameters
    ----------
    customer, first_interval : whose, and from which interval on.
    import_wh, export_wh, reactive_varh : int64[k + 1], registers at the start of the first interval
        and at the end of each of k intervals.

    Returns
    -------
    k rows of quality CORRECTED.

    Raises
    ------
    MeteringError : lengths differ, there are fewer than two, or a register goes backwards.

    >>> energy_from_registers(3, 100, [10, 15, 15], [0, 0, 2], [0, 1, 1]).import_wh.tolist()
    [5, 0]
    """
    registers = [np.asarray(r, dtype=np.int64) for r in (import_wh, export_wh, reactive_varh)]
    if len({r.shape for r in registers}) != 1 or registers[0].ndim != 1 or registers[0].size < 2:
        raise MeteringError(f"customer {customer}: registers of the same length, two or more, are needed")
    moved = [np.diff(r) for r in registers]
    for name, difference in zip(("import", "export"), moved[:2], strict=True):
        back = np.flatnonzero(difference < 0)
        if back.size:
            raise MeteringError(
                f"customer {customer}: the {name} register goes backwards in interval {first_interval + int(back[0])}"
            )
    return _corrected(customer, first_interval, moved[0], moved[1], moved[2])


def _corrected(
    customer: int, first_interval: int, import_wh: IntArray, export_wh: IntArray, reactive_varh: IntArray
) -> Energy:
    k = import_wh.size
    return Energy(
        customer=np.full(k, customer, dtype=np.int32),
        interval=first_interval + np.arange(k, dtype=np.int64),
        import_wh=check_rows(import_wh, "import"),
        export_wh=check_rows(export_wh, "export"),
        reactive_varh=check_rows(reactive_varh, "reactive"),
        quality=np.full(k, Quality.CORRECTED, dtype=np.uint8),
        rule=np.full(k, ValidationRule.NONE, dtype=np.uint8),
    )
