"""Many simulated worlds, spread over the cores: what a world is made from is shared with forked processes."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from tellegen.assess.faults.promises import ContradictionError
from tellegen.errors import WorkerError
from tellegen.spawned import end_with_parent

T = TypeVar("T")


def played(play: Callable[[int], T], seeds: range) -> Iterator[T | str]:
    """Play a world per seed; what came of each, in any order, or the promise it broke.

    Parameters
    ----------
    play : plays the world of a seed; raises `ContradictionError` where it breaks a promise. Whatever else it raises is
        told as broken as well, with where it comes from.

    Raises
    ------
    WorkerError : a process ended before its worlds were played.
    """
    context, cores = multiprocessing.get_context("fork"), os.cpu_count() or 1
    channels, processes = [], []
    try:
        for first in range(min(cores, len(seeds))):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_play, args=(theirs, play, seeds[first::cores]), daemon=True)
            process.start()
            theirs.close()
            channels.append(ours)
            processes.append(process)
        left = len(seeds)
        while left:
            for channel in wait(channels):
                assert isinstance(channel, Connection)
                try:
                    yield channel.recv()
                except EOFError:
                    channels.remove(channel)
                    if not channels:
                        raise WorkerError(f"{left} worlds were not played: their process ended") from None
                    continue
                left -= 1
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _play(channel: Connection, play: Callable[[int], T], seeds: range) -> None:
    end_with_parent()
    for seed in seeds:
        try:
            channel.send(play(seed))
        except ContradictionError as error:
            channel.send(str(error))
        except Exception as error:  # a world that stops is broken, and the others are played
            place = traceback.extract_tb(error.__traceback__)[-1]
            channel.send(f"seed {seed}: {type(error).__name__} at {place.name}:{place.lineno}: {error}")
    channel.close()
