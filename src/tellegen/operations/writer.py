"""On to the market's record and into the state: records are committed first, and applied as they stand there."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from tellegen.books import Ledger
from tellegen.intake.stages import Stages
from tellegen.operations.booked import booked
from tellegen.operations.keeping import restore
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.privacy.recorder import SOURCE, Span
from tellegen.records import Clearings, Postings, Prices, Schedules, Table

FOLD_ENTRIES = 4_096
"""Entries whose rows are read together while the record is folded."""
KEPT = (Prices, Schedules, Clearings)
"""What settlement reads of a clearing."""


class Writer:
    """Puts tables on the market's journal; what a commit made final is what the state takes in.

    Parameters
    ----------
    record : with the market's journal open for writing. state : its fold so far.
    stages : of the market; those of one verb do not overlap.
    """

    def __init__(self, record: ShardRecord, state: State, stages: Stages) -> None:
        self._record, self._state, self.stages = record, state, stages
        self._put: dict[int, Table] = {}

    @property
    def next_entry(self) -> int:
        """Index that the next record will have."""
        return len(self._record.journal)

    def put(
        self,
        table: Table,
        span: Span,
        *,
        feeder: str = "",
        name: str = "",
        source: str = SOURCE,
        causes: Iterable[int] = (),
    ) -> int:
        """Seal and append a table; its journal index. The same record again is the same entry."""
        with self.stages("seal"):
            index = self._record.recorder(feeder).put(table, span, name=name, source=source, causes=causes)
        self._put[index] = table
        if isinstance(table, KEPT):
            self._record.remember(index, table)
        return index

    def time(self, at: int) -> int:
        """What to write as the time of now: times on record never fall."""
        return self._record.journal.time(at)

    def commit(self, at: int) -> None:
        """Make what was put final, then hand it to the state.

        Raises
        ------
        JournalError : the disk refused; nothing of it is on record, and the market must be opened again.
        """
        with self.stages("commit"):
            self._record.journal.commit(self.time(at))
        put, self._put = self._put, {}
        with self.stages("apply"):
            for index in range(self._state.size, len(self._record.journal)):
                self._state.apply(index, self._record.header(index), put.get(index))

    def fold(self) -> None:
        """Take in everything on record that the state has not seen."""
        stop = len(self._record.journal)
        for start in range(self._state.size, stop, FOLD_ENTRIES):
            chunk = range(start, min(start + FOLD_ENTRIES, stop))
            headers = {index: self._record.header(index) for index in chunk}
            read = [index for index in chunk if self._state.reads_kind(headers[index].kind)]
            tables = dict(self._record.tables(read))
            for index in chunk:
                self._state.apply(index, headers[index], tables.get(index))

    def post(self, ledger: Ledger, tables: Iterable[tuple[int, Postings]] = ()) -> None:
        """Bring the books up to the record.

        Parameters
        ----------
        tables : postings that have just been committed, so that they need not be read again.
        """
        known = dict(tables)
        with self.stages("post"):
            journal = self._record.journal
            indices = journal.find(kind=Postings.kind, since=ledger.posted_until)
            unknown = booked(self._record, [i for i in indices if i not in known])
            ledger.post_all(chain(known.items(), unknown), until=len(journal))


def folded(record: ShardRecord) -> State:
    """The state that a record comes to, for whoever only reads it."""
    state = State(record.topology, record.rulebook, record.registers)
    if record.kept.entry >= 0:
        restore(state, record.kept.parts, record.kept.market_size)
    Writer(record, state, Stages()).fold()
    return state
