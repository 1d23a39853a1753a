"""Requests to an intake over HTTP/1.1: each of a few connections sends a batch when the last has its receipt."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tellegen.assess.city.senders import Batch
from tellegen.errors import TellegenError

CONNECTIONS = 4
MEDIA_TYPE = "application/vnd.tellegen.rows"
RECEIPT_EVERY = 50
"""Of the replies, how many go by until one's receipts are kept for the audit."""


class DeliveryError(TellegenError):
    """An intake did not answer, or took less than it was sent."""


@dataclass(slots=True)
class Delivery:
    """What became of the batches of a round.

    Attributes
    ----------
    latency_s : of each request, from its first byte sent to its last byte received.
    accepted, refused : rows. receipts : (entry, receipt) of a sample.
    """

    latency_s: list[float] = field(default_factory=list)
    sent_bytes: int = 0
    accepted: int = 0
    refused: int = 0
    receipts: list[tuple[int, str]] = field(default_factory=list)


def deliver(address: tuple[str, int], batches: Sequence[Batch]) -> Delivery:
    """Send batches and collect their receipts.

    Raises
    ------
    DeliveryError : a batch was not taken, or the server went away.
    """
    delivery = Delivery()
    asyncio.run(_deliver(address, iter(batches), delivery))
    return delivery


async def _deliver(address: tuple[str, int], batches: Iterator[Batch], delivery: Delivery) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(_one_connection(address, batches, delivery))


async def _one_connection(address: tuple[str, int], batches: Iterator[Batch], delivery: Delivery) -> None:
    reader, writer = await asyncio.open_connection(*address, limit=1 << 24)
    try:
        for batch in batches:
            start = time.perf_counter()
            writer.write(_request(address, batch))
            await writer.drain()
            status, reply = await _reply(reader)
            if status != 200:
                raise DeliveryError(f"batch {batch.statement.name()} was answered {status}: {reply}")
            delivery.latency_s.append(time.perf_counter() - start)
            delivery.sent_bytes += len(batch.body)
            delivery.accepted += reply["accepted"]
            delivery.refused += len(reply["refused"])
            if len(delivery.latency_s) % RECEIPT_EVERY == 1:
                delivery.receipts += zip(reply["entries"], reply["receipts"], strict=True)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise DeliveryError(f"the intake at {address[0]}:{address[1]} went away: {error}") from None
    finally:
        writer.close()


def _request(address: tuple[str, int], batch: Batch) -> bytes:
    said = batch.statement
    query = urlencode(
        {
            "source": said.source,
            "feeder": said.feeder,
            "market": said.market,
            "interval": said.interval,
            "sequence": said.sequence,
        }
    )
    head = (
        f"POST /v1/{said.route}?{query} HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(batch.body)}\r\n"
        f"tellegen-signature: {base64.b64encode(batch.signature).decode()}\r\n\r\n"
    )
    return head.encode("ascii") + batch.body


async def _reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    return int(head[0].split()[1]), json.loads(body)
