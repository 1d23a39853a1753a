"""Wire formats of a batch: canonical rows, MessagePack, NDJSON.

Canonical rows are the fastest, and the only format whose digest, which the sender signs, can be made again from the
rows on record. In the other two each row stands by itself, so that one that cannot be read is refused alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from tellegen.intake.registry_changes import SentChanges
from tellegen.intake.sent import RowProblem, Sent, SentBids, SentReadings, SentRoots
from tellegen.records import Orders, Readings, RecordError, Refusal, Route, Submissions
from tellegen.units import IntArray

ROWS = "application/vnd.tellegen.rows"
MSGPACK = "application/msgpack"
NDJSON = "application/x-ndjson"
MEDIA_TYPES = (ROWS, MSGPACK, NDJSON)
ORDERS_PER_BID_MAX = 25 * 64

T = TypeVar("T")

_I32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_U8 = Annotated[int, Meta(ge=0, le=255)]
_I8 = Annotated[int, Meta(ge=-128, le=127)]


class ReadingRow(msgspec.Struct, forbid_unknown_fields=True):
    """A row of readings: fields as the columns of `records.Readings`; `tag` 16 bytes, in JSON as base64."""

    customer: _I32
    meter: _I64
    counter: _I64
    import_wh: _I64
    export_wh: _I64
    reactive_varh: _I64
    voltage_mv: _I64
    tag: Annotated[bytes, Meta(min_length=16, max_length=16)]


class OrderRow(msgspec.Struct, forbid_unknown_fields=True):
    """A step of a bid: fields as the columns of `records.Orders`, the customer's number excepted."""

    period: _U8
    device: _U8
    node: _I32
    product: _U8
    side: _I8
    price_taker: _U8
    price_micros: _I64
    quantity_w: _I64
    var_per_kw: _I32


class BidRow(msgspec.Struct, forbid_unknown_fields=True):
    """A customer's orders under its signature (64 bytes, in JSON as base64) over their canonical rows."""

    customer: _I32
    sequence: _I64
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    orders: Annotated[list[OrderRow], Meta(min_length=1, max_length=ORDERS_PER_BID_MAX)]


_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_RAW_LIST = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Rows(Generic[T]):
    """How rows of one type are read: all at once, and one by one where one of them is bad."""

    def __init__(self, row: type[T]) -> None:
        self._json, self._packed = msgspec.json.Decoder(row), msgspec.msgpack.Decoder(row)
        self._packed_list = msgspec.msgpack.Decoder(list[row])  # type: ignore[valid-type]

    def lines(self, body: bytes, rows_max: int) -> tuple[list[T], IntArray, tuple[RowProblem, ...]]:
        """Rows of NDJSON, one a line."""
        text = body.removesuffix(b"\n")
        _check_count(text.count(b"\n") + bool(text), rows_max)
        try:
            rows: list[T] = self._json.decode_lines(text)
            if len(rows) == text.count(b"\n") + bool(text):
                return rows, np.arange(len(rows)), ()
        except _UNREADABLE:
            pass
        return _one_by_one(text.split(b"\n"), self._json.decode)

    def packed(self, body: bytes, rows_max: int) -> tuple[list[T], IntArray, tuple[RowProblem, ...]]:
        """Rows of a MessagePack array."""
        _check_count(_packed_count(body), rows_max)
        try:
            rows: list[T] = self._packed_list.decode(body)
            return rows, np.arange(len(rows)), ()
        except _UNREADABLE:
            pass
        try:
            parts = _RAW_LIST.decode(body)
        except _UNREADABLE as error:
            raise RecordError(f"not one array of rows: {error}") from None
        return _one_by_one(parts, self._packed.decode)


_READINGS, _BIDS = Rows(ReadingRow), Rows(BidRow)


