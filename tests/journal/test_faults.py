"""Whatever goes wrong, no receipt is contradicted, nothing acknowledged is lost, and every damage is named."""

import hashlib
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tellegen.assess.faults import simulation
from tellegen.assess.faults.batches import batch_of
from tellegen.assess.faults.disk import SimulatedDisk
from tellegen.assess.faults.flips import KEY as FLIPS_KEY
from tellegen.assess.faults.flips import RUN, flip_bits, small_journal
from tellegen.assess.faults.kills import kill_rounds, writer_command
from tellegen.assess.faults.promises import ContradictionError
from tellegen.assess.faults.simulation import Tally, simulate
from tellegen.errors import InputError
from tellegen.journal import Journal, JournalError, check, put_stubs, repair
from tellegen.journal.storage import StoredFile

KEY = hashlib.sha256(b"operator").digest()
ORIGIN = "example.org/feeder"


def test_no_promise_is_broken_in_two_hundred_worlds() -> None:
    """law 6, under crashes, torn writes, full disks, failing syncs, lost and repeated messages, and clock jumps."""
    tally = Tally()
    for seed in range(200):
        tally.add(simulate(seed))
    assert min(tally.receipts, tally.commits, tally.power_losses, tally.kills, tally.refusals) > 200


def test_a_seed_repeats_its_world() -> None:
    assert simulate(7) == simulate(7)


class ForgetfulDisk(SimulatedDisk):
    """A disk that says it has synced and has not."""

    def sync_all(self, files: list[StoredFile]) -> None:  # type: ignore[override]
        pass


def test_the_simulation_finds_a_disk_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A referee that cannot fail referees nothing."""
    monkeypatch.setattr(simulation, "SimulatedDisk", ForgetfulDisk)
    with pytest.raises(ContradictionError, match="seed 0: "):
        simulate(0)


def test_the_simulation_finds_a_writer_that_keeps_what_was_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellegen.journal.segments.Segments.cut", lambda segments: None)
    with pytest.raises(ContradictionError, match="beyond the last checkpoint"):
        simulate(0)


def test_flipped_bits_are_named_in_every_kind_of_file() -> None:
    """One bit in 61; `tellegen bench faults` flips every one."""
    found = flip_bits(step=61)
    assert found.missed == []
    assert set(found.flipped) == {"log", "payloads", "checkpoints", "checkpoint", "operator.pub", "index"}


def test_what_was_flipped_is_not_handed_out() -> None:
    """Damage after opening is found when the bytes are read."""
    disk = small_journal(0)
    journal = Journal.open(RUN, storage=disk)
    disk.flip(RUN / "journal" / "log" / "000000.seg", 8 * 300)
    disk.flip(RUN / "journal" / "payloads" / "000000.seg", 8 * 30)
    disk.flip(RUN / "journal" / "checkpoints", 8 * 30)
    for read in (lambda: journal.entry(0), lambda: journal.payload(0), lambda: journal.checkpoints[0]):
        with pytest.raises(JournalError, match=r"corruption: .*(log/000000\.seg|payloads/000000\.seg|checkpoints)"):
            read()


def test_repair_puts_right_what_was_not_signed_and_nothing_else() -> None:
    folder = RUN / "journal"
    disk = small_journal(0)
    for name, bit in (("checkpoint", 100), ("operator.pub", 99)):
        disk.flip(folder / name, bit)
    newest = max(disk.names(folder / "log"))
    for name in ("checkpoints", f"log/{newest}", "payloads/000009.seg"):
        file = disk.open(folder / name, write=True)
        file.write(file.size(), b"torn")
    assert len(check(RUN, storage=disk)) == 5
    with pytest.raises(JournalError, match="operator"):
        Journal.open(RUN, FLIPS_KEY, storage=disk)
    with pytest.raises(JournalError):
        repair(RUN, bytes(32), storage=disk)
    assert len(repair(RUN, FLIPS_KEY, storage=disk)) == 5
    assert check(RUN, storage=disk) == []
    assert len(Journal.open(RUN, storage=disk)) == 7
    disk.flip(folder / "payloads" / "000000.seg", 200)
    before = {path: disk.bytes_of(path) for path in disk.paths()}
    with pytest.raises(JournalError, match=r"payloads/000000\.seg, frame 0 at byte 0: fails its checksum; cannot"):
        repair(RUN, FLIPS_KEY, storage=disk)
    assert {path: disk.bytes_of(path) for path in disk.paths()} == before


def test_a_payload_that_went_to_the_archive_is_no_damage(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY, segment_bytes_max=1000) as journal:
        for sequence in range(9):
            journal.append(batch_of("head-end 1", sequence, 0))
            journal.commit(1)
    assert put_stubs(tmp_path, {1: "archive/a.parquet", 5: "archive/a.parquet"}) > 0
    assert check(tmp_path) == []
    with Journal.open(tmp_path, KEY) as journal:
        assert [journal.archive_file(index) for index in (1, 2)] == ["archive/a.parquet", None]
        assert journal.payload(8) == batch_of("head-end 1", 8, 0).payload
        assert journal.append(batch_of("head-end 1", 9, 1)) == 9
        journal.commit(1)
    assert check(tmp_path) == []


def test_checkpoints_that_lost_their_end_are_not_repaired() -> None:
    """Else the operator could cut history off and say it was a crash."""
    disk = small_journal(0)
    path = RUN / "journal" / "checkpoints"
    cut = disk.bytes_of(path).split(b"\n")[:-6]
    disk.open(path, write=True).truncate(len(b"\n".join(cut)) + 1)
    assert any("is ahead of checkpoints" in str(problem) for problem in check(RUN, storage=disk))
    with pytest.raises(JournalError, match="cannot be repaired"):
        repair(RUN, FLIPS_KEY, storage=disk)
    with pytest.raises(InputError, match="does not exist"):
        check(Path("/elsewhere"), storage=disk)


def test_a_writer_killed_twenty_times_keeps_what_it_printed(tmp_path: Path) -> None:
    """`kill -9` at random moments, over one journal."""
    killed = kill_rounds(writer_command(tmp_path / "run"), tmp_path / "run", 20, life_s_max=0.05)
    assert killed.rounds == 20
    assert killed.entries >= len(killed.promised) > 20


@pytest.mark.slow
def test_a_writer_killed_a_thousand_times_keeps_what_it_printed(tmp_path: Path) -> None:
    killed = kill_rounds(writer_command(tmp_path / "run"), tmp_path / "run", 1000)
    assert killed.rounds == 1000
    assert killed.entries >= len(killed.promised) > 1000


def test_the_harness_finds_a_receipt_that_is_not_kept(tmp_path: Path) -> None:
    """A command that promises and forgets is told apart."""
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        journal.append(batch_of("head-end 1", 0, 0))
        journal.commit(1)
    forget = (
        "import json, sys, time; from pathlib import Path; from tellegen.journal import Journal; "
        "j = Journal.open(sys.argv[1]); "
        "print(json.dumps({'entry': j.entry_bytes(0).decode(), 'receipt': j.receipt(0)}), flush=True); "
        "f = next(Path(sys.argv[1], 'journal', 'payloads').iterdir()); f.write_bytes(f.read_bytes()[:-1]); "
        "time.sleep(60)"
    )
    with pytest.raises(ContradictionError, match=r"after kill 1: corruption: .*payloads/000000\.seg"):
        kill_rounds([sys.executable, "-c", forget, str(tmp_path)], tmp_path, 1, life_s_max=0.5)


FULL = """
import resource, signal, sys
from tellegen.assess.faults.batches import batch_of
from tellegen.journal import Journal, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
journal, acknowledged = Journal.open(sys.argv[1], bytes.fromhex(sys.argv[2])), 0
try:
    for sequence in range(1000):
        journal.append(batch_of("head-end 1", sequence, 0, rows=100))
        journal.commit(1)
        acknowledged = sequence + 1
