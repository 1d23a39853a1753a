"""The one way on to the record: tables are sealed, appended and, with the next commit, final.

Also the one way back: tables by kind, market and name, in the order of the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tellegen.journal import Checkpoint, Journal
from tellegen.journal.clock import BOUNDS, ClockError, RecordClock
from tellegen.privacy import Archive, Vault
from tellegen.records import Clocks, Document, Header, Table
from tellegen.units import MARKET_INTERVAL_S

SOURCE = "market operator"
T = TypeVar("T", bound=Table)


@dataclass(frozen=True, slots=True)
class Span:
    """What time a batch is about, and when it became known.

    interval, intervals : first market interval, and how many. known_at : seconds since the epoch, UTC.
    market : ``day_ahead``, ``real_time`` or empty.
    """

    known_at: int
    interval: int
    intervals: int = 1
    market: str = ""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Journal and vault of one feeder.

    Tables put are buffered; `commit` makes them durable and signs for them. Nothing that follows
    from a record is handed out before (law 6).

    Attributes
    ----------
    live : seal under the epoch's key, until compaction gives every customer's rows to its own.
    """

    journal: Journal
    vault: Vault
    feeder: str
    live: bool = False

    def put(self, table: Table, span: Span, *, name: str = "", source: str = SOURCE, causes: Iterable[int] = ()) -> int:
        """Seal and append a table; returns its journal index."""
        seal = self.vault.seal_live if self.live else self.vault.seal
        batch = seal(
            table,
            feeder=self.feeder,
            interval=span.interval,
            intervals=span.intervals,
            source=source,
            known_at=span.known_at,
            name=name,
            market=span.market,
            causes=causes,
        )
        return self.journal.append(batch)

    def put_document(self, document: Document, span: Span) -> int:
        """Seal and append a document; returns its journal index."""
        batch = self.vault.seal_document(
            document,
            feeder=self.feeder,
            interval=span.interval,
            intervals=span.intervals,
            source=SOURCE,
            known_at=span.known_at,
        )
        return self.journal.append(batch)

    def commit(self, known_at: int) -> Checkpoint:
        """Make everything put so far durable and signed."""
        return self.journal.commit(known_at)

    def read(
        self, kind: type[T], *, market: str | None = None, name: str | None = None
    ) -> Iterator[tuple[int, Header, T]]:
        """Tables of one kind with journal index and header; rows of erased customers are missing."""
        entries = self.journal.entries()
        for index in self.journal.find(kind=kind.kind, market=market):
            header = entries[index]
            if name is None or header.name == name:
                yield index, header, self.table(index, kind)

    def table(self, index: int, kind: type[T]) -> T:
        """The table of a journal entry, wherever its rows lie; those of erased customers are missing."""
        table = Archive(self.journal.folder.parent, self.vault).unseal(self.journal, index).table
        assert isinstance(table, kind)
        return table

    def document(self, name: str) -> bytes:
        """Content of the latest document of a name; empty where it was erased or never put."""
        for index in self.journal.latest("document", name=name):
            document = self.vault.unseal_document(self.journal.entry(index), self.journal.payload(index))
            return document.content if document is not None else b""
        return b""


def start_clock(
    journal: Journal, vault: Vault, make: Callable[[int], RecordClock] | None, source: str, accepted_by: str = ""
) -> RecordClock:
    """The time of a journal, which goes on from its newest entry, or from where somebody says.

    Parameters
    ----------
    make : makes a clock from the time of the newest entry; None: the wall clock's.
    source : who writes.
    accepted_by : who says that the clock is right where it is too far from the newest entry; that goes on record.

    Raises
    ------
    ClockError : it is too far, and nobody says so; or it is within the usual bounds, where `make` has narrower ones.
    """
    begin = (lambda newest: RecordClock(not_before=newest)) if make is None else make
    newest = journal.time(0)
    try:
        return begin(newest)
    except ClockError:
        clock = begin(0)
        now = clock.now()
        if not accepted_by or BOUNDS.hold(now, newest):  # so small a step is none of a clock that was wrong
            raise
    said = Clocks(before=np.array([newest]), time=np.array([now]), accepted_by=np.array([accepted_by.encode()]))
    Recorder(journal, vault, "").put(said, Span(now, now // MARKET_INTERVAL_S), source=source)
    journal.commit(max(now, newest))
    return clock
