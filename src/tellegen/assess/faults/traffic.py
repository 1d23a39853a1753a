"""What the meters, the head-end and the gateway of a small shard send: good rows and bad ones, repeated and altered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tellegen.metering import DeviceCodes
from tellegen.records import Orders, Readings, Refusal, Submissions
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import ShardKeys
from tellegen.units import IntArray

FEEDERS = {"F1": np.arange(1, 9, dtype=np.int32), "F2": np.arange(9, 13, dtype=np.int32)}
SEED = b"faults"
_AHEAD = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch as it is sent, and what must become of it.

    Attributes
    ----------
    refused : rows that must not count, and why; every other row must.
    readings : those of its rows that may be replayed once it is on record.
    """

    signed: SignedBatch
    refused: dict[int, Refusal]
    rows: int
    readings: Readings | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Source and name: what makes it one record, however often it is sent."""
        return self.signed.statement.source, self.signed.statement.name()

    @property
    def digest(self) -> str:
        """SHA-256 of its body."""
        return self.signed.statement.body_sha256


class Traffic:
    """Senders of a synthetic shard with `FEEDERS`.

    Parameters
    ----------
    keys : of the shard.
    chance : what they send follows from it.
    """

    def __init__(self, keys: ShardKeys, chance: random.Random) -> None:
        self._keys, self._chance = keys, chance
        self._codes = DeviceCodes(keys.meter_master, keys.meters_of(np.concatenate(list(FEEDERS.values()))))
        self._sequence = 0

    def batch(self, interval: int, replayable: Sequence[Batch] = ()) -> Batch:
        """A new batch: readings of the interval before, or bids for one to come; some with rows that are refused.

        Parameters
        ----------
        interval : that runs now.
        replayable : batches on record, some of whose rows are perhaps sent once more in another batch.
        """
        self._sequence += 1
        feeder = self._chance.choice(sorted(FEEDERS))
        if self._chance.random() < 0.4:
            return self._bids(feeder, interval + _AHEAD)
        if replayable and self._chance.random() < 0.25:
            return self._replay(self._chance.choice(replayable))
        return self._readings(feeder, interval - 1, self._sequence)

    def altered(self, batch: Batch) -> Batch:
        """Another batch under the number of one."""
        self._sequence += 1
        said = batch.signed.statement
        if batch.readings is None:
            return self._bids(said.feeder, said.interval, said.sequence, steps=1)
        return self._readings(said.feeder, said.interval, self._sequence, said.sequence)

    def _readings(self, feeder: str, interval: int, counter: int, sequence: int | None = None) -> Batch:
        table = readings_of(self._keys, self._codes, FEEDERS[feeder], interval, counter)
        refused: dict[int, Refusal] = {}
        if self._chance.random() < 0.3:
            row = self._chance.randrange(len(table))
            rows = table.rows()
            rows["tag"][row] = bytes(16)
            table, refused = Readings.from_rows(rows), {row: Refusal.CODE}
        return self._signed(table, feeder, interval, refused, sequence)

    def _replay(self, earlier: Batch) -> Batch:
        """Rows that are on record, and perhaps new ones besides."""
        assert earlier.readings is not None
        old, said = earlier.readings, earlier.signed.statement
        tables, refused = [old.rows()], dict.fromkeys(range(len(old)), Refusal.REPLAYED)
        if self._chance.random() < 0.5:
            fresh = readings_of(self._keys, self._codes, FEEDERS[said.feeder], said.interval, self._sequence)
            tables.append(fresh.rows())
        return self._signed(Readings.from_rows(np.concatenate(tables)), said.feeder, said.interval, refused)

    def _signed(
        self, table: Readings, feeder: str, interval: int, refused: dict[int, Refusal], sequence: int | None = None
    ) -> Batch:
        number = self._sequence if sequence is None else sequence
        good: IntArray = np.setdiff1d(np.arange(len(table)), list(refused))
        signed = readings_batch(self._keys, table, feeder, interval, number)
        return Batch(signed, refused, len(table), table.take(good))

    def _bids(self, feeder: str, interval: int, sequence: int | None = None, steps: int = 2) -> Batch:
        submissions, orders = bids_of(self._keys, FEEDERS[feeder], feeder, "real_time", interval, steps)
        refused: dict[int, Refusal] = {}
        if self._chance.random() < 0.3:
            row = self._chance.randrange(len(submissions))
            rows = submissions.rows()
            rows["signature"][row] = bytes(64)
            submissions, refused = Submissions.from_rows(rows), {row: Refusal.SIGNATURE}
        number = self._sequence if sequence is None else sequence
        return Batch(self._signed_bids(submissions, orders, feeder, interval, number), refused, len(submissions))

    def _signed_bids(
        self, submissions: Submissions, orders: Orders, feeder: str, interval: int, sequence: int
    ) -> SignedBatch:
        return bids_batch(self._keys, submissions, orders, feeder, "real_time", interval, sequence)
