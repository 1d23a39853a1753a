"""An intake, its senders, and everything that may go wrong, in one thread and from one seed.

Journal and vault lie on a simulated disk that tears, fills up and loses power; the network loses, repeats and
reorders; the wall clock jumps both ways; the intake is killed and opened again. Held to throughout, and once more at
the end:

- good rows of what was acknowledged count, once; refused rows are told and stand on record as refused
- a reading that is on record is never counted again, whatever was restarted in between
- one number of a source stands for one batch; another body under it is refused and named
- a receipt that was handed out verifies, and what it proves stays on record
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

from tellegen.assess.faults.database import StoredDatabases
from tellegen.assess.faults.disk import Faults, PowerLossError, SimulatedDisk
from tellegen.assess.faults.promises import ContradictionError, judge
from tellegen.assess.faults.traffic import FEEDERS, SEED, Batch, Traffic
from tellegen.errors import TellegenError
from tellegen.intake.intake import Intake, Taken
from tellegen.intake.known import Known
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.sent import SentBids, SentReadings
from tellegen.journal import Journal, JournalError, check
from tellegen.journal.clock import RecordClock
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.snapshots import part_bytes
from tellegen.records import Route
from tellegen.simulation.shard import ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import check_receipt

_FIRST = 5_900_000  # a market interval in 2026
_LIMITS = IntakeLimits(rows_per_s_max=10**9)
_WAITING_MAX = 30


@dataclass(slots=True)
class IntakeTally:
    """What happened, counted."""

    acknowledged: int = 0
    receipts: int = 0
    repeated: int = 0
    refused_rows: int = 0
    replays_refused: int = 0
    conflicts: int = 0
    kills: int = 0
    power_losses: int = 0
    disk_refusals: int = 0
    clock_jumps: int = 0
    snapshots: int = 0
    from_snapshots: int = 0

    def add(self, other: IntakeTally) -> None:
        """Count another simulation in."""
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is on its way to the sender of a batch."""

    batch: Batch
    taken: Taken
    receipts: tuple[str, ...]
    entries: tuple[bytes, ...]


