"""What follows from awards and readings under the rules? Pure functions from facts to postings.

In: the recorded facts of a day (`assemble_day`) and the day's `Parameters`. Out: postings of every
interval (`settle_intervals`) and of the day (`close_day`), statements in cents, and the bills of the
same customers in a world without a market (`retail_bills`). Integers only.
"""

from tellegen.settlement.apportioning import hourly_to_intervals, round_to_multiples
from tellegen.settlement.assembly import ClearedPeriod, assemble_day
from tellegen.settlement.billing import statements
from tellegen.settlement.day_close import DAY_LINES, GRID_LINES, SUPPLY_LINES, close_day, settle_day
from tellegen.settlement.facts import DayFacts, IntervalFacts, SettlementError, keys_of, latest_energy, with_energy
from tellegen.settlement.intervals import ENERGY_LINES, INTERVAL_LINES, settle_intervals
from tellegen.settlement.parameters import (
    ImbalanceRule,
    Parameters,
    ReactiveRule,
    RetailParameters,
    RoundingRule,
    ShareKey,
)
from tellegen.settlement.retail import (
    Comparison,
    Plan,
    RetailBills,
    RetailDay,
    RetailLine,
    compare_bills,
    peak_intervals,
    retail_bills,
)
from tellegen.settlement.specimen import specimen_day

__all__ = [
    "DAY_LINES",
    "ENERGY_LINES",
    "GRID_LINES",
    "INTERVAL_LINES",
    "SUPPLY_LINES",
    "ClearedPeriod",
    "Comparison",
    "DayFacts",
    "ImbalanceRule",
    "IntervalFacts",
    "Parameters",
    "Plan",
    "ReactiveRule",
    "RetailBills",
    "RetailDay",
    "RetailLine",
    "RetailParameters",
    "RoundingRule",
    "SettlementError",
    "ShareKey",
    "assemble_day",
    "close_day",
    "compare_bills",
    "hourly_to_intervals",
    "keys_of",
    "latest_energy",
    "peak_intervals",
    "retail_bills",
    "round_to_multiples",
    "settle_day",
    "settle_intervals",
    "specimen_day",
    "statements",
    "with_energy",
]
