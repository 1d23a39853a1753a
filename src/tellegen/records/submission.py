"""What a sender hands in: a batch of rows under one signature, and the canonical bytes of its body; signed bids.

A head-end (concentrator) or a participant's gateway signs, with Ed25519, the text ::

    tellegen-batch@v2
    ORIGIN           name of the shard's log: what is signed for one shard says nothing in another
    ROUTE            the purpose: "readings", "daily-roots", "bids" or "admissions"
    SOURCE           its name in the registry
    FEEDER
    MARKET           empty but for bids
    INTERVAL         market interval that every row is about
    SEQUENCE         number that the source uses once
    SHA256-HEX       of the body as sent

each line ended by a newline. Source, route and sequence name the submission for ever: the same one again is the same
record.

The binary body of readings and of daily roots is their canonical rows. That of bids is the number of submissions (u32,
little-endian), their canonical rows, and the canonical rows of the orders that they cover, in the same order.

A customer signs all its orders of one market and interval at once, the text ::

    tellegen-bid@v2
    ORIGIN
    FEEDER
    MARKET           "day_ahead" or "real_time"
    INTERVAL         first market interval: of the delivery day, or of the period
    PERIODS          1 + the last period that an order is about; 1 in real time, up to 25 day-ahead
    SEQUENCE         the customer's own number: of several submissions for one gate the highest counts
    SHA256-HEX       of the canonical rows of its orders, in their order

again each line ended by a newline.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from tellegen.records.batch import Header
from tellegen.records.market import DAY_AHEAD, REAL_TIME, Orders, Submissions
from tellegen.records.metering import DailyRoots, Readings
from tellegen.records.registry import Admissions, Certifications, Connections, KeyGenerations, Revocations, Role
from tellegen.records.table import RecordError

SENT_KINDS = ("readings", "daily_roots", "orders", "submissions")
"""Kinds of records that senders hand in."""
PLATFORM_SOURCES = ("registrar", "intake", "archive", "market operator")
"""Sources under which the platform itself writes; nobody else may be one of them."""
STATEMENT_MAGIC = "tellegen-batch@v2"
BID_MAGIC = "tellegen-bid@v2"
PERIODS_MAX = {DAY_AHEAD: 25, REAL_TIME: 1}
"""Periods that one submission may be about, by market; a day of 25 hours has the most."""
SEQUENCE_MAX = 2**63
NAME_CHARACTERS_MAX = 100
_COUNT = struct.Struct("<I")


def needs_evidence(kind: str, source: str) -> bool:
    """Whether a batch counts only with its sender's signature beside it: or the operator could make one up.

    >>> needs_evidence("readings", "head-end 1"), needs_evidence("prices", "market operator")
    (True, False)
    """
    return kind in SENT_KINDS and source not in PLATFORM_SOURCES


class Route(StrEnum):
    """What a submission is made of, which is the purpose that its sender signs for."""

    READINGS = "readings"
    DAILY_ROOTS = "daily-roots"
    BIDS = "bids"
    ADMISSIONS = "admissions"


MAY_HAND_IN: Mapping[int, tuple[Route, ...]] = {
    Role.HEAD_END: (Route.READINGS, Route.DAILY_ROOTS),
    Role.GATEWAY: (Route.BIDS,),
}
"""What each role may hand in; the others hand in nothing. Changes of the registry are the registrar's alone."""
KINDS_OF: Mapping[Route, tuple[str, ...]] = {
    Route.READINGS: (Readings.kind,),
    Route.DAILY_ROOTS: (DailyRoots.kind,),
    Route.BIDS: (Orders.kind, Submissions.kind),
    Route.ADMISSIONS: (
        Certifications.kind,
        Admissions.kind,
        Revocations.kind,
        Connections.kind,
        KeyGenerations.kind,
    ),
}
"""Kinds of records as which a submission goes on record: whoever signs readings has not signed bids."""


def may_hand_in(role: int, route: Route) -> bool:
    """Whether who is admitted in a role may hand in batches of a route.

    >>> may_hand_in(Role.HEAD_END, Route.READINGS), may_hand_in(Role.HEAD_END, Route.BIDS)
    (True, False)
    """
    return route in MAY_HAND_IN.get(role, ())


