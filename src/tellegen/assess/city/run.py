"""Plays the intervals of a city: sends, waits for receipts, closes gates, settles, and measures each of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from tellegen.assess.city.actors import Actor, Chained, Usage, chained
from tellegen.assess.city.audit import Findings, audit
from tellegen.assess.city.courier import Delivery
from tellegen.assess.city.desks import Booked, Cleared, LoadDesk, MarketDesk
from tellegen.assess.city.population import City, Draw, generator
from tellegen.assess.workers import THREAD_VARIABLES, WorkerError
from tellegen.units import IntArray

ROWS_PER_S_MAX = 10_000_000
"""The intakes' limit per source; a concentrator of a whole shard sends more than one of a few streets may."""
STOP_S_MAX = 60
ROW_RECEIPTS_MAX = 1_000
CLEARINGS_AGAIN = 3
_STAGE = re.compile(r'^tellegen_stage_cpu_seconds_total\{stage="([a-z ]+)"\} (\S+)$', re.MULTILINE)


class IntakeServer:
    """`tellegen serve` on a shard's directory, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", "from tellegen.cli import main; main()", "serve", str(folder), "--port", "0"]
        command += ["--rate", str(ROWS_PER_S_MAX)]
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
        self._folder = folder
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
        self.address = ("", 0)

    def wait(self) -> None:
        """Wait until it takes requests; then `address` is known.

        Raises
        ------
        WorkerError : it did not start.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        place = line.strip().rpartition("//")[2].rstrip("/")
        host, colon, port = place.rpartition(":")
        if not colon or not port.isdigit():
            raise WorkerError(f"the intake of {self._folder} did not start: {line.strip() or 'it said nothing'}")
        self.address = (host, int(port))

    def usage(self) -> Usage:
        """What the process has used so far."""
        return Usage.of(self._process.pid)

    def stages(self) -> dict[str, float]:
        """CPU seconds of its stages since it began, as it says itself."""
        connection = HTTPConnection(*self.address)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {stage: float(seconds) for stage, seconds in _STAGE.findall(text)}

    def stop(self) -> None:
        """Let it drain and end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Phase:
    """One half of an interval: something is sent, and the market does what follows.

    Attributes
    ----------
    sent_s : wall seconds from the first byte sent until the last receipt is there.
    total_s : until what follows is on record, published or posted.
    intake, market, load : what the processes of each kind used, all shards together; peaks add up.
    intake_stages, market_stages : CPU seconds by stage.
    latency_s : of every request.
    accepted, refused : rows.
    """

    sent_s: float
    total_s: float
    intake: Usage
    market: Usage
    load: Usage
    intake_stages: dict[str, float]
    market_stages: dict[str, float]
    latency_s: list[float]
    accepted: int
    refused: int


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval played: bids to published prices, readings to books, and what the making of both cost outside."""

    bids: Phase
    readings: Phase
    made_bids_s: float
    made_readings_s: float
    orders: int
    binding: IntArray
    status: IntArray
    estimated: int
    postings: int

    @property
    def wall_s(self) -> float:
        """Wall seconds of the platform's work."""
        return self.bids.total_s + self.readings.total_s


@dataclass(slots=True)
class CityRun:
    """Everything measured.

    Attributes
    ----------
    warm_up : the interval before the first, in which nothing is known of any feeder yet; no figure counts it.
    disk_bytes : of the shards' directories at the end, by part.
    """

    city: City
    feeders: int
    warm_up: Interval
    intervals: list[Interval]
    findings: Findings
    set_up_s: float
    disk_bytes: dict[str, int] = field(default_factory=dict)


