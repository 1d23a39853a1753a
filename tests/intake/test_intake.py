"""The intake: good rows always land, the same batch twice is one record, and nothing taken is lost."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tellegen.intake.intake import Intake, Taken
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.recording import Recording
from tellegen.intake.registry_changes import REGISTRAR, SentChanges, check_changes
from tellegen.intake.sent import SentBids, SentReadings, SentRoots
from tellegen.journal import Journal, JournalError
from tellegen.journal.clock import ClockError, RecordClock
from tellegen.metering import DeviceCodes
from tellegen.operations.compaction import compact
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import (
    Connections,
    DailyRoots,
    KeyGenerations,
    Orders,
    Readings,
    RecordError,
    Refusal,
    Refusals,
    Revocations,
    Route,
    Statement,
    Submissions,
    Table,
    sign_bids,
)
from tellegen.registry import Directory, RegistryError
from tellegen.registry.shard import SIGNING_PURPOSE
from tellegen.rules import Rulebook
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import HEAD_END, ShardKeys, build_shard
from tellegen.verify import verify_directory
from tellegen.verify.receipts import check_receipt

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


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    return build_shard(tmp_path_factory.mktemp("shard") / "s", FEEDERS, b"intake", first_interval=FIRST)


@pytest.fixture
def bench(shard: ShardKeys, tmp_path: Path) -> Iterator[Bench]:
    path = Path(shutil.copytree(shard.path, tmp_path / "s"))
    keys, wall = replace(shard, path=path), [float(NOW)]
    codes = DeviceCodes(keys.meter_master, keys.meters_of(np.arange(1, 20)))
    made = Bench(keys, codes, wall, open_intake(path, wall))
    yield made
    made.intake.close()


def bids(bench: Bench, customers: np.ndarray = F1, sequence: int = 1) -> SignedBatch:
    submissions, orders = bids_of(bench.keys, customers, "F1", "real_time", FIRST + 12)
    return bids_batch(bench.keys, submissions, orders, "F1", "real_time", FIRST + 12, sequence)


def readings(bench: Bench, rows: Readings | None = None, sequence: int = 1, interval: int = INTERVAL) -> SignedBatch:
    return readings_batch(bench.keys, bench.readings() if rows is None else rows, "F1", interval, sequence)


def refused(batch: Callable[[], object]) -> RefusedBatchError:
    with pytest.raises(RefusedBatchError) as raised:
        batch()
    return raised.value


def test_a_batch_of_readings_is_on_record_as_sent_under_the_senders_signature(bench: Bench) -> None:
    batch = readings(bench)
    taken, receipts = bench.final(batch)
    assert (taken.accepted, taken.refused) == (8, ())
    header = bench.intake.journal.entry(taken.entries[0])
    assert check_receipt(receipts[0], header.to_bytes(), bench.keys.vkey).index == taken.entries[0]
    assert header.evidence == batch.statement.evidence(batch.signature)
    table = bench.intake.vault.unseal(header, bench.intake.journal.payload(taken.entries[0])).table
    assert table.rows().tobytes() == batch.body


def test_bids_are_two_entries_orders_first(bench: Bench) -> None:
    taken, receipts = bench.final(bids(bench))
    headers = [bench.intake.journal.entry(entry) for entry in taken.entries]
    assert [h.kind for h in headers] == [Orders.kind, Submissions.kind]
    assert {h.name for h in headers} == {"bids/1"}
    for receipt, header in zip(receipts, headers, strict=True):
        check_receipt(receipt, header.to_bytes(), bench.keys.vkey)


def test_good_readings_land_beside_every_kind_of_bad_one(bench: Bench) -> None:
    bench.final(readings(bench, bench.readings(counter=5, customers=np.array([3], dtype=np.int32))))
    rows = bench.readings(counter=5).rows()
    rows["customer"][0] = 77  # nobody
    rows["meter"][1] = 12345  # not its meter
    # row 2 is customer 3, whose counter 5 was taken
    rows["tag"][3] = bytes(16)
    rows["voltage_mv"][4] += 1  # changed after it was coded
    other = bench.codes.tag(bench.readings(customers=np.array([9], dtype=np.int32)), INTERVAL).rows()
    huge = bench.readings(customers=np.array([6], dtype=np.int32)).rows()
    huge["reactive_varh"] = -(2**63)
    huge = bench.codes.tag(Readings.from_rows(huge), INTERVAL).rows()
    sent = Readings.from_rows(np.concatenate([rows[:5], huge, rows[6:], rows[7:8], other]))
    taken, _ = bench.final(readings(bench, sent, sequence=2))
    assert taken.accepted == 2
    assert {p.row: p.refusal for p in taken.refused} == {
        0: Refusal.UNKNOWN,
        1: Refusal.UNKNOWN,
        2: Refusal.REPLAYED,
        3: Refusal.CODE,
        4: Refusal.CODE,
        5: Refusal.OUT_OF_RANGE,
        8: Refusal.DUPLICATE,
        9: Refusal.OTHER_FEEDER,
    }
    # nobody's row is not on record; the others stand as sent, and the refused ones are named behind them
    batch, behind = taken.entries
    table = bench.intake.vault.unseal(bench.intake.journal.entry(behind), bench.intake.journal.payload(behind)).table
    assert isinstance(table, Refusals)
    assert bench.intake.journal.entry(batch).rows == 9
    assert bench.intake.journal.entry(behind).causes == (batch,)
    assert table.row.tolist() == [0, 1, 2, 3, 4, 7, 8]


def test_good_bids_land_beside_every_kind_of_bad_one(bench: Bench) -> None:
    submissions, orders = bids_of(bench.keys, F1, "F1", "real_time", FIRST + 12)
    step, signed = orders.rows(), submissions.rows()
    step["price_micros"][0] += 1  # customer 1: changed after signing
    step["customer"][2] = 5  # customer 2 speaks for another
    step["quantity_w"][4] = -1  # customer 3: out of range
    signed["customer"][3] = step["customer"][6:8] = 77  # nobody
    signed["customer"][4] = step["customer"][8:10] = 9  # hangs on another feeder
    batch = bids_batch(
        bench.keys, Submissions.from_rows(signed), Orders.from_rows(step), "F1", "real_time", FIRST + 12, 1
    )
    taken, _ = bench.final(batch)
    assert taken.accepted == 3
    assert [(p.row, p.refusal) for p in taken.refused] == [
        (0, Refusal.SIGNATURE),
        (1, Refusal.SIGNATURE),
        (2, Refusal.OUT_OF_RANGE),
        (3, Refusal.UNKNOWN),
        (4, Refusal.OTHER_FEEDER),
    ]


def test_a_bid_counts_in_the_shard_for_which_it_was_signed(bench: Bench) -> None:
    """Node 3 of another shard, or of another feeder, is another place; so says the batch around it."""
    south = replace(bench.keys, vkey="city.example/south+00000000+AA==")
    for keys, feeder in ((south, "F1"), (bench.keys, "F2")):
        submissions, orders = bids_of(keys, F1, feeder, "real_time", FIRST + 12)
        error = refused(
            lambda s=submissions, o=orders: bench.send(bids_batch(bench.keys, s, o, "F1", "real_time", FIRST + 12, 1))
        )
        assert {p.refusal for p in error.rows} == {Refusal.SIGNATURE}
    elsewhere = bids_batch(
        south, *bids_of(bench.keys, F1, "F1", "real_time", FIRST + 12), "F1", "real_time", FIRST + 12, 1
    )
    assert refused(lambda: bench.send(elsewhere)).reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("market", "period", "good"), [("real_time", 1, False), ("day_ahead", 24, True), ("day_ahead", 25, False)]
)
def test_a_bid_is_about_one_interval_or_a_day_of_25_hours(bench: Bench, market: str, period: int, good: bool) -> None:
    _, orders = bids_of(bench.keys, F1, "F1", market, FIRST + 12)
    rows = orders.rows()
    rows["period"][1::2] = period
    orders = Orders.from_rows(rows)

    def sign(customer: int, message: bytes) -> bytes:
        return SigningKey(bench.keys.customer_seed(customer)).sign(message).signature

    signed = sign_bids(orders, bench.keys.origin, "F1", market, FIRST + 12, 4, sign)
    batch = bids_batch(bench.keys, signed, orders, "F1", market, FIRST + 12, 1)
    if good:
        assert bench.send(batch).accepted == 8
    else:
        assert {p.refusal for p in refused(lambda: bench.send(batch)).rows} == {Refusal.OUT_OF_RANGE}


def test_a_customers_second_bid_in_a_batch_is_a_duplicate(bench: Bench) -> None:
    parts = [bids_of(bench.keys, np.array(c, dtype=np.int32), "F1", "real_time", FIRST + 12) for c in ([1, 2], [1])]
    submissions, orders = (
        table.concat(each) for table, each in zip((Submissions, Orders), zip(*parts, strict=True), strict=True)
    )
    taken, _ = bench.final(bids_batch(bench.keys, submissions, orders, "F1", "real_time", FIRST + 12, 1))
    assert [(p.row, p.refusal) for p in taken.refused] == [(2, Refusal.DUPLICATE)]


def test_the_same_batch_twice_is_one_record_also_while_it_waits(bench: Bench) -> None:
    bad = bench.readings().rows()
    bad["tag"][1] = bytes(16)
    bad["customer"][2] = 77
    batch = readings(bench, Readings.from_rows(bad))
    first, waiting = bench.send(batch), bench.send(batch)
    bench.intake.commit()
    size = len(bench.intake.journal)
    bench.wall[0] += 86_400 * 30  # long after its interval
    later = bench.send(batch)
    bench.open()
    after_restart = bench.send(batch)
    bench.intake.commit()
    assert first.entries == waiting.entries == later.entries == after_restart.entries
    assert first.refused == waiting.refused == later.refused == after_restart.refused
    assert (first.again, waiting.again, later.again) == (False, True, True)
    assert len(bench.intake.journal) == size


def test_a_number_used_for_another_batch_is_a_conflict(bench: Bench) -> None:
    bench.send(readings(bench))
    assert refused(lambda: bench.send(readings(bench, bench.readings(counter=2)))).reason is Reason.CONFLICT


def test_a_replayed_reading_is_refused_after_a_restart_too(bench: Bench) -> None:
    bench.final(readings(bench))
    bench.open()
    error = refused(lambda: bench.send(readings(bench, sequence=2)))
    assert error.reason is Reason.NO_GOOD_ROW
    assert {p.refusal for p in error.rows} == {Refusal.REPLAYED}


def test_counters_of_a_compacted_day_are_remembered(bench: Bench) -> None:
    """Also who was connected meanwhile, which rows did not count, and that the batch is on record."""
    forged = bench.readings().rows()
    forged["tag"][0] = bytes(16)
    batch = readings(bench, Readings.from_rows(forged))
    first, _ = bench.final(batch)
    change(bench, moved(bench), 1)
    bench.intake.close()
    day = NOW // 86_400
    with Vault.open(bench.keys.path / "vault") as vault:
        compact(bench.keys.path, vault, known_at=NOW + 5, until_day=day)
    bench.wall[0] += 10
    bench.open()
    assert bench.intake.journal.archive_file(first.entries[0]) is not None
    again = bench.send(batch)
    assert (again.entries, again.refused, again.again) == (first.entries, first.refused, True)
    taken, _ = bench.final(readings(bench, sequence=2))
    assert {p.row: p.refusal for p in taken.refused} == dict.fromkeys(range(1, 8), Refusal.REPLAYED)
    newcomer = bench.readings(customers=np.array([10], dtype=np.int32))
    assert bench.send(readings(bench, newcomer, 3)).accepted == 1


def test_a_refused_reading_does_not_use_up_its_counter(bench: Bench) -> None:
    forged = bench.readings().rows()
    forged["tag"][:4] = bytes(16)
    bench.final(readings(bench, Readings.from_rows(forged)))
    bench.open()
    taken, _ = bench.final(readings(bench, sequence=2))
    assert [p.row for p in taken.refused] == [4, 5, 6, 7]


def test_late_and_corrected_readings_are_new_versions(bench: Bench) -> None:
    first, _ = bench.final(readings(bench, bench.readings(counter=7, interval=INTERVAL - 2), 1, INTERVAL - 2))
    again, _ = bench.final(readings(bench, bench.readings(counter=8, interval=INTERVAL - 2), 2, INTERVAL - 2))
    late, _ = bench.final(readings(bench, bench.readings(counter=6, interval=INTERVAL - 3), 3, INTERVAL - 3))
    assert first.accepted == again.accepted == late.accepted == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: replace(b, signature=bytes(64)), Reason.BAD_SIGNATURE),
        (lambda b: replace(b, signature=b"short"), Reason.BAD_SIGNATURE),
        (lambda b: replace(b, statement=replace(b.statement, sequence=9)), Reason.BAD_SIGNATURE),
        (lambda b: replace(b, statement=replace(b.statement, source="stranger")), Reason.UNKNOWN_SOURCE),
    ],
)
def test_only_an_admitted_sender_is_heard(
    bench: Bench, change: Callable[[SignedBatch], SignedBatch], reason: Reason
) -> None:
    assert refused(lambda: bench.send(change(readings(bench)))).reason is reason


@pytest.mark.parametrize(
    ("interval", "reason"),
    [(FIRST + 10 - 289, Reason.TOO_LATE), (FIRST + 10, Reason.TOO_EARLY), (2**62, Reason.TOO_EARLY)],
)
def test_readings_come_after_their_interval_and_not_too_long_after(bench: Bench, interval: int, reason: Reason) -> None:
    error = refused(lambda: bench.send(readings(bench, bench.readings(interval=interval), 1, interval)))
    assert error.reason is reason


def test_rows_and_rates_are_limited(bench: Bench) -> None:
    bench.open(rows_max=7)
    assert refused(lambda: bench.send(readings(bench))).reason is Reason.TOO_LARGE
    bench.open(rows_per_s_max=4)
    bench.send(readings(bench))
    error = refused(lambda: bench.send(readings(bench, bench.readings(counter=2), 2)))
    assert (error.reason, error.retry_after_s) == (Reason.RATE, 2)
    bench.wall[0] += 2
    assert bench.send(readings(bench, bench.readings(counter=2), 2)).accepted == 8


def test_a_batch_without_a_good_row_leaves_no_trace(bench: Bench) -> None:
    size = len(bench.intake.journal)
    rows = bench.readings().rows()
    rows["tag"] = bytes(16)
    error = refused(lambda: bench.send(readings(bench, Readings.from_rows(rows))))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, 8)
    assert len(bench.intake.journal) == size
    assert bench.send(readings(bench)).accepted == 8  # its number is free still


def test_a_body_that_cannot_be_read_is_malformed(bench: Bench) -> None:
    batch = readings(bench)
    error = refused(lambda: bench.intake.take(batch.statement, batch.signature, lambda: SentReadings.from_bytes(b"x")))
    assert error.reason is Reason.MALFORMED


def test_a_crash_between_a_batch_and_its_refusals_leaves_no_bad_row_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = bench.readings().rows()
    rows["tag"][1] = bytes(16)
    batch = readings(bench, Readings.from_rows(rows))
    whole = bench.send(batch)
    with monkeypatch.context() as patch:
        patch.setattr(Recording, "refuse_rows", lambda *_: (_ for _ in ()).throw(JournalError("power failed")))
        bench.open()  # what was not committed is gone
        refused(lambda: bench.send(batch))
        bench.intake.commit()
    bench.open()
    assert bench.intake.journal.entry(len(bench.intake.journal) - 1).kind == Refusals.kind
    again = bench.send(batch)
    assert (again.again, again.refused, again.accepted) == (True, whole.refused, 7)


def test_the_clock_does_not_follow_a_jump_nor_run_back(bench: Bench) -> None:
    wall, elapsed = [float(NOW)], [0.0]
    clock = RecordClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0], not_before=NOW + 5)
    assert clock.now() == NOW + 5
    wall[0], elapsed[0] = NOW - 86_400.0, 10.0
    assert (clock.now(), clock.stepped_s) == (NOW + 10, -86_410)
    wall[0], elapsed[0] = NOW + 20.0, 20.0
    assert (clock.now(), clock.stepped_s) == (NOW + 20, 0)


def test_a_clock_is_followed_a_minute_in_an_hour() -> None:
    """A thousand small steps are a jump too."""
    wall, elapsed = [float(NOW)], [0.0]
    clock = RecordClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0], not_before=NOW)
    for _ in range(1000):
        elapsed[0] += 0.1
        wall[0] += 60.0
        clock.now()
    assert clock.now() <= NOW + 100 + 60
    for _ in range(10):  # hours of a clock that runs 50 s fast in each
        wall[0] = NOW + elapsed[0] + 60
        elapsed[0] += 3600
        clock.now()
    wall[0] = NOW + elapsed[0] + 110
    assert (clock.now(), clock.stepped_s) == (NOW + elapsed[0] + 110, 0)


@pytest.mark.parametrize(("off_s", "good"), [(-3_700, False), (-3_500, True), (7 * DAY, True), (400 * DAY, False)])
def test_an_intake_does_not_start_where_its_clock_cannot_be_right(bench: Bench, off_s: int, good: bool) -> None:
    bench.final(readings(bench))
    bench.wall[0] += off_s
    if good:
        assert bench.open().clock.now() == max(bench.wall[0], NOW)
    else:
        with pytest.raises(ClockError, match="accept-clock"):
            bench.open()


def test_a_clock_that_was_ahead_once_does_not_leave_the_shard_dead(bench: Bench) -> None:
    """It was accepted 400 days ahead; with the clock right again, and accepted again, today's readings are taken."""
    bench.final(readings(bench))
    for now, number in ((NOW + 400 * DAY, 2), (NOW + 60, 3)):
        bench.intake.close()
        bench.wall[0] = float(now)
        bench.intake = open_intake(bench.keys.path, bench.wall, accept_clock="somebody")
        interval = now // 300 - 1
        taken, _ = bench.final(readings(bench, bench.readings(counter=number, interval=interval), number, interval))
        assert bench.intake.journal.entry(taken.entries[0]).known_at == now
    bench.open()  # and from there on nobody need say so
    found = [bench.intake.journal.entry(i) for i in bench.intake.journal.find(kind="clocks")]
    assert [header.known_at for header in found] == [NOW + 400 * DAY, NOW + 60]
    assert len(bench.intake.journal.find(kind="readings")) == 3


