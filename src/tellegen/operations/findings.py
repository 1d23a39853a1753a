"""What a test of market power found, as it goes on record with its clearing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.market import Finding
from tellegen.market.withheld import Withheld
from tellegen.operations.gate import Cleared
from tellegen.records import Mitigations, Table, Withholdings
from tellegen.units import MICROS, ROW_LIMIT, IntArray

LIMIT_BYTES_MAX = 64


def market_power(cleared: Cleared) -> list[Table]:
    """The tables of what was found; none where nothing was."""
    found: list[Table] = []
    if cleared.findings:
        found.append(mitigations(cleared.findings))
    if cleared.withheld:
        found.append(withholdings(cleared.withheld))
    return found


def mitigations(findings: tuple[Finding, ...]) -> Mitigations:
    """Who was pivotal on what."""
    return Mitigations(
        customer=np.array([each.participant for each in findings], dtype=np.int32),
        product=np.array([int(each.product) for each in findings], dtype=np.uint8),
        side=np.array([int(each.side) for each in findings], dtype=np.int8),
        limit=_names([each.limit for each in findings]),
        offered_micros=_whole([each.offered for each in findings], MICROS),
        reference_micros=_whole([each.reference for each in findings], MICROS),
        mitigated=np.array([each.mitigated for each in findings], dtype=np.uint8),
    )


def withholdings(found: tuple[Withheld, ...]) -> Withholdings:
    """Who kept relief back."""
    return Withholdings(
        customer=np.array([each.participant for each in found], dtype=np.int32),
        limit=_names([each.limit for each in found]),
        limit_micros=_whole([each.dual_price for each in found], MICROS),
        needed_w=_whole([each.needed_kw for each in found], 1_000),
        others_w=_whole([each.others_kw for each in found], 1_000),
        idle_w=_whole([each.idle_kw for each in found], 1_000),
        worth_micros=_whole([each.worth for each in found], MICROS),
        price_micros=_whole([each.price for each in found], MICROS),
    )


def _names(limits: list[str]) -> NDArray[np.bytes_]:
    return np.array([limit.encode("ascii", "replace")[:LIMIT_BYTES_MAX] for limit in limits], dtype="S64")


def _whole(values: list[float], scale: int) -> IntArray:
    return np.array([round(max(min(value * scale, ROW_LIMIT - 1), 1 - ROW_LIMIT)) for value in values], dtype=np.int64)
