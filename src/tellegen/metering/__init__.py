"""What happened? Meters and their keys, and the validation and estimation of what they send.

In: readings as they arrive, and what was accepted before. Out: one row of energy per customer and
interval, measured where the reading passes every check, estimated where it does not. The raw reading
stays on record either way.
"""

from tellegen.metering.devices import Code, DeviceCodes, MeteringError
from tellegen.metering.estimate import daily_profile, energy_from_registers, longest_stillness
from tellegen.metering.replay_window import ReplayWindow
from tellegen.metering.validation import Estimate, Limits, MeterState, Registers, validate

__all__ = [
    "Code",
    "DeviceCodes",
    "Estimate",
    "Limits",
    "MeterState",
    "MeteringError",
    "Registers",
    "ReplayWindow",
    "daily_profile",
    "energy_from_registers",
    "longest_stillness",
    "validate",
]
