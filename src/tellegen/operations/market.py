"""The market of a shard: the operator's verbs, each one commit of its journal, in the order of the timetable.

``open_day -> take_prices -> close_gate -> settle (on a price run) -> correct -> close_day -> finalise``

A verb reads the state, puts records on the journal, commits, and only then hands the same records to the state: what
the operator knows is a fold of the record, whoever folds it (`operations.state`). So a crash within a verb leaves
nothing of it, or all of it, and asking for it again does the rest. Where a verb needs several commits (a gate: first
its cut and price, then what was cleared), what each left is on record and the next call goes on from there.

Every verb takes the time at which it is done (`at`, seconds since the epoch). What the rules need is the scheduled
time, which follows from the interval: so a market that was down does the same things afterwards, or says by the
rulebook that it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Self

import numpy as np

from tellegen.books import Ledger
from tellegen.grid import Engine
from tellegen.intake.stages import Stages
from tellegen.journal import Journal, JournalError
from tellegen.journal.database import SQLITE, Databases
from tellegen.journal.storage import FILES, Storage
from tellegen.metering.past import Past
from tellegen.operations.booked import booked, bring_up
from tellegen.operations.clearers import Clearers
from tellegen.operations.closing import closes_row
from tellegen.operations.compaction import Filed, compact_own
from tellegen.operations.correcting import Corrected, Correcting
from tellegen.operations.correction_file import CorrectionFile
from tellegen.operations.day import close_feeders, frozen_keys
from tellegen.operations.erasure import due_day, last_compactable
from tellegen.operations.gating import GateClosed, Gating
from tellegen.operations.keeping import restore, state_parts
from tellegen.operations.orders import Ordering, Unwound
from tellegen.operations.price_proof import NOTHING, Provenance
from tellegen.operations.price_record import put_prices
from tellegen.operations.record import MARKET, MARKET_KEY, ShardRecord
from tellegen.operations.refusals import MarketError, NotYetError
from tellegen.operations.runs import PriceRuns
from tellegen.operations.settling import Settled, Settling
from tellegen.operations.state import CLOSE, NONE, State
from tellegen.operations.tasks import TaskMaker
from tellegen.operations.timetable import Due, Verb, close_at, day_bounds, day_number, final_at, open_at, settle_at
from tellegen.operations.writer import Writer
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Span
from tellegen.privacy.snapshots import KEPT
from tellegen.records import CloseKind, ErasureRequests, Requirements, RootPrices
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S

_ASKED = ("interval", "product", "quantity_w", "price_micros")
"""Columns of `Requirements`."""


@dataclass(frozen=True, slots=True)
class DayClosed:
    """What a close came to: customers invoiced, their cents together, feeders that had no keys to share by."""

    customers: int
    cents: int
    without_keys: int


class Market:
    """The market of the shard in a directory; `create` makes one, `open` opens it.

    Parameters
    ----------
    record : both journals, the market's for writing.
    clearers : who clear, and know the feeders' networks; the market closes them. engine : who eliminates.
    timed : whether time goes on during a verb, as on the wall clock: then clearings are broken off at their deadline,
        and a day-ahead gate is cleared by `work`, beside real time.
    databases : the disk of the books.
    """

    def __init__(
        self, record: ShardRecord, clearers: Clearers, engine: Engine, *, timed: bool, databases: Databases
    ) -> None:
        self.record, self.stages = record, Stages()
        self._timed, self._clearers = timed, clearers
        self.state = State(record.topology, record.rulebook, record.registers)
        if record.kept.entry >= 0:
            restore(self.state, record.kept.parts, record.kept.market_size)
        self._writer = Writer(record, self.state, self.stages)
        self._writer.fold()
        tasks = TaskMaker(record, self.state, engine)
        self._gating = Gating(record, self.state, self._writer, self._clearers, tasks, engine, timed=timed)
        runs = PriceRuns(self.state, self._writer, self._clearers, tasks, engine, timed=timed)
        self._settling = Settling(record, self.state, self._writer, runs)
        self._correcting = Correcting(record, self.state, self._writer)
        self._known_past: tuple[int, Past] | None = None
        books = record.path / "books.sqlite"
        known = databases.exists(books)
        self.ledger = Ledger.open(books, databases=databases) if known else Ledger.create(books, databases)
        bring_up(record, self.ledger)
        self._writer.post(self.ledger)

    @classmethod
    def create(cls, path: Path | str) -> None:
        """Start the market of a shard whose intake has its journal, feeders and rules in `path` already.

        Raises
        ------
        JournalError : there is a market already. InputError : there is no shard.
        """
        folder = Path(path)
        with Journal.open(folder) as intake:
            origin = f"{intake.verifier.name}/market"
        with Vault.open(folder / "vault") as vault:
            Journal.create(folder / MARKET, origin, vault.purpose_key(MARKET_KEY)).close()

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        processes: int = 0,
        engine: Engine = Engine.SUPERLU,
        timed: bool = False,
        storage: Storage = FILES,
        databases: Databases = SQLITE,
    ) -> Self:
        """Open a market, folding what it knows from the journals; its books are brought up to them.

        Parameters
        ----------
        processes : that clear; 0: this one alone. engine, timed : as for the market itself.
        storage, databases : the disk of journals and snapshots, and of vault and books.

        Raises
        ------
        InputError : there is none. JournalError, VaultError : it cannot be read, or another process writes it.
        """
        record, clearers = ShardRecord.open(path, write=True, storage=storage, databases=databases), Clearers(processes)
        try:
            for feeder in record.feeders:
                clearers.know(feeder.network_name, feeder.given)
            clearers.start()  # they load while the record is folded
            return cls(record, clearers, engine, timed=timed, databases=databases)
        except BaseException:
            clearers.close()
            record.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release files and processes; everything that was said to be done is on record."""
        self._clearers.close()
        self.ledger.close()
        self.record.close()

    @property
    def book(self) -> Rulebook:
        """The rulebook on record."""
        return self.state.book

    @property
    def feeders(self) -> tuple[str, ...]:
        """Names of the feeders, in their order."""
        return tuple(self.state.topology.number)

    @property
    def first_day(self) -> date | None:
        """The day whose market is the first; None: the first after the shard was set up."""
        return self.record.first_day

    # What is done

    @property
    def done_until(self) -> int:
        """Time up to which nothing that is due is left to do.

        Before anything is settled, that is before the first day opens, or when the shard was set up.
        """
        if self.state.settled != NONE:
            return settle_at(self.book, self.state.settled) - 1
        if self.first_day is not None:
            return open_at(self.book, self.first_day) - 1
        return self.record.intake.entry(0).known_at if len(self.record.intake) else 0

    def is_done(self, what: Due) -> bool:
        """Whether a verb has been done."""
        state, key = self.state, what.key
        match what.verb:
            case Verb.OPEN_DAY:
                return self._is_opened(what.day)
            case Verb.CLOSE_DAY_AHEAD:
                return self._gating.is_done(DAY_AHEAD, key)
            case Verb.CLOSE_REAL_TIME:
                return self._gating.is_done(REAL_TIME, key)
            case Verb.SETTLE:
                return key <= state.settled or self.record.has_ended(key)
            case Verb.CLOSE_DAY:
                return self._is_closed(what.day)
            case Verb.FINALISE:
                return state.is_final(day_bounds(self.book, what.day).start)
        return False  # corrections, snapshots, publication: done again where there is nothing new, they do nothing

    def is_ready(self, what: Due) -> bool:
        """Whether the intake's record has reached the time of a verb."""
        self.record.refresh()
        return self.record.submitted.cut(what.at) is not None

    def _is_opened(self, day: date) -> bool:
        """Whether nothing is left to do to open a day: its keys are frozen, or were, or the market ends before it."""
        first = day_bounds(self.book, day).start
        return (0, first) in self.state.keys or self.state.is_closed(first) or self.record.has_ended(first)

    def _is_closed(self, day: date) -> bool:
        return self.state.is_closed(day_bounds(self.book, day).start)

    # The verbs

    def open_day(self, day: date, at: int) -> bool:
        """Freeze the sharing keys of a day; says whether it was done now."""
        if self._is_opened(day):
            return False
        bounds = day_bounds(self.book, day)
        self.record.refresh()
        tables = frozen_keys(self.state, self.record.histories(), day, at)
        span = Span(self._writer.time(at), bounds.start, len(bounds))
        for feeder, table in zip(self.record.feeders, tables, strict=True):
            self._writer.put(table, span, feeder=feeder.name)
        self._writer.commit(at)
        return True

    def take_prices(self, market: str, rows: RootPrices, at: int, provenance: Provenance = NOTHING) -> int:
        """Put wholesale prices on record; how many are new. Those of gates that are on record change no more.

        Parameters
        ----------
        provenance : where they come from, and what their publisher signed; it goes on record with them.

        Raises
        ------
        MarketError : one lacks the proof that the rules of its day ask for; none is on record.
        """
        state = self.state
        new = [
            row
            for row, (interval, micros) in enumerate(zip(rows.interval.tolist(), rows.micros.tolist(), strict=True))
            if state.root_prices.get((market, interval)) != micros and not self._is_gated(market, interval)
        ]
        if not new:
            return 0
        table = rows.take(np.array(new))
        first, last = int(table.interval.min()), int(table.interval.max())
        span = Span(self._writer.time(at), first, last - first + State.period_intervals(market), market)
        put_prices(self.record, self._writer, state, table, span, provenance)
        self._writer.commit(at)
        return len(new)

    def take_requirements(self, market: str, feeder: str, rows: Requirements, at: int) -> int:
        """Put on record what reserve the operator of the grid asks for on a feeder; how many rows are new.

        Those of gates that are on record change no more; for each product and period the last row counts.

        Raises
        ------
        MarketError : there is no such feeder.
        """
        if feeder not in self.state.topology.number:
            raise MarketError(f"there is no feeder {feeder!r}; there are {', '.join(self.state.topology.number)}")
        new = []
        for row, values in enumerate(zip(*(getattr(rows, name).tolist() for name in _ASKED), strict=True)):
            interval, product, *wanted = values
            if not self._is_gated(market, interval) and wanted != self._asked(market, feeder, interval, product):
                new.append(row)
        if not new:
            return 0
        rows = rows.take(new)
        for interval in np.unique(rows.interval).tolist():
            span = Span(self._writer.time(at), interval, State.period_intervals(market), market)
            self._writer.put(rows.take(rows.interval == interval), span, feeder=feeder)
        self._writer.commit(at)
        return len(rows)

    def _asked(self, market: str, feeder: str, interval: int, product: int) -> list[int]:
        """Quantity and price on record that are asked for of a product in a period."""
        found = [0, 0]
        for entry in self.state.requirements.get((market, interval), ()):
            if self.record.header(entry).feeder == feeder:
                table = self.record.table(entry, Requirements)
                for row in np.flatnonzero((table.product == product) & (table.interval == interval)).tolist():
                    found = [int(table.quantity_w[row]), int(table.price_micros[row])]
        return found

    def _is_gated(self, market: str, interval: int) -> bool:
        first = self.state.day_range(interval).start if market == DAY_AHEAD else interval
        return (market, first) in self.state.gates or interval <= self.state.settled

    def close_gate(self, market: str, first: int, at: int) -> GateClosed:
        """Close a gate: clear every feeder with the bids on record before its time, or say by the rulebook why not.

        Parameters
        ----------
        first : first interval of the delivery day, or the interval.

        Raises
        ------
        NotYetError : the intake's record has not reached the gate; a tick of it is enough.
        MarketError : before its time. JournalError : the disk refused.
        """
        return self._gating.close(market, first, at)

    @property
    def clearing(self) -> int | None:
        """First interval of the delivery day whose gate was closed and waits for `work`; None: there is none.

        Where time stands during a verb there never is: a gate is closed when all is cleared.
        """
        return self._gating.unfinished if self._timed else None

    def work(self, at: int, wait_s: float) -> GateClosed | None:
        """Clear day-ahead feeders while nothing else is due; what the gate came to, once that is known.

        What is not cleared by the gate's deadline has no day-ahead market, on record.

        Parameters
        ----------
        wait_s : how long to wait for a worker; without workers one feeder is cleared, or none in no time.

        Raises
        ------
        JournalError : the disk refused.
        """
        return self._gating.work(at, wait_s)

    def settle(self, interval: int, at: int) -> Settled:
        """Settle an interval with the readings on record at its time.

        Raises
        ------
        NotYetError : the intake's record has not reached that time, or its day-ahead market is still being cleared.
        MarketError : out of order, or not cleared. JournalError, BooksError : the disk refused.
        """
        if interval <= self.state.settled or self.record.has_ended(interval):
            return Settled(0, 0, 0)
        self._gating.work(at, 0.0)
        waits = self._gating.unfinished
        if waits is not None and waits <= interval:
            raise NotYetError(f"the day-ahead market of interval {interval} is still being cleared")
        settled, posted = self._settling.settle(interval, self._past(), at)
        self._writer.post(self.ledger, posted)
        return settled

    def correct(self, run: int, at: int) -> Corrected:
        """Settle what came late, below the cut of the run's time.

        Parameters
        ----------
        run : the time at which it is due, which is its number; before the close of a day its pools of
            `correction_days` are shared anew.

        Raises
        ------
        MarketError : before its time. MeteringError : a reading on which recorded energy rests is not there.
        JournalError, BooksError : the disk refused.
        """
        corrected, posted = self._correcting.run(run, self._past(), at)
        self._writer.post(self.ledger, posted)
        return corrected

    def correct_by_order(self, form: CorrectionFile, source: object, at: int) -> Unwound:
        """Put true registers on record that somebody answers for, and post what follows, the day's shares included.

        Parameters
        ----------
        source : where the form comes from, for errors.

        Raises
        ------
        InputError : as `operations.orders.Ordering.correct`. JournalError, BooksError : the disk refused.
        """
        self.record.refresh()
        with self.stages("correct"):
            unwound, posted = Ordering(self.record, self.state, self._writer).correct(form, source, at)
        self._writer.post(self.ledger, posted)
        return unwound

    def close_day(self, day: date, at: int) -> DayClosed:
        """Close a day: share its pools, invoice in whole cents.

        Raises
        ------
        MarketError : an interval of it is not settled. JournalError, BooksError : the disk refused.
        """
        bounds, state = day_bounds(self.book, day), self.state
        if self._is_closed(day):
            return DayClosed(0, 0, 0)
        last = self.record.last_of(bounds)
        if state.settled < last:
            raise MarketError(f"interval {state.settled + 1} of {day} is not settled; a day closes when all are")
        closes = settle_at(self.book, last) if last in bounds else close_at(self.book, day)
        if at < closes:
            raise MarketError(f"{day} closes at {closes}, not at {at} already")
        if last in bounds:
            connected = state.connected(REAL_TIME, last, last)
            ends = [connected.customer[connected.on(k)] for k in range(connected.feeders)]
        else:  # the market ended before
            ends = [np.zeros(0, dtype=np.int64)] * len(self.record.feeders)
        with self.stages("close"):
            closed = close_feeders(state, day, ends)
        span, posted = Span(self._writer.time(at), bounds.start, len(bounds)), []
        follows: list[list[int]] = [[] for _ in closed]
        # every feeder's postings before any statement: who moved is invoiced on one of them for what all of them post
        for feeder, each, causes in zip(self.record.feeders, closed, follows, strict=True):
            for name, postings in ((CLOSE, each.shares), (f"{CLOSE} rounding", each.rounding)):
                if len(postings):
                    causes.append(self._writer.put(postings, span, feeder=feeder.name, name=name))
                    posted.append((causes[-1], postings))
        for feeder, each, causes in zip(self.record.feeders, closed, follows, strict=True):
            causes.append(self._writer.put(each.day, span, feeder=feeder.name))
            causes.append(self._writer.put(each.statements, span, feeder=feeder.name, causes=causes))
            row = closes_row(
                day,
                bounds,
                CloseKind.FIRST,
                customers=int(np.unique(each.statements.customer).size),
                read_size=state.reads.get(last, state.corrected_until),
                open_rent=each.open_rent_nanos,
                open_unaccounted=each.open_unaccounted_nanos,
            )
            self._writer.put(row, span, feeder=feeder.name, name="first", causes=causes)
        self._writer.commit(at)
        self._writer.post(self.ledger, posted)
        return DayClosed(
            customers=sum(int(np.unique(each.statements.customer).size) for each in closed),
            cents=sum(int(each.statements.cents.sum()) for each in closed),
            without_keys=sum(each.keys_missing for each in closed),
        )

    def finalise(self, day: date, at: int, *, early: bool = False) -> bool:
        """Say that nothing will move a day any more; says whether it was done now.

        Parameters
        ----------
        early : before its window is over; in simulations, to show an erasure.

        Raises
        ------
        MarketError : its correction window is not over.
        """
        if early and not self.record.vault.simulated:
            raise MarketError(f"{day} is final when its correction window is over; only a simulation may be early")
        bounds = day_bounds(self.book, day)
        if self.state.is_final(bounds.start) or not self._is_closed(day):
            return False
        if at < final_at(self.book, day) and not early:
            raise MarketError(f"{day} is final at {final_at(self.book, day)}, not at {at} already")
        span = Span(self._writer.time(at), bounds.start, len(bounds))
        for feeder in self.record.feeders:
            row = closes_row(day, bounds, CloseKind.FINAL)
            self._writer.put(row, span, feeder=feeder.name, name="final")
        self._writer.commit(at)
        return True

    def snapshot(self, at: int, *, afresh: bool = False) -> bool:
        """Keep the fold, so that opening need not read what is folded; says whether there was anything new to keep.

        Parameters
        ----------
        afresh : write everything again and drop every older snapshot with its key, as an erasure wants it.

        Raises
        ------
        JournalError : the disk refused.
        """
        if self.state.snapshot_at == self.state.size - 1 and not afresh:
            return False
        record = self.record
        with self.stages("snapshot"):
            parts = {**state_parts(self.state), **record.directory.parts(without=record.vault.erased)}
            try:
                table = record.snapshots.write(
                    parts, intake_size=record.folded, market_size=self.state.size, afresh=afresh
                )
            except OSError as error:
                raise JournalError(f"{record.path}: a snapshot cannot be written ({error.strerror})") from error
            self._writer.put(table, Span(self._writer.time(at), at // MARKET_INTERVAL_S))
            self._writer.commit(at)
            record.snapshots.keep(1 if afresh else KEPT)
        return True

    # Upkeep

    def request_erasure(self, customer: int, at: int) -> date:
        """Put on record that a customer asks to be forgotten; the first local date on which it may be done.

        Raises
        ------
        MarketError : the customer is connected, or was erased already.
        """
        due = due_day(self.record, self.state, customer)
        if customer not in self.state.requested:
            row = ErasureRequests(
                customer=np.array([customer]), asked_at=np.array([at]), due_day=np.array([day_number(due)])
            )
            self._writer.put(row, Span(self._writer.time(at), at // MARKET_INTERVAL_S))
            self._writer.commit(at)
        return due

    def rebuild_books(self) -> None:
        """Fold the books from the journal again, whatever they hold.

        Raises
        ------
        BooksError : postings on record do not sum to zero.
        """
        self.ledger.refold(booked(self.record), until=len(self.record.journal))

    def compact(self, until_day: int, at: int) -> Filed:
        """Put this journal's rows of UTC days up to one (days since 1970-01-01) into the archive.

        Raises
        ------
        MarketError : that day may still be needed: it is of an open day, or a kept snapshot is older.
        JournalError, VaultError : as in `operations.compaction.compact`.
        """
        last = last_compactable(self.record, self.state)
        if until_day > last:
            raise MarketError(
                f"days up to {date(1970, 1, 1) + timedelta(last)} may be compacted, not what is still needed"
            )
        with self.stages("compact"):
            return compact_own(self.record, at, until_day)

    def _past(self) -> Past:
        """Profiles and histories on record; read again when the intake's journal has more of them."""
        size = len(self.record.intake)
        if self._known_past is None:
            self._known_past = size, self.record.past()
        elif self._known_past[0] < size:
            fresh = self.record.has_past_since(self._known_past[0])
            self._known_past = size, self.record.past() if fresh else self._known_past[1]
        return self._known_past[1]
