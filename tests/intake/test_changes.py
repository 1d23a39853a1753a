"""Who is heard, and how the registry changes while the intake runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from intake_bench import F1, FIRST, INTERVAL, NOW, Bench, change, moved, readings, refused
from nacl.signing import SigningKey

from tellegen.intake.limits import Reason
from tellegen.intake.registry_changes import NONCE_BYTES, SentChanges
from tellegen.records import KeyGenerations, Orders, Readings, Refusal, Revocations, Route, Statement
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of
from tellegen.simulation.shard import HEAD_END


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


def test_the_digest_of_a_change_is_of_something_that_nobody_can_guess(bench: Bench) -> None:
    """Whoever guesses a customer's rows, or a rotation, finds no public digest of them; nor of the same ones twice."""
    rotation = KeyGenerations(meter=np.array([7]), generation=np.array([2], dtype=np.int32), from_counter=np.array([5]))
    for table in (moved(bench), rotation):
        bodies = [SentChanges(table).to_bytes() for _ in range(2)]
        digests = {hashlib.sha256(body).hexdigest() for body in bodies}
        rows = table.rows().tobytes()
        guesses = {rows, table.kind.encode() + b"\n" + rows, table.kind.encode() + b"\n" + bytes(NONCE_BYTES) + rows}
        assert len(digests) == 2
        assert not digests & {hashlib.sha256(guess).hexdigest() for guess in guesses}
        assert SentChanges.from_bytes(bodies[0]).table.equals(table)
    change(bench, moved(bench), 1)
    header = bench.intake.journal.entry(len(bench.intake.journal) - 1)
    plain = moved(bench).kind.encode() + b"\n" + moved(bench).rows().tobytes()
    assert header.evidence
    assert hashlib.sha256(plain).hexdigest() not in header.evidence


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
