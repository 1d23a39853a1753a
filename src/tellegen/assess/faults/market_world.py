"""A market with its intake, books, vault and snapshots on one simulated disk, from one seed, in one thread.

The disk tears, fills up, refuses and loses power; processes are killed; the clock is set wrong. Held to in the end:

- both journals are whole, the books are what the record folds to, and so is what the market knows
- where the clock was right, the market came to what it comes to undisturbed
"""

from __future__ import annotations

import random
import threading
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

from tellegen.assess.faults.database import StoredDatabases
from tellegen.assess.faults.disk import Faults, PowerLossError, SimulatedDisk
from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.assess.faults.hamlet import Hamlet, found
from tellegen.assess.faults.hamlet_play import FIRST, SHORT_DAY, Play, give_prices, short_day
from tellegen.assess.faults.outcome import Outcome
from tellegen.assess.faults.promises import ContradictionError
from tellegen.books import BooksError
from tellegen.errors import TellegenError
from tellegen.intake.limits import RefusedBatchError
from tellegen.journal import JournalError, check
from tellegen.operations.market import Market
from tellegen.operations.process import Operator
from tellegen.operations.record import MARKET
from tellegen.privacy import VaultError
from tellegen.simulation.batches import SignedBatch

WHOLE_S, PART_S = 7_270, 1_900
"""Seconds from the first interval on that are played: past the first close and a correction behind it, or less."""
_REFUSED = (JournalError, BooksError, VaultError, RefusedBatchError, OSError)
_LIVES_MAX = 400


@dataclass(slots=True)
class MarketTally:
    """What happened, counted."""

    worlds: int = 0
    verbs: int = 0
    kills: int = 0
    power_losses: int = 0
    disk_refusals: int = 0
    clock_jumps: int = 0
    refused_batches: int = 0

    def add(self, other: MarketTally) -> None:
        """Count another world in."""
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))


class _DiskRefusedError(BaseException):
    """The operator would wait now, and open its market again."""


class _Impatient(threading.Event):
    """Nobody waits in a simulation."""

    def wait(self, timeout: float | None = None) -> bool:
        raise _DiskRefusedError


class _Senders(Play):
    """Senders who take a refusal for an answer where the clock is wrong."""

    wrong_s: float = 0.0
    jumped: bool = False
    refused: int = 0

    def take(self, *batches: SignedBatch) -> int:
        counted = 0
        for batch in batches:
            try:
                counted += super().take(batch)
            except RefusedBatchError:
                if not self.jumped or (self.intake is not None and not _open(self)):
                    raise
                self.refused += 1
        return counted

    def time(self) -> float:
        return super().time() + self.wrong_s


