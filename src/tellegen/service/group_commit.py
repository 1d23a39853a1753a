"""Group commit: many requests, one intake, one commit at a time.

Two threads beside the event loop: one takes batches in the order in which they came, one commits. Whatever was taken
while a commit ran becomes final with the next, so the number of commits follows the disk and not the load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from tellegen.errors import TellegenError
from tellegen.intake.intake import Intake, Taken
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.registry_changes import SentChanges
from tellegen.intake.sent import Sent
from tellegen.records import Statement
from tellegen.service.counters import Counters

_log = logging.getLogger(__name__)
REOPEN_AFTER_S = 1.0
_DRAIN_S = 0.01
Decode = Callable[[], Sent | SentChanges]
"""Reads a body."""
_BROKEN = (Reason.DISK_FULL, Reason.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Final:
    """A batch on record, with a receipt for each of its entries."""

    taken: Taken
    receipts: list[str]


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
        loop = asyncio.get_running_loop()
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

    async def submit(self, statement: Statement, signature: bytes, decode: Decode) -> Final:
        """Take a batch and wait until it is final.

        Raises
        ------
        RefusedBatchError : it is not taken, or the disk has refused.
        """
        if self.batches >= self._limits.pending_batches_max:
            raise RefusedBatchError(Reason.BUSY, f"{self.batches} batches wait for their commit", retry_after_s=1)
        self.batches += 1
        try:
            loop = asyncio.get_running_loop()
            intake, taken = await loop.run_in_executor(self._taker, self._take, statement, signature, decode)
            waiting = _Waiting(intake, taken, loop.create_future())
            self._waiting.append(waiting)
            self._wake.set()
            return await waiting.done
        finally:
            self.batches -= 1

    async def check_request(self, source: str, message: bytes, signature: bytes) -> int:
        """Whether a source has signed a request (`Intake.check_request`); the time of the record.

        Raises
        ------
        RefusedBatchError : it has not.
        """

        def check() -> int:
            intake = self._intake or self._reopened()
            intake.check_request(source, message, signature)
            return intake.clock.now()

        return await asyncio.get_running_loop().run_in_executor(self._taker, check)

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

    def _take(self, statement: Statement, signature: bytes, decode: Decode) -> tuple[Intake, Taken]:
        intake = self._intake or self._reopened()
        try:
            return intake, intake.take(statement, signature, decode)
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
