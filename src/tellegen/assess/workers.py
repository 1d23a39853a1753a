"""Processes of their own for timed work, with one thread of linear algebra each."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tellegen.errors import TellegenError, WorkerError
from tellegen.grid.threads import one_thread
from tellegen.spawned import end_with_parent

Prepare = Callable[..., Callable[[], Any]]
"""Does the untimed part with its arguments and returns the timed part."""


def _work(channel: Connection, prepare: Prepare, arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    try:
        timed = prepare(*arguments)
        channel.send(("ready", None))
        channel.recv()
        channel.send(("done", timed()))
    except TellegenError as error:
        channel.send(("failed", str(error)))


def run_together(prepare: Prepare, arguments: list[tuple[Any, ...]]) -> tuple[float, list[Any]]:
    """Prepare in one process per set of arguments, then run all at once.

    Parameters
    ----------
    prepare : a function of a module (it is named to the processes, not copied).

    Returns
    -------
    Seconds from the common start until the last is done, and what each returned, in order.

    Raises
    ------
    WorkerError : a process failed; says how.
    """
    context = multiprocessing.get_context("spawn")
    channels, processes = [], []
    with one_thread():
        for given in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, prepare, given), daemon=True)
            process.start()
            theirs.close()
            channels.append(ours)
            processes.append(process)
    try:
        for channel in channels:
            _expect(channel, "ready")
        start = time.perf_counter()
        for channel in channels:
            channel.send(None)
        results = [_expect(channel, "done") for channel in channels]
        elapsed = time.perf_counter() - start
    finally:
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
    return elapsed, results


def _expect(channel: Connection, wanted: str) -> Any:
    try:
        word, content = channel.recv()
    except EOFError:
        raise WorkerError("a worker process ended without a result") from None
    if word != wanted:
        raise WorkerError(str(content))
    return content
