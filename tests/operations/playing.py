"""A shard of two feeders with its intake, its market and everybody who sends to it, on a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.intake.intake import Intake
from tellegen.intake.sent import SentBids, SentReadings
from tellegen.journal.clock import RecordClock
from tellegen.operations.awards import awarded_to
from tellegen.operations.clock import Simulated
from tellegen.operations.market import Market
from tellegen.operations.process import Event, Operator
from tellegen.operations.record import ShardRecord
from tellegen.records import Readings, RootPrices, Route, Statement
from tellegen.rules import Rulebook
from tellegen.simulation.city.batches import Batch, Whereabouts
from tellegen.simulation.city.gateways import Gateways, gateway_of
from tellegen.simulation.city.head_end import HeadEnd
from tellegen.simulation.city.population import City, all_moves
from tellegen.simulation.city.setup import set_up
from tellegen.units import MARKET_INTERVAL_S

FIRST = 4_923_912  # 2016-10-22 22:00 UTC, local midnight
ROOT_PRICE = 250_000


def by_gates(book: Rulebook) -> Rulebook:
    """The same rules, but real time settles at the prices of its gates: those do not depend on who was read in time."""
    files = {each.name: each.content.replace(b"settles = true", b"settles = false") for each in book.versions}
    return Rulebook.parse(files, "by gates")


def quarter_hours() -> Rulebook:
    """The default rules, by which intervals wait for meters of a quarter of an hour."""
    said = {
        each.name: each.content.replace(b"longest_meter_minutes = 5", b"longest_meter_minutes = 15")
        for each in Rulebook.load().versions
    }
    return Rulebook.parse(said, "quarter hours")


Keep = Callable[[int, Readings], NDArray[np.bool_]]


class Street:
    """Two feeders of some two hundred customers each; `play` lets time go on.

    Parameters
    ----------
    keep : which rows of an interval's readings come in time; None: all do.
    priced : whether an interval has a wholesale price.
    rulebook : the rules on record; None: the default ones. last : interval of the market; None: it goes on.
    coarse, silent : shares of meters of a quarter of an hour, and of those that nothing is heard of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first: int = FIRST,
        meters: int = 400,
        keep: Keep | None = None,
        priced: Callable[[int], bool] = lambda interval: True,
        rulebook: Rulebook | None = None,
        last: int | None = None,
        coarse: float = 0.0,
        silent: float = 0.0,
    ) -> None:
        self.folder, self.first, self._keep, self._priced = folder, first, keep, priced
        self.city = City(meters, 3, first, shards=1, coarse=coarse, silent=silent)
        self.population, self.keys = set_up(self.city, 0, folder, rulebook, last)
        places = Whereabouts(self.population, all_moves(self.city, 0, self.population))
        self.gateways = Gateways(self.city, 0, self.population, self.keys, places)
        self.head_end = HeadEnd(self.city, 0, self.population, self.keys, places)
        self.clock = Simulated((first - 2) * MARKET_INTERVAL_S)
        self.intake = self.open_intake()
        self.stop = threading.Event()
        self.events: list[Event] = []
        self.kept_back: dict[int, list[Batch]] = {}

    def open_intake(self) -> Intake:
        """The intake, on the street's clock."""
        return Intake.open(
            self.folder,
            clock=lambda newest: RecordClock(
                wall=lambda: float(self.clock.now()), elapsed=self.clock.elapsed, not_before=newest
            ),
        )

    def schedule(self, intervals: range) -> None:
        """What happens outside in some intervals, and the ticks of the intake's clock."""
        for interval in intervals:
            start = interval * MARKET_INTERVAL_S
            self.clock.at(start - 2, lambda t=interval: self.bid(t))  # type: ignore[misc]
            self.clock.at(start, lambda t=interval: self.read(t - 1))  # type: ignore[misc]
            for later in (0, 60, 61):
                self.clock.at(start + later, self.tick)

    def market(self) -> Market:
        """The market, open."""
        return Market.open(self.folder)

    def play(self, until: int, market: Callable[[], AbstractContextManager[Market]] | None = None) -> None:
        """Let the operator do what is due until a time."""
        Operator(market or self.market, self.clock, self.stop, tell=self.events.append).run(until)

    # Acts

    def tick(self) -> None:
        """The intake's record reaches now."""
        self.intake.tick(self.clock.now())
        self.intake.commit()

    def bid(self, interval: int) -> None:
        """Everybody bids, and the wholesale price is published."""
        for batch in self.gateways.real_time(interval):
            self.take(batch)
        self.intake.commit()

    def read(self, interval: int) -> None:
        """Readings that follow the awards come in; those that are not kept wait in `kept_back`."""
        if interval < self.first:
            return
        with ShardRecord.open(self.folder) as record:
            sources = [gateway_of(feeder.name) for feeder in self.population.feeders]
            awarded = self.gateways.awarded(
                interval, [awarded_to(record, source, "real_time", interval) for source in sources]
            )
        for batch in self.head_end.readings(interval, *awarded, all_come=True):
            if self._keep is None:
                self.take(batch)
                continue
            table = Readings.from_bytes(batch.body)
            mask = self._keep(interval, table)
            if mask.any():
                self.take(self.signed(batch, table.take(mask).rows().tobytes()))
            if not mask.all():
                again = self.signed(batch, table.take(~mask).rows().tobytes(), batch.statement.sequence + 1_000_000)
                self.kept_back.setdefault(interval, []).append(again)
        self.intake.commit()

    def take(self, batch: Batch) -> int:
        """Hand a batch in; rows that count."""
        read = SentBids.from_bytes if batch.statement.route is Route.BIDS else SentReadings.from_bytes
        return self.intake.take(batch.statement, batch.signature, lambda: read(batch.body)).accepted

    def signed(self, batch: Batch, body: bytes, sequence: int | None = None) -> Batch:
        """The same batch with another body."""
        said = batch.statement
        number = said.sequence if sequence is None else sequence
        statement = Statement.of(
            said.origin, said.route, said.source, said.feeder, said.market, said.interval, number, body
        )
        return Batch(statement, self.keys.sign_as(said.source, statement.to_bytes()), body, batch.rows)

    def prices(self, market: Market, intervals: range) -> None:
        """Real-time wholesale prices of intervals go on record."""
        priced = np.array([t for t in intervals if self._priced(t)], dtype=np.int64)
        source = np.full(priced.size, b"test", dtype="S64")
        micros = ROOT_PRICE + 1_000 * (priced % 7)
        market.take_prices("real_time", RootPrices(interval=priced, micros=micros, source=source), self.clock.now())

    def close(self) -> None:
        """Release the files."""
        self.intake.close()