def test_a_quiet_intake_puts_the_time_on_record(bench: Bench) -> None:
    """So a gate's cut is known although nobody bids."""
    bench.final(readings(bench))
    bench.wall[0] += 4
    assert bench.intake.tick() is None
    bench.wall[0] += 1
    entry = bench.intake.tick()
    assert bench.intake.tick() is None
    bench.intake.commit()
    assert bench.intake.journal.entry(entry).known_at == NOW + 5
    assert verify_directory(bench.keys.path).checks[6].ok


def test_readings_are_taken_as_far_back_as_the_rulebook_corrects(bench: Bench) -> None:
    """And an operator's limit only shortens that; the replay window stays as it is."""
    put_rules(bench)
    window = 61 * 288
    assert refused(lambda: at(bench, FIRST + 9 - window, 1)).reason is Reason.TOO_LATE
    bench.wall[0] += 40 * DAY  # less than the rulebook's 60 days
    assert at(bench, FIRST + 5, 2).accepted == 8
    assert at(bench, FIRST + 40 * 288, 700).accepted == 8
    problems = refused(lambda: at(bench, FIRST + 6, 3)).rows
    assert {p.refusal for p in problems} == {Refusal.STALE_COUNTER}  # read it again: a new counter
    bench.intake.commit()
    bench.open(late_intervals_max=288)
    assert refused(lambda: at(bench, FIRST + 6, 701)).reason is Reason.TOO_LATE


