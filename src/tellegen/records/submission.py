"""What a sender hands in: a batch of rows under one signature, and the canonical bytes of its body.

A head-end (concentrator) or a participant's gateway signs, with Ed25519, the text ::

    tellegen-batch@v1
    ROUTE            "readings", "daily-roots", "bids" or "admissions"
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
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from enum import StrEnum

from tellegen.records.market import Orders, Submissions
from tellegen.records.table import RecordError

STATEMENT_MAGIC = "tellegen-batch@v1"
SEQUENCE_MAX = 2**63
NAME_CHARACTERS_MAX = 100
_COUNT = struct.Struct("<I")


class Route(StrEnum):
    """What a submission is made of."""

    READINGS = "readings"
    DAILY_ROOTS = "daily-roots"
    BIDS = "bids"
    ADMISSIONS = "admissions"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sender signs for a batch.

    >>> Statement.of(Route.READINGS, "head-end 1", "F1", "", 7, 1, b"rows").to_bytes().splitlines()[1:4]
    [b'readings', b'head-end 1', b'F1']
    """

    route: Route
    source: str
    feeder: str
    market: str
    interval: int
    sequence: int
    body_sha256: str

    def __post_init__(self) -> None:
        for what, text in (("source", self.source), ("feeder", self.feeder), ("market", self.market)):
            if len(text) > NAME_CHARACTERS_MAX or not text.isprintable() or not text.isascii():
                raise RecordError(f"{what} of a submission: at most {NAME_CHARACTERS_MAX} printable ASCII characters")
        if not self.source or not 0 <= self.sequence < SEQUENCE_MAX:
            raise RecordError("a submission names its source and a sequence number from 0")

    @classmethod
    def of(
        cls, route: Route, source: str, feeder: str, market: str, interval: int, sequence: int, body: bytes
    ) -> Statement:
        """The statement about a body."""
        return cls(route, source, feeder, market, interval, sequence, hashlib.sha256(body).hexdigest())

    def to_bytes(self) -> bytes:
        """The signed text."""
        fields = (STATEMENT_MAGIC, self.route, self.source, self.feeder, self.market, self.interval, self.sequence)
        return "".join(f"{field}\n" for field in (*fields, self.body_sha256)).encode("ascii")

    def name(self) -> str:
        """Name of the submission's entries in the journal, unique with their source."""
        return f"{self.route}/{self.sequence}"

    def evidence(self, signature: bytes) -> str:
        """What the entry's header keeps of it: body digest and signature; the other fields are the header's own."""
        return f"{self.body_sha256} {base64.b64encode(signature).decode()}"

    @classmethod
    def on_record(
        cls, source: str, feeder: str, market: str, interval: int, name: str, evidence: str
    ) -> tuple[Statement, bytes]:
        """Statement and signature back from a journal header's fields.

        Raises
        ------
        RecordError : name or evidence are not those of a submission.
        """
        route, slash, sequence = name.partition("/")
        digest, gap, encoded = evidence.partition(" ")
        try:
            signature = base64.b64decode(encoded, validate=True)
            statement = cls(Route(route), source, feeder, market, interval, int(sequence), digest)
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
