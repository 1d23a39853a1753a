"""The ASGI application of an intake: batches in, receipts out; the log for whoever audits it.

=========================  ===========================================================================================
``POST /v1/readings``      a head-end's batch of readings
``POST /v1/daily-roots``   a head-end's batch of days that meters have signed
``POST /v1/bids``          a gateway's batch of signed orders
``POST /v1/admissions``    the operator's changes of the registry: admissions, revocations, connections, code keys
``POST /v1/awards``        what those whose bids a source brought were awarded, for this source alone (`service.awards`)
``GET /v1/receipt``        ``?entry=I``: the receipt of an entry (C2SP tlog-proof)
``GET /v1/consistency``    ``?from=SIZE&to=SIZE``: consistency proof, one hash a line in base64
``GET /checkpoint``        the newest checkpoint (C2SP tlog-checkpoint)
``GET /tile/...``          tiles of the log (C2SP tlog-tiles)
``GET /problems/NAME``     what a type of problem means
``GET /healthz``           whether batches can be taken
``GET /metrics``           counts, as Prometheus text
=========================  ===========================================================================================
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.journal import Journal, JournalError, tiles
from tellegen.operations.exchange import AwardsRequest
from tellegen.records import RecordError, Route, Statement
from tellegen.service import problems
from tellegen.service.awards import AwardsReader, check_time, document_of
from tellegen.service.bodies import decode
from tellegen.service.counters import Counters
from tellegen.service.door import Door, GoneError, Visitor, visitor_of
from tellegen.service.group_commit import Final, GroupCommit
from tellegen.service.held import Bodies
from tellegen.service.mqtt import Reply
from tellegen.service.problems import ProblemError, refused_by_reason, refused_rows
from tellegen.service.requests import (
    BatchRequest,
    Receive,
    Scope,
    Send,
    check_media_type,
    number,
    query,
    read_body,
    signature_of,
    too_large,
)
from tellegen.service.turns import Turns

ROUTES = {f"/v1/{route}": route for route in Route}
AWARDS = "/v1/awards"
POSTED = (*ROUTES, AWARDS)
_JSON, _TEXT, _BYTES = b"application/json", b"text/plain; charset=utf-8", b"application/octet-stream"
_TILES = "/tile/"
_LOG = ("/checkpoint", "/tile/", "/v1/receipt", "/v1/consistency")
TURNS = 4
"""Requests of those who have not proved to be a source, at one time."""
TURN_BESIDE_S = 0.004
"""How long one of these waits where batches of proven sources are in work."""
READ_BESIDE_S = 0.02
"""How long a look at the log then waits; there is one look at a time."""
PART_BESIDE_S = 0.002
"""How long the next part of a long body then waits; there is one part at a time."""
_LARGE_BYTES = 256 << 10
"""From which a digest is taken beside the event loop."""
_BROKER = "broker"
_DISK_FULL_RETRY_S = 10
HELD_BACK_S_MAX = 5.0
"""Clients wait longer for an answer."""
HELD_BACK_MAX = 250
"""Answers of one source that are held back; each keeps a connection."""
_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_Answer = tuple[int, bytes, bytes]  # status, media type, body


class Application:
    """What uvicorn calls.

    Parameters
    ----------
    group : of the shard, started by whoever made it.
    limits : of what comes from outside.
    body_seconds_max : within which a body must be there.
    awards : reads the record of the market, where there is one.
    door : of the connections over which all this comes; None: there are none that it could tell of.
    """

    def __init__(
        self,
        group: GroupCommit,
        limits: IntakeLimits,
        counters: Counters,
        body_seconds_max: float = 30.0,
        awards: AwardsReader | None = None,
        door: Door | None = None,
    ) -> None:
        self._group, self._limits, self._counters = group, limits, counters
        self._body_seconds_max, self._awards = body_seconds_max, awards
        self._held_back: Counter[str] = Counter()
        self._asking: dict[str, asyncio.Lock] = {}
        self._door = door or Door(1, time.monotonic)
        self._bodies = Bodies(limits.pending_bytes_max, limits.body_bytes_max)
        self._turns = Turns(TURNS, self._door, TURN_BESIDE_S)
        self._reading = Turns(1, self._door, READ_BESIDE_S)
        self._parts = Turns(1, self._door, PART_BESIDE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        extra: Sequence[tuple[bytes, bytes]] = ()
        source, wait = "", 0
        try:
            status, media_type, body = await self._answer(scope, receive)
            extra = _caching(scope["path"])
        except GoneError:
            return
        except ProblemError as problem:
            self._counters.refused_batches[problem.kind.name] += 1
            status, media_type, body, extra = _problem(problem, scope)
            source, wait = problem.held_for, problem.retry_after_s or 0
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            broken = ProblemError(problems.BROKEN, "an error of the service, not of the request; its log says more")
            status, media_type, body, extra = _problem(broken, scope)
        if source:  # the body is not in memory any more
            await self._hold_back(source, wait)
        length = str(len(body)).encode()
        headers = [(b"content-type", media_type), (b"content-length", length), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        path, visitor = scope["path"], visitor_of(scope)
        route = ROUTES.get(path) if scope["method"] == "POST" else None
        if route:
            return await self._take(route, scope, receive, visitor)
        if path == AWARDS:
            async with self._turns.turn(visitor):
                pass  # and no longer: a source that waits for its rate would keep strangers waiting
            return await self._answer_at_once(scope, visitor)
        turns = self._reading if path.startswith(_LOG) else self._turns
        async with turns.turn(visitor):
            return await self._answer_at_once(scope, visitor)

    async def _answer_at_once(self, scope: Scope, visitor: Visitor) -> _Answer:
        path, method = scope["path"], scope["method"]
        wanted = "POST" if path in POSTED else "GET"
        if method != wanted and (method, wanted) != ("HEAD", "GET"):
            raise ProblemError(problems.METHOD, f"{method} {path[:200]}; use {wanted}")
        if path == AWARDS:
            return await self._answer_awards(scope, visitor)
        match path:
            case "/healthz":
                return self._health()
            case "/metrics":
                return 200, b"text/plain; version=0.0.4", self._counters.text(self._gauges(), self._stages()).encode()
            case "/v1/receipt":
                entry = number("entry", query(scope, ("entry",))["entry"])
                return await self._of_log(lambda journal: journal.receipt(entry).encode())
            case "/v1/consistency":
                fields = query(scope, ("from",), ("to",))
                sizes = {name: number(name, text) for name, text in fields.items()}
                return await self._of_log(partial(_consistency, start=sizes["from"], stop=sizes.get("to")))
        if path == "/checkpoint" or path.startswith(_TILES):
            media_type = _TEXT if path == "/checkpoint" else _BYTES
            return await self._of_log(lambda journal: tiles.resource(journal, path[1:]), media_type)
        for kind in problems.KINDS:
            if path == problems.TYPE_PREFIX + kind.name:
                return 200, _JSON, _encode({"type": path, "title": kind.title, "status": int(kind.status)})
        raise ProblemError(problems.NOT_FOUND, f"{path[:200]} is not served")

    async def _hold_back(self, source: str, seconds: float) -> None:
        """Answer a source that is too fast as late as it should come again, or it would only ask the more often."""
        if self._held_back[source] >= HELD_BACK_MAX:
            return
        self._held_back[source] += 1
        try:
            await asyncio.sleep(min(seconds, HELD_BACK_S_MAX))
        finally:
            self._held_back[source] -= 1
            if not self._held_back[source]:
                del self._held_back[source]

    # Batches

    async def _take(self, route: Route, scope: Scope, receive: Receive, visitor: Visitor) -> _Answer:
        """Take a batch: who has not proved to be its source waits for a turn before and behind the body."""
        request = BatchRequest.of(route, scope) if visitor.sources else None
        if request is None or request.source not in visitor.sources:
            async with self._turns.turn(visitor):
                request = request or BatchRequest.of(route, scope)
                if await self._check_ahead(request, request.announced(self._group.origin)):
                    self._door.prove(visitor, request.source)
        most, proven = self._limits.body_bytes_max, request.source in visitor.sources
        if request.body_bytes is not None and request.body_bytes > most:
            raise too_large(most)
        with self._bodies.holding(request.source if proven else visitor.address, proven, visitor.end) as held:

            async def arrived(size: int) -> None:
                began = held.size > 0
                held.grow(size)
                if began and not proven:
                    async with self._parts.turn(visitor):
                        pass  # whoever else has something to say

            body = await read_body(receive, most, self._body_seconds_max, arrived)
            if proven:
                statement = await self._statement(request, body)
            else:
                async with self._turns.turn(visitor, request.source):
                    statement = await self._statement(request, body)
                    await self._check_ahead(request, statement)  # whoever has a body knows more than what is published
                self._door.prove(visitor, request.source)
            self._door.attend()
            try:
                return await self._submit(statement, request.signature, body, request.media_type)
            finally:
                self._door.attend()

    async def _check_ahead(self, request: BatchRequest, announced: Statement | None) -> bool:
        """Whether the batch is worth more work, and its source proven by the signature alone (`Intake.check_ahead`)."""
        about = (request.route, request.source, announced, request.signature)
        try:
            return await self._group.ask(lambda intake: intake.check_ahead(*about))
        except RefusedBatchError as error:
            raise ProblemError.of(error) from None

    async def _statement(self, request: BatchRequest, body: bytes) -> Statement:
        if len(body) < _LARGE_BYTES:
            return request.statement(self._group.origin, body)
        return await asyncio.to_thread(request.statement, self._group.origin, body)

    async def take_message(self, statement: Statement, signature: bytes, body: bytes, content_type: str) -> Reply:
        """Take a batch that came by MQTT (`mqtt.Take`): the same way, limits and answers as over HTTP.

        What would be answered with 429, 503 or 507 is asked again later; the broker keeps it meanwhile.
        """
        about = _named(statement)
        try:
            check_media_type(content_type)
            if len(body) > self._limits.body_bytes_max:
                raise too_large(self._limits.body_bytes_max)
            with self._bodies.holding(_BROKER, True) as held:
                held.grow(len(body))
                _, _, answer = await self._submit(statement, signature, body, content_type)
            return Reply(_JSON.decode(), answer)
        except ProblemError as problem:
            self._counters.refused_batches[problem.kind.name] += 1
            again = problem.retry_after_s
            if again is None and problem.kind.status == HTTPStatus.INSUFFICIENT_STORAGE:
                again = _DISK_FULL_RETRY_S
            document = problem.document(f"/v1/{statement.route}") | about
            return Reply(problems.MEDIA_TYPE.decode(), _encode(document), again, problem.kind is problems.RATE)
        except Exception:
            _log.exception("%s of %s failed", statement.name(), statement.source)
            broken = ProblemError(problems.BROKEN, "an error of the service, not of the message; its log says more")
            return Reply(problems.MEDIA_TYPE.decode(), _encode(broken.document(f"/v1/{statement.route}") | about))

    async def _submit(self, statement: Statement, signature: bytes, body: bytes, media_type: str) -> _Answer:
        """Take a batch, and wait until it is final."""
        read = partial(decode, statement.route, media_type, body, self._limits.rows_max)
        try:
            final = await self._group.submit(statement, signature, read, len(body))
        except RefusedBatchError as error:
            self._counters.refused_rows.update(refused_by_reason(error.rows))
            raise ProblemError.of(error) from None
        return self._final(statement, final)

    def _final(self, statement: Statement, final: Final) -> _Answer:
        taken, counters = final.taken, self._counters
        if taken.again:
            counters.again += 1
        else:
            counters.accepted[statement.route] += taken.accepted
            counters.refused_rows.update(refused_by_reason(taken.refused))
        document = {
            "entries": taken.entries,
            "receipts": final.receipts,
            "accepted": taken.accepted,
            "refused": refused_rows(taken.refused),
            "again": taken.again,
        }
        return 200, _JSON, _encode(document | _named(statement))

    # Awards

    async def _answer_awards(self, scope: Scope, visitor: Visitor) -> _Answer:
        """To a source, for those whose bids it brought; its signature says that it is this source."""
        fields = query(scope, ("source", "market", "interval", "time"))
        interval, asked_at = number("interval", fields["interval"]), number("time", fields["time"])
        try:
            request = AwardsRequest(self._group.origin, fields["source"], fields["market"], interval, asked_at)
            message = request.to_bytes()
        except RecordError as error:
            raise ProblemError(problems.MALFORMED, str(error)) from None
        try:
            check_time(request, await self._group.check_request(request.source, message, signature_of(scope)))
        except RefusedBatchError as error:
            raise ProblemError.of(error) from None
        self._door.prove(visitor, request.source)
        asked = (request.source, request.market, request.interval)
        async with self._asking.setdefault(request.source, asyncio.Lock()):  # or one could keep the reader to itself
            awarded = None if self._awards is None else await asyncio.to_thread(self._awards, *asked)
        if awarded is None:
            raise ProblemError(problems.NOT_FOUND, "there is no market of this shard")
        return 200, _JSON, _encode(document_of(awarded))

    # The log, and the state of the service

    async def _of_log(self, read: Any, media_type: bytes = _TEXT) -> _Answer:
        intake = self._group.intake
        if intake is None:
            raise ProblemError.of(_closed())
        try:
            return 200, media_type, await asyncio.to_thread(read, intake.journal)
        except JournalError as error:
            raise ProblemError(problems.NOT_FOUND, str(error)) from None

    def _health(self) -> _Answer:
        intake = self._group.intake
        stepped = 0 if intake is None else intake.clock.stepped_s
        state = "closed" if intake is None else "the clock was set" if stepped else "ok"
        document = {"status": state, "entries": self._entries(), "clock_stepped_s": stepped}
        return 200 if state == "ok" else 503, _JSON, _encode(document)

    def _entries(self) -> int:
        return 0 if self._group.intake is None else self._group.intake.journal.checkpoint.size

    def _stages(self) -> dict[str, float]:
        return {} if self._group.intake is None else dict(self._group.intake.stages.cpu_s)

    def _gauges(self) -> dict[str, float]:
        intake = self._group.intake
        return {
            "entries": self._entries(),
            "pending_batches": self._group.batches,
            "pending_bytes": self._bodies.size,
            "bodies_put_out": self._bodies.put_out,
            "connections": len(self._door),
            "connections_proven": self._door.proven,
            "connections_put_out": self._door.put_out.total(),
            "clock_stepped_seconds": 0 if intake is None else intake.clock.stepped_s,
        }


def _consistency(journal: Journal, start: int, stop: int | None) -> bytes:
    size = journal.checkpoint.size
    newest = size if stop is None else stop
    if not 0 <= start <= newest <= size:
        raise JournalError(f"from {start} to {newest}: the log is signed up to {size}")
    return b"".join(base64.b64encode(node) + b"\n" for node in journal.tree.consistency_proof(start, newest))


def _named(statement: Statement) -> dict[str, str | int]:
    """Which batch is answered."""
    about = ("route", "source", "feeder", "interval", "sequence", "body_sha256")
    return {name: getattr(statement, name) for name in about}


def _caching(path: str) -> Sequence[tuple[bytes, bytes]]:
    """A tile is the same for ever, as tlog-tiles has it; nothing else is."""
    words = b"public, max-age=31536000, immutable" if path.startswith(_TILES) else b"no-cache"
    return [(b"cache-control", words)]


def _closed() -> RefusedBatchError:
    return RefusedBatchError(Reason.UNAVAILABLE, "the record is being opened again", retry_after_s=1)


def _problem(problem: ProblemError, scope: Scope) -> tuple[int, bytes, bytes, Sequence[tuple[bytes, bytes]]]:
    extra = []
    if problem.retry_after_s is not None:
        extra.append((b"retry-after", str(problem.retry_after_s).encode()))
    if problem.kind in (problems.TOO_LARGE, problems.SLOW, problems.BUSY):
        extra.append((b"connection", b"close"))  # the rest of the body is not waited for
    if problem.kind is problems.METHOD:
        extra.append((b"allow", b"POST" if scope["path"] in POSTED else b"GET, HEAD"))
    document = problem.document(scope["path"][:200])
    return int(problem.kind.status), problems.MEDIA_TYPE, _encode(document), extra
