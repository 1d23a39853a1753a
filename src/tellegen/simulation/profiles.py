"""Quarter-hour profiles brought to market intervals, and to charging sessions.

The data set's clock is CET all year (UTC+1, no daylight saving). A quarter-hour holds three market
intervals; bringing it to five minutes keeps its energy.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from tellegen.units import MARKET_INTERVAL_S, interval_at

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CET = timezone(timedelta(hours=1))
QUARTER_S = 900
PER_QUARTER = QUARTER_S // MARKET_INTERVAL_S
QUARTER_H = QUARTER_S / 3600


def quarter_of(first_quarter: str, interval: int) -> int:
    """Position, in a profile that starts at `first_quarter` CET, of the quarter-hour of an interval.

    >>> quarter_of("01.01.2016 00:00", interval_at(datetime(2016, 1, 1, 1, 0, tzinfo=CET)))
    4
    """
    start = interval_at(datetime.strptime(first_quarter, "%d.%m.%Y %H:%M").replace(tzinfo=CET))
    return (interval - start) // PER_QUARTER


def five_minutes(quarters: FloatArray) -> FloatArray:
    """Bring quarter-hour means [..., Q] to market intervals [..., 3 Q], keeping each mean.

    Within a quarter-hour the power runs along a straight line through its mean. The slope is the
    limited central difference of van Leer (J. Comput. Phys. 23, 1977): no value leaves the range of
    the neighbouring means, so a power that is never negative stays so. Ends and extrema are flat.

    >>> five_minutes(np.array([0.0, 3.0, 6.0])).tolist()
    [0.0, 0.0, 0.0, 2.0, 3.0, 4.0, 6.0, 6.0, 6.0]
    """
    step = np.diff(quarters, axis=-1) / PER_QUARTER
    before, after = step[..., :-1], step[..., 1:]
    slope = np.zeros_like(quarters)
    size = np.minimum(np.abs(before + after) / 2, 2 * np.minimum(np.abs(before), np.abs(after)))
    slope[..., 1:-1] = np.where(before * after > 0, np.sign(before) * size, 0.0)
    out = np.stack([quarters - slope, quarters, quarters + slope], axis=-1)
    return np.asarray(out.reshape(*quarters.shape[:-1], -1))


def charging_blocks(share: FloatArray, threshold: float = 1e-3) -> tuple[IntArray, IntArray]:
    """First and one-past-last quarter-hour of each contiguous block with power above a threshold.

    >>> [ends.tolist() for ends in charging_blocks(np.array([0.0, 1.0, 0.4, 0.0, 1.0]))]
    [[1, 4], [3, 5]]
    """
    on = np.concatenate([[False], share > threshold, [False]]).astype(np.int8)
    change = np.diff(on)
    return np.nonzero(change == 1)[0].astype(np.int64), np.nonzero(change == -1)[0].astype(np.int64)
