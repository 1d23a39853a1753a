"""What an agent is told: the tariff it sees and the preferences of its owner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tariff:
    """What comes on top of the market price for energy that a home withdraws.

    A home pays ``(price + network + tax) * (1 + sales_tax)`` per kWh that its meter counts as
    import, and is paid ``price`` per kWh that it counts as export.

    Attributes
    ----------
    network_per_kwh, tax_per_kwh : currency per kWh withdrawn.
    sales_tax : share added to everything that is bought (0.19 for 19 %).

    >>> tariff = Tariff(network_per_kwh=0.08, tax_per_kwh=0.02, sales_tax=0.0)
    >>> float(tariff.import_price(0.25)), round(float(tariff.market_price(0.35)), 12)
    (0.35, 0.25)
    """

    network_per_kwh: float = 0.08
    tax_per_kwh: float = 0.02
    sales_tax: float = 0.0

    def import_price(self, price: ArrayLike) -> FloatArray:
        """Effective price of a kWh withdrawn when the market price is `price`, currency per kWh."""
        surcharge = self.network_per_kwh + self.tax_per_kwh
        return np.asarray((np.asarray(price, dtype=np.float64) + surcharge) * (1.0 + self.sales_tax))

    def market_price(self, value: ArrayLike) -> FloatArray:
        """Market price at which a kWh withdrawn costs `value`: the inverse of `import_price`."""
        surcharge = self.network_per_kwh + self.tax_per_kwh
        return np.asarray(np.asarray(value, dtype=np.float64) / (1.0 + self.sales_tax) - surcharge)


@dataclass(frozen=True, slots=True)
class RampRule:
    """Comfort against price, as in the Olympic Peninsula project: see `tellegen.agents.bids`.

    `low` applies below the desired temperature, `high` above it. Standard deviations of the price
    that an owner would pay at the edge of the comfort range; positive for cooling and heating alike.
    The default bids less eagerly for heat above the desired temperature, which leaks away.
    """

    low: float = 4.0
    high: float = 8.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """Preferences and limits that all agents of a fleet share.

    Attributes
    ----------
    price_floor, price_cap : limits of order prices, currency per kWh.
    wear_per_kwh : battery wear, currency per kWh discharged at the meter.
    storage_cells : cells of the state of charge in the valuation of storage.
    return_to_start : whether batteries are held to end the day as charged as they began it; else they
        end it as charged as the following day, expected to be alike, makes worth while.
    ramp : comfort against price of heat pumps and water heaters.
    comfort_deviation : standard deviation of effective prices, currency per kWh, at which the discomfort
        of buildings is valued: with `ramp` it gives what owners' bids reveal (see `welfare.discomfort`).
    tank_comfort : discomfort of tanks, currency per kelvin squared and hour away from the desired
        temperature; ten kelvin off for a day cost 0.48.
    day_ahead_reactive : whether reactive power is offered day ahead too, as in real time.
    """

    price_floor: float = -0.5
    price_cap: float = 3.0
    wear_per_kwh: float = 0.03
    storage_cells: int = 48
    return_to_start: bool = True
    ramp: RampRule = RampRule()
    comfort_deviation: float = 0.04
    tank_comfort: float = 0.0002
    day_ahead_reactive: bool = True
