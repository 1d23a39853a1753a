"""A shard that has been running for days, written in bulk: what an opening finds.

Customers, wires and rules are those of the synthetic city. The first interval is played by the market itself: every
customer's bid, its clearing, its settlement. What follows is put on record as intake and market do it, in the same
kinds, names and causes, but it repeats the first interval, and nobody signed it. Days are opened and closed by the
market's own verbs. Only the last intervals, which no snapshot has folded, are there with all their rows: before those
an interval has twenty bids a feeder, what was cleared in one row, and everybody's readings and energy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.intake.known import OWNER, STATE, Known
from tellegen.intake.sent import SentBids
from tellegen.journal import Journal
from tellegen.metering import ReplayWindow
from tellegen.operations.market import Market
from tellegen.operations.state import GATE, READ
from tellegen.operations.timetable import close_at, settle_at
from tellegen.operations.writer import Writer
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.privacy.snapshots import SnapshotFolder
from tellegen.records import (
    Clearings,
    Energy,
    Gates,
    Postings,
    Readings,
    RootPrices,
    Route,
    Statement,
    Table,
    Ticks,
)
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.registry import SIGNING_PURPOSE, Directory
from tellegen.rules import Rulebook
from tellegen.rules.days import day_bounds, day_of
from tellegen.simulation.city.batches import Whereabouts
from tellegen.simulation.city.gateways import Gateways
from tellegen.simulation.city.population import City, all_moves
from tellegen.simulation.city.setup import set_up
from tellegen.simulation.shard import HEAD_END
from tellegen.units import MARKET_INTERVAL_S

FIRST = 4_923_912
"""First interval of a local day, 2016-10-22 22:00 UTC."""
SNAPSHOT_EVERY = 12
DAY = 288
OPEN_INTERVALS = 2 * SNAPSHOT_EVERY
"""Intervals of the open day that are on record: a snapshot stands in the middle, and the next one is due."""
BIDDERS = 20
ROOT_PRICE = 250_000
SECONDS_OF_QUIET = 10
_NO_SIGNATURE = bytes(64)


def length_of(days: int) -> int:
    """Intervals from the first to the one whose gate closes next, `days` closed days later."""
    book = Rulebook.load()
    return day_bounds(book, day_of(book, FIRST) + timedelta(days)).start - FIRST + OPEN_INTERVALS


@dataclass(frozen=True, slots=True)
class Repeated:
    """The tables of the interval that is repeated: its gate, and by feeder what was cleared and settled."""

    gate: Gates
    cleared: dict[str, list[Table]]
    settled: dict[str, list[Table]]

    @classmethod
    def of(cls, market: Market, since: int) -> Repeated:
        """What a market has put on record from an entry on."""
        record = market.record
        tables = dict(record.tables(range(since, len(record.journal))))
        gate, cleared, settled = Gates.empty(), dict[str, list[Table]](), dict[str, list[Table]]()
        for index, table in sorted(tables.items()):
            header = record.header(index)
            if isinstance(table, Gates):
                gate = table
            elif header.name.startswith(GATE):
                cleared.setdefault(header.feeder, []).append(table)
            elif isinstance(table, Energy | Postings):
                settled.setdefault(header.feeder, []).append(table)
        return cls(gate, cleared, settled)


class History:
    """A shard whose intake and market have been running for a number of intervals.

    Parameters
    ----------
    folder : empty or absent. meters : customers, 200 at least.
    """

    def __init__(self, folder: Path, meters: int) -> None:
        city = City(meters, 1, FIRST - 2, shards=1)  # whoever moves has moved before the first interval
        population, self.keys = set_up(city, 0, folder)
        places = Whereabouts(population, all_moves(city, 0, population))
        bids = Gateways(city, 0, population, self.keys, places).real_time(FIRST)
        self._offers = [(batch.statement, SentBids.from_bytes(batch.body)) for batch in bids]
        feeder, _ = places.at(FIRST)
        self.customers = {
            wires.name: np.append(population.customer[feeder == k], wires.substation).astype(np.int32)
            for k, wires in enumerate(population.feeders)
        }

    def write(self, intervals: int) -> None:
        """Put intervals on record, up to when the next snapshots are due.

        Parameters
        ----------
        intervals : settled but for the last, whose gate is closed; a multiple of twelve.
        """
        self._write_intake(intervals)
        processes = 2 if len(self.customers) > 1 else 0
        with Market.open(self.keys.path, processes=processes) as market:
            _Played(market, intervals).write()

    # The intake's journal

    def _write_intake(self, intervals: int) -> None:
        with (
            Vault.open(self.keys.path / "vault") as vault,
            Journal.open(self.keys.path, vault.purpose_key(SIGNING_PURPOSE)) as journal,
        ):
            snapshots = SnapshotFolder(journal, self.keys.path / STATE, vault, OWNER)
            known = Known(Directory.of(journal, vault), ReplayWindow(), 0, ())
            for k in range(-2, intervals - 1):
                at = (FIRST + k + 1) * MARKET_INTERVAL_S + 30
                if k > 0 and (k + 1) % (DAY if k < intervals - DAY else SNAPSHOT_EVERY) == 0:
                    record = known.kept(snapshots, [], len(journal))
                    Recorder(journal, vault, "").put(record, Span(at, FIRST + k))
                    journal.commit(at)
                    snapshots.keep()
                if k >= -1:
                    self._put_readings(journal, vault, known, k, at)
                full = k + 2 == 0 or k + 2 >= intervals - SNAPSHOT_EVERY
                self._put_bids(journal, vault, FIRST + k + 2, at, full=full)
                journal.commit(at)
            at += SECONDS_OF_QUIET  # or an opening would look whether the last batch is whole, and who signed it
            Recorder(journal, vault, "").put(Ticks(time=np.array([at])), Span(at, FIRST + intervals - 1))
            journal.commit(at)

    def readings(self, customers: NDArray[np.int32], k: int) -> Readings:
        """Registers of meters at the end of an interval; the same energy flows in each."""
        number = customers.astype(np.int64)
        spread = number % 97
        return Readings(
            customer=customers,
            meter=self.keys.meters_of(customers),
            counter=np.full(customers.size, k + 2),
            import_wh=1000 * spread + (k + 1) * (20 + spread),
            export_wh=10 * spread,
            reactive_varh=spread - 40,
            voltage_mv=230_000 + 10 * spread,
            tag=np.zeros(customers.size, dtype="V16"),  # no opening looks at the code of a meter
        )

    def _put_readings(self, journal: Journal, vault: Vault, known: Known, k: int, at: int) -> None:
        for number, (name, customers) in enumerate(self.customers.items(), (k + 1) * len(self.customers)):
            readings = self.readings(customers, k)
            known.replay.mark(readings.meter, readings.counter)
            said = Statement.of(self.keys.origin, Route.READINGS, HEAD_END, name, "", FIRST + k, number, b"")
            _append(journal, vault, said, (readings,), at)

    def _put_bids(self, journal: Journal, vault: Vault, interval: int, at: int, *, full: bool) -> None:
        for said, sent in self._offers:
            some = sent if full else sent.take(np.arange(len(sent.submissions)) < BIDDERS)
            number = said.sequence + len(self._offers) * (interval - FIRST)
            fields = said.origin, said.route, said.source, said.feeder, said.market
            again = Statement.of(*fields, interval, number, b"")
            _append(journal, vault, again, (some.orders, some.submissions), at)


def _append(journal: Journal, vault: Vault, said: Statement, tables: tuple[Table, ...], at: int) -> None:
    causes: tuple[int, ...] = ()
    for table in tables:
        batch = vault.seal_live(
            table,
            feeder=said.feeder,
            interval=said.interval,
            intervals=1,
            source=said.source,
            known_at=at,
            name=said.name(),
            market=said.market,
            causes=causes,
            evidence=said.evidence(_NO_SIGNATURE),
        )
        causes = (journal.append(batch),)


class _Played:
    """The market's journal over a number of intervals."""

    def __init__(self, market: Market, intervals: int) -> None:
        self._market, self._last = market, FIRST + intervals - 1
        self._writer = Writer(market.record, market.state, market.stages)

    def write(self) -> None:
        market, book = self._market, self._market.book
        market.record.refresh()
        priced = np.append(FIRST, np.arange(self._last - SNAPSHOT_EVERY, self._last + 2))
        market.take_prices(
            REAL_TIME,
            RootPrices(
                interval=priced,
                micros=np.full(priced.size, ROOT_PRICE),
                source=np.full(priced.size, b"bench", dtype="S64"),
            ),
            FIRST * MARKET_INTERVAL_S,
        )
        repeated: Repeated | None = None
        for t in range(FIRST, self._last + 1):
            day = day_of(book, t)
            bounds = day_bounds(book, day)
            if t == bounds.start:
                market.open_day(day, t * MARKET_INTERVAL_S)
                market.close_gate(DAY_AHEAD, t, t * MARKET_INTERVAL_S)
            if repeated is None:
                since = len(market.record.journal)
                market.close_gate(REAL_TIME, t, t * MARKET_INTERVAL_S)
                market.settle(t, settle_at(book, t))
                repeated = Repeated.of(market, since)
            else:
                self._repeat(repeated, t)
            if (t + 1) % SNAPSHOT_EVERY == 0 or t > self._last - SNAPSHOT_EVERY:  # the last ones have all their rows
                self._writer.commit(settle_at(book, t))
            if t == bounds[-1]:
                self._close(day)
            if t == bounds[-1] or t == self._last - SNAPSHOT_EVERY:
                market.snapshot(settle_at(book, t))
        self._writer.post(market.ledger)

    def _close(self, day: date) -> None:
        at = close_at(self._market.book, day)
        self._market.correct(at, at)
        self._market.close_day(day, at)

    def _repeat(self, repeated: Repeated, t: int) -> None:
        record, put = self._market.record, self._writer.put
        full, at = t > self._last - SNAPSHOT_EVERY, t * MARKET_INTERVAL_S
        cut, span = record.submitted.cut(at), Span(self._writer.time(at), t, 1, REAL_TIME)
        assert cut is not None
        count = len(repeated.gate)
        rows = replace(repeated.gate, interval=np.full(count, t), cut=np.full(count, cut))
        name = f"{GATE}{cut}"
        gate = put(rows, span, name=name)
        cleared = {}
        for feeder, tables in repeated.cleared.items():
            causes = [gate]
            for table in tables:
                if full or isinstance(table, Clearings):
                    follows = causes if isinstance(table, Clearings) else causes[:1]
                    causes.append(put(table, span, feeder=feeder, name=name, causes=tuple(follows)))
            cleared[feeder] = causes[-1]
        if t < self._last:
            self._settle(repeated, t, cleared, full=full)

    def _settle(self, repeated: Repeated, t: int, cleared: dict[str, int], *, full: bool) -> None:
        due = settle_at(self._market.book, t)
        record, span = self._market.record, Span(self._writer.time(due), t, 1, REAL_TIME)
        cut = record.submitted.cut(due)
        cut = len(record.intake) if cut is None else cut
        for feeder, tables in repeated.settled.items():
            energy = -1
            for table in tables:
                if isinstance(table, Energy):
                    energy = self._writer.put(table, span, feeder=feeder, name=f"{READ}{cut}")
                elif isinstance(table, Postings) and (full or t % SNAPSHOT_EVERY == 0):
                    postings = replace(table, interval=np.full(len(table), t))
                    self._writer.put(postings, span, feeder=feeder, causes=(energy, cleared[feeder]))
