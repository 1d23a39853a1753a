"""Load on an intake: HTTP/1.1 over kept connections, and requests offered at a rate whatever the answers do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tellegen.errors import TellegenError

HEAD_BYTES_MAX = 64 << 10
CONNECTIONS = 32


class LoadError(TellegenError):
    """The service has closed a connection, or speaks no HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A request of an offered load.

    Attributes
    ----------
    due_s : when it was to be sent, since the load began.
    latency_s : from then, not from when it was sent, to the last byte of the reply.
    """

    due_s: float
    latency_s: float
    reply: Reply


def get_request(target: str) -> bytes:
    """The bytes of a request that reads."""
    return f"GET {target} HTTP/1.1\r\nhost: intake\r\n\r\n".encode("ascii")


class Connection:
    """A kept connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str, *, own: str | None = None, tls: ssl.SSLContext | None = None) -> Self:
        """Connect to ``http://HOST:PORT``, from an address of one's own if that matters; ``https`` needs `tls`."""
        parts = urlsplit(address)
        local = None if own is None else (own, 0)
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, limit=HEAD_BYTES_MAX, local_addr=local, ssl=tls
        )
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def send(self, request: bytes) -> Reply:
        """Send a request and read its reply.

        Raises
        ------
        LoadError : there is none.
        """
        try:
            self._writer.write(request)
            await self._writer.drain()
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await self._reader.readexactly(int(headers["content-length"]))
            return Reply(int(lines[0].split(" ", 2)[1]), body)
        except (OSError, EOFError, ValueError, KeyError, asyncio.LimitOverrunError) as error:
            raise LoadError(f"no reply: {error or type(error).__name__}") from None


async def offer(
    address: str,
    requests: Sequence[bytes],
    per_second: float,
    *,
    connections: int = CONNECTIONS,
    answered: Callable[[int, Answered], None],
) -> float:
    """Send requests at a steady rate; one that finds every connection busy is late, and its latency shows it.

    Parameters
    ----------
    answered : told number and outcome of each request.

    Returns
    -------
    Seconds from the first request to the last reply.

    Raises
    ------
    LoadError : a connection failed.
    """
    loop = asyncio.get_running_loop()
    numbers = iter(range(len(requests)))
    opened = [await Connection.open(address) for _ in range(connections)]
    start = loop.time()

    async def worker(connection: Connection) -> None:
        async with connection:
            for number in numbers:
                due = number / per_second
                await asyncio.sleep(start + due - loop.time())
                reply = await connection.send(requests[number])
                answered(number, Answered(due, loop.time() - start - due, reply))

    await asyncio.gather(*(worker(connection) for connection in opened))
    return loop.time() - start