def play(city: City, folder: Path, progress: Callable[[str], None]) -> CityRun:
    """Set a city up in an empty folder, play its intervals, and audit what is on record.

    Raises
    ------
    WorkerError : a process failed. InputError : the city cannot be made, or this system cannot be measured.
    """
    started = time.perf_counter()
    folders = [folder / f"shard{shard}" for shard in range(city.shards)]
    with ExitStack() as stack:
        progress(f"enrolling {city.meters} customers in {city.shards} shards")
        load = [stack.enter_context(_running(Actor(LoadDesk, city, k, f))) for k, f in enumerate(folders)]
        _all(load)
        progress("starting intakes and markets")
        intakes = [IntakeServer(f) for f in folders]
        for intake in intakes:
            stack.callback(intake.stop)
        market = [stack.enter_context(_running(Actor(MarketDesk, f))) for f in folders]
        for intake in intakes:
            intake.wait()
        _all(market)
        set_up_s = time.perf_counter() - started
        table = _Table(city, load, intakes, market, progress)
        played = [table.play(interval) for interval in city.rounds]
        sent = [desk.call("sent") for desk in load]
        for desk in (*market, *load):
            desk.call("close")
    progress("auditing the record")
    findings: Findings | None = None
    for k, place in enumerate(folders):
        found = audit(
            city,
            k,
            place,
            sent[k],
            table.receipts[k],
            min(ROW_RECEIPTS_MAX, city.meters // 10) // city.shards,
            -(-CLEARINGS_AGAIN // city.shards),
        )
        findings = found if findings is None else findings.and_also(found)
    assert findings is not None
    return CityRun(
        city=city,
        feeders=played[0].binding.size,
        warm_up=played[0],
        intervals=played[1:],
        findings=findings,
        set_up_s=set_up_s,
        disk_bytes=_disk_bytes(folders),
    )


class _Table:
    """The processes of a run, around the one who says what is done next."""

    def __init__(
        self,
        city: City,
        load: list[Actor],
        intakes: list[IntakeServer],
        market: list[Actor],
        progress: Callable[[str], None],
    ) -> None:
        self._city, self._load, self._intakes, self._market = city, load, intakes, market
        self._progress = progress
        self._prices = generator(city.seed, Draw.PRICES)
        self.receipts: list[list[tuple[int, str]]] = [[] for _ in load]

    def play(self, interval: int) -> Interval:
        """One interval from new bids to balances."""
        place = interval - self._city.first_interval
        what = f"interval {place} of {self._city.intervals}" if place else "warm-up interval"
        self._progress(f"{what}: drawing and signing bids")
        made_bids_s = sum(self._each(self._load, "make_bids", interval))
        self._progress(f"{what}: bids to prices")
        root_price = round(float(self._prices.uniform(0.20, 0.30)) * 1e6)
        bids, cleared = self._phase("close_gate", (interval, root_price, int(time.time())))
        self._progress(f"{what}: coding and signing readings")
        made_readings_s = sum(self._each(self._load, "make_readings", interval))
        self._progress(f"{what}: readings to books")
        readings, booked = self._phase("settle", (interval, int(time.time())))
        played = Interval(
            bids=bids,
            readings=readings,
            made_bids_s=made_bids_s,
            made_readings_s=made_readings_s,
            orders=sum(c.outcome.orders for c in cleared if isinstance(c, Cleared)),
            binding=np.concatenate([c.outcome.binding for c in cleared if isinstance(c, Cleared)]),
            status=np.concatenate([c.outcome.status for c in cleared if isinstance(c, Cleared)]),
            estimated=sum(b.outcome.estimated for b in booked if isinstance(b, Booked)),
            postings=sum(b.outcome.postings for b in booked if isinstance(b, Booked)),
        )
        self._progress(
            f"{what}: {played.wall_s:.1f} s of 300 ({bids.total_s:.1f} s bids to prices, {readings.total_s:.1f} s "
            "readings to books)"
        )
        return played

    def _phase(self, then: str, given: tuple[int, ...]) -> tuple[Phase, list[Cleared | Booked]]:
        before = [[each.usage() for each in kind] for kind in (self._intakes, self._market, self._load)]
        stages_before = _summed([intake.stages() for intake in self._intakes])
        asked = [("deliver", intake.address) for intake in self._intakes]
        came: Chained = chained(self._load, self._market, asked, (then, *given))
        after = [[each.usage() for each in kind] for kind in (self._intakes, self._market, self._load)]
        deliveries: list[Delivery] = came.first
        for kept, delivery in zip(self.receipts, deliveries, strict=True):
            kept += delivery.receipts
        used = [_together([a.since(b) for a, b in zip(*kind, strict=True)]) for kind in zip(after, before, strict=True)]
        stages = _summed([intake.stages() for intake in self._intakes])
        phase = Phase(
            sent_s=came.first_s,
            total_s=came.total_s,
            intake=used[0],
            market=used[1],
            load=used[2],
            intake_stages={stage: seconds - stages_before.get(stage, 0.0) for stage, seconds in stages.items()},
            market_stages=_summed([reply.stages for reply in came.second]),
            latency_s=[latency for delivery in deliveries for latency in delivery.latency_s],
            accepted=sum(delivery.accepted for delivery in deliveries),
            refused=sum(delivery.refused for delivery in deliveries),
        )
        return phase, came.second

    def _each(self, actors: list[Actor], name: str, interval: int) -> list[float]:
        for actor in actors:
            actor.ask(name, interval)
        return [float(actor.answer()) for actor in actors]


@contextmanager
def _running(actor: Actor) -> Iterator[Actor]:
    try:
        yield actor
    finally:
        actor.stop()


def _all(actors: list[Actor]) -> None:
    for actor in actors:
        actor.answer()


def _summed(stages: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in stages for name in each)
    return {name: sum(each.get(name, 0.0) for each in stages) for name in names}


def _together(used: list[Usage]) -> Usage:
    return Usage(sum(u.cpu_s for u in used), sum(u.written_bytes for u in used), sum(u.peak_bytes for u in used))


def _disk_bytes(folders: list[Path]) -> dict[str, int]:
    """Bytes of the shards' files by part: journal of the intake, journal of the market, books, vault."""
    parts = {"intake journal": "journal", "market journal": "market", "books": "books.sqlite", "vault": "vault"}
    sizes = {}
    for part, name in parts.items():
        files = [file for folder in folders for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
        sizes[part] = sum(file.stat().st_size for file in files)
    return sizes
