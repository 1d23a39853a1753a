"""Batches as the senders of a synthetic shard would send them: rows, codes, signatures, statements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from numpy.typing import NDArray

from tellegen.metering import DeviceCodes
from tellegen.records import (
    Device,
    Orders,
    Product,
    Readings,
    Route,
    Side,
    Statement,
    Submissions,
    bids_body,
    sign_bids,
)
from tellegen.simulation.shard import GATEWAY, HEAD_END, ShardKeys

_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """A batch ready to be sent: what its sender says of it, the signature of that, and the body."""

    statement: Statement
    signature: bytes
    body: bytes


def readings_of(
    keys: ShardKeys, codes: DeviceCodes, customers: NDArray[np.int32], interval: int, counter: int
) -> Readings:
    """Plausible readings with their codes: registers grow with the interval."""
    count = customers.size
    spread = customers.astype(np.int64) % 97
    return codes.tag(
        Readings(
            customer=customers,
            meter=keys.meters_of(customers),
            counter=np.full(count, counter),
            import_wh=1000 * spread + (interval % 10**6) * (20 + spread),
            export_wh=10 * spread,
            reactive_varh=spread - 40,
            voltage_mv=230_000 + 10 * spread,
            tag=np.zeros(count, dtype="V16"),
        ),
        interval,
    )


def bids_of(
    keys: ShardKeys,
    customers: NDArray[np.int32],
    feeder: str,
    market: str,
    interval: int,
    steps: int = 2,
    sequence: int = 0,
) -> tuple[Submissions, Orders]:
    """A curve of `steps` orders of each customer, signed by it."""
    whose = np.repeat(customers, steps)
    step = np.tile(np.arange(steps, dtype=np.int64), customers.size)
    orders = Orders(
        customer=whose,
        period=np.zeros(whose.size, dtype=np.uint8),
        device=np.full(whose.size, Device.LOAD, dtype=np.uint8),
        node=np.ones(whose.size, dtype=np.int32),
        product=np.full(whose.size, Product.ENERGY, dtype=np.uint8),
        side=np.full(whose.size, Side.BUY, dtype=np.int8),
        price_taker=np.zeros(whose.size, dtype=np.uint8),
        price_micros=400_000 - 50_000 * step + (interval * 31 + whose.astype(np.int64)) % 1000,
        quantity_w=500 + whose.astype(np.int64) % 400,
        var_per_kw=np.zeros(whose.size, dtype=np.int32),
    )

    def sign(customer: int, message: bytes) -> bytes:
        _, secret = crypto_sign_seed_keypair(keys.customer_seed(customer))
        return bytes(crypto_sign(message, secret)[:_SIGNATURE_BYTES])

    return sign_bids(orders, keys.origin, feeder, market, interval, sequence, sign), orders


def readings_batch(keys: ShardKeys, readings: Readings, feeder: str, interval: int, sequence: int) -> SignedBatch:
    """The head-end's batch of readings."""
    return _signed(keys, Route.READINGS, HEAD_END, feeder, "", interval, sequence, readings.rows().tobytes())


def bids_batch(
    keys: ShardKeys, submissions: Submissions, orders: Orders, feeder: str, market: str, interval: int, sequence: int
) -> SignedBatch:
    """The gateway's batch of bids."""
    return _signed(keys, Route.BIDS, GATEWAY, feeder, market, interval, sequence, bids_body(submissions, orders))


def _signed(
    keys: ShardKeys, route: Route, source: str, feeder: str, market: str, interval: int, sequence: int, body: bytes
) -> SignedBatch:
    statement = Statement.of(keys.origin, route, source, feeder, market, interval, sequence, body)
    return SignedBatch(statement, keys.sign_as(source, statement.to_bytes()), body)