def test_a_day_ahead_bid_names_the_first_interval_of_its_day(bench: Bench) -> None:
    """By the local calendar of the rules, so that it is a bid for one gate and no other."""
    put_rules(bench)
    today, tomorrow = 5_899_956, 5_900_244  # local midnights
    for interval, begins in ((tomorrow, tomorrow), (tomorrow + 1, tomorrow), (tomorrow - 12, today)):
        submissions, orders = bids_of(bench.keys, F1, "F1", "day_ahead", interval)
        batch = bids_batch(bench.keys, submissions, orders, "F1", "day_ahead", interval, interval)
        if interval == begins:
            assert bench.send(batch).accepted == 8
            continue
        error = refused(lambda batch=batch: bench.send(batch))
        assert error.reason is Reason.MALFORMED
        assert f"does not begin a delivery day; of that day the first is {begins}" in str(error)


def put_rules(bench: Bench) -> None:
    recorder = Recorder(bench.intake.journal, bench.intake.vault, "")
    for document in Rulebook.load().documents():
        recorder.put_document(document, Span(NOW, FIRST))
    bench.intake.commit()
    bench.open()


def at(bench: Bench, interval: int, counter: int) -> Taken:
    return bench.send(readings(bench, bench.readings(counter=counter, interval=interval), counter, interval))


