"""What counts of what senders have handed in: with evidence, by the customer's own number, before the gate."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tellegen.intake.intake import Intake
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.intake.sent import SentBids, SentReadings
from tellegen.intake.submitted import Submitted
from tellegen.journal.clock import RecordClock
from tellegen.metering import DeviceCodes
from tellegen.operations.compaction import compact
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Clocks, Route, Statement, Ticks
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import GATEWAY, HEAD_END, ShardKeys, build_shard
from tellegen.verify import verify_directory

FIRST = 5_900_000
NOW = 300 * (FIRST + 10)
ALL = np.arange(1, 5, dtype=np.int32)
INTERVAL = FIRST + 12


@dataclass
class Bench:
    keys: ShardKeys
    intake: Intake
    wall: list[float]

    def take(self, batch: SignedBatch) -> int:
        decode = SentBids.from_bytes if batch.statement.route is Route.BIDS else SentReadings.from_bytes
        return self.intake.take(batch.statement, batch.signature, lambda: decode(batch.body)).entries[0]

    def bid(self, number: int, customers: np.ndarray, sequence: int, interval: int = INTERVAL) -> int:
        submissions, orders = bids_of(
            self.keys, customers, "F1", "real_time", interval, steps=1 + sequence, sequence=sequence
        )
        return self.take(bids_batch(self.keys, submissions, orders, "F1", "real_time", interval, number))

    def read(self, number: int, interval: int) -> int:
        codes = DeviceCodes(self.keys.meter_master, self.keys.meters_of(ALL))
        readings = readings_of(self.keys, codes, ALL, interval, number)
        return self.take(readings_batch(self.keys, readings, "F1", interval, number))

    def submitted(self) -> Submitted:
        self.intake.commit()
        return Submitted(self.intake.journal, self.intake.vault)


def opened(path: Path, wall: list[float]) -> Intake:
    return Intake.open(
        path, None, lambda newest: RecordClock(wall=lambda: wall[0], elapsed=lambda: wall[0], not_before=newest)
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    keys = build_shard(tmp_path / "s", {"F1": ALL}, b"submitted", first_interval=FIRST)
    wall = [float(NOW)]
    made = Bench(keys, opened(keys.path, wall), wall)
    yield made
    made.intake.close()


@pytest.mark.parametrize(("source", "route"), [(HEAD_END, Route.BIDS), (GATEWAY, Route.READINGS)])
def test_each_role_hands_in_what_it_may(bench: Bench, source: str, route: Route) -> None:
    statement = Statement.of(bench.keys.origin, route, source, "F1", "", INTERVAL, 1, b"")
    batch = SignedBatch(statement, bench.keys.sign_as(source, statement.to_bytes()), b"")
    before = len(bench.intake.journal)
    with pytest.raises(RefusedBatchError, match=f"hands in .*{route} are for a ") as refused:
        bench.take(batch)
    assert refused.value.reason is Reason.OTHER_ROLE
    assert len(bench.intake.journal) == before


def counted(bench: Bench, size: int | None = None) -> dict[int, int]:
    """How many orders count of each customer."""
    submitted = bench.submitted()
    bids = submitted.bids("real_time", INTERVAL, submitted.refresh() if size is None else size)
    customer, rows = np.unique(bids["F1"].orders.customer, return_counts=True)
    return dict(zip(customer.tolist(), rows.tolist(), strict=True))


def test_the_highest_number_counts_and_of_equals_the_later(bench: Bench) -> None:
    """Whatever way batches take: who overtakes whom on the wire decides nothing."""
    bench.bid(1, ALL, 2)
    bench.bid(2, ALL[:2], 1)
    assert counted(bench) == dict.fromkeys([1, 2, 3, 4], 3)
    bench.bid(3, ALL[1:2], 4)
    later = bench.bid(4, ALL[2:3], 2)
    assert counted(bench) == {1: 3, 2: 5, 3: 3, 4: 3}
    assert counted(bench, later) == {1: 3, 2: 5, 3: 3, 4: 3}
    submissions, orders = bids_of(bench.keys, ALL[3:], "F1", "real_time", INTERVAL, steps=1, sequence=2)
    bench.take(bids_batch(bench.keys, submissions, orders, "F1", "real_time", INTERVAL, 5))
    assert counted(bench)[4] == 1
    assert bench.submitted().bids("day_ahead", INTERVAL, len(bench.intake.journal)) == {}


def test_what_counts_is_the_same_over_compacted_days_and_erased_customers(bench: Bench) -> None:
    bench.bid(1, ALL, 1)
    first = bench.read(2, INTERVAL - 5)
    again = bench.read(3, INTERVAL - 5)
    before = counted(bench)
    bench.intake.close()
    with Vault.open(bench.keys.path / "vault") as vault:
        compact(bench.keys.path, vault, known_at=NOW + 5, until_day=NOW // 86_400)
    bench.wall[0] += 86_400
    bench.intake = opened(bench.keys.path, bench.wall)
    assert counted(bench) == before
    submitted = bench.submitted()
    found = submitted.readings(INTERVAL - 5, submitted.refresh())
    assert found.entry.tolist() == [first] * 4 + [again] * 4
    assert found.row.tolist() == [0, 1, 2, 3] * 2
    assert submitted.late(0, again) == [(first, INTERVAL - 5)]


def test_a_batch_that_the_operator_made_up_counts_nowhere(bench: Bench) -> None:
    """Readings in the head-end's name without its signature: neither market nor intake nor `verify` takes them."""
    codes = DeviceCodes(bench.keys.meter_master, bench.keys.meters_of(ALL))
    forged = readings_of(bench.keys, codes, ALL, INTERVAL - 5, 1)
    recorder = Recorder(bench.intake.journal, bench.intake.vault, "F1", live=True)
    entry = recorder.put(forged, Span(NOW, INTERVAL - 5), name="readings/9", source="head-end")
    submitted = bench.submitted()
    assert len(submitted.readings(INTERVAL - 5, submitted.refresh()).readings) == 0
    bench.intake.close()
    bench.intake = opened(bench.keys.path, bench.wall)
    bench.read(1, INTERVAL - 5)
    submitted = bench.submitted()
    assert len(submitted.readings(INTERVAL - 5, submitted.refresh()).readings) == 4
    senders = next(check for check in verify_directory(bench.keys.path).checks if check.name == "senders")
    assert not senders.ok
    assert senders.detail == f"entry {entry}: readings in the name of 'head-end' without its signature"


