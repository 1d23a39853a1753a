"""A journal with its senders, its reader, and everything that may go wrong, in one thread and from one seed.

Senders hand batches to a writer over a network that loses, repeats and reorders requests and replies; they send again
until they hold a receipt. The writer's disk tears writes, fills up, refuses syncs and loses power; its process is
killed; its clock jumps. A reader follows. Held to throughout, and once more at the end:

- every receipt ever handed out verifies, and its signed head is a prefix of the final log: none is contradicted
- what was acknowledged is on record, with its payload; so is what a reader saw
- the same submission is one record at one index, however often it was sent
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

from tellegen.assess.faults.batches import batch_of
from tellegen.assess.faults.disk import Faults, PowerLossError, SimulatedDisk
from tellegen.assess.faults.promises import ContradictionError
from tellegen.errors import InputError, TellegenError
from tellegen.journal import Journal, JournalError, check, verify_consistency
from tellegen.verify import check_receipt

RUN = Path("/shard")
ORIGIN = "faults.example/shard"
KEY = bytes(range(32))
SEGMENT_BYTES_MAX = 2000  # small, so that files follow files
STRETCH_HEIGHT = 2  # stretches of the index, likewise
Submission = tuple[str, int]


@dataclass(slots=True)
class Tally:
    """What happened in a simulation, counted."""

    receipts: int = 0
    commits: int = 0
    power_losses: int = 0
    kills: int = 0
    refusals: int = 0
    repeated: int = 0
    clock_jumps: int = 0
    batches: int = 0

    def add(self, other: Tally) -> None:
        """Count another simulation in."""
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))


@dataclass(slots=True)
class _Acknowledged:
    index: int
    entry: bytes
    receipt: str


@dataclass(slots=True)
class _World:
    random: random.Random
    disk: SimulatedDisk
    tally: Tally = field(default_factory=Tally)
    clock: int = 1_000_000
    writer: Journal | None = None
    reader: Journal | None = None
    committing: bool = False
    unanswered: list[Submission] = field(default_factory=list)  # handed in, waiting for a commit
    requests: list[Submission] = field(default_factory=list)  # on the network
    replies: list[tuple[Submission, _Acknowledged]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[Submission, _Acknowledged] = field(default_factory=dict)
    seen: dict[int, bytes] = field(default_factory=dict)  # entries that a reader saw
    signed: dict[int, bytes] = field(default_factory=dict)  # root of every size that anybody saw

    # Sender

    def send(self) -> None:
        """A new batch, or one again that is not acknowledged yet; sometimes one that is."""
        source = self.random.choice(("head-end 1", "head-end 2", "gateway"))
        last = self.sent.get(source, -1)
        if last < 0 or self.random.random() < 0.6:
            last = self.sent[source] = last + 1
            self.tally.batches += 1
            sequence = last
        else:
            sequence = self.random.randint(max(0, last - 4), last)
            self.tally.repeated += 1
        self.requests += [(source, sequence)] * self.random.choice((0, 1, 1, 1, 2))

    def receive(self) -> None:
        """One reply, whichever the network brings first; it may be brought again, or lost."""
        if not self.replies:
            return
        submission, reply = self.replies[at := self.random.randrange(len(self.replies))]
        if self.random.random() < 0.8:
            del self.replies[at]
        if self.random.random() < 0.2:
            return
        known = self.acknowledged.setdefault(submission, reply)
        if (known.index, known.entry) != (reply.index, reply.entry):
            raise ContradictionError(f"{submission} is entry {known.index} and entry {reply.index}")
        proven = check_receipt(reply.receipt, reply.entry, self._vkey())
        if proven.index != reply.index:
            raise ContradictionError(f"the receipt of entry {reply.index} proves entry {proven.index}")
        self.tally.receipts += 1

    def _vkey(self) -> str:
        return self.disk.bytes_of(RUN / "journal" / "operator.pub").decode().removesuffix("\n")

    # Writer

    def take(self) -> None:
        """The writer takes a request in, as an intake does: what is on record is answered from the record."""
        if self.writer is None or not self.requests:
            return
        source, sequence = submission = self.requests[at := self.random.randrange(len(self.requests))]
        if self.random.random() < 0.9:
            del self.requests[at]
        if not self.writer.submission(source, f"readings/{sequence}"):
            self.writer.append(batch_of(source, sequence, self.writer.time(self.clock)))
        self.unanswered.append(submission)

    def commit(self) -> None:
        """A commit, during which more is taken in; then the answers."""
        if self.writer is None:
            return
        self.committing = True
        try:
            head = self.writer.commit(self.writer.time(self.clock))
        except JournalError:
            self.tally.refusals += 1
            self.writer, self.unanswered = None, []
            return
        finally:
            self.committing = False
        self.tally.commits += 1
        self._signed(head.size, head.root)
        waiting, self.unanswered = self.unanswered, []
        for source, sequence in waiting:
            indices = self.writer.submission(source, f"readings/{sequence}")
            if len(indices) != 1:
                raise ContradictionError(f"{source} readings/{sequence} is on record {len(indices)} times")
            if indices[0] >= head.size:
                self.unanswered.append((source, sequence))
                continue
            entry = self.writer.entry_bytes(indices[0])
            reply = _Acknowledged(indices[0], entry, self.writer.receipt(indices[0]))
            self.replies.append(((source, sequence), reply))

    def _signed(self, size: int, root: bytes) -> None:
        if self.signed.setdefault(size, root) != root:
            raise ContradictionError(f"size {size} was signed with two roots")

    def start(self) -> None:
        """The writer starts; where it was cut short while it made the journal, it begins again."""
        if self.writer is not None:
            return
        try:
            self.writer = Journal.open(
                RUN, KEY, segment_bytes_max=SEGMENT_BYTES_MAX, stretch_height=STRETCH_HEIGHT, storage=self.disk
            )
        except InputError:
            if self.signed:
                raise ContradictionError("the journal is gone") from None
            self.disk.clear()
            try:
                self.writer = Journal.create(
                    RUN,
                    ORIGIN,
                    KEY,
                    segment_bytes_max=SEGMENT_BYTES_MAX,
                    stretch_height=STRETCH_HEIGHT,
                    storage=self.disk,
                )
            except JournalError:
                self.tally.refusals += 1
        except JournalError as error:
            if "corruption" in str(error):
                raise ContradictionError(f"a crash looks like corruption: {error}") from None
            self.tally.refusals += 1

    # Reader

    def follow(self) -> None:
        """The reader looks at what is new."""
        try:
            if self.reader is None:
                self.reader = Journal.open(RUN, stretch_height=STRETCH_HEIGHT, storage=self.disk)
            self.reader.refresh()
        except (InputError, JournalError) as error:
            if "corruption" in str(error) and self.signed:
                raise ContradictionError(f"a reader met what looks like corruption: {error}") from None
            self.reader = None
            return
        self._signed(self.reader.checkpoint.size, self.reader.checkpoint.root)
        for index in range(len(self.seen), len(self.reader)):
            self.seen[index] = self.reader.entry_bytes(index)

    # Fate

    def kill(self) -> None:
        """The writer's process dies."""
        self.writer, self.unanswered = None, []
        self.disk.kill_process()
        self.tally.kills += 1

    def lose_power(self) -> None:
        """The machine stops, the reader with it."""
        self.writer = self.reader = None
        self.unanswered = []
        self.disk.faults.power_in = None
        self.disk.lose_power()
        self.tally.power_losses += 1

    def jump(self) -> None:
        """The clock is set, back or ahead."""
        self.clock += self.random.choice((-86_400, -3_600, -1, 3_600))
        self.tally.clock_jumps += 1

    def fail(self) -> None:
        """The disk begins to fail, or recovers; or power will go within the next operations."""
        self.disk.faults = Faults.drawn(self.random, well_p=0.5, often_p=0.5)

    def take_meanwhile(self) -> None:
        """During a commit's sync another request may come in, or the reader look."""
        if self.committing and self.random.random() < 0.2:
            self.take()
        elif self.committing and self.random.random() < 0.1:
            self.follow()

    # The end

    def judge(self) -> None:
        """Power goes once more, the disk is whole again, and the record is held against all that was promised."""
        self.lose_power()
        self.disk.faults, self.disk.meanwhile = Faults(), lambda: None
        self.start()
        assert self.writer is not None
        self.writer.close()
        problems = check(RUN, storage=self.disk)
        if problems:
            raise ContradictionError(f"after recovery: {problems[0]}")
        with Journal.open(RUN, stretch_height=STRETCH_HEIGHT, storage=self.disk) as journal:
            for size, root in self.signed.items():
                proof = journal.tree.consistency_proof(size) if size <= len(journal) else []
                if not verify_consistency(size, len(journal), root, journal.checkpoint.root, proof):
                    raise ContradictionError(f"the log does not extend the one that was signed at size {size}")
            for index, entry in self.seen.items():
                if journal.entry_bytes(index) != entry:
                    raise ContradictionError(f"entry {index} is not the one that a reader saw")
            for (source, sequence), reply in self.acknowledged.items():
                if journal.submission(source, f"readings/{sequence}") != [reply.index]:
                    raise ContradictionError(f"{source} readings/{sequence} was acknowledged and is not on record")
                if journal.entry_bytes(reply.index) != reply.entry:
                    raise ContradictionError(f"entry {reply.index} is not the one that was acknowledged")
                if journal.payload(reply.index) != batch_of(source, sequence, 0).payload:
                    raise ContradictionError(f"payload {reply.index} is not the one that was acknowledged")


def simulate(seed: int, steps: int = 150) -> Tally:
    """Play one world to its end.

    Raises
    ------
    ContradictionError : a promise was broken.
    """
    chance = random.Random(seed)  # noqa: S311 (a simulation is to be repeated, not to surprise)
    world = _World(chance, SimulatedDisk(chance))
    world.disk.meanwhile = world.take_meanwhile
    doings: list[tuple[Callable[[], None], float]] = [
        (world.send, 6),
        (world.take, 8),
        (world.commit, 4),
        (world.receive, 6),
        (world.start, 2),
        (world.follow, 1),
        (world.fail, 0.6),
        (world.kill, 0.3),
        (world.lose_power, 0.3),
        (world.jump, 0.4),
    ]
    acts, weights = zip(*doings, strict=True)
    try:
        for act in chance.choices(acts, weights, k=steps):
            world.clock += chance.randint(0, 3)
            try:
                act()
            except PowerLossError:
                world.lose_power()
        world.judge()
    except (ContradictionError, TellegenError) as error:
        raise ContradictionError(f"seed {seed}: {error}") from error
    return world.tally
