"""What the processes of a run do: the market of a shard at its desk, and the shard's customers at theirs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tellegen.assess.city.courier import Delivery, deliver
from tellegen.assess.city.population import City, all_moves
from tellegen.assess.city.results import MarketRecord
from tellegen.assess.city.senders import Batch, Senders
from tellegen.assess.city.setup import set_up
from tellegen.operations.shard import GateClosed, Settled, ShardMarket


@dataclass(frozen=True, slots=True)
class Cleared:
    """A gate closed, and the CPU seconds of its stages."""

    outcome: GateClosed
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Booked:
    """An interval settled, and the CPU seconds of its stages."""

    outcome: Settled
    stages: dict[str, float]


class MarketDesk:
    """The market process of a shard."""

    def __init__(self, folder: Path) -> None:
        self._market = ShardMarket.open(folder)
        self._market.stages.taken()

    def close_gate(self, interval: int, root_price_micros: int, known_at: int) -> Cleared:
        """Clear an interval."""
        return Cleared(self._market.close_gate(interval, root_price_micros, known_at), self._market.stages.taken())

    def settle(self, interval: int, known_at: int) -> Booked:
        """Settle an interval."""
        return Booked(self._market.settle(interval, known_at), self._market.stages.taken())

    def close(self) -> None:
        """Release the files."""
        self._market.close()


@dataclass(frozen=True, slots=True)
class Sent:
    """What has to be on record of a batch: name of the submission, digest of its body, rows."""

    source: str
    name: str
    body_sha256: str
    rows: int


class LoadDesk:
    """The customers, meters and concentrators of a shard; everything here stands outside the measured time."""

    def __init__(self, city: City, shard: int, folder: Path) -> None:
        self._population, keys = set_up(city, shard, folder)
        self._moves = all_moves(city, shard, self._population)
        self._senders = Senders(city, shard, self._population, keys)
        self._record: MarketRecord | None = None
        self._folder = folder
        self._ready: list[Batch] = []
        self._sent: list[Sent] = []

    def make_bids(self, interval: int) -> float:
        """Draw and sign the bids of an interval; CPU seconds."""
        start = time.process_time()
        if interval in self._moves:
            self._senders.move(self._moves[interval])
        self._ready = self._senders.bids(interval)
        return time.process_time() - start

    def make_readings(self, interval: int) -> float:
        """Read the awards, and code and sign the readings that follow from them; CPU seconds."""
        start = time.process_time()
        if self._record is None:
            self._record = MarketRecord(self._folder, self._population)
        self._ready = self._senders.readings(interval, self._record.awarded(interval))
        return time.process_time() - start

    def deliver(self, address: tuple[str, int]) -> Delivery:
        """Send what is ready, and wait for every receipt."""
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
        """Release the files."""
        if self._record is not None:
            self._record.close()
