"""No bytes from outside do anything but name their problem."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("msgspec")

import msgspec

from tellegen.intake.intake import Taken
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.sent import SentBids, SentReadings, SentRoots
from tellegen.records import Orders, Readings, RecordError, Refusal, Route, Statement, Submissions, bids_body
from tellegen.service.application import Application
from tellegen.service.bodies import MEDIA_TYPES, MSGPACK, NDJSON, ROWS, decode
from tellegen.service.counters import Counters
from tellegen.service.group_commit import Final
from tellegen.service.problems import KINDS, ProblemError
from tellegen.service.requests import BatchRequest

READING = dict.fromkeys((Readings.row_dtype().names or ())[:-1], 5) | {"tag": bytes(16)}
ORDER = dict.fromkeys((Orders.row_dtype().names or ())[1:], 1)
BID = {"customer": 5, "sequence": 0, "signature": bytes(64), "orders": [ORDER, ORDER]}

texts = st.text("ab$ \x00\u00e9", max_size=5)
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def nearly(draw: st.DrawFn, row: dict[str, Any]) -> Any:
    """A good row, one with a field that is missing, strange or too many, or no row at all."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return row
    if kind == 1:
        return draw(junk)
    field = draw(st.sampled_from(sorted(row)))
    return {k: v for k, v in row.items() if k != field} if kind == 2 else row | {field: draw(junk)}


def packed(rows: list[Any]) -> bytes | None:
    try:
        return msgspec.msgpack.encode(rows)
    except (OverflowError, ValueError):
        return None


def lines(rows: list[Any]) -> bytes | None:
    try:
        return b"\n".join(msgspec.json.encode(row) for row in rows)
    except (OverflowError, ValueError):
        return None


def check(route: Route, media_type: str, body: bytes, rows: int | None = None) -> None:
    try:
        sent = decode(route, media_type, body, 50)
    except RecordError:
        return
    kinds = {Route.READINGS: SentReadings, Route.DAILY_ROOTS: SentRoots, Route.BIDS: SentBids}
    assert isinstance(sent, SentReadings | SentRoots | SentBids)
    assert type(sent) is kinds[route]
    numbers = [*sent.numbers.tolist(), *(problem.row for problem in sent.problems)]
    assert len(set(numbers)) == len(numbers)
    if rows is not None:
        assert sorted(numbers) == list(range(rows))
    assert len(sent.numbers) == len(sent.customers())
    known = (Refusal.MALFORMED, Refusal.SIGNATURE)  # the latter: orders of somebody else
    assert all(problem.refusal in known and problem.detail for problem in sent.problems)
    if isinstance(sent, SentBids):
        assert int(sent.submissions.order_rows.sum(dtype=np.int64)) == len(sent.orders)


@given(
    st.sampled_from([Route.READINGS, Route.DAILY_ROOTS, Route.BIDS]),
    st.sampled_from(MEDIA_TYPES),
    st.binary(max_size=400),
)
@example(Route.DAILY_ROOTS, ROWS, bytes(240))
@example(Route.READINGS, MSGPACK, b"\x91" * 5000)
@example(Route.READINGS, NDJSON, b'{"tag":' * 5000)
@example(Route.BIDS, NDJSON, b'{"orders":' + b"[" * 100_000)
@example(Route.READINGS, NDJSON, b"\xff\n\n{}\n")
@example(Route.BIDS, MSGPACK, b"\xdd\xff\xff\xff\xff")
@example(Route.BIDS, ROWS, b"\xff\xff\xff\xff")
def test_any_bytes_are_rows_or_a_problem(route: Route, media_type: str, body: bytes) -> None:
    check(route, media_type, body)


@given(st.lists(nearly(READING), min_size=1, max_size=6))
def test_a_bad_reading_is_refused_alone(rows: list[Any]) -> None:
    for media_type, body in ((MSGPACK, packed(rows)), (NDJSON, lines(rows))):
        if body is not None:
            check(Route.READINGS, media_type, body, len(rows))
            good = sum(row == READING for row in rows)
            assert decode(Route.READINGS, media_type, body, 50).rows >= good


@given(st.lists(nearly(BID), min_size=1, max_size=6))
def test_a_bad_bid_is_refused_alone(rows: list[Any]) -> None:
    for media_type, body in ((MSGPACK, packed(rows)), (NDJSON, lines(rows))):
        if body is not None:
            check(Route.BIDS, media_type, body, len(rows))


@given(st.lists(st.integers(-5, 5), max_size=5), st.integers(0, 8), st.binary(max_size=60))
def test_counts_of_a_binary_body_of_bids_that_do_not_agree(counts: list[int], orders: int, tail: bytes) -> None:
    submissions = Submissions(
        customer=np.arange(len(counts), dtype=np.int32),
        order_rows=np.array(counts, dtype=np.int32),
        sequence=np.zeros(len(counts), dtype=np.int64),
        signature=np.zeros(len(counts), dtype="V64"),
    )
    table = Orders.from_bytes(bytes(orders * Orders.row_dtype().itemsize))
    check(Route.BIDS, ROWS, bids_body(submissions, table) + tail)


