"""What the operator decides besides prices: gates, the starts of clearings, closes of days, snapshots, the clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column

COLD = -1
"""A clearing that starts from nothing."""
PREVIOUS = -2
"""A clearing that starts from that of the period before, of the same gate."""


class GateOutcome(IntEnum):
    """Whether a feeder was cleared at a gate, or settles at the rulebook's administrative price, and why.

    UNMETERED: of its price run too many meters are missing.
    """

    CLOSED = 0
    MISSED = 1
    NO_PRICE = 2
    DEADLINE = 3
    UNMETERED = 4


class CloseKind(IntEnum):
    """What a close of a feeder's day is: its first, one after corrections, or the last there will be."""

    FIRST = 0
    CORRECTION = 1
    FINAL = 2


class UnsettledReason(IntEnum):
    """Why a fact that came late moves no money."""

    FINAL_DAY = 1
    ERASED = 2
    UNKNOWN_INSTALLATION = 3


@dataclass(frozen=True, slots=True, eq=False)
class Ticks(Table):
    """The clock of a quiet intake: an entry of it ends what a gate may count, as any other entry does."""

    kind: ClassVar[str] = "ticks"

    time: NDArray[np.int64] = column("<i8", "s", "since the epoch, UTC")


@dataclass(frozen=True, slots=True, eq=False)
class Clocks(Table):
    """The documented way back after a clock that was wrong: from this entry on, time counts from `time`."""

    kind: ClassVar[str] = "clocks"

    before: NDArray[np.int64] = column("<i8", "s", "time of the newest entry before, since the epoch, UTC")
    time: NDArray[np.int64] = column("<i8", "s", "time from which the record goes on, since the epoch, UTC")
    accepted_by: NDArray[np.bytes_] = column("|S64", "ASCII", "who said so")


@dataclass(frozen=True, slots=True, eq=False)
class RootPrices(Table):
    """Wholesale prices of one market at the root; until a gate is committed, a later row replaces an earlier one."""

    kind: ClassVar[str] = "root_prices"

    interval: NDArray[np.int64] = column("<i8", "1", "first market interval of the period")
    micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "price at which the root buys and sells")
    source: NDArray[np.bytes_] = column("|S64", "ASCII", "where it comes from")


@dataclass(frozen=True, slots=True, eq=False)
class Requirements(Table):
    """Reserve that the operator of the grid asks for on a feeder; for each product and period the last row counts."""

    kind: ClassVar[str] = "requirements"

    interval: NDArray[np.int64] = column("<i8", "1", "first market interval of the period")
    product: NDArray[np.uint8] = column("|u1", "Product", "reserve up or down")
    quantity_w: NDArray[np.int64] = column("<i8", "W", "asked for, held over the period")
    price_micros: NDArray[np.int64] = column("<i8", "micro-currency/(kW h)", "most that is paid for it")


@dataclass(frozen=True, slots=True, eq=False)
class Mitigations(Table):
    """Whose offers were held to their reference because nobody else could relieve a limit (law 7)."""

    kind: ClassVar[str] = "mitigations"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    product: NDArray[np.uint8] = column("|u1", "Product", "of its orders")
    side: NDArray[np.int8] = column("|i1", "Side", "of its orders")
    limit: NDArray[np.bytes_] = column("|S64", "ASCII", "name of the limit")
    offered_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "its price farthest from the reference")
    reference_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "the price that it was held to")
    mitigated: NDArray[np.uint8] = column("|u1", "bool", "1: some of its orders were moved")


@dataclass(frozen=True, slots=True, eq=False)
class Holds(Table):
    """Whose readings were beside its real-time awards again and again, and when none of its orders count for it.

    A batch goes with the settlement that found it so; all its rows are about the intervals of the batch.
    """

    kind: ClassVar[str] = "holds"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    from_interval: NDArray[np.int64] = column("<i8", "1", "first market interval in whose gate its orders do not count")
    until_interval: NDArray[np.int64] = column("<i8", "1", "first one in which they do again")
    deviation_wh: NDArray[np.int64] = column("<i8", "Wh", "between reading and net award, over the day before")
    award_wh: NDArray[np.int64] = column("<i8", "Wh", "net awards of that day, either way")