def decode(route: Route, media_type: str, body: bytes, rows_max: int) -> Sent | SentChanges:
    """Read a body.

    Parameters
    ----------
    media_type : one of `MEDIA_TYPES`.
    rows_max : how many rows a body of text or MessagePack may hold.

    Raises
    ------
    RecordError : it is no batch of rows, or holds too many.

    >>> sent = decode(Route.READINGS, NDJSON, b'{"customer": 7}\\n', 10)
    >>> sent.rows, [(p.row, p.detail) for p in sent.problems]
    (0, [(0, 'Object missing required field `meter`')])
    """
    if route is Route.ADMISSIONS:
        if media_type != ROWS:
            raise RecordError(f"admissions come as {ROWS}")
        return SentChanges.from_bytes(body)
    if route is Route.DAILY_ROOTS:
        if media_type != ROWS:
            raise RecordError(f"daily roots come as {ROWS}")
        return SentRoots.from_bytes(body)
    if media_type == ROWS:
        return SentReadings.from_bytes(body) if route is Route.READINGS else SentBids.from_bytes(body)
    if route is Route.READINGS:
        readings, numbers, problems = (_READINGS.packed if media_type == MSGPACK else _READINGS.lines)(body, rows_max)
        return SentReadings(_as_readings(readings), numbers, problems)
    bids, numbers, problems = (_BIDS.packed if media_type == MSGPACK else _BIDS.lines)(body, rows_max)
    return SentBids(_as_submissions(bids), _as_orders(bids), numbers, problems)


def _one_by_one(
    parts: Sequence[bytes | msgspec.Raw], read: Callable[[bytes | msgspec.Raw], T]
) -> tuple[list[T], IntArray, tuple[RowProblem, ...]]:
    rows, numbers, problems = [], [], []
    for number, part in enumerate(parts):
        try:
            rows.append(read(part))
            numbers.append(number)
        except _UNREADABLE as error:
            problems.append(RowProblem(number, Refusal.MALFORMED, str(error)))
    return rows, np.array(numbers, dtype=np.int64), tuple(problems)


def _check_count(count: int, rows_max: int) -> None:
    if count > rows_max:
        raise RecordError(f"{count} rows in one batch; at most {rows_max}, send several")


def _packed_count(body: bytes) -> int:
    """Length of the array that a MessagePack body is, before anything is made of it."""
    first = body[:1]
    if b"\x90" <= first <= b"\x9f":
        return first[0] & 0x0F
    if first in (b"\xdc", b"\xdd"):
        width = 2 if first == b"\xdc" else 4
        if len(body) > width:
            return int.from_bytes(body[1 : 1 + width], "big")
    raise RecordError("not one array of rows: it does not begin as a MessagePack array does")


def _as_readings(rows: list[ReadingRow]) -> Readings:
    return Readings(
        customer=np.array([row.customer for row in rows], dtype=np.int32),
        meter=np.array([row.meter for row in rows], dtype=np.int64),
        counter=np.array([row.counter for row in rows], dtype=np.int64),
        import_wh=np.array([row.import_wh for row in rows], dtype=np.int64),
        export_wh=np.array([row.export_wh for row in rows], dtype=np.int64),
        reactive_varh=np.array([row.reactive_varh for row in rows], dtype=np.int64),
        voltage_mv=np.array([row.voltage_mv for row in rows], dtype=np.int64),
        tag=np.frombuffer(b"".join([row.tag for row in rows]), dtype="V16"),
    )


def _as_submissions(bids: list[BidRow]) -> Submissions:
    return Submissions(
        customer=np.array([bid.customer for bid in bids], dtype=np.int32),
        order_rows=np.array([len(bid.orders) for bid in bids], dtype=np.int32),
        sequence=np.array([bid.sequence for bid in bids], dtype=np.int64),
        signature=np.frombuffer(b"".join([bid.signature for bid in bids]), dtype="V64"),
    )


def _as_orders(bids: list[BidRow]) -> Orders:
    steps = [step for bid in bids for step in bid.orders]
    return Orders(
        customer=np.array([bid.customer for bid in bids for _ in bid.orders], dtype=np.int32),
        period=np.array([step.period for step in steps], dtype=np.uint8),
        device=np.array([step.device for step in steps], dtype=np.uint8),
        node=np.array([step.node for step in steps], dtype=np.int32),
        product=np.array([step.product for step in steps], dtype=np.uint8),
        side=np.array([step.side for step in steps], dtype=np.int8),
        price_taker=np.array([step.price_taker for step in steps], dtype=np.uint8),
        price_micros=np.array([step.price_micros for step in steps], dtype=np.int64),
        quantity_w=np.array([step.quantity_w for step in steps], dtype=np.int64),
        var_per_kw=np.array([step.var_per_kw for step in steps], dtype=np.int32),
    )
