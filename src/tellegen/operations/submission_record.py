"""Submissions as they stand on record: batches, and right behind each the rows of it that do not count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tellegen.journal import Journal
from tellegen.operations.sent import Sent, SentBids, SentReadings, SentRoots
from tellegen.privacy import Archive, Vault
from tellegen.records import DailyRoots, Header, Orders, Readings, Refusals, Statement, Submissions, Table

ROW_KINDS = (Readings.kind, DailyRoots.kind, Submissions.kind)
"""Kinds whose rows are refused one by one."""


class SubmissionRecord:
    """What senders have handed in, read back from journal, archive and vault."""

    def __init__(self, journal: Journal, vault: Vault) -> None:
        self._journal, self._archive = journal, Archive(journal.folder.parent, vault)

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

    def counted_readings(self, oldest: int) -> Iterator[Readings]:
        """Readings about interval `oldest` and later that count, but for a last entry without anything behind it."""
        batches = [
            batch
            for batch in self._journal.find(kind=Readings.kind)
            if self._journal.entry(batch).interval >= oldest and batch < len(self._journal) - 1
        ]
        for _, table in self.counted(batches):
            assert isinstance(table, Readings)
            yield table

    def counted(self, batches: Sequence[int]) -> Iterator[tuple[int, Table]]:
        """Rows of batches that count and can be read, each table with its batch; compacted ones come last."""
        behind = {batch: self.refusals_behind(batch) for batch in batches}
        refused = dict(self._archive.unseal_each(self._journal, [i for i in behind.values() if i is not None]))
        for batch, (table, present) in self._archive.unseal_each(self._journal, batches):
            counts = present.copy()
            named = behind[batch]
            if named is not None:
                refusals = refused[named].table
                assert isinstance(refusals, Refusals)
                counts[refusals.row] = False
            yield batch, table.take(counts[present])

    def unfinished(self) -> int | None:
        """The last entry, where it is a batch: a crash may have come before its refusals."""
        last = len(self._journal) - 1
        if last >= 0:
            header = self._journal.entry(last)
            if header.kind in ROW_KINDS and header.evidence:
                return last
        return None


def statement_of(header: Header) -> Statement:
    """What the sender of a recorded batch said of it."""
    fields = (header.source, header.feeder, header.market, header.interval, header.name, header.evidence)
    return Statement.on_record(*fields)[0]
