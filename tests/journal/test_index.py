"""The index of a journal: opening reads the newest part only, and whatever is asked has the answer of the log."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.assess.faults.batches import batch_of
from tellegen.assess.faults.disk import SimulatedDisk
from tellegen.journal import Journal, JournalError, check, put_stubs, repair, verify_consistency
from tellegen.journal.merkle import entry_hash, verify_inclusion
from tellegen.journal.storage import StoredFile
from tellegen.journal.stretch import DTYPES, read_column, read_head, to_bytes
from tellegen.records import SealedBatch
from tellegen.verify import check_receipt

KEY = bytes(range(32))
ORIGIN = "index.example/shard"
RUN = Path("/shard")
INDEX = RUN / "journal" / "index"
HEIGHT = 2  # stretches of four entries


def batches(count: int, first: int = 0) -> list[SealedBatch]:
    """Batches of three sources, a few of them in each second."""
    return [batch_of(f"head-end {k % 3}", k, 1000 + k // 3) for k in range(first, first + count)]


def written(disk: SimulatedDisk, groups: list[int], height: int = HEIGHT) -> list[SealedBatch]:
    """A journal with one commit per group."""
    every = batches(sum(groups))
    waiting = iter(every)
    with Journal.create(RUN, ORIGIN, KEY, segment_bytes_max=2000, stretch_height=height, storage=disk) as journal:
        for group in groups:
            for _ in range(group):
                journal.append(next(waiting))
            journal.commit(10_000)
    return every


def disk_of(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed))


def stretches(disk: SimulatedDisk) -> list[Path]:
    return [path for path in disk.paths() if path.parent == INDEX]


def assert_holds(journal: Journal, every: list[SealedBatch]) -> None:
    """Whatever a journal may be asked, held against the batches that are in it."""
    headers = [batch.header for batch in every]
    assert list(journal.entries()) == headers
    assert [journal.payload(k) for k in range(len(every))] == [batch.payload for batch in every]
    assert [journal.known_at(k) for k in range(len(every))] == [header.known_at for header in headers]
    for time in range(998, headers[-1].known_at + 3):
        assert journal.first_at(time) == sum(header.known_at < time for header in headers)
    for index, header in enumerate(headers):
        assert journal.find(interval=header.interval) == [index]
        assert journal.find(kind="readings", name=header.name, since=index) == [index]
        assert journal.submission(header.source, header.name) == [index]
        assert journal.submission(header.source, header.name, since=index + 1) == []
        proof = journal.tree.inclusion_proof(index, len(every))
        assert verify_inclusion(entry_hash(header.to_bytes()), index, len(every), proof, journal.checkpoint.root)
        assert check_receipt(journal.receipt(index), header.to_bytes(), journal.verifier.vkey).index == index
    assert journal.find(since=3) == list(range(3, len(every)))
    assert journal.find(kind="nothing") == journal.submission("head-end 0", "nothing") == []
    for checkpoint in journal.checkpoints:
        assert journal.tree.root(checkpoint.size) == checkpoint.root
        proof = journal.tree.consistency_proof(checkpoint.size)
        assert verify_consistency(checkpoint.size, len(journal), checkpoint.root, journal.checkpoint.root, proof)


@given(groups=st.lists(st.integers(1, 9), min_size=1, max_size=9), height=st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_what_is_asked_has_the_answer_of_the_log(groups: list[int], height: int) -> None:
    disk = disk_of()
    every = written(disk, groups, height)
    assert len(stretches(disk)) == len(every) >> height
    with Journal.open(RUN, stretch_height=height, storage=disk) as reader:
        assert_holds(reader, every)
        with Journal.open(RUN, KEY, segment_bytes_max=2000, stretch_height=height, storage=disk) as writer:
            assert_holds(writer, every)
            more = batches(7, len(every))
            for batch in more:
                writer.append(batch)
            writer.commit(10_000)
            assert_holds(writer, every + more)
            assert writer.notices == ()
        reader.refresh()
        assert_holds(reader, every + more)
    assert check(RUN, storage=disk) == []


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 0, 0, -20, -3])), min_size=1, max_size=60),
    height=st.integers(0, 3),
)
@settings(deadline=None)
def test_a_time_cuts_the_record_behind_all_that_is_earlier(steps: list[tuple[int, int]], height: int) -> None:
    """Where an operator has set the clock right, what stands under the wrong one lies before."""
    disk, times, now = disk_of(), list[int](), 1000
    with Journal.create(RUN, ORIGIN, KEY, stretch_height=height, storage=disk) as journal:
        for number, (step, turn) in enumerate(steps):
            now += step + turn
            batch = batch_of("head-end 1", number, now)
            if turn:
                batch = replace(batch, header=replace(batch.header, kind="clocks"))
            journal.append(batch)
            times.append(now)
            if number % 3 == 2:
                journal.commit(10_000)
            assert journal.time(0) == now
        journal.commit(10_000)
        for one in (journal, Journal.open(RUN, storage=disk)):
            for time in range(min(times) - 1, max(times) + 2):
                assert one.first_at(time) == max((k + 1 for k, known in enumerate(times) if known < time), default=0)
                later = (k for k, known in enumerate(times) if known >= time)
                assert one.earliest_at(time) == min(later, default=len(times))


def test_the_same_batch_again_is_the_same_entry_wherever_it_stands() -> None:
    """Its time says where to look: times on record do not run back."""
    disk = disk_of()
    every = written(disk, [9, 9])
    with Journal.open(RUN, KEY, segment_bytes_max=2000, storage=disk) as journal:
        assert [journal.append(batch) for batch in every] == list(range(18))
        with pytest.raises(JournalError, match="times on record do not run back"):
            journal.append(batch_of("head-end 1", 100, 1000))


def forge(data: bytes) -> Callable[[bytes], bytes]:
    return lambda _: data


def flipped(data: bytes) -> bytes:
    """One bit in the last third, which is of leaf hashes."""
    at = len(data) * 5 // 6
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("number", [0, 1, 3, 4])
@pytest.mark.parametrize(
    "damage", [flipped, lambda data: data[:100], lambda data: b"", lambda data: b"\0" * len(data), None]
)
def test_a_damaged_or_missing_stretch_is_made_again_and_named(
    number: int, damage: Callable[[bytes], bytes] | None
) -> None:
    """As reader (in memory) and as writer (the file as it was); an opening that meets none reads the whole log."""
    disk = disk_of()
    every = written(disk, [5, 5, 5, 5])
    path = INDEX / f"{number:06d}.idx"
    before = disk.bytes_of(path)
    if damage is None:
        disk.remove(path)
    else:
        file = disk.open(path, write=True)
        file.truncate(0)
        file.write(0, damage(before))
        problems = check(RUN, storage=disk)
        assert [(problem.file, problem.repairable) for problem in problems] == [(f"index/{path.name}", True)]
    with Journal.open(RUN, storage=disk) as reader:
        assert_holds(reader, every)
        assert [path.name in notice for notice in reader.notices] == [True] or (number == 4 and damage is None)
    with Journal.open(RUN, KEY, segment_bytes_max=2000, storage=disk) as writer:
        assert_holds(writer, every)
    assert disk.bytes_of(path) == before
    assert check(RUN, storage=disk) == []


def rewritten(disk: SimulatedDisk, number: int, leaf: bytes) -> None:
    """A stretch whose checksums are right and whose first leaf is not."""
    path = INDEX / f"{number:06d}.idx"
    file = disk.open(path, write=True)
    head = read_head(file)
    columns = {name: read_column(file, head, name) for name in DTYPES}
    columns["leaf"] = np.frombuffer(leaf + columns["leaf"].tobytes()[32:], dtype="V32")
    data = to_bytes(head, columns)
    file.truncate(0)
    file.write(0, data)


def test_a_stretch_of_other_entries_is_not_believed() -> None:
    """Checksums are no secret: what counts is the root that was signed."""
    disk = disk_of()
    every = written(disk, [5, 5, 5, 5])
    rewritten(disk, 1, entry_hash(b"another"))
    assert [problem.problem for problem in check(RUN, storage=disk)] == ["is not of the entries of this log"]
    with Journal.open(RUN, storage=disk) as reader:
        assert_holds(reader, every)
        assert "is not of the entries that were signed for" in reader.notices[0]
    assert repair(RUN, KEY, storage=disk)
    assert check(RUN, storage=disk) == []


def test_what_a_crash_left_beside_the_index_is_removed() -> None:
    disk = disk_of()
    every = written(disk, [5, 5])
    disk.open(INDEX / "000002.idx.new", write=True).write(0, b"half a stretch")
    with Journal.open(RUN, KEY, segment_bytes_max=2000, storage=disk) as writer:
        assert_holds(writer, every)
    assert [path.name for path in stretches(disk)] == ["000000.idx", "000001.idx"]


def test_an_index_of_another_log_is_done_without() -> None:
    disk, other = disk_of(), disk_of()
    every = written(disk, [5, 5, 5, 5])
    written(other, [20, 9])
    for path in stretches(other):
        file = disk.open(path, write=True)
        file.truncate(0)
        file.write(0, other.bytes_of(path))
    with Journal.open(RUN, KEY, segment_bytes_max=2000, storage=disk) as writer:
        assert_holds(writer, every)
    assert check(RUN, storage=disk) == []


class CountingDisk(SimulatedDisk):
    """Counts the bytes that are read."""

    read = 0

    def open(self, path: Path, *, write: bool = False) -> StoredFile:
        return _Counting(self, super().open(path, write=write))  # type: ignore[return-value]


class _Counting:
    def __init__(self, disk: CountingDisk, file: StoredFile) -> None:
        self._disk, self._file = disk, file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def read(self, at: int, length: int) -> bytes:
        data = self._file.read(at, length)
        self._disk.read += len(data)
        return data


@pytest.mark.parametrize("key", [None, KEY])
def test_opening_reads_no_more_of_a_long_history_than_of_a_short_one(key: bytes | None) -> None:
    read = []
    for groups in ([16] * 10, [16] * 100):
        disk = CountingDisk(random.Random(0))
        written(disk, groups, 4)
        disk.read = 0
        with Journal.open(RUN, key, segment_bytes_max=2000, storage=disk) as journal:
            assert len(journal) == sum(groups)
            assert journal.first_at(journal.known_at(len(journal) - 1) + 1) == len(journal)
        read.append(disk.read)
    assert read[1] < 1.1 * read[0]


def test_payloads_that_gave_way_to_stubs_are_found_where_they_are_now(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY, segment_bytes_max=1000, stretch_height=HEIGHT) as journal:
        for batch in batches(21):
            journal.append(batch)
        journal.commit(10_000)
        names = [path.name for path in sorted((tmp_path / "journal" / "index").iterdir())]
    put_stubs(tmp_path, {1: "archive/a.parquet", 6: "archive/a.parquet"})
    assert [path.name for path in sorted((tmp_path / "journal" / "index").iterdir())] == names
    assert check(tmp_path) == []
    with Journal.open(tmp_path) as journal:
        assert [k for k in range(21) if journal.archive_file(k)] == [1, 6]
        assert [journal.payload(k) for k in (0, 2, 7, 20)] == [batches(21)[k].payload for k in (0, 2, 7, 20)]
        assert journal.notices == ()


def test_a_full_disk_leaves_the_index_for_later(tmp_path: Path) -> None:
    """The commit stands: nothing rests on the index."""
    disk = disk_of()
    written(disk, [3])
    with Journal.open(RUN, KEY, segment_bytes_max=2000, stretch_height=HEIGHT, storage=disk) as journal:
        whole = disk.rename

        def refuse(old: Path, new: Path) -> None:
            if new.parent == INDEX:
                raise OSError(28, "No space left on device")
            whole(old, new)

        disk.rename = refuse  # type: ignore[method-assign]
        journal.append(batches(1, 3)[0])
        assert journal.commit(10_000).size == 4
        assert "No space left on device" in journal.notices[0]
        disk.rename = whole  # type: ignore[method-assign]
        for batch in batches(2, 4):
            journal.append(batch)
        journal.commit(10_000)
        assert_holds(journal, batches(6))
    assert [path.name for path in stretches(disk) if path.suffix == ".idx"] == ["000000.idx"]


@given(st.lists(st.sampled_from(["energy", "prices", "prices", "document"]), min_size=1, max_size=60), st.data())
@settings(deadline=None)
def test_the_newest_of_a_kind_are_found_from_the_end(kinds: list[str], data: st.DataObject) -> None:
    disk = disk_of()
    with Journal.create(RUN, ORIGIN, KEY, stretch_height=1, storage=disk) as journal:
        for number, kind in enumerate(kinds):
            batch = batch_of("head-end 1", number, number)
            journal.append(replace(batch, header=replace(batch.header, kind=kind, name=str(number % 2))))
            if number % 3 == 2:
                journal.commit(10_000)
        for kind in ("energy", "prices", "document", "nothing"):
            found = [k for k, each in enumerate(kinds) if each == kind]
            since = data.draw(st.integers(0, len(kinds)))
            assert journal.find(kind=kind, since=since) == [k for k in found if k >= since]
            assert journal.latest(kind, count=3) == found[::-1][:3]
            assert journal.latest(kind, name="1") == [k for k in found if k % 2][-1:]


def test_what_stands_far_back_is_found_without_reading_what_lies_between() -> None:
    disk = CountingDisk(random.Random(0))
    with Journal.create(RUN, ORIGIN, KEY, stretch_height=2, storage=disk) as journal:
        first = batches(1)[0]
        journal.append(replace(first, header=replace(first.header, kind="document")))
        for batch in batches(400, 1):
            journal.append(batch)
        journal.commit(10_000)
    with Journal.open(RUN, storage=disk) as journal:
        disk.read = 0
        assert journal.latest("document", count=2) == journal.find(kind="document") == [0]
        assert disk.read < 20_000
