"""What a clearing found besides prices and awards, as it goes on record with it, and as it is read from there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tellegen.market import Finding
from tellegen.market.withheld import Withheld
from tellegen.operations.gate import Cleared
from tellegen.operations.giving_way import limit_names, whole
from tellegen.operations.record import ShardRecord
from tellegen.records import Mitigations, Relaxations, Table, Withholdings
from tellegen.units import MICROS

FINDINGS = (Mitigations, Withholdings, Relaxations)
"""Tables that a clearing names besides what it settles from."""


def findings(cleared: Cleared) -> list[Table]:
    """The tables of what was found, in the order of `FINDINGS`; none where nothing was."""
    said, found = cleared.found, list[Table]()
    if said.findings:
        found.append(mitigations(said.findings))
    if said.withheld:
        found.append(withholdings(said.withheld))
    if len(said.gave_way):
        found.append(said.gave_way)
    return found


def mitigations(pivotal: tuple[Finding, ...]) -> Mitigations:
    """Who was pivotal on what."""
    return Mitigations(
        customer=np.array([each.participant for each in pivotal], dtype=np.int32),
        product=np.array([int(each.product) for each in pivotal], dtype=np.uint8),
        side=np.array([int(each.side) for each in pivotal], dtype=np.int8),
        limit=limit_names([each.limit for each in pivotal]),
        offered_micros=whole([each.offered for each in pivotal], MICROS),
        reference_micros=whole([each.reference for each in pivotal], MICROS),
        mitigated=np.array([each.mitigated for each in pivotal], dtype=np.uint8),
    )


def withholdings(found: tuple[Withheld, ...]) -> Withholdings:
    """Who kept relief back."""
    return Withholdings(
        customer=np.array([each.participant for each in found], dtype=np.int32),
        limit=limit_names([each.limit for each in found]),
        limit_micros=whole([each.dual_price for each in found], MICROS),
        needed_w=whole([each.needed_kw for each in found], 1_000),
        others_w=whole([each.others_kw for each in found], 1_000),
        idle_w=whole([each.idle_kw for each in found], 1_000),
        worth_micros=whole([each.worth for each in found], MICROS),
        price_micros=whole([each.price for each in found], MICROS),
    )


@dataclass(frozen=True, slots=True)
class MarketPower:
    """All that was found of one customer on one limit in one market; one line of a report.

    Attributes
    ----------
    what : "held", "pivotal" (and within its reference, or a buyer) or "withheld". clearings : in which it was.
    first, last : market intervals of the first and the last of them.
    asked_micros, reference_micros : the dearest offer and what it was held to; of what was withheld, the highest
        price at its node and what its energy was worth elsewhere.
    idle_w : the most that was kept back.
    """

    what: str
    customer: int
    limit: str
    market: str
    clearings: int
    first: int
    last: int
    asked_micros: int
    reference_micros: int
    idle_w: int


def found_of(record: ShardRecord) -> list[MarketPower]:
    """What tests of market power have put on record, by customer and limit; rows of erased customers are missing."""
    lines: dict[tuple[str, int, str, str], MarketPower] = {}
    for kind in (Mitigations, Withholdings):
        entries = record.journal.find(kind=kind.kind)
        for entry, table in record.tables(entries):
            header = record.header(entry)
            for one in _rows_of(table, header.market, header.interval):
                key = one.what, one.customer, one.limit, one.market
                before = lines.get(key)
                lines[key] = one if before is None else _both(before, one)
    return sorted(lines.values(), key=lambda each: (each.customer, each.what, each.limit, each.market))


def _rows_of(table: Table, market: str, interval: int) -> list[MarketPower]:
    rows = []
    if isinstance(table, Mitigations):
        for customer, limit, asked, reference, held in zip(
            *(getattr(table, name).tolist() for name in _HELD), strict=True
        ):
            what = "held" if held else "pivotal"
            rows.append(MarketPower(what, customer, limit.decode(), market, 1, interval, interval, asked, reference, 0))
    elif isinstance(table, Withholdings):
        for customer, limit, price, worth, idle in zip(
            *(getattr(table, name).tolist() for name in _KEPT_BACK), strict=True
        ):
            rows.append(
                MarketPower("withheld", customer, limit.decode(), market, 1, interval, interval, price, worth, idle)
            )
    return rows


def _both(one: MarketPower, two: MarketPower) -> MarketPower:
    dearest = max(one, two, key=lambda each: each.asked_micros - each.reference_micros)
    return replace(
        dearest,
        clearings=one.clearings + (two.first > one.last),
        first=one.first,
        last=two.last,
        idle_w=max(one.idle_w, two.idle_w),
    )


_HELD = ("customer", "limit", "offered_micros", "reference_micros", "mitigated")
_KEPT_BACK = ("customer", "limit", "price_micros", "worth_micros", "idle_w")
