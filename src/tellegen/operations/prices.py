"""Wholesale prices from a file that grows: ``time, real_time[, day_ahead]``, a row per 5, 15, 30 or 60 minutes.

A time carries its offset (ISO 8601), a price is decimal text in currency per kWh and becomes micro-currency exactly.
What the file does not say has no price: nothing is carried on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.operations.growing import GrowingFile, interval_at, rows_of
from tellegen.records import RootPrices
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S, MICROS, IntArray

COLUMNS = ("time", "real_time", "day_ahead")
_WHAT = "price file"
_SPACINGS_S = (300, 900, 1800, 3600)
_PRICE = re.compile(r"[+-]?\d{1,9}(\.\d{1,18})?")
_SOURCE_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True, eq=False)
class PriceSeries:
    """Prices by market interval.

    Attributes
    ----------
    source : what goes on record as their origin.
    interval : int64[n], ascending; there may be gaps.
    real_time, day_ahead : int64[n], micro-currency/kWh; `day_ahead` is None where the file has no such column.
    """

    source: str
    interval: IntArray
    real_time: IntArray
    day_ahead: IntArray | None

    @property
    def end(self) -> int:
        """First market interval behind the last price."""
        return int(self.interval[-1]) + 1 if self.interval.size else 0

    def real_time_of(self, intervals: range) -> RootPrices:
        """Real-time prices of intervals; one without a price has no row."""
        return self._rows([range(interval, interval + 1) for interval in intervals], self.real_time)

    def day_ahead_of(self, periods: Sequence[range]) -> RootPrices:
        """Day-ahead prices of periods, the mean where it changes within one; a period without one has no row."""
        return self._rows(periods, self.day_ahead)

    def _rows(self, periods: Sequence[range], micros: IntArray | None) -> RootPrices:
        found: list[tuple[int, int]] = []
        for period in periods:
            first, last = np.searchsorted(self.interval, (period.start, period.stop))
            if micros is not None and last - first == len(period):
                found.append((period.start, round(int(micros[first:last].sum()) / len(period))))
        first_interval, price = np.array(found, dtype=np.int64).reshape(-1, 2).T
        source = np.full(len(found), self.source.encode("ascii", "replace")[:_SOURCE_CHARACTERS_MAX], dtype="S64")
        return RootPrices(interval=first_interval, micros=price, source=source)


class PriceFile(GrowingFile[PriceSeries]):
    """A price file that somebody else appends to.

    Parameters
    ----------
    rulebook : no price may be beyond the widest limits of its versions.
    """

    def __init__(self, path: Path, rulebook: Rulebook) -> None:
        none = np.zeros(0, dtype=np.int64)
        nothing = PriceSeries(path.name, none, none, None)
        super().__init__(path, _WHAT, lambda: read_prices(path, rulebook, growing=True), nothing)

    @property
    def series(self) -> PriceSeries:
        """The prices that were read."""
        return self.content


def read_prices(path: Path, rulebook: Rulebook, *, growing: bool = False) -> PriceSeries:
    """Read a price file; a header may name the columns.

    Parameters
    ----------
    rulebook : no price may be beyond the widest limits of its versions.
    growing : somebody may be writing; a last line without its end does not count yet.

    Raises
    ------
    InputError : not a table of times and prices, a repeated time, a price beyond the limits; says where.
    """
    low = min(rules.tariff.price_floor_micros_per_kwh for rules in rulebook.versions)
    high = max(rules.tariff.price_cap_micros_per_kwh for rules in rulebook.versions)
    times: list[int] = []
    prices: list[list[int]] = []
    width = 0
    for line, row in rows_of(path, _WHAT, (COLUMNS[:2], COLUMNS), growing=growing):
        if not 2 <= len(row) <= len(COLUMNS) or (width and len(row) != width):
            wanted = f"{width} as the rows before" if width else ", ".join(COLUMNS[:2]) + f"[, {COLUMNS[2]}]"
            raise InputError(path, f"line {line}", f"has {len(row)} columns, not {wanted}")
        width = len(row)
        times.append(interval_at(path, line, row[0]))
        prices.append(
            [_micros(path, line, name, text, low, high) for name, text in zip(COLUMNS[1:], row[1:], strict=False)]
        )
        if len(times) > 1 and times[-1] <= times[-2]:
            raise InputError(path, f"line {line}, time '{row[0]}'", "is not later than the line before; sort the file")
    if not times:
        raise InputError(path, "the table", f"has no prices; give a row each under {','.join(COLUMNS[:2])}")
    step = min((b - a for a, b in pairwise(times)), default=1)
    if step * MARKET_INTERVAL_S not in _SPACINGS_S:
        raise InputError(path, "times", f"are {step * 5} minutes apart; give a price every 5, 15, 30 or 60 minutes")
    interval = (np.array(times, dtype=np.int64)[:, None] + np.arange(step)).ravel()
    columns = np.repeat(np.array(prices, dtype=np.int64), step, axis=0).T
    return PriceSeries(path.name, interval, columns[0], columns[1] if width == len(COLUMNS) else None)


def _micros(path: Path, line: int, name: str, text: str, low: int, high: int) -> int:
    place = f"line {line}, {name} '{text[:40]}'"
    if not _PRICE.fullmatch(text):
        raise InputError(path, place, "is not a decimal number such as 0.0837, in currency per kWh")
    micros = Decimal(text) * MICROS
    if not low <= micros <= high:
        raise InputError(
            path,
            place,
            f"is beyond the rulebook's price floor and cap ({Decimal(low) / MICROS} to {Decimal(high) / MICROS} per "
            "kWh); if the file is per MWh, divide by 1000",
        )
    if micros != int(micros):
        raise InputError(path, place, "has more digits than millionths of the currency can count; round it to six")
    return int(micros)
