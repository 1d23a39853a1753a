"""The processes of a shard killed with signal 9, again and again, while its market is played.

Intake, market and clearing workers are processes of their own; the senders are here. Under a clock that stands while a
process is down, what the market came to is what it comes to undisturbed: recorded prices, awards, energy, statements,
balances. Under one that runs, gates are missed, and say so; the books are what the record folds to.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.assess.faults.forked import Life, Start, forking
from tellegen.assess.faults.hamlet import Hamlet, found
from tellegen.assess.faults.hamlet_play import END, FIRST, LEAVES, SHORT_DAY, Play, short_day
from tellegen.assess.faults.outcome import Outcome
from tellegen.assess.faults.promises import ContradictionError
from tellegen.errors import InputError, TellegenError
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.journal import Journal, check
from tellegen.journal.clock import Pace, Told, elapsed_s
from tellegen.operations.booked import booked
from tellegen.operations.market import Market
from tellegen.operations.record import MARKET, ShardRecord
from tellegen.operations.upkeep import knows_of_erased
from tellegen.records import Clearings, ClearingStatus, GateOutcome, Gates
from tellegen.service.client import IntakeClient
from tellegen.simulation.batches import SignedBatch

HOUR = FIRST * 300 + 7_270
"""The first day, its close, and a correction behind it."""
TRIES_MAX = 20
WITH_WORKERS = 0.3
"""In so many worlds processes of their own clear."""
_CHILD = "tellegen.assess.faults.market_child"
_LOOK_S = 0.005


@dataclass(slots=True)
class KilledMarkets:
    """What was killed, and what came of it.

    Attributes
    ----------
    worlds : played to their end. markets, intakes, workers, upkeeps : processes killed.
    unanswered : batches that a kill left without an answer, sent again.
    missed : feeders' gates that were missed under a running clock, each flagged.
    """

    worlds: int = 0
    markets: int = 0
    intakes: int = 0
    workers: int = 0
    upkeeps: int = 0
    unanswered: int = 0
    missed: int = 0

    @property
    def kills(self) -> int:
        """All of them."""
        return self.markets + self.intakes + self.workers + self.upkeeps


@dataclass(slots=True)
class _Starts:
    """How processes begin."""

    intake: Start
    market: Start
    upkeep: Start


@contextmanager
def _starts() -> Iterator[_Starts]:
    with ExitStack() as held:
        yield _Starts(*(held.enter_context(forking(_CHILD, f"run_{what}")) for what in ("intake", "market", "upkeep")))


class _Far(Play):
    """The senders of a hamlet, whose intake is another process that may be killed while it answers."""

    def __init__(self, world: _World) -> None:
        super().__init__(world.hamlet)
        self._world = world

    def take(self, *batches: SignedBatch) -> int:
        """Hand batches in, again and again until each is answered; the clock stands meanwhile."""
        self._world.tell_intake(self.clock.now())
        return sum(self._world.hand_in(batch) for batch in batches)

    def tick(self) -> None:
        """The intake does that by itself."""


@dataclass(slots=True)
class _World:
    """One shard that is played with kills to come.

    Attributes
    ----------
    kills : how many are left. until : the time at which it ends. processes : that clear.
    pace : of a time that runs; None: it stands until it is told on.
    """

    starts: _Starts
    hamlet: Hamlet
    chance: random.Random
    killed: KilledMarkets
    kills: int
    until: int
    processes: int = 0
    pace: Pace | None = None
    intake: Life | None = None
    address: str = ""

    @property
    def path(self) -> Path:
        return self.hamlet.keys.path

    # The intake

    @property
    def _time(self) -> Told:
        return Told(self.path / "intake.time")

    def tell_intake(self, now: int) -> None:
        """It is so late now."""
        self._time.tell(now)

    def hand_in(self, batch: SignedBatch) -> int:
        """One batch, until it is answered."""
        for _ in range(TRIES_MAX):
            client = IntakeClient(self._serving(), self.hamlet.keys.vkey)
            timer = self._kill_intake_soon()
            try:
                return client.hand_in(batch.statement, batch.signature, batch.body).accepted
            except (InputError, RefusedBatchError) as error:
                if isinstance(error, RefusedBatchError) and error.reason is not Reason.UNAVAILABLE:
                    raise
                self.killed.unanswered += 1
            finally:
                if timer is not None:
                    timer.join()
        raise ContradictionError(f"a batch has no answer after {TRIES_MAX} tries")

    def _serving(self) -> str:
        """Address of the intake, started where it is not there."""
        while self.intake is None or self.intake.ended or not self.address:
            self.intake = self.starts.intake(f"{self.path} {self.pace or self._time}")
            self.address = self.intake.line()
        return self.address

    def _kill_intake_soon(self) -> threading.Timer | None:
        if not self.kills or self.chance.random() > 0.08:
            return None
        assert self.intake is not None
        self.kills -= 1
        self.killed.intakes += 1
        timer = threading.Timer(self.chance.uniform(0.0, 0.03), self.intake.kill)
        timer.start()
        return timer

    def reach(self, now: int) -> None:
        """The intake's record reaches a time, as it does by itself after some quiet seconds."""
        self.tell_intake(now)
        with Journal.open(self.path) as journal:
            while journal.refresh() == 0 or journal.entry(len(journal) - 1).known_at < now:
                self._serving()
                time.sleep(_LOOK_S)

    # The market

    def play(self) -> None:
        """From the start to the end."""
        play = _Far(self)
        short_day(play)
        market = Told(self.path / "market.time")
        for told in (market, self._time):
            told.tell(play.clock.now())
        line = f"{self.path} {market} {self.until} {self.processes}"
        life = self.starts.market(line)
        while True:
            self._maybe_kill(life, 0.1, 0.15)
            said = life.line()
            if said == "done":
                life.wait()
                break
            if not said:
                _require_killed(life)
                life = self.starts.market(line)
                continue
            play.clock.wait(int(said.removeprefix("waiting ")))
            self.reach(play.clock.now())
            market.tell(play.clock.now())
            self._maybe_kill(life, 0.35, 0.08)
        if self.intake is not None:
            self.intake.kill()

    def _maybe_kill(self, life: Life, likely: float, within_s: float) -> None:
        if not self.kills or life.ended or self.chance.random() > likely:
            return
        time.sleep(self.chance.uniform(0.0, within_s))
        self.kills -= 1
        workers = _children(life.process) if self.processes else []
        if workers and self.chance.random() < 0.5:
            self.killed.workers += 1
            _signal(self.chance.choice(workers))
            return
        self.killed.markets += 1
        life.kill()

    def keep_up(self, customer: int) -> None:
        """Compaction and an erasure, killed in between and asked for again."""
        line = f"{self.path} {self.until} {customer}"
        while True:
            life = self.starts.upkeep(line)
            if self.kills and self.chance.random() < 0.6:
                time.sleep(self.chance.uniform(0.0, 1.5))
                self.kills -= 1
                self.killed.upkeeps += 1
                life.kill()
            elif life.line() == "done":
                life.wait()
                return
            else:
                _require_killed(life)


