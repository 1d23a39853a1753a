"""One customer's data are erased: the key is destroyed, the proofs stay.

Before the key goes, what the customer owed is put on record once more, as one sum per transaction and
batch on the account ERASED, under the operator's key, so that the books can still be folded from the journal.
A day with an erased customer can no longer settle anew: its settlement is final.

What remains, by construction: totals of the feeder less the rows of everybody else is what the erased
customer had. Whoever holds all other customers' keys can still compute it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tellegen.books import fold
from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.operations.compaction import compact, journals_of, open_for_writing
from tellegen.operations.facts import ERASED_NAME, REAL_TIME, RecordedDay, read_day
from tellegen.operations.publish import rebuild_books
from tellegen.operations.recorder import SOURCE, Recorder, Span
from tellegen.operations.run_directory import Run
from tellegen.privacy import Archive, Vault
from tellegen.records import Account, Erasures, Header, Line, Postings, Table
from tellegen.units import MARKET_INTERVAL_S


def erase_customer(run: Run, name: str, *, known_at: int) -> int:
    """Erase a customer of a run; returns how many rows on record can no longer be read.

    An erasure that was cut short by a crash is finished by asking for it again.

    Raises
    ------
    InputError : nobody is called that, or the customer has been erased already.
    """
    number = run.number(name, run.path)
    recorder = run.recorder
    if number not in recorder.vault.customers:
        raise InputError(run.path, f"customer '{name}'", "has been erased already")
    recorded = read_day(recorder)
    if number not in recorded.erased:
        _put_remains(recorder, recorded, number, known_at)
    hidden = sum(int((table.subjects() == number).sum()) for table in _tables(recorder))
    recorder.vault.erase(number)
    rebuild_books(run)
    return hidden


def erase_from_shard(
    directory: Path | str,
    vault: Vault,
    customer: int,
    *,
    known_at: int,
    step: Callable[[str], None] = lambda what: None,
) -> int:
    """Erase a customer whose rows are sealed live or lie in the archive; returns how many rows nobody can read again.

    Live rows stand under the key of an epoch, not the customer's own: so every epoch is compacted first, the day's
    among them. Then the leaf hashes of the customer's rows are stored, so that everybody else's rows can still be
    proved, what the customer owed and the erasure go on record, and the key is destroyed. Cut short by a crash, it is
    finished by asking again.

    Raises
    ------
    InputError : there is no journal, or no such customer.
    JournalError, VaultError : as in `compaction.compact`.
    """
    if not vault.holds(customer):
        raise InputError(directory, f"customer {customer}", "has no key: never enrolled, or erased already")
    newest = max((epoch.day for epoch in vault.epochs), default=0)  # whatever the clock says today
    compact(directory, vault, known_at=known_at, until_day=newest, step=step)
    hidden = 0
    for folder in journals_of(directory):
        archive = Archive(folder, vault)
        with open_for_writing(folder, vault) as journal:
            for place in archive.files():
                if customer in archive.customers(place):
                    step(f"keep leaves of {place}")
                    hidden += archive.keep_leaves(place, customer, journal.entry)
            step("put the erasure on record")
            _put_erasure(journal, vault, archive, customer, known_at)
    step("destroy the key")
    vault.erase(customer)
    return hidden


def _put_erasure(journal: Journal, vault: Vault, archive: Archive, customer: int, known_at: int) -> None:
    """What the customer owed, batch by batch, and that the key goes; nothing where it stands there already."""
    interval = known_at // MARKET_INTERVAL_S
    told = [
        number
        for index in journal.find(kind=Erasures.kind)
        for number in _erasures(vault, journal.entry(index), journal.payload(index)).customer.tolist()
    ]
    if customer in told:
        return
    for index in journal.find(kind=Postings.kind):
        if journal.entry(index).name == ERASED_NAME:
            continue
        postings = archive.unseal(journal, index).table
        assert isinstance(postings, Postings)
        remains = _remains(postings.take(postings.account == customer))
        if len(remains):
            journal.append(
                vault.seal(
                    remains,
                    feeder=journal.entry(index).feeder,
                    interval=interval,
                    intervals=1,
                    source=SOURCE,
                    known_at=known_at,
                    name=ERASED_NAME,
                    causes=(index,),
                )
            )
    erasures = Erasures(customer=np.array([customer], dtype=np.int32))
    journal.append(vault.seal(erasures, feeder="", interval=interval, intervals=1, source=SOURCE, known_at=known_at))
    journal.commit(known_at)


def _erasures(vault: Vault, header: Header, payload: bytes) -> Erasures:
    table = vault.unseal(header, payload).table
    assert isinstance(table, Erasures)
    return table


def without_customer(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Sections of a summary as they must be once a customer is erased: none may tell its story.

    >>> without_customer({"correction": {"customer": "home-003", "own_move_eur": -0.36}}, "home-003")
    {'correction': None}
    """
    correction = summary.get("correction") or {}
    return {"correction": None} if correction.get("customer") == name else {}


def _put_remains(recorder: Recorder, recorded: RecordedDay, number: int, known_at: int) -> None:
    span = Span(known_at, recorded.first_interval, len(recorded.of_market(REAL_TIME)))
    for index, batch in recorded.postings:
        remains = _remains(batch.take(batch.account == number))
        if len(remains):
            recorder.put(remains, span, name=ERASED_NAME, causes=(index,))
    recorder.put(Erasures(customer=np.array([number], dtype=np.int32)), span)
    recorder.commit(known_at)


def _remains(postings: Postings) -> Postings:
    """What an erased customer owed, as one row per transaction without quantity or price."""
    sums = fold(postings, "cause", "interval")
    cause, interval = sums.keys
    kept = sums.amount != 0
    size = int(kept.sum())
    nothing = np.zeros(size, dtype=np.int64)
    return Postings(
        account=np.full(size, Account.ERASED, dtype=np.int32),
        interval=interval[kept],
        line=np.full(size, Line.ERASED, dtype=np.uint8),
        quantity=nothing,
        price=nothing,
        amount=sums.amount[kept],
        cause=cause[kept],
    )


def _tables(recorder: Recorder) -> Iterator[Table]:
    for index, header in enumerate(recorder.journal.entries()):
        if header.kind != "document":
            yield recorder.vault.unseal(header, recorder.journal.payload(index)).table
