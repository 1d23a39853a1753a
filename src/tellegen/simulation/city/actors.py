"""Objects that live in processes of their own, called over a pipe."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tellegen.errors import InputError, TellegenError, WorkerError
from tellegen.grid.threads import one_thread
from tellegen.spawned import end_with_parent

_TICKS_PER_S = 100
"""In which /proc counts CPU time; fixed for user space on Linux."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it began: CPU seconds, bytes handed to the disk, and its peak resident memory."""

    cpu_s: float
    written_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Of a process that runs.

        Raises
        ------
        InputError : this system does not say (no /proc).
        """
        proc = Path("/proc") / str(pid)
        try:
            spent = proc.joinpath("stat").read_text().rpartition(")")[2].split()
            lines = [*proc.joinpath("status").read_text().splitlines(), *proc.joinpath("io").read_text().splitlines()]
        except OSError as error:
            raise InputError("bench city", str(proc), f"cannot be read ({error.strerror}); it needs Linux") from None
        said = dict(line.split(":", 1) for line in lines if ":" in line)
        return cls(
            cpu_s=(int(spent[11]) + int(spent[12])) / _TICKS_PER_S,
            written_bytes=int(said["write_bytes"]),
            peak_bytes=int(said["VmHWM"].split()[0]) * 1024,
        )

    def since(self, before: Usage) -> Usage:
        """What was used since; the peak is that of all time."""
        return Usage(self.cpu_s - before.cpu_s, self.written_bytes - before.written_bytes, self.peak_bytes)


def _live(channel: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    try:
        subject = make(*arguments)
        channel.send((True, None))
        while True:
            name, given = channel.recv()
            channel.send((True, getattr(subject, name)(*given)))
            if name == "close":
                return
    except TellegenError as error:
        channel.send((False, str(error)))
    except EOFError:
        return


class Actor:
    """A process that makes an object and does what it is asked, one thing at a time.

    Parameters
    ----------
    make : a class or function of a module (it is named to the process, not copied).
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(theirs, make, arguments), daemon=True)
        with one_thread():
            self._process.start()
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> None:
        """Begin to do something; `answer` waits for it."""
        self._channel.send((name, arguments))

    def answer(self) -> Any:
        """What came of the last thing asked; the first answer says that the object has been made.

        Raises
        ------
        WorkerError : the process failed; says how.
        """
        try:
            well, content = self._channel.recv()
        except EOFError:
            raise WorkerError("a process of the city ended without an answer") from None
        if not well:
            raise WorkerError(str(content))
        return content

    def call(self, name: str, *arguments: Any) -> Any:
        """Ask and wait."""
        self.ask(name, *arguments)
        return self.answer()

    def usage(self) -> Usage:
        """What the process has used so far."""
        assert self._process.pid is not None
        return Usage.of(self._process.pid)

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        self._process.join()


def chained(first: list[Actor], second: list[Actor], asked: list[tuple[Any, ...]], then: tuple[Any, ...]) -> Chained:
    """Ask every first actor for something, and each second one for another thing as soon as its partner is done.

    Returns
    -------
    Both answers of each pair, and the seconds from the common start until the last first and the last second was done.
    """
    begun = time.perf_counter()
    for actor, question in zip(first, asked, strict=True):
        actor.ask(*question)
    partner = {actor._channel: k for k, actor in enumerate(first)}
    finishing = {actor._channel: k for k, actor in enumerate(second)}
    sent: list[Any] = [None] * len(first)
    done: list[Any] = [None] * len(first)
    waiting = set(partner)
    sent_s = 0.0
    while waiting:
        for channel in wait(list(waiting)):
            assert isinstance(channel, Connection)
            waiting.remove(channel)
            if channel in partner:
                k = partner[channel]
                sent[k], sent_s = first[k].answer(), time.perf_counter() - begun
                second[k].ask(*then)
                waiting.add(second[k]._channel)
            else:
                k = finishing[channel]
                done[k] = second[k].answer()
    return Chained(sent, done, sent_s, time.perf_counter() - begun)


@dataclass(frozen=True, slots=True)
class Chained:
    """What came of two things done one after the other by pairs of actors."""

    first: list[Any]
    second: list[Any]
    first_s: float
    total_s: float
