"""A session with the broker for each head-end, so that none waits behind what another has piled up there.

A broker keeps one queue per subscriber, in the order of arrival, and drops what does not fit. One session for all would
be one queue for all. So each head-end that was ever admitted has its own, under an identifier that nobody can guess: it
follows from a secret of the shard. Whoever connects under the same identifier throws the session out; then the next one
is used, and that is said.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tellegen.service.counters import Counters
from tellegen.service.mqtt import Broker, LostError, Take, reach, subscribe

SOURCES_EVERY_S = 5.0
"""After which a new head-end is received."""
SOURCES_MAX = 500
RETRY_S = 5.0
READY_S_MAX = 10.0
SHORT_S = 30.0
SHORT_MAX = 3
"""Before MQTT 5 no broker says why it left. So many short sessions in a row look like another client of the name."""
_IDENTIFIER_CHARACTERS = 23  # every broker takes so many
_log = logging.getLogger(__name__)
Sources = Callable[[], Awaitable[set[str]]]
"""Says which head-ends there are."""


def identifier_of(secret: bytes, source: str, taken: int = 0) -> str:
    """Under which the broker keeps the session of a source: 75 bits that follow from a secret.

    Parameters
    ----------
    taken : how many of them another client has taken before.

    >>> identifier_of(bytes(32), "head-end 1")
    'tellegenmixhfkkxfiq5mql'
    """
    digest = hmac.digest(secret, f"tellegen-mqtt@v1\n{source}\n{taken}\n".encode(), hashlib.sha256)
    return ("tellegen" + base64.b32encode(digest).decode().lower())[:_IDENTIFIER_CHARACTERS]


async def receive(
    broker: Broker,
    secret: bytes,
    origin: str,
    sources: Sources,
    take: Take,
    counters: Counters,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Receive readings of every head-end until cancelled, whatever becomes of the connections.

    Parameters
    ----------
    secret : of the shard.
    sources : asked every few seconds.
    ready : called once those that there are at first are received.

    Raises
    ------
    InputError : the broker cannot be reached at the beginning.
    """
    await reach(broker)
    received: set[str] = set()
    async with asyncio.TaskGroup() as tasks:
        while True:
            found = await sources() - received
            if len(received) + len(found) > SOURCES_MAX:
                _log.error("%s head-ends are not received by MQTT: at most %s are", len(found), SOURCES_MAX)
            subscribed = []
            for source in sorted(found)[: SOURCES_MAX - len(received)]:
                received.add(source)
                subscribed.append(asyncio.Event())
                tasks.create_task(_keep(broker, secret, origin, source, take, counters, subscribed[-1].set))
            with suppress(TimeoutError):  # whatever is not ready yet is tried again, and has said why
                async with asyncio.timeout(READY_S_MAX):
                    for each in subscribed:
                        await each.wait()
            ready()
            await asyncio.sleep(SOURCES_EVERY_S)


async def _keep(
    broker: Broker, secret: bytes, origin: str, source: str, take: Take, counters: Counters, ready: Callable[[], None]
) -> None:
    """Receive readings of a head-end; a lost connection is taken up again."""
    taken, short = 0, 0
    while True:
        began = [float("inf")]

        def is_ready(began: list[float] = began) -> None:
            began[0] = time.monotonic()
            ready()

        try:
            await subscribe(broker, identifier_of(secret, source, taken), origin, source, take, counters, is_ready)
        except LostError as error:
            lasted_s = time.monotonic() - began[0]
            short = short + 1 if 0 <= lasted_s < SHORT_S else 0
            if error.is_taken or short >= SHORT_MAX:
                counters.mqtt_taken += 1
                _log.error(
                    "another client at the MQTT broker %s:%s %s the session of the intake for source '%s'; the intake "
                    "goes on under another identifier, and what the broker kept is to be sent again. Let the broker "
                    "bind identifiers to user names",
                    broker.host,
                    broker.port,
                    "has taken" if error.is_taken else "seems to take",
                    source,
                )
                taken, short = taken + 1, 0
                continue
            _log.error("%s; trying again in %g s", error, RETRY_S)
        except Exception:  # whatever it is, readings must not stay away in silence
            _log.exception("readings of source '%s' by MQTT", source)
        await asyncio.sleep(RETRY_S)
