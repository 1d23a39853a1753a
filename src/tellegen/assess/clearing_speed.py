"""Benchmark ``clearing``: a feeder of a thousand customers, every bid new in every interval, limits binding.

Each timing is taken in a process of its own with one thread of linear algebra. Warm means what a market sees every five
minutes: the same network, the last interval's outcome as a start, and a book of which no price and no quantity is the
same. Cold means a network never seen before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tellegen.assess.registry import Figure, Options, Report, median_figure
from tellegen.assess.replay import ThreePhaseReplay
from tellegen.assess.workers import run_together
from tellegen.errors import TellegenError
from tellegen.grid import best_engine
from tellegen.grid.synthetic import opendss_script, synthetic_feeder
from tellegen.market import OrderBook, Start, awards, start_after
from tellegen.records import ClearingStatus
from tellegen.simulation.workload import (
    BidForm,
    Binding,
    Instance,
    Situation,
    binding_count,
    limits_that_bind,
    market_books,
)

WARM_TARGET_MS, COLD_TARGET_MS, CITY_TARGET_S = 60.0, 400.0, 45.0
CITY_FEEDERS = 1000
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One workload: who, how they bid, what binds."""

    customers: int
    phases: int
    form: BidForm
    situation: Situation
    binding: Binding
    seed: int = 1

    def __str__(self) -> str:
        ports = "balanced" if self.phases == 1 else "three-phase"
        return f"{self.customers} customers, {ports}, {self.form}, {self.binding} binding"


@dataclass(slots=True)
class Timings:
    """Milliseconds of each clearing, and how it went."""

    cold_ms: list[float]
    warm_ms: list[float]
    recorded_ms: list[float]
    programs: list[float]
    binding: list[float]
    fallbacks: int
    orders: int
    nodes: int

    def conditions(self, case: Case) -> dict[str, str | float]:
        """What a figure of these timings has to say with it."""
        return {
            "bids": str(case.form),
            "orders": self.orders,
            "nodes": self.nodes,
            "limits binding (median)": float(np.median(self.binding)),
            "quadratic programs (median)": float(np.median(self.programs)),
            "fallbacks": self.fallbacks,
        }


def prepare_single(case: Case, intervals: int, cold: int) -> Callable[[], Timings]:
    """Feeder, limits and books of a case; the timed part clears them."""
    feeder = synthetic_feeder(case.customers, phases=case.phases, seed=case.seed)
    rounds = market_books(feeder, case.seed, intervals=intervals + 1, form=case.form, situation=case.situation)
    instance = replace(limits_that_bind(feeder.network, rounds[0].book, case.binding), engine=best_engine())

    def timed() -> Timings:
        times = Timings([], [], [], [], [], 0, len(rounds[0].book), len(feeder.network.nodes))
        for k in range(cold):
            # Another object with the same numbers: nothing that is kept by network is known of it.
            fresh = replace(instance, network=replace(instance.network))
            start = time.perf_counter()
            fresh.clear(rounds[k % len(rounds)].book)
            times.cold_ms.append(1000.0 * (time.perf_counter() - start))
        state = start_after(instance.clear(rounds[0].book), rounds[0].book)
        for round_ in rounds[1:]:
            start = time.perf_counter()
            outcome = instance.clear(round_.book, state)
            times.warm_ms.append(1000.0 * (time.perf_counter() - start))
            if round_.orders is not None:
                start = time.perf_counter()
                awards(instance.clear(OrderBook.from_orders(round_.orders), state), round_.orders)
                times.recorded_ms.append(1000.0 * (time.perf_counter() - start))
            times.programs.append(outcome.evidence.iterations)
            times.binding.append(binding_count(outcome))
            times.fallbacks += outcome.status == ClearingStatus.FALLBACK
            state = start_after(outcome, round_.book) or state
        return times

    return timed


def prepare_fleet(case: Case, seeds: range, intervals: int) -> Callable[[], dict[str, float]]:
    """A worker's share of a city: every feeder of another topology, each cleared once before the clock starts."""
    standing: list[tuple[Instance, list[OrderBook], Start | None]] = []
    for seed in seeds:
        feeder = synthetic_feeder(case.customers, phases=case.phases, seed=seed)
        rounds = market_books(feeder, seed, intervals=intervals + 1, form=case.form, situation=case.situation)
        instance = replace(limits_that_bind(feeder.network, rounds[0].book, case.binding), engine=best_engine())
        first = start_after(instance.clear(rounds[0].book), rounds[0].book)
        standing.append((instance, [r.book for r in rounds[1:]], first))

    def timed() -> dict[str, float]:
        states = [state for _, _, state in standing]
        fallbacks = binding = 0
        for k in range(intervals):
            for j, (instance, books, _) in enumerate(standing):
                outcome = instance.clear(books[k], states[j])
                states[j] = start_after(outcome, books[k]) or states[j]
                fallbacks += outcome.status == ClearingStatus.FALLBACK
                binding += binding_count(outcome)
        return {"fallbacks": fallbacks, "binding": binding, "clearings": intervals * len(standing)}

    return timed


