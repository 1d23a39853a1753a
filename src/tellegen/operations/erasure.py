"""One customer's data are erased: the key is destroyed, the proofs stay.

A customer asks, and it is done once nothing about its days may change any more: when the correction window of its last
day is over. Its days are final then; a fact about them that still comes is named on record and moves nothing.

Before the key goes, what the customer owed is put on record once more, as one sum per transaction and batch on the
account ERASED, under the operator's key, so that the books can still be folded from the journal.

What remains, by construction: totals of the feeder less the rows of everybody else is what the erased
customer had. Whoever holds all other customers' keys can still compute it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tellegen.books import fold
from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.operations.compaction import compact, journals_of, open_for_writing
from tellegen.operations.positions import parties_of
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError
from tellegen.operations.state import REMAINS, State
from tellegen.operations.timetable import day_ahead_at, day_number, day_of
from tellegen.privacy import Archive, Vault
from tellegen.privacy.recorder import SOURCE
from tellegen.records import Account, CloseKind, Erasures, Line, Postings, Snapshots
from tellegen.units import MARKET_INTERVAL_S

SECONDS_PER_DAY = 86_400
_DAY = timedelta(days=1)

# When


def due_day(record: ShardRecord, state: State, customer: int) -> date:
    """The first local date on which a customer may be erased: the correction window of its last day is over by then.

    Raises
    ------
    MarketError : it is connected, or has been erased already.
    """
    if customer in state.erased:
        raise MarketError(f"customer {customer} has been erased already")
    rows, known = record.directory.connections([customer])
    if not known.any():
        raise MarketError(f"customer {customer} was never connected here")
    if int(rows.node[0]) >= 0:
        raise MarketError(f"customer {customer} is connected; say from when it is not any more, then ask again")
    left = day_of(state.book, int(rows.from_interval[0]))
    return left + _DAY * (state.book.at(left).timetable.correction_window_days + 1)


def hindrance(state: State, customer: int) -> str:
    """Why nobody can be sure yet that nothing of a customer will move; empty where that is so."""
    open_days = {
        day for (_, day), each in state.days.items() if customer in each.customer or customer in each.sums.customer
    }
    open_days |= {day for (_, day), held in state.positions.items() if customer in parties_of(held.party)[0]}
    if open_days:
        return f"its day {state.date_of(min(open_days))} is not closed yet"
    due = state.requested.get(customer)
    for day in sorted({day for (_, day), kind in state.closed.items() if kind is not CloseKind.FINAL}):
        date_of = state.date_of(day)
        window = state.book.at(date_of).timetable.correction_window_days
        if due is None or day_number(date_of) + window < due:
            return f"the day {date_of} is not final yet"
    return ""


def last_compactable(record: ShardRecord, state: State) -> int:
    """The last UTC day (since 1970-01-01) of which nothing is read again by an open market but what comes late.

    That is before anything about a day that is not closed became known, and before the oldest snapshot kept.
    """
    needed = [record.journal.known_at(entry) for entry in record.journal.latest(Snapshots.kind, count=2)]
    days = [day for _, day in state.days] or [state.settled + 1]
    needed += [day_ahead_at(state.book, day_of(state.book, day)) for day in days]
    return min(needed) // SECONDS_PER_DAY - 1


# How


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
    told = [
        number
        for index in journal.find(kind=Erasures.kind)
        for number in _erasures(archive, journal, index).customer.tolist()
    ]
    if customer in told:
        return
    at = journal.time(known_at) + bool(told)  # two customers may have owed the same: their remains differ in time
    batches = [index for index in journal.find(kind=Postings.kind) if journal.entry(index).name != REMAINS]
    for index, (postings, _) in archive.unseal_each(journal, batches):
        assert isinstance(postings, Postings)
        remains = _remains(postings.take(postings.account == customer))
        if len(remains):
            header = journal.entry(index)
            journal.append(
                vault.seal(
                    remains,
                    feeder=header.feeder,
                    interval=header.interval,
                    intervals=header.intervals,
                    source=SOURCE,
                    known_at=at,
                    name=REMAINS,
                    causes=(index,),
                )
            )
    erasures, interval = Erasures(customer=np.array([customer], dtype=np.int32)), at // MARKET_INTERVAL_S
    journal.append(vault.seal(erasures, feeder="", interval=interval, intervals=1, source=SOURCE, known_at=at))
    journal.commit(at)


def _erasures(archive: Archive, journal: Journal, index: int) -> Erasures:
    table = archive.unseal(journal, index).table
    assert isinstance(table, Erasures)
    return table


def _remains(postings: Postings) -> Postings:
    """What an erased customer owed, as one row per transaction without quantity or price."""
    sums = fold(postings, "cause", "interval", "unit")
    cause, interval, unit = sums.keys
    kept = sums.amount != 0
    size = int(kept.sum())
    nothing = np.zeros(size, dtype=np.int64)
    return Postings(
        unit=unit[kept],
        account=np.full(size, Account.ERASED, dtype=np.int32),
        interval=interval[kept],
        line=np.full(size, Line.ERASED, dtype=np.uint8),
        quantity=nothing,
        price=nothing,
        amount=sums.amount[kept],
        cause=cause[kept],
    )


def without_customer(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Sections of a summary as they must be once a customer is erased: none may tell its story.

    >>> without_customer({"correction": {"customer": "home-003", "own_move_eur": -0.36}}, "home-003")
    {'correction': None}
    """
    correction = summary.get("correction") or {}
    return {"correction": None} if correction.get("customer") == name else {}
