"""Group commit: who waits is told, and what was told stays true."""

from __future__ import annotations

import asyncio
import errno
import gc
import shutil
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

pytest.importorskip("msgspec")

from tellegen.intake.intake import Intake
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.registry_changes import SentChanges
from tellegen.intake.sent import Sent, SentBids, SentReadings
from tellegen.journal import Checkpoint, Journal, JournalError
from tellegen.metering import DeviceCodes
from tellegen.privacy.snapshots import SnapshotFolder
from tellegen.records import Route, Statement
from tellegen.service import group_commit
from tellegen.service.bodies import NDJSON, decode
from tellegen.service.counters import Counters
from tellegen.service.group_commit import Final, GroupCommit
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import HEAD_END, ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify.receipts import check_receipt

CUSTOMERS = np.arange(1, 6, dtype=np.int32)
T = TypeVar("T")
FEW = IntakeLimits(pending_batches_max=20)
SLOW = IntakeLimits(rows_per_s_max=60, pending_batches_max=100)
"""A batch of a thousand lines is more than a source may send in a quarter of a minute."""
FAST = IntakeLimits(rows_per_s_max=10**9)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    first = int(time.time()) // MARKET_INTERVAL_S - 10
    return build_shard(tmp_path_factory.mktemp("group") / "s", {"F": CUSTOMERS}, b"group", first_interval=first)


@pytest.fixture
def keys(shard: ShardKeys, tmp_path: Path) -> ShardKeys:
    return replace(shard, path=Path(shutil.copytree(shard.path, tmp_path / "s")))


def batch(keys: ShardKeys, number: int) -> SignedBatch:
    codes = DeviceCodes(keys.meter_master, keys.meters_of(CUSTOMERS))
    interval = int(time.time()) // MARKET_INTERVAL_S - 1
    return readings_batch(keys, readings_of(keys, codes, CUSTOMERS, interval, number), "F", interval, number)


def run(
    keys: ShardKeys,
    work: Callable[[GroupCommit], Awaitable[T]],
    counters: Counters | None = None,
    limits: IntakeLimits = FEW,
) -> T:
    async def go() -> T:
        group = GroupCommit(lambda: Intake.open(keys.path, limits), limits, counters or Counters())
        await group.start()
        try:
            return await work(group)
        finally:
            await group.stop()

    return asyncio.run(go())


async def send(group: GroupCommit, batch: SignedBatch) -> Final:
    read = SentReadings if batch.statement.route is Route.READINGS else SentBids
    return await group.submit(batch.statement, batch.signature, lambda: read.from_bytes(batch.body), len(batch.body))


def bids(keys: ShardKeys, number: int) -> SignedBatch:
    """Of another source."""
    interval = int(time.time()) // MARKET_INTERVAL_S + 2
    return bids_batch(keys, *bids_of(keys, CUSTOMERS, "F", "real_time", interval), "F", "real_time", interval, number)


async def refusal(group: GroupCommit, statement: Statement, signature: bytes, body: bytes) -> RefusedBatchError:
    read = partial(decode, Route.READINGS, NDJSON, body, 10_000)
    with pytest.raises(RefusedBatchError) as refused:
        await group.submit(statement, signature, read, len(body))
    return refused.value


def unreadable(keys: ShardKeys, number: int) -> tuple[Statement, bytes, bytes]:
    """A batch of a thousand lines, none of which can be read."""
    body = b"x\n" * 1_000
    interval = int(time.time()) // MARKET_INTERVAL_S - 1
    statement = Statement.of(keys.origin, Route.READINGS, HEAD_END, "F", "", interval, number, body)
    return statement, keys.sign_as(HEAD_END, statement.to_bytes()), body


def test_nobody_waits_for_what_another_source_has_piled_up(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "cost_of_rows", lambda _: 10_000)

    async def work(group: GroupCommit) -> list[Final]:
        begin = threading.Event()
        group._taker.submit(begin.wait)  # until everything has arrived
        costly = [send(group, batch(keys, number)) for number in range(1, 13)]
        every = asyncio.gather(*costly, send(group, bids(keys, 1)))
        await asyncio.sleep(0)
        begin.set()
        return await every

    *piled_up, other = run(keys, work, limits=FAST)
    assert other.taken.entries[0] < piled_up[2].taken.entries[0]
    assert [final.taken.accepted for final in piled_up] == [5] * 12


