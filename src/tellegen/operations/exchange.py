"""What anybody outside may ask of the operator, and what it answers: bodies in, awards and prices out.

The same protocol stands in process (a simulation, a test) and over HTTP (`service.client`): whoever speaks to the
operator cannot tell which.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from tellegen.intake.sent import RowProblem
from tellegen.records import Clearings, Prices, RecordError, Statement
from tellegen.units import IntArray

AWARDS_MAGIC = "tellegen-awards@v1"


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a batch.

    Attributes
    ----------
    accepted : rows that count. refused : the others, each with its reason.
    entries : journal indices. headers : the entries themselves, canonical bytes, one for each.
    receipts : C2SP tlog-proofs of them, one for each.
    """

    accepted: int
    refused: tuple[RowProblem, ...]
    entries: tuple[int, ...]
    headers: tuple[bytes, ...]
    receipts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AwardsRequest:
    """A source asks what those whose bids it brought were awarded.

    Attributes
    ----------
    origin : name of the shard's log. source : its name in the registry. market, interval : of the submission; of a
        day-ahead market the first interval of the delivery day. "price_run" asks for the prices at which an interval
        of real time settled, of those whose bids it brought for it.
    asked_at : seconds since the epoch; a request is good for a minute around it.

    >>> AwardsRequest("shard.example", "gateway", "real_time", 7, 2100).to_bytes().splitlines()[0]
    b'tellegen-awards@v1'
    """

    origin: str
    source: str
    market: str
    interval: int
    asked_at: int

    def to_bytes(self) -> bytes:
        """The signed text.

        Raises
        ------
        RecordError : a name is not printable ASCII.
        """
        for text in (self.origin, self.source, self.market):
            if not text.isascii() or not text.isprintable():
                raise RecordError("names in a request for awards are printable ASCII")
        fields = (AWARDS_MAGIC, self.origin, self.source, self.market, self.interval, self.asked_at)
        return "".join(f"{field}\n" for field in fields).encode("ascii")


class PriceRole(StrEnum):
    """What a price is good for: devices answer a guide, money follows what settles."""

    GUIDE = "guide"
    SETTLES = "settles"


@dataclass(frozen=True, slots=True, eq=False)
class Awarded:
    """What one gate gave to some customers; what is not listed was awarded nothing. A price run awards nothing.

    Attributes
    ----------
    market, interval : as asked. cleared : whether the gate has been closed for all of them by now.
    customer, period, order, quantity_mw : int64[n], awards above zero; `order` is the row within the customer's own
        submission, mW (mvar) held over the period.
    whose : int64[m], customers that are spoken for, ascending.
    status : int64[periods, m], `records.ClearingStatus` of the feeder each hangs on; -1 where nothing is cleared.
    energy_micros, reactive_micros : int64[periods, m], price at each one's node, per kWh (kvarh).
    refusal : int64[periods, m], `records.Refusal`: why orders of a period were not taken; 0: nothing was refused.
    held_until : int64[m], first interval in which each one's orders count again; 0: these counted. Who claimed and did
        not deliver is on hold until then: its orders are refused (`Refusal.NOT_DELIVERED`), and gates take what its
        meter usually shows.
    prices : what these prices are good for.
    settled_in, settled_at : the market under which prices that settle are asked for, and from when on, seconds since
        the epoch; this one where these are they.
    """

    market: str
    interval: int
    cleared: bool
    customer: IntArray
    period: IntArray
    order: IntArray
    quantity_mw: IntArray
    whose: IntArray
    status: IntArray
    energy_micros: IntArray
    reactive_micros: IntArray
    refusal: IntArray
    held_until: IntArray
    prices: PriceRole
    settled_in: str
    settled_at: int

    def refused(self) -> list[tuple[int, RowProblem]]:
        """Customer, and period with the reason and what would be right, of each whose orders were not taken."""
        found = np.argwhere(self.refusal).tolist()
        return [(int(self.whose[k]), RowProblem.of(period, int(self.refusal[period, k]))) for period, k in found]


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """What everybody may know of a feeder's clearing: its prices at every node, and how it ended."""

    feeder: str
    prices: Prices
    clearing: Clearings


class Exchange(Protocol):
    """The operator as seen from outside."""

    def hand_in(self, statement: Statement, signature: bytes, body: bytes) -> Reply:
        """Hand in a batch; its answer comes once the batch is on record for good.

        Raises
        ------
        RefusedBatchError : nothing of it is on record.
        """
        ...

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        """Awards and prices of the customers whose bids the source brought to this gate.

        Raises
        ------
        RefusedBatchError : the source is not known, or the signature is not its own over this request.
        """
        ...

    def published(self, market: str, interval: int) -> tuple[Published, ...]:
        """Prices and outcomes of a period on every feeder; empty before its gate has been closed."""
        ...
