"""Plays a city by its timetable: sends, waits for receipts, tells the markets the time, and measures each of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from tellegen.assess.city.audit import Findings, audit
from tellegen.assess.city.course import CLOSING_DAY, Course, start_of
from tellegen.assess.city.intakes import IntakeServer
from tellegen.assess.city.market_desk import Did, MarketDesk
from tellegen.assess.city.phases import Bulk, CityRun, Interval, Phase, Upkeep, summed, together
from tellegen.journal.clock import Told
from tellegen.operations.timetable import Verb, periods, settle_at
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.service.client import Delivery
from tellegen.simulation.city.actors import Actor, Chained, chained
from tellegen.simulation.city.load import LoadDesk, Sent
from tellegen.simulation.city.population import City, Draw, generator
from tellegen.spawned import pooled
from tellegen.units import MICROS

BID_S, DAY_AHEAD_BID_S = 150, 240
"""Bids are sent so long before their gate."""
READ_S = 1
"""Readings are sent so long after their interval."""
PRICES = (0.20, 0.30)
ROW_RECEIPTS_MAX = 1_000
CLEARINGS_AGAIN = 3
_MORE = (Verb.OPEN_DAY, Verb.CORRECT, Verb.CLOSE_DAY, Verb.SNAPSHOT)
Prices = Mapping[tuple[str, int], int]


def play(course: Course, folder: Path, progress: Callable[[str], None]) -> CityRun:
    """Set a city up in an empty folder, play its course, and audit what is on record.

    Raises
    ------
    WorkerError : a process failed. InputError : the city cannot be made, or this system cannot be measured.
    """
    started, city = time.perf_counter(), course.city
    folders = [folder / f"shard{shard}" for shard in range(city.shards)]
    told = [Told(folder / f"time{shard}") for shard in range(city.shards)]
    for each in told:
        each.tell(course.since)
    with ExitStack() as stack:
        progress(f"enrolling {city.meters} customers in {city.shards} shards")
        load = [
            stack.enter_context(_running(Actor(LoadDesk, city, k, f, t)))
            for k, (f, t) in enumerate(zip(folders, told, strict=True))
        ]
        _answers(load)
        progress("starting intakes and markets")
        intakes = [IntakeServer(f, t) for f, t in zip(folders, told, strict=True)]
        for intake in intakes:
            stack.callback(intake.stop)
        desks = [Actor(MarketDesk, f, t, course.since, city.begin) for f, t in zip(folders, told, strict=True)]
        market = [stack.enter_context(_running(desk)) for desk in desks]
        for intake in intakes:
            intake.wait()
        _answers(market)
        set_up_s = time.perf_counter() - started
        table = _Table(course, load, intakes, market, progress)
        table.play()
        sent = [desk.call("sent") for desk in load]
        for desk in (*market, *load):
            desk.call("close")
    progress("auditing the record")
    findings = _audited(city, folders, sent, table.receipts)
    return CityRun(
        city=city,
        feeders=table.played[0].binding.size,
        warm_up=table.played[: city.warm_up],
        intervals=table.played[city.warm_up :],
        findings=findings,
        set_up_s=set_up_s,
        bulk=table.bulk,
        day_intervals=len(course.closing),
        with_readings=sum(t in course.closing for t in (*course.whole, *course.tail, city.first_interval)),
        day_ahead=table.day_ahead,
        made_day_ahead_s=table.made_day_ahead_s,
        upkeep=table.upkeep,
        disk_bytes=_disk_bytes(folders),
    )


def _audited(
    city: City, folders: Sequence[Path], sent: Sequence[list[Sent]], receipts: Sequence[list[tuple[int, str]]]
) -> Findings:
    """What the audits of all shards found, each in a process of its own."""
    rows, clearings = min(ROW_RECEIPTS_MAX, city.meters // 10) // city.shards, -(-CLEARINGS_AGAIN // city.shards)
    with pooled(city.shards) as processes:
        found = [
            processes.submit(audit, city, k, place, sent[k], receipts[k], rows, clearings)
            for k, place in enumerate(folders)
        ]
        return reduce(Findings.and_also, (each.result() for each in found))


class _Table:
    """The processes of a run, around the one who says what is done next."""

    def __init__(
        self,
        course: Course,
        load: list[Actor],
        intakes: list[IntakeServer],
        market: list[Actor],
        progress: Callable[[str], None],
    ) -> None:
        self._course, self._city = course, course.city
        self._load, self._intakes, self._market = load, intakes, market
        self._progress = progress
        self._wait_s = course.book.at(CLOSING_DAY).timetable.reading_wait_s
        self._prices = generator(course.city.seed, Draw.PRICES)
        self.receipts: list[list[tuple[int, str]]] = [[] for _ in load]
        self.played: list[Interval] = []
        self.bulk = Bulk()
        self.upkeep: list[Upkeep] = []
        self.day_ahead: Phase | None = None
        self.made_day_ahead_s = 0.0

    def play(self) -> None:
        """From the first interval of the market to the run of corrections behind the last."""
        course, rounds = self._course, self._city.rounds
        steps: list[tuple[int, Callable[[], None]]] = []
        for interval in (*course.whole, *course.tail):
            steps.append((start_of(interval + 1) + READ_S, lambda t=interval: self._read(t)))  # type: ignore[misc]
        if course.day_ahead_at is not None:
            steps.append((course.day_ahead_at, self._day_ahead))
        if course.close_at is not None and course.close_at < start_of(rounds[0]):
            steps.append((course.close_at, self._close))
        steps.sort(key=lambda step: step[0])
        bid_at = start_of(rounds[0]) - BID_S
        for _, step in (each for each in steps if each[0] < bid_at):
            step()
        self._catch_up(bid_at)
        waiting: tuple[int, Phase, float] | None = None
        for interval in rounds:
            bids = self._bid(interval)
            if waiting is not None:
                self._book(*waiting)
            else:  # readings of the interval before it come when its bids are in
                for _, step in (each for each in steps if each[0] >= bid_at):
                    step()
                self._catch_up(start_of(interval) + self._wait_s)  # or the bids that are measured first would settle it
            waiting = interval, *bids
        assert waiting is not None
        self._catch_up(start_of(rounds.stop))
        self._book(*waiting)
        if course.behind:
            self.upkeep += self._advance(settle_at(course.book, rounds[-1]))

    # The measured intervals

    def _bid(self, interval: int) -> tuple[Phase, float]:
        """From new bids to prices; the phase, and what the bids cost."""
        self._progress(f"{self._name(interval)}: drawing and signing bids")
        made_s = sum(self._each(self._load, "make_bids", interval))
        self._progress(f"{self._name(interval)}: bids to prices")
        gate = start_of(interval)
        prices = {(REAL_TIME, interval): self._price()}
        return self._phase(gate - BID_S, gate, prices, Verb.CLOSE_REAL_TIME), made_s

    def _book(self, interval: int, bids: Phase, made_bids_s: float) -> None:
        """From readings to balances."""
        name, rounds = self._name(interval), self._city.rounds
        self._progress(f"{name}: awards, coding and signing readings")
        for desk, intake in zip(self._load, self._intakes, strict=True):
            desk.ask("ask_awards", intake.address, interval)
        asked = _answers(self._load)
        late = [interval - 1] if interval - 1 in rounds else []
        if interval in rounds[1:]:
            late += self._course.tail[interval - rounds[1] : interval - rounds[1] + 1]
        made_s = sum(self._each(self._load, "make_readings", interval, False, late))
        self._progress(f"{name}: readings to books")
        end = start_of(interval + 1)
        settles = end + self._wait_s
        readings = self._phase(end + READ_S, settles, {}, Verb.SETTLE)
        played = Interval(bids, readings, made_bids_s, made_s, asked, self._advance(settles))
        self.played.append(played)
        self.upkeep += played.upkeep
        self._progress(
            f"{name}: {played.wall_s:.1f} s of 300 ({bids.total_s:.1f} s bids to prices, {readings.total_s:.1f} s "
            "readings to books)"
        )
        for each in played.upkeep:
            if each.wall_s > 0.1:
                self._progress(f"{name}: {each.verb} in {each.wall_s:.1f} s")

    # The day before

    def _read(self, interval: int) -> None:
        """Readings of an interval in which nobody bids; of the last ones some are held back."""
        self._progress(f"readings of interval {interval - self._city.begin} of the day before")
        self._each(self._load, "make_readings", interval, interval in self._course.whole, [])
        at = start_of(interval + 1) + READ_S
        for desk, intake in zip(self._load, self._intakes, strict=True):
            desk.ask("deliver", intake.address, at)
        self._keep(_answers(self._load))

    def _day_ahead(self) -> None:
        course = self._course
        assert course.day_ahead_at is not None
        hours = periods(course.delivery)
        self._catch_up(course.day_ahead_at - DAY_AHEAD_BID_S)
        self._progress("drawing and signing bids of a day")
        self.made_day_ahead_s = sum(self._each(self._load, "make_day_ahead", course.delivery.start, len(hours)))
        self._progress("day-ahead: bids to prices")
        prices = {(DAY_AHEAD, hour.start): self._price() for hour in hours}
        at = course.day_ahead_at
        self.day_ahead = self._phase(at - DAY_AHEAD_BID_S, at, prices, Verb.CLOSE_DAY_AHEAD)
        self._progress(f"day-ahead: {self.day_ahead.total_s:.1f} s")

    def _close(self) -> None:
        """The day ends before the intervals that are measured."""
        at = self._course.close_at
        assert at is not None
        self._catch_up(at - self._wait_s)
        self._progress("closing the day before")
        self._ask(at, {}, Verb.SETTLE)
        self.upkeep += self._advance(at)

    def _catch_up(self, until: int) -> None:
        """Everything that is due, whatever is missing for it."""
        self._progress(f"the market goes on to interval {until // 300 - self._city.begin} of the day before")
        start = time.perf_counter()
        did = self._ask(until, {}, None)
        self.bulk.wall_s += time.perf_counter() - start
        self.bulk.intervals += sum(each.verb is Verb.SETTLE for each in did[0])
        self.bulk.cpu_s += sum(
            each.cpu_s for shard in did for each in shard if each.verb in (Verb.SETTLE, Verb.CLOSE_REAL_TIME)
        )
        self.upkeep += Upkeep.of([[each for each in shard if each.verb in _MORE] for shard in did])

    # Asking

    def _advance(self, until: int) -> list[Upkeep]:
        """What is due beside gates and settlement."""
        return Upkeep.of([[each for each in shard if each.verb in _MORE] for shard in self._ask(until, {}, None)])

    def _ask(self, until: int, prices: Prices, through: Verb | None) -> list[list[Did]]:
        for desk in self._market:
            desk.ask("advance", until, prices, through)
        return _answers(self._market)

    def _phase(self, send_at: int, until: int, prices: Prices, through: Verb) -> Phase:
        before = [[each.usage() for each in kind] for kind in (self._intakes, self._market, self._load)]
        stages_before = summed([intake.stages() for intake in self._intakes])
        asked = [("deliver", intake.address, send_at) for intake in self._intakes]
        came: Chained = chained(self._load, self._market, asked, ("advance", until, prices, through))
        after = [[each.usage() for each in kind] for kind in (self._intakes, self._market, self._load)]
        deliveries: list[Delivery] = came.first
        self._keep(deliveries)
        used = [together([a.since(b) for a, b in zip(*kind, strict=True)]) for kind in zip(after, before, strict=True)]
        stages = summed([intake.stages() for intake in self._intakes])
        return Phase(
            sent_s=came.first_s,
            total_s=came.total_s,
            intake=used[0],
            market=used[1],
            load=used[2],
            intake_stages={stage: seconds - stages_before.get(stage, 0.0) for stage, seconds in stages.items()},
            did=came.second,
            latency_s=[latency for delivery in deliveries for latency in delivery.latency_s],
            accepted=sum(delivery.accepted for delivery in deliveries),
            refused=sum(delivery.refused for delivery in deliveries),
        )

    def _keep(self, deliveries: list[Delivery]) -> None:
        for kept, delivery in zip(self.receipts, deliveries, strict=True):
            kept += delivery.receipts

    def _each(self, actors: list[Actor], name: str, *given: object) -> list[float]:
        for actor in actors:
            actor.ask(name, *given)
        return [float(seconds) for seconds in _answers(actors)]

    def _name(self, interval: int) -> str:
        place = interval - self._city.first_interval - self._city.warm_up + 1
        return f"interval {place} of {self._city.intervals}" if place > 0 else "warm-up interval"

    def _price(self) -> int:
        return round(float(self._prices.uniform(*PRICES)) * MICROS)


@contextmanager
def _running(actor: Actor) -> Iterator[Actor]:
    try:
        yield actor
    finally:
        actor.stop()


def _answers(actors: list[Actor]) -> list[Any]:
    return [actor.answer() for actor in actors]


def _disk_bytes(folders: list[Path]) -> dict[str, int]:
    """Bytes of the shards' files by part: journal of the intake, journal of the market, books, vault."""
    parts = {"intake journal": "journal", "market journal": "market", "books": "books.sqlite", "vault": "vault"}
    sizes = {}
    for part, name in parts.items():
        files = [file for folder in folders for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
        sizes[part] = sum(file.stat().st_size for file in files)
    return sizes
