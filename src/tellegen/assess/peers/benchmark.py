"""Benchmark ``peers``: the same markets in other engines, and the same order book without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tellegen.assess.peers.auction import PlainBook
from tellegen.assess.peers.install import PEERS, Peer, PeerError, Task, install, interpreter
from tellegen.assess.peers.instance import Instance
from tellegen.assess.peers.judging import Ours, Timed, judge, prepare_ours, replay_error_pu
from tellegen.assess.peers.markets import case33, district
from tellegen.assess.peers.running import run_peer
from tellegen.assess.registry import Figure, Options, Report, median_figure
from tellegen.assess.workers import run_together
from tellegen.errors import InputError
from tellegen.grid import GridError

OVER_PEER_TARGET = 0.2
"""Our time as a share of a peer's that solves the same problem to optimality."""
TARGETED = ("ipopt", "socp")
OVER_SORT_TARGET = 5.0
PANDAPOWER_NODES_MAX = 200
"""Its optimal power flow spends minutes on a thousand nodes and ends without an answer."""
TIMEOUT_S, TIMEOUT_QUICK_S = 120.0, 60.0


def measure(options: Options, report: Report) -> None:
    """All figures of the benchmark."""
    pythons: dict[str, Path] = {}
    for peer in PEERS:
        python = interpreter(peer)
        if python is None and options.install:
            options.progress(f"installing {peer.name}: {', '.join(peer.requirements)}")
            try:
                python = install(peer)
            except PeerError as error:
                report.notes.append(str(error))
        if python is None:
            report.notes.append(f"{peer.name} is not installed: run `tellegen bench peers --install`")
        else:
            pythons[peer.name] = python
        report.figures.append(Figure(f"installed: {peer.name}", float(python is not None), "1 = yes"))
    _auction(pythons, options, report)
    for make in _markets(options):
        try:
            instance = make()
        except InputError as error:
            report.notes.append(f"left out: {error}")
            continue
        _market(instance, pythons, options, report)


def _markets(options: Options) -> Iterator[Callable[[], Instance]]:
    intervals, one, three = (2, 40, 30) if options.quick else (6, 1000, 300)
    yield lambda: case33(intervals, "evening")
    yield lambda: case33(intervals, "noon")
    yield lambda: district(one, intervals, "evening")
    yield lambda: district(one, intervals, "evening", sloped=True)
    for seed in range(1, max(options.seeds, 1) + 1):
        yield partial(district, one, intervals, "noon", seed=seed)
        yield partial(district, one, intervals, "noon", sloped=True, seed=seed)
    yield lambda: district(three, intervals, "evening", phases=3)
    yield lambda: district(three, intervals, "noon", phases=3)


def _market(instance: Instance, pythons: dict[str, Path], options: Options, report: Report) -> None:
    options.progress(f"{instance.name}: tellegen")
    cold = min(len(instance.books), 3)
    mine: Ours = run_together(prepare_ours, [(instance, cold)])[1][0]
    conditions: dict[str, str | float] = {
        "limits binding (median)": float(np.median(mine.binding)),
        "quadratic programs (median)": float(np.median(mine.programs)),
        "nodes": len(instance.network.nodes),
        "steps": instance.steps.size,
        "status": "optimal" if mine.optimal else ", ".join(sorted(set(mine.timed.status))),
    }
    for words, seconds in (("warm", mine.timed.warm_s), ("cold", mine.timed.cold_s)):
        report.figures.append(
            median_figure(f"{instance.name}: tellegen, {words}", (1e3 * seconds).tolist(), "ms", conditions=conditions)
        )
    if not mine.optimal:
        report.notes.append(f"{instance.name}: tellegen itself ended {conditions['status']}; no ratio means anything")
    engines = {"tellegen": mine.timed}
    arrays = instance.arrays()
    for peer in PEERS:
        if peer.task != Task.MARKET or peer.name not in pythons:
            continue
        if peer.name == "pandapower" and len(instance.network.nodes) > PANDAPOWER_NODES_MAX:
            report.notes.append(f"pandapower, {instance.name}: not tried beyond {PANDAPOWER_NODES_MAX} nodes")
            continue
        options.progress(f"{instance.name}: {peer.name}")
        try:
            found = run_peer(peer, pythons[peer.name], arrays, TIMEOUT_QUICK_S if options.quick else TIMEOUT_S)
        except PeerError as error:
            report.notes.append(f"{peer.name}, {instance.name}: {error}")
            continue
        engines[peer.name] = Timed.of(found)
        _report_peer(instance, peer, engines[peer.name], mine, report)
    _replay(instance, engines, report)


