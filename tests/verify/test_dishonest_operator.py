"""A lying operator, step by step: what it may try with the record, and what catches it.

It holds every key of the shard but those of senders, customers and meters; it may write what it likes, and all of it
anew. Each attempt is played against a real intake. What catches it is a receipt, a witness, or `tellegen verify`; what
nothing catches is played too, so that nobody believes otherwise (docs/security.md). Two copies shown to two people, and
an older state brought back: tests/verify/test_histories.py, tests/journal/test_witness.py.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from intake_bench import FEEDERS, FIRST, INTERVAL, NOW, Bench, bids, open_intake, readings, refused
from nacl.signing import SigningKey

from tellegen.intake.limits import Reason
from tellegen.intake.submitted import Submitted
from tellegen.journal import Cosigner, Journal, keep_cosignatures
from tellegen.journal.note import split_note
from tellegen.metering import DeviceCodes
from tellegen.records import (
    Admissions,
    Header,
    KeyGenerations,
    Readings,
    Revocations,
    Role,
    Route,
    SealedBatch,
    Statement,
    Submissions,
    Table,
)
from tellegen.registry.shard import SIGNING_PURPOSE
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_of
from tellegen.simulation.shard import GATEWAY, HEAD_END, ShardKeys, build_shard
from tellegen.verify import Report, check_receipt, entry_within, verify_directory

IN_ANOTHERS_NAME = "nobody speaks in another's name, and each role hands in what it may"
AS_WRITTEN = "what is on record stays as it was written: nothing is changed, taken out or put in between"
ONE_HISTORY = "everybody is shown one history"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    return build_shard(tmp_path_factory.mktemp("honest") / "s", FEEDERS, b"lies", first_interval=FIRST)


@pytest.fixture
def bench(honest: ShardKeys, tmp_path: Path) -> Iterator[Bench]:
    path = Path(shutil.copytree(honest.path, tmp_path / "s"))
    keys, wall = replace(honest, path=path), [float(NOW)]
    codes = DeviceCodes(keys.meter_master, keys.meters_of(np.arange(1, 20)))
    made = Bench(keys, codes, wall, open_intake(path, wall))
    yield made
    made.intake.close()


@dataclass
class Operator:
    """Whoever runs the shard: it has the vault, and signs whatever it likes."""

    bench: Bench

    def write(self, table: Table, source: str, name: str = "", evidence: str = "", **about: object) -> int:
        """Append a batch to the true record, in anybody's name."""
        intake = self.bench.intake
        fields = {"feeder": "F1", "interval": INTERVAL, "intervals": 1, "known_at": intake.journal.time(NOW)} | about
        entry = intake.journal.append(
            intake.vault.seal_live(table, source=source, name=name, evidence=evidence, **fields)  # type: ignore[arg-type]
        )
        intake.journal.commit(intake.journal.time(NOW) + 60)
        return entry

    def retell(self, path: Path, edit: Callable[[Header], Header | None]) -> Path:
        """The whole record written anew, and signed, with some entries changed or left out."""
        journal, at = self.bench.intake.journal, dict[int, int]()
        key = self.bench.intake.vault.role_key(SIGNING_PURPOSE)
        with Journal.create(path, journal.verifier.name, key) as other:
            for index in range(len(journal)):
                header = edit(journal.entry(index))
                if header is not None:
                    causes = tuple(at[cause] for cause in header.causes)
                    other._files.catalogue.latest_known_at = 0  # its program does not stop it
                    at[index] = other.append(SealedBatch(replace(header, causes=causes), journal.payload(index)))
            other.commit(NOW + 10_000)
        return path

    def verified(self) -> Report:
        return verify_directory(self.bench.keys.path)


@pytest.fixture
def operator(bench: Bench) -> Operator:
    return Operator(bench)


