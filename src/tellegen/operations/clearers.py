"""Processes that clear gates, feeder by feeder; the market's process hands out tasks and writes what comes back.

Gates that are waited for come first (`Clearers.clear`); others are cleared beside them, by whoever is idle (`Beside`).

A worker keeps networks with their factors and nothing else, so it does not matter which of them clears what; it is
given first what is on networks that it knows. One that dies is replaced. The tasks that it had are tried once more,
each alone on a worker; what ends a worker twice is reported as lost, and so is what is not done in time: its feeder
then settles at the rulebook's price.
"""

from __future__ import annotations

import queue
import signal
import time
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread
from types import TracebackType
from typing import Any, Self

from tellegen.errors import InputError, TellegenError
from tellegen.grid import Case, Network, best_engine
from tellegen.grid.threads import one_thread
from tellegen.market.qp import load_loops
from tellegen.operations.gate import Cleared, GateTask, Wires, clear_feeder
from tellegen.operations.topology import RecordedWires
from tellegen.spawned import spawned

Given = Network | Case | RecordedWires
"""A network as it is handed on: as an object, or as its document, which whoever clears on it decodes."""

AHEAD = 2
"""Tasks that a worker holds: one to do while the result of the other is taken. Of what is done beside it holds one, so
that nobody who waits stands behind two."""
CLOSE_S = 5.0
_LATE = "not done in time"


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """What became of one task: its place among those handed in, what was cleared, or why nothing was (else empty)."""

    place: int
    cleared: tuple[Cleared, ...]
    lost: str = ""


def _serve(channel: Connection) -> None:
    """A worker: clears what comes in until the channel ends."""
    # Whoever interrupts the program interrupts the market's process, which ends its workers in good order. They start
    # with this signal blocked, which drops one that came before.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load_loops(best_engine())
    given: dict[str, Given] = {}
    used: dict[str, Wires] = {}
    # Taken in by a thread of its own, so that nobody waits for a worker that is busy to listen.
    waiting: queue.SimpleQueue[tuple[str, Any, Any] | None] = queue.SimpleQueue()
    Thread(target=_listen, args=(channel, waiting), daemon=True).start()
    while (message := waiting.get()) is not None:
        word, name, content = message
        if word == "network":
            given[name] = content
            continue
        try:
            answer = Done(name, clear_feeder(content, _wires_of(content.network, given, used)))
        except TellegenError as error:
            answer = Done(name, (), str(error))
        try:
            channel.send(answer)
        except OSError:
            return


def _listen(channel: Connection, waiting: queue.SimpleQueue[tuple[str, Any, Any] | None]) -> None:
    try:
        while True:
            waiting.put(channel.recv())
    except (EOFError, OSError):
        waiting.put(None)


def _wires_of(name: str, given: Mapping[str, Given], used: dict[str, Wires]) -> Wires:
    """A network to clear on, with its factors once it has been.

    Raises
    ------
    InputError : its document is none of a network.
    """
    if name not in used:
        network = given[name]
        used[name] = Wires(network.decoded() if isinstance(network, RecordedWires) else network)
    return used[name]


@dataclass(slots=True, eq=False)
class _Work:
    """Tasks that were handed in together, by their place, and how far they are.

    Attributes
    ----------
    ahead : how many a worker may hold. tasks : those that are not done.
    fresh, again : not handed out yet; to be tried once more, alone.
    tried : were with a worker that died. left : not done. done : what nobody has asked for yet.
    """

    ahead: int
    handed_in: int = 0
    tasks: dict[int, GateTask] = field(default_factory=dict)
    fresh: deque[int] = field(default_factory=deque)
    again: deque[int] = field(default_factory=deque)
    tried: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    done: deque[Done] = field(default_factory=deque)

    def add(self, task: GateTask) -> int:
        """One task more; its place."""
        place = self.handed_in
        self.handed_in += 1
        self.tasks[place] = task
        self.fresh.append(place)
        self.left.add(place)
        return place

    def next_on(self, networks: Container[str]) -> int:
        """Take the next that is fresh: the first on one of these networks, whose factors are there; else the first."""
        place = next((each for each in self.fresh if self.tasks[each].network in networks), self.fresh[0])
        self.fresh.remove(place)
        return place

    def finish(self, done: Done) -> None:
        """Something came of a task."""
        self.left.discard(done.place)
        del self.tasks[done.place]
        self.done.append(done)


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    channel: Connection
    listener: Thread
    networks: set[str] = field(default_factory=set)
    tickets: list[int] = field(default_factory=list)
    alone: bool = False


