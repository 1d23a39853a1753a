"""An intake that opens from a snapshot knows what one knows that has read the whole record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tellegen.intake.intake import Intake
from tellegen.intake.known import Known
from tellegen.intake.limits import RefusedBatchError
from tellegen.intake.sent import SentReadings
from tellegen.journal.clock import RecordClock
from tellegen.metering import DeviceCodes
from tellegen.operations.erasure import erase_from_shard
from tellegen.privacy import Vault
from tellegen.privacy.snapshots import Parts, part_bytes
from tellegen.records import Refusal
from tellegen.simulation.batches import readings_batch, readings_of
from tellegen.simulation.shard import ShardKeys, build_shard

FIRST = 5_900_000
NOW = 300 * (FIRST + 10)
FEEDERS = {"F1": np.arange(1, 9), "F2": np.arange(9, 13)}


class Shard:
    """A shard whose clock a test turns."""

    def __init__(self, keys: ShardKeys) -> None:
        self.keys, self.now = keys, float(NOW)
        self.codes = DeviceCodes(keys.meter_master, keys.meters_of(np.arange(1, 20)))
        self.sequence = 0
        self.intake = self._open()

    def _open(self) -> Intake:
        return Intake.open(
            self.keys.path,
            clock=lambda newest: RecordClock(wall=lambda: self.now, elapsed=lambda: self.now, not_before=newest),
        )

    def reopen(self) -> Intake:
        self.intake.close()
        self.intake = self._open()
        return self.intake

    def send(self, counter: int, feeder: str = "F1") -> int:
        """Readings of a feeder's customers; how many count."""
        self.sequence += 1
        self.now += 300
        interval = int(self.now) // 300 - 1
        rows = readings_of(self.keys, self.codes, FEEDERS[feeder], interval, counter)
        batch = readings_batch(self.keys, rows, feeder, interval, self.sequence)
        taken = self.intake.take(batch.statement, batch.signature, lambda: SentReadings.from_bytes(batch.body))
        self.intake.commit()
        return taken.accepted


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    made = Shard(build_shard(tmp_path / "s", FEEDERS, b"known", first_interval=FIRST))
    yield made
    made.intake.close()


def same(one: Parts, other: Parts) -> bool:
    return {k: part_bytes(v) for k, v in one.items()} == {k: part_bytes(v) for k, v in other.items()}


def test_opening_from_a_snapshot_is_opening_from_the_whole_record(shard: Shard) -> None:
    for counter in (1, 2):
        shard.send(counter)
    size = len(shard.intake.journal)
    entry = shard.intake.snapshot()
    assert entry == size
    shard.send(3)
    shard.send(1, "F2")
    intake = shard.reopen()
    assert intake.notices == ()
    assert intake.known.size == size
    whole = Known.whole(intake.journal, intake.vault, len(intake.journal))
    assert same(intake.known.parts(), whole.parts())
    for counter in (2, 3):
        with pytest.raises(RefusedBatchError) as refused:
            shard.send(counter)
        assert {row.refusal for row in refused.value.rows} == {Refusal.REPLAYED}
    assert shard.send(4) == 8


def test_what_a_snapshot_kept_can_be_held_against_the_record(shard: Shard) -> None:
    """The digests on record are those of what the first records up to it fold to."""
    for counter in (1, 2):
        shard.send(counter)
    entry = shard.intake.snapshot()
    shard.send(3)
    intake = shard.intake
    record = intake.vault.unseal(intake.journal.entry(entry), intake.journal.payload(entry)).table
    whole = Known.whole(intake.journal, intake.vault, int(record.intake_size[0]))
    assert whole.kept(intake._snapshots, [], whole.size).digest.tolist() == record.digest.tolist()


def test_without_a_whole_snapshot_the_whole_record_is_read(shard: Shard) -> None:
    shard.send(1)
    shard.intake.snapshot()
    shard.send(2)
    (counters,) = (path for path in (shard.keys.path / "state").iterdir() if path.name.startswith("counters-"))
    data = bytearray(counters.read_bytes())
    data[-1] ^= 1
    counters.write_bytes(data)
    intake = shard.reopen()
    assert [counters.name in notice for notice in intake.notices] == [True]
    assert intake.known.size == 0
    with pytest.raises(RefusedBatchError):
        shard.send(2)
    assert shard.send(3) == 8


def test_unchanged_parts_are_named_again_and_older_ones_go(shard: Shard) -> None:
    state = shard.keys.path / "state"
    for counter in (1, 2, 3):
        shard.send(counter)
        shard.intake.snapshot()
    names = [path.name.rpartition("-")[0] for path in state.iterdir()]
    assert names.count("counters") == 2  # of the newest snapshot and the one before
    assert names.count("directory.connections.load") == 1


def test_nothing_of_an_erased_customer_is_kept(shard: Shard) -> None:
    shard.send(1)
    shard.intake.snapshot()
    keys = [shard.intake.vault.purpose_key(name) for name in shard.intake.vault.purposes if "snapshot intake" in name]
    meter = int(shard.intake.directory.meters_of([3])[0])
    shard.intake.close()
    with Vault.open(shard.keys.path / "vault") as vault:
        erase_from_shard(shard.keys.path, vault, 3, known_at=int(shard.now))
    shard.now += 86_400
    intake = shard.reopen()
    assert intake.directory.customers().tolist() == [n for n in range(1, 13) if n != 3]
    intake.snapshot(afresh=True)
    left = [shard.intake.vault.purpose_key(name) for name in intake.vault.purposes if "snapshot intake" in name]
    assert len(left) == 1
    assert not set(left) & set(keys)
    kept = intake._snapshots.read_newest().parts
    assert 3 not in kept["directory.connections.load"]["customer"]
    assert meter not in kept["counters"]["meter"]
    whole = Known.whole(intake.journal, intake.vault, len(intake.journal) - 1)
    assert same(kept, whole.parts())
