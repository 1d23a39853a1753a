"""The rule of credit: how much an account may owe before its orders of the day ahead are refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CreditRule:
    """What bounds the positions of an account.

    Attributes
    ----------
    limit_nanos : most that an account may owe, nano-currency, where the registry names no limit of its own.
    price_micros : highest price at which what is bought and not paid yet, or sold and not delivered yet, is counted,
        micro-currency/kWh.
    """

    limit_nanos: int
    price_micros: int