class Clearers:
    """Worker processes that clear gates; with none of them, gates are cleared in this process.

    Parameters
    ----------
    processes : how many; 0: none, and everything comes out the same.
    """

    def __init__(self, processes: int = 0) -> None:
        self._processes = processes
        self._networks: dict[str, Given] = {}
        self._wires: dict[str, Wires] = {}
        self._workers: list[_Worker] = []
        self._said: queue.SimpleQueue[tuple[Connection, Done | None]] = queue.SimpleQueue()
        self._works: list[_Work] = []  # those that are waited for before what is done beside
        self._tickets: dict[int, tuple[_Work, int]] = {}  # what workers hold, under a number that is never used again
        self._next_ticket = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def know(self, name: str, network: Given) -> None:
        """Keep a network under a name that tasks use; a worker gets it, as it is given, with its first task on it.

        Raises
        ------
        InputError : the name is another network's.
        """
        if self._networks.setdefault(name, network) is not network:
            raise InputError("clearers", f"network '{name}'", "is known already, and another; give each its own name")

    def start(self) -> None:
        """Start the workers that are missing, so that no gate waits for them."""
        while len(self._workers) < self._processes:
            self._workers.append(self._started())

    def pids(self) -> list[int]:
        """Process identifiers of the workers that run."""
        return [worker.process.pid or 0 for worker in self._workers]

    def clear(self, tasks: Sequence[GateTask], *, within_s: float | None = None) -> Iterator[Done]:
        """Clear gates, one call at a time; results in the order in which they come, one for each task.

        Parameters
        ----------
        within_s : what is not done after so many seconds is reported as lost; None: however long it takes. Without
            workers no clearing is cut short, and none is begun after it.

        Raises
        ------
        InputError : a task names a network that is not known.
        """
        for task in tasks:
            self._check(task)
        end = None if within_s is None else time.monotonic() + within_s
        return self._spread(tasks, end) if self._processes else self._here(tasks, end)

    def beside(self) -> Beside:
        """Begin to clear gates that nobody waits for."""
        return Beside(self)

    def close(self) -> None:
        """End the workers; what they were doing is dropped."""
        for worker in self._workers:
            try:
                worker.channel.send(None)
            except OSError:
                continue  # it has ended already
        for worker in self._workers:
            worker.process.join(CLOSE_S if worker.networks and not worker.tickets else 0.0)
            _end(worker)
        self._workers, self._works = [], []
        self._tickets.clear()

    def _check(self, task: GateTask) -> None:
        if task.network not in self._networks:
            raise InputError(f"gate of {task.feeder}", f"network '{task.network}'", "is not known")

    # In this process

    def _here(self, tasks: Sequence[GateTask], end: float | None) -> Iterator[Done]:
        for place, task in enumerate(tasks):
            if end is not None and time.monotonic() >= end:
                yield Done(place, (), _LATE)
            else:
                yield self._done_here(place, task)

    def _done_here(self, place: int, task: GateTask) -> Done:
        try:
            return Done(place, clear_feeder(task, _wires_of(task.network, self._networks, self._wires)))
        except TellegenError as error:
            return Done(place, (), str(error))

    # In workers

    def _spread(self, tasks: Sequence[GateTask], end: float | None) -> Iterator[Done]:
        work = _Work(AHEAD)
        for task in tasks:
            work.add(task)
        self._works.insert(0, work)
        try:
            while work.left or work.done:
                if work.done:
                    yield work.done.popleft()
                elif not self._turn(end):
                    break
            for place in sorted(work.left):
                yield Done(place, (), _LATE)
        finally:
            self._abandon(work)

    def _abandon(self, work: _Work) -> None:
        """Whoever stops listening, or is out of time, leaves no worker with an answer that nobody waits for."""
        self._works = [each for each in self._works if each is not work]
        for worker in list(self._workers):
            held = [self._tickets[ticket] for ticket in worker.tickets]
            if any(of is work for of, _ in held):
                self._workers.remove(worker)
                _end(worker)
                for of, place in held:
                    if of is not work:  # which is not to blame
                        of.fresh.appendleft(place)
                for ticket in worker.tickets:
                    del self._tickets[ticket]

    def _turn(self, end: float | None) -> bool:
        """Hand out what there is room for and hear one answer; false where none came in time."""
        self.start()
        for each in self._workers:
            self._feed(each)
        try:
            wait = None if end is None else max(end - time.monotonic(), 0.0)
            channel, answer = self._said.get(timeout=wait)
        except queue.Empty:
            return False
        worker = next((worker for worker in self._workers if worker.channel is channel), None)
        if worker is None:  # one that was ended before
            return True
        if answer is None:
            self._bury(worker)
            return True
        worker.tickets.remove(answer.place)
        work, place = self._tickets.pop(answer.place)
        work.finish(replace(answer, place=place))
        return True

    def _feed(self, worker: _Worker) -> None:
        """Give a worker what it has room for; a task that was with one that died stays alone with it."""
        if not worker.tickets:
            again = next((work for work in self._works if work.again), None)
            worker.alone = again is not None
            if again is not None:
                self._send(worker, again, again.again.popleft())
        for work in self._works:
            while work.fresh and not worker.alone and len(worker.tickets) < work.ahead:
                self._send(worker, work, work.next_on(worker.networks))

    def _send(self, worker: _Worker, work: _Work, place: int) -> None:
        ticket, task = next(self._next_ticket), work.tasks[place]
        self._tickets[ticket] = work, place
        worker.tickets.append(ticket)
        try:
            if task.network not in worker.networks:
                worker.channel.send(("network", task.network, self._networks[task.network]))
                worker.networks.add(task.network)
            worker.channel.send(("task", ticket, task))
        except OSError:
            # It has died; who listens to it says so, and its tasks are tried again.
            return

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        _end(worker)
        for ticket in worker.tickets:
            work, place = self._tickets.pop(ticket)
            if place in work.tried and worker.alone:
                work.finish(Done(place, (), f"its worker ended twice (exit code {worker.process.exitcode})"))
            else:
                work.tried.add(place)
                work.again.append(place)

    def _started(self) -> _Worker:
        with one_thread():
            process, ours = spawned(_serve)
        listener = Thread(target=_hear, args=(ours, self._said), daemon=True)
        listener.start()
        return _Worker(process, ours, listener)


