"""The process of an intake: one event loop, the door and what is behind it, the broker, the clock's ticks."""

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
from typing import Any

import uvicorn

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
from tellegen.service.door import IDLE_SECONDS_MAX, Door
from tellegen.service.group_commit import GroupCommit
from tellegen.service.listening import GuardedServer, require_descriptors
from tellegen.service.mqtt import Broker, Take
from tellegen.service.mqtt_sessions import receive

DRAIN_SECONDS_MAX = 30
BACKLOG = 1024
MQTT_PURPOSE = "mqtt sessions"
"""Of the secret from which identifiers at a broker follow."""
SWITCH_S = 0.0005
"""Whoever has the interpreter lets others have it after this time (5 ms else): a batch goes through three threads, and
would wait at each for what strangers want of the first."""
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
    sys.setswitchinterval(SWITCH_S)
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
        require_descriptors(options.connections_max)
        door = Door(options.connections_max, asyncio.get_running_loop().time)
        application = Application(group, options.limits, counters, options.body_seconds_max, awards, door)
        listener = _listen(options)
        if options.broker is not None:
            receiver = await _subscribed(options.broker, group, application.take_message, counters)
        scheme = "http" if options.certificate is None else "https"
        host, port = listener.getsockname()[:2]
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        config = uvicorn.Config(
            application,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(IDLE_SECONDS_MAX),
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
        )
        await GuardedServer(config, door, options.body_seconds_max, lambda: ready(address)).serve([listener])
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
