"""The parameters of settlement, as the rules compose them; settlement itself sets none."""

from tellegen.rules.tariffs import ImbalanceRule, ReactiveRule, RetailParameters, RoundingRule, ShareKey
from tellegen.rules.tariffs import SettlementParameters as Parameters

__all__ = ["ImbalanceRule", "Parameters", "ReactiveRule", "RetailParameters", "RoundingRule", "ShareKey"]
