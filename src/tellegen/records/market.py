"""What the market puts on record: orders, their signatures, prices, awards, clearings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column

DAY_AHEAD, REAL_TIME = "day_ahead", "real_time"
MARKETS = (DAY_AHEAD, REAL_TIME)
"""The two markets: hours of the coming day, and the market interval that is about to begin."""
PRICE_RUN = "price_run"
"""What is cleared on meters when an interval settles; nobody bids for it. Its prices settle real time, where the rules
hold one, and those of the real-time gate are a guide."""
CLEARED = (*MARKETS, PRICE_RUN)
"""All that is cleared."""


class Product(IntEnum):
    """What an order is for."""

    ENERGY = 0
    REACTIVE = 1
    RESERVE_UP = 2
    RESERVE_DOWN = 3


class Side(IntEnum):
    """Direction of an order: ``BUY`` withdraws from the network, ``SELL`` injects."""

    BUY = 1
    SELL = -1


class Device(IntEnum):
    """The device (or remainder of the home) on whose behalf an order stands."""

    LOAD = 0
    PV = 1
    BATTERY = 2
    VEHICLE = 3
    HEAT_PUMP = 4
    WATER_HEATER = 5


class ClearingStatus(IntEnum):
    """How a clearing ended (law 7): it always ends with finite prices and one of these.

    ADMINISTRATIVE: there was none, for the gate was missed or had no wholesale price; the rulebook's price stands.
    """

    OPTIMAL = 0
    RELAXED = 1
    FALLBACK = 2
    ADMINISTRATIVE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Orders(Table):
    """Orders of one market, one row per step of a curve; a day-ahead batch is about all periods of its delivery day.

    A buy step takes any part of its quantity at or below its price, a sell step at or above. A
    price-taker takes its whole quantity whatever the price.
    """

    kind: ClassVar[str] = "orders"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number, from 1")
    period: NDArray[np.uint8] = column("|u1", "1", "period of the delivery day, from 0; 0 in real time")
    device: NDArray[np.uint8] = column("|u1", "Device", "device behind the order")
    node: NDArray[np.int32] = column("<i4", "1", "node index in the recorded network")
    product: NDArray[np.uint8] = column("|u1", "Product", "what is bought or sold")
    side: NDArray[np.int8] = column("|i1", "Side", "+1 buys (withdraws), -1 sells (injects)")
    price_taker: NDArray[np.uint8] = column("|u1", "bool", "1: price is not considered")
    price_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "limit price")
    quantity_w: NDArray[np.int64] = column("<i8", "W (var for REACTIVE)", "most that is wanted, >= 0")
    var_per_kw: NDArray[np.int32] = column("<i4", "var/kW", "reactive power that comes along, same side")


@dataclass(frozen=True, slots=True, eq=False)
class Submissions(Table):
    """Who signed which orders: one Ed25519 signature over a customer's rows of an order batch.

    What is signed is `records.submission.bid_message`; the rows of a customer stand together.
    """

    kind: ClassVar[str] = "submissions"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    order_rows: NDArray[np.int32] = column("<i4", "1", "number of order rows signed")
    sequence: NDArray[np.int64] = column("<i8", "1", "customer's own number, >= 0: of several the highest counts")
    signature: NDArray[np.void] = column("|V64", "bytes", "Ed25519 signature")


@dataclass(frozen=True, slots=True, eq=False)
class Awards(Table):
    """What orders got, in milliwatts (millivars) held over the period; who got nothing has no row."""

    kind: ClassVar[str] = "awards"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    order: NDArray[np.int32] = column("<i4", "1", "row of the order in its customer's submission")
    quantity_mw: NDArray[np.int64] = column("<i8", "mW (mvar for REACTIVE)", "awarded, > 0, side as the order")

    def by_order(self, orders: int) -> NDArray[np.int64]:
        """What each row of a book of so many orders got, int64[orders]; 0 where there is no row."""
        award = np.zeros(orders, dtype=np.int64)
        award[self.order] = self.quantity_mw
        return award


@dataclass(frozen=True, slots=True, eq=False)
class RefusedOrders(Table):
    """Orders that a gate did not take, and why; who owes too much is told to nobody else."""

    kind: ClassVar[str] = "refused_orders"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    order: NDArray[np.int32] = column("<i4", "1", "row of the order in its customer's submission")
    refusal: NDArray[np.uint8] = column("|u1", "Refusal", "why it was refused")


@dataclass(frozen=True, slots=True, eq=False)
class Schedules(Table):
    """Whole energy awarded to a customer in a market period; withdrawal positive.

    The sum over customers, less the modelled losses and the root's energy, is zero: the root is the
    residual (law 1). Reserve is power that is held ready: W times the hours for which it is. What is not yet whole is
    carried to the customer's next schedule of the market.
    """

    kind: ClassVar[str] = "schedules"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    node: NDArray[np.int32] = column("<i4", "1", "node index at which it is priced")
    energy_wh: NDArray[np.int64] = column("<i8", "Wh", "net withdrawal awarded over the period")
    reactive_varh: NDArray[np.int64] = column("<i8", "varh", "net reactive withdrawal awarded")
    reserve_up_wh: NDArray[np.int64] = column("<i8", "W h", "upward reserve held ready, >= 0")
    reserve_down_wh: NDArray[np.int64] = column("<i8", "W h", "downward reserve held ready, >= 0")
    carry_energy: NDArray[np.int32] = column("<i4", "mW x interval", "carried on, 0 to less than 1 Wh")
    carry_reactive: NDArray[np.int32] = column("<i4", "uvar x interval", "carried on, 0 to less than 1 varh")
    carry_reserve_up: NDArray[np.int32] = column("<i4", "mW x interval", "carried on, 0 to less than 1 W h")
    carry_reserve_down: NDArray[np.int32] = column("<i4", "mW x interval", "carried on, 0 to less than 1 W h")


@dataclass(frozen=True, slots=True, eq=False)
class Prices(Table):
    """Prices of one clearing at every node: what one more kWh (kvarh) of demand there costs.

    ``energy == root + losses + congestion + voltage`` exactly. Reserve is paid its price at the node where it is held.
    """

    kind: ClassVar[str] = "prices"

    node: NDArray[np.int32] = column("<i4", "1", "node index")
    energy: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "DLMP of active power, settles")
    root: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "part: energy at the root")
    losses: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "part: marginal losses")
    congestion: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "part: ratings and root limit")
    voltage: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "part: voltage limits")
    low: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "price range, lower end")
    high: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "price range, upper end")
    reactive: NDArray[np.int64] = column("<i8", "micro-currency/kvarh", "DLMP of reactive power")
    reserve_up: NDArray[np.int64] = column("<i8", "micro-currency/kW/h", "price of upward reserve, 0 where none")
    reserve_down: NDArray[np.int64] = column("<i8", "micro-currency/kW/h", "price of downward reserve, 0 where none")

    def with_reserve_of(self, other: Prices) -> Prices:
        """These prices, with those of reserve of other ones."""
        return replace(self, reserve_up=other.reserve_up, reserve_down=other.reserve_down)


@dataclass(frozen=True, slots=True, eq=False)
class Clearings(Table):
    """One row: how a clearing ended, its totals and the evidence on which it was accepted."""

    kind: ClassVar[str] = "clearings"

    status: NDArray[np.uint8] = column("|u1", "ClearingStatus", "optimal, relaxed or fallback")
    root_price: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "wholesale price at the root")
    root_wh: NDArray[np.int64] = column("<i8", "Wh", "energy taken from the root over the period")
    root_varh: NDArray[np.int64] = column("<i8", "varh", "reactive energy taken from the root")
    losses_wh: NDArray[np.int64] = column("<i8", "Wh", "modelled losses: root less schedules")
    rent_nanos: NDArray[np.int64] = column("<i8", "nano-currency", "schedules at prices less root cost")
    welfare_micros_per_h: NDArray[np.int64] = column("<i8", "micro-currency/h", "value less cost")
    iterations: NDArray[np.int32] = column("<i4", "1", "quadratic programs solved")
    binding: NDArray[np.int32] = column("<i4", "1", "limits that bind")
    violation_nano_pu: NDArray[np.int64] = column("<i8", "1e-9 pu", "largest limit excess")
    mismatch_nano_pu: NDArray[np.int64] = column("<i8", "1e-9 pu", "largest power-flow mismatch")
    kkt_nano: NDArray[np.int64] = column("<i8", "1e-9 currency/kWh", "largest optimality residual")