def _open(play: Play) -> bool:
    """Whether the intake's journal can still be written: it was the batch that was refused, and not by the disk."""
    try:
        assert play.intake is not None
        play.intake.journal.time(0)
        play.intake.commit()
    except (JournalError, RefusedBatchError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Founded:
    """The hamlet that every world begins with, and what its market comes to undisturbed, by seconds played."""

    hamlet: Hamlet
    undisturbed: dict[int, Outcome]

    @classmethod
    def at(cls, folder: Path) -> Founded:
        """Found it, and play it once for each length."""
        founded = cls(found(folder / "shard", SHORT_DAY), {})
        for seconds in (PART_S, WHOLE_S):
            world = _World(founded, random.Random(0), seconds)  # noqa: S311 (nothing is drawn)
            world.live(Faults())
            founded.undisturbed[seconds] = world.judge()
        return founded


class _World:
    def __init__(self, founded: Founded, chance: random.Random, seconds: int) -> None:
        self._founded, self._chance, self._seconds = founded, chance, seconds
        self.tally = MarketTally(worlds=1)
        self._path = founded.hamlet.keys.path
        self._disk = SimulatedDisk(chance)
        self._disk.copy_in(self._path)
        self._databases = StoredDatabases(self._disk)
        hamlet = Hamlet(founded.hamlet.keys, founded.hamlet.plan)
        self._play = _Senders(hamlet, self._disk, self._databases)
        short_day(self._play)

    def play(self) -> None:
        """Until the market has done all that is due."""
        jumps = self._chance.random() < 0.25
        for _ in range(_LIVES_MAX):
            if jumps and self._chance.random() < 0.3:
                self._play.wrong_s = self._chance.choice((0.0, -7200.0, -30.0, 30.0, 7200.0))
                self._play.jumped = True
                self.tally.clock_jumps += 1
            if self.live(self._faults()):
                return
        raise ContradictionError(f"in {_LIVES_MAX} lives the market did not get there")

    def _faults(self) -> Faults:
        chance = self._chance
        ill = chance.random() < 0.4
        return Faults(
            full_p=chance.choice((0.0, 0.002, 0.02)) if ill else 0.0,
            sync_p=chance.choice((0.0, 0.002, 0.02)) if ill else 0.0,
            read_only=ill and chance.random() < 0.1,
            power_in=chance.randint(1, chance.choice((60, 400, 1_500))) if chance.random() < 0.9 else None,
        )

    def live(self, faults: Faults) -> bool:
        """One life of intake and market; whether everything was done in it."""
        self._disk.faults = faults
        try:
            self._play.open_intake()  # first: after a loss of power it brings its journal back
            with self._market() as market:
                give_prices(market, self._play.clock.now())
                until = FIRST * 300 + self._seconds
                tell = self._play.events.append
                Operator(lambda: nullcontext(market), self._play.clock, _Impatient(), tell=tell).run(until)
                return True
        except PowerLossError:
            self._die()
        except (*_REFUSED, _DiskRefusedError) as error:
            if "corruption" in str(error):
                raise ContradictionError(f"a crash looks like corruption: {error}") from None
            self.tally.disk_refusals += 1
            self._play.close()
        finally:
            self._disk.faults = Faults()
            self.tally.verbs, self.tally.refused_batches = len(self._play.events), self._play.refused
        return False

    def _market(self) -> Market:
        return Market.open(self._path, storage=self._disk, databases=self._databases)

    def _die(self) -> None:
        """What stops is one process, or the machine."""
        self._disk.faults = Faults()
        self._play.close()
        if self._chance.random() < 0.5:
            self._disk.kill_process()
            self.tally.kills += 1
        else:
            self._disk.lose_power()
            self.tally.power_losses += 1

    def judge(self) -> Outcome:
        """Power goes once more; then the record is held against all that must be."""
        self._play.close()
        self._disk.lose_power()
        self._play.wrong_s = 0.0
        self._play.open_intake()
        self._play.close()
        with self._market() as market:
            record = market.record
            problem = _unlike(market)
            parts = differing(parts_of(market.state), parts_of(folded_from_zero(record)))
            outcome = Outcome.of(record)
        if parts or problem:
            raise ContradictionError(problem or f"{', '.join(parts)} of the state do not follow from the record")
        for folder in (self._path, self._path / MARKET):
            problems = check(folder, storage=self._disk)
            if problems:
                raise ContradictionError(f"after recovery: {problems[0]}")
        expected = self._founded.undisturbed.get(self._seconds)
        if expected is not None and not self._play.jumped:
            difference = outcome.difference(expected)
            if difference:
                raise ContradictionError(f"{difference} undisturbed")
        return outcome


def _unlike(market: Market) -> str:
    """What of the books is not what the postings on record add up to; empty where all is."""
    if market.ledger.balances_by_line() != Outcome.of(market.record).balances:
        return "the books are not what the record folds to"
    return "" if market.ledger.trial_balance() == 0 else "the books do not balance"


def simulate_market(founded: Founded, seed: int) -> MarketTally:
    """Play one world to its end.

    Raises
    ------
    ContradictionError : a law was broken; the message names the seed.
    """
    chance = random.Random(seed)  # noqa: S311 (a simulation is to be repeated, not to surprise)
    world = _World(founded, chance, WHOLE_S if seed % 4 == 0 else PART_S)
    try:
        world.play()
        world.judge()
    except (ContradictionError, TellegenError) as error:
        raise ContradictionError(f"seed {seed}: {error}") from error
    return world.tally
