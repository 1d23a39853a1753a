"""A simulated market day from scenario to report: what ``tellegen run`` and ``tellegen demo`` do."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tellegen.errors import InputError
from tellegen.operations.baseline import simulate_baselines
from tellegen.operations.correction import CorrectionFile, apply_correction
from tellegen.operations.facts import read_day
from tellegen.operations.market_day import DayPlayed, MarketDay, Progress
from tellegen.operations.publish import publish, read_summary_json, write_simulation_tables
from tellegen.operations.referee import referee_section
from tellegen.operations.run_directory import Run, create_run
from tellegen.operations.scenario import Scenario
from tellegen.operations.setup import Setup, prepare
from tellegen.operations.summary import (
    Json,
    clearing_sections,
    correction_section,
    price_sections,
    worlds_and_comparisons,
)
from tellegen.units import interval_start
from tellegen.verify import Report

CORRECTION_AFTER = timedelta(days=3)
"""When the true readings of a faulty meter arrive."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A finished run: its summary as in ``summary.json``, and what the verification found."""

    summary: Json
    report: Report


def simulate_day(scenario: Scenario, out: Path, progress: Progress) -> Simulated:
    """Play a scenario into the directory `out`, which appears when it is complete.

    The baselines are played meanwhile in a second process.

    Raises
    ------
    InputError : the scenario cannot be played, or `out` is not empty; nothing is left behind.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(out, "directory", "is not empty; a run is never overwritten, give a new --out")
    setup = prepare(scenario)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        simulated = _play(scenario, setup, partial, progress)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return simulated


def _play(scenario: Scenario, setup: Setup, folder: Path, progress: Progress) -> Simulated:
    # An interrupt is this process's to handle; the second one ends with it.
    spawn, ignore = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=signal.signal, initargs=ignore) as second:
        baselines = second.submit(simulate_baselines, scenario)
        run = create_run(folder, scenario.feeder.grid, range(1, setup.node.size + 1), _seed(scenario))
        try:
            market_day = MarketDay(setup, run)
            played = market_day.play(progress)
            progress("settlement and comparison", 0, 4)
            changes = _correct(run, setup, played)
            progress("settlement and comparison", 1, 4)
            evidence = referee_section(setup, market_day.cleared)
            progress("settlement and comparison", 2, 4)
            day = read_day(run.recorder)
            worlds = {"market": played.world, **baselines.result()}
            rows, comparisons, retail = worlds_and_comparisons(setup, day.all_postings(), worlds)
            write_simulation_tables(setup, folder, worlds, retail)
            progress("settlement and comparison", 3, 4)
            summary = {
                **_heading(setup),
                "worlds": rows,
                "comparisons": comparisons,
                "prices": price_sections(day),
                **clearing_sections(day),
            }
            summary["evidence"] |= evidence
            report = publish(run, changes, started=summary)
            progress("settlement and comparison", 4, 4)
        finally:
            run.close()
    return Simulated(read_summary_json(folder), report)


def _heading(setup: Setup) -> Json:
    scenario, homes = setup.scenario, setup.fleet.homes
    return {
        "name": scenario.name,
        "seed": scenario.seed,
        "feeder": {
            "grid": scenario.feeder.grid,
            "nodes": len(setup.network.nodes),
            "customers": setup.node.size,
            "devices": {
                "pv": len(homes.inverters),
                "batteries": len(homes.batteries),
                "vehicles": len(set(homes.vehicles.customer.tolist())),
                "heat_pumps": len(homes.heat_pumps),
                "water_heaters": len(homes.water_heaters),
            },
            "v_min_pu": scenario.feeder.v_min_pu,
            "v_max_pu": scenario.feeder.v_max_pu,
        },
        "day": {
            "date": scenario.day.date.isoformat(),
            "timezone": scenario.day.timezone,
            "first_interval": setup.first,
            "intervals": setup.intervals,
            "complete": setup.complete,
        },
        "currency": setup.rules.currency,
        "prices_source": setup.wholesale.source,
    }


def _correct(run: Run, setup: Setup, played: DayPlayed) -> Json:
    """The true readings of the faulty meter arrive; what follows is one correction."""
    fault = setup.scenario.fault
    if fault is None:
        return {}
    registers = played.true_registers.tolist()
    known_at = interval_start(setup.first + setup.intervals) + CORRECTION_AFTER
    form = CorrectionFile(
        customer=fault.customer,
        reason="registers read from the memory of the meter",
        known_at=known_at,
        first_interval=interval_start(played.fault_first),
        import_wh=registers[0],
        export_wh=registers[1],
        reactive_varh=registers[2],
    )
    outcome = apply_correction(run, form, setup.scenario.name)
    return {"correction": correction_section(outcome, read_day(run.recorder), setup.rules.currency)}


def _seed(scenario: Scenario) -> bytes:
    return f"tellegen scenario {scenario.seed}".encode()