@dataclass(frozen=True, slots=True, eq=False)
class Withholdings(Table):
    """Who could have relieved a limit, was paid enough for it and did not, though nobody else could (law 7)."""

    kind: ClassVar[str] = "withholdings"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    limit: NDArray[np.bytes_] = column("|S64", "ASCII", "name of the limit")
    limit_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "price of the limit")
    needed_w: NDArray[np.int64] = column("<i8", "W", "relief that the limit asks, at the limit")
    others_w: NDArray[np.int64] = column("<i8", "W", "relief that all others offer, at the limit")
    idle_w: NDArray[np.int64] = column("<i8", "W", "what was kept back, at the device")
    worth_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "what that energy is worth elsewhere")
    price_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "price at its node")


@dataclass(frozen=True, slots=True, eq=False)
class Relaxations(Table):
    """What gave way in a clearing, and its shadow price: limits that could not hold, and paper that was taken.

    Everybody may read it, so it says nothing of one place but a price, as is published there anyway: what one home did
    beyond a limit would be its reading. All limits of single homes of a kind are one row, and all paper of a feeder.
    """

    kind: ClassVar[str] = "relaxations"

    limit: NDArray[np.bytes_] = column("|S64", "ASCII", "name of the limit, or what the row is about")
    lowest_micros: NDArray[np.int64] = column(
        "<i8", "micro-currency/kWh", "least price of it, or where paper was taken"
    )
    highest_micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "highest price of it")
    paper_sold_w: NDArray[np.int64] = column("<i8", "W", "paper taken on the feeder that fed in; else 0")
    paper_bought_w: NDArray[np.int64] = column("<i8", "W", "paper taken on the feeder that withdrew; else 0")


@dataclass(frozen=True, slots=True, eq=False)
class Gates(Table):
    """One closure of a gate: a row for each feeder and period, with all that its clearing is a function of.

    The bids that count are those below `cut` in the intake's journal. A later row about the same feeder, market and
    period may turn CLOSED into DEADLINE, nothing else.
    """

    kind: ClassVar[str] = "gates"

    feeder: NDArray[np.bytes_] = column("|S32", "ASCII", "feeder that is cleared")
    interval: NDArray[np.int64] = column("<i8", "1", "first market interval of the period")
    intervals: NDArray[np.int32] = column("<i4", "1", "market intervals of the period")
    cut: NDArray[np.int64] = column("<i8", "1", "size of the intake's journal below which bids count")
    root_price: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "wholesale price; 0 where there is none")
    outcome: NDArray[np.uint8] = column("|u1", "GateOutcome", "cleared, or why not")
    start: NDArray[np.int64] = column("<i8", "1", "clearing from which it starts; -1: none, -2: the period before")
    spread_from: NDArray[np.int64] = column("<i8", "1", "clearing whose prices a fallback adds to; -1: none")
    taps_from: NDArray[np.int64] = column("<i8", "1", "entry of the taps it is cleared with; -1: the document's")
    engine: NDArray[np.bytes_] = column("|S32", "ASCII", "program, elimination and digest of their builds")
    rules: NDArray[np.void] = column("|V32", "bytes", "SHA-256 of the version of the rules")


@dataclass(frozen=True, slots=True, eq=False)
class Taps(Table):
    """Where taps and capacitors of a feeder came to rest at a dispatch: a row for each that can move.

    The next clearings of the feeder, of either market, are made with them.
    """

    kind: ClassVar[str] = "taps"

    step: NDArray[np.int32] = column("<i4", "1", "steps away from the network's document (`grid.steps_moved`)")


