"""A directory in the making: what its own processes see, and what others do."""

from __future__ import annotations

from pathlib import Path

from tellegen.journal import Journal
from tellegen.journal.storage import FILES, read_file, replace_file
from tellegen.records import Header, SealedBatch
from tellegen.simulation.draft import DraftStorage

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_what_replaces_a_file_is_seen_at_once_and_by_others_when_it_is_put_down(tmp_path: Path) -> None:
    draft, path = DraftStorage(), tmp_path / "copy"
    replace_file(path, b"first", FILES)
    replace_file(path, b"second", draft)
    assert read_file(draft, path) == b"second"
    assert (read_file(FILES, path), draft.names(tmp_path)) == (b"first", ["copy"])
    draft.put_down()
    assert (read_file(FILES, path), read_file(draft, path)) == (b"second", b"second")
    replace_file(path, b"3", draft)
    draft.remove(path)
    assert not draft.exists(path)
    assert not FILES.exists(path)


def test_a_file_that_is_drafted_again_is_a_new_one(tmp_path: Path) -> None:
    draft, path = DraftStorage(), tmp_path / "copy"
    for data in (b"a long one", b"short"):
        replace_file(path, data, draft)
        assert read_file(draft, path) == data


def test_a_reader_elsewhere_follows_a_drafted_journal(tmp_path: Path) -> None:
    draft = DraftStorage()
    with Journal.create(tmp_path, "city.example/1", b"k" * 32, storage=draft) as journal:
        draft.put_down()
        with Journal.open(tmp_path) as reader:
            journal.append(SealedBatch(Header("ticks", "", "", "", 0, 1, "intake", 7, (), 0, EMPTY, EMPTY), b""))
            journal.commit(7)
            assert reader.refresh() == 0
            draft.put_down()
            assert reader.refresh() == 1
            assert reader.checkpoint == journal.checkpoint
