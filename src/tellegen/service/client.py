"""The operator over HTTP: batches handed in, and what they were awarded; an answer counts once it is proven.

`IntakeClient` speaks as anybody outside does, one request at a time, and believes nothing that the operator's key has
not signed. `deliver` sends a whole round over a few kept connections, for who makes a load and audits it afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Protocol, TypeVar

from tellegen.errors import InputError, TellegenError
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.intake.sent import RowProblem
from tellegen.operations.exchange import Awarded, AwardsRequest, Reply
from tellegen.records import Certifications, Readings, RecordError, Refusal, Refusals, Route, Statement, shard_of
from tellegen.records.submission import KINDS_OF, carries_evidence
from tellegen.service.awards import awarded_of
from tellegen.verify import RefusedError, check_receipt, entry_within

ROWS_MEDIA_TYPE = "application/vnd.tellegen.rows"
ANSWER_BYTES_MAX = 1 << 24
ANSWER_SECONDS_MAX = 30.0
CONNECTIONS = 4
T = TypeVar("T")
RECEIPT_EVERY = 50
"""Of the replies of a round, how many go by until one's receipts are kept for the audit."""


class UnprovenError(InputError):
    """The answer does not prove that the batch is on record."""


class DeliveryError(TellegenError):
    """An intake did not answer, or took less than it was sent."""


class Signed(Protocol):
    """A batch ready to be sent."""

    @property
    def statement(self) -> Statement:
        """What its sender says of it."""

    @property
    def signature(self) -> bytes:
        """The signature of that."""

    @property
    def body(self) -> bytes:
        """Its rows."""


