"""What a hostile connection is: a coroutine that does its harm over a line to what is attacked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class At(StrEnum):
    """What is attacked."""

    INTAKE = "intake"
    INTAKE_TLS = "intake over TLS"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True)
class Target:
    """What an attacker knows: nothing that is secret.

    Attributes
    ----------
    address : ``http://HOST:PORT`` or ``https://``.
    recorded : head and body of a request that is on record; its head anybody can make from the published log.
    query : of a batch in a well-behaved sender's name.
    """

    address: str
    recorded: bytes = b""
    query: str = ""

    @property
    def host(self) -> str:
        """Where it listens."""
        return urlsplit(self.address).hostname or ""

    @property
    def port(self) -> int:
        """On which port."""
        return urlsplit(self.address).port or 0


class Line:
    """One hostile connection, from an address of its own.

    Parameters
    ----------
    own : from which it comes.
    number : which of them it is.
    struck : told once the harm is in place.
    """

    def __init__(self, target: Target, own: str, number: int, struck: Callable[[], None]) -> None:
        self.target, self.own, self.number, self.struck = target, own, number, struck
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, *, handshake: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; over TLS if that is how it is spoken there and `handshake` is wanted."""
        tls = trusting() if handshake and self.target.address.startswith("https") else None
        own = (self.own, 0)
        reader, writer = await asyncio.open_connection(self.target.host, self.target.port, local_addr=own, ssl=tls)
        self._writer = writer
        return reader, writer

    def close(self) -> None:
        """Leave at once."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None


Strike = Callable[[Line], Awaitable[None]]
"""Returns, or raises `OSError` or `EOFError`, when the connection is over; it is then made anew."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of hostile connection.

    Attributes
    ----------
    name : in words. at : what it attacks. strike : does it.
    """

    name: str
    at: At
    strike: Strike


def trusting() -> ssl.SSLContext:
    """TLS with whoever answers: this is about rates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
