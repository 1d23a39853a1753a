"""``tellegen replay``: everything that can follow from the record is computed again and compared.

The market's journal is folded from its first record (`State`), and on the way each record that follows from others is
made again by the pure part of the verb that wrote it: sharing keys, gates, shares, cents, statements, snapshots. What
is left is made again as if nothing had come late: `operations.rerun_money` judges all readings at once and settles each
day from scratch. Nothing is written, but for books that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tellegen.books import Ledger
from tellegen.intake.row_checks import unsigned
from tellegen.intake.submitted import statement_of
from tellegen.operations.booked import booked
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun_days import Days
from tellegen.operations.rerun_gates import GatesAgain
from tellegen.operations.rerun_holds import HoldsAgain
from tellegen.operations.rerun_money import MoneyAgain
from tellegen.operations.rerun_snapshots import SnapshotsAgain
from tellegen.operations.state import State
from tellegen.operations.tally import Replayed, Tally
from tellegen.records import Header, Orders, Postings, Submissions, Table, shard_of
from tellegen.records.submission import bid_messages, carries_evidence

BOOKS = "books.sqlite"
CHUNK = 1_024
"""Entries whose rows are read together."""


def rerun(path: Path | str, *, processes: int = 0) -> list[Replayed]:
    """Fold, clear and settle all that a shard has on record again.

    What customers had who have been erased since cannot be computed again, nor what was shared with it; the results
    count it as left out, and compare the rest.

    Parameters
    ----------
    processes : that clear; 0: this one alone.

    Raises
    ------
    InputError : there is no shard with a market. JournalError, VaultError : it cannot be read.
    """
    with ShardRecord.open(path, use_snapshot=False) as record:
        books = _books(record)
        state = State(record.topology, record.rulebook, record.registers)
        with GatesAgain(record, state, processes) as gates:
            days, money, snapshots = Days(record, state), MoneyAgain(record, state), SnapshotsAgain(record, state)
            holds = HoldsAgain(record, state)
            for index, header, table in _entries(record, state):
                for each in (days, holds, snapshots):
                    each.before(index, header, table)
                state.apply(index, header, table)
                gates.after(index, header, table)
                money.after(index, header, table)
            gates.finish()
            holds.finish()
        money.run()
        tallies = [
            _signatures(record),
            *days.tallies[:1],
            *gates.tallies,
            holds.tally,
            *money.tallies,
            *days.tallies[1:],
        ]
        return [books, *(tally.result() for tally in (*tallies, snapshots.tally))]


def _entries(record: ShardRecord, state: State) -> Iterator[tuple[int, Header, Table | None]]:
    """The market's journal in order; rows of kinds that nobody asks for are not read."""
    stop = len(record.journal)
    for start in range(0, stop, CHUNK):
        headers = {index: record.header(index) for index in range(start, min(start + CHUNK, stop))}
        asked = [i for i, header in headers.items() if state.reads_kind(header.kind) or header.kind in Days.READS]
        tables = dict(record.tables(asked))
        for index, header in headers.items():
            yield index, header, tables.get(index)


def _books(record: ShardRecord) -> Replayed:
    """Books folded from the journal against the file, table by table; where the file is gone, it is made again."""
    path = record.path / BOOKS
    if not path.exists():
        count = rebuild_books(record)
        return Replayed("books", True, count, f"{path.name} was missing: {count} balances folded from the journal")
    with Ledger.open(path, read_only=True) as ledger:
        difference = ledger.check(_postings(record))
        count = 0 if difference else len(ledger.balances())
    found = f"{count} balances and what makes them up, against the fold of the journal"
    return Replayed("books", not difference, count, difference or found)


def rebuild_books(record: ShardRecord) -> int:
    """Fold the books from the journal; the same record gives the same bytes. Returns how many balances there are."""
    path = record.path / BOOKS
    path.unlink(missing_ok=True)
    with Ledger.rebuild(path, _postings(record), until=len(record.journal)) as ledger:
        return len(ledger.balances())


def _postings(record: ShardRecord) -> Iterator[tuple[int, Postings]]:
    entries = list(record.journal.find(kind=Postings.kind))
    for start in range(0, len(entries), CHUNK):
        yield from sorted(booked(record, entries[start : start + CHUNK]), key=lambda each: each[0])


def _signatures(record: ShardRecord) -> Tally:
    """Every bid that counts is signed by its customer."""
    tally = Tally("order signatures", "signatures", "do not verify")
    submitted, intake = record.submitted, record.intake
    for index in intake.find(kind=Submissions.kind):
        header = intake.entry(index)
        signed, orders = submitted.table(index), submitted.table(header.causes[0])
        assert isinstance(signed, Submissions)
        assert isinstance(orders, Orders)
        if not carries_evidence(header):
            tally.leave_out("batches without their sender's signature")
            continue
        statement = statement_of(header, shard_of(intake.verifier.name))
        about = (statement.origin, statement.feeder, statement.market, statement.interval)
        keys = record.directory.customer_keys(signed.customer, header.known_at, header.known_at)
        bad = unsigned(bid_messages(signed, orders, *about), signed, keys)
        refusal = submitted.refusal_of_rows(index)[submitted.customers(index) >= 0]  # of those who are not erased
        tally.compare(len(signed), int(bad[refusal == 0].sum()), f"entry {index}")
    return tally
