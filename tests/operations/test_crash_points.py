"""Stopped before and after every write of every verb, a market goes on to what the undisturbed one came to.

Two short days of a hamlet are played once. Each kind of verb is then stopped at each of its writes, on a disk as it was
before: the market is opened again and the verb asked for again, under the same time. All that follows is a function of
the records, so equal records, books and state after the verb are equal ends; some worlds are played to the end besides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

import pytest

from tellegen.assess.faults.database import StoredDatabases
from tellegen.assess.faults.disk import PowerLossError, SimulatedDisk
from tellegen.assess.faults.folded import Part, differing, folded_from_zero, parts_of
from tellegen.assess.faults.hamlet import Hamlet, found
from tellegen.assess.faults.hamlet_play import END, SHORT_DAY, Play, give_prices, short_day
from tellegen.assess.faults.outcome import Outcome
from tellegen.journal import Journal, JournalError
from tellegen.operations.gating import GateClosed
from tellegen.operations.market import Market
from tellegen.operations.timetable import Due
from tellegen.privacy import Vault
from tellegen.records import ClearingStatus, CloseKind, Closes, Edits, Statements
from tellegen.registry.shard import SIGNING_PURPOSE
from tellegen.rules import Rulebook

OPENING = 4
"""Writes of opening a market itself, at least so many of which are stopped too."""
TORN = random.Random


@dataclass(frozen=True)
class Stands:
    """All that a market came to: entries of its journal, balances, and what it knows."""

    entries: list[bytes]
    payloads: list[str]
    balances: dict[tuple[int, int], int]
    parts: dict[str, Part]

    @classmethod
    def of(cls, market: Market) -> Stands:
        journal = market.record.journal
        entries = [journal.entry_bytes(i) for i in range(len(journal))]
        payloads = [journal.entry(i).payload_sha256 for i in range(len(journal))]
        return cls(entries, payloads, market.ledger.balances_by_line(), parts_of(market.state))

    def check(self, market: Market) -> None:
        now = Stands.of(market)
        assert now.entries == self.entries
        assert now.balances == self.balances
        assert differing(now.parts, self.parts) == []


@dataclass(frozen=True)
class Step:
    """A verb that was asked for: the disk before, and what stood behind it."""

    verb: str
    arguments: tuple[Any, ...]
    disk: SimulatedDisk
    writes: int
    after: Stands
    result: object

    def ask(self, market: Market) -> None:
        asked(market, self.verb, self.arguments)


def asked(market: Market, verb: str, arguments: tuple[Any, ...]) -> object:
    """Ask for a verb; a day-ahead gate is cleared at once, as where nothing else is due."""
    result = getattr(market, verb)(*arguments)
    while verb == "close_gate" and market.clearing is not None:
        result = market.work(arguments[-1], 1.0) or result
    return result


@dataclass
class Watched:
    """A market that is looked at before and behind each verb, where it is of a kind that was not seen before."""

    market: Market
    disk: SimulatedDisk
    steps: dict[str, Step] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    folded: int = 0
    hour: Outcome | None = None

    @property
    def book(self) -> Rulebook:
        return self.market.book

    @property
    def first_day(self) -> date | None:
        return self.market.first_day

    @property
    def done_until(self) -> int:
        return self.market.done_until

    @property
    def clearing(self) -> int | None:
        return self.market.clearing

    def is_done(self, what: Due) -> bool:
        return self.market.is_done(what)

    def is_ready(self, what: Due) -> bool:
        return self.market.is_ready(what)

    def __getattr__(self, verb: str) -> Any:
        if verb == "work":
            return self.market.work
        return partial(self._do, verb)

    def _do(self, verb: str, *arguments: Any) -> object:
        night = self.seen.get("close_gate administrative", 0) > 20  # of the second day only the end is looked at
        quick = night and arguments[-1] < (END - 60)
        if not self.folded % 10:
            self.disk.write_back()
        before = None if quick else self.disk.copy(TORN(1))
        operations = self.disk.operations
        result = asked(self.market, verb, arguments)
        kind = f"{verb} {_kind(result, arguments)}".strip()
        self.seen[kind] = self.seen.get(kind, 0) + 1
        writes = self.disk.operations - operations
        if before is not None and writes:
            # of like ones the third: it has something to start from
            if kind not in self.steps or self.seen[kind] == 3:
                self.steps[kind] = Step(verb, arguments, before, writes, Stands.of(self.market), result)
            assert differing(parts_of(self.market.state), parts_of(folded_from_zero(self.market.record))) == []
            self.folded += 1
        if kind == "correct edits":  # the second is the one about the day that is closed
            self.hour = Outcome.of(self.market.record)
        return result


def _kind(result: object, arguments: tuple[Any, ...]) -> str:
    """What makes one call of a verb unlike another."""
    if isinstance(result, GateClosed):
        cleared = "administrative" if (result.status == ClearingStatus.ADMINISTRATIVE).all() else "cleared"
        return "day ahead" if arguments[0] == "day_ahead" else cleared
    edits, shared = getattr(result, "edits", 0), getattr(result, "days_shared", 0)
    return " ".join(word for word, says in (("edits", edits), ("shares", shared)) if says)


@dataclass(frozen=True)
class Played:
    hamlet: Hamlet
    watched: Watched
    start: SimulatedDisk

    def open_intake(self, disk: SimulatedDisk) -> None:
        """The intake starts, and ends again: what its journal has is there for readers once more."""
        databases = StoredDatabases(disk)
        with Vault.open(self.hamlet.keys.path / "vault", databases=databases) as vault:
            key = vault.purpose_key(SIGNING_PURPOSE)
        Journal.open(self.hamlet.keys.path, key, storage=disk).close()

    @contextmanager
    def open(self, disk: SimulatedDisk) -> Iterator[Market]:
        with Market.open(self.hamlet.keys.path, storage=disk, databases=StoredDatabases(disk)) as market:
            yield market


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The undisturbed days."""
    hamlet = found(tmp_path_factory.mktemp("hamlet") / "shard", SHORT_DAY)
    disk = SimulatedDisk(TORN(0))
    disk.copy_in(hamlet.keys.path)
    start = disk.copy(TORN(0))
    databases = StoredDatabases(disk)
    play = Play(hamlet, disk, databases)
    short_day(play)
    with Market.open(hamlet.keys.path, storage=disk, databases=databases) as market:
        watched = Watched(market, disk)
        give_prices(watched, play.clock.now())
        play.operate(watched, END)
        yield Played(hamlet, watched, start)
    play.close()


