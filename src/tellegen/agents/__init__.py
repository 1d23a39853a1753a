"""What would a prosumer do? Devices, forecasts, bids.

In: the past of a home, the state of its devices, expected prices and the tariff. Out: orders for each
hour of the day ahead and for each real-time interval, and what the devices do with their awards. The
same devices also play the worlds without a market. `Fleet` is the face: it plans, bids and responds
for all homes of a feeder at once. Agents are handed a `Past` and nothing of what is to come.
"""

from tellegen.agents.behaviour import DevicePowers, OffPeak, World
from tellegen.agents.charging import expected_sessions, with_the_night_before
from tellegen.agents.curves import Offers, bid_at
from tellegen.agents.devices import Batteries, DeviceError, HeatPumps, Inverters, Vehicles, WaterHeaters
from tellegen.agents.fleet import Fleet, Response, connect
from tellegen.agents.forecast import ForecastError, expected_prices, price_statistics
from tellegen.agents.homes import DeviceState, FleetError
from tellegen.agents.knowledge import Actual, KnowledgeError, Past, Reality
from tellegen.agents.parameters import Parameters, RampRule, Tariff
from tellegen.agents.plan import Plan
from tellegen.agents.welfare import Closing

__all__ = [
    "Actual",
    "Batteries",
    "Closing",
    "DeviceError",
    "DevicePowers",
    "DeviceState",
    "Fleet",
    "FleetError",
    "ForecastError",
    "HeatPumps",
    "Inverters",
    "KnowledgeError",
    "OffPeak",
    "Offers",
    "Parameters",
    "Past",
    "Plan",
    "RampRule",
    "Reality",
    "Response",
    "Tariff",
    "Vehicles",
    "WaterHeaters",
    "World",
    "bid_at",
    "connect",
    "expected_prices",
    "expected_sessions",
    "price_statistics",
    "with_the_night_before",
]
