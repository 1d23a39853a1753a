"""The processes of a shard killed with signal 9, again and again, while its market is played.

Intake, market and clearing workers are processes of their own; the senders are here. Under a clock that stands while a
process is down, what the market came to is what it comes to undisturbed: recorded prices, awards, energy, statements,
balances. Under one that runs, gates are missed, and say so; the books are what the record folds to.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.assess.faults.hamlet import Hamlet, found
from tellegen.assess.faults.hamlet_play import END, FIRST, LEAVES, SHORT_DAY, short_day
from tellegen.assess.faults.market_processes import (
    LOOK_S,
    FarSenders,
    KilledMarkets,
    KilledWorld,
    Starts,
    require_killed,
    starting,
)
from tellegen.assess.faults.outcome import Outcome
from tellegen.assess.faults.promises import ContradictionError
from tellegen.errors import TellegenError
from tellegen.journal import check
from tellegen.journal.clock import Pace, elapsed_s
from tellegen.operations.booked import booked
from tellegen.operations.market import Market
from tellegen.operations.record import MARKET, ShardRecord
from tellegen.operations.upkeep import knows_of_erased
from tellegen.records import Clearings, ClearingStatus, GateOutcome, Gates
from tellegen.simulation.batches import SignedBatch

HOUR = FIRST * 300 + 7_270
"""The first day, its close, and a correction behind it."""
WITH_WORKERS = 0.3
"""In so many worlds processes of their own clear."""


def standing_rounds(
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    per_world: int = 20,
    lengths: Sequence[int] = (HOUR,),
    progress: Callable[[str], None] = lambda words: None,
) -> KilledMarkets:
    """Play the hamlet's days with so many kills in all, under a clock that stands while a process is down.

    Parameters
    ----------
    folder : where the shards are made. per_world : kills in one play of the days.
    lengths : times at which plays end, one after the other; `END` is after the second close, and upkeep follows.

    Raises
    ------
    ContradictionError : a market came to something else than the undisturbed one.
    """
    hamlet = found(folder / "founded", SHORT_DAY)
    killed = KilledMarkets()
    with starting() as starts:
        undisturbed: dict[int, Outcome] = {}
        while killed.kills < kills:
            before, world = killed.kills, seed + killed.worlds
            left = min(per_world, kills - before)
            chance = random.Random(world)  # noqa: S311 (repeatable on purpose)
            until = lengths[killed.worlds % len(lengths)]
            if until not in undisturbed:
                path = folder / f"undisturbed-{until}"
                undisturbed[until] = _played(starts, hamlet, path, chance, KilledMarkets(), 0, until)
            path = folder / f"world-{killed.worlds}"
            outcome = _played(starts, hamlet, path, chance, killed, left, until)
            difference = outcome.difference(undisturbed[until])
            if difference:
                raise ContradictionError(f"seed {seed}, world {killed.worlds}: {difference} undisturbed")
            killed.worlds += 1
            shutil.rmtree(path)
            progress(f"{killed.kills} kills in {killed.worlds} worlds of a market, each came to the same")
    return killed


def _played(
    starts: Starts,
    hamlet: Hamlet,
    path: Path,
    chance: random.Random,
    killed: KilledMarkets,
    kills: int,
    until: int,
) -> Outcome:
    """A copy of the founded shard, played to its end."""
    shutil.copytree(hamlet.keys.path, path)
    processes = 2 if kills and chance.random() < WITH_WORKERS else 0
    mine = Hamlet(replace(hamlet.keys, path=path), hamlet.plan)
    kept = min(kills // 4, 4) if until >= END else 0  # for its upkeep
    world = KilledWorld(starts, mine, chance, killed, kills - kept, until, processes=processes)
    world.play()
    world.kills += kept
    _hold(path)
    with ShardRecord.open(path) as record:
        outcome = Outcome.of(record)
    if until >= END:
        world.keep_up(LEAVES)
        _hold(path)
        with ShardRecord.open(path) as record:
            if record.vault.holds(LEAVES) or LEAVES not in record.vault.erased or knows_of_erased(record):
                raise ContradictionError(f"{path}: customer {LEAVES} is not forgotten")
    return outcome


def _hold(path: Path) -> None:
    """Journals are whole, the books are what the record folds to, and so is what the market knows."""
    for folder in (path, path / MARKET):
        problems = check(folder)
        if problems:
            raise ContradictionError(f"{folder}: {problems[0]}")
    with Market.open(path) as market:
        record = market.record
        problem = market.ledger.check(booked(record))
        if problem:
            raise ContradictionError(problem)
        parts = differing(parts_of(market.state), parts_of(folded_from_zero(record)))
        if parts:
            raise ContradictionError(f"{path}: {', '.join(parts)} of the state do not follow from the record")


def running_rounds(
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    factor: float = 300.0,
    progress: Callable[[str], None] = lambda words: None,
) -> KilledMarkets:
    """Kill markets under a clock that runs on: what they miss is flagged, and their books are the record's.

    Raises
    ------
    ContradictionError : a gate has no outcome, one that was missed is cleared, or the books are others.
    """
    chance, killed = random.Random(seed), KilledMarkets()  # noqa: S311 (repeatable on purpose)
    with starting() as starts:
        while killed.markets < kills:
            hamlet = found(folder / f"running{killed.worlds}", SHORT_DAY)
            _play_running(starts, hamlet, kills, factor, chance, killed)
            path = hamlet.keys.path
            _hold(path)
            with ShardRecord.open(path) as record:
                killed.missed += _flagged(record)
            killed.worlds += 1
            progress(f"{killed.markets} kills of a market under a running clock")
    return killed


def _play_running(
    starts: Starts, hamlet: Hamlet, kills: int, factor: float, chance: random.Random, killed: KilledMarkets
) -> None:
    """An hour in which the market is killed and started again, while its senders go on."""
    path = hamlet.keys.path
    pace = Pace(factor, FIRST * 300 - 420, elapsed_s())
    until = FIRST * 300 + 12 * 300 + 61
    world = KilledWorld(starts, hamlet, chance, killed, 0, until, pace=pace)
    play = _Running(world, pace)
    short_day(play)
    senders = threading.Thread(target=lambda: play.run(until), daemon=True)
    senders.start()
    line = f"{path} {pace} {until} 0"
    life = starts.market(line)
    while killed.markets < kills and pace.time() < until - 600:
        time.sleep(chance.uniform(0.1, 900.0 / factor))
        if not life.ended:
            life.kill()
            killed.markets += 1
        life = starts.market(line)
    while life.line() != "done":
        require_killed(life)
    life.wait()
    senders.join()
    if world.intake is not None:
        world.intake.kill()


class _Running(FarSenders):
    """Senders by a clock that runs."""

    def __init__(self, world: KilledWorld, pace: Pace) -> None:
        super().__init__(world)
        self._pace = pace

    def take(self, *batches: SignedBatch) -> int:
        """Hand batches in; what comes too late is refused, and not sent again."""
        counted = 0
        for batch in batches:
            try:
                counted += self._world.hand_in(batch)
            except TellegenError:
                continue
        return counted

    def run(self, until: int) -> None:
        """Do what is to be done, when it is."""
        while self._pace.time() < until:
            self.clock.wait(int(self._pace.time()))
            time.sleep(LOOK_S)


def _flagged(record: ShardRecord) -> int:
    """Feeders' gates that were missed; each is administrative, and each that is administrative says why."""
    missed = 0
    for index in record.journal.find(kind=Clearings.kind, market="real_time"):
        header = record.header(index)
        status = int(record.table(index, Clearings).status[0])
        gates = record.journal.find(kind=Gates.kind, market="real_time", interval=header.interval)
        rows = Gates.concat([record.table(entry, Gates) for entry in gates])
        outcome = int(rows.outcome[rows.feeder == header.feeder.encode()][-1])
        flagged = outcome != GateOutcome.CLOSED
        if flagged != (status == ClearingStatus.ADMINISTRATIVE):
            where = f"interval {header.interval} of {header.feeder}"
            raise ContradictionError(f"{where}: outcome {outcome} of its gate, status {status} of its clearing")
        missed += flagged
    return missed
