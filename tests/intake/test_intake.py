"""The intake: good rows always land, the same batch twice is one record, and nothing taken is lost."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from intake_bench import F1, FIRST, INTERVAL, NOW, Bench, bids, change, moved, readings, refused
from nacl.signing import SigningKey

from tellegen.intake.limits import Reason
from tellegen.intake.recording import Recording
from tellegen.intake.sent import SentReadings
from tellegen.journal import Journal, JournalError
from tellegen.operations.compaction import compact
from tellegen.privacy import Vault
from tellegen.records import Orders, Readings, Refusal, Refusals, Submissions, sign_bids
from tellegen.simulation.batches import bids_batch, bids_of
from tellegen.verify.receipts import check_receipt


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
    bench.wall[0] += 86_400 * 2  # long after its interval; a clock that runs further ahead is asked about
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


def test_rows_of_a_batch_are_limited(bench: Bench) -> None:
    bench.open(rows_max=7)
    assert refused(lambda: bench.send(readings(bench))).reason is Reason.TOO_LARGE


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
