"""An intake at a clock that a test turns, and what its senders hand in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from nacl.signing import SigningKey

from tellegen.intake.intake import Intake, Taken
from tellegen.intake.limits import IntakeLimits, RefusedBatchError
from tellegen.intake.registry_changes import NONCE_BYTES, REGISTRAR, SentChanges
from tellegen.intake.sent import SentBids, SentReadings
from tellegen.journal.clock import RecordClock
from tellegen.metering import DeviceCodes
from tellegen.records import Connections, Readings, Route, Statement, Table
from tellegen.registry.registrar import REGISTRAR_PURPOSE
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import ShardKeys

FIRST = 5_900_000  # a market interval in 2026
NOW = 300 * (FIRST + 10)
FEEDERS = {"F1": np.arange(1, 9), "F2": np.arange(9, 13)}
DAY = 86_400
F1 = np.arange(1, 9, dtype=np.int32)
INTERVAL = FIRST + 9


@dataclass
class Bench:
    """A shard and its intake at a clock that a test turns."""

    keys: ShardKeys
    codes: DeviceCodes
    wall: list[float]
    intake: Intake

    def open(self, **limits: int) -> Intake:
        self.intake.close()
        self.intake = open_intake(self.keys.path, self.wall, **limits)
        return self.intake

    def readings(self, counter: int = 1, customers: np.ndarray = F1, interval: int = INTERVAL) -> Readings:
        return readings_of(self.keys, self.codes, customers, interval, counter)

    def send(self, batch: SignedBatch) -> Taken:
        decode = SentReadings.from_bytes if batch.statement.route is Route.READINGS else SentBids.from_bytes
        return self.intake.take(batch.statement, batch.signature, lambda: decode(batch.body))

    def final(self, batch: SignedBatch) -> tuple[Taken, list[str]]:
        taken = self.send(batch)
        self.intake.commit()
        return taken, self.intake.receipts([taken])[0]


def open_intake(path: Path, wall: list[float], accept_clock: str = "", **limits: int) -> Intake:
    def clock(newest: int) -> RecordClock:
        return RecordClock(wall=lambda: wall[0], elapsed=lambda: wall[0], not_before=newest)

    return Intake.open(path, IntakeLimits(**limits), clock, accept_clock=accept_clock)


def bids(bench: Bench, customers: np.ndarray = F1, sequence: int = 1) -> SignedBatch:
    submissions, orders = bids_of(bench.keys, customers, "F1", "real_time", FIRST + 12)
    return bids_batch(bench.keys, submissions, orders, "F1", "real_time", FIRST + 12, sequence)


def readings(bench: Bench, rows: Readings | None = None, sequence: int = 1, interval: int = INTERVAL) -> SignedBatch:
    return readings_batch(bench.keys, bench.readings() if rows is None else rows, "F1", interval, sequence)


def refused(batch: Callable[[], object]) -> RefusedBatchError:
    with pytest.raises(RefusedBatchError) as raised:
        batch()
    return raised.value


def change(bench: Bench, table: Table, sequence: int, key: bytes | None = None) -> Taken:
    """What the registrar hands in while the intake runs; the same again is the same to the byte."""
    body = SentChanges(table, nonce=bytes(range(NONCE_BYTES))).to_bytes()
    statement = Statement.of(bench.keys.origin, Route.ADMISSIONS, REGISTRAR, "", "", FIRST + 10, sequence, body)
    seed = bench.intake.vault.role_key(REGISTRAR_PURPOSE) if key is None else key
    signature = SigningKey(seed).sign(statement.to_bytes()).signature
    taken = bench.intake.take(statement, signature, lambda: SentChanges.from_bytes(body))
    bench.intake.commit()
    return taken


def moved(bench: Bench) -> Connections:
    return Connections(
        customer=np.array([10, 50], dtype=np.int32),  # one from F2, one who is new
        device=np.zeros(2, dtype=np.uint8),
        asset=bench.keys.meters_of([10, 18]),
        feeder=np.array([b"F1", b"F1"], dtype="S32"),
        node=np.array([9, 10], dtype=np.int32),
        phases=np.zeros(2, dtype=np.uint8),
        from_interval=np.array([INTERVAL, INTERVAL]),
        capacity_w=np.full(2, 1000),
        import_limit_w=np.full(2, 1000),
        export_limit_w=np.full(2, 1000),
        reads_every=np.zeros(2, dtype=np.uint8),
        attested_by=np.zeros(2, dtype="S32"),
        credit=np.zeros(2, dtype=np.int32),
    )