def test_the_three_formats_say_the_same() -> None:
    table = Readings.from_bytes(bytes(range(68)) + bytes(range(68, 136)))
    names = Readings.row_dtype().names or ()
    rows = [dict(zip(names, row, strict=True)) for row in table.rows().tolist()]
    text = [row | {"tag": base64.b64encode(row["tag"]).decode()} for row in rows]
    for media_type, body in (
        (ROWS, table.rows().tobytes()),
        (MSGPACK, msgspec.msgpack.encode(rows)),
        (NDJSON, "\n".join(map(json.dumps, text)).encode() + b"\n"),
    ):
        sent = decode(Route.READINGS, media_type, body, 50)
        assert isinstance(sent, SentReadings)
        assert sent.readings.equals(table)


def test_too_many_rows_are_refused_before_they_are_read() -> None:
    for media_type, body in ((NDJSON, b"\n" * 51), (MSGPACK, b"\xdc\x00\x33" + b"\x00" * 51)):
        with pytest.raises(RecordError, match="51 rows"):
            decode(Route.READINGS, media_type, body, 50)


class Desk:
    """Stands for the group commit: reads every body, and takes it or fails."""

    intake = None
    batches, origin = 0, "city.example/1"

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    async def ask(self, read: Any) -> bool:
        return True

    async def submit(self, statement: Statement, signature: bytes, read: Any, size: int) -> Final:
        if self.failure is not None:
            raise self.failure
        try:
            sent = read()
        except RecordError as error:
            raise RefusedBatchError(Reason.MALFORMED, str(error)) from None
        return Final(Taken((1,), sent.rows, sent.problems), ["receipt"])


def ask(app: Application, scope: dict[str, Any], body: bytes) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[dict[str, Any]] = []
    parts = [body[at : at + 40] for at in range(0, len(body), 40)] or [b""]
    messages = [{"type": "http.request", "body": p, "more_body": k < len(parts) - 1} for k, p in enumerate(parts)]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": "/v1/bids"} | scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def application(failure: Exception | None = None) -> Application:
    return Application(Desk(failure), IntakeLimits(), Counters())  # type: ignore[arg-type]


good_headers = [(b"content-type", NDJSON.encode()), (b"tellegen-signature", base64.b64encode(bytes(64)))]
good_query = b"source=g&feeder=F&market=real_time&interval=5&sequence=1"
some_bytes = st.binary(max_size=60)
names = st.sampled_from(
    [b"content-type", b"content-digest", b"tellegen-signature", b"content-length", b"source", b"interval"]
)
queries = st.one_of(
    some_bytes, st.just(good_query), st.builds(lambda n, v: good_query + b"&" + n + b"=" + v, names, some_bytes)
)
headers = st.one_of(
    st.just(good_headers), st.lists(st.tuples(names, some_bytes), max_size=3).map(lambda h: good_headers + h)
)
paths = st.sampled_from(["/v1/bids", "/v1/readings"]) | st.text("/v1abids%. \u00e9", max_size=30)


@given(st.sampled_from(["POST", "GET", "PUT", "?"]), paths, queries, headers, st.binary(max_size=120))
def test_every_request_is_answered_and_every_refusal_is_a_problem(
    method: str, path: str, query: bytes, head: list[tuple[bytes, bytes]], body: bytes
) -> None:
    scope = {"method": method, "path": path, "query_string": query, "headers": head}
    status, answered, document = ask(application(), scope, body)
    assert status < 500 or path in ("/checkpoint", "/healthz")
    if status != 200:
        assert answered[b"content-type"] == b"application/problem+json"
        assert document["status"] == status
        assert document["type"].removeprefix("/problems/") in {kind.name for kind in KINDS}


@given(queries, headers)
def test_what_a_sender_says_is_read_or_refused(query: bytes, head: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(ProblemError):
        request = BatchRequest.of(Route.BIDS, {"query_string": query, "headers": head})
        assert request.statement("city.example/1", b"").route is Route.BIDS


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_problem(reason: Reason) -> None:
    failure = RefusedBatchError(reason, "because", retry_after_s=3)
    scope = {"query_string": good_query, "headers": good_headers}
    status, head, document = ask(application(failure), scope, b"{}")
    assert (document["type"], document["detail"]) == (f"/problems/{reason}", "because")
    assert 400 <= status < 600
    assert head[b"retry-after"] == b"3"


@pytest.mark.parametrize(("source", "waited"), [("g", [3]), ("", [])])
def test_a_source_that_is_too_fast_waits_for_its_answer(
    monkeypatch: pytest.MonkeyPatch, source: str, waited: list[int]
) -> None:
    """As long as it is told to wait, or it would only ask the more often; whoever is not at fault does not."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += [seconds] if seconds else []  # none: a turn of the event loop for others

    monkeypatch.setattr("tellegen.service.application.asyncio.sleep", sleep)
    failure = RefusedBatchError(Reason.RATE, "too fast", retry_after_s=3, too_much_of=source)
    scope = {"query_string": good_query, "headers": good_headers}
    assert ask(application(failure), scope, b"{}")[0] == 429
    assert slept == waited


def test_a_failure_of_the_service_is_said_to_be_one(caplog: pytest.LogCaptureFixture) -> None:
    scope = {"query_string": good_query, "headers": good_headers}
    status, _, document = ask(application(ZeroDivisionError("secret")), scope, b"{}")
    assert (status, document["type"]) == (500, "/problems/broken")
    assert "secret" not in json.dumps(document)
    assert "ZeroDivisionError" in caplog.text
