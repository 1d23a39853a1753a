"""Benchmark ``feeders``: the same engine over one network after another, each with a market of its own customers.

For every network: a market of the loads that it declares (bids around each load, roofs, batteries), in the evening with
the lowest voltage binding and at noon with the highest. Each clearing is checked three ways: limits on the AC network,
prices against difference quotients of re-solved optima, and the dispatch in OpenDSS.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tellegen.assess.derivative import price_quotients, sample_ports
from tellegen.assess.registry import Figure, Options, Report, median_figure
from tellegen.assess.replay import ThreePhaseReplay
from tellegen.assess.workers import run_together
from tellegen.errors import InputError, TellegenError
from tellegen.grid import Case, best_engine, load_case
from tellegen.grid.synthetic import opendss_script, synthetic_feeder
from tellegen.market import Clearing, start_after
from tellegen.records import ClearingStatus
from tellegen.simulation.plant import Plant
from tellegen.simulation.workload import (
    ROOT_PRICE,
    BidForm,
    Binding,
    Customers,
    Instance,
    LoadCustomers,
    Round,
    Situation,
    binding_count,
    dispatch_kva,
    limits_that_bind,
    market_books,
)

SYNTHETIC = "synthetic:"
SHIPPED = ((200, 1), (200, 3), (1000, 1), (1000, 3), (3000, 3))
SHIPPED_QUICK = ((40, 1), (40, 3))
WITH_GRIDS = ("simbench:1-LV-rural3--2-sw", "simbench:1-LV-urban6--2-sw", "pandapower:case33bw")
VIOLATION_TARGET_PU, REPLAY_TARGET_PU = 1e-7, 1e-7
DERIVATIVE_TARGET, DERIVATIVE_TARGET_HUGE = 5e-6, 5e-5
HUGE_NODES = 8000
"""From here on difference quotients themselves have fewer digits: welfare is a difference of larger sums."""
LARGE_NODES = 4000
"""Networks of more nodes have their prices judged at two ports only: each takes four clearings or more."""
_CIRCUIT = re.compile(r"^\s*new\s+(object\s*=\s*)?\"?circuit\.", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network with its customers, and what OpenDSS needs to replay it (None: nothing)."""

    name: str
    case: Case
    customers: Customers
    script: str | Path | None


def specs(options: Options, report: Report) -> list[str]:
    """What is measured: the feeders that ship, those of the extra where it is installed, those asked for."""
    wanted = [f"{SYNTHETIC}{customers}x{phases}" for customers, phases in SHIPPED_QUICK if options.quick]
    if not options.quick:
        wanted = [f"{SYNTHETIC}{customers}x{phases}" for customers, phases in SHIPPED]
        if find_spec("simbench") and find_spec("pandapower"):
            wanted += WITH_GRIDS
        else:
            report.notes.append(f"left out: {', '.join(WITH_GRIDS)} (extra `grids` is not installed)")
    return wanted + [spec for given in options.networks for spec in _found(given)]


def _found(given: str) -> list[str]:
    """A spec as it is; of a folder every OpenDSS script that makes a circuit."""
    path = Path(given)
    if not path.is_dir():
        return [given]
    scripts = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".dss" and p.is_file())
    found = [str(p) for p in scripts if _CIRCUIT.search(p.read_text(encoding="utf-8", errors="replace"))]
    if not found:
        raise InputError(given, "folder", "holds no OpenDSS script with 'new circuit'; name a folder or file that does")
    return found


def subject_of(spec: str) -> Subject:
    """Load what a spec names: ``synthetic:200x3``, or what `load_case` reads.

    Raises
    ------
    InputError : the network cannot be read, or has no customers.
    """
    if spec.startswith(SYNTHETIC):
        customers, phases = (int(word) for word in spec.removeprefix(SYNTHETIC).split("x"))
        feeder = synthetic_feeder(customers, phases=phases, seed=1)
        return Subject(feeder.network.name, feeder.case, feeder, opendss_script(feeder) if phases == 3 else None)
    case, path = load_case(spec), Path(spec)
    script = path if path.suffix.lower() == ".dss" else None
    name = spec if script is None else f"{path.parent.name}/{path.name}"
    return Subject(name, case, LoadCustomers.of(case.network, case.loads), script)


def prepare_survey(spec: str, intervals: int, ports: int) -> Callable[[], Report]:
    """One network, loaded; the timed part measures it with either voltage limit binding."""
    report = Report()
    try:
        subject = subject_of(spec)
    except TellegenError as error:
        report.notes.append(f"left out: {error}")
        return lambda: report

    def timed() -> Report:
        for situation, binding in (
            (Situation.EVENING, Binding.LOWEST_VOLTAGE),
            (Situation.NOON, Binding.HIGHEST_VOLTAGE),
        ):
            try:
                _measure_one(subject, situation, binding, intervals, ports, report)
            except TellegenError as error:
                report.notes.append(f"{subject.name}, {binding} binding: {error}")
        return report

    return timed