def test_evidence_convinces_a_third_party(bench: Bench) -> None:
    batch = bids(bench)
    taken, _ = bench.final(batch)
    header = bench.intake.journal.entry(taken.entries[1])
    digest, _, signature = header.evidence.partition(" ")
    assert digest == batch.statement.body_sha256
    assert base64.b64decode(signature) == batch.signature


def test_three_times_the_load_drains_and_nothing_is_lost(bench: Bench) -> None:
    """Bursts of 30 batches between commits where 10 are usual; every row is found on record afterwards."""
    sequence, sent = 0, set()
    for burst in (10, 30, 30, 10):
        taken = []
        for _ in range(burst):
            sequence += 1
            customers = np.array([1 + sequence % 8], dtype=np.int32)
            taken.append(bench.send(readings(bench, bench.readings(sequence, customers), sequence)))
            sent.add((int(customers[0]), sequence))
        bench.intake.commit()
        receipts = bench.intake.receipts(taken)
        assert len(receipts) == burst
    with Journal.open(bench.keys.path) as reader:
        found = set()
        for index in reader.find(kind=Readings.kind):
            table = bench.intake.vault.unseal(reader.entry(index), reader.payload(index)).table
            assert isinstance(table, Readings)
            found |= set(zip(table.customer.tolist(), table.counter.tolist(), strict=True))
    assert found == sent


