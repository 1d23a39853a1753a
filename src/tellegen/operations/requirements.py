"""Reserve that the operator of the grid asks for, from a file: ``time, product, quantity_kw, price[, feeder]``.

A row holds from its time until the next one about the same product and feeder; a quantity of 0 ends it. Both markets
ask for it: day-ahead for what holds when an hour begins, in real time for what holds in the interval. What is bought
day-ahead and asked for again in real time settles twice, like energy.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.operations.growing import GrowingFile, bounded_bytes, interval_at, rows_of
from tellegen.operations.timetable import day_of
from tellegen.records import Product, Requirements
from tellegen.rules import Rulebook
from tellegen.units import MICROS, ROW_LIMIT

COLUMNS = ("time", "product", "quantity_kw", "price", "feeder")
PRODUCTS = {"reserve_up": Product.RESERVE_UP, "reserve_down": Product.RESERVE_DOWN}
W_PER_KW = 1_000
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")
_WHAT = "reserve file"


@dataclass(frozen=True, slots=True)
class Asked:
    """A row: from an interval on, so many W of a product at no more than a price; on every feeder where none is named.

    Attributes
    ----------
    price_micros : micro-currency per kW and hour.
    """

    interval: int
    product: Product
    quantity_w: int
    price_micros: int
    feeder: str = ""


@dataclass(frozen=True, slots=True)
class Reserves:
    """All that is asked for, in the order of the file.

    >>> reserves = Reserves((Asked(10, Product.RESERVE_UP, 5_000, 40_000), Asked(12, Product.RESERVE_UP, 0, 0)))
    >>> [reserves.on("F1", [t]).quantity_w.tolist() for t in (9, 10, 11, 12)]
    [[], [5000], [5000], [0]]
    """

    rows: tuple[Asked, ...] = ()

    def on(self, feeder: str, intervals: Collection[int]) -> Requirements:
        """What holds on a feeder when intervals begin; the row that names the feeder before one that names none."""
        found: list[tuple[int, int, int, int]] = []
        for interval in intervals:
            for product in PRODUCTS.values():
                said = [row for row in self.rows if row.product is product and row.interval <= interval]
                own = [row for row in said if row.feeder == feeder]
                holds = own or [row for row in said if not row.feeder]
                if holds:
                    latest = max(holds, key=lambda row: row.interval)
                    found.append((interval, int(product), latest.quantity_w, latest.price_micros))
        first, kind, quantity, price = np.array(found, dtype=np.int64).reshape(-1, 4).T
        return Requirements(interval=first, product=kind.astype(np.uint8), quantity_w=quantity, price_micros=price)


class ReserveFile(GrowingFile[Reserves]):
    """A reserve file that somebody else appends to.

    Parameters
    ----------
    feeders : those that a row may name. rulebook : whose price cap bounds what is paid.
    """

    def __init__(self, path: Path, feeders: Collection[str], rulebook: Rulebook) -> None:
        super().__init__(path, _WHAT, lambda: read_reserves(path, feeders, rulebook, growing=True), Reserves())


def read_reserves(path: Path, feeders: Collection[str], rulebook: Rulebook, *, growing: bool = False) -> Reserves:
    """Read a reserve file; a header may name the columns. No row at all is right: nothing is asked for.

    Parameters
    ----------
    feeders : those that a row may name. rulebook : whose price cap bounds what is paid.
    growing : as `tellegen.operations.growing.bounded_bytes`.

    Raises
    ------
    InputError : not such a table, a time, product and feeder twice, or a price above the cap; says where.
    """
    found: dict[tuple[int, Product, str], Asked] = {}
    for line, row in rows_of(path, bounded_bytes(path, _WHAT, growing=growing), (COLUMNS[:-1], COLUMNS)):
        if not len(COLUMNS) - 1 <= len(row) <= len(COLUMNS):
            wanted = f"{', '.join(COLUMNS[:-1])}[, {COLUMNS[-1]}]"
            raise InputError(path, f"line {line}", f"has {len(row)} columns, not {wanted}")
        interval, product = interval_at(path, line, row[0]), PRODUCTS.get(row[1])
        if product is None:
            raise InputError(path, f"line {line}, product '{row[1][:40]}'", f"is none of {', '.join(PRODUCTS)}")
        feeder = row[4] if len(row) == len(COLUMNS) else ""
        if feeder and feeder not in feeders:
            raise InputError(path, f"line {line}, feeder '{feeder[:40]}'", f"is none of {', '.join(sorted(feeders))}")
        price_micros, cap = _whole(path, line, COLUMNS[3], row[3], MICROS), _cap_from(rulebook, interval)
        if price_micros > cap:
            said = f"is above the rulebook's price cap of {Decimal(cap) / MICROS} per kWh, so that no gate may pay it"
            remedy = "ask at the cap or below, or raise price_cap_per_kwh in a new version"
            raise InputError(path, f"line {line}, {COLUMNS[3]} '{row[3][:40]}'", f"{said}; {remedy}")
        asked = Asked(
            interval,
            product,
            _whole(path, line, COLUMNS[2], row[2], W_PER_KW),
            price_micros,
            feeder,
        )
        if found.setdefault((interval, product, feeder), asked) is not asked:
            raise InputError(path, f"line {line}", "asks for what a line before it asks for; give one")
    return Reserves(tuple(found.values()))


def _cap_from(rulebook: Rulebook, interval: int) -> int:
    """The lowest price cap of the versions that hold in an interval or later, for a row holds until the next."""
    day = day_of(rulebook, interval)
    held = [rules for rules in rulebook.versions if rules.effective <= day][-1:]
    later = [rules for rules in rulebook.versions if rules.effective > day]
    return min(rules.tariff.price_cap_micros_per_kwh for rules in held + later)


def _whole(path: Path, line: int, name: str, text: str, units: int) -> int:
    place = f"line {line}, {name} '{text[:40]}'"
    if not _NUMBER.fullmatch(text):
        raise InputError(path, place, "is not a decimal number such as 12.5, and not less than 0")
    value = Decimal(text) * units
    if value != int(value) or value >= ROW_LIMIT:
        raise InputError(path, place, f"is not a whole number of 1/{units}, or is too large")
    return int(value)
