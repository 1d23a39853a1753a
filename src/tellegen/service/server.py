"""The process of an intake: one event loop, uvicorn with httptools, limits on what uvicorn leaves open."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tellegen.custody.signer import agent_of
from tellegen.errors import InputError
from tellegen.intake.intake import Intake
from tellegen.intake.limits import IntakeLimits
from tellegen.journal.clock import BOUNDS, Bounds, Pace, RecordClock, Told
from tellegen.records import Role
from tellegen.registry.shard import require_earnest
from tellegen.service.application import Application
from tellegen.service.awards import AwardsDesk
from tellegen.service.counters import Counters
from tellegen.service.group_commit import GroupCommit
from tellegen.service.mqtt import Broker, Take
from tellegen.service.mqtt_sessions import receive

HEADER_BYTES_MAX = 16 << 10
HEADER_SECONDS_MAX = 10.0
ANSWER_SECONDS = 2.0
"""In which the answer that a body came too late may still be read."""
IDLE_SECONDS_MAX = 120
DRAIN_SECONDS_MAX = 30
BACKLOG = 1024
MQTT_PURPOSE = "mqtt sessions"
"""Of the secret from which identifiers at a broker follow."""
TICK_EVERY_S = 1.0
TICK_EVERY_S_MIN = 0.05
"""However fast the time for trials runs: every tick is a commit."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How an intake is served.

    Attributes
    ----------
    port : 0 takes a free one.
    certificate, key : files, PEM, for TLS; both or none.
    connections_max : open at one time.
    body_seconds_max : within which a body must be there.
    broker : where readings come from by MQTT too; None where they do not.
    simulation : serve a shard that was made from a seed.
    signer : socket of the agent that signs checkpoints; None: one is started.
    accept_clock : who says that the clock is right where it is far from the newest entry (`Intake.open`).
    pace : the time for trials; None: the wall clock's.
    bounds : how far that may be from the newest entry when the intake is opened.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    connections_max: int = 1000
    body_seconds_max: float = 30.0
    limits: IntakeLimits = field(default_factory=IntakeLimits)
    broker: Broker | None = None
    accept_clock: str = ""
    simulation: bool = False
    pace: Pace | Told | None = None
    signer: Path | None = None
    bounds: Bounds = BOUNDS


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a bound on the size of request line and headers, and on the time until they and the body are there.

    A body may be refused before it is there; then nobody but this counts the time that it takes.
    """

    body_seconds_max = 30.0
    _header_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._wait(HEADER_SECONDS_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count a request's headers from 0."""
        super().on_message_begin()
        self._header_bytes = 0
        self._wait(HEADER_SECONDS_MAX)

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are there; the body is to follow."""
        self._wait(self.body_seconds_max + ANSWER_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there."""
        self._stop_waiting()
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES_MAX:
            raise httptools.HttpParserError(f"more than {HEADER_BYTES_MAX} bytes of headers")

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """Says when it is ready, and ends with status 0 when it is asked to end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests, answer those under way, end."""
        self.should_exit = True


def serve(path: Path, options: ServerOptions, ready: Callable[[str], None]) -> None:
    """Serve the intake of a shard until SIGTERM or SIGINT; then answer what is under way, and end.

    Parameters
    ----------
    path : directory of the shard.
    ready : told the address once requests are taken.

    Raises
    ------
    TellegenError : there is no shard at `path`, it is damaged, or it has another writer.
    InputError : the address cannot be had.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(path, options, ready))


async def _serve(path: Path, options: ServerOptions, ready: Callable[[str], None]) -> None:
    counters = Counters()
    pace = options.pace

    def clock(newest: int) -> RecordClock:
        return RecordClock(not_before=newest, bounds=options.bounds) if pace is None else pace.clock(newest)

    held = ExitStack()
    signer = held.enter_context(closing(agent_of(path, options.signer)))

    def opened() -> Intake:
        if group.origin:  # again, after its disk has refused
            signer.renew()
        return Intake.open(path, options.limits, clock, accept_clock=options.accept_clock, signer=signer)

    group = GroupCommit(opened, options.limits, counters)
    try:
        await group.start()
    except BaseException:
        held.close()
        raise
    assert group.intake is not None
    vault = group.intake.vault
    receiver: asyncio.Task[None] | None = None
    ticker = asyncio.create_task(_ticks(group, TICK_EVERY_S if pace is None else TICK_EVERY_S / pace.factor))
    try:
        require_earnest(vault, path, options.simulation)
        awards = held.enter_context(closing(AwardsDesk(path)))
        application = Application(group, options.limits, counters, options.body_seconds_max, awards)
        listener = _listen(options)
        if options.broker is not None:
            receiver = await _subscribed(options.broker, group, application.take_message, counters)
        scheme = "http" if options.certificate is None else "https"
        host, port = listener.getsockname()[:2]
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        config = uvicorn.Config(
            application,
            http=type("Protocol", (LimitedProtocol,), {"body_seconds_max": options.body_seconds_max}),
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=options.connections_max,
            timeout_keep_alive=IDLE_SECONDS_MAX,
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
        )
        await _Server(config, lambda: ready(address)).serve([listener])
    finally:
        if receiver is not None:
            receiver.cancel()  # what is under way there is not acknowledged, and comes again
            await asyncio.wait([receiver])
        ticker.cancel()
        await asyncio.wait([ticker])
        await group.stop()
        held.close()


async def _ticks(group: GroupCommit, every_s: float) -> None:
    """A quiet intake puts the time on record."""
    while True:
        await asyncio.sleep(max(every_s, TICK_EVERY_S_MIN))
        try:
            await group.tick()
        except Exception:
            _log.exception("the time cannot be put on record")


async def _subscribed(broker: Broker, group: GroupCommit, take: Take, counters: Counters) -> asyncio.Task[None]:
    """A task that receives readings from a broker, once it does; from then on it outlasts lost connections.

    Raises
    ------
    InputError : the broker cannot be reached.
    """
    ready = asyncio.Event()
    secret = await group.ask(lambda intake: intake.vault.purpose_key(MQTT_PURPOSE))
    sources = partial(group.ask, head_ends)
    task = asyncio.create_task(receive(broker, secret, group.origin, sources, take, counters, ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    return task


def head_ends(intake: Intake) -> set[str]:
    """Names of every head-end that was ever admitted; the intake tells each whether it still is."""
    return {name for name, role in intake.directory.named_roles().items() if role is Role.HEAD_END}


def _listen(options: ServerOptions) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        raise InputError(f"{options.host}:{options.port}", "address", f"cannot be had: {error}") from None
    return listener


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