def change(bench: Bench, table: Table, sequence: int, key: bytes | None = None) -> Taken:
    """What the operator hands in while the intake runs."""
    body = SentChanges(table).to_bytes()
    statement = Statement.of(bench.keys.origin, Route.ADMISSIONS, REGISTRAR, "", "", FIRST + 10, sequence, body)
    seed = bench.intake.vault.purpose_key(SIGNING_PURPOSE) if key is None else key
    signature = SigningKey(seed).sign(statement.to_bytes()).signature
    taken = bench.intake.take(statement, signature, lambda: SentChanges.from_bytes(body))
    bench.intake.commit()
    return taken


def test_a_sender_that_is_revoked_is_heard_no_more(bench: Bench) -> None:
    bench.final(readings(bench))
    public = bytes(SigningKey(bench.keys.sender_seed(HEAD_END)).verify_key)
    fingerprint = np.frombuffer(hashlib.sha256(public).digest(), dtype="V32")
    revoked = Revocations(
        certificate_sha256=fingerprint, revoked_at=np.array([NOW]), reason=np.array([1], dtype=np.uint8)
    )
    first, again = change(bench, revoked, 1), change(bench, revoked, 1)
    assert (first.entries, again.again) == (again.entries, True)
    batch = readings(bench, bench.readings(counter=2), sequence=2)
    assert refused(lambda: bench.send(batch)).reason is Reason.REVOKED_SOURCE
    bench.open()
    assert refused(lambda: bench.send(batch)).reason is Reason.REVOKED_SOURCE


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
    )