def measure(options: Options, report: Report) -> None:
    """All figures of the benchmark, each network in a process of its own; what cannot be measured is a note."""
    intervals, ports = (2, 1) if options.quick else (7, 4)
    for spec in specs(options, report):
        options.progress(spec)
        part: Report = run_together(prepare_survey, [(spec, intervals, ports)])[1][0]
        report.figures += part.figures
        report.notes += part.notes


def _measure_one(
    subject: Subject, situation: Situation, binding: Binding, intervals: int, ports: int, report: Report
) -> None:
    network, customers = subject.case.network, subject.customers
    rounds = market_books(customers, 1, intervals=intervals + 1, form=BidForm.STEPS, situation=situation)
    instance = replace(limits_that_bind(network, rounds[0].book, binding), engine=best_engine())
    start = time.perf_counter()
    first = replace(instance, network=replace(instance.network)).clear(rounds[0].book)
    cold = 1000.0 * (time.perf_counter() - start)
    state = start_after(instance.clear(rounds[0].book), rounds[0].book)
    warm, outcomes = [], [first]
    for round_ in rounds[1:]:
        start = time.perf_counter()
        outcome = instance.clear(round_.book, state)
        warm.append(1000.0 * (time.perf_counter() - start))
        state = start_after(outcome, round_.book) or state
        outcomes.append(outcome)
    title = f"{subject.name}, {binding} binding"
    fallbacks = sum(outcome.status == ClearingStatus.FALLBACK for outcome in outcomes)
    conditions: dict[str, str | float] = {
        "bids": str(BidForm.STEPS),
        "nodes": len(network.nodes),
        "orders": len(rounds[0].book),
        "limits binding (median)": float(np.median([binding_count(outcome) for outcome in outcomes])),
        "quadratic programs (median)": float(np.median([outcome.evidence.iterations for outcome in outcomes[1:]])),
        "fallbacks": fallbacks,
        "relaxed": sum(outcome.status == ClearingStatus.RELAXED for outcome in outcomes),
    }
    report.figures.append(median_figure(f"{title}: warm", warm, "ms", conditions=conditions))
    report.figures.append(Figure(f"{title}: cold", cold, "ms", conditions=conditions))
    report.figures.append(Figure(f"{title}: fallbacks", fallbacks, f"of {len(outcomes)}", target=0.0))
    settled = [(r, o) for r, o in zip(rounds, outcomes, strict=True) if o.status != ClearingStatus.FALLBACK]
    if not settled:
        report.notes.append(f"{title}: {outcomes[-1].reason}")
        return
    worst = max(outcome.evidence.max_violation_pu for _, outcome in settled)
    report.figures.append(Figure(f"{title}: largest violation", worst, "pu", target=VIOLATION_TARGET_PU))
    _judge_prices(title, instance, settled[-1], customers, ports, report)
    _judge_dispatch(title, subject, settled, report)


def _judge_prices(
    title: str, instance: Instance, last: tuple[Round, Clearing], customers: Customers, ports: int, report: Report
) -> None:
    round_, outcome = last
    typical = float(np.median(customers.peak_kw))
    start = start_after(outcome, round_.book)
    few = ports if len(instance.network.nodes) < LARGE_NODES else min(ports, 2)
    chosen = sample_ports(outcome, customers.customer_node, few)
    found = price_quotients(
        lambda book: instance.clear(book, start),
        round_.book,
        outcome,
        chosen.tolist(),
        root_price=ROOT_PRICE,
        typical_kw=typical,
    )
    report.figures.append(
        Figure(
            f"{title}: prices against difference quotients",
            max(quotient.error for quotient in found),
            "relative",
            target=DERIVATIVE_TARGET if len(instance.network.nodes) < HUGE_NODES else DERIVATIVE_TARGET_HUGE,
            conditions={"prices": len(found), "kinked": sum(quotient.kinked for quotient in found)},
        )
    )


def _judge_dispatch(title: str, subject: Subject, settled: list[tuple[Round, Clearing]], report: Report) -> None:
    network = subject.case.network
    if find_spec("dss") is None:
        report.notes.append(f"{title}: not replayed, the extra `plant` is not installed")
        return
    worst = 0.0
    if subject.script is not None:
        replay = ThreePhaseReplay(network, subject.script, subject.customers.customer_node)
        for round_, outcome in settled:
            demand = dispatch_kva(round_.book, outcome.award_kw, len(network.nodes))
            worst = max(worst, replay.voltage_error_pu(demand, outcome.flow.voltage))
    else:
        plant = Plant(subject.case, perturb=0.0)
        for round_, outcome in settled:
            state = plant.solve(dispatch_kva(round_.book, outcome.award_kw, len(network.nodes)))
            worst = max(worst, float(np.abs(state.voltage_pu - np.abs(outcome.flow.voltage)).max()))
    report.figures.append(Figure(f"{title}: OpenDSS replay", worst, "pu of voltage", target=REPLAY_TARGET_PU))
