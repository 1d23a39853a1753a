"""What follows from awards and readings under the rules? Pure functions from facts to postings.

In: the recorded facts of intervals and of a feeder's day, and the day's `Parameters`. Out: postings of
every interval (`settle_intervals`, `settle_reserves`) and of the day (`close_feeder`), statements in
cents (`invoice`), and the bills of the same customers in a world without a market (`retail_bills`).
Integers only.
"""

from tellegen.settlement.apportioning import hourly_to_intervals, round_to_multiples, share_of_hour
from tellegen.settlement.billing import invoice, line_sums, statements, statements_of_day
from tellegen.settlement.day_close import (
    DAY_LINES,
    GRID_LINES,
    SHARED_LINES,
    SUPPLY_LINES,
    FeederClose,
    close_day,
    close_feeder,
    round_bills,
    settle_day,
)
from tellegen.settlement.facts import READ, DayFacts, IntervalFacts, SettlementError, latest_energy, with_energy
from tellegen.settlement.feeder_day import FeederDay, OpenBills
from tellegen.settlement.intervals import ENERGY_LINES, INTERVAL_LINES, settle_intervals
from tellegen.settlement.parameters import (
    ImbalanceRule,
    Parameters,
    ReactiveRule,
    RetailParameters,
    RoundingRule,
    ShareKey,
)
from tellegen.settlement.reserves import ReserveFacts, settle_reserves
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
from tellegen.settlement.specimen import specimen_day, specimen_move

__all__ = [
    "DAY_LINES",
    "ENERGY_LINES",
    "GRID_LINES",
    "INTERVAL_LINES",
    "READ",
    "SHARED_LINES",
    "SUPPLY_LINES",
    "Comparison",
    "DayFacts",
    "FeederClose",
    "FeederDay",
    "ImbalanceRule",
    "IntervalFacts",
    "OpenBills",
    "Parameters",
    "Plan",
    "ReactiveRule",
    "ReserveFacts",
    "RetailBills",
    "RetailDay",
    "RetailLine",
    "RetailParameters",
    "RoundingRule",
    "SettlementError",
    "ShareKey",
    "close_day",
    "close_feeder",
    "compare_bills",
    "hourly_to_intervals",
    "invoice",
    "latest_energy",
    "line_sums",
    "peak_intervals",
    "retail_bills",
    "round_bills",
    "round_to_multiples",
    "settle_day",
    "settle_intervals",
    "settle_reserves",
    "share_of_hour",
    "specimen_day",
    "specimen_move",
    "statements",
    "statements_of_day",
    "with_energy",
]