@pytest.mark.parametrize("kind", ["unreadable", "again"])
def test_what_is_refused_and_what_is_sent_again_is_charged_too(keys: ShardKeys, kind: str) -> None:
    """And to nobody else: the other source is served at once."""

    async def work(group: GroupCommit) -> RefusedBatchError:
        good = batch(keys, 1)
        if kind == "unreadable":
            first = await refusal(group, *unreadable(keys, 1))
            assert (first.reason, len(first.rows)) == (Reason.NO_GOOD_ROW, 1_000)
        else:
            await send(group, good)
            for _ in range(2):
                assert (await send(group, good)).taken.again  # they wait for it, and it is charged
        with pytest.raises(RefusedBatchError) as refused:
            await asyncio.gather(*(send(group, good) for _ in range(5)))
        assert (await send(group, bids(keys, 1))).taken.accepted == 5
        return refused.value

    error = run(keys, work, limits=SLOW)
    assert (error.reason, error.too_much_of) == (Reason.RATE, HEAD_END)
    assert error.retry_after_s is not None
    assert error.retry_after_s > 2


def test_who_only_uses_the_name_of_a_source_costs_it_nothing(keys: ShardKeys) -> None:
    async def work(group: GroupCommit) -> Final:
        statement, _, body = unreadable(keys, 1)
        for _ in range(50):
            assert (await refusal(group, statement, bytes(64), body)).reason is Reason.BAD_SIGNATURE
        return await send(group, batch(keys, 2))

    assert run(keys, work, limits=SLOW).taken.accepted == 5


def test_a_body_is_not_in_memory_any_more_once_it_is_refused(keys: ShardKeys) -> None:
    """Who is too fast waits for the answer, without its body."""

    class Reading:
        """A body, and what reads it."""

        def __init__(self, body: bytes) -> None:
            self.body = body

        def __call__(self) -> Sent | SentChanges:
            return decode(Route.READINGS, NDJSON, self.body, 10_000)

    async def work(group: GroupCommit) -> list[Reason]:
        read: list[weakref.ref[Reading]] = []

        async def submit(statement: Statement, signature: bytes, body: bytes) -> Reason:
            reading = Reading(body)
            read.append(weakref.ref(reading))
            try:
                await group.submit(statement, signature, reading, len(body))
            except RefusedBatchError as error:
                return error.reason
            raise AssertionError("it can be read")

        reasons = [await submit(*unreadable(keys, number)) for number in (1, 2)]
        await group.ask(lambda _: None)  # until the thread that takes has let go of it, too
        assert [each() for each in read] == [None, None]
        return reasons

    gc.disable()
    try:
        assert run(keys, work, limits=SLOW) == [Reason.NO_GOOD_ROW, Reason.RATE]
    finally:
        gc.enable()


def test_what_arrives_during_a_commit_is_final_with_the_next(keys: ShardKeys) -> None:
    counters = Counters()
    batches = [batch(keys, number) for number in range(1, 16)]

    async def work(group: GroupCommit) -> list[Final]:
        return await asyncio.gather(*(send(group, each) for each in batches))

    finals = run(keys, work, counters)
    assert 1 <= counters.commits <= len(batches)
    with Journal.open(keys.path) as journal:
        for final in finals:
            (entry,) = final.taken.entries
            assert check_receipt(final.receipts[0], journal.entry(entry).to_bytes(), keys.vkey).index == entry


def test_the_time_of_a_quiet_intake_becomes_final_by_itself(keys: ShardKeys) -> None:
    async def work(group: GroupCommit) -> None:
        await group.tick()  # the shard was set up long ago
        await group.tick()  # and that was now

    run(keys, work)
    with Journal.open(keys.path) as journal:
        (entry,) = journal.find(kind="ticks")
        assert journal.checkpoint.size == entry + 1


