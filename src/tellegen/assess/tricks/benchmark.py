"""Benchmark ``tricks``: what every trick earns, by the rule of today and by the new one; a search; rules turned off.

Tricks are played on the demo's day and on networks: those of `--networks`, else a synthetic feeder of three phases.
Processes on all cores share the work; what a share comes to depends on nothing but its place.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from tellegen.assess.feeder_survey import subject_of
from tellegen.assess.registry import Figure, Options, Report
from tellegen.assess.tricks.books import book_figures
from tellegen.assess.tricks.rules_off import OFF, tried
from tellegen.assess.tricks.scene import Scene, drawn, recorded
from tellegen.assess.tricks.stage import Amounts, Stage
from tellegen.assess.tricks.strategy import TRICKS, Trick, Withheld, random_trick
from tellegen.grid.threads import one_thread
from tellegen.operations.record import ShardRecord
from tellegen.rules.price_run import PriceRun
from tellegen.simulation.play import simulate_day
from tellegen.simulation.scenario import demo_scenario, with_options
from tellegen.simulation.setup import prepare
from tellegen.simulation.summary import about
from tellegen.spawned import pooled

GAIN_MAX = 0.01
"""Most that something said may earn, currency an hour."""
SEARCHED, QUICK_SEARCHED, QUICK_HOURS, QUICK_TRICKS = 1_000, 16, 4, 8
SHARE, SEED = 25, 7
EVERY = 4
"""Of an hour one in so many intervals is played."""
NETWORK, QUICK_NETWORK = "synthetic:120x3", "synthetic:30x1"
UNIT = "currency/h"


@dataclass(frozen=True, slots=True)
class Played:
    """A trick on a scene: what it comes to under the rules, and with orders of any size taken, where that was tried;
    whether it offers relief; whether a gate without the run was cleared beside it, as takes too long for a search.
    """

    trick: Trick
    amounts: Amounts
    unlimited: Amounts | None
    relief: bool
    peer: bool = True


def any_size(rules: PriceRun) -> PriceRun:
    """The rules without admission: orders of any size are taken, and nobody is on hold."""
    return replace(rules, within_connection=False, hold_hours=0)


@cache
def _scene(source: str) -> Scene:
    """A played day by its folder, or markets drawn on a network."""
    if not (Path(source) / "market").is_dir():
        return drawn(source)
    with ShardRecord.open(source, use_snapshot=False) as record:
        record.refresh()
        return recorded(record)


@cache
def _stage(source: str, limited: bool, peer: bool) -> Stage:
    return Stage(_scene(source), None if limited else any_size, peer=peer)


def play_listed(source: str, numbers: range) -> list[Played]:
    """Some tricks of the list."""
    found = []
    for trick in TRICKS[numbers.start : numbers.stop]:
        stage = _stage(source, True, True)
        unlimited = _stage(source, False, False).hourly(trick, EVERY) if trick.claims else None
        found.append(Played(trick, stage.hourly(trick, EVERY), unlimited, stage.says_relief(trick)))
    return found


def play_random(source: str, share: int, count: int) -> list[Played]:
    """Some strategies at random, an interval each, as if an hour were like it."""
    rng, stage, found = np.random.default_rng([SEED, share]), _stage(source, True, False), []
    scene = stage.scene
    for _ in range(count):
        trick = random_trick(rng, tuple(scene.hours), scale=scene.scale)
        every = len(scene.at(trick.hour))
        amounts = stage.hourly(trick, every, int(rng.integers(0, every)))
        found.append(Played(trick, amounts, None, stage.says_relief(trick), peer=False))
    return found


def measure(options: Options, report: Report) -> None:
    """Play the demo's day, then every trick on it and on networks."""
    scenario = with_options(demo_scenario(), hours=QUICK_HOURS) if options.quick else demo_scenario()
    networks = options.networks or ((QUICK_NETWORK,) if options.quick else (NETWORK,))
    for network in networks:
        subject_of(network)  # one that cannot be read is told before anything is played
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "day"
        options.progress(f"playing the demo's day{' (the first hours of it)' if options.quick else ''}")
        simulate_day(scenario, run, lambda *done: None)
        report.about += about(prepare(scenario))
        with one_thread(), pooled(os.cpu_count() or 1) as pool:
            for source in (str(run), *networks):
                title = "demo" if source == str(run) else _scene(source).name
                options.progress(f"tricks on {title}")
                _figures(title, source, pool, options.quick, report)
            options.progress("rules turned off")
            report.figures += pool.map(tried, range(len(OFF)))
        options.progress("books")
        report.figures += book_figures(run)


