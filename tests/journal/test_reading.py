"""Readers beside the writer, what is found by what, and appends while a commit runs."""

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.assess.faults.batches import batch_of
from tellegen.journal import Journal, JournalError, verify_inclusion
from tellegen.journal.catalogue import RECENT_MAX, Catalogue, KeyIndex, Sought, submission_key
from tellegen.journal.merkle import MerkleTree, entry_hash
from tellegen.journal.storage import FileStorage, StoredFile
from tellegen.records import Header, SealedBatch
from tellegen.verify import check_receipt

KEY = hashlib.sha256(b"operator").digest()
ORIGIN = "example.org/feeder"


def test_a_reader_follows_its_writer(tmp_path: Path) -> None:
    """Two processes share a journal and nothing else: one writes, the other refreshes."""
    with Journal.create(tmp_path, ORIGIN, KEY, segment_bytes_max=1000) as writer:
        reader = Journal.open(tmp_path)
        for sequence in range(12):
            assert writer.append(batch_of("head-end 1", sequence, 5)) == sequence
            assert reader.refresh() == sequence, "what is not committed is not there"
            writer.commit(5)
            assert reader.refresh() == sequence + 1
            assert reader.entry(sequence) == writer.entry(sequence)
            assert reader.payload(sequence) == writer.payload(sequence)
            assert reader.receipt(0) == writer.receipt(0)
        assert list(reader.checkpoints) == list(writer.checkpoints)
        assert writer.refresh() == 12


def test_a_reader_believes_what_is_durable_and_no_more(tmp_path: Path) -> None:
    """A checkpoint that was written and not yet synced is nobody's promise."""
    with Journal.create(tmp_path, ORIGIN, KEY) as writer:
        writer.append(batch_of("head-end 1", 0, 5))
        writer.commit(5)
    copy = tmp_path / "journal" / "checkpoint"
    durable = copy.read_bytes()
    with Journal.open(tmp_path, KEY) as writer:
        writer.append(batch_of("head-end 1", 1, 5))
        writer.commit(5)
        newest = copy.read_bytes()
        copy.write_bytes(durable)
        reader = Journal.open(tmp_path)
        assert reader.refresh() == 1
        copy.write_bytes(newest)
        assert reader.refresh() == 2


