"""What a sender's body came to: rows in their canonical form, and those that have none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.records import DailyRoots, Orders, Readings, RecordError, Refusal, Submissions, parse_bids_body
from tellegen.units import IntArray

REASONS = {
    Refusal.UNKNOWN: "no such customer or meter is connected in this interval, or has a certificate; enrol it first",
    Refusal.REVOKED: "its certificate is revoked or has expired; enrol it with a new key",
    Refusal.CODE: "the authentication code is not that of this meter for this row and interval",
    Refusal.REPLAYED: "a reading with this counter was taken already; a new reading has a new counter",
    Refusal.STALE_COUNTER: "the counter is too far behind the newest one; read the meter again",
    Refusal.OTHER_FEEDER: "the customer hangs on another feeder in this interval; send the row for that feeder",
    Refusal.SIGNATURE: "the customer has not signed these orders for this market and interval, or the meter this day",
    Refusal.OUT_OF_RANGE: "a value is outside what its column may hold",
    Refusal.DUPLICATE: "an earlier row of this batch stands in its place: same meter and counter, or day, or customer",
    Refusal.MALFORMED: "the row cannot be read",
    Refusal.BEYOND_CONNECTION: "the customer's orders together are more than its connection carries; order less",
    Refusal.BEYOND_DEVICE: "the customer's orders for a device are more than its registered limits; order less",
    Refusal.BEYOND_CREDIT: "the customer's orders at their prices are worth more than its credit; pay, or order less",
    Refusal.NOT_DELIVERED: "the customer did not deliver what it claimed before; orders count again when its hold ends",
    Refusal.NOT_REGISTERED: "the customer has no such device registered; register it (`tellegen registry import`)",
    Refusal.NOT_ATTESTED: "nobody vouches for the device's capacity; register it again with `attested_by`",
}
"""What is wrong with a refused row, and what would be right."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that does not count: its number as sent, from 0, the reason, and details where there are any."""

    row: int
    refusal: Refusal
    detail: str

    @classmethod
    def of(cls, row: int, refusal: int) -> RowProblem:
        """With the detail that every row refused for this reason has."""
        return cls(row, Refusal(refusal), REASONS[Refusal(refusal)])


@dataclass(frozen=True, slots=True, eq=False)
class SentReadings:
    """Readings of a body.

    Attributes
    ----------
    readings : rows that could be read.
    numbers : int64 per row, its number in the body.
    problems : of rows that could not.
    """

    readings: Readings
    numbers: IntArray
    problems: tuple[RowProblem, ...] = ()

    @classmethod
    def from_bytes(cls, body: bytes) -> SentReadings:
        """Read canonical rows.

        Raises
        ------
        RecordError : not a whole number of rows.
        """
        readings = Readings.from_bytes(body)
        return cls(readings, np.arange(len(readings)))

    @property
    def rows(self) -> int:
        """Rows to be worked on."""
        return len(self.readings)

    def customers(self) -> NDArray[np.int32]:
        """Customer of each row."""
        return self.readings.customer

    def take(self, where: NDArray[np.bool_]) -> SentReadings:
        """Some of the rows; their numbers stay."""
        return SentReadings(self.readings.take(where), self.numbers[where], self.problems)


@dataclass(frozen=True, slots=True, eq=False)
class SentRoots:
    """Meters' signed days of a body.

    Attributes
    ----------
    roots : one row a meter.
    numbers : int64 per row, its number in the body.
    problems : none; canonical rows can all be read.
    """

    roots: DailyRoots
    numbers: IntArray
    problems: tuple[RowProblem, ...] = ()

    @classmethod
    def from_bytes(cls, body: bytes) -> SentRoots:
        """Read canonical rows.

        Raises
        ------
        RecordError : not a whole number of rows.
        """
        roots = DailyRoots.from_bytes(body)
        return cls(roots, np.arange(len(roots)))

    @property
    def rows(self) -> int:
        """Rows to be worked on."""
        return len(self.roots)

    def customers(self) -> NDArray[np.int32]:
        """Customer of each row."""
        return self.roots.customer

    def take(self, where: NDArray[np.bool_]) -> SentRoots:
        """Some of the rows; their numbers stay."""
        return SentRoots(self.roots.take(where), self.numbers[where])


@dataclass(frozen=True, slots=True, eq=False)
class SentBids:
    """Bids of a body: a row is a submission, with the orders that it covers.

    Attributes
    ----------
    submissions, orders : those that could be read; orders in the order of the submissions.
    numbers : int64 per submission, its number in the body.
    problems : of submissions that could not be read.
    """

    submissions: Submissions
    orders: Orders
    numbers: IntArray
    problems: tuple[RowProblem, ...] = ()

    @classmethod
    def from_bytes(cls, body: bytes) -> SentBids:
        """Read the binary body of bids; a submission over orders of somebody else is a problem.

        Raises
        ------
        RecordError : cut short, or its counts do not agree.
        """
        submissions, orders = parse_bids_body(body)
        numbers = np.arange(len(submissions))
        whose = np.repeat(numbers, submissions.order_rows)
        # whoever is named there may have no key to seal the order with
        strange = np.unique(whose[orders.customer != submissions.customer[whose]])
        problems = tuple(RowProblem.of(row, Refusal.SIGNATURE) for row in strange.tolist())
        sent = cls(submissions, orders, numbers, problems)
        return sent.take(~np.isin(numbers, strange)) if problems else sent

    @property
    def rows(self) -> int:
        """Rows to be worked on, orders included."""
        return len(self.submissions) + len(self.orders)

    def customers(self) -> NDArray[np.int32]:
        """Customer of each submission."""
        return self.submissions.customer

    def take(self, where: NDArray[np.bool_]) -> SentBids:
        """Some of the submissions, with their orders; their numbers stay."""
        covered = np.repeat(where, self.submissions.order_rows)
        return SentBids(self.submissions.take(where), self.orders.take(covered), self.numbers[where], self.problems)


Sent = SentReadings | SentRoots | SentBids
__all__ = ["REASONS", "RecordError", "RowProblem", "Sent", "SentBids", "SentReadings", "SentRoots"]
