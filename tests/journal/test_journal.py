"""The journal: what it has promised it keeps, whatever happens to the machine."""

import base64
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.journal import Journal, JournalError, Payload
from tellegen.journal.storage import DiskFile, FileStorage
from tellegen.records import Header, RecordError, SealedBatch, tree_root

KEY = hashlib.sha256(b"operator").digest()
ORIGIN = "example.org/feeder"


def batch(number: int, *, kind: str = "prices", causes: tuple[int, ...] = ()) -> SealedBatch:
    """A batch of three public rows of eight bytes."""
    rows = [hashlib.sha256(f"{kind}/{number}/{k}".encode()).digest()[:8] for k in range(3)]
    leaves = [hashlib.sha256(b"\x00" + row).digest() for row in rows]
    payload = Payload(8, b"".join(leaves), np.arange(3, dtype=np.uint32), b"".join(rows), ()).to_bytes()
    header = Header(
        kind=kind,
        name="",
        feeder="feeder",
        market="real_time" if number % 2 else "day_ahead",
        interval=number,
        intervals=1,
        source="operator",
        known_at=number,
        causes=causes,
        rows=3,
        row_root=tree_root(leaves).hex(),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    return SealedBatch(header, payload)


def written(path: Path, groups: list[int], segment_bytes_max: int = 1000) -> list[SealedBatch]:
    """A journal with one commit per group of batches; small segments, so that files follow files."""
    batches = [batch(k) for k in range(sum(groups))]
    waiting = iter(batches)
    with Journal.create(path, ORIGIN, KEY, segment_bytes_max=segment_bytes_max) as journal:
        for group in groups:
            for _ in range(group):
                journal.append(next(waiting))
            journal.commit(1000)
    return batches


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    """law 3: the journal is the only truth, and it is all there."""
    batches = written(tmp_path, [2, 3, 1])
    assert len(list((tmp_path / "journal" / "log").iterdir())) > 1
    journal = Journal.open(tmp_path)
    assert list(journal.entries()) == [b.header for b in batches]
    assert [journal.payload(k) for k in range(6)] == [b.payload for b in batches]
    assert [c.size for c in journal.checkpoints] == [0, 2, 5, 6]


def test_receipts_come_after_the_commit_only(tmp_path: Path) -> None:
    """law 6: a receipt is handed out only when the record is durable."""
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        index = journal.append(batch(1))
        with pytest.raises(JournalError, match="not committed"):
            journal.receipt(index)
        journal.commit(1000)
        magic, extra, rest = journal.receipt(index).split("\n", 2)
        assert (magic, rest.split("\n")[:4]) == ("c2sp.org/tlog-proof@v1", ["index 0", "", "example.org/feeder", "1"])
        assert base64.b64decode(extra.removeprefix("extra ")) == journal.entry_bytes(index)


def test_the_same_batch_twice_is_one_entry(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        first = journal.append(batch(1))
        assert journal.append(batch(1)) == first
        before = journal.commit(1000)
        assert journal.append(batch(1)) == first
        assert journal.commit(1000) == before
        assert len(journal) == 1


def test_entries_are_found_by_what_they_are_about(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        for number in range(4):
            journal.append(batch(number))
            journal.append(batch(number, kind="readings"))
        assert journal.find(kind="readings") == [1, 3, 5, 7]
        assert journal.find(kind="readings", market="real_time") == [3, 7]
        assert journal.find(interval=2) == [4, 5]
        assert journal.find(kind="orders") == []


def test_a_batch_cannot_follow_from_what_is_not_on_record(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        journal.append(batch(0))
        assert journal.append(batch(1, causes=(0,))) == 1
        with pytest.raises(JournalError, match="cause 2 is not on record"):
            journal.append(batch(2, causes=(2,)))


def test_a_header_cannot_name_another_payload(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal, pytest.raises(JournalError, match="not the one its header"):
        journal.append(SealedBatch(batch(1).header, batch(2).payload))


def test_a_commit_cannot_sign_for_the_future(tmp_path: Path) -> None:
    """law 2: every fact has the time at which it became known."""
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        journal.append(batch(7))
        with pytest.raises(JournalError, match="after its commit"):
            journal.commit(6)


def test_a_shard_has_one_writer(tmp_path: Path) -> None:
    """law 5: one writer per shard; readers are free."""
    with Journal.create(tmp_path, ORIGIN, KEY):
        with pytest.raises(JournalError, match="another writer"):
            Journal.open(tmp_path, KEY)
        assert len(Journal.open(tmp_path)) == 0


def test_only_the_operator_writes(tmp_path: Path) -> None:
    written(tmp_path, [1])
    with pytest.raises(JournalError, match=r"not that of operator\.pub"):
        Journal.open(tmp_path, bytes(32))
    with pytest.raises(JournalError, match="reading only"):
        Journal.open(tmp_path).append(batch(9))
    with pytest.raises(JournalError, match="never overwritten"):
        Journal.create(tmp_path, ORIGIN, KEY)


def test_a_directory_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"operator\.pub cannot be read"):
        Journal.open(tmp_path)


def test_a_header_too_large_for_an_entry_bundle_is_refused(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        large = batch(1)
        fields = {name: getattr(large.header, name) for name in Header.__slots__} | {"source": "x" * 70_000}
        with pytest.raises(JournalError, match="limit 65535"):
            journal.append(SealedBatch(Header(**fields), large.payload))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_crash_loses_nothing_that_was_signed_for(tmp_path: Path, data: st.DataObject) -> None:
    """law 6: whatever prefix of the last commit's writes reached the disk, what had a receipt stays."""
    path, before, after = (tmp_path / name for name in ("crashed", "before", "after"))
    for old in (path, before, after):
        shutil.rmtree(old, ignore_errors=True)
    groups = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    batches = written(after, groups)
    written(before, groups[:-1])
    shutil.copytree(before, path)
    # writes reach the disk in this order, each possibly cut short, and then no more
    stages = data.draw(st.integers(0, 2))
    for number, part in enumerate(["payloads", "log", "checkpoints"]):
        if number > stages:
            break
        for name in sorted(p.relative_to(after) for p in (after / "journal").glob(f"{part}/*")) or [
            Path("journal") / part
        ]:
            whole = (after / name).read_bytes()
            had = (before / name).stat().st_size if (before / name).exists() else 0
            cut = data.draw(st.integers(had, len(whole))) if number == stages else len(whole)
            (path / name).write_bytes(whole[:cut])
            if cut < len(whole):
                break
    signed = sum(groups[:-1])
    assert len(Journal.open(path)) in {signed, len(batches)}
    with Journal.open(path, KEY) as journal:
        kept = len(journal)
        assert kept >= signed
        for waiting in batches:
            journal.append(waiting)
        journal.commit(1000)
    with Journal.open(path) as journal:
        assert list(journal.entries()) == [b.header for b in batches]
        assert [journal.payload(k) for k in range(len(batches))] == [b.payload for b in batches]
    for part in ("log", "payloads"):
        assert b"".join(p.read_bytes() for p in sorted((path / "journal" / part).iterdir())) == b"".join(
            p.read_bytes() for p in sorted((after / "journal" / part).iterdir())
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_below_a_checkpoint_is_named_and_never_repaired(tmp_path: Path, data: st.DataObject) -> None:
    """law 3: records are immutable; a log that changed under its signature is not opened for writing."""
    path = tmp_path / "run"
    shutil.rmtree(path, ignore_errors=True)
    written(path, [2, 2])
    name = data.draw(st.sampled_from(sorted(p.name for p in (path / "journal" / "log").iterdir())))
    file = path / "journal" / "log" / name
    damaged = bytearray(file.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(damaged)
    with pytest.raises(JournalError, match="corruption"):
        Journal.open(path, KEY)
    assert file.read_bytes() == damaged


@pytest.mark.parametrize("names", [["checkpoint"], ["checkpoints"], ["checkpoint", "checkpoints"]])
def test_history_is_not_signed_anew_when_its_signatures_are_gone(tmp_path: Path, names: list[str]) -> None:
    """Else whoever deletes the checkpoints could have a changed log signed at the next commit."""
    written(tmp_path, [2, 1])
    for name in names:
        (tmp_path / "journal" / name).unlink()
    for key in (KEY, None):
        with pytest.raises(JournalError, match="corruption"):
            Journal.open(tmp_path, key)


def test_a_creation_cut_short_can_be_finished(tmp_path: Path) -> None:
    written(tmp_path, [])
    (tmp_path / "journal" / "checkpoint").unlink()
    (tmp_path / "journal" / "checkpoints").write_bytes(b"")
    Journal.open(tmp_path, KEY).close()
    assert Journal.open(tmp_path).checkpoint.size == 0


def test_a_damaged_payload_is_not_handed_out(tmp_path: Path) -> None:
    written(tmp_path, [2], segment_bytes_max=1 << 20)
    file = tmp_path / "journal" / "payloads" / "000000.seg"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(JournalError, match="corruption"):
        Journal.open(tmp_path).payload(1)


class FullFile(DiskFile):
    """A file that takes nothing more."""

    def write(self, at: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")


class FullDisk(FileStorage):
    def open(self, path: Path, *, write: bool = False) -> DiskFile:
        return (FullFile if write and path.suffix == ".seg" else DiskFile)(path, write=write)


def test_a_refused_write_closes_the_journal_and_reopening_recovers(tmp_path: Path) -> None:
    written(tmp_path, [2])
    with Journal.open(tmp_path, KEY, storage=FullDisk()) as journal:
        journal.append(batch(2))
        with pytest.raises(JournalError, match="No space left on device; open the journal again"):
            journal.commit(1000)
        with pytest.raises(JournalError, match="closed"):
            journal.append(batch(3))
    with Journal.open(tmp_path, KEY) as journal:
        assert len(journal) == 2
        assert journal.append(batch(2)) == 2
        assert journal.commit(1000).size == 3


@given(st.binary(max_size=200))
def test_a_payload_is_read_strictly(data: bytes) -> None:
    with pytest.raises(RecordError, match="payload"):
        Payload.from_bytes(data)
    whole = batch(1).payload
    assert Payload.from_bytes(whole).to_bytes() == whole
    if data:
        with pytest.raises(RecordError, match="add up"):
            Payload.from_bytes(whole + data)