KINDS = (
    "take_prices",
    "open_day",
    "close_gate day ahead",
    "close_gate cleared",
    "close_gate administrative",
    "settle",
    "correct edits",
    "close_day",
    "snapshot",
    "correct shares",
    "finalise",
)


def test_the_days_hold_what_they_are_to_hold(played: Played) -> None:
    """Every kind of verb, edits of an open and of a closed day, pools shared anew, a day that is final."""
    assert set(KINDS) <= set(played.watched.steps)
    assert sum(played.watched.steps[kind].writes for kind in KINDS) > 200
    record = played.watched.market.record
    assert len(list(record.journal.find(kind=Edits.kind))) >= 2
    kinds = [int(record.table(i, Closes).close_kind[0]) for i in record.journal.find(kind=Closes.kind)]
    assert {*kinds} == {*CloseKind}
    assert sum(record.table(i, Statements).cents.sum() for i in record.journal.find(kind=Statements.kind)) > 0
    assert played.watched.market.ledger.trial_balance() == 0


def test_after_each_verb_the_fold_of_the_records_is_the_state(played: Played) -> None:
    """`Watched` has compared them, part by part."""
    assert played.watched.folded > 40


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_any_write_it_goes_on_to_the_same(played: Played, kind: str) -> None:
    """Behind the last write of a verb comes the first of the next: before each is before and after each."""
    step, reached = played.watched.steps[kind], 0
    stops = range(0, step.writes + OPENING, 1 + step.writes // 70)  # a snapshot's parts are one like the other
    for stop in stops:
        disk = step.disk.copy(TORN(stop))
        disk.faults.power_in = stop
        try:
            with played.open(disk) as market:
                step.ask(market)
        except PowerLossError:
            reached += 1
        disk.faults.power_in = None
        # what was written stays where a process is killed; without power only what was made durable, and chance
        if stop % 3:
            disk.kill_process()
        else:
            disk.lose_power()
            played.open_intake(disk)
        with played.open(disk) as market:
            step.ask(market)
            step.after.check(market)
    assert reached >= len(stops) - OPENING


def test_without_its_intake_a_market_does_not_fold_less_than_it_has_used(played: Played) -> None:
    """After a loss of power readers may see an older end of the intake's journal, until its writer brings it back."""
    step = played.watched.steps["settle"]
    disk = step.disk.copy(TORN(3))
    folder = played.hamlet.keys.path / "journal"
    first = played.start.bytes_of(folder / "checkpoint")
    file = disk.open(folder / "checkpoint", write=True)
    file.truncate(0)
    file.write(0, first)
    with pytest.raises(JournalError, match="open the intake first"), played.open(disk):
        pass
    played.open_intake(disk)
    with played.open(disk) as market:
        step.ask(market)
        step.after.check(market)


@pytest.mark.parametrize("seed", [1, 2])
def test_stopped_again_and_again_it_ends_in_the_same_books_statements_and_prices(played: Played, seed: int) -> None:
    """The whole hour from its start, everything killed again and again; the clock stands meanwhile."""
    chance = TORN(seed)
    disk = played.start.copy(chance)
    databases = StoredDatabases(disk)
    play = Play(played.hamlet, disk, databases)
    short_day(play)
    kills = 0
    disk.faults.power_in = 20
    until = play.hamlet.plan.first * 300 + 7_270
    while True:
        try:
            with played.open(disk) as market:
                give_prices(market, play.clock.now())
                play.operate(market, until)
                break
        except PowerLossError:
            kills += 1
            play.close()
            disk.kill_process()
            disk.write_back()
            disk.faults.power_in = chance.randint(20, 400)  # a snapshot takes some 200
    disk.faults.power_in = None
    with played.open(disk) as market:
        record = market.record
        assert market.ledger.trial_balance() == 0
        assert Outcome.of(record).difference(played.watched.hour) == ""  # type: ignore[arg-type]
        assert differing(parts_of(market.state), parts_of(folded_from_zero(record))) == []
    play.close()
    assert kills > 3
