"""HTTP/1.1 to whoever may come: our own accept() and deadlines around uvicorn's protocol with httptools.

uvicorn parses and answers; what it leaves open stands here. There are never more connections than the door has room
for, before a TLS handshake as after it; addresses are welcomed in turn. A visitor has a deadline at each stage.
Requests that wait on one connection are few, and a client that goes away while its answer is made is no error.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tellegen.errors import InputError
from tellegen.service.door import (
    ANSWER_SECONDS,
    FOREVER,
    HANDSHAKE_SECONDS_MAX,
    HEADER_SECONDS_MAX,
    IDLE_SECONDS_MAX,
    Door,
    GoneError,
    Stage,
    Visitor,
)
from tellegen.service.turns import Turns

HEADER_BYTES_MAX = 16 << 10
WAITING_REQUESTS_MAX = 4
"""Of one connection, behind the one that is being answered."""
DRAINED_BYTES_MAX = 64 << 10
"""The rest of a refused body that is read for the connection's sake, where its length was said."""
LENGTH_DIGITS_MAX = 19
DESCRIPTORS_BESIDE = 128
"""Files, and sockets that are being closed."""
SWEEP_EVERY_S = 0.2
ACCEPT_AGAIN_S = 0.05
ACCEPTED_AT_ONCE = 16
WELCOME_BESIDE_S = 0.004
"""How long the next new connection waits where batches of proven sources are in work."""
HANDSHAKE_BESIDE_S = 0.008
"""The same before a TLS handshake, which costs as much as many requests."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of one visitor.

    Parameters
    ----------
    body_seconds_max : within which a body must be there.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServerState, door: Door, visitor: Visitor, body_seconds_max: float
    ) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._door, self._visitor, self._body_seconds_max = door, visitor, body_seconds_max
        self._header_bytes = 0
        self._body_bytes: int | None = None
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        visitor = self._visitor
        visitor.end, visitor.is_closing = self._end, transport.is_closing
        visitor.unread_bytes = transport.get_write_buffer_size
        self._door.move(visitor, Stage.WAITING, HEADER_SECONDS_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is answered any more."""
        self._forget()
        self._door.leave(self._visitor)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count a request, and its headers from 0."""
        if len(self.pipeline) >= WAITING_REQUESTS_MAX:
            raise httptools.HttpParserError(f"more than {WAITING_REQUESTS_MAX} requests wait for their answers")
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["visitor"] = self._visitor
        self._header_bytes, self._body_bytes = 0, None
        self._door.move(self._visitor, Stage.HEADERS, HEADER_SECONDS_MAX)

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        if name.lower() == b"content-length":
            self._body_bytes = int(value) if value.isdigit() and len(value) <= LENGTH_DIGITS_MAX else None
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are there; the body is to follow."""
        self._door.move(self._visitor, Stage.BODY, self._body_seconds_max + ANSWER_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there."""
        self._door.move(self._visitor, Stage.ANSWER)
        super().on_message_complete()
        if self.cycle.response_complete and not self.pipeline:
            self._door.move(self._visitor, Stage.IDLE, IDLE_SECONDS_MAX)

    def on_response_complete(self) -> None:
        """The next request, if there is one; a body that was refused is not read to its end, if it is long."""
        self._running = None
        super().on_response_complete()
        if self.pipeline or self.transport.is_closing():
            return
        if self._visitor.stage is Stage.ANSWER:
            self._door.move(self._visitor, Stage.IDLE, IDLE_SECONDS_MAX)
        elif self._visitor.stage is Stage.BODY and (self._body_bytes or DRAINED_BYTES_MAX + 1) > DRAINED_BYTES_MAX:
            self.flow.pause_reading()  # and not close: the answer would be lost with what came meanwhile
            self._door.move(self._visitor, Stage.CLOSING, ANSWER_SECONDS)

    def shutdown(self) -> None:
        """The process is to end: what is there whole is answered, and what a proven source has begun."""
        if self._visitor.stage is Stage.ANSWER or self._visitor.sources:
            super().shutdown()
        else:
            self._end()

    def pause_writing(self) -> None:
        """The client does not read as fast as it asks."""
        super().pause_writing()
        self._door.unread(self._visitor)

    def resume_writing(self) -> None:
        """It has read."""
        self._visitor.unread_by = FOREVER
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES_MAX:
            raise httptools.HttpParserError(f"more than {HEADER_BYTES_MAX} bytes of headers")

    def _end(self) -> None:
        self._forget()
        self.connections.discard(self)  # the loop does not always say that an aborted connection is lost
        self.transport.abort()

    def _forget(self) -> None:
        """Whoever makes an answer hears that nobody waits for it; uvicorn tells only the newest request's."""
        self.pipeline.clear()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()


Welcome = Callable[[Visitor], asyncio.BaseProtocol]


class Doorway:
    """Takes the connections of one listening socket."""

    def __init__(self, listener: socket.socket, door: Door, tls: ssl.SSLContext | None, welcome: Welcome) -> None:
        listener.setblocking(False)
        if tls is not None:
            tls.options |= ssl.OP_NO_RENEGOTIATION
        self._listener, self._door, self._tls, self._welcome = listener, door, tls, welcome
        self._beside_s = WELCOME_BESIDE_S if tls is None else HANDSHAKE_BESIDE_S
        self._welcomes = Turns(1, door)
        self._meetings: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._sweeping = self._loop.create_task(self._sweep())
        self._closed = False
        self._listen()

    def close(self) -> None:
        """Take nobody any more."""
        self._closed = True
        self._loop.remove_reader(self._listener)
        for task in self._meetings:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until nobody is taken any more; whoever is here still has deadlines until then."""
        self._sweeping.cancel()
        await asyncio.wait([self._sweeping, *self._meetings])

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take a few; reading from them waits for their turn."""
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                accepted, peer = self._listener.accept()
                accepted.setblocking(False)
                visitor = self._door.enter(peer)
                meeting = self._loop.create_task(self._meet(accepted, visitor))
                visitor.end = meeting.cancel
                self._meetings.add(meeting)
                meeting.add_done_callback(self._meetings.discard)
        except BlockingIOError:
            pass
        except OSError:  # one went away, or the system has no descriptor for us
            self._loop.remove_reader(self._listener)
            self._loop.call_later(ACCEPT_AGAIN_S, self._listen)

    async def _meet(self, accepted: socket.socket, visitor: Visitor) -> None:
        met: list[asyncio.BaseProtocol] = []

        def welcome() -> asyncio.BaseProtocol:
            met.append(self._welcome(visitor))
            return met[0]

        try:
            async with self._welcomes.turn(visitor):
                _look(accepted)
                if self._door.is_attending():
                    await asyncio.sleep(self._beside_s)
            await self._loop.connect_accepted_socket(
                welcome,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_SECONDS_MAX,
                ssl_shutdown_timeout=None if self._tls is None else ANSWER_SECONDS,
            )
        except (OSError, GoneError, asyncio.CancelledError) as error:  # it went away, was put out, or was too late
            self._door.leave(visitor)
            accepted.close()
            for protocol in met:  # the loop does not always say so
                protocol.connection_lost(ConnectionAbortedError())
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self._door.sweep()


class GuardedServer(uvicorn.Server):
    """uvicorn behind a door; says when it is ready, and ends with status 0 when it is asked to end.

    Parameters
    ----------
    config : uvicorn's; its bounds on connections are not used.
    door : who is connected.
    body_seconds_max : within which a body must be there.
    ready : called once connections are taken.
    """

    def __init__(
        self, config: uvicorn.Config, door: Door, body_seconds_max: float, ready: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._door, self._body_seconds_max, self._ready = door, body_seconds_max, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections, and say so."""
        await self.lifespan.startup()

        def welcome(visitor: Visitor) -> GuardedProtocol:
            return GuardedProtocol(self.config, self.server_state, self._door, visitor, self._body_seconds_max)

        doorways = [Doorway(each, self._door, self.config.ssl, welcome) for each in sockets or ()]
        self.servers = cast(list[asyncio.Server], doorways)
        self.started = True
        self._ready()

    def handle_exit(self, sig: int, frame: object) -> None:
        """Stop taking requests, answer those under way, end."""
        self.should_exit = True


def _look(accepted: socket.socket) -> None:
    """Whether somebody is still there.

    Raises
    ------
    OSError : nobody is.
    """
    with contextlib.suppress(BlockingIOError):
        if not accepted.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError


def require_descriptors(connections: int) -> None:
    """See to it that so many connections can be open at one time.

    Raises
    ------
    InputError : the system does not allow as many.
    """
    if sys.platform == "win32":
        return
    import resource

    needed = connections + DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise InputError(
        "--connections",
        str(connections),
        f"needs {needed} open files, and the system allows {hard}; raise it (ulimit -n), or take fewer connections",
    )