class Beside:
    """Gates that are cleared while others are waited for, by whichever worker is idle.

    Without workers each is cleared when it is asked what was done.
    """

    def __init__(self, clearers: Clearers) -> None:
        self._clearers, self._work = clearers, _Work(1)
        clearers._works.append(self._work)

    @property
    def waiting(self) -> int:
        """How many are not done."""
        return len(self._work.left)

    @property
    def room(self) -> bool:
        """Whether somebody would be idle without one more: two for each worker, or one."""
        return len(self._work.left) < max(2 * self._clearers._processes, 1)

    def add(self, task: GateTask) -> int:
        """Hand in one more; its place in what is done.

        Raises
        ------
        InputError : it names a network that is not known.
        """
        self._clearers._check(task)
        return self._work.add(task)

    def done(self, wait_s: float) -> list[Done]:
        """What was done since, at least one if that takes no longer than the wait.

        Parameters
        ----------
        wait_s : how long to wait for the first. Without workers nothing is done in none, and one otherwise, however
            long that takes.
        """
        clearers, work = self._clearers, self._work
        if not clearers._processes:
            if work.fresh and wait_s > 0:
                place = work.fresh.popleft()
                work.finish(clearers._done_here(place, work.tasks[place]))
        else:
            end = time.monotonic() + wait_s
            while work.left and clearers._turn(time.monotonic() if work.done else end):
                continue
        said = list(work.done)
        work.done.clear()
        return said

    def drop(self) -> None:
        """Nobody wants what is not done any more."""
        self._clearers._abandon(self._work)


def _hear(channel: Connection, said: queue.SimpleQueue[tuple[Connection, Done | None]]) -> None:
    """Pass on what a worker says until it ends, in a thread of its own."""
    try:
        while True:
            said.put((channel, channel.recv()))
    except (EOFError, OSError):
        said.put((channel, None))


def _end(worker: _Worker) -> None:
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()
    # Only then: who listens must not read from a channel that has been closed.
    worker.listener.join()
    worker.channel.close()