def _figures(title: str, source: str, pool: ProcessPoolExecutor, quick: bool, report: Report) -> None:
    listed, searched = (QUICK_TRICKS, QUICK_SEARCHED) if quick else (len(TRICKS), SEARCHED)
    chunks = [range(k, min(k + 2, listed)) for k in range(0, listed, 2)]
    sources = [source] * max(len(chunks), searched)
    plays = pool.map(play_listed, sources[: len(chunks)], chunks)
    sizes = [min(SHARE, searched - k) for k in range(0, searched, SHARE)]
    found = pool.map(play_random, sources[: len(sizes)], range(len(sizes)), sizes)
    report.figures += [figure(title, each) for part in plays for each in part]
    report.figures += search_figures(title, [each for part in found for each in part])


def target_of(trick: Trick, amounts: Amounts, margin: float = 0.1) -> float:
    """What it may earn at most."""
    if trick.withheld is not Withheld.NOTHING:
        return margin * abs(amounts.root_price) * amounts.own_kwh
    return GAIN_MAX if trick.only_says else 0.0


def cause_of(trick: Trick, amounts: Amounts) -> str:
    """Why something earns more than it may."""
    if trick.withheld is not Withheld.NOTHING:
        return "nobody else could relieve the limit"
    if trick.silent:
        return "a reading that comes late moves energy, and not the price"
    if amounts.deaf < amounts.answered:
        return "neighbours answer the guide, and what they do is real"
    return "awards of others move with the guide, and meters that stand are none of them"


def figure(title: str, played: Played) -> Figure:
    """A trick as the benchmark reports it."""
    trick, amounts = played.trick, played.amounts
    target = target_of(trick, amounts)
    conditions: dict[str, str | float] = {"if nobody answers": round(amounts.deaf, 4)}
    if played.peer:
        conditions["at the gate's prices"] = round(amounts.before, 3)
    if played.unlimited is not None:
        conditions["any size, nobody on hold"] = round(played.unlimited.answered, 4)
        conditions["accounts refused"] = amounts.refused
    if trick.only_says and trick.claims:
        conditions["intervals until on hold"] = amounts.free
    if trick.only_says:
        still = max(each.moved for each in (amounts, played.unlimited) if each is not None)
        conditions["largest move of a price, meters fixed, micro/kWh"] = still
    if trick.undrawn:
        conditions["if it is worth its price alone"] = round(amounts.at_price, 4)
    if trick.silent:
        conditions["more than the same, read in time"] = round(amounts.unread, 4)
    if amounts.answered > target:
        conditions["cause"] = cause_of(trick, amounts)
    return Figure(f"{title}: {trick.name}", round(amounts.answered, 6), UNIT, target, conditions=conditions)


def search_figures(title: str, played: list[Played]) -> Iterable[Figure]:
    """Of a search: the best that only says, relief aside, the best of the others, and what prices moved by."""
    says = [each for each in played if each.trick.only_says]
    groups = {
        "that only claim": [each for each in says if not each.relief],
        "that claim and offer relief": [each for each in says if each.relief],
        "that act": [each for each in played if not each.trick.only_says],
    }
    for said, group in groups.items():
        if not group:
            continue
        best = max(group, key=lambda each: each.amounts.answered - target_of(each.trick, each.amounts))
        name = f"best of {len(group)} strategies at random {said} ({best.trick.name}, {best.trick.hour} h)"
        yield figure(title, replace(best, trick=replace(best.trick, name=name)))
        beyond = [target_of(each.trick, each.amounts) for each in group]
        unmet = sum(each.amounts.answered > most + 1e-9 for each, most in zip(group, beyond, strict=True))
        yield Figure(f"{title}: strategies at random {said} beyond their target", unmet, f"of {len(group)}", 0.0)
        if group[0].trick.only_says:
            moved = max(each.amounts.moved for each in group)
            target = None if group[0].relief else 0.0
            yield Figure(
                f"{title}: largest move of a price, meters fixed, strategies {said}", moved, "micro/kWh", target
            )
