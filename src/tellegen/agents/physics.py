"""How devices behave over one interval: pure step functions, exact in energy.

The simulated plant moves with them, and the agents foresee with them. Power is electric, at the
meter, in W, withdrawal positive; energy in Wh; `hours` is the length of the step. Every function
clips the power that is asked for to what is possible and returns the power that really flowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.devices import POWER_FACTOR_MIN

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BatteryStep:
    """Result of `battery_step`: ``power_w * hours == (soc_wh - before) + loss_wh`` per battery."""

    soc_wh: FloatArray
    power_w: FloatArray
    loss_wh: FloatArray


def battery_step(
    soc_wh: FloatArray,
    power_w: FloatArray,
    *,
    capacity_wh: FloatArray,
    limit_w: FloatArray,
    efficiency: FloatArray,
    hours: float,
) -> BatteryStep:
    """Charge (positive power) or discharge (negative) batteries for one step.

    ``soc' = soc + sqrt(efficiency) * P * h`` when charging, ``soc + P * h / sqrt(efficiency)`` when
    discharging.

    >>> step = battery_step(np.array([0.0]), np.array([2000.0]), capacity_wh=np.array([1e4]),
    ...                     limit_w=np.array([5e3]), efficiency=np.array([0.81]), hours=0.5)
    >>> step.soc_wh.tolist(), step.loss_wh.tolist()
    ([900.0], [100.0])
    """
    one_way = np.sqrt(efficiency)
    most = np.minimum(limit_w, np.maximum(capacity_wh - soc_wh, 0.0) / (one_way * hours))
    least = -np.minimum(limit_w, np.maximum(soc_wh, 0.0) * one_way / hours)
    power = np.clip(power_w, least, most)
    change = np.where(power > 0.0, power * one_way, power / one_way) * hours
    after = np.clip(soc_wh + change, 0.0, capacity_wh)
    return BatteryStep(after, power, power * hours - (after - soc_wh))


def vehicle_step(
    remaining_wh: FloatArray, power_w: FloatArray, *, limit_w: FloatArray, hours: float
) -> tuple[FloatArray, FloatArray]:
    """Charge cars for one step: what still has to be delivered, and the power that flowed.

    Both are counted at the meter; a car stops when nothing remains.

    >>> vehicle_step(np.array([500.0]), np.array([11e3]), limit_w=np.array([11e3]), hours=1 / 12)
    (array([0.]), array([6000.]))
    """
    power = np.clip(power_w, 0.0, np.minimum(limit_w, np.maximum(remaining_wh, 0.0) / hours))
    return np.maximum(remaining_wh - power * hours, 0.0), power


@dataclass(frozen=True, slots=True)
class ThermalStep:
    """Result of `thermal_step`; per body ``heat in == stored + drawn + lost``, all in Wh."""

    temperature_c: FloatArray
    heat_in_wh: FloatArray
    stored_wh: FloatArray
    drawn_wh: FloatArray
    lost_wh: FloatArray


def thermal_step(
    temperature_c: FloatArray,
    heat_w: FloatArray,
    draw_w: FloatArray,
    *,
    capacity_wh_per_k: FloatArray,
    ua_w_per_k: FloatArray,
    surroundings_c: FloatArray,
    hours: float,
) -> ThermalStep:
    """Heat a body of one capacity through one step, by the exact solution of its equation.

    ``C dT/dt = heat - draw - UA * (T - surroundings)``, heat and draw constant over the step. The
    loss is the integral of the last term, found on its own and not as the remainder.

    >>> still = thermal_step(np.array([20.0]), np.array([900.0]), np.array([900.0]), hours=1.0,
    ...     capacity_wh_per_k=np.array([3e3]), ua_w_per_k=np.array([150.0]), surroundings_c=np.array([20.0]))
    >>> still.temperature_c.tolist()
    [20.0]
    """
    gap = temperature_c - surroundings_c
    net = heat_w - draw_w
    rate = ua_w_per_k * hours / capacity_wh_per_k
    # (1 - exp(-x)) / x and (1 - that) / x tend to 1 and 1/2 as the insulation becomes perfect
    small = rate < 1e-6
    safe = np.where(small, 1.0, rate)
    decay = -np.expm1(-safe)
    first = np.where(small, 1.0 - rate / 2, decay / safe)
    second = np.where(small, 0.5 - rate / 6, (1.0 - decay / safe) / safe)
    rise = (net - ua_w_per_k * gap) * hours / capacity_wh_per_k * first
    mean_gap = gap * first + net * hours / capacity_wh_per_k * second
    return ThermalStep(
        temperature_c=temperature_c + rise,
        heat_in_wh=heat_w * hours,
        stored_wh=capacity_wh_per_k * rise,
        drawn_wh=draw_w * hours,
        lost_wh=ua_w_per_k * mean_gap * hours,
    )


def heat_to_reach(
    target_c: FloatArray,
    temperature_c: FloatArray,
    draw_w: FloatArray,
    *,
    capacity_wh_per_k: FloatArray,
    ua_w_per_k: FloatArray,
    surroundings_c: FloatArray,
    hours: float,
) -> FloatArray:
    """Constant heat in W (any sign) that brings a body to `target_c` at the end of the step."""
    coasting = thermal_step(
        temperature_c,
        np.zeros_like(temperature_c),
        draw_w,
        capacity_wh_per_k=capacity_wh_per_k,
        ua_w_per_k=ua_w_per_k,
        surroundings_c=surroundings_c,
        hours=hours,
    )
    rate = ua_w_per_k * hours / capacity_wh_per_k
    small = rate < 1e-6
    first = np.where(small, 1.0 - rate / 2, -np.expm1(-np.where(small, 1.0, rate)) / np.where(small, 1.0, rate))
    return np.asarray((target_c - coasting.temperature_c) * capacity_wh_per_k / (hours * first))


def reactive_limit_kvar(rated_kva: FloatArray, power_kw: FloatArray) -> FloatArray:
    """Most reactive power, either sign, that an inverter gives beside its active power.

    ``min(sqrt(rated^2 - p^2), p * tan(acos(POWER_FACTOR_MIN)))``.

    >>> reactive_limit_kvar(np.array([5.0]), np.array([3.0])).round(4).tolist()
    [1.453]
    """
    circle = np.sqrt(np.maximum(rated_kva**2 - power_kw**2, 0.0))
    return np.asarray(np.minimum(circle, np.abs(power_kw) * np.tan(np.arccos(POWER_FACTOR_MIN))))
