"""Group commit: many requests, one intake, one commit at a time.

Two threads beside the event loop: one takes batches, one commits. Whatever was taken while a commit ran becomes final
with the next, so the number of commits follows the disk and not the load.

The thread that takes first finds out who has signed a batch: only then does it count as that source's. It is charged by
its bytes (`intake.rate`), waits in its source's own queue, and the sources are served in turn (`intake.fair_queue`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tellegen.errors import TellegenError
from tellegen.intake.fair_queue import FairQueue
from tellegen.intake.intake import Intake, Taken
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.rate import ASK_COST, cost_of_bytes, cost_of_rows
from tellegen.intake.registry_changes import SentChanges
from tellegen.intake.sent import Sent
from tellegen.records import Route, Statement
from tellegen.service.counters import Counters
from tellegen.service.sources import Sources

_log = logging.getLogger(__name__)
REOPEN_AFTER_S = 1.0
_DRAIN_S = 0.01
_SLICE_S = 0.02
"""After which batches make room for the clock and for questions."""
_CHECKS_MAX = 64
"""Signatures checked between two batches."""
T = TypeVar("T")
Decode = Callable[[], Sent | SentChanges]
"""Reads a body."""
_BROKEN = (Reason.DISK_FULL, Reason.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Final:
    """A batch on record, with a receipt for each of its entries."""

    taken: Taken
    receipts: list[str]


@dataclass(slots=True, eq=False)
class _Arrived:
    """A batch that nobody has looked at yet, and who waits for it.

    key : of its source, once the signature is checked. cost : what the source was charged.
    """

    statement: Statement
    signature: bytes
    decode: Decode
    size: int
    done: asyncio.Future[Final]
    key: bytes = b""
    cost: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that was taken by an intake, and who waits for its commit."""

    intake: Intake
    taken: Taken
    done: asyncio.Future[Final]


