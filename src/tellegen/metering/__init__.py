"""What happened? Meters and their keys, and the validation and estimation of what they send.

In: readings as they arrive, and what was accepted before. Out: one row of energy per customer and
interval, measured where the reading passes every check, estimated where it does not. The raw reading
stays on record either way.
"""

from tellegen.metering.devices import MeteringError, MeterKeys, authenticate, tagged
from tellegen.metering.estimate import daily_profile, energy_from_registers, longest_stillness
from tellegen.metering.validation import Estimate, Limits, MeterState, Registers, validate

__all__ = [
    "Estimate",
    "Limits",
    "MeterKeys",
    "MeterState",
    "MeteringError",
    "Registers",
    "authenticate",
    "daily_profile",
    "energy_from_registers",
    "longest_stillness",
    "tagged",
    "validate",
]
