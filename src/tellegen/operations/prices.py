"""Wholesale prices from a file that grows: ``time, real_time[, day_ahead[, their signatures]]``.

There is a row per 5, 15, 30 or 60 minutes. A time carries its offset (ISO 8601), a price is decimal text in currency
per kWh and becomes micro-currency exactly. What the file does not say has no price: nothing is carried on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.operations.growing import GrowingFile, bounded_bytes, interval_at, rows_of
from tellegen.operations.price_proof import Provenance, doubt
from tellegen.records import PublishedPrices, RootPrices
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.rules import RootPriceParameters, Rulebook
from tellegen.units import MARKET_INTERVAL_S, MICROS, IntArray

COLUMNS = ("time", "real_time", "day_ahead")
SIGNED = (*COLUMNS, "real_time_signature", "day_ahead_signature")
FORMS = (COLUMNS[:2], COLUMNS, SIGNED)
"""Columns that a price file may have; without a first line that names them, their number says which."""
_WHAT = "price file"
_SPACINGS_S = (300, 900, 1800, 3600)
_PRICE = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,18})?")
_SOURCE_CHARACTERS_MAX = 64
_SIGNATURE_BYTES = 64
_UNSIGNED = bytes(_SIGNATURE_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class Quotes:
    """Prices of some periods of a market, and where they come from.

    Attributes
    ----------
    periods : market intervals of each. prices : a row for each. provenance : of all of them.
    path, line : file, and int64[n], the line of each published price, for whoever is told what is wrong.
    """

    market: str
    periods: tuple[range, ...]
    prices: RootPrices
    provenance: Provenance
    path: Path
    line: IntArray

    def proven(self, rules: Callable[[int], RootPriceParameters]) -> tuple[RootPrices, dict[int, str]]:
        """Those which have the proof that the rules ask for, and what is wrong with the others, a line by interval.

        Parameters
        ----------
        rules : that hold in a market interval.
        """
        kept, wrong = [], dict[int, str]()
        for row, (period, micros) in enumerate(zip(self.periods, self.prices.micros.tolist(), strict=True)):
            found = doubt(self.market, period, micros, self.provenance, rules(period.start))
            if found is None:
                kept.append(row)
            elif found.row < 0:
                wrong[period.start] = f"{self.path}: {self.market} price {found.words}"
            else:
                wrong[period.start] = f"{self.path}: line {self.line[found.row]}, {self.market}_signature {found.words}"
        return self.prices.take(np.array(kept, dtype=np.int64)), wrong


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """The prices of one market in a file, ascending in time; there may be gaps.

    Attributes
    ----------
    prices : as they stand there; zeros for a signature that does not. line : int64[n], of the file.
    """

    prices: PublishedPrices
    line: IntArray

    @property
    def end(self) -> int:
        """First market interval behind the last price."""
        return int(self.prices.interval[-1] + self.prices.intervals[-1]) if len(self.prices) else 0

    def rows(self, period: range) -> tuple[int, int]:
        """First row that holds in a period, and the first behind it."""
        first = int(np.searchsorted(self.prices.interval + self.prices.intervals, period.start, side="right"))
        return first, max(first, int(np.searchsorted(self.prices.interval, period.stop)))

    def mean(self, period: range) -> int | None:
        """Price of a period, the mean where it changes within it; None where it is not there throughout."""
        first, last = self.rows(period)
        begin, micros = self.prices.interval[first:last], self.prices.micros[first:last]
        held = np.minimum(begin + self.prices.intervals[first:last], period.stop) - np.maximum(begin, period.start)
        return round(int((held * micros).sum()) / len(period)) if held.sum() == len(period) else None


@dataclass(frozen=True, slots=True, eq=False)
class PriceSeries:
    """What a price file says.

    Attributes
    ----------
    path : the file; its name goes on record as the prices' origin.
    real_time, day_ahead : prices by market.
    size, sha256 : how many bytes were read, and their digest.
    """

    path: Path
    real_time: Published
    day_ahead: Published
    size: int = 0
    sha256: bytes = hashlib.sha256().digest()

    def of(self, market: str, periods: Sequence[range], address: str = "", read_at: int = 0) -> Quotes:
        """Prices of periods of a market; a period without one has no row.

        Parameters
        ----------
        address : at which the document is published; empty: it goes by the file's name.
        read_at : when it was read, seconds since the epoch.
        """
        published = {REAL_TIME: self.real_time, DAY_AHEAD: self.day_ahead}[market]
        found = [(period, micros) for period in periods if (micros := published.mean(period)) is not None]
        source = np.full(len(found), self.path.name.encode("ascii", "replace")[:_SOURCE_CHARACTERS_MAX], dtype="S64")
        prices = RootPrices(
            interval=np.array([period.start for period, _ in found], dtype=np.int64),
            micros=np.array([micros for _, micros in found], dtype=np.int64),
            source=source,
        )
        rows = np.array(sorted({row for period, _ in found for row in range(*published.rows(period))}), dtype=np.int64)
        provenance = Provenance.of_document(
            address or self.path.name, read_at, self.size, self.sha256, published.prices.take(rows)
        )
        return Quotes(market, tuple(period for period, _ in found), prices, provenance, self.path, published.line[rows])


class PriceFile(GrowingFile[PriceSeries]):
    """A price file that somebody else appends to.

    Parameters
    ----------
    rulebook : no price may be beyond the widest limits of its versions.
    """

    def __init__(self, path: Path, rulebook: Rulebook) -> None:
        none = Published(PublishedPrices.empty(), np.zeros(0, dtype=np.int64))
        super().__init__(path, _WHAT, lambda: read_prices(path, rulebook, growing=True), PriceSeries(path, none, none))
        self.read_at = 0

    @property
    def series(self) -> PriceSeries:
        """The prices that were read."""
        return self.content

    def refresh_at(self, at: int) -> None:
        """Read the file again where it has changed, at a time in seconds since the epoch.

        Raises
        ------
        InputError : it cannot be read; what was read before stands.
        """
        if self.refresh():
            self.read_at = at


def read_prices(path: Path, rulebook: Rulebook | None, *, growing: bool = False) -> PriceSeries:
    """Read a price file; a header may name the columns.

    Parameters
    ----------
    rulebook : no price may be beyond the widest limits of its versions; None: there are none.
    growing : somebody may be writing; a last line without its end does not count yet.

    Raises
    ------
    InputError : not a table of times and prices, a repeated time, a price beyond the limits; says where.
    """
    limits = _limits(rulebook)
    times: list[int] = []
    cells: list[list[str]] = []
    lines: list[int] = []
    data = bounded_bytes(path, _WHAT, growing=growing)
    for line, row in rows_of(path, data, FORMS):
        if len(row) not in map(len, FORMS) or (cells and len(row) != len(cells[0])):
            wanted = f"{len(cells[0])} as the rows before" if cells else ", ".join(COLUMNS[:2]) + f"[, {COLUMNS[2]}]"
            raise InputError(path, f"line {line}", f"has {len(row)} columns, not {wanted}")
        times.append(interval_at(path, line, row[0]))
        cells.append(row)
        lines.append(line)
        if len(times) > 1 and times[-1] <= times[-2]:
            raise InputError(path, f"line {line}, time '{row[0]}'", "is not later than the line before; sort the file")
    if not times:
        raise InputError(path, "the table", f"has no prices; give a row each under {','.join(COLUMNS[:2])}")
    step = min((b - a for a, b in pairwise(times)), default=1)
    if step * MARKET_INTERVAL_S not in _SPACINGS_S:
        raise InputError(path, "times", f"are {step * 5} minutes apart; give a price every 5, 15, 30 or 60 minutes")

    def column(name: str, place: int, signature_place: int) -> Published:
        width, said, signatures = len(cells[0]), list[tuple[int, int, int]](), list[bytes]()
        for begins, line, row in zip(times, lines, cells, strict=True) if place < width else ():
            signature = row[signature_place] if signature_place < width else ""
            if row[place] or signature:  # else it is not said, or not yet
                said.append((begins, line, _micros(path, line, name, row[place], limits)))
                signatures.append(_signature(path, line, name, signature))
        interval, line_of, micros = np.array(said, dtype=np.int64).reshape(-1, 3).T
        prices = PublishedPrices(
            interval=interval,
            intervals=np.full(interval.size, step, dtype=np.int32),
            micros=micros,
            signature=np.frombuffer(b"".join(signatures), dtype=f"V{_SIGNATURE_BYTES}"),
        )
        return Published(prices, line_of)

    real_time, day_ahead = column(COLUMNS[1], 1, 3), column(COLUMNS[2], 2, 4)
    return PriceSeries(path, real_time, day_ahead, len(data), hashlib.sha256(data).digest())


def _limits(rulebook: Rulebook | None) -> tuple[int, int] | None:
    """Lowest and highest price that a rulebook admits, micro-currency/kWh."""
    if rulebook is None:
        return None
    tariffs = [rules.tariff for rules in rulebook.versions]
    return min(t.price_floor_micros_per_kwh for t in tariffs), max(t.price_cap_micros_per_kwh for t in tariffs)


def _micros(path: Path, line: int, name: str, text: str, limits: tuple[int, int] | None) -> int:
    place = f"line {line}, {name} '{text[:40]}'"
    if not _PRICE.fullmatch(text):
        raise InputError(path, place, "is not a decimal number such as 0.0837, in currency per kWh")
    micros = Decimal(text) * MICROS
    if limits is not None and not limits[0] <= micros <= limits[1]:
        low, high = (Decimal(limit) / MICROS for limit in limits)
        raise InputError(
            path,
            place,
            f"is beyond the rulebook's price floor and cap ({low} to {high} per kWh); if the file is per MWh, divide "
            "by 1000",
        )
    if micros != int(micros):
        raise InputError(path, place, "has more digits than millionths of the currency can count; round it to six")
    return int(micros)


def _signature(path: Path, line: int, name: str, text: str) -> bytes:
    """64 bytes; zeros where there is none."""
    if not text:
        return _UNSIGNED
    try:
        signature = base64.b64decode(text, validate=True)
    except binascii.Error:
        signature = b""
    if len(signature) != _SIGNATURE_BYTES:
        place = f"line {line}, {name}_signature '{text[:40]}'"
        raise InputError(path, place, f"is not base64 of {_SIGNATURE_BYTES} bytes; `tellegen prices sign` makes one")
    return signature
