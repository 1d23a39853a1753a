"""What senders have handed in, read back from the record: batches, and right behind each the rows that do not count.

The intake writes the journal and everybody else only reads it (law 5); whatever is below one size of that journal is
the same for every reader for ever. So a market states the size at which it closed a gate, and its order book can be
made again from the record alone. Here is the only place that says what counts: a batch counts only with its sender's
signature beside it as evidence (`verify` checks that signature), a row unless the refusals behind its batch name it.
Rows of compacted days come from the archive; those of erased customers are missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellegen.intake.sent import Sent, SentBids, SentReadings, SentRoots
from tellegen.journal import Journal, JournalError
from tellegen.privacy import Archive, Vault
from tellegen.records import (
    DailyRoots,
    Header,
    Orders,
    Readings,
    Refusals,
    Statement,
    Submissions,
    Table,
)
from tellegen.records.submission import carries_evidence
from tellegen.units import MARKET_INTERVAL_S, IntArray

AHEAD_INTERVALS = 576
"""How long before its interval anything may be on record."""
ROW_KINDS = (Readings.kind, DailyRoots.kind, Submissions.kind)
"""Kinds whose rows are refused one by one."""
_NOTHING = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Bids:
    """The bids of one feeder and gate that count.

    Attributes
    ----------
    orders : sorted by customer, each customer's in its own order; of several submissions of a customer the one with
        the highest number, and of those with the same number the one recorded last.
    recorded : how many submissions stand on record, those that do not count included.
    unreadable : how many that would count cannot be read any more: those of erased customers.
    customer : int64[m], customers with a submission that counts, ascending.
    entry : int64[m], the batch in which each one's stands: its header names who brought it.
    """

    orders: Orders
    recorded: int
    unreadable: int = 0
    customer: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    entry: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class CountedReadings:
    """Readings about one interval that count, in the order of the record.

    Attributes
    ----------
    readings : the rows. entry, row : int64 each, where it stands: entry of the journal, and row of that.
    """

    readings: Readings
    entry: IntArray
    row: IntArray

    @classmethod
    def none(cls) -> CountedReadings:
        """No readings."""
        return cls(Readings.empty(), _NOTHING, _NOTHING)

    def take(self, where: NDArray[np.generic]) -> CountedReadings:
        """Rows by integer index or mask."""
        return CountedReadings(self.readings.take(where), self.entry[where], self.row[where])

    def of(self, customer: IntArray) -> CountedReadings:
        """Rows of some customers."""
        return self.take(np.isin(self.readings.customer, customer))

    def and_also(self, later: CountedReadings) -> CountedReadings:
        """These, then those that were recorded later."""
        return CountedReadings(
            Readings.concat([self.readings, later.readings]),
            np.concatenate([self.entry, later.entry]),
            np.concatenate([self.row, later.row]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Rows of a batch that can be read, their numbers in it, which of them count, and how many more would."""

    table: Table
    row: IntArray
    counts: NDArray[np.bool_]
    unreadable: int


