"""Postings as books take them: each batch with what is left of erased customers in it.

When a customer is erased, its rows of a batch can no longer be read. One row for each of the batch's transactions takes
their place, in a batch of its own that names the first as its cause (`operations.erasure`). Read together the two sum
to zero as the batch did, so that the books can be folded from the journal for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tellegen.books import Ledger
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import REMAINS
from tellegen.records import Erasures, Postings


def erased_customers(record: ShardRecord) -> tuple[int, ...]:
    """Customers whose erasure is on record, ascending; a key may outlive the record by a crash."""
    entries = record.journal.find(kind=Erasures.kind)
    return tuple(sorted({int(c) for entry in entries for c in record.table(entry, Erasures).customer}))


def booked(record: ShardRecord, entries: Iterable[int] | None = None) -> Iterator[tuple[int, Postings]]:
    """Batches of postings with the entry of each, whole in what they sum to; those of the archive come last.

    Parameters
    ----------
    entries : of the market's journal; batches of remains among them are passed over. None: all postings there are.
    """
    erased = erased_customers(record)
    of_batch: dict[int, list[int]] = {}
    if erased:
        for entry in record.journal.find(kind=Postings.kind, name=REMAINS):
            of_batch.setdefault(record.header(entry).causes[0], []).append(entry)
    passed = {entry for left in of_batch.values() for entry in left}
    wanted = record.journal.find(kind=Postings.kind) if entries is None else list(entries)
    for entry, table in record.tables(each for each in wanted if each not in passed):
        assert isinstance(table, Postings)
        if erased:
            readable = table.take(~np.isin(table.account, erased))
            left = [record.table(each, Postings) for each in of_batch.get(entry, ())]
            table = Postings.concat([readable, *left])
        yield entry, table


def bring_up(record: ShardRecord, ledger: Ledger) -> None:
    """Fold books anew where a customer has been erased since they were brought up: the journal says less than it did.

    Raises
    ------
    BooksError : postings on record do not sum to zero.
    """
    if record.journal.find(kind=Erasures.kind, since=ledger.posted_until):
        ledger.refold(booked(record), until=len(record.journal))
