"""What tells of customers is its owner's to read, whatever the umask."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tellegen.books import Ledger
from tellegen.journal.storage import private_draft, write_private
from tellegen.records import Connections
from tellegen.registry import write_csv
from tellegen.report.tables import write_table


@pytest.fixture
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def for_others(folder: Path) -> list[str]:
    """Files below a folder that others than their owner may read or write."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077]


@pytest.mark.usefixtures("open_to_all")
def test_files_about_customers_are_their_owner_s(tmp_path: Path) -> None:
    write_private(tmp_path / "summary.json", "{}")
    write_csv(tmp_path / "connections.csv", [Connections.empty()])
    write_table(tmp_path, "postings", pl.DataFrame({"account": [1]}))
    Ledger.create(tmp_path / "books.sqlite").close()
    assert for_others(tmp_path) == []


@pytest.mark.usefixtures("open_to_all")
def test_a_draft_that_others_left_open_becomes_private_and_one_that_fails_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "bill"
    file.write_text("before")
    draft = tmp_path / ".bill.new"
    draft.touch(mode=0o666)
    write_private(file, "after")
    assert for_others(tmp_path) == []
    with contextlib.suppress(KeyError), private_draft(file) as half:
        half.write(b"half")
        raise KeyError
    assert file.read_text() == "after"
    assert not draft.exists()
