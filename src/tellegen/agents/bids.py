"""The ramp rule: how a thermostat turns comfort into a bid, and a price into a set-point.

Source: the transactive controller of GridLAB-D, used in the Olympic Peninsula project. With the mean
`avg` and standard deviation `sigma` of the last 24 hours' prices, a desired temperature and a comfort
range around it, a cooling device bids

    bid  = avg + (T - T_des) * ramp * sigma / |range|

and answers a cleared price with the set-point

    Tset = T_des + (P_clear - avg) * |range| / (ramp * sigma),

`ramp` and `range` being those of the side (below or above `T_des`) on which the temperature, or the
set-point, lies. A heating device is its mirror image: the temperature difference changes sign. Where
the device must run the bid is the cap; where it must not, the floor. Without price movement
(``sigma == 0``) the bid is `avg` and the set-point `T_des`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Numbers = NDArray[np.float64] | float


class Mode(IntEnum):
    """What a thermal device does; the sign with which discomfort grows with temperature."""

    COOLING = 1
    HEATING = -1


def ramp_bid(
    temperature_c: Numbers,
    *,
    mode: Mode,
    desired_c: Numbers,
    low_c: Numbers,
    high_c: Numbers,
    ramp_low: Numbers,
    ramp_high: Numbers,
    mean: Numbers,
    deviation: Numbers,
    floor: float,
    cap: float,
) -> FloatArray:
    """Price a thermal device bids at a temperature, within [`floor`, `cap`]; elementwise.

    Temperatures may be in any unit as long as all are in the same; `low_c` and `high_c` are the
    edges of the comfort range. Ramps are positive, `mean` and `deviation` those of the price.

    >>> cooling = dict(mode=Mode.COOLING, desired_c=72.0, low_c=69.0, high_c=77.0, ramp_low=0.667,
    ...                ramp_high=0.360, mean=0.10, deviation=0.02, floor=0.0, cap=9999.0)
    >>> ramp_bid(np.array([70.0, 72.0, 75.0, 78.0]), **cooling).round(6).tolist()
    [0.091107, 0.1, 0.10432, 9999.0]
    """
    warm = np.asarray(temperature_c, dtype=np.float64)
    desired = np.asarray(desired_c, dtype=np.float64)
    below = warm < desired
    width = np.where(below, desired - low_c, np.asarray(high_c) - desired)
    ramp = np.where(below, ramp_low, ramp_high)
    slope = np.where(width > 0.0, ramp * np.asarray(deviation) / np.where(width > 0.0, width, 1.0), 0.0)
    bid = np.clip(np.asarray(mean) + int(mode) * (warm - desired) * slope, floor, cap)
    at_low, at_high = (floor, cap) if mode is Mode.COOLING else (cap, floor)
    return np.asarray(np.where(warm < low_c, at_low, np.where(warm > high_c, at_high, bid)), dtype=np.float64)


def ramp_setpoint(
    price: Numbers,
    *,
    mode: Mode,
    desired_c: Numbers,
    low_c: Numbers,
    high_c: Numbers,
    ramp_low: Numbers,
    ramp_high: Numbers,
    mean: Numbers,
    deviation: Numbers,
) -> FloatArray:
    """Set-point with which a thermal device answers a cleared price, inside its comfort range.

    The inverse of `ramp_bid` where that is strictly monotone.

    >>> float(ramp_setpoint(0.10432, mode=Mode.COOLING, desired_c=72.0, low_c=69.0, high_c=77.0,
    ...                     ramp_low=0.667, ramp_high=0.360, mean=0.10, deviation=0.02).round(6))
    75.0
    """
    excess = np.asarray(price, dtype=np.float64) - mean
    desired = np.asarray(desired_c, dtype=np.float64)
    shift_sign = int(mode) * np.sign(excess)
    width = np.where(shift_sign < 0, desired - low_c, np.asarray(high_c) - desired)
    steep = np.where(shift_sign < 0, ramp_low, ramp_high) * np.asarray(deviation)
    shift = np.where(steep > 0.0, int(mode) * excess * width / np.where(steep > 0.0, steep, 1.0), 0.0)
    return np.asarray(np.clip(desired + shift, low_c, high_c))
