"""What heat pumps and water heaters want: the ramp rule, cut to what the machine can do.

The published rule runs a device fully on or off. These machines modulate, so the bid is a curve: what
keeps the comfort range must run, the rest is bid by the rule, and nothing is bought that would
overheat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.bids import Mode, ramp_bid
from tellegen.agents.devices import HeatPumps, WaterHeaters
from tellegen.agents.homes import HOURS
from tellegen.agents.parameters import RampRule
from tellegen.agents.physics import heat_to_reach, thermal_step

FloatArray = NDArray[np.float64]

STEPS = 4


@dataclass(frozen=True, slots=True)
class Bodies:
    """Heated bodies of either kind, electric side and thermal side; all float64[k].

    ``capacity * dT/dt = gain * P - draw - ua * (T - surroundings)``.
    """

    power_w: FloatArray
    gain: FloatArray
    capacity_wh_per_k: FloatArray
    ua_w_per_k: FloatArray
    surroundings_c: FloatArray
    desired_c: FloatArray
    low_c: FloatArray
    high_c: FloatArray

    def power_to_reach(self, target_c: FloatArray, temperature_c: FloatArray, draw_w: FloatArray) -> FloatArray:
        """Electric power in [0, rated] that comes nearest to `target_c` at the end of an interval."""
        heat = heat_to_reach(
            target_c,
            temperature_c,
            draw_w,
            capacity_wh_per_k=self.capacity_wh_per_k,
            ua_w_per_k=self.ua_w_per_k,
            surroundings_c=self.surroundings_c,
            hours=HOURS,
        )
        return np.asarray(np.clip(heat / self.gain, 0.0, self.power_w))

    def temperature_after(self, power_w: FloatArray, temperature_c: FloatArray, draw_w: FloatArray) -> FloatArray:
        """Temperature at the end of an interval with a given electric power."""
        return thermal_step(
            temperature_c,
            self.gain * power_w,
            draw_w,
            capacity_wh_per_k=self.capacity_wh_per_k,
            ua_w_per_k=self.ua_w_per_k,
            surroundings_c=self.surroundings_c,
            hours=HOURS,
        ).temperature_c

    def holding_w(self, draw_w: FloatArray) -> FloatArray:
        """Electric power that holds the desired temperature against a draw, within the rating.

        draw_w : float64[k] or float64[k, T].
        """
        extra = (slice(None),) + (None,) * (draw_w.ndim - 1)
        loss = (self.ua_w_per_k * (self.desired_c - self.surroundings_c))[extra]
        return np.asarray(np.clip((draw_w + loss) / self.gain[extra], 0.0, self.power_w[extra]))


def buildings(heat_pumps: HeatPumps) -> Bodies:
    """Buildings with their heat pumps; losses beyond the demand are counted from the desired temperature."""
    return Bodies(
        heat_pumps.power_w,
        heat_pumps.cop,
        heat_pumps.capacity_wh_per_k,
        heat_pumps.ua_w_per_k,
        heat_pumps.desired_c,
        heat_pumps.desired_c,
        heat_pumps.low_c,
        heat_pumps.high_c,
    )


def tanks(water_heaters: WaterHeaters) -> Bodies:
    """Hot-water tanks with their elements."""
    return Bodies(
        water_heaters.power_w,
        np.ones(len(water_heaters)),
        water_heaters.capacity_wh_per_k,
        water_heaters.ua_w_per_k,
        water_heaters.ambient_c,
        water_heaters.desired_c,
        water_heaters.low_c,
        water_heaters.high_c,
    )


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Effective prices as the ramp rule sees them; float64[k] each, limits as floats."""

    mean: FloatArray
    deviation: FloatArray
    floor: float
    cap: float


def _bid(bodies: Bodies, temperature_c: FloatArray, prices: PriceRange, ramp: RampRule) -> FloatArray:
    return ramp_bid(
        temperature_c,
        mode=Mode.HEATING,
        desired_c=bodies.desired_c,
        low_c=bodies.low_c,
        high_c=bodies.high_c,
        ramp_low=ramp.low,
        ramp_high=ramp.high,
        mean=prices.mean,
        deviation=prices.deviation,
        floor=prices.floor,
        cap=prices.cap,
    )


def heating_bid(
    bodies: Bodies, temperature_c: FloatArray, draw_w: FloatArray, prices: PriceRange, ramp: RampRule
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bid for one interval: must-run power W float64[k], and flexible steps with their values, [k, STEPS].

    Must-run is what keeps `low_c` at the end of the interval. The flexible rest, up to the rating or to
    `high_c`, goes in `STEPS` equal steps, each worth the ramp bid at the temperature to which the
    interval at the middle of the step leads: so the power taken is the one after which the device's
    set-point for the cleared price is reached, and homes alike do not all start at once at full power.
    """
    must = bodies.power_to_reach(bodies.low_c, temperature_c, draw_w)
    flexible = np.maximum(bodies.power_to_reach(bodies.high_c, temperature_c, draw_w) - must, 0.0)
    middle = (np.arange(STEPS)[:, None] + 0.5) / STEPS  # all steps at once, one a row
    reached = bodies.temperature_after(must + middle * flexible, temperature_c, draw_w)
    value = _bid(bodies, np.clip(reached, bodies.low_c, bodies.high_c), prices, ramp)
    return must, np.tile((flexible / STEPS)[:, None], (1, STEPS)), value.T


def hourly_heating_steps(
    bodies: Bodies, holding_w: FloatArray, prices: PriceRange, ramp: RampRule
) -> tuple[FloatArray, FloatArray]:
    """Steps for one hour of the day ahead, around the power that holds the desired temperature.

    Up to twice that power is wanted, in `STEPS` equal steps; each is worth the ramp bid at the
    temperature to which an hour at the middle of the step would lead. Returns power and value,
    float64[k, STEPS] each.
    """
    most = np.minimum(2.0 * holding_w, bodies.power_w)
    values = []
    for j in range(STEPS):
        excess_w = (j + 0.5) / STEPS * most - holding_w
        reached = bodies.desired_c + excess_w * bodies.gain / bodies.capacity_wh_per_k
        values.append(_bid(bodies, reached, prices, ramp))
    return np.tile((most / STEPS)[:, None], (1, STEPS)), np.stack(values, axis=1)