@dataclass(slots=True)
class _World:
    keys: ShardKeys
    random: random.Random
    disk: SimulatedDisk
    databases: StoredDatabases
    traffic: Traffic
    tally: IntakeTally = field(default_factory=IntakeTally)
    true_s: float = MARKET_INTERVAL_S * (_FIRST + 40.0)  # later than any jump of the clock goes back
    wrong_s: float = 0.0  # by which the wall clock is off
    intake: Intake | None = None
    committing: bool = False
    waiting: list[Batch] = field(default_factory=list)  # a sender has no answer
    requests: list[Batch] = field(default_factory=list)  # on the network
    taken: list[tuple[Batch, Taken]] = field(default_factory=list)  # for the next commit
    replies: list[_Answer] = field(default_factory=list)
    acknowledged: dict[tuple[str, str], _Answer] = field(default_factory=dict)

    # Senders

    def send(self) -> None:
        """A new batch, one again, one that is acknowledged already, or another under its number."""
        known = [answer.batch for answer in self.acknowledged.values()]
        fate = self.random.random()
        if fate < 0.55 and len(self.waiting) < _WAITING_MAX:
            replayable = [batch for batch in known if batch.readings is not None]
            batch = self.traffic.batch(int(self.true_s) // MARKET_INTERVAL_S, replayable)
            self.waiting.append(batch)
        elif fate < 0.65 and known:
            batch = self.traffic.altered(self.random.choice(known))
        elif fate < 0.75 and known:
            batch = self.random.choice(known)
        elif self.waiting:
            batch = self.random.choice(self.waiting)
        else:
            return
        self.requests += [batch] * self.random.choice((0, 1, 1, 1, 2))

    def receive(self) -> None:
        """One answer, whichever the network brings first; it may be brought again, or lost."""
        if not self.replies:
            return
        answer = self.replies[at := self.random.randrange(len(self.replies))]
        if self.random.random() < 0.8:
            del self.replies[at]
        if self.random.random() < 0.2:
            return
        batch, taken = answer.batch, answer.taken
        before = self.acknowledged.setdefault(batch.key, answer)
        if before.batch.digest != batch.digest or before.taken.entries != taken.entries:
            raise ContradictionError(f"{batch.key} was acknowledged as {before.taken} and as {taken}")
        vkey = self.disk.bytes_of(self.keys.path / "journal" / "operator.pub").decode().strip()
        for index, entry, receipt in zip(taken.entries, answer.entries, answer.receipts, strict=True):
            if check_receipt(receipt, entry, vkey).index != index:
                raise ContradictionError(f"the receipt of entry {index} proves another")
        self._done(batch)
        self.tally.receipts += len(answer.receipts)
        self.tally.acknowledged = len(self.acknowledged)

    def _done(self, batch: Batch) -> None:
        self.waiting = [each for each in self.waiting if each is not batch]

    # Intake

    def take(self) -> None:
        """The intake takes a request in, whichever comes first."""
        if self.intake is None or not self.requests:
            return
        batch = self.requests[at := self.random.randrange(len(self.requests))]
        if self.random.random() < 0.9:
            del self.requests[at]
        decode = SentReadings.from_bytes if batch.signed.statement.route is Route.READINGS else SentBids.from_bytes
        try:
            taken = self.intake.take(batch.signed.statement, batch.signed.signature, lambda: decode(batch.signed.body))
        except RefusedBatchError as error:
            self._refused(batch, error)
            return
        told = {problem.row: problem.refusal for problem in taken.refused}
        if told != batch.refused or taken.accepted != batch.rows - len(told):
            raise ContradictionError(f"{batch.key}: refused {told}, should have {batch.refused}")
        self.tally.refused_rows += len(told)
        self.tally.repeated += taken.again
        self.taken.append((batch, taken))

    def _refused(self, batch: Batch, error: RefusedBatchError) -> None:
        known = self.acknowledged.get(batch.key)
        if known is not None and known.batch.digest == batch.digest:
            raise ContradictionError(f"{batch.key} is acknowledged, and now refused: {error}")
        match error.reason:
            case Reason.CONFLICT:
                self.tally.conflicts += 1
            case Reason.NO_GOOD_ROW if len(batch.refused) == batch.rows:
                if {problem.row: problem.refusal for problem in error.rows} != batch.refused:
                    raise ContradictionError(f"{batch.key}: refused {error.rows}, should have {batch.refused}")
                self.tally.replays_refused += 1
            case Reason.TOO_LATE | Reason.TOO_EARLY if self.tally.clock_jumps:
                return  # another time
            case _:
                raise ContradictionError(f"{batch.key} is refused: {error}")
        self._done(batch)

    def commit(self) -> None:
        """A commit, during which more is taken in; then the answers."""
        if self.intake is None:
            return
        group, self.taken = self.taken, []
        self.committing = True
        try:
            self.intake.commit()
        except RefusedBatchError:
            self.tally.disk_refusals += 1
            self._close()
            return
        finally:
            self.committing = False
        journal = self.intake.journal
        for (batch, taken), receipts in zip(group, self.intake.receipts([t for _, t in group]), strict=True):
            entries = tuple(journal.entry_bytes(index) for index in taken.entries)
            self.replies.append(_Answer(batch, taken, tuple(receipts), entries))

    def snapshot(self) -> None:
        """What the intake knows is kept; what waits becomes final with it."""
        if self.intake is None:
            return
        try:
            self.intake.snapshot()
        except RefusedBatchError:
            self.tally.disk_refusals += 1
            self._close()
            return
        self.tally.snapshots += 1

    def start(self) -> None:
        """The intake is opened, if it is not; what it has folded since a snapshot is what the whole record folds to."""
        if self.intake is not None:
            return
        try:
            self.intake = Intake.open(
                self.keys.path,
                _LIMITS,
                self._clock,
                storage=self.disk,
                databases=self.databases,
                accept_clock="operator",
            )
        except (JournalError, VaultError) as error:
            if "corruption" in str(error):
                raise ContradictionError(f"a crash looks like corruption: {error}") from None
            self.tally.disk_refusals += 1
            return
        if self.intake.notices:
            raise ContradictionError(f"a crash looks like damage: {self.intake.notices[0]}")
        self.tally.from_snapshots += self.intake.folded_from > 0

    def _clock(self, newest: int) -> RecordClock:
        return RecordClock(wall=lambda: self.true_s + self.wrong_s, elapsed=lambda: self.true_s, not_before=newest)

    def _close(self) -> None:
        self.taken = []
        if self.intake is not None:
            self.intake.close()
            self.intake = None

    # Fate

    def kill(self) -> None:
        """The intake's process dies."""
        self._close()
        self.disk.kill_process()
        self.tally.kills += 1

    def lose_power(self) -> None:
        """The machine stops."""
        self._close()
        self.disk.faults.power_in = None
        self.disk.lose_power()
        self.tally.power_losses += 1

    def jump(self) -> None:
        """The wall clock is set, back or ahead, or right again."""
        self.wrong_s = self.random.choice((0.0, 0.0, -7200.0, -30.0, 30.0, 7200.0))
        self.tally.clock_jumps += 1

    def fail(self) -> None:
        """The disk begins to fail, or recovers; or power will go within the next operations."""
        self.disk.faults = Faults.drawn(self.random, well_p=0.6, often_p=0.3)

    def take_meanwhile(self) -> None:
        """During a commit's sync another request may come in."""
        if self.committing and self.random.random() < 0.3:
            self.take()

    def judge(self) -> None:
        """Power goes once more, the disk is whole again, and the record is held against all that was promised."""
        self.lose_power()
        self.disk.faults, self.disk.meanwhile = Faults(), lambda: None
        self.start()
        assert self.intake is not None
        if self.intake.folded_from:
            size = len(self.intake.journal)
            whole = Known.whole(self.intake.journal, self.intake.vault, size)
            parts = [{k: part_bytes(v) for k, v in known.parts().items()} for known in (whole, self.intake.known)]
            if parts[0] != parts[1]:
                raise ContradictionError("what the intake knows from a snapshot is not what the record says")
        self._close()
        problems = check(self.keys.path, storage=self.disk)
        if problems:
            raise ContradictionError(f"after recovery: {problems[0]}")
        with (
            Journal.open(self.keys.path, storage=self.disk) as journal,
            Vault.open(self.keys.path / "vault", databases=self.databases) as vault,
        ):
            for answer in self.acknowledged.values():
                for index, entry in zip(answer.taken.entries, answer.entries, strict=True):
                    if index >= len(journal) or journal.entry_bytes(index) != entry:
                        raise ContradictionError(f"entry {index} is not the one that was acknowledged")
            judge(journal, vault, {key: (a.batch, a.taken.entries) for key, a in self.acknowledged.items()})


def shard_for_worlds(folder: Path) -> ShardKeys:
    """The shard that every world begins with."""
    return build_shard(folder, FEEDERS, SEED, first_interval=_FIRST)


def simulate_intake(keys: ShardKeys, seed: int, steps: int = 120) -> IntakeTally:
    """Play one world to its end.

    Raises
    ------
    ContradictionError : a promise was broken; the message names the seed.
    """
    chance = random.Random(seed)  # noqa: S311 (a simulation is to be repeated, not to surprise)
    disk = SimulatedDisk(chance)
    disk.copy_in(keys.path)
    world = _World(keys, chance, disk, StoredDatabases(disk), Traffic(keys, chance))
    disk.meanwhile = world.take_meanwhile
    doings: list[tuple[Callable[[], None], float]] = [
        (world.send, 7),
        (world.take, 9),
        (world.commit, 4),
        (world.receive, 6),
        (world.start, 2),
        (world.fail, 0.5),
        (world.kill, 0.3),
        (world.lose_power, 0.2),
        (world.jump, 0.4),
        (world.snapshot, 0.6),
    ]
    acts, weights = zip(*doings, strict=True)
    try:
        for act in [world.start, *chance.choices(acts, weights, k=steps)]:
            world.true_s += chance.randint(0, 30)
            try:
                act()
            except PowerLossError:
                world.lose_power()
        world.judge()
    except (ContradictionError, TellegenError) as error:
        raise ContradictionError(f"seed {seed}: {error}") from error
    finally:
        world._close()
    return world.tally