class Submitted:
    """Submissions on record in the journal of an intake; sees what was committed since with `refresh`.

    Parameters
    ----------
    journal : of the intake. vault : opens its rows.
    """

    def __init__(self, journal: Journal, vault: Vault) -> None:
        self._journal, self._vault, self._archive = journal, vault, Archive(journal.folder.parent, vault)
        # a gate's bids are asked for when it closes and when awards are fetched, readings by settlement and by the fold
        self._last_bids: tuple[object, dict[str, Bids]] = None, {}
        self._last_readings: tuple[object, CountedReadings] = None, CountedReadings.none()

    @property
    def erased(self) -> list[int]:
        """Customers whose rows cannot be read any more, ascending."""
        return self._vault.erased

    # What the market asks

    def refresh(self) -> int:
        """Take in what was committed since; the size of the journal as seen from now on."""
        return self._journal.refresh()

    def bids(
        self, market: str, first_interval: int, size: int, feeders: Collection[str] | None = None
    ) -> dict[str, Bids]:
        """Bids of a gate below a size of the journal, by feeder.

        Parameters
        ----------
        first_interval : of the delivery day, or of the period in real time.
        feeders : only batches about these; None: all.

        Raises
        ------
        JournalError : the journal has not so many entries, as after a loss of power before its intake is opened.
        """
        key = (market, first_interval, size, _fixed(feeders), self._vault.erased)
        if self._last_bids[0] != key:
            self._last_bids = key, self._read_bids(self._about(Submissions.kind, first_interval, size, market, feeders))
        return self._last_bids[1]

    def _read_bids(self, found: list[int]) -> dict[str, Bids]:
        batches = dict(self._batches(found))
        parts: dict[str, list[int]] = {}
        for index in sorted(batches):
            parts.setdefault(self._journal.entry(index).feeder, []).append(index)
        causes = {index: self._journal.entry(index).causes[0] for index in batches}
        orders = dict(self._archive.unseal_each(self._journal, causes.values()))
        made = {}
        for feeder, indices in parts.items():
            recorded = sum(self._journal.entry(index).rows for index in indices)
            offered = [orders[causes[i]].table for i in indices]
            rows, customer, place = _counting([batches[i] for i in indices], offered)
            unreadable = sum(batches[index].unreadable for index in indices)
            made[feeder] = Bids(rows, recorded, unreadable, customer, np.array(indices, dtype=np.int64)[place])
        return made

    def readings(self, interval: int, size: int, feeders: Collection[str] | None = None) -> CountedReadings:
        """Readings about an interval below a size of the journal that count, each with its place.

        Parameters
        ----------
        feeders : only batches about these; None: all.

        Raises
        ------
        JournalError : as `bids`.
        """
        key = (interval, size, _fixed(feeders), self._vault.erased)
        if self._last_readings[0] != key:
            self._last_readings = key, self._read_readings(self._about(Readings.kind, interval, size, feeders=feeders))
        return self._last_readings[1]

    def readings_since(self, interval: int, since: int, size: int) -> CountedReadings:
        """Readings about an interval that count, from one size of the journal up to another; nothing is kept of them.

        Raises
        ------
        JournalError : as `bids`.
        """
        return self._read_readings([index for index in self._about(Readings.kind, interval, size) if index >= since])

    def _read_readings(self, found: list[int]) -> CountedReadings:
        batches = dict(self._batches(found))
        parts, entry, row = [Readings.empty()], [_NOTHING], [_NOTHING]
        for index in sorted(batches):
            batch = batches[index]
            table = batch.table.take(batch.counts)
            assert isinstance(table, Readings)
            parts.append(table)
            entry.append(np.full(len(table), index))
            row.append(batch.row[batch.counts])
        return CountedReadings(Readings.concat(parts), np.concatenate(entry), np.concatenate(row))

    def late(self, since_size: int, size: int) -> list[tuple[int, int]]:
        """Batches of readings appended between two sizes: entry, and the interval that it is about."""
        found = self._journal.find(kind=Readings.kind, since=since_size)
        return [(index, self._journal.entry(index).interval) for index in found if index < size]

    def cut(self, at: int, since: int = 0) -> int | None:
        """Where a gate cuts the journal: the first entry, from `since` on, that became known at or after a time.

        None where there is none yet: what comes next may still be earlier. Times rise from entry to entry, but where
        an operator has set the clock right (`records.Clocks`); what was recorded under the wrong clock then lies
        before any later gate, and counts there.
        """
        found = max(self._journal.first_at(at), since)
        return found if found < len(self._journal) else None

    def _about(
        self, kind: str, interval: int, size: int, market: str = "", feeders: Collection[str] | None = None
    ) -> list[int]:
        """Entries below a size about an interval; they were recorded no sooner than that may be sent."""
        if size > len(self._journal):
            raise JournalError(
                f"{self._journal.folder} ends at entry {len(self._journal)}, and {size} of its entries have been used: "
                "after a loss of power open the intake first, which brings them back"
            )
        since = self._journal.earliest_at((interval - AHEAD_INTERVALS) * MARKET_INTERVAL_S)
        found = self._journal.find(kind=kind, market=market, interval=interval, since=since)
        found = [index for index in found if index < size]
        return found if feeders is None else [index for index in found if self._journal.entry(index).feeder in feeders]

    def brought(self, source: str, market: str, first_interval: int, size: int) -> set[str]:
        """Feeders about which a source has brought bids for a gate, below a size of the journal."""
        entries = map(self._journal.entry, self._about(Submissions.kind, first_interval, size, market))
        return {header.feeder for header in entries if header.source == source and carries_evidence(header)}

    # Batch by batch

    def table(self, entry: int) -> Table:
        """Rows of an entry; those of erased customers are missing."""
        return self._archive.unseal(self._journal, entry).table

    def customers(self, batch: int) -> NDArray[np.int64]:
        """Customer of each row of a batch, int64[n]; -1 where the customer has been erased."""
        header = self._journal.entry(batch)
        table, present = self._archive.unseal(self._journal, batch)
        customers = np.full(header.rows, -1, dtype=np.int64)
        customers[present] = table.subjects()
        return customers

    def refusals_behind(self, batch: int) -> int | None:
        """Entry that names the rows of a batch that do not count; None where all do."""
        if batch + 1 < len(self._journal):
            header = self._journal.entry(batch + 1)
            if header.kind == Refusals.kind and header.causes == (batch,):
                return batch + 1
        return None

    def refusal_of_rows(self, batch: int) -> NDArray[np.uint8]:
        """Why each row of a batch does not count, uint8[n] of `records.Refusal`."""
        refusal = np.zeros(self._journal.entry(batch).rows, dtype=np.uint8)
        behind = self.refusals_behind(batch)
        if behind is not None:
            table = self.table(behind)
            assert isinstance(table, Refusals)
            refusal[table.row] = table.refusal
        return refusal

    def sent(self, batch: int) -> Sent:
        """The batch as it was sent, as far as it is on record."""
        header, table = self._journal.entry(batch), self.table(batch)
        numbers = np.arange(header.rows)
        if isinstance(table, Submissions):
            orders = self.table(header.causes[0])
            assert isinstance(orders, Orders)
            return SentBids(table, orders, numbers)
        if isinstance(table, DailyRoots):
            return SentRoots(table, numbers)
        assert isinstance(table, Readings)
        return SentReadings(table, numbers)

    def counted_readings(
        self, oldest: int | None = None, since: int = 0, until: int | None = None
    ) -> Iterator[Readings]:
        """Readings that count, but for a last entry of the record without anything behind it.

        Parameters
        ----------
        oldest : only those about this interval and later.
        since, until : only entries from the one, and below the other.
        """
        stop = len(self._journal) - 1 if until is None else until
        batches = [
            batch
            for batch in self._journal.find(kind=Readings.kind, since=since)
            if batch < stop and (oldest is None or self._journal.entry(batch).interval >= oldest)
        ]
        for _, table in self.counted(batches):
            assert isinstance(table, Readings)
            yield table

    def counted(self, batches: Sequence[int]) -> Iterator[tuple[int, Table]]:
        """Rows of batches that count and can be read, each table with its batch; compacted ones come last."""
        for index, batch in self._batches(batches):
            yield index, batch.table if batch.counts.all() else batch.table.take(batch.counts)

    def unfinished(self) -> int | None:
        """The last entry, where it is a batch: a crash may have come before its refusals."""
        last = len(self._journal) - 1
        if last >= 0:
            header = self._journal.entry(last)
            if header.kind in ROW_KINDS and carries_evidence(header):
                return last
        return None

    def _batches(self, batches: Sequence[int]) -> Iterator[tuple[int, _Batch]]:
        """Batches that carry evidence, with what counts of them."""
        signed = [batch for batch in batches if carries_evidence(self._journal.entry(batch))]
        behind = {batch: self.refusals_behind(batch) for batch in signed}
        refused = dict(self._archive.unseal_each(self._journal, [i for i in behind.values() if i is not None]))
        for batch, (table, present) in self._archive.unseal_each(self._journal, signed):
            counts = np.ones(present.size, dtype=np.bool_)
            named = behind[batch]
            if named is not None:
                refusals = refused[named].table
                assert isinstance(refusals, Refusals)
                counts[refusals.row] = False
            unreadable = int(np.count_nonzero(counts & ~present))
            yield batch, _Batch(table, np.flatnonzero(present), counts[present], unreadable)