def _require_killed(life: Life) -> None:
    if life.ended and not life.killed:
        raise ContradictionError("a process ended by itself; its message stands above")


def _children(process: int) -> list[int]:
    place = Path(f"/proc/{process}/task/{process}/children")
    return [int(each) for each in place.read_text().split()] if place.exists() else []


def _signal(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


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
    with _starts() as starts:
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
    starts: _Starts,
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
    world = _World(starts, mine, chance, killed, kills - kept, until, processes=processes)
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


def running_rounds(folder: Path, kills: int, *, seed: int = 0, factor: float = 300.0) -> KilledMarkets:
    """Kill a market under a clock that runs on: what it misses is flagged, and the books are the record's.

    Raises
    ------
    ContradictionError : a gate has no outcome, one that was missed is cleared, or the books are others.
    """
    hamlet = found(folder / "running", SHORT_DAY)
    chance, killed = random.Random(seed), KilledMarkets()  # noqa: S311 (repeatable on purpose)
    path = hamlet.keys.path
    with _starts() as starts:
        pace = Pace(factor, FIRST * 300 - 420, elapsed_s())
        until = FIRST * 300 + 12 * 300 + 61
        world = _World(starts, hamlet, chance, killed, 0, until, pace=pace)
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
            _require_killed(life)
        life.wait()
        senders.join()
        if world.intake is not None:
            world.intake.kill()
    _hold(path)
    with ShardRecord.open(path) as record:
        killed.missed = _flagged(record)
    killed.worlds = 1
    return killed


class _Running(_Far):
    """Senders by a clock that runs."""

    def __init__(self, world: _World, pace: Pace) -> None:
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
            time.sleep(_LOOK_S)


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