class IntakeClient:
    """The intake of a shard, as its senders have it (`operations.exchange.Exchange`).

    Parameters
    ----------
    server : address of the intake, such as ``http://127.0.0.1:8440``.
    operator_key : the shard's verifier key, known from elsewhere.

    Raises
    ------
    InputError : the address is none.
    """

    def __init__(self, server: str, operator_key: str) -> None:
        if urllib.parse.urlsplit(server).scheme not in ("http", "https"):
            raise InputError(server, "address", "must begin with http:// or https://")
        self._server, self._operator_key = server.rstrip("/"), operator_key
        self.origin = shard_of(operator_key.partition("+")[0])

    def hand_in(self, statement: Statement, signature: bytes, body: bytes) -> Reply:
        """Hand a batch in, and wait until it is on record; the same batch again is the same record.

        Raises
        ------
        RefusedBatchError : the intake refuses the batch; says why.
        UnprovenError : whoever answers there does not prove that the batch is on record.
        InputError : no intake answers there; the same batch can be sent again.
        """
        target, digest = f"/v1/{statement.route}?{_query(statement)}", content_digest(statement)
        reply = self._read(target, signature, body, _reply, digest)
        check_reply(reply, statement, signature, self._operator_key, self._server)
        return reply

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        """Awards and prices of the customers whose bids the source brought.

        Raises
        ------
        RefusedBatchError, InputError : as `hand_in`.
        """
        about = {"source": request.source, "market": request.market, "interval": request.interval}
        query = urllib.parse.urlencode(about | {"time": request.asked_at})
        return self._read(f"/v1/awards?{query}", signature, b"", awarded_of)

    def _read(self, target: str, signature: bytes, body: bytes, read: Callable[[Any], T], digest: str = "") -> T:
        headers = {"content-type": ROWS_MEDIA_TYPE, "tellegen-signature": base64.b64encode(signature).decode()}
        if digest:
            headers["content-digest"] = digest
        request = urllib.request.Request(self._server + target, data=body, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310
                return read(json.loads(answer.read(ANSWER_BYTES_MAX)))
        except urllib.error.HTTPError as problem:
            raise self._refused(problem) from None
        except (
            OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, RecursionError, RecordError,
            RefusedError,
        ) as error:  # fmt: skip
            raise InputError(
                self._server, "intake", f"does not answer as one ({error}); the same can be asked again"
            ) from None

    def _refused(self, problem: urllib.error.HTTPError) -> TellegenError:
        try:
            said = json.loads(problem.read(ANSWER_BYTES_MAX))
            rows = tuple(map(_row, said.get("refused", ())))
            reason = Reason(said["type"].rpartition("/")[2])
            return RefusedBatchError(reason, str(said["detail"]), rows=rows)
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return InputError(self._server, "intake", f"answers with status {problem.code}")


def send_readings(
    client: IntakeClient, source: str, feeder: str, interval: int, readings: Readings, sign: Callable[[bytes], bytes]
) -> Reply:
    """Hand in readings of one interval under a number that follows from them, so that again changes nothing.

    Raises
    ------
    RefusedBatchError, InputError : as `IntakeClient.hand_in`.
    """
    body = readings.rows().tobytes()
    digest = hashlib.sha256(f"{source}/{feeder}/{interval}/".encode() + body).digest()
    sequence = int.from_bytes(digest[:7], "big")
    statement = Statement.of(client.origin, Route.READINGS, source, feeder, "", interval, sequence, body)
    return client.hand_in(statement, sign(statement.to_bytes()), body)


def check_reply(reply: Reply, statement: Statement, signature: bytes, operator_key: str, server: str = "reply") -> None:
    """Check offline that a reply proves what it says: entries signed for, all of the batch's own among them.

    Raises
    ------
    UnprovenError : a receipt does not hold under the operator's key, or is that of something else; or not as many rows
        count as it says.
    """
    origin = shard_of(operator_key.partition("+")[0])
    rows: dict[str, int] = {}
    refused = 0
    try:
        for entry, header, receipt in zip(reply.entries, reply.headers, reply.receipts, strict=True):
            proven = check_receipt(receipt, header, operator_key)
            said = proven.header
            if proven.index != entry:
                raise RefusedError(f"the receipt of entry {entry} is that of {proven.index}")
            if said.kind == Refusals.kind and len(said.causes) == 1 and said.causes[0] in reply.entries:
                refused += said.rows
                continue
            about = (said.source, said.feeder, said.market, said.interval, said.name, said.evidence)
            if Statement.on_record(origin, *about) != (statement, signature) or not carries_evidence(said):
                raise RefusedError(f"entry {entry} is that of another batch")
            rows[said.kind] = said.rows
        _check_whole(reply, statement.route, rows, refused)
    except (RefusedError, RecordError, ValueError) as error:
        raise UnprovenError(server, "answer", f"does not prove that the batch is on record: {error}") from None


def _check_whole(reply: Reply, route: Route, rows: dict[str, int], refused: int) -> None:
    """Orders without their submissions count nowhere, and what is refused on record must have been told."""
    kinds = KINDS_OF[route]
    if route is Route.ADMISSIONS:  # one table of several, perhaps behind the authority's word for it
        kinds = tuple(kind for kind in rows if kind != Certifications.kind) or ("change",)
    missing = [kind for kind in kinds if kind not in rows]
    if missing:
        raise RefusedError(f"no entry is the batch's own of {', '.join(missing)}")
    counting = rows[kinds[-1]]
    if counting - refused != reply.accepted:
        raise RefusedError(f"{reply.accepted} rows are said to count, {counting - refused} are on record as such")


def _reply(said: Any) -> Reply:
    receipts = tuple(str(receipt) for receipt in said["receipts"])
    headers = tuple(entry_within(receipt) or b"" for receipt in receipts)
    refused = tuple(_row(row) for row in said["refused"])
    return Reply(int(said["accepted"]), refused, tuple(int(entry) for entry in said["entries"]), headers, receipts)


def _row(said: Any) -> RowProblem:
    return RowProblem(int(said["row"]), Refusal[str(said["reason"]).upper()], str(said["detail"]))


def _query(said: Statement) -> str:
    about = {name: getattr(said, name) for name in ("source", "feeder", "market", "interval", "sequence")}
    return urllib.parse.urlencode({name: value for name, value in about.items() if name != "market" or value})


# A round over kept connections


@dataclass(slots=True)
class Delivery:
    """What became of the batches of a round.

    Attributes
    ----------
    latency_s : of each request, from its first byte sent to its last byte received.
    accepted, refused : rows. receipts : (entry, receipt) of a sample.
    """

    latency_s: list[float] = field(default_factory=list)
    sent_bytes: int = 0
    accepted: int = 0
    refused: int = 0
    receipts: list[tuple[int, str]] = field(default_factory=list)


def deliver(address: tuple[str, int], batches: Sequence[Signed]) -> Delivery:
    """Send batches, a few at a time, and collect their receipts.

    Raises
    ------
    DeliveryError : a batch was not taken, or the server went away.
    """
    delivery = Delivery()
    asyncio.run(_deliver(address, iter(batches), delivery))
    return delivery


def content_digest(statement: Statement) -> str:
    """The header that says what body is to come (RFC 9530), so that its sender is known before it is read."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(statement.body_sha256)).decode()}:"


def post_request(batch: Signed, media_type: str = ROWS_MEDIA_TYPE, body: bytes | None = None) -> bytes:
    """The bytes of the request that hands in a batch; `body` where it is not in canonical rows."""
    content = batch.body if body is None else body
    head = (
        f"POST /v1/{batch.statement.route}?{_query(batch.statement)} HTTP/1.1\r\nhost: intake\r\n"
        f"content-type: {media_type}\r\ncontent-length: {len(content)}\r\n"
        f"tellegen-signature: {base64.b64encode(batch.signature).decode()}\r\n"
        f"content-digest: {content_digest(batch.statement)}\r\n\r\n"
    )
    return head.encode("ascii") + content


async def _deliver(address: tuple[str, int], batches: Iterator[Signed], delivery: Delivery) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(_one_connection(address, batches, delivery))


async def _one_connection(address: tuple[str, int], batches: Iterator[Signed], delivery: Delivery) -> None:
    reader, writer = await asyncio.open_connection(*address, limit=1 << 24)
    try:
        for batch in batches:
            start = time.perf_counter()
            writer.write(post_request(batch))
            await writer.drain()
            status, reply = await _answer(reader)
            if status != 200:
                raise DeliveryError(f"batch {batch.statement.name()} was answered {status}: {reply}")
            delivery.latency_s.append(time.perf_counter() - start)
            delivery.sent_bytes += len(batch.body)
            delivery.accepted += reply["accepted"]
            delivery.refused += len(reply["refused"])
            if len(delivery.latency_s) % RECEIPT_EVERY == 1:
                delivery.receipts += zip(reply["entries"], reply["receipts"], strict=True)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise DeliveryError(f"the intake at {address[0]}:{address[1]} went away: {error}") from None
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    return int(head[0].split()[1]), json.loads(body)