except JournalError as error:
    print(acknowledged, error)
"""


def test_a_file_that_may_not_grow_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """The operating system's own refusal (RLIMIT_FSIZE); with room again the journal goes on."""
    Journal.create(tmp_path, ORIGIN, KEY).close()
    command = [sys.executable, "-c", FULL, str(tmp_path), KEY.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    acknowledged, _, error = done.stdout.partition(" ")
    assert error == f"{tmp_path / 'journal'}: File too large; open the journal again\n"
    with Journal.open(tmp_path, KEY) as journal:
        assert len(journal) == int(acknowledged) > 0
        journal.append(batch_of("head-end 1", 1000, 0))
        journal.commit(1)
    assert check(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes where it may not; the simulated disk refuses it")
def test_a_read_only_folder_is_named_and_read(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        journal.append(batch_of("head-end 1", 0, 0))
        journal.commit(1)
    for path in (tmp_path / "journal").rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    with pytest.raises(JournalError, match="Permission denied"):
        Journal.open(tmp_path, KEY)
    assert len(Journal.open(tmp_path)) == 1


def test_a_read_only_disk_is_named_and_read() -> None:
    disk = small_journal(0)
    disk.faults.read_only = True
    with pytest.raises(JournalError, match="Read-only file system"):
        Journal.open(RUN, FLIPS_KEY, storage=disk)
    assert len(Journal.open(RUN, storage=disk)) == 7
    with pytest.raises(JournalError, match="Read-only file system"):
        Journal.create(Path("/other"), ORIGIN, KEY, storage=disk)


def test_a_failed_sync_is_not_tried_again_on_the_same_file() -> None:
    """The system may have dropped what it could not write; a second sync would say that all is well."""
    disk = small_journal(0)
    journal = Journal.open(RUN, FLIPS_KEY, storage=disk)
    journal.append(batch_of("head-end 1", 7, 2000))
    disk.faults.sync_p = 1.0
    with pytest.raises(JournalError, match="Input/output error; open the journal again"):
        journal.commit(3000)
    disk.faults.sync_p = 0.0
    with pytest.raises(JournalError, match="is closed"):
        journal.commit(3000)
    disk.random = random.Random(1)
    disk.lose_power()
    with Journal.open(RUN, FLIPS_KEY, storage=disk) as journal:
        assert len(journal) == 7
        assert journal.append(batch_of("head-end 1", 7, 2000)) == 7
        assert journal.commit(3000).size == 8