def test_a_customer_who_moves_sends_for_its_new_feeder(bench: Bench) -> None:
    change(bench, moved(bench), 1)
    rows = bench.readings(customers=np.array([10, 18], dtype=np.int32)).rows()
    rows["customer"][1] = 50  # with a meter that the head-end had in stock
    sent = bench.codes.tag(Readings.from_rows(rows), INTERVAL)
    taken, _ = bench.final(readings(bench, sent))
    assert (taken.accepted, taken.refused) == (2, ())
    before = bench.readings(customers=np.array([10], dtype=np.int32), interval=INTERVAL - 1)
    error = refused(lambda: bench.send(readings(bench, before, 2, INTERVAL - 1)))
    assert [problem.refusal for problem in error.rows] == [Refusal.OTHER_FEEDER]


def test_a_batch_sent_again_is_answered_as_before_whatever_the_registry_says_by_then(bench: Bench) -> None:
    rows = np.concatenate([bench.readings().rows()[:1], bench.readings().rows()])
    rows["customer"][0] = 50  # nobody, until a moment later
    batch = readings(bench, Readings.from_rows(rows))
    first = bench.send(batch)
    moves = {"customer": np.array([50, 8], dtype=np.int32), "node": np.array([3, -1], dtype=np.int32)}
    table = bench.intake.directory.connections([1, 8])[0]
    change(bench, replace(table, **moves), 1)  # within the same second
    assert bench.send(batch) == replace(first, again=True)
    assert [(problem.row, problem.refusal) for problem in first.refused] == [(0, Refusal.UNKNOWN)]


