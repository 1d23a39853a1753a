"""Group commit: many requests, one intake, one commit at a time.

Two threads beside the event loop: one takes batches in the order in which they came, one commits. Whatever was taken
while a commit ran becomes final with the next, so the number of commits follows the disk and not the load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tellegen.errors import TellegenError
from tellegen.operations.intake import Intake, Taken
from tellegen.operations.intake_limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.operations.registry_changes import SentChanges
from tellegen.operations.sent import Sent
from tellegen.records import Statement
from tellegen.service.counters import Counters

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
        self.batches = 0

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
