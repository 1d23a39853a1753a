"""Intakes killed with signal 9 while they serve, again and again over one shard.

One process loads the program and forks a server whenever it is asked to: a round then costs the opening of the shard
and not the loading of the program. Each server is a process of its own, opens the files by itself, and is killed whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tellegen.assess.faults.promises import ContradictionError, judge
from tellegen.assess.faults.traffic import FEEDERS, SEED, Batch, Traffic
from tellegen.assess.load import Connection, LoadError
from tellegen.errors import TellegenError
from tellegen.journal import Journal, JournalError, check
from tellegen.privacy import Vault
from tellegen.service.client import post_request
from tellegen.simulation.shard import build_shard
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import RefusedError, check_receipt

CONNECTIONS = 4
BATCHES_PER_LIFE = 120
_REPLAYED_FROM = 50
_AGAIN = 15
_DISORDER = 20
_FORK = """
import os, sys
from pathlib import Path
import uvicorn.lifespan.off
from tellegen.intake.limits import IntakeLimits
from tellegen.service.server import ServerOptions, serve
options = ServerOptions(simulation=True, limits=IntakeLimits(rows_per_s_max=10**9))
for line in sys.stdin:
    if not (child := os.fork()):
        os.close(0)
        print(os.getpid(), flush=True)
        serve(Path(line.removesuffix("\\n")), options, lambda address: print(address, flush=True))
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
"""What `tellegen serve` does, but for its command line."""


@dataclass(slots=True)
class KilledServers:
    """What was promised by servers that were killed, and kept.

    Attributes
    ----------
    kills : servers killed. batches : with a receipt in the end. receipts : handed out, all verified.
    unanswered : requests that a kill left without an answer, sent again to the next server.
    repeated : answered as on record before. refused_rows : told as refused, as they had to be.
    """

    kills: int = 0
    batches: int = 0
    receipts: int = 0
    unanswered: int = 0
    repeated: int = 0
    refused_rows: int = 0


@dataclass(slots=True)
class _Sender:
    """Batches and what was answered."""

    chance: random.Random
    traffic: Traffic
    killed: KilledServers = field(default_factory=KilledServers)
    waiting: list[Batch] = field(default_factory=list)  # without an answer
    answers: dict[tuple[str, str], tuple[Batch, dict[str, Any]]] = field(default_factory=dict)
    fresh: list[dict[str, Any]] = field(default_factory=list)  # answers whose receipts are still to be checked

    def load_of_a_life(self) -> list[Batch]:
        """What waits and what is new, some of it twice, hardly in order."""
        interval = int(time.time()) // MARKET_INTERVAL_S
        recorded = [batch for batch, _ in list(self.answers.values())[-_REPLAYED_FROM:] if batch.readings is not None]
        while len(self.waiting) < BATCHES_PER_LIFE:
            self.waiting.append(self.traffic.batch(interval, recorded))
        answered = [batch for batch, _ in list(self.answers.values())[-_AGAIN:]]
        load = [*self.waiting, *self.chance.sample(self.waiting, _AGAIN), *answered]
        order = {id(batch): number for number, batch in enumerate(self.waiting)}
        return sorted(load, key=lambda batch: order.get(id(batch), 0) + self.chance.uniform(0, _DISORDER))

    def told(self, batch: Batch, status: int, body: bytes) -> None:
        """Take an answer; it must be the one that was due, and the same as before."""
        document = json.loads(body)
        refused = {row["row"]: row["reason"] for row in document.get("refused", [])}
        expected = {row: why.name.lower() for row, why in batch.refused.items()}
        accepted = document.get("accepted", 0) if status == 200 else 0
        good = batch.rows - len(expected)
        if (status == 200) != (good > 0) or accepted != good or refused != expected:
            raise ContradictionError(f"{batch.key}: {status} {body[:500]!r}; {expected} should have been refused")
        if status != 200:
            if batch in self.waiting:
                self.waiting.remove(batch)
            return
        _, before = self.answers.setdefault(batch.key, (batch, document))
        if before["entries"] != document["entries"]:
            raise ContradictionError(f"{batch.key} is entries {before['entries']} and entries {document['entries']}")
        if batch in self.waiting:
            self.waiting.remove(batch)
        self.fresh.append(document | {"digest": batch.digest})
        self.killed.repeated += document["again"]
        self.killed.receipts += len(document["receipts"])
        self.killed.refused_rows += len(refused)

    async def send(self, address: str, load: list[Batch], kill: Callable[[], None] | None, life_s: float) -> None:
        """Send over several connections at once; the server is killed meanwhile, or answers all of it."""
        batches = iter(load)
        loop = asyncio.get_running_loop()
        connections = [await Connection.open(address) for _ in range(CONNECTIONS)]
        timer = None if kill is None else loop.call_later(life_s, kill)

        async def worker(connection: Connection) -> None:
            async with connection:
                for batch in batches:
                    try:
                        reply = await connection.send(post_request(batch.signed))
                    except LoadError:
                        if kill is None:
                            raise
                        self.killed.unanswered += 1
                        return
                    self.told(batch, reply.status, reply.body)

        try:
            await asyncio.gather(*(worker(connection) for connection in connections))
        finally:
            if timer is not None:
                timer.cancel()

    def check_receipts(self, journal: Journal) -> None:
        """Every receipt handed out since the last check verifies, and proves what was sent."""
        for document in self.fresh:
            for index, receipt in zip(document["entries"], document["receipts"], strict=True):
                proven = check_receipt(receipt, journal.entry_bytes(index), journal.verifier.vkey)
                if proven.index != index:
                    raise ContradictionError(f"the receipt of entry {index} proves entry {proven.index}")
                evidence = proven.header.evidence
                if evidence and evidence.partition(" ")[0] != document["digest"]:
                    raise ContradictionError(f"entry {index} is of another batch than the one that was sent")
        self.fresh = []


