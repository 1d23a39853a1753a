"""Who gets what at what price? Orders, clearing on the AC network, prices, and their facts for the record.

In: a `grid.Network`, an `OrderBook` (or recorded `Orders`), the price at the root. Out: a `Clearing` (awards, nodal
prices with their parts and range, the power flow, evidence), and from it the integer facts that go on record.
"""

from tellegen.market.auction import Auction, double_auction
from tellegen.market.book import NOT_ENERGISED, OrderBook
from tellegen.market.capability import Agreements
from tellegen.market.clearing import clear
from tellegen.market.engine import engine_name
from tellegen.market.facts import Facts, awards, price_table, schedules, to_records
from tellegen.market.limits import LimitType
from tellegen.market.market_power import Finding, Mitigated, References, clear_mitigated
from tellegen.market.optima import Choice
from tellegen.market.outcome import BindingLimit, Clearing, Evidence
from tellegen.market.parameters import Parameters
from tellegen.market.pivotal import PivotalTest
from tellegen.market.pricing import Prices
from tellegen.market.start import Start, can_start, start_after, start_of
from tellegen.market.steps import Scenario

__all__ = [
    "NOT_ENERGISED",
    "Agreements",
    "Auction",
    "BindingLimit",
    "Choice",
    "Clearing",
    "Evidence",
    "Facts",
    "Finding",
    "LimitType",
    "Mitigated",
    "OrderBook",
    "Parameters",
    "PivotalTest",
    "Prices",
    "References",
    "Scenario",
    "Start",
    "awards",
    "can_start",
    "clear",
    "clear_mitigated",
    "double_auction",
    "engine_name",
    "price_table",
    "schedules",
    "start_after",
    "start_of",
    "to_records",
]