def not_its_role(role: int, route: Route) -> str:
    """Why a role may not hand in a batch, and who may.

    >>> not_its_role(Role.HEAD_END, Route.BIDS)
    'is a head-end and hands in readings, daily-roots; bids are for a gateway'
    """
    whose = " or ".join(_words(other) for other, routes in MAY_HAND_IN.items() if route in routes) or "registrar"
    what = ", ".join(MAY_HAND_IN.get(role, ())) or "nothing"
    return f"is a {_words(role)} and hands in {what}; {route} are for a {whose}"


def _words(role: int) -> str:
    return Role(role).name.lower().replace("_", "-")


def carries_evidence(header: Header) -> bool:
    """Whether a log entry carries what its sender may have signed for rows of this kind; nothing is verified."""
    named = header.name.partition("/")[0]
    return bool(header.evidence) and any(named == route and header.kind in kinds for route, kinds in KINDS_OF.items())


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sender signs for a batch.

    >>> said = Statement.of("city.example/1", Route.READINGS, "head-end 1", "F1", "", 7, 1, b"rows")
    >>> said.to_bytes().splitlines()[1:5]
    [b'city.example/1', b'readings', b'head-end 1', b'F1']
    """

    origin: str
    route: Route
    source: str
    feeder: str
    market: str
    interval: int
    sequence: int
    body_sha256: str

    def __post_init__(self) -> None:
        for what in ("origin", "source", "feeder", "market"):
            text = getattr(self, what)
            if len(text) > NAME_CHARACTERS_MAX or not text.isprintable() or not text.isascii():
                raise RecordError(f"{what} of a submission: at most {NAME_CHARACTERS_MAX} printable ASCII characters")
        if not self.origin or not self.source or not 0 <= self.sequence < SEQUENCE_MAX:
            raise RecordError("a submission names its shard, its source and a sequence number from 0")

    @classmethod
    def of(
        cls,
        origin: str,
        route: Route,
        source: str,
        feeder: str,
        market: str,
        interval: int,
        sequence: int,
        body: bytes,
    ) -> Statement:
        """The statement about a body."""
        return cls(origin, route, source, feeder, market, interval, sequence, hashlib.sha256(body).hexdigest())

    def to_bytes(self) -> bytes:
        """The signed text."""
        about = (self.source, self.feeder, self.market, self.interval, self.sequence, self.body_sha256)
        return _lines(STATEMENT_MAGIC, self.origin, self.route, *about)

    def name(self) -> str:
        """Name of the submission's entries in the journal, unique with their source."""
        return f"{self.route}/{self.sequence}"

    def evidence(self, signature: bytes) -> str:
        """What the entry's header keeps of it: body digest and signature; the other fields are the header's own."""
        return f"{self.body_sha256} {base64.b64encode(signature).decode()}"

    @classmethod
    def on_record(
        cls, origin: str, source: str, feeder: str, market: str, interval: int, name: str, evidence: str
    ) -> tuple[Statement, bytes]:
        """Statement and signature back from the name of a journal and the fields of a header in it.

        Raises
        ------
        RecordError : name or evidence are not those of a submission.
        """
        route, slash, sequence = name.partition("/")
        digest, gap, encoded = evidence.partition(" ")
        try:
            signature = base64.b64decode(encoded, validate=True)
            statement = cls(origin, Route(route), source, feeder, market, interval, int(sequence), digest)
        except (ValueError, binascii.Error):
            raise RecordError(f"{name!r} is not the name of a submission with its evidence") from None
        if not slash or not gap or statement.name() != name or statement.evidence(signature) != evidence:
            raise RecordError(f"{name!r} is not the name of a submission with its evidence")
        return statement, signature


def bids_body(submissions: Submissions, orders: Orders) -> bytes:
    """The binary body of signed orders."""
    return _COUNT.pack(len(submissions)) + submissions.rows().tobytes() + orders.rows().tobytes()