def server_rounds(
    folder: Path,
    rounds: int,
    *,
    seed: int = 0,
    life_s_max: float = 0.2,
    progress: Callable[[str], None] = lambda words: None,
) -> KilledServers:
    """Serve a small shard under load, kill the server at a random moment, start it again.

    What has no answer is sent again to the next server; in the end everything is. Readings, bids, rows that must be
    refused, replayed ones among them, batches sent twice and out of order.

    Parameters
    ----------
    folder : where the shard is made.
    life_s_max : seconds for which a server is under load at most.

    Raises
    ------
    ContradictionError : an answer is not the one that was due, a receipt does not verify, or what it proves is not on
        record, once, as it was sent.
    """
    chance = random.Random(seed)  # noqa: S311 (repeatable on purpose)
    first = int(time.time()) // MARKET_INTERVAL_S - 100
    keys = build_shard(folder, FEEDERS, SEED, first_interval=first)
    sender = _Sender(chance, Traffic(keys, chance))
    killed = sender.killed
    with _launcher() as launch:
        for number in range(rounds):
            with launch(folder) as server:
                load, life_s = sender.load_of_a_life(), chance.uniform(0.0, life_s_max)
                asyncio.run(sender.send(server.address, load, server.kill, life_s))
                server.kill()
            killed.kills += 1
            _hold(folder, sender, number + 1)
            if number % 50 == 49:
                progress(f"{number + 1} kills of a server, {killed.receipts} receipts, none contradicted")
        with launch(folder) as server:
            asyncio.run(sender.send(server.address, list(sender.waiting), None, 0.0))
    _hold(folder, sender, rounds)
    with Journal.open(folder) as journal, Vault.open(folder / "vault") as vault:
        judge(journal, vault, {key: (batch, answer["entries"]) for key, (batch, answer) in sender.answers.items()})
    problems = check(folder)
    if problems:
        raise ContradictionError(f"in the end: {problems[0]}")
    killed.batches = len(sender.answers)
    return killed


def _hold(folder: Path, sender: _Sender, number: int) -> None:
    try:
        with Journal.open(folder) as journal:
            sender.check_receipts(journal)
    except (JournalError, RefusedError) as error:
        raise ContradictionError(f"after kill {number}: {error}") from error


@dataclass(slots=True)
class _Server:
    """A process that serves; killed once, since its number may then be another's."""

    process: int
    address: str
    alive: bool = True

    def kill(self) -> None:
        """Signal 9, unless it has been sent."""
        if self.alive:
            self.alive = False
            os.kill(self.process, signal.SIGKILL)


@contextmanager
def _launcher() -> Iterator[Callable[[Path], AbstractContextManager[_Server]]]:
    """Makes servers; each has ended when its context is left."""
    source = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", _FORK]
    with subprocess.Popen(  # noqa: S603 (our own)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        @contextmanager
        def launch(folder: Path) -> Iterator[_Server]:
            print(folder, file=asked, flush=True)
            number, line = told.readline(), told.readline()
            if not line.startswith("http"):
                raise TellegenError("a server did not start; its message stands above")
            server = _Server(int(number), line.strip())
            try:
                yield server
            finally:
                server.kill()
                while line and line != "ended\n":
                    line = told.readline()

        yield launch
        asked.close()
