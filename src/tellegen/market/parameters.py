"""What the rules decide about a clearing: caps, and what it costs when a limit must give way."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from tellegen.errors import InputError

STARTS_MAX = 64
_POSITIVE = ("reserve_hours", "margin_rating", "margin_voltage_pu", "mismatch_pu_max", "violation_pu_max", "kkt_max")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a clearing; the rulebook composes them by date.

    A limit that cannot be met with the flexible orders at hand gives way at a published price, so that prices stay
    finite. Its penalty curve has two steps, so that a tiny excess does not spike the price: up to the *margin* the
    limit's dual is at most the first price, beyond it at most the second.

    Attributes
    ----------
    price_cap, price_floor : currency/kWh; the operator refuses orders outside at gate closure.
    penalty_margin_price, penalty_price : currency/kWh, on top of the root price's magnitude, per kW (kVA) by which a
        rating or the root limit is exceeded; for a voltage limit per kW-equivalent: the excess that one kW of demand
        at the node itself causes (its driving-point impedance, at no load).
    margin_rating : width of the first step, as a share of the rating or root limit.
    margin_voltage_pu : the same for voltage limits, per unit of voltage.
    curtailment_price : currency/kWh at which flexible capacity of a connection agreement is shed.
    reserve_hours : how long reserve must last once it is called.
    mismatch_pu_max, violation_pu_max, kkt_max : a clearing is accepted only on this evidence: largest power-flow
        mismatch (per unit of power); largest excess over limits beyond what was listed as given way (per unit of
        voltage; share of a rating or of the root limit); largest optimality residual (currency/kWh).
    shedding_factor : where inflexible power has no power flow, shedding a kWh of it costs so many times
        ``|root price| + penalty_price``.
    iterations_max : quadratic programs of one search.
    programs_max : quadratic programs of all searches and rescues together, before the fallback is taken.
    starts : places from which the search is run again where a clearing may have several optima (`market.optima`);
        0: never.
    """

    price_cap: float = 5.0
    price_floor: float = -1.0
    penalty_margin_price: float = 5.0
    penalty_price: float = 10.0
    margin_rating: float = 0.01
    margin_voltage_pu: float = 0.001
    curtailment_price: float = 2.0
    reserve_hours: float = 1.0
    mismatch_pu_max: float = 1e-9
    violation_pu_max: float = 1e-7
    kkt_max: float = 1e-6
    shedding_factor: float = 2.0
    iterations_max: int = 40
    programs_max: int = 1000
    starts: int = 8

    def __post_init__(self) -> None:
        for spec in fields(self):
            self._require(math.isfinite(getattr(self, spec.name)), spec.name, "must be finite")
        self._require(self.price_floor < self.price_cap, "price_floor", f"must be below price_cap {self.price_cap}")
        self._require(
            0 < self.penalty_margin_price <= self.penalty_price,
            "penalty_margin_price",
            f"must be positive, at most penalty_price {self.penalty_price}",
        )
        for name in _POSITIVE:
            self._require(getattr(self, name) > 0, name, "must be positive")
        self._require(self.shedding_factor >= 1, "shedding_factor", "must be at least 1: limits give way before supply")
        for name in ("iterations_max", "programs_max"):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        self._require(0 <= self.starts <= STARTS_MAX, "starts", f"must be 0 to {STARTS_MAX}")

    @staticmethod
    def _require(holds: bool, name: str, problem: str) -> None:
        if not holds:
            raise InputError("market parameters", name, problem)
