"""The kinds of hostile connections of who has no credentials."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import struct

from tellegen.assess.attacks.kinds import At, Kind, Line, trusting

DRIP_S = 0.5
PIPELINED = 24
_CHUNK = b"4000\r\n" + bytes(0x4000) + b"\r\n"
_MEGABYTES_4 = 4 << 20
_FORGED = base64.b64encode(bytes(64)).decode()


async def _gone(reader: asyncio.StreamReader) -> None:
    """Read until the other end closes."""
    while await reader.read(1 << 16):
        pass


def _head(line: Line, query: str, *more: str) -> bytes:
    """The head of a batch without a good signature; of what a witness is asked."""
    path = "/add-checkpoint" if not line.target.query else f"/v1/readings?{query}"
    said = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/vnd.tellegen.rows"]
    return "\r\n".join([*said, f"tellegen-signature: {_FORGED}", *more, "", ""]).encode()


async def idle(line: Line) -> None:
    """Connect, and say nothing."""
    reader, _ = await line.open()
    line.struck()
    await _gone(reader)


async def kept_idle(line: Line) -> None:
    """Ask something, and keep the connection."""
    reader, writer = await line.open()
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    line.struck()
    await _gone(reader)


async def announced(line: Line) -> None:
    """Announce 4 MiB in nobody's name, and send nothing."""
    await _announce(line, "source=NOBODY&feeder=F&interval=1&sequence=1")


async def announced_in_a_name(line: Line) -> None:
    """Announce 4 MiB in the name of the well-behaved sender, and send nothing."""
    await _announce(line, line.target.query)


async def _announce(line: Line, query: str) -> None:
    reader, writer = await line.open()
    writer.write(_head(line, query, f"content-length: {_MEGABYTES_4}"))
    line.struck()
    await _gone(reader)


async def replayed_head(line: Line) -> None:
    """Repeat a head with a signature that is good, from the published log, and send no body."""
    reader, writer = await line.open()
    head, _, _ = line.target.recorded.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    line.struck()
    await _gone(reader)


async def chunked(line: Line) -> None:
    """A body without a length, as much as is taken of it."""
    _, writer = await line.open()
    writer.write(_head(line, line.target.query, "transfer-encoding: chunked"))
    while True:
        writer.write(_CHUNK)
        await writer.drain()
        line.struck()
        await asyncio.sleep(0)


async def slow_headers(line: Line) -> None:
    """Headers, a byte at a time."""
    await _drip(line, b"GET /healthz HTTP/1.1\r\nx: ")


async def slow_body(line: Line) -> None:
    """A body, a byte at a time."""
    await _drip(line, _head(line, line.target.query, f"content-length: {_MEGABYTES_4}"))


async def _drip(line: Line, begin: bytes) -> None:
    reader, writer = await line.open()
    writer.write(begin)
    gone = asyncio.ensure_future(_gone(reader))
    try:
        while not gone.done():
            writer.write(b"x")
            line.struck()
            await asyncio.wait([gone], timeout=DRIP_S)
    finally:
        gone.cancel()


async def pipelined_reads(line: Line) -> None:
    """Public reads, many at a time, as fast as they are answered."""
    reader, writer = await line.open()
    targets = ("/v1/receipt?entry=0", "/tile/entries/000", "/metrics", "/checkpoint")
    while True:
        for number in range(PIPELINED):
            writer.write(f"GET {targets[number % len(targets)]} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        line.struck()
        for _ in range(PIPELINED):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))


async def unread_answers(line: Line) -> None:
    """Public reads whose answers are never read."""
    _, writer = await line.open()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(PIPELINED):
        writer.write(b"GET /tile/entries/000 HTTP/1.1\r\nhost: x\r\n\r\n")
    line.struck()
    while not writer.transport.is_closing():
        await asyncio.sleep(DRIP_S)


async def resets(line: Line) -> None:
    """Reset while answers are made, and come again."""
    _, writer = await line.open()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(b"GET /v1/receipt?entry=0 HTTP/1.1\r\nhost: x\r\n\r\n" * PIPELINED)
    line.struck()
    await asyncio.sleep(0.01)


async def forged(line: Line) -> None:
    """Whole batches in the well-behaved sender's name, with a signature that is none."""
    reader, writer = await line.open()
    body = bytes(6800)
    request = _head(line, line.target.query, f"content-length: {len(body)}") + body
    while True:
        writer.write(request)
        line.struck()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))


async def no_handshake(line: Line) -> None:
    """Connect where TLS is spoken, and say nothing."""
    reader, _ = await line.open(handshake=False)
    line.struck()
    await _gone(reader)


async def half_a_handshake(line: Line) -> None:
    """The first half of a ClientHello, then a byte at a time."""
    reader, writer = await line.open(handshake=False)
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    said = hello.read()
    writer.write(said[: len(said) // 2])
    gone = asyncio.ensure_future(_gone(reader))
    try:
        for at in range(len(said) // 2, len(said) - 1):
            writer.write(said[at : at + 1])
            line.struck()
            await asyncio.wait([gone], timeout=DRIP_S)
            if gone.done():
                return
    finally:
        gone.cancel()


async def handshakes(line: Line) -> None:
    """One handshake after the other."""
    await line.open()
    line.struck()


KINDS = (
    Kind("idle", At.INTAKE, idle),
    Kind("idle once answered", At.INTAKE, kept_idle),
    Kind("4 MiB announced by nobody", At.INTAKE, announced),
    Kind("4 MiB announced in the sender's name", At.INTAKE, announced_in_a_name),
    Kind("a published signature, no body", At.INTAKE, replayed_head),
    Kind("endless body without a length", At.INTAKE, chunked),
    Kind("headers a byte at a time", At.INTAKE, slow_headers),
    Kind("body a byte at a time", At.INTAKE, slow_body),
    Kind("pipelined public reads", At.INTAKE, pipelined_reads),
    Kind("answers that are not read", At.INTAKE, unread_answers),
    Kind("resets while answers are made", At.INTAKE, resets),
    Kind("whole batches with a forged signature", At.INTAKE, forged),
    Kind("TLS: nothing said", At.INTAKE_TLS, no_handshake),
    Kind("TLS: half a handshake, a byte at a time", At.INTAKE_TLS, half_a_handshake),
    Kind("TLS: idle after the handshake", At.INTAKE_TLS, idle),
    Kind("TLS: one handshake after the other", At.INTAKE_TLS, handshakes),
    Kind("witness: idle", At.WITNESS, idle),
    Kind("witness: 4 MiB announced", At.WITNESS, announced_in_a_name),
    Kind("witness: endless body without a length", At.WITNESS, chunked),
    Kind("witness: body a byte at a time", At.WITNESS, slow_body),
    Kind("witness: pipelined reads", At.WITNESS, pipelined_reads),
    Kind("witness: requests that say nothing", At.WITNESS, forged),
)
"""Every kind; what an admitted source may try, and what goes through a broker, stands beside these."""