def _report_peer(instance: Instance, peer: Peer, theirs: Timed, mine: Ours, report: Report) -> None:
    verdict = judge(instance, theirs, mine.timed)
    if not verdict.books:
        report.notes.append(f"{peer.name}, {instance.name}: no dispatch: {', '.join(sorted(set(theirs.status)))}")
        return
    conditions: dict[str, str | float] = {
        "cold": 1e3 * float(np.median(theirs.cold_s)),
        "build, not in the time": 1e3 * theirs.build_s,
        "welfare short by": verdict.shortfall,
        "violation, pu": verdict.violation,
        "price difference": verdict.price_difference,
        "books solved": verdict.books,
        "status": ", ".join(sorted(set(theirs.status))),
        "its time counts": "yes" if verdict.counts else "no",
    }
    if theirs.warm_s.size:
        conditions["warm"] = 1e3 * float(np.median(theirs.warm_s))
    report.figures.append(Figure(f"{instance.name}: {peer.name}", 1e3 * theirs.best_s, "ms", conditions=conditions))
    if not verdict.counts:
        report.notes.append(
            f"{peer.name}, {instance.name}: its dispatch exceeds limits by {verdict.violation:.2g} pu and has "
            f"{verdict.shortfall:.2g} less welfare: its time does not count"
        )
        return
    report.figures.append(
        Figure(
            f"{instance.name}: tellegen warm over {peer.name}, the better of its cold and warm",
            float(np.median(mine.timed.warm_s)) / theirs.best_s,
            "ratio",
            target=OVER_PEER_TARGET if peer.name in TARGETED else None,
        )
    )


def _replay(instance: Instance, engines: dict[str, Timed], report: Report) -> None:
    try:
        errors = [replay_error_pu(instance, engine) for engine in engines.values()]
    except (InputError, GridError) as error:
        report.notes.append(f"{instance.name}: no replay in OpenDSS: {error}")
        return
    known = [error for error in errors if error is not None]
    if known:
        report.figures.append(
            Figure(
                f"{instance.name}: OpenDSS against our power flow at every engine's dispatch",
                max(known),
                "pu of voltage",
                conditions={"engines": ", ".join(engines)},
            )
        )


def _auction(pythons: dict[str, Path], options: Options, report: Report) -> None:
    orders, repetitions = (100, 3) if options.quick else (1000, 9)
    book = PlainBook.draw(orders, 7)
    name = f"{orders} buyers, {orders} sellers, no network"
    options.progress(name)
    best = book.auction()
    welfare = best.welfare_nanos_per_h / 1e9
    mine = np.array(book.auction_s(5 * repetitions))
    conditions: dict[str, str | float] = {
        "welfare per h": welfare,
        "price": best.price_micros / 1e6,
        "lowest": best.low_micros / 1e6,
        "highest": best.high_micros / 1e6,
        "kW": best.volume_w / 1e3,
    }
    report.figures.append(
        median_figure(f"{name}: tellegen double auction", (1e3 * mine).tolist(), "ms", conditions=conditions)
    )
    report.figures.append(
        median_figure(f"{name}: tellegen nodal clearing on a stiff line", [1e3 * t for t in book.nodal_s(1)], "ms")
    )
    for peer in PEERS:
        if peer.task != Task.AUCTION or peer.name not in pythons:
            continue
        try:
            found = run_peer(peer, pythons[peer.name], book.arrays(repetitions), TIMEOUT_QUICK_S)
        except PeerError as error:
            report.notes.append(f"{peer.name}, {name}: {error}")
            continue
        price, award = float(found["price"]), found["award"]
        value = float(book.side * book.price_micros / 1e6 @ award)
        inside = best.low_micros / 1e6 - 1e-9 <= price <= best.high_micros / 1e6 + 1e-9
        seconds = found["seconds"]
        report.figures.append(
            median_figure(
                f"{name}: {peer.name}",
                (1e3 * seconds).tolist(),
                "ms",
                conditions={
                    "share of the welfare": value / welfare,
                    "price": price,
                    "price within the range": "yes" if inside else "no",
                    "kW": float(award[book.side > 0].sum()),
                },
            )
        )
        report.figures.append(
            Figure(
                f"{name}: tellegen double auction over {peer.name}",
                float(np.median(mine) / np.median(seconds)),
                "ratio",
                target=OVER_SORT_TARGET if peer.name == "sort" else None,
            )
        )