def test_orders_of_somebody_else_cost_no_other_bid(bench: Bench) -> None:
    submissions, orders = bids_of(bench.keys, F1, "F1", "real_time", FIRST + 12)
    rows = orders.rows()
    rows["customer"][3] = 2**31 - 1  # the second bid; nobody has this number, so no key could seal the order
    batch = bids_batch(bench.keys, submissions, Orders.from_rows(rows), "F1", "real_time", FIRST + 12, 1)
    taken, receipts = bench.final(batch)
    assert [(problem.row, problem.refusal) for problem in taken.refused] == [(1, Refusal.SIGNATURE)]
    assert (taken.accepted, len(receipts)) == (len(F1) - 1, len(taken.entries))
    assert bench.send(batch) == replace(taken, again=True)


@pytest.mark.parametrize(("at", "reason"), [(NOW + 1, 1), (-1, 1), (NOW, 99)])
def test_a_revocation_that_no_list_could_hold_is_not_taken(bench: Bench, at: int, reason: int) -> None:
    row = Revocations(
        certificate_sha256=np.zeros(1, dtype="V32"),
        revoked_at=np.array([at]),
        reason=np.array([reason], dtype=np.uint8),
    )
    assert refused(lambda: change(bench, row, 1)).reason is Reason.NO_GOOD_ROW