def caught(report: Report, promise: str, detail: str) -> None:
    """A NO that names the broken promise and what breaks it."""
    assert not report.ok
    assert list(report.broken) == [promise]
    assert any(detail in check.detail for check in report.checks if not check.ok), [
        check.detail for check in report.checks if not check.ok
    ]


# Forging


def test_the_honest_shard_verifies_and_says_what_was_not_checked(bench: Bench, operator: Operator) -> None:
    bench.final(readings(bench))
    bench.final(bids(bench))
    report = operator.verified()
    assert report.ok
    assert report.broken == {}
    left = "\n".join(report.not_checked)
    for what in ("whose key it is", "another history", "a receipt", "tellegen replay", "their authority"):
        assert what in left


def test_it_makes_up_readings(bench: Bench, operator: Operator) -> None:
    """With true codes, for it holds the meters' master key; but not with the head-end's signature."""
    entry = operator.write(bench.readings(counter=77), HEAD_END, "readings/77")
    caught(operator.verified(), IN_ANOTHERS_NAME, f"entry {entry}: readings in the name of 'head-end' without")


def test_it_makes_up_bids(bench: Bench, operator: Operator) -> None:
    submissions, orders = bids_of(bench.keys, np.arange(1, 9, dtype=np.int32), "F1", "real_time", FIRST + 12)
    about = {"market": "real_time", "interval": FIRST + 12}
    first = operator.write(orders, GATEWAY, "bids/5", **about)
    operator.write(submissions, GATEWAY, "bids/5", causes=(first,), **about)
    caught(operator.verified(), IN_ANOTHERS_NAME, f"entry {first}: orders in the name of 'gateway' without")


def test_it_puts_other_rows_under_a_true_signature(bench: Bench, operator: Operator) -> None:
    """The last reading recorded would count; but a signature is one batch's."""
    taken, _ = bench.final(readings(bench))
    (true,) = taken.entries
    header = bench.intake.journal.entry(true)
    changed = readings_of(bench.keys, bench.codes, np.arange(1, 9, dtype=np.int32), INTERVAL, 9)
    operator.write(changed, HEAD_END, header.name, header.evidence)
    caught(operator.verified(), IN_ANOTHERS_NAME, f"stands under the signature of entry {true}")


def test_it_hands_in_as_the_platform_what_senders_hand_in(bench: Bench, operator: Operator) -> None:
    """Such a batch is in nobody's name, and counts nowhere: the market reads what senders have signed."""
    operator.write(bench.readings(counter=77), "market operator")
    record = Submitted(bench.intake.journal, bench.intake.vault)
    assert len(record.readings(INTERVAL, record.refresh()).readings) == 0


def admitted(name: str, role: Role, key: bytes, *, number: int = 0, since: int = NOW) -> Admissions:
    return Admissions(
        role=[role],
        number=[number],
        name=[name.encode()],
        public_key=np.array([key], dtype="V32"),
        certificate_sha256=np.array([key], dtype="V32"),
        valid_from=[since],
        valid_until=[since + 10**8],
    )


def test_the_registrar_admits_himself_only_for_everybody_to_see(bench: Bench, operator: Operator) -> None:
    """A key of his own under a sender's name stands on record, in the clear, before it counts; never for earlier."""
    own = SigningKey(b"r" * 32)
    sent = bench.readings(counter=77)
    statement = Statement.of(bench.keys.origin, Route.READINGS, HEAD_END, "F1", "", INTERVAL, 77, sent.rows().tobytes())
    evidence = statement.evidence(own.sign(statement.to_bytes()).signature)
    early = operator.write(sent, HEAD_END, "readings/77", evidence)
    operator.write(admitted(HEAD_END, Role.HEAD_END, bytes(own.verify_key), since=0), "registrar")
    caught(operator.verified(), IN_ANOTHERS_NAME, f"entry {early}: 'readings/77' is not signed by the key of head-end")


# Dropping