def test_a_reader_that_met_damage_goes_no_further(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as writer:
        reader = Journal.open(tmp_path)
        writer.append(batch_of("head-end 1", 0, 5))
        writer.commit(5)
        file = tmp_path / "journal" / "log" / "000000.seg"
        file.write_bytes(file.read_bytes()[:-1])
        for problem in (r"corruption: .*000000\.seg: frame 0 at byte 0 is cut short", "is closed"):
            with pytest.raises(JournalError, match=problem):
                reader.refresh()


def test_a_submission_is_found_by_source_and_name(tmp_path: Path) -> None:
    """The idempotency key: the same batch sent again is found where it was recorded, before and after a commit."""
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        for source in ("head-end 1", "head-end 2"):
            for sequence in range(3):
                journal.append(batch_of(source, sequence, 5))
        assert journal.submission("head-end 2", "readings/1") == [4]
        journal.commit(5)
        batch = batch_of("head-end 2", 1, 5)
        journal.append(SealedBatch(replace(batch.header, kind="submissions"), batch.payload))
        assert journal.submission("head-end 2", "readings/1") == [4, 6]
        assert journal.submission("head-end 3", "readings/1") == []
        journal.commit(5)
    assert Journal.open(tmp_path).submission("head-end 2", "readings/1") == [4, 6]


def test_receipts_of_many_entries_stand_under_one_checkpoint(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        indices = [journal.append(batch_of("head-end 1", sequence, 5)) for sequence in range(9)]
        journal.commit(5)
        receipts = journal.receipts(indices)
        assert {receipt.partition("\n\n")[2] for receipt in receipts} == {journal.checkpoint.note}
        for index, receipt in zip(indices, receipts, strict=True):
            assert check_receipt(receipt, journal.entry_bytes(index), journal.verifier.vkey).index == index
        journal.append(batch_of("head-end 1", 9, 5))
        with pytest.raises(JournalError, match="entry 9 is not committed"):
            journal.receipts([0, 9])
        with pytest.raises(JournalError, match="entries 0 to 9, not 10"):
            journal.entry(10)


def test_a_clock_that_is_set_back_does_not_stop_the_journal(tmp_path: Path) -> None:
    """law 2: times on record do not run backwards; they wait until the clock has caught up."""
    with Journal.create(tmp_path, ORIGIN, KEY) as journal:
        assert journal.time(1000) == 1000
        journal.append(batch_of("head-end 1", 0, journal.time(1000)))
        assert journal.time(400) == 1000
        journal.commit(journal.time(400))
        journal.append(batch_of("head-end 1", 1, journal.time(400)))
        assert journal.commit(journal.time(401)).size == 2
    with Journal.open(tmp_path, KEY) as journal:
        assert journal.time(400) == 1000
        assert journal.time(1001) == 1001


class SlowDisk(FileStorage):
    """A disk whose syncs wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.syncing, self.go = threading.Event(), threading.Event()
        self.go.set()

    def sync_all(self, files: list[StoredFile]) -> None:  # type: ignore[override]
        self.syncing.set()
        assert self.go.wait(10)
        super().sync_all(files)


def test_what_is_appended_during_a_commit_belongs_to_the_next(tmp_path: Path) -> None:
    disk = SlowDisk()
    with Journal.create(tmp_path, ORIGIN, KEY, storage=disk) as journal:
        journal.append(batch_of("head-end 1", 0, 5))
        disk.syncing.clear()
        disk.go.clear()
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(journal.commit(5).size))
        thread.start()
        assert disk.syncing.wait(10)
        assert journal.append(batch_of("head-end 1", 1, 5)) == 1
        assert journal.append(batch_of("head-end 1", 0, 5)) == 0, "the same batch, while it is being committed"
        assert journal.payload(0) == batch_of("head-end 1", 0, 5).payload
        with pytest.raises(JournalError, match="not committed"):
            journal.receipt(0)
        disk.go.set()
        thread.join()
        assert done == [1]
        assert journal.receipt(0)
        with pytest.raises(JournalError, match="not committed"):
            journal.receipt(1)
        assert journal.commit(5).size == 2


def test_threads_that_append_and_commit_lose_nothing(tmp_path: Path) -> None:
    with Journal.create(tmp_path, ORIGIN, KEY, segment_bytes_max=3000) as journal:

        def send(source: str) -> None:
            for sequence in range(40):
                journal.append(batch_of(source, sequence, 5))

        senders = [threading.Thread(target=send, args=(f"head-end {k}",)) for k in range(3)]
        for thread in senders:
            thread.start()
        while any(thread.is_alive() for thread in senders):
            journal.commit(5)
        journal.commit(5)
        tree, head = journal.tree, journal.checkpoint
        assert head.size == 120
        for index in range(120):
            proof = tree.inclusion_proof(index, head.size)
            assert verify_inclusion(entry_hash(journal.entry_bytes(index)), index, 120, proof, head.root)
    reader = Journal.open(tmp_path)
    found = {(header.source, header.name) for header in reader.entries()}
    assert found == {(f"head-end {k}", f"readings/{n}") for k in range(3) for n in range(40)}


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), max_size=9))
def test_keys_are_found_with_every_index(groups: list[list[int]]) -> None:
    index, everything = KeyIndex(), [key for group in groups for key in group]
    for group in groups:
        index.extend(np.array(group, dtype=np.uint64))
    for key in range(6):
        assert index.of(key) == [k for k, known in enumerate(everything) if known == key]


def test_keys_are_found_among_many() -> None:
    """In the sorted run, in the recent ones, and after they were merged."""
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 2**64, 4 * RECENT_MAX, dtype=np.uint64)
    keys[100] = keys[50_000] = keys[-1]
    index = KeyIndex()
    for part in np.split(keys, [RECENT_MAX + 5, RECENT_MAX + 7, 2 * RECENT_MAX, 3 * RECENT_MAX - 9]):
        index.extend(part)
    assert index.of(int(keys[-1])) == [100, 50_000, len(keys) - 1]
    assert [index.of(int(keys[k])) for k in (0, RECENT_MAX + 6, 3 * RECENT_MAX)] == [
        [0],
        [RECENT_MAX + 6],
        [3 * RECENT_MAX],
    ]


TEXT = st.text(max_size=4) | st.sampled_from(["readings", "orders", "day_ahead", 'quote"', "back\\slash", "line\n"])


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(-3, 3), TEXT, TEXT), max_size=12), st.data())
def test_the_catalogue_finds_what_a_search_of_all_headers_finds(
    facts: list[tuple[str, str, int, str, str]], data: st.DataObject
) -> None:
    """Names that need escapes in JSON included: the quick reading of an entry is the strict one."""
    catalogue, entries = Catalogue(), []
    for k, (kind, market, interval, name, source) in enumerate(facts):
        header = Header(kind, name, "f", market, interval, 1, source, k, (), 0, "0" * 64, "0" * 64)
        entries.append(header.to_bytes())
        assert json.loads(entries[-1])["kind"] == kind
    cut = data.draw(st.integers(0, len(facts)))
    leaves = catalogue.extend(entries[:cut]) + catalogue.extend(entries[cut:])
    assert leaves == b"".join(map(entry_hash, entries))
    assert len(catalogue) == len(facts)
    for kind, market, interval, name, source in facts:
        since = data.draw(st.integers(0, len(facts)))
        expected = [
            k for k, f in enumerate(facts) if k >= since and (f[0], f[1], f[2], f[3]) == (kind, market, interval, name)
        ]
        assert catalogue.candidates(Sought.of(kind, market, interval, name), since) == expected
        assert catalogue.of_submission(submission_key(source, name)) == [
            k for k, f in enumerate(facts) if (f[4], f[3]) == (source, name)
        ]
    assert catalogue.candidates(Sought.of("nothing like it", None, None, None), 0) == []


@given(st.lists(st.integers(0, 40), max_size=5))
def test_a_tree_grown_at_once_is_the_tree_grown_leaf_by_leaf(groups: list[int]) -> None:
    leaves = [entry_hash(bytes([k])) for k in range(sum(groups))]
    slowly, at_once, at = MerkleTree(leaves), MerkleTree(), 0
    for group in groups:
        at_once.extend(b"".join(leaves[at : at + group]))
        at += group
    assert [at_once.root(size) for size in range(at + 1)] == [slowly.root(size) for size in range(at + 1)]
    assert at_once.append(entry_hash(b"one more")) == slowly.append(entry_hash(b"one more"))
    assert at_once.root() == slowly.root()
