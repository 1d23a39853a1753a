"""Who gets what at what price? Orders, clearing on the AC network, prices, and their facts for the record.

In: a `grid.Network`, an `OrderBook` (or recorded `Orders`), the price at the root. Out: a `Clearing` (awards, nodal
prices with their parts and range, the power flow, evidence), and from it the integer facts that go on record.
"""

from tellegen.market.auction import Auction, double_auction
from tellegen.market.book import OrderBook
from tellegen.market.capability import Agreements
from tellegen.market.clearing import BindingLimit, Clearing, Evidence, Prices, Warm, clear
from tellegen.market.facts import Facts, awards, clearing_table, price_table, schedules, to_records
from tellegen.market.limits import LimitType
from tellegen.market.order_file import (
    OrderFile,
    read_agreement_rows,
    read_agreements_csv,
    read_order_rows,
    read_orders_csv,
)
from tellegen.market.parameters import Parameters
from tellegen.market.steps import Scenario

__all__ = [
    "Agreements",
    "Auction",
    "BindingLimit",
    "Clearing",
    "Evidence",
    "Facts",
    "LimitType",
    "OrderBook",
    "OrderFile",
    "Parameters",
    "Prices",
    "Scenario",
    "Warm",
    "awards",
    "clear",
    "clearing_table",
    "double_auction",
    "price_table",
    "read_agreement_rows",
    "read_agreements_csv",
    "read_order_rows",
    "read_orders_csv",
    "schedules",
    "to_records",
]
