"""What did the regulator decide, and when? The rulebook by date, and the parameters it sets.

In: rulebook files, one per version. Out: the `Rules` of a day, from which settlement, the market and
the customers' agents take their frozen parameters. The parameters that settlement reads are declared
here, because imports point down and settlement stands above.
"""

from tellegen.rules.calendar import AdministrativePrice, TimetableParameters
from tellegen.rules.rendering import Change, diff, entries, render
from tellegen.rules.root_prices import PriceProof, RootPriceParameters
from tellegen.rules.rulebook import Roles, Rulebook, Rules
from tellegen.rules.tariffs import (
    ImbalanceRule,
    ReactiveRule,
    RetailParameters,
    RoundingRule,
    SettlementParameters,
    ShareKey,
    Tariff,
)

__all__ = [
    "AdministrativePrice",
    "Change",
    "GapEnergy",
    "ImbalanceRule",
    "PriceProof",
    "ReactiveRule",
    "RetailParameters",
    "Roles",
    "RootPriceParameters",
    "RoundingRule",
    "Rulebook",
    "Rules",
    "SettlementParameters",
    "ShareKey",
    "Tariff",
    "TimetableParameters",
    "diff",
    "entries",
    "render",
]
