"""Wholesale prices at the substation: a series from a file, or a documented default.

Two series are needed: a *day-ahead* price per hour, known before the day, and a *real-time* price per
market interval. Days before the billing day come along, because agents learn from past prices.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, MICROS

PER_DAY = 288
FILE_LIMIT_BYTES = 256 * 2**20
PRICE_LIMIT = 100.0
"""Largest wholesale price accepted, currency per kWh in magnitude."""
_SINGLE_DIGIT = re.compile(r"-(?=\d-|\d[ T])")
_ZONES = {"UTC": 0, "GMT": 0, "CET": 1, "CEST": 2, "EST": -5, "EDT": -4, "CST": -6, "MST": -7, "PST": -8}


@dataclass(frozen=True, slots=True)
class WholesalePrices:
    """Prices in micro-currency per kWh; index 0 is `past_days` before the billing day's first interval.

    real_time_micros : int64[past + day intervals], one per market interval.
    day_ahead_micros : int64, same length, constant within an hour.
    past : number of intervals before the billing day.
    source : what they are, for record and summary.
    digest : SHA-256 of the file that they were read from, as it lies; empty for a made-up series. size : its bytes.
    name : of that file.
    """

    real_time_micros: NDArray[np.int64]
    day_ahead_micros: NDArray[np.int64]
    past: int
    source: str
    digest: bytes = b""
    size: int = 0
    name: str = ""


def default_prices(seed: int, intervals: int, past_days: int) -> WholesalePrices:
    """A made-up but typical spring week of a European bidding zone.

    Day-ahead, per hour h of the local day (currency/kWh): 0.075 + 0.035 * bump(h; 7.5, 1.8)
    + 0.075 * bump(h; 19.5, 2.2) - 0.055 * bump(h; 13, 2.8), with bump a Gaussian, scaled by a daily
    factor of mean 1 and standard deviation 0.08. Real time: day-ahead plus a first-order
    autoregressive deviation (coefficient 0.95 per interval, standard deviation 0.006).
    """
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    past = past_days * PER_DAY
    step = np.arange(-past, intervals)
    hour = (step // INTERVALS_PER_HOUR) % 24 + 0.5

    def bump(centre: float, width: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-0.5 * ((hour - centre) / width) ** 2))

    shape = 0.075 + 0.035 * bump(7.5, 1.8) + 0.075 * bump(19.5, 2.2) - 0.055 * bump(13.0, 2.8)
    daily = 1.0 + 0.08 * rng.standard_normal(past_days + 2)
    day_ahead = shape * daily[(step + past) // PER_DAY]
    shocks = 0.006 * math.sqrt(1 - 0.95**2) * rng.standard_normal(step.size)
    deviation = np.empty(step.size)
    level = 0.0
    for k, shock in enumerate(shocks):
        level = 0.95 * level + shock
        deviation[k] = level
    return WholesalePrices(
        real_time_micros=_micros(day_ahead + deviation),
        day_ahead_micros=_micros(day_ahead),
        past=past,
        source=f"simulated: made-up series, seed {seed}",
    )


def read_prices(path: Path, day: date, intervals: int, past_days: int) -> WholesalePrices:
    """Read a price file: ``time, price[, day-ahead price]`` in currency per kWh, five-minute or hourly.

    Times carry an offset, ``Z`` or one of a few zone names (``2009-07-15 00:00:00 EST``). The file's
    own `day` (midnight by its own offset) stands for the scenario's day. Without a third column the
    day-ahead price of an hour is the mean real-time price of the same hour of the day before, which
    was known then.

    Raises
    ------
    InputError : not a table of times and prices, a gap, a repeated time, a price that is not finite,
        or a day that the file does not cover.
    """
    data = _read_file(path)
    times, offsets, real_time, day_ahead = _read_columns(path, data)
    step = np.diff(times)
    if len(times) < 2 or step.min() <= 0:
        row = int(np.argmax(step <= 0)) + 2 if len(times) > 1 else 1
        raise InputError(path, f"row {row}", "repeats or reverses time; give each time once, ascending")
    spacing = int(np.bincount(np.minimum(step, 7200)).argmax())
    if spacing % MARKET_INTERVAL_S or 3600 % spacing:
        raise InputError(path, "times", f"are {spacing} s apart; give a price every 5, 15, 30 or 60 minutes")
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    near = int(np.clip(np.searchsorted(times + offsets, midnight), 0, len(times) - 1))
    start = midnight - int(offsets[near]) - past_days * 86400
    count = past_days * PER_DAY + intervals
    wanted = start + np.arange(count) * MARKET_INTERVAL_S
    if wanted[0] < times[0] or wanted[-1] >= times[-1] + spacing:
        have = [datetime.fromtimestamp(int((times + offsets)[k]), UTC).date().isoformat() for k in (0, -1)]
        raise InputError(
            path,
            f"day {day}",
            f"with {past_days} days before it is not covered ({have[0]} to {have[1]}); choose another with --price-day",
        )
    at = np.searchsorted(times, wanted, side="right") - 1
    late = np.flatnonzero(wanted - times[at] >= spacing)
    if late.size:
        gap = datetime.fromtimestamp(int(wanted[late[0]]), UTC).isoformat()
        raise InputError(path, f"row {int(at[late[0]]) + 1}", f"is followed by a gap: no price for {gap}")
    hourly = real_time[at].reshape(-1, INTERVALS_PER_HOUR).mean(axis=1) if day_ahead is None else None
    if hourly is not None:
        ahead = np.repeat(np.concatenate([hourly[:24], hourly])[: len(hourly)], INTERVALS_PER_HOUR)
        kind = "day-ahead = same hour of the day before"
    else:
        assert day_ahead is not None
        ahead = np.repeat(day_ahead[at].reshape(-1, INTERVALS_PER_HOUR).mean(axis=1), INTERVALS_PER_HOUR)
        kind = "day-ahead from the file"
    return WholesalePrices(
        real_time_micros=_micros(real_time[at]),
        day_ahead_micros=_micros(ahead),
        past=past_days * PER_DAY,
        source=f"{path.name}, {day} from its own midnight ({kind})",
        digest=hashlib.sha256(data).digest(),
        size=len(data),
        name=path.name,
    )


def _micros(price: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.rint(price * MICROS)).astype(np.int64)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise InputError(path, "file", f"cannot be read ({error})") from None
    if len(data) > FILE_LIMIT_BYTES:
        raise InputError(path, "file", f"is larger than {FILE_LIMIT_BYTES} bytes; cut it to the days needed")
    return data


def _read_columns(
    path: Path, data: bytes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64] | None]:
    """UTC seconds, offsets of the file's own clock in seconds, real-time and perhaps day-ahead price."""
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(FILE_LIMIT_BYTES + 1)
            if len(data) > FILE_LIMIT_BYTES:
                raise InputError(
                    path, "file", f"unpacks to more than {FILE_LIMIT_BYTES} bytes; cut it to the days needed"
                )
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(path, "file", f"cannot be read ({error})") from None
    times: list[tuple[int, int]] = []
    prices: list[list[float]] = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row or (number == 1 and not row[0].strip()[:1].isdigit()):
            continue
        if len(row) not in (2, 3):
            raise InputError(
                path, f"row {number}", f"has {len(row)} columns; time, price[, day-ahead price] are needed"
            )
        times.append(_moment(row[0], path, number))
        prices.append([_price(cell, path, number) for cell in row[1:]])
        if len(prices[-1]) != len(prices[0]):
            raise InputError(
                path, f"row {number}", f"has {len(row)} columns, the rows before have {len(prices[0]) + 1}"
            )
    if not times:
        raise InputError(path, "file", "has no rows; time, price[, day-ahead price] are needed")
    table = np.array(prices)
    clock = np.array(times, dtype=np.int64)
    return clock[:, 0], clock[:, 1], table[:, 0], table[:, 1] if table.shape[1] == 2 else None


def _moment(text: str, path: Path, row: int) -> tuple[int, int]:
    stamp = _SINGLE_DIGIT.sub("-0", text.strip())  # AEP's recorder writes 2009-2-01
    head, _, zone = stamp.rpartition(" ")
    try:
        if zone in _ZONES:
            moment = datetime.fromisoformat(head).replace(tzinfo=timezone(timedelta(hours=_ZONES[zone])))
        else:
            moment = datetime.fromisoformat(stamp)
    except ValueError:
        raise InputError(path, f"row {row}", f"time '{stamp[:40]}' is not ISO 8601 with an offset") from None
    offset = moment.utcoffset()
    if offset is None:
        raise InputError(path, f"row {row}", f"time '{stamp[:40]}' has no zone; add +00:00, Z or a name such as EST")
    return int(moment.timestamp()), int(offset.total_seconds())


def _price(cell: str, path: Path, row: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > PRICE_LIMIT:
        raise InputError(
            path, f"row {row}", f"price '{cell.strip()[:20]}' is not a number within +-{PRICE_LIMIT:g} per kWh"
        )
    return value
