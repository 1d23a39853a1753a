"""What is done to a shard between its days, with market and intake closed: compaction, and erasures that are due.

Both take rows out of the files of both journals, and destroy keys under which whoever has them open reads. So nobody
may: `tellegen operate` stops its intake for as long as this takes, and opens its market again behind it; a shard that
nobody operates is at rest anyway. Each step is durable before the next begins, and what a crash has cut short is
finished by asking again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from tellegen.errors import InputError
from tellegen.intake.intake import Intake
from tellegen.intake.known import STATE
from tellegen.journal import Journal
from tellegen.journal.clock import BOUNDS, RecordClock, elapsed_s
from tellegen.operations.compaction import Filed, compact
from tellegen.operations.directory import read_number
from tellegen.operations.erasure import erase_from_shard, hindrance, last_compactable
from tellegen.operations.market import Market
from tellegen.operations.record import MARKET, ShardRecord
from tellegen.operations.timetable import close_at, day_bounds, day_number, day_of, final_at
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder
from tellegen.records import CloseKind, Erasures, Snapshots
from tellegen.units import MARKET_INTERVAL_S

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of a request to be forgotten.

    Attributes
    ----------
    due : the first local date on which it may be done; None: it is done.
    rows_hidden : how many rows on record nobody can read again.
    """

    due: date | None
    rows_hidden: int = 0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done: what went to the archive, and who was erased."""

    filed: Filed
    erased: tuple[int, ...]


def _quiet(what: str) -> None:
    """Nobody listens."""


def erase(directory: Path, customer: int, at: int, *, early: bool = False, step: Step = _quiet) -> Erasure:
    """Erase a customer if that is due; else put its request on record, and say when it is.

    Parameters
    ----------
    at : now, seconds since the epoch.
    early : at once, whatever is due: its closed days are made final. In simulations, to show the mechanism.
    step : told each step before it is taken.

    Raises
    ------
    InputError : no shard, no such customer, or early in earnest.
    MarketError : the customer is connected, or its last day is not closed.
    JournalError, VaultError : somebody else has a journal open, or a file is damaged.
    """
    with Vault.open(directory / "vault") as vault:
        if early and not vault.simulated:
            raise InputError(
                directory, "erasure", "is done when the customer's days are final; only a simulation may be early"
            )
        known, gone = vault.holds(customer), customer in vault.erased
    if gone and _renew_if_stale(directory, at, step):  # a crash had come between the key and the snapshots
        return Erasure(None)
    if not known:
        raise InputError(directory, f"customer {customer}", "has no key: never enrolled, or erased already")
    if (directory / MARKET / "journal").is_dir():
        due = _ready(directory, customer, at, early, step)
        if due is not None:
            return Erasure(due)
    with Vault.open(directory / "vault") as vault:
        hidden = erase_from_shard(directory, vault, customer, known_at=at, step=step)
    renew_snapshots(directory, at, step)
    return Erasure(None, hidden)


def _ready(directory: Path, customer: int, at: int, early: bool, step: Step) -> date | None:
    """Make the customer's days final where their time has come; when that will be, where it has not."""
    with Market.open(directory) as market:
        state = market.state
        if not early and customer not in state.erased:
            step("put the request on record")
            due = market.request_erasure(customer, at)
            if day_of(market.book, at // MARKET_INTERVAL_S) < due:
                return due
        waiting = sorted({day for (_, day), kind in state.closed.items() if kind is not CloseKind.FINAL})
        for day in waiting:
            date_of = state.date_of(day)
            if early or at >= final_at(market.book, date_of):
                step(f"make {date_of} final")
                market.finalise(date_of, at, early=early)
        reason = hindrance(state, customer)
    if reason:
        raise InputError(directory, f"customer {customer}", f"cannot be erased yet: {reason}")
    return None


def renew_snapshots(directory: Path, at: int, step: Step = _quiet) -> None:
    """Take snapshots without those who were erased, and destroy the keys of all that know of them."""
    if (directory / MARKET / "journal").is_dir():
        step("renew the market's snapshot")
        with Market.open(directory) as market:
            market.snapshot(at, afresh=True)
    if (directory / STATE).is_dir():
        step("renew the intake's snapshot")
        intake = Intake.open(
            directory,
            clock=lambda newest: RecordClock(wall=lambda: float(max(at, newest)), elapsed=elapsed_s, not_before=newest),
        )
        try:
            intake.snapshot(afresh=True)
        finally:
            intake.close()


def knows_of_erased(record: ShardRecord) -> bool:
    """Whether the newest snapshot of either journal was taken before the newest erasure."""
    for journal in (record.journal, record.intake):
        kept, erased = (journal.latest(kind.kind) for kind in (Snapshots, Erasures))
        if kept and erased and kept[0] < erased[0]:
            return True
    return False


def _renew_if_stale(directory: Path, at: int, step: Step) -> bool:
    if not (directory / MARKET / "journal").is_dir():
        return False
    with ShardRecord.open(directory) as record:
        stale = knows_of_erased(record)
    if stale:
        renew_snapshots(directory, at, step)
    return stale


def keep_up(directory: Path, at: int, step: Step = _quiet) -> Upkeep:
    """Compact what no open day needs, and erase who asked and is due.

    Parameters
    ----------
    at : now, seconds since the epoch.
    """
    with Market.open(directory) as market:
        last, ready = last_compactable(market.record, market.state), _ready_to_go(market, at)
        stale = knows_of_erased(market.record)
    with Vault.open(directory / "vault") as vault:
        filed = compact(directory, vault, known_at=at, until_day=last, step=step)
        for customer in ready:
            erase_from_shard(directory, vault, customer, known_at=at, step=step)
    if ready or stale:
        renew_snapshots(directory, at, step)
    return Upkeep(filed, ready)


def is_due(market: Market, at: int) -> bool:
    """Whether `keep_up` has anything to do: a day's rows to compact, or somebody to erase."""
    last = last_compactable(market.record, market.state)
    live = any(epoch.keys is not None and epoch.day <= last for epoch in market.record.vault.epochs)
    return live or bool(_ready_to_go(market, at)) or knows_of_erased(market.record)


def _ready_to_go(market: Market, at: int) -> tuple[int, ...]:
    """Customers who asked to be forgotten and may be by now; first those with whom a crash has cut it short."""
    state, today = market.state, day_number(day_of(market.book, at // MARKET_INTERVAL_S))
    asked = sorted(who for who, due in state.requested.items() if due <= today)
    begun = sorted(who for who in state.erased if market.record.vault.holds(who))
    return (*begun, *(who for who in asked if not hindrance(state, who)))


def bill_ended(market: Market, at: int) -> None:
    """Bill what has moved since, where a simulated market has ended: with the close of the next day that is open.

    Any other market bills it by its timetable.
    """
    last, day = market.record.last_interval, day_of(market.book, at // MARKET_INTERVAL_S)
    if last is None or market.state.settled < last or not market.record.vault.simulated:
        return
    while market.state.is_closed(day_bounds(market.book, day).start):
        day += timedelta(days=1)
    market.close_day(day, max(at, close_at(market.book, day)))


def time_of_act(directory: Path, clock: int) -> int:
    """When something is done to a shard now: by the clock, or where its record ends if it is a simulation.

    Parameters
    ----------
    clock : seconds since the epoch.

    Raises
    ------
    ClockError : it is too far from the newest entry.
    """
    with Vault.open(directory / "vault") as vault:
        simulated = vault.simulated
    folders = [folder for folder in (directory, directory / MARKET) if (folder / "journal").is_dir()]
    newest = 0
    for folder in folders:
        with Journal.open(folder) as journal:
            newest = max(newest, journal.known_at(len(journal) - 1) if len(journal) else 0)
    if not simulated:
        BOUNDS.check(clock, newest)
    return newest if simulated else clock


def number_of(directory: Path, customer: str) -> int:
    """Number of a customer that is given by name or number.

    Raises
    ------
    InputError : nobody is called that.
    """
    if customer.isdecimal():
        return int(customer)
    with Vault.open(directory / "vault") as vault, Journal.open(directory) as journal:
        return read_number(Recorder(journal, vault, ""), customer, directory)