def _fixed(feeders: Collection[str] | None) -> frozenset[str] | None:
    return None if feeders is None else frozenset(feeders)


def statement_of(header: Header, origin: str) -> Statement:
    """What the sender of a batch said of it that is on record in the journal `origin`."""
    fields = (origin, header.source, header.feeder, header.market, header.interval, header.name, header.evidence)
    return Statement.on_record(*fields)[0]


def _counting(batches: list[_Batch], offered: list[Table]) -> tuple[Orders, IntArray, IntArray]:
    """Orders of each customer's submission that counts, sorted by customer; the customers, and whose batch it is in."""
    signed = Submissions.concat([batch.table for batch in batches])  # type: ignore[misc]
    orders = Orders.concat(offered)  # type: ignore[arg-type]
    taken = np.flatnonzero(np.concatenate([batch.counts for batch in batches]))
    taken = taken[np.lexsort((taken, signed.sequence[taken], signed.customer[taken]))]
    customer = signed.customer[taken]
    last = np.append(customer[1:] != customer[:-1], True)[: taken.size]
    kept = np.zeros(len(signed), dtype=np.bool_)
    kept[taken[last]] = True
    # an erased customer is gone from both tables, so what is left of them still corresponds
    of_row = np.repeat(np.arange(len(signed)), signed.order_rows)
    # whoever signed speaks only for itself
    here = np.flatnonzero(kept[of_row] & (orders.customer == signed.customer[of_row]))
    of_batch = np.repeat(np.arange(len(batches)), [len(batch.table) for batch in batches])
    sorted_ = orders.take(here[np.argsort(orders.customer[here], kind="stable")])
    return sorted_, customer[last].astype(np.int64), of_batch[taken[last]]
