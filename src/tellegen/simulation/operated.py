"""The operator's side of a simulated day, from the shard to the report.

The operator is the one that ``tellegen operate`` runs, in this process and by the world's clock. The world is a process
of its own (`simulation.apart`), and so is who watches both (`simulation.watcher`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tellegen.intake.intake import Intake
from tellegen.journal.clock import TRIALS, RecordClock
from tellegen.operations.in_process import InProcess
from tellegen.operations.market import Market
from tellegen.operations.reading import RecordedDay, read_day
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rebuild_books
from tellegen.report.figures import Json, clearing_sections, late_section, money_sections, price_sections
from tellegen.report.publication import (
    Published,
    published_of,
    read_summary_json,
    sign_and_verify,
    write_summary,
    write_tables,
)
from tellegen.simulation.apart import WorldApart
from tellegen.simulation.community_shard import build_community_shard, enrolled_at
from tellegen.simulation.course import (
    CORRECTION_AFTER,
    DAY_AHEAD_MARKET,
    MARKET_DAY,
    OpenCounter,
    Progress,
    play_correction,
    play_day,
)
from tellegen.simulation.draft import DraftDatabases, DraftStorage, make_durable
from tellegen.simulation.scenario import Scenario
from tellegen.simulation.setup import Setup, prepare
from tellegen.simulation.summary import about, worlds_and_comparisons
from tellegen.simulation.tables import write_simulation_tables
from tellegen.simulation.watcher import Watcher
from tellegen.units import INTERVALS_PER_HOUR
from tellegen.verify import Report

ORIGIN = "tellegen.example/feeder"
"""Name of the log of a simulated day."""
Tick = Callable[[int], None]
"""Lets the intake's record reach a time."""
_TAIL = "settlement and comparison"


@dataclass(frozen=True, slots=True)
class SimulatedDay:
    """A finished run: its summary as in ``summary.json``, and what the verification found."""

    summary: Json
    report: Report


def operate_day(scenario: Scenario, world: WorldApart, folder: Path, progress: Progress) -> SimulatedDay:
    """Operate the market of a scenario into a folder that is not there yet, and publish its day, durably.

    Raises
    ------
    InputError : the scenario cannot be played.
    """
    setup, draft = prepare(scenario), DraftStorage()
    with Watcher(scenario, folder) as watcher:

        def told(stage: str, done: int, total: int) -> None:
            progress(stage, done, total)
            if stage == DAY_AHEAD_MARKET:
                watcher.begin()  # the world has come up by now
            if stage == MARKET_DAY and done % INTERVALS_PER_HOUR == 0:
                draft.put_down()
                watcher.follow(setup.first + done)

        with _operating(setup, folder, world, draft) as (market, tick):
            play_day(setup, market, world, told, tick)
            if scenario.fault is not None:
                play_correction(setup, market, world, tick)
        draft.put_down()
        watcher.close_day()
        lived = world.close_day()
        progress(_TAIL, 0, 4)
        with ShardRecord.open(folder) as record:
            day = read_day(record, scenario.day.date, setup.feeder, scenario.day.date + CORRECTION_AFTER)
            run = published_of(record)
            progress(_TAIL, 1, 4)
            worlds = {"market": lived, **watcher.baselines()}
            rows, comparisons, retail = worlds_and_comparisons(setup, day.all_postings(), worlds)
            write_simulation_tables(setup, folder, worlds, retail)
            rebuild_books(record)
            write_tables(run, day)
            progress(_TAIL, 2, 4)
            report = sign_and_verify(run)
            progress(_TAIL, 3, 4)
            afresh = watcher.equals_afresh()
            summary = {
                **_heading(setup),
                "worlds": rows,
                "comparisons": comparisons,
                "prices": price_sections(day),
                **clearing_sections(day),
                **money_sections(day.all_postings()),
                **_late(setup, day, run, equal=afresh),
                "erased": [],
            }
            summary["evidence"] |= {**watcher.section(), "settles_afresh": afresh}
            write_summary(run, summary, report)
        make_durable(folder)
        progress(_TAIL, 4, 4)
    return SimulatedDay(read_summary_json(folder), report)


@contextmanager
def _operating(setup: Setup, folder: Path, world: WorldApart, draft: DraftStorage) -> Iterator[tuple[Market, Tick]]:
    """The scenario's shard with its operator in this process, whom the world meets."""
    keys = build_community_shard(setup, folder, ORIGIN)
    world.stand_at(enrolled_at(setup))

    def time_of_record(newest: int) -> RecordClock:
        return RecordClock(wall=lambda: float(world.now()), elapsed=world.elapsed, not_before=newest, bounds=TRIALS)

    intake = Intake.open(folder, clock=time_of_record, storage=draft)

    def tick(at: int) -> None:
        if intake.tick(at) is not None:
            intake.commit()

    try:
        with Market.open(folder, storage=draft, databases=DraftDatabases()) as market:
            exchange = InProcess(intake, market.record, receipts=False)
            world.begin(keys, OpenCounter(exchange, market, world))
            yield market, tick
    finally:
        intake.close()


def _late(setup: Setup, day: RecordedDay, run: Published, *, equal: bool) -> Json:
    """What the readings of the meter that failed moved, once they came; and whether a settlement afresh is equal."""
    fault = setup.scenario.fault
    if fault is None:
        return {}
    customer = setup.community.names.index(fault.customer) + 1
    section = late_section(day, customer, run.names, setup.rules.currency, replay_equal=equal)
    return {"correction": section} if section else {}


def _heading(setup: Setup) -> Json:
    scenario, devices, rules = setup.scenario, setup.community.devices, setup.rules
    return {
        "about": about(setup),
        "simulated": True,
        "name": scenario.name,
        "seed": scenario.seed,
        "feeder": {
            "grid": scenario.feeder.grid,
            "nodes": len(setup.network.nodes),
            "customers": setup.node.size,
            "devices": {kind: each.here for kind, each in devices.items()},
            "devices_of_data_set": {kind: each.data_set for kind, each in devices.items()},
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
        "currency": rules.currency,
        "rules": {"title": rules.title, "docket": rules.docket, "rulebook": setup.rulebook.sha256},
        "prices_source": f"{setup.wholesale.source}; {rules.root_prices.words}",
    }