def test_what_an_intake_knows_is_kept_when_that_is_due(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(group: GroupCommit) -> Intake:
        await group.tick()  # the shard was set up less than an hour ago
        assert group.intake is not None
        assert not (keys.path / "state").exists()
        monkeypatch.setattr(group.intake, "_kept_at", group.intake._kept_at - 3600)
        await group.tick()
        await group.tick()  # and that was now
        return group.intake

    run(keys, work)
    with Journal.open(keys.path) as journal:
        (entry,) = journal.find(kind="snapshots")
        assert journal.checkpoint.size > entry
    assert Intake.open(keys.path).folded_from == entry


def test_an_intake_goes_on_without_a_snapshot_for_which_there_is_no_room(
    keys: ShardKeys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async def work(group: GroupCommit) -> Final:
        before = group.intake
        assert before is not None
        monkeypatch.setattr(before, "_kept_at", before._kept_at - 3600)
        monkeypatch.setattr(SnapshotFolder, "write", refuse)
        await group.tick()
        await group.tick()  # tried again when it is next due, not every second
        final = await send(group, batch(keys, 1))
        assert group.intake is before
        return final

    assert run(keys, work).taken.accepted == len(CUSTOMERS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_whoever_leaves_does_not_stop_the_others(keys: ShardKeys) -> None:
    async def work(group: GroupCommit) -> Final:
        gone = asyncio.create_task(send(group, batch(keys, 1)))
        while not group._waiting and not gone.done():
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        return await asyncio.wait_for(send(group, batch(keys, 2)), 20)

    assert run(keys, work).taken.accepted == len(CUSTOMERS)


def test_too_many_that_wait_are_sent_away(keys: ShardKeys) -> None:
    async def work(group: GroupCommit) -> list[Final | BaseException]:
        every = [batch(keys, number) for number in range(1, 26)]
        return await asyncio.gather(*(send(group, each) for each in every), return_exceptions=True)

    outcomes = run(keys, work)
    busy = [each for each in outcomes if isinstance(each, RefusedBatchError)]
    assert (len(outcomes), len(busy)) == (25, 5)
    assert {(each.reason, each.retry_after_s) for each in busy} == {(Reason.BUSY, 1)}


@pytest.mark.parametrize(("cause", "reason"), [(errno.ENOSPC, Reason.DISK_FULL), (errno.EIO, Reason.UNAVAILABLE)])
def test_a_disk_that_refuses_is_told_to_all_and_opened_again(
    keys: ShardKeys, monkeypatch: pytest.MonkeyPatch, cause: int, reason: Reason
) -> None:
    commit, refusing = Journal.commit, [True]

    def refuse(journal: Journal, known_at: int) -> Checkpoint:
        if refusing and refusing.pop():
            journal.close()
            raise JournalError("the disk refused") from OSError(cause, "no")
        return commit(journal, known_at)

    async def work(group: GroupCommit) -> tuple[list[Final | BaseException], list[Final]]:
        await send(group, batch(keys, 1))
        monkeypatch.setattr(Journal, "commit", refuse)
        tries = [send(group, batch(keys, number)) for number in (2, 3)]
        told = await asyncio.gather(*tries, return_exceptions=True)
        return told, [await send(group, batch(keys, number)) for number in (1, 2, 3, 4)]

    monkeypatch.setattr(group_commit, "REOPEN_AFTER_S", 0.0)
    told, after = run(keys, work)
    assert {each.reason for each in told if isinstance(each, RefusedBatchError)} <= {reason, Reason.UNAVAILABLE}
    assert any(isinstance(each, RefusedBatchError) and each.reason is reason for each in told)
    assert [final.taken.accepted for final in after] == [5, 5, 5, 5]
    assert after[0].taken.again
    with Journal.open(keys.path) as journal:
        found = [journal.entry(i).name for i in journal.find(kind="readings")]
    assert found == [f"readings/{number}" for number in (1, 2, 3, 4)]


def test_a_fault_of_the_program_leaves_nobody_waiting(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = Intake.receipts

    async def work(group: GroupCommit) -> Final:
        monkeypatch.setattr(Intake, "receipts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await send(group, batch(keys, 1))
        monkeypatch.setattr(Intake, "receipts", receipts)
        return await send(group, batch(keys, 1))

    monkeypatch.setattr(group_commit, "REOPEN_AFTER_S", 0.0)
    assert run(keys, work).taken.again  # it was on record, only the answer was missing
