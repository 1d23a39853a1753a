"""What happened? Meters and their keys, and the validation, estimation and editing of what they send.

In: readings as they arrive, and what was accepted before; or load profiles, from files and pushes. Out: one row of
energy per customer and interval, measured where the reading passes every check, estimated where it does not; or edits,
new versions with their rule and reason. The raw reading stays on record either way.
"""

from tellegen.metering.checks import Findings, Rules, check
from tellegen.metering.daily import check_roots, daily_leaves, daily_message, daily_root, meter_proof, sign_day
from tellegen.metering.devices import Code, DeviceCodes, MeteringError
from tellegen.metering.editing import Editing, Outcome, edit, outcomes
from tellegen.metering.estimate import daily_profile, energy_from_registers, longest_stillness
from tellegen.metering.gaps import Estimates, Methods, estimate
from tellegen.metering.load_profile import Channel, LoadProfile, ProfileRows, Quantity, Sites, Unit, flag, profile_of
from tellegen.metering.replay_window import ReplayWindow
from tellegen.metering.validation import Limits, MeterState, Sent, validate
from tellegen.metering.versions import believed, late_reading, next_version

__all__ = [
    "Channel",
    "Code",
    "DeviceCodes",
    "Editing",
    "Estimates",
    "Findings",
    "Limits",
    "LoadProfile",
    "MeterState",
    "MeteringError",
    "Methods",
    "Outcome",
    "ProfileRows",
    "Quantity",
    "ReplayWindow",
    "Rules",
    "Sent",
    "Sites",
    "Unit",
    "believed",
    "check",
    "check_roots",
    "daily_leaves",
    "daily_message",
    "daily_profile",
    "daily_root",
    "edit",
    "energy_from_registers",
    "estimate",
    "flag",
    "late_reading",
    "longest_stillness",
    "meter_proof",
    "next_version",
    "outcomes",
    "profile_of",
    "sign_day",
    "validate",
]
