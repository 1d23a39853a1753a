"""A publisher's price file, read anew: ``time, real_time[, day_ahead[, signatures]]``, exact to the micro-currency.

What the columns mean is said in docs/operating.md. A row holds until the next one may come: the least distance of two.
"""

from __future__ import annotations

import csv
import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from tellegen.errors import InputError
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, MICROS

_BYTES_MAX = 1 << 28
_PRICE = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,18})?")
_COLUMN = {"real_time": 1, "day_ahead": 2}


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """What was published, as somebody who does not trust the operator has it.

    Attributes
    ----------
    data : the file. begins : first market interval of each row. holds : for how many a row holds.
    micros : by market, the price of each row, micro-currency/kWh; None where there is none.
    spans : by market, from the first price to the last.
    """

    data: bytes
    begins: list[int]
    holds: int
    micros: dict[str, list[int | None]]
    spans: dict[str, range]

    @classmethod
    def read(cls, path: Path) -> PublishedFile:
        """Read a file.

        Raises
        ------
        InputError : it is no table of times and prices; says where.
        """
        try:
            if path.stat().st_size > _BYTES_MAX:
                raise InputError(path, "file", f"has more than {_BYTES_MAX} bytes; cut it to the days in question")
            data = path.read_bytes()
            rows = list(csv.reader(data.decode("utf-8-sig").splitlines()))
        except OSError as error:
            raise InputError(path, "file", f"cannot be read: {error.strerror or error}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(path, "file", f"is no table of times and prices: {error}") from None
        begins, prices = list[int](), list[list[int | None]]()
        for line, row in enumerate(rows, start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (line == 1 and cells[0] == "time"):
                continue
            begins.append(_interval(path, line, cells[0]))
            prices.append([_micros(path, line, cells, place) for place in _COLUMN.values()])
        gaps = [after - before for before, after in pairwise(begins)]
        if not begins or any(gap <= 0 for gap in gaps):
            raise InputError(path, "times", "must be there and rise from line to line; give the file as published")
        holds = min(gaps, default=1)
        if holds > INTERVALS_PER_HOUR:
            raise InputError(path, "times", "are more than an hour apart; give the file as published")
        micros = {market: [row[k] for row in prices] for k, market in enumerate(_COLUMN)}
        return cls(data, begins, holds, micros, {market: _span(begins, holds, each) for market, each in micros.items()})

    def price(self, market: str, period: range) -> int | None:
        """Price of a period, the mean where it changes within it; None where it is not published throughout."""
        each = [self._at(market, interval) for interval in period]
        known = [micros for micros in each if micros is not None]
        return round(sum(known) / len(each)) if len(known) == len(each) else None

    def begins_with(self, size: int, sha256: bytes) -> bool:
        """Whether the first `size` bytes are those of a digest."""
        return size <= len(self.data) and hashlib.sha256(self.data[:size]).digest() == sha256

    def _at(self, market: str, interval: int) -> int | None:
        row = bisect_right(self.begins, interval) - 1
        return self.micros[market][row] if row >= 0 and interval < self.begins[row] + self.holds else None


def _span(begins: list[int], holds: int, micros: list[int | None]) -> range:
    priced = [begin for begin, each in zip(begins, micros, strict=True) if each is not None]
    return range(priced[0], priced[-1] + holds) if priced else range(0)


def _interval(path: Path, line: int, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None or moment.timestamp() % MARKET_INTERVAL_S:
        raise InputError(path, f"line {line}, time '{text[:40]}'", "is not a whole five minutes with an offset")
    return int(moment.timestamp()) // MARKET_INTERVAL_S


def _micros(path: Path, line: int, cells: list[str], place: int) -> int | None:
    text = cells[place] if place < len(cells) else ""
    if not text:
        return None
    micros = Decimal(text) * MICROS if _PRICE.fullmatch(text) else None
    if micros is None or micros != int(micros):
        problem = "is not a price per kWh in whole millionths, such as 0.0837"
        raise InputError(path, f"line {line}, column {place + 1} '{text[:40]}'", problem)
    return int(micros)