def test_nobody_but_the_operator_changes_the_registry(bench: Bench) -> None:
    row = KeyGenerations(meter=np.array([1]), generation=np.array([1], dtype=np.int32), from_counter=np.array([5]))
    sender = bench.keys.sender_seed(HEAD_END)
    assert refused(lambda: change(bench, row, 1, sender)).reason is Reason.BAD_SIGNATURE
    body = SentChanges(row).to_bytes()
    statement = Statement.of(bench.keys.origin, Route.ADMISSIONS, HEAD_END, "", "", FIRST + 10, 1, body)
    signature = bench.keys.sign_as(HEAD_END, statement.to_bytes())
    error = refused(lambda: bench.intake.take(statement, signature, lambda: SentChanges.from_bytes(body)))
    assert error.reason is Reason.UNKNOWN_SOURCE
    wrong = replace(row, generation=np.array([0], dtype=np.int32))
    assert refused(lambda: change(bench, wrong, 1)).reason is Reason.NO_GOOD_ROW


@given(st.binary(max_size=200), st.sampled_from([b"", b"revocations\n", b"connections\n", b"admissions\n"]))
def test_changes_of_any_content_are_read_or_refused(content: bytes, kind: bytes) -> None:
    try:
        sent = SentChanges.from_bytes(kind + content)
        check_changes(sent.table, Directory(), NOW)
    except (RecordError, RegistryError):
        return
    assert sent.rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.integers(1, 4),
    content=st.binary(min_size=4 * 68, max_size=4 * 68),
    customer=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 13),
    register=st.integers(-(2**63), 2**63 - 1),
)
def test_readings_of_any_content_are_refused_row_by_row(
    bench: Bench, rows: int, content: bytes, customer: int, register: int
) -> None:
    table = Readings.from_bytes(content[: rows * 68]).rows()
    table["customer"][0], table["counter"][0] = customer, register
    table["meter"][0] = bench.keys.meters_of([customer])[0]
    error = refused(lambda: bench.send(readings(bench, Readings.from_rows(table), 7)))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    content=st.binary(min_size=6 * 33, max_size=6 * 33), customer=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 13)
)
def test_bids_of_any_content_are_refused_row_by_row(bench: Bench, content: bytes, customer: int) -> None:
    orders = Orders.from_bytes(content)
    submissions = Submissions(
        customer=np.array([customer, 2, 3], dtype=np.int32),
        order_rows=np.array([1, 2, 3], dtype=np.int32),
        sequence=np.zeros(3, dtype=np.int64),
        signature=np.zeros(3, dtype="V64"),
    )
    batch = bids_batch(bench.keys, submissions, orders, "F1", "real_time", FIRST + 12, 9)
    error = refused(lambda: bench.send(batch))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(content=st.binary(min_size=120, max_size=120), customer=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 13))
def test_signed_days_of_any_content_are_refused_row_by_row(bench: Bench, content: bytes, customer: int) -> None:
    last = NOW // 86_400 * 288 - 1
    table = DailyRoots.from_bytes(content * 3).rows()
    table["customer"][1:], table["day"][2] = customer, last // 288
    table["meter"][2] = bench.keys.meters_of([customer])[0]
    body = table.tobytes()
    statement = Statement.of(bench.keys.origin, Route.DAILY_ROOTS, HEAD_END, "F1", "", last, 3, body)
    signature = bench.keys.sign_as(HEAD_END, statement.to_bytes())
    error = refused(lambda: bench.intake.take(statement, signature, lambda: SentRoots.from_bytes(body)))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, 3)