@dataclass(frozen=True, slots=True, eq=False)
class Starts(Table):
    """What a clearing leaves to the next on its network besides prices and awards: its working limits and duals."""

    kind: ClassVar[str] = "starts"

    row_key: NDArray[np.int64] = column("<i8", "1", "number of the limit (`market.limits.Limits.key`)")
    dual_bits: NDArray[np.int64] = column("<i8", "IEEE 754", "the dual, a binary64 as it lies in memory")


@dataclass(frozen=True, slots=True, eq=False)
class Histories(Table):
    """What is known of a customer's consumption before it joined, for its first sharing keys and estimates."""

    kind: ClassVar[str] = "histories"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    trailing_wh: NDArray[np.int64] = column("<i8", "Wh", "withdrawn over the trailing window before")
    longest_still: NDArray[np.int32] = column("<i4", "1", "longest run of intervals without movement")


@dataclass(frozen=True, slots=True, eq=False)
class Profiles(Table):
    """Mean energy of a customer at a time of day, with which a rejected or missing reading is estimated."""

    kind: ClassVar[str] = "profiles"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    place: NDArray[np.int32] = column("<i4", "1", "market interval of the UTC day, 0 to 287")
    import_wh: NDArray[np.int32] = column("<i4", "Wh", "withdrawn in it")
    export_wh: NDArray[np.int32] = column("<i4", "Wh", "injected in it")


@dataclass(frozen=True, slots=True, eq=False)
class Closes(Table):
    """A feeder's billing day is closed, closed again, or final; one row."""

    kind: ClassVar[str] = "closes"

    day: NDArray[np.int32] = column("<i4", "d", "the local date, as days since 1970-01-01")
    first_interval: NDArray[np.int64] = column("<i8", "1", "first market interval of the day")
    intervals: NDArray[np.int32] = column("<i4", "1", "market intervals of the day")
    customers: NDArray[np.int32] = column("<i4", "1", "customers with a statement")
    read_size: NDArray[np.int64] = column("<i8", "1", "size of the intake's journal below which readings counted")
    close_kind: NDArray[np.uint8] = column("|u1", "CloseKind", "first, after corrections, or final")
    open_rent_nanos: NDArray[np.int64] = column("<i8", "nano-currency", "rent that waits for the next close")
    open_unaccounted_nanos: NDArray[np.int64] = column("<i8", "nano-currency", "unaccounted-for energy that waits")


@dataclass(frozen=True, slots=True, eq=False)
class Unsettled(Table):
    """Rows of the intake that came too late to move money: named, on record, and not settled."""

    kind: ClassVar[str] = "unsettled"

    entry: NDArray[np.int64] = column("<i8", "1", "entry of the intake's journal")
    row: NDArray[np.int32] = column("<i4", "1", "row of it")
    reason: NDArray[np.uint8] = column("|u1", "UnsettledReason", "why it is not")


@dataclass(frozen=True, slots=True, eq=False)
class Snapshots(Table):
    """A fold of the record so far, kept so that opening need not read it all; one row for each part."""

    kind: ClassVar[str] = "snapshots"

    part: NDArray[np.bytes_] = column("|S64", "ASCII", "name of the part")
    row_count: NDArray[np.int64] = column("<i8", "1", "rows in it")
    size: NDArray[np.int64] = column("<i8", "B", "bytes of its file")
    digest: NDArray[np.void] = column("|V32", "bytes", "keyed BLAKE2b of its content")
    intake_size: NDArray[np.int64] = column("<i8", "1", "entries of the intake's journal in the fold")
    market_size: NDArray[np.int64] = column("<i8", "1", "entries of the market's journal in the fold")


@dataclass(frozen=True, slots=True, eq=False)
class ErasureRequests(Table):
    """A customer asks to be forgotten; done once its last day is final."""

    kind: ClassVar[str] = "erasure_requests"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    asked_at: NDArray[np.int64] = column("<i8", "s", "since the epoch, UTC")
    due_day: NDArray[np.int32] = column("<i4", "d", "local date from which it may be done, as days since 1970-01-01")
