"""The attackers: hostile connections kept open from a process of their own, each made anew when it is put out."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tellegen.assess.attacks.kinds import Kind, Line, Target
from tellegen.errors import WorkerError

AGAIN_S = 0.02
"""Until who was put out comes again."""
NICE = 10
"""Attackers work on machines of their own: here they take what the server and the sender leave."""
STRUCK_SECONDS_MAX = 5.0
END_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of hostile connections.

    Attributes
    ----------
    struck : how many did their harm at least once. again : how often one was made anew.
    """

    struck: int
    again: int


async def besiege(kind: Kind, target: Target, own: Sequence[str], ready: asyncio.Event, stop: asyncio.Event) -> Tally:
    """Keep one hostile connection from each of these addresses until `stop`.

    Parameters
    ----------
    own : addresses, one for each connection.
    ready : set once all have struck, or have had time to.
    """
    struck: set[int] = set()
    again = 0

    async def keep(number: int) -> None:
        nonlocal again

        def has_struck() -> None:
            struck.add(number)
            if len(struck) == len(own):
                ready.set()

        while True:
            line = Line(target, own[number], number, has_struck)
            try:
                await kind.strike(line)
            except (OSError, EOFError, ValueError, ssl.SSLError):
                pass  # it was put out
            finally:
                line.close()
            again += 1
            await asyncio.sleep(AGAIN_S)

    lines = [asyncio.create_task(keep(number)) for number in range(len(own))]
    waiting = asyncio.get_running_loop().call_later(STRUCK_SECONDS_MAX, ready.set)
    await stop.wait()
    waiting.cancel()
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)
    return Tally(len(struck), again)


@contextmanager
def besieged(kind: Kind, target: Target, own: Sequence[str]) -> Iterator[list[Tally]]:
    """Attackers in a process of their own, in place while the block runs; their tally stands in the list afterwards.

    Raises
    ------
    WorkerError : the process ended by itself.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_attack, args=(theirs, kind, target, tuple(own)), daemon=True)
    process.start()
    theirs.close()
    tallies: list[Tally] = []
    try:
        ours.recv()
        yield tallies
        ours.send(None)
        tallies.append(ours.recv())
    except EOFError:
        raise WorkerError(f"the attackers ({kind.name}) ended by themselves") from None
    finally:
        ours.close()
        process.join(END_SECONDS_MAX)
        if process.is_alive():
            process.terminate()


def _attack(channel: Connection, kind: Kind, target: Target, own: Sequence[str]) -> None:
    if hasattr(os, "nice"):
        os.nice(NICE)

    async def go() -> Tally:
        loop = asyncio.get_running_loop()
        logging.getLogger("asyncio").disabled = True  # broken connections are what this is about
        loop.set_exception_handler(lambda *_: None)
        ready, stop = asyncio.Event(), asyncio.Event()
        siege = asyncio.create_task(besiege(kind, target, own, ready, stop))
        await ready.wait()
        channel.send(None)
        loop.add_reader(channel.fileno(), stop.set)
        tally = await siege
        loop.remove_reader(channel.fileno())
        return tally

    channel.send(asyncio.run(go()))