def parse_bids_body(body: bytes) -> tuple[Submissions, Orders]:
    """Inverse of `bids_body`.

    Raises
    ------
    RecordError : cut short, or the orders are not as many as the submissions say.
    """
    if len(body) < _COUNT.size:
        raise RecordError("a body of bids begins with the number of submissions, 4 bytes")
    (count,) = _COUNT.unpack_from(body)
    split = _COUNT.size + count * Submissions.row_dtype().itemsize
    if split > len(body):
        raise RecordError(f"a body of {len(body)} bytes does not hold {count} submissions")
    submissions = Submissions.from_bytes(body[_COUNT.size : split])
    orders = Orders.from_bytes(body[split:])
    counts = submissions.order_rows
    if count and int(counts.min()) < 1:
        raise RecordError("a submission covers at least one order row")
    if int(counts.sum(dtype="i8")) != len(orders):
        raise RecordError(f"submissions cover {int(counts.sum(dtype='i8'))} order rows, the body holds {len(orders)}")
    return submissions, orders


def bid_message(
    origin: str, feeder: str, market: str, interval: int, periods: int, sequence: int, rows: bytes
) -> bytes:
    """What a customer signs for its orders; `rows` are their canonical bytes.

    >>> bid_message("city.example/1", "F1", "real_time", 12, 1, 7, b"").splitlines()[:7]
    [b'tellegen-bid@v2', b'city.example/1', b'F1', b'real_time', b'12', b'1', b'7']
    """
    return _lines(BID_MAGIC, origin, feeder, market, interval, periods, sequence, hashlib.sha256(rows).hexdigest())


def bid_messages(
    submissions: Submissions, orders: Orders, origin: str, feeder: str, market: str, interval: int
) -> list[bytes]:
    """What the customer of each submission must have signed; orders in the order of the submissions that cover them."""
    stop = np.cumsum(submissions.order_rows, dtype=np.int64)
    start = stop - submissions.order_rows
    data, width = orders.rows().tobytes(), Orders.row_dtype().itemsize
    periods = 1 + np.maximum.reduceat(orders.period.astype(np.int64), start) if len(submissions) else start
    each = zip(start.tolist(), stop.tolist(), periods.tolist(), submissions.sequence.tolist(), strict=True)
    return [
        bid_message(origin, feeder, market, interval, count, sequence, data[first * width : end * width])
        for first, end, count, sequence in each
    ]


def sign_bids(
    orders: Orders,
    origin: str,
    feeder: str,
    market: str,
    interval: int,
    sequence: ArrayLike,
    sign: Callable[[int, bytes], bytes],
) -> Submissions:
    """Sign each customer's orders.

    Parameters
    ----------
    orders : rows of a customer stand together.
    origin : name of the shard's log.
    sequence : number of each customer's submission, in the order of the customers, or one for all.
    sign : Ed25519 signature, 64 bytes, of a customer (its number) over a message.

    Raises
    ------
    RecordError : the rows of a customer do not stand together.

    >>> len(sign_bids(Orders.empty(), "city.example/1", "F1", "real_time", 12, 0, lambda customer, message: b""))
    0
    """
    starts = np.flatnonzero(np.diff(orders.customer, prepend=orders.customer[:1] - 1))
    customers = orders.customer[starts]
    if np.unique(customers).size != customers.size:
        raise RecordError("the orders of a customer do not stand together; sort them by customer")
    unsigned = Submissions(
        customer=customers,
        order_rows=np.diff(starts, append=len(orders)),
        sequence=np.broadcast_to(np.asarray(sequence, dtype=np.int64), customers.shape),
        signature=np.zeros(customers.size, dtype="V64"),
    )
    messages = bid_messages(unsigned, orders, origin, feeder, market, interval)
    signatures = b"".join(sign(customer, text) for customer, text in zip(customers.tolist(), messages, strict=True))
    return replace(unsigned, signature=np.frombuffer(signatures, dtype="V64"))


def _lines(*fields: object) -> bytes:
    return ("\n".join(map(str, fields)) + "\n").encode("ascii")
