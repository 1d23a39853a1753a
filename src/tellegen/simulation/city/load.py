"""The process of those who send: customers, meters and concentrators of a shard, outside the measured time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tellegen.journal.clock import Told
from tellegen.service.client import Delivery, IntakeClient, deliver
from tellegen.simulation.city.batches import Batch, Whereabouts
from tellegen.simulation.city.gateways import Gateways
from tellegen.simulation.city.head_end import HeadEnd
from tellegen.simulation.city.population import City, all_moves
from tellegen.simulation.city.setup import city_rules, set_up
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True)
class Sent:
    """What has to be on record of a batch: name of the submission, digest of its body, rows."""

    source: str
    name: str
    body_sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Asked:
    """How a round of requests for awards went: wall seconds, and customers that were spoken for."""

    wall_s: float
    customers: int


class LoadDesk:
    """Makes a shard with everybody in it, and sends what they send.

    Parameters
    ----------
    told : the time, which goes on with what is sent.
    """

    def __init__(self, city: City, shard: int, folder: Path, told: Told) -> None:
        population, keys = set_up(city, shard, folder, city_rules(city))
        places = Whereabouts(population, all_moves(city, shard, population))
        self._gateways = Gateways(city, shard, population, keys, places)
        self._head_end = HeadEnd(city, shard, population, keys, places)
        self._told, self._key = told, keys.vkey
        self._awarded: dict[int, tuple[IntArray, IntArray]] = {}
        self._ready: list[Batch] = []
        self._sent: list[Sent] = []

    def make_bids(self, interval: int) -> float:
        """Draw and sign the bids of an interval; CPU seconds."""
        start = time.process_time()
        self._ready = self._gateways.real_time(interval)
        return time.process_time() - start

    def make_day_ahead(self, first: int, hours: int) -> float:
        """Draw and sign the bids of a day; CPU seconds."""
        start = time.process_time()
        self._ready = self._gateways.day_ahead(first, hours)
        return time.process_time() - start

    def ask_awards(self, address: tuple[str, int], interval: int) -> Asked:
        """Every gateway asks for its customers' awards of an interval."""
        start = time.perf_counter()
        client = IntakeClient(f"http://{address[0]}:{address[1]}", self._key)
        asked_at = int(self._told.time())
        answers = [client.awards(*signed) for signed in self._gateways.requests(interval, asked_at)]
        self._awarded = {interval: self._gateways.awarded(interval, answers)}
        return Asked(time.perf_counter() - start, sum(answer.whose.size for answer in answers))

    def make_readings(self, interval: int, all_come: bool, late: Sequence[int]) -> float:
        """Code and sign the readings of an interval, and what is late of others; CPU seconds."""
        start = time.process_time()
        awarded = self._awarded.pop(interval) if interval in self._awarded else self._head_end.used(interval)
        self._ready = self._head_end.readings(interval, *awarded, all_come=all_come)
        for earlier in late:
            self._ready += self._head_end.later(earlier)
        return time.process_time() - start

    def deliver(self, address: tuple[str, int], at: int) -> Delivery:
        """Send what is ready at a time, and wait for every receipt."""
        self._told.tell(at)
        delivery = deliver(address, self._ready)
        self._sent += [
            Sent(b.statement.source, b.statement.name(), b.statement.body_sha256, b.rows) for b in self._ready
        ]
        self._ready = []
        return delivery

    def sent(self) -> list[Sent]:
        """Everything that was sent and answered with receipts."""
        return self._sent

    def close(self) -> None:
        """Nothing is held."""