def test_a_cut_is_the_first_entry_at_or_after_the_gate(bench: Bench) -> None:
    entries = []
    for second in range(6):
        bench.wall[0] = NOW + 10.0 * second
        entries.append(bench.read(second + 1, FIRST + 5))
    submitted = bench.submitted()
    assert [submitted.cut(NOW + 10 * k - 5) for k in range(6)] == entries
    assert submitted.cut(NOW + 10 * 3) == entries[3]
    assert submitted.cut(0) == 0
    assert submitted.cut(NOW + 51) is None  # what comes next may still be earlier
    assert submitted.cut(0, since=4) == 4


def test_what_was_recorded_under_a_wrong_clock_lies_before_every_later_gate(bench: Bench) -> None:
    journal, year = bench.intake.journal, 365 * 86_400
    recorder = Recorder(journal, bench.intake.vault, "")
    first = recorder.put(Ticks(time=np.array([NOW])), Span(NOW, FIRST))
    recorder.put(Ticks(time=np.array([NOW + year])), Span(NOW + year, FIRST))
    said = Clocks(before=np.array([NOW + year]), time=np.array([NOW + 60]), accepted_by=np.array([b"op"]))
    right = recorder.put(said, Span(NOW + 60, FIRST))
    recorder.put(Ticks(time=np.array([NOW + 90])), Span(NOW + 90, FIRST))
    journal.commit(NOW + year)
    submitted = Submitted(journal, bench.intake.vault)
    assert [submitted.cut(NOW + s) for s in (0, 30, 70, 90, 91)] == [first, first + 1, right + 1, right + 1, None]


def test_what_was_bid_under_a_wrong_clock_counts_when_its_gate_comes(bench: Bench, tmp_path: Path) -> None:
    """A clock that was days ahead took bids for intervals that the record cannot have expected so soon."""
    days, soon = 10 * 86_400, bench.intake
    bench.wall[0] += days
    bench.intake.close()
    wrong = bench.intake = Intake.open(
        bench.keys.path,
        clock=lambda newest: RecordClock(wall=lambda: bench.wall[0], elapsed=lambda: bench.wall[0], not_before=0),
    )
    assert wrong is not soon
    interval = INTERVAL + days // 300
    taken = bench.bid(1, ALL, 2, interval)
    bench.intake.commit()
    bench.intake.close()
    bench.wall[0] -= days
    bench.intake = Intake.open(
        bench.keys.path,
        clock=lambda newest: RecordClock(wall=lambda: bench.wall[0], elapsed=lambda: bench.wall[0], not_before=newest),
        accept_clock="operator",
    )
    bench.intake.tick(NOW + 1)
    submitted = bench.submitted()
    bids = submitted.bids("real_time", interval, submitted.refresh())
    assert bids["F1"].customer.tolist() == ALL.tolist()
    assert set(bids["F1"].entry.tolist()) == {taken + 1}
    bench.wall[0] += days  # the day has come: the same batch again is the one on record
    again = bench.bid(1, ALL, 2, interval)
    assert again == taken
