"""Benchmark ``city``: the report's own, a meter's read and a market transaction per five minutes, end to end."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tellegen.assess.city.costs import Hardware
from tellegen.assess.city.course import Course
from tellegen.assess.city.phases import CityRun
from tellegen.assess.city.report import (
    REAL,
    SYNTHETIC,
    WHO_AUTHENTICATES,
    about_city,
    beside_figures,
    cost_per_meter_us,
    figures,
    scaling_figure,
)
from tellegen.assess.city.run import play
from tellegen.assess.registry import Options, Report
from tellegen.errors import InputError
from tellegen.simulation.city.setup import city_rules

METERS = 1_000_000
QUICK_METERS, QUICK_INTERVALS, QUICK_DAY = 2_000, 2, 24
SCALING_METERS = (10_000, 100_000)
NEEDED = ("uvicorn", "httptools", "msgspec", "numba")


def measure(options: Options, report: Report) -> None:
    """Play a city and report; before it, where asked, the same one without price runs, and smaller ones."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise InputError("bench city", f"package {absent[0]}", "is not installed; pip install 'tellegen[service,fast]'")
    hardware = Hardware.read(options.hardware)
    meters = QUICK_METERS if options.quick else options.meters or METERS
    intervals = QUICK_INTERVALS if options.quick else options.intervals
    costs: dict[int, float] = {}
    for size in SCALING_METERS if options.scaling else ():
        if size < meters:
            costs[size] = cost_per_meter_us(_played(size, min(intervals, 3), options))
    gates = _played(meters, intervals, options, price_run=False) if options.beside_gates else None
    run = _played(meters, intervals, options)
    report.about += about_city(run.city, city_rules(run.city))
    report.figures += figures(run, hardware)
    if gates is not None:
        report.figures += beside_figures(run, gates)
    if costs:
        report.figures.append(scaling_figure({**costs, meters: cost_per_meter_us(run)}))
    report.notes += [
        f"who authenticates what: {WHO_AUTHENTICATES}",
        f"real: {REAL}",
        f"synthetic: {SYNTHETIC}",
        f"{run.city.shards} intake and {run.city.shards} market processes on {os.cpu_count()} cores; 1 % of the "
        "customers hang on the neighbouring feeder from each interval on, known before, where one who left it hung",
    ]


def _played(meters: int, intervals: int, options: Options, *, price_run: bool = True) -> CityRun:
    course = Course.of(
        meters,
        intervals,
        day_intervals=QUICK_DAY if options.quick else options.day_intervals,
        day_ahead=options.day_ahead,
        close=options.close,
        coarse=options.coarse_percent / 100.0,
        silent=options.silent_percent / 100.0,
        price_run=price_run,
    )
    with tempfile.TemporaryDirectory(prefix="tellegen-city-", dir=options.folder) as folder:
        return play(course, Path(folder), options.progress)
