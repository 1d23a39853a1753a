"""Frozen parameters that the rules hand to settlement and to the customers' agents.

They are declared here, below the packages that read them, and composed from a rulebook version by
`tellegen.rules.rulebook`. Nothing outside a rulebook gives any of them a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tellegen.units import MICROS


class ShareKey(StrEnum):
    """By what a pool is shared among customers; none can be moved by a trade of the day (law 8)."""

    TRAILING_WITHDRAWAL = "trailing_withdrawal"
    """Metered withdrawal over the days before, frozen as the day's `AllocationKeys`."""
    EQUAL = "equal"
    """The same share for every enrolled customer."""


class RoundingRule(StrEnum):
    """How whatever divides is made whole (law 1)."""

    LARGEST_REMAINDER = "largest_remainder"
    """Largest remainder, ties by a hash of allocation and member (`units.tie_hash`)."""


class MarketPowerTest(StrEnum):
    """Whether a gate looks for market power behind a binding limit (law 7)."""

    NONE = "none"
    """It does not."""
    PIVOTAL = "pivotal"
    """Whoever the limit cannot be relieved without is held to its reference price."""


class ImbalanceRule(StrEnum):
    """At what price a deviation from the real-time award settles."""

    REAL_TIME_PRICE = "real_time_price"
    """The node's real-time price, the same for both directions."""


class ReactiveRule(StrEnum):
    """Whether net reactive withdrawal settles."""

    REAL_TIME_PRICE = "real_time_price"
    """At the node's real-time reactive price."""
    NOT_SETTLED = "not_settled"
    """Not at all: the reactive price steers but is not billed."""


@dataclass(frozen=True, slots=True)
class RetailParameters:
    """The tariff of a world without a market, against which the market is compared.

    Attributes
    ----------
    peak_start_hour, peak_end_hour : local hours, half-open, every day; the rest is off-peak.
    off_peak_ratio_ppm : off-peak price as parts per million of the peak price.
    feed_in_micros_per_kwh : what the retailer pays for injected energy.
    """

    peak_start_hour: int
    peak_end_hour: int
    off_peak_ratio_ppm: int
    feed_in_micros_per_kwh: int


@dataclass(frozen=True, slots=True)
class SettlementParameters:
    """What settlement needs to know of the rules of a day.

    Attributes
    ----------
    time_zone : IANA name of the billing calendar.
    network_withdrawal_micros_per_kwh : network tariff per kWh imported.
    network_fixed_nanos_per_day : network charge per customer and day.
    network_revenue_nanos_per_customer_day : regulated network revenue, per enrolled customer.
    energy_tax_micros_per_kwh : tax per kWh imported.
    sales_tax_ppm : tax on the day's supply (see `tellegen.settlement.day_close`), parts per million.
    rent_key, unaccounted_key, true_up_key : sharing keys of the three day-level pools.
    rounding : rule of every allocation.
    imbalance : price of deviations from the real-time award.
    reactive : whether reactive withdrawal settles.
    retail : tariff of the comparison worlds.
    late_feed_in_micros_per_kwh : most that is paid for energy fed in which no price counted, for its meter was missing
        (`IntervalFacts.late_feed_in_wh`); None: the settled price.
    """

    time_zone: str
    network_withdrawal_micros_per_kwh: int
    network_fixed_nanos_per_day: int
    network_revenue_nanos_per_customer_day: int
    energy_tax_micros_per_kwh: int
    sales_tax_ppm: int
    rent_key: ShareKey
    unaccounted_key: ShareKey
    true_up_key: ShareKey
    rounding: RoundingRule
    imbalance: ImbalanceRule
    reactive: ReactiveRule
    retail: RetailParameters
    late_feed_in_micros_per_kwh: int | None = None

    def network_revenue_nanos(self, customers: int, part: Fraction | int = 1) -> int:
        """Regulated network revenue of a day, or of part of one, with this many enrolled customers."""
        return int(self.network_revenue_nanos_per_customer_day * part) * customers


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a customer's agent sees of the rules: the wedge between the market price and its own.

    A withdrawal pays the node's price plus `withdrawal_micros_per_kwh`, an injection earns the
    node's price. Orders stay within [`price_floor_micros_per_kwh`, `price_cap_micros_per_kwh`].

    >>> Tariff(80_000, 20_000, 190_000, -500_000, 3_000_000).withdrawal_micros_per_kwh
    100000
    """

    network_micros_per_kwh: int
    energy_tax_micros_per_kwh: int
    sales_tax_ppm: int
    price_floor_micros_per_kwh: int
    price_cap_micros_per_kwh: int

    @property
    def withdrawal_micros_per_kwh(self) -> int:
        """Network tariff and energy tax on each kWh withdrawn, before sales tax."""
        return self.network_micros_per_kwh + self.energy_tax_micros_per_kwh

    @property
    def withdrawal_per_kwh(self) -> float:
        """`withdrawal_micros_per_kwh` in currency, for the agents' own optimisation."""
        return self.withdrawal_micros_per_kwh / MICROS
