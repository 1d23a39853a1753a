"""The well-behaved: a head-end and gateway that hands in readings and orders, and a log that asks its witness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import numpy as np

from tellegen.assess.attacks.kinds import trusting
from tellegen.assess.load import Connection, LoadError
from tellegen.journal import Checkpoint, Extension, MerkleTree, NoteSigner
from tellegen.journal.merkle import entry_hash
from tellegen.metering import DeviceCodes
from tellegen.service.client import post_request
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import ShardKeys
from tellegen.units import MARKET_INTERVAL_S

FEEDER = "attacked"
CUSTOMERS = np.arange(1, 21, dtype=np.int32)
ORDERS_EVERY = 5
AGAIN_S = 0.05


_LOG = NoteSigner("log.example/attacked", bytes(32))


class Requests(Protocol):
    """Requests of a well-behaved sender, without end."""

    @property
    def address(self) -> str:
        """Whom it asks."""

    def next(self) -> tuple[bytes, bool]:
        """The next request, and whether it holds orders."""


class Batches:
    """Readings, and every so often orders, of all customers of a small shard; each signed when it is wanted."""

    def __init__(self, keys: ShardKeys, address: str, first: int) -> None:
        self._keys, self.address = keys, address
        self._codes = DeviceCodes(keys.meter_master, keys.meters_of(CUSTOMERS))
        self._numbers: Iterator[int] = count(first)

    def batch(self) -> SignedBatch:
        """The next batch."""
        number, interval = next(self._numbers), int(time.time()) // MARKET_INTERVAL_S
        if number % ORDERS_EVERY:
            readings = readings_of(self._keys, self._codes, CUSTOMERS, interval - 1, number)
            return readings_batch(self._keys, readings, FEEDER, interval - 1, number)
        submissions, orders = bids_of(self._keys, CUSTOMERS, FEEDER, "real_time", interval + 2)
        return bids_batch(self._keys, submissions, orders, FEEDER, "real_time", interval + 2, number)

    def next(self) -> tuple[bytes, bool]:
        """The next request."""
        batch = self.batch()
        return post_request(batch), not batch.statement.sequence % ORDERS_EVERY


class Checkpoints:
    """A log that grows by an entry, and asks its witness to sign that it has."""

    def __init__(self, address: str) -> None:
        self.address, self._tree = address, MerkleTree()

    @staticmethod
    def verifier_key() -> str:
        """The log's, for the witness to know."""
        return _LOG.verifier.vkey

    def next(self) -> tuple[bytes, bool]:
        """The next request."""
        old_size = len(self._tree)
        self._tree.append(entry_hash(b"%d" % old_size))
        head = Checkpoint.signed_by(_LOG, old_size + 1, self._tree.root())
        body = str(Extension(old_size, tuple(self._tree.consistency_proof(old_size)), head.note)).encode()
        return f"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body, False


@dataclass(slots=True)
class Course:
    """What became of a sender's requests.

    Attributes
    ----------
    answered : with 200. failed : how often one had to be sent again. orders_s : until each of orders had its receipt,
        from when it was first sent. first_s : from when it came to its first answer. elapsed_s : of everything.
    """

    answered: int = 0
    failed: int = 0
    orders_s: list[float] = field(default_factory=list)
    first_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def per_second(self) -> float:
        """Its rate, once it has its first answer."""
        return max(0, self.answered - 1) / max(self.elapsed_s - self.first_s, 1e-9)


async def send(requests: Requests, own: str, seconds: float) -> Course:
    """One request after the other over one connection, for so long; what is not answered is sent again over another."""
    course, loop = Course(), asyncio.get_running_loop()
    tls = trusting() if requests.address.startswith("https") else None
    start = loop.time()
    connection: Connection | None = None
    while loop.time() < start + seconds:
        request, has_orders = requests.next()
        begun, done = loop.time(), False
        while not done and loop.time() < start + 4 * seconds:
            try:
                connection = connection or await Connection.open(requests.address, own=own, tls=tls)
                reply = await asyncio.wait_for(connection.send(request), 2 * seconds)
                done = reply.status == 200 or (course.failed > 0 and reply.status == 409)  # it was taken before
            except (LoadError, OSError, TimeoutError):
                connection = None
            if not done:
                course.failed += 1
                await asyncio.sleep(AGAIN_S)
        course.answered += done
        course.first_s = course.first_s or loop.time() - start
        if has_orders:
            course.orders_s.append(loop.time() - begun if done else float("inf"))
    course.elapsed_s = loop.time() - start
    if connection is not None:
        await connection.__aexit__(None, None, None)
    return course