def test_it_drops_a_batch_and_the_receipt_is_held_against_it(bench: Bench, operator: Operator, tmp_path: Path) -> None:
    taken, receipts = bench.final(readings(bench))
    bench.final(readings(bench, bench.readings(counter=2), sequence=2))
    name = bench.intake.journal.entry(taken.entries[0]).name
    without = operator.retell(tmp_path / "without", lambda header: None if header.name == name else header)
    assert verify_directory(without).ok  # a record that never knew it is whole in itself
    report = verify_directory(without, receipts=receipts)
    caught(report, AS_WRITTEN, "the operator has signed for it")
    assert verify_directory(bench.keys.path, receipts=receipts).ok


def test_what_it_never_took_nobody_can_prove(bench: Bench, operator: Operator) -> None:
    """No receipt, no proof: a sender without an answer has to send again, and to somebody else who sees it."""
    readings(bench)  # sent, and thrown away
    assert operator.verified().ok


# Delaying and back-dating


def test_it_delays_and_its_own_receipt_says_so(bench: Bench) -> None:
    sent_at, batch = bench.wall[0], bids(bench)
    bench.wall[0] += 400
    _, receipts = bench.final(batch)
    key = bench.intake.journal.verifier.vkey
    proven = check_receipt(receipts[-1], entry_within(receipts[-1]) or b"", key)
    assert proven.header.kind == Submissions.kind
    assert proven.header.known_at - sent_at == 400


def test_it_back_dates_within_the_record(bench: Bench, operator: Operator, tmp_path: Path) -> None:
    """Times on record never run back."""
    bench.final(readings(bench))
    bench.wall[0] += 600
    late, _ = bench.final(bids(bench))
    bench.wall[0] += 60
    bench.final(readings(bench, bench.readings(counter=2), sequence=2))
    kinds = {bench.intake.journal.entry(entry).kind for entry in late.entries}

    def early(header: Header) -> Header:
        return replace(header, known_at=NOW - 60) if header.kind in kinds else header

    report = verify_directory(operator.retell(tmp_path / "early", early))
    caught(report, AS_WRITTEN, f"entry {late.entries[0]} became known before entry {late.entries[0] - 1}")


def test_it_back_dates_the_whole_record_and_a_receipt_is_held_against_it(
    bench: Bench, operator: Operator, tmp_path: Path
) -> None:
    bench.wall[0] += 600
    _, receipts = bench.final(bids(bench))
    early = operator.retell(tmp_path / "early", lambda header: replace(header, known_at=min(header.known_at, NOW + 1)))
    assert verify_directory(early).ok
    caught(verify_directory(early, receipts=receipts), AS_WRITTEN, "is another on record")


def test_it_back_dates_what_a_witness_has_not_seen(grow: Callable[..., Journal], tmp_path: Path) -> None:
    """Where its clock stands still on purpose, so that a bid after the gate is before it, the witness's does not."""
    log = grow(tmp_path / "log", 5)
    cosigner = Cosigner("witness.example/w1", bytes(32))
    seen_at = log.entry(4).known_at + 1000
    text, _ = split_note(log.checkpoint.note)
    keep_cosignatures(log, log.checkpoint, [cosigner.cosign(text, seen_at)])
    witness = cosigner.verifier.vkey
    assert verify_directory(tmp_path / "log", witnesses=[witness]).ok
    grow(log, 1)
    report = verify_directory(tmp_path / "log", witnesses=[witness])
    caught(report, ONE_HISTORY, "before a witness saw the log without it")
    assert verify_directory(tmp_path / "log").ok  # who trusts no witness learns nothing from one


# Keys that were stolen


