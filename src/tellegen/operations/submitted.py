"""What the intake of a shard has put on record, as its market reads it.

The intake writes the journal and the market only reads it (law 5); whatever is below one size of that journal is the
same for every reader for ever. So a market states the size at which it closed a gate, and its order book can be made
again from the record alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.recorder import Recorder
from tellegen.records import Connections, Header, Orders, Readings, Refusals, Submissions, Table
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Bids:
    """The bids of one feeder and interval that count.

    Attributes
    ----------
    orders : sorted by customer; of several submissions of a customer the one recorded last.
    recorded : how many submissions stand on record, those that do not count included.
    """

    orders: Orders
    recorded: int


class Submitted:
    """Submissions by kind and interval; sees what the intake committed since with `refresh`."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._seen = 0
        self._by_interval: dict[tuple[str, int], list[int]] = {}
        self._refusals: dict[int, list[int]] = {}
        self._connections: list[int] = []

    def refresh(self) -> int:
        """Take in what was committed since; the size of the journal as seen from now on."""
        self._record.journal.refresh()
        for index in range(self._seen, len(self._record.journal)):
            header = self._record.journal.entry(index)
            if header.kind in (Submissions.kind, Readings.kind):
                self._by_interval.setdefault((header.kind, header.interval), []).append(index)
            elif header.kind == Refusals.kind:
                self._refusals.setdefault(header.causes[0], []).append(index)
            elif header.kind == Connections.kind:
                self._connections.append(index)
        self._seen = len(self._record.journal)
        return self._seen

    def bids(self, interval: int, size: int) -> dict[str, Bids]:
        """Bids about an interval below a size of the journal, by feeder."""
        parts: dict[str, list[tuple[Submissions, Orders, NDArray[np.bool_]]]] = {}
        for index in self._about(Submissions, interval, size):
            header = self._record.journal.entry(index)
            (orders,) = header.causes
            parts.setdefault(header.feeder, []).append(
                (
                    self._record.table(index, Submissions),
                    self._record.table(orders, Orders),
                    self._counts(index, header),
                )
            )
        return {feeder: _last_of_each(batches) for feeder, batches in parts.items()}

    def readings(self, interval: int, size: int) -> Readings:
        """Readings about an interval below a size of the journal that count, in the order of the record."""
        parts: list[Readings] = []
        for index in self._about(Readings, interval, size):
            header = self._record.journal.entry(index)
            table, counts = self._record.table(index, Readings), self._counts(index, header)
            parts.append(table if counts.all() else table.take(counts))
        return Readings.concat(parts)

    def new_connections(self) -> list[tuple[int, Connections]]:
        """Batches of connections with their indices that were seen since this was last asked."""
        new, self._connections = self._connections, []
        return [(index, self._record.table(index, Connections)) for index in new]

    def _about(self, kind: type[Table], interval: int, size: int) -> list[int]:
        return [index for index in self._by_interval.get((kind.kind, interval), []) if index < size]

    def _counts(self, index: int, header: Header) -> NDArray[np.bool_]:
        """Which rows of a batch were taken."""
        counts = np.ones(header.rows, dtype=np.bool_)
        for refusals in self._refusals.get(index, []):
            counts[self._record.table(refusals, Refusals).row] = False
        return counts


def _last_of_each(batches: list[tuple[Submissions, Orders, NDArray[np.bool_]]]) -> Bids:
    """Orders of each customer's last submission that counts, sorted by customer, its own order kept."""
    recorded = sum(len(submissions) for submissions, _, _ in batches)
    customer = np.concatenate([submissions.customer for submissions, _, _ in batches])
    counts = np.concatenate([taken for _, _, taken in batches])
    rows: IntArray = np.concatenate([submissions.order_rows for submissions, _, _ in batches]).astype(np.int64)
    orders = Orders.concat([table for _, table, _ in batches])
    taken = np.flatnonzero(counts)
    _, from_the_end = np.unique(customer[taken][::-1], return_index=True)
    kept = np.zeros(customer.size, dtype=np.bool_)
    kept[taken[taken.size - 1 - from_the_end]] = True
    of_row = np.repeat(np.arange(customer.size), rows)
    # whoever signed speaks only for itself
    here = np.flatnonzero(kept[of_row] & (orders.customer == customer[of_row]))
    return Bids(orders.take(here[np.argsort(orders.customer[here], kind="stable")]), recorded)
