"""What happened? Meters and their keys, and the validation and estimation of what they send.

In: readings as they arrive, and what was accepted before. Out: one row of energy per customer and
interval, measured where the reading passes every check, estimated where it does not. The raw reading
stays on record either way.
"""

from tellegen.metering.daily import check_roots, daily_leaves, daily_message, daily_root, meter_proof, sign_day
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
    "check_roots",
    "daily_leaves",
    "daily_message",
    "daily_profile",
    "daily_root",
    "energy_from_registers",
    "longest_stillness",
    "meter_proof",
    "sign_day",
    "validate",
]