def test_the_key_of_a_sender_moves_nothing_by_itself(bench: Bench) -> None:
    """A thief with the head-end's key has no meter's codes, one with the gateway's no customer's signatures."""
    rows = bench.readings().rows()
    rows["tag"] = b"\x01" * 16
    error = refused(lambda: bench.send(readings(bench, Readings.from_rows(rows))))
    assert (error.reason, {row.refusal.name for row in error.rows}) == (Reason.NO_GOOD_ROW, {"CODE"})
    submissions, orders = bids_of(bench.keys, np.arange(1, 9, dtype=np.int32), "F1", "real_time", FIRST + 12)
    dearer = orders.rows()
    dearer["price_micros"] += 1
    forged = bids_batch(
        bench.keys, submissions, type(orders).from_rows(dearer), "F1", "real_time", FIRST + 12, sequence=7
    )
    error = refused(lambda: bench.send(forged))
    assert {row.refusal.name for row in error.rows} == {"SIGNATURE"}


def test_after_its_revocation_a_stolen_key_is_worth_nothing(bench: Bench, operator: Operator) -> None:
    """Neither at the intake, nor with an operator who records what the thief signs."""
    journal = bench.intake.journal
    admissions = Submitted(journal, bench.intake.vault).table(journal.find(kind=Admissions.kind)[0])
    assert isinstance(admissions, Admissions)
    print_ = admissions.take(admissions.name == HEAD_END.encode()).certificate_sha256
    gone = Revocations(certificate_sha256=print_, revoked_at=[NOW], reason=[1])
    operator.write(gone, "registrar")
    bench.open()
    batch = readings(bench)
    assert refused(lambda: bench.send(batch)).reason is Reason.REVOKED_SOURCE
    statement = batch.statement
    entry = operator.write(bench.readings(), HEAD_END, statement.name(), statement.evidence(batch.signature))
    caught(operator.verified(), IN_ANOTHERS_NAME, f"entry {entry}: no head-end or gateway 'head-end' with a valid key")


def test_a_stolen_meter_key_needs_a_sender_and_ends_with_its_generation(bench: Bench, operator: Operator) -> None:
    """Codes under the old key are refused once the meter has a new one; what its counter passed is refused, too."""
    bench.final(readings(bench))
    thief = bench.readings(counter=600)
    gone = np.arange(1, 9)
    rotated = KeyGenerations(
        meter=bench.keys.meters_of(gone), generation=np.ones(8, dtype=np.int32), from_counter=np.full(8, 2)
    )
    operator.write(rotated, "registrar")
    bench.open()
    error = refused(lambda: bench.send(readings(bench, thief, sequence=2)))
    assert {row.refusal.name for row in error.rows} == {"CODE"}
    again = refused(lambda: bench.send(readings(bench, bench.readings(counter=1), sequence=3)))
    assert {row.refusal.name for row in again.rows} == {"REPLAYED"}


def test_a_bid_that_was_signed_once_is_good_once(bench: Bench, tmp_path: Path) -> None:
    """In its shard, on its feeder, for its market and interval; handed in again it changes nothing."""
    customers, interval = np.arange(1, 9, dtype=np.int32), FIRST + 12
    submissions, orders = bids_of(bench.keys, customers, "F1", "real_time", interval)
    bench.final(bids_batch(bench.keys, submissions, orders, "F1", "real_time", interval, 1))

    def reasons(batch: SignedBatch) -> set[str]:
        return {row.refusal.name for row in refused(lambda: bench.send(batch)).rows}

    assert reasons(bids_batch(bench.keys, submissions, orders, "F1", "real_time", interval + 1, 2)) == {"SIGNATURE"}
    assert reasons(bids_batch(bench.keys, submissions, orders, "F2", "real_time", interval, 4)) == {"OTHER_FEEDER"}
    elsewhere = build_shard(tmp_path / "south", FEEDERS, b"lies", first_interval=FIRST, origin="tellegen.example/south")
    south = Bench(elsewhere, bench.codes, bench.wall, open_intake(elsewhere.path, bench.wall))
    moved = bids_batch(elsewhere, submissions, orders, "F1", "real_time", interval, 1)
    assert {row.refusal.name for row in refused(lambda: south.send(moved)).rows} == {"SIGNATURE"}
    south.intake.close()
