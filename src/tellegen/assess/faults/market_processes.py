"""The processes of one shard while its market is played, and kills that come to them.

Intake, market, clearing workers and upkeep are processes of their own; the senders are here.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tellegen.assess.faults.forked import Life, Start, forking
from tellegen.assess.faults.hamlet import Hamlet
from tellegen.assess.faults.hamlet_play import Play, short_day
from tellegen.assess.faults.promises import ContradictionError
from tellegen.errors import InputError
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.journal import Journal
from tellegen.journal.clock import Pace, Told
from tellegen.service.client import IntakeClient
from tellegen.simulation.batches import SignedBatch

TRIES_MAX = 20
LOOK_S = 0.005
_CHILD = "tellegen.assess.faults.market_child"


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
class Starts:
    """How processes begin."""

    intake: Start
    market: Start
    upkeep: Start


@contextmanager
def starting() -> Iterator[Starts]:
    """Processes of a shard can be started within."""
    with ExitStack() as held:
        yield Starts(*(held.enter_context(forking(_CHILD, f"run_{what}")) for what in ("intake", "market", "upkeep")))


class FarSenders(Play):
    """The senders of a hamlet, whose intake is another process that may be killed while it answers."""

    def __init__(self, world: KilledWorld) -> None:
        super().__init__(world.hamlet)
        self._world = world

    def take(self, *batches: SignedBatch) -> int:
        """Hand batches in, again and again until each is answered; the clock stands meanwhile."""
        self._world.tell_intake(self.clock.now())
        return sum(self._world.hand_in(batch) for batch in batches)

    def tick(self) -> None:
        """The intake does that by itself."""


@dataclass(slots=True)
class KilledWorld:
    """One shard that is played with kills to come.

    Attributes
    ----------
    kills : how many are left. until : the time at which it ends. processes : that clear.
    pace : of a time that runs; None: it stands until it is told on.
    """

    starts: Starts
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
        """Directory of the shard."""
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
                time.sleep(LOOK_S)

    # The market

    def play(self) -> None:
        """From the start to the end."""
        play = FarSenders(self)
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
                require_killed(life)
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
                require_killed(life)


def require_killed(life: Life) -> None:
    """Whoever has ended was killed.

    Raises
    ------
    ContradictionError : a process has ended by itself.
    """
    if life.ended and not life.killed:
        raise ContradictionError("a process ended by itself; its message stands above")


def _children(process: int) -> list[int]:
    place = Path(f"/proc/{process}/task/{process}/children")
    return [int(each) for each in place.read_text().split()] if place.exists() else []


def _signal(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