def prepare_opendss(case: Case, repetitions: int) -> Callable[[], float]:
    """OpenDSS on the three-phase feeder at the customers' peak; the timed part solves it again and again."""
    feeder = synthetic_feeder(case.customers, phases=3, seed=case.seed)
    replay = ThreePhaseReplay(feeder.network, opendss_script(feeder), feeder.customer_node)
    demand = np.zeros(len(feeder.network.nodes), dtype=np.complex128)
    np.add.at(demand, feeder.customer_node, feeder.peak_kw + 1j * feeder.peak_kvar)
    return lambda: replay.resolve_ms(demand, repetitions)


def measure(options: Options, report: Report) -> None:
    """All figures of the benchmark."""
    customers, intervals, cold = (60, 3, 2) if options.quick else (1000, 20, 5)
    evening = [(Situation.EVENING, Binding.LOWEST_VOLTAGE, form) for form in BidForm]
    noon = [(Situation.NOON, Binding.HIGHEST_VOLTAGE, BidForm.STEPS)]
    opendss_ms: float | None = None
    try:
        probe = Case(customers, 3, BidForm.STEPS, Situation.EVENING, Binding.NOTHING)
        options.progress(f"OpenDSS power flow, {customers} customers")
        opendss_ms = run_together(prepare_opendss, [(probe, 5 if options.quick else 51)])[1][0]
        report.figures.append(
            Figure(f"OpenDSS power flow re-solve, {customers} customers, three-phase", opendss_ms, "ms")
        )
    except TellegenError as error:
        report.notes.append(f"no comparison with OpenDSS: {error}")
    for phases in (1, 3):
        for situation, binding, form in evening + noon:
            case = Case(customers, phases, form, situation, binding)
            options.progress(str(case))
            try:
                times: Timings = run_together(prepare_single, [(case, intervals, cold)])[1][0]
            except TellegenError as error:
                report.notes.append(f"{case}: {error}")
                continue
            _report_single(case, times, opendss_ms, report)
        _report_fleet(Case(customers, phases, *_fleet_market()), options, report)


def _fleet_market() -> tuple[BidForm, Situation, Binding]:
    return BidForm.STEPS, Situation.EVENING, Binding.LOWEST_VOLTAGE


def _report_single(case: Case, times: Timings, opendss_ms: float | None, report: Report) -> None:
    conditions = times.conditions(case)
    full = case.customers >= 1000
    warm = median_figure(
        f"warm: {case}", times.warm_ms, "ms", target=WARM_TARGET_MS if full else None, conditions=conditions
    )
    report.figures.append(warm)
    report.figures.append(
        median_figure(
            f"cold: {case}", times.cold_ms, "ms", target=COLD_TARGET_MS if full else None, conditions=conditions
        )
    )
    if times.recorded_ms:
        report.figures.append(
            median_figure(
                f"warm, recorded orders to recorded awards: {case}",
                times.recorded_ms,
                "ms",
                target=WARM_TARGET_MS if full else None,
                conditions=conditions,
            )
        )
    if opendss_ms is not None:
        report.figures.append(
            Figure(
                f"warm over one OpenDSS re-solve of the three-phase feeder: {case}", warm.value / opendss_ms, "ratio"
            )
        )


def _report_fleet(case: Case, options: Options, report: Report) -> None:
    each, intervals = (2, 1) if options.quick else (20, 2)
    options.progress(f"{WORKERS * each} feeders on {WORKERS} processes, each {case}")
    shares = [(case, range(100 + each * w, 100 + each * (w + 1)), intervals) for w in range(WORKERS)]
    elapsed, results = run_together(prepare_fleet, shares)
    clearings = sum(r["clearings"] for r in results)
    report.figures.append(
        Figure(
            f"{CITY_FEEDERS} feeders on {WORKERS} cores, scaled from {WORKERS * each} topologies: {case}",
            elapsed * CITY_FEEDERS / clearings,
            "s",
            target=None if options.quick else CITY_TARGET_S,
            conditions={
                "bids": str(case.form),
                "clearings timed": clearings,
                "limits binding (mean)": sum(r["binding"] for r in results) / clearings,
                "fallbacks": sum(r["fallbacks"] for r in results),
            },
        )
    )