class GroupCommit:
    """The intake of a shard for many callers on one event loop.

    Where the disk refuses, everybody who waits is told so and the intake is opened again, at most once a second, when
    somebody next sends a batch. Nothing that was answered with a receipt is touched by that.

    Parameters
    ----------
    open_intake : opens the shard; called in the thread that takes.

    Attributes
    ----------
    batches : how many wait for their commit. origin : name of the shard's log, once it was open.
    """

    def __init__(self, open_intake: Callable[[], Intake], limits: IntakeLimits, counters: Counters) -> None:
        self._open_intake, self._limits, self._counters = open_intake, limits, counters
        self._taker = ThreadPoolExecutor(1, "take")
        self._committer = ThreadPoolExecutor(1, "commit")
        # what follows belongs to the thread that takes, but for what is appended to `_arrived`
        self._arrived: deque[_Arrived] = deque()
        self._working = False
        self._queue: FairQueue[_Arrived] = FairQueue()
        self._sources = Sources(limits)
        self._loop: asyncio.AbstractEventLoop
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._intake: Intake | None = None
        self._opened_at = 0.0
        self.batches, self.origin = 0, ""

    @property
    def intake(self) -> Intake | None:
        """The open intake; None while its disk refuses."""
        return self._intake

    async def start(self) -> None:
        """Open the intake.

        Raises
        ------
        TellegenError : there is no shard, or another writer.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._intake = await loop.run_in_executor(self._taker, self._open_intake)
        self.origin = self._intake.origin
        self._loop_task = loop.create_task(self._commit_groups())

    async def stop(self) -> None:
        """Answer for everything that was taken, and close."""
        while self.batches:
            await asyncio.sleep(_DRAIN_S)
        if self._loop_task is not None:
            self._loop_task.cancel()
        if self._intake is not None:
            await asyncio.get_running_loop().run_in_executor(self._taker, self._give_up, self._intake)
        self._taker.shutdown()
        self._committer.shutdown()

    async def submit(self, statement: Statement, signature: bytes, decode: Decode, size: int = 0) -> Final:
        """Take a batch and wait until it is final.

        Parameters
        ----------
        size : of its body, in bytes.

        Raises
        ------
        RefusedBatchError : it is not taken, or the disk has refused.
        """
        if self.batches >= self._limits.pending_batches_max:
            raise RefusedBatchError(Reason.BUSY, f"{self.batches} batches wait for their commit", retry_after_s=1)
        self.batches += 1
        arrived = _Arrived(statement, signature, decode, size, self._loop.create_future())
        try:
            self._arrive(arrived)
            return await arrived.done
        finally:
            self.batches -= 1
            del arrived  # or an error would hold the body, by way of this frame, as long as it is held itself

    async def ask(self, read: Callable[[Intake], T]) -> T:
        """What the intake knows, read in the thread that takes.

        Raises
        ------
        RefusedBatchError : its disk refuses.
        """
        return await self._loop.run_in_executor(self._taker, lambda: read(self._intake or self._reopened()))

    async def check_request(self, source: str, message: bytes, signature: bytes) -> int:
        """Whether a source has signed a request (`Intake.check_request`), and asks not too often; the record's time.

        Raises
        ------
        RefusedBatchError : it has not, or does.
        """

        def check(intake: Intake) -> tuple[int, float]:
            intake.check_request(source, message, signature)
            return intake.clock.now(), self._sources.charge(source, ASK_COST)

        now, wait = await self.ask(check)
        await asyncio.sleep(wait)
        return now

    async def tick(self) -> None:
        """Put the time on record and make it final, where nothing has come for a while (`Intake.tick`).

        When that is due, what is known is kept, too (`Intake.snapshot`).
        """
        loop = asyncio.get_running_loop()
        with suppress(RefusedBatchError):  # the disk refuses: whoever sends hears of it
            intake, entry = await loop.run_in_executor(self._taker, self._tick)
            if entry is not None:
                waiting = _Waiting(intake, Taken((entry,), 0, ()), loop.create_future())
                self._waiting.append(waiting)
                self._wake.set()
                await waiting.done

    def _tick(self) -> tuple[Intake, int | None]:
        intake = self._intake or self._reopened()
        try:
            entry = intake.tick()
            if intake.is_snapshot_due():
                self._keep(intake)
        except BaseException:
            self._give_up(intake)
            raise
        return intake, entry

    def _keep(self, intake: Intake) -> None:
        """Take a snapshot; nothing rests on it, so a disk that has no room for it is tried again when it is next due.

        If it is the journal that was refused, whoever sends next finds it closed.
        """
        try:
            intake.snapshot()
        except RefusedBatchError as error:
            _log.warning("no snapshot of the intake is kept: %s", error)

    # Who is served next; but for `_arrive` and `_taken`, in the thread that takes

    def _arrive(self, arrived: _Arrived) -> None:
        self._arrived.append(arrived)
        if not self._working:  # else whoever works looks once more before it stops
            self._working = True
            self._taker.submit(self._work)

    def _work(self) -> None:
        """Look at what has arrived, and serve batches one by one, for a while."""
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until:
            for _ in range(min(len(self._arrived), _CHECKS_MAX)):
                self._or_refuse(self._enqueue, self._arrived.popleft())
            served = self._queue.take()
            if served is not None:
                self._or_refuse(self._serve, served)
            elif not self._arrived:
                self._working = False
                break
        if self._arrived or self._working:
            self._working = True
            self._taker.submit(self._work)

    def _or_refuse(self, do: Callable[[_Arrived], None], arrived: _Arrived) -> None:
        try:
            do(arrived)
        except Exception as error:  # whatever it is, who waits must hear of it
            arrived.decode = _gone  # or the error would hold the body, by way of this frame
            if isinstance(error, RefusedBatchError):
                error.with_traceback(None)
            self._loop.call_soon_threadsafe(_refuse, arrived.done, error)

    def _enqueue(self, arrived: _Arrived) -> None:
        """Find out who has sent a batch, and put it into that source's queue, now or when the source may go on."""
        source, wait = arrived.statement.source, 0.0
        if not arrived.key:
            intake = self._intake or self._reopened()
            arrived.key = intake.check_sender(arrived.statement, arrived.signature)
            self._sources.hold(source, arrived.size)
            arrived.cost = cost_of_bytes(arrived.size)
            if arrived.statement.route is not Route.ADMISSIONS:  # the operator's own
                try:
                    wait = self._sources.charge(source, arrived.cost)
                except RefusedBatchError:
                    self._sources.release(source, arrived.size)
                    raise
        if wait:
            self._loop.call_soon_threadsafe(self._loop.call_later, wait, self._arrive, arrived)
        else:
            self._queue.put(source, arrived, arrived.cost)

    def _serve(self, arrived: _Arrived) -> None:
        try:
            if not arrived.done.cancelled():
                intake, taken = self._take(arrived)
                self._loop.call_soon_threadsafe(self._taken, _Waiting(intake, taken, arrived.done))
        finally:
            self._sources.release(arrived.statement.source, arrived.size)
            arrived.decode = _gone  # the body is not needed any more

    def _taken(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._wake.set()

    def _take(self, arrived: _Arrived) -> tuple[Intake, Taken]:
        intake = self._intake or self._reopened()
        statement = arrived.statement

        def decode() -> Sent | SentChanges:
            sent = arrived.decode()
            more = cost_of_rows(sent) - arrived.cost
            self._queue.correct(statement.source, more)
            if statement.route is not Route.ADMISSIONS:
                self._sources.correct(statement.source, more)
            return sent

        try:
            return intake, intake.take(statement, arrived.signature, decode, arrived.key)
        except RefusedBatchError as error:
            if error.reason in _BROKEN:
                self._give_up(intake)
            raise
        except Exception:
            self._give_up(intake)  # what it left behind is settled when the record is opened again
            raise

    def _reopened(self) -> Intake:
        if time.monotonic() < self._opened_at + REOPEN_AFTER_S:
            raise RefusedBatchError(Reason.UNAVAILABLE, "the disk of the record has refused", retry_after_s=1)
        self._opened_at = time.monotonic()
        try:
            self._intake = self._open_intake()
        except (TellegenError, OSError) as error:
            raise RefusedBatchError(
                Reason.UNAVAILABLE, f"the record cannot be opened: {error}", retry_after_s=5
            ) from error
        return self._intake

    def _give_up(self, intake: Intake) -> None:
        """Close an intake, in the thread that takes; a next batch opens the shard again."""
        if self._intake is intake:
            self._intake = None
            self._committer.submit(intake.journal.close).result()  # never under a commit that is running
            intake.vault.close()

    async def _commit_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            group, self._waiting = self._waiting, []
            for intake in {id(w.intake): w.intake for w in group}.values():
                members = [w for w in group if w.intake is intake]
                taken = [w.taken for w in members]
                try:
                    finals = await loop.run_in_executor(self._committer, self._commit, intake, taken)
                except Exception as error:  # whatever it is, those who wait must hear of it
                    try:
                        await loop.run_in_executor(self._taker, self._give_up, intake)
                    finally:
                        for waiting in members:
                            if not waiting.done.done():
                                waiting.done.set_exception(error)
                else:
                    for waiting, final in zip(members, finals, strict=True):
                        if not waiting.done.done():  # or whoever waited has left
                            waiting.done.set_result(final)

    def _commit(self, intake: Intake, group: list[Taken]) -> list[Final]:
        start = time.perf_counter()
        intake.commit()
        self._counters.commit(time.perf_counter() - start)
        return [Final(taken, receipts) for taken, receipts in zip(group, intake.receipts(group), strict=True)]


def _refuse(done: asyncio.Future[Final], error: Exception) -> None:
    if not done.done():  # or whoever waited has left
        done.set_exception(error)


def _gone() -> Sent | SentChanges:
    raise AssertionError("a body is read once")
