"""Processes of this program beside the one that started them, which end with it, however that one ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any


def spawned(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start a process that calls `target` with its end of the line, then the arguments; it and our end of the line.

    It ends when this one does. What is blocked here is blocked there from the first instruction on: an interrupt is the
    starting process's to handle. Whoever wants it later sets a handler and lifts the mask.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    resource_tracker.ensure_running()  # started on the way, it would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = context.Process(target=_called, args=(target, theirs, *arguments), daemon=True)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return process, ours


def _called(target: Callable[..., None], *arguments: Any) -> None:
    end_with_parent()
    target(*arguments)


def end_with_parent() -> None:
    """In a process that `multiprocessing` started: from now on it ends with the one that started it.

    Nobody tells a process that its parent was killed; but a pipe between them ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    _end_with(parent.sentinel)


def _end_with(line: Connection | int) -> None:
    def watch() -> None:
        wait([line])
        os._exit(1)  # whatever it is at: nobody is there who could take the result

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def pooled(processes: int, begin: Callable[..., None] | None = None, *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes, which end with this one, and at once where the context is left by an exception.

    Parameters
    ----------
    begin : called first in each, with the arguments.
    """
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _begin, (theirs, begin, arguments))
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()  # what still works ends here
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _begin(line: Connection, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the starting process's to handle
    _end_with(line)
    if begin is not None:
        begin(*arguments)
