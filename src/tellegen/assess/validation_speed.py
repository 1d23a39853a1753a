"""Benchmark ``vee``: what it costs to validate, estimate and edit, in CPU seconds of one core."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl

from tellegen.assess.registry import Figure, Options, Report, median_figure
from tellegen.metering import (
    Channel,
    Limits,
    LoadProfile,
    MeterState,
    Sent,
    edit,
    validate,
)
from tellegen.metering.files import read_csv
from tellegen.records import Readings

MINUTES = 5


def measure(options: Options, report: Report) -> None:
    """One interval of a city, a day of a thousand meters, and the same day as a file."""
    meters, city = (50, 20_000) if options.quick else (1_000, 1_000_000)
    options.progress(f"{city} meters, one interval")
    report.figures.append(median_figure(f"market path, {city} meters x 1 interval", _city(city), "CPU s", target=1.0))
    day = _day(meters)
    options.progress(f"{meters} meters, a day")
    whole = _repeated(lambda: edit(day))
    failed = int(edit(day).replaced.any(axis=0).sum())
    name = f"checks and estimates, {meters} meters x {day.per_day} intervals, 3 channels"
    report.figures.append(median_figure(name, whole, "CPU s", target=0.5, conditions={"estimated": failed}))
    frame = _frame(day)
    peer = _repeated(lambda: _linear_in_polars(frame))
    report.figures += [
        median_figure("peer: Polars, one channel, two checks and straight lines only", peer, "CPU s"),
        Figure("all checks and estimates over the peer", float(np.median(whole) / np.median(peer)), ""),
    ]
    options.progress("the day as CSV")
    text = _csv(day)
    name = f"CSV read and checked by field, {meters * day.per_day} rows, {len(text) / 1e6:.1f} MB"
    report.figures.append(median_figure(name, _repeated(lambda: read_csv(text), 3), "CPU s"))


def _repeated(work: Callable[[], object], times: int = 5) -> list[float]:
    """CPU seconds of each run, all threads of the process counted."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return spent


def _city(n: int) -> list[float]:
    rng = np.random.default_rng(1)
    number, zero = np.arange(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    state = MeterState.installed(np.stack([zero, zero, zero]), 0)
    readings = Readings(
        customer=number.astype(np.int32),
        meter=number + 1,
        counter=zero + 1,
        import_wh=np.where(rng.random(n) < 0.01, -1, rng.integers(1, 300, n)),
        export_wh=zero,
        reactive_varh=rng.integers(-20, 20, n),
        voltage_mv=zero + 230_000,
        tag=np.zeros(n, dtype="V16"),
    ).take(rng.permutation(n)[: n - n // 100])
    limits = Limits(zero + 12_000, zero + 160_000, zero + 290_000, zero + 100)
    assumed = np.zeros((3, n), dtype=np.int64)
    return _repeated(lambda: validate(1, number, Sent.of(readings, number, number + 1), state, limits, assumed))


def _day(meters: int) -> LoadProfile:
    """A day in which one reading in fifty is missing and one in a thousand wrong; registers read at midnight."""
    rng = np.random.default_rng(2)
    t = 24 * 60 // MINUTES
    shape = (meters, t)
    true = rng.integers(5, 300, shape)
    register = np.zeros((meters, t + 1), dtype=np.int64)
    register[:, 1:] = np.cumsum(true, axis=1)
    known = np.zeros((meters, t + 1), dtype=np.bool_)
    known[:, [0, -1]] = True
    present = rng.random(shape) > 0.02
    value = np.where(rng.random(shape) < 0.001, -true, true)
    withdrawn = Channel(
        np.where(present, value, 0), present, np.zeros(shape, np.bool_), np.where(known, register, 0), known
    )
    others = (Channel.of(rng.integers(0, 50, shape)), Channel.of(rng.integers(-50, 50, shape)))
    return LoadProfile.of(np.arange(meters, dtype=np.int64) + 1, MINUTES * 60, 0, (withdrawn, *others))


def _frame(day: LoadProfile) -> pl.DataFrame:
    channel = day.channels[0]
    m, t = day.shape
    wh = pl.Series("wh", channel.value.ravel()).set(~pl.Series(channel.present.ravel()), None)
    return pl.DataFrame({"meter": np.repeat(day.meter, t), "at": np.tile(np.arange(t), m), "wh": wh})


def _linear_in_polars(frame: pl.DataFrame) -> pl.DataFrame:
    good = pl.when(pl.col("wh") >= 0).then(pl.col("wh"))
    return frame.with_columns(bad=good.is_null(), wh=good.interpolate().over("meter"))


def _csv(day: LoadProfile) -> bytes:
    m, t = day.shape
    ends = (np.arange(1, t + 1) * day.interval_s).astype("datetime64[s]").astype(str).tolist()
    rows = zip(np.repeat(day.meter, t).tolist(), ends * m, day.channels[0].value.ravel().tolist(), strict=True)
    return b"meter,end,import\n" + "".join(f"{meter},{end}Z,{wh}\n" for meter, end, wh in rows).encode()
