"""`tellegen replay`: what follows from the record follows from it again, and what does not is found."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shards
from playing import FIRST, Street

from tellegen.operations import rerun_gates
from tellegen.operations.market import Market
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.operations.succession import Declaration, succeed
from tellegen.operations.tally import Replayed
from tellegen.operations.tasks import TaskMaker
from tellegen.operations.upkeep import erase
from tellegen.privacy.recorder import Span
from tellegen.records import Editor, EditReason, Edits, Energy, Postings, Quality
from tellegen.verify import verify_directory

INTERVALS = 5


def play_minutes(folder: Path) -> None:
    """A quarter of an hour, with readings of a few customers that never come."""
    street = Street(folder / "shard", keep=lambda t, rows: ~((t == FIRST + 2) & (rows.customer % 40 == 3)))
    with street.market() as market:
        street.prices(market, range(FIRST, FIRST + INTERVALS))
    street.schedule(range(FIRST, FIRST + INTERVALS))
    street.play((FIRST + INTERVALS - 1) * 300 + 70)
    street.close()


@pytest.fixture
def minutes(made_once: Callable[..., Path], tmp_path: Path) -> Path:
    """A shard of a quarter of an hour, to be changed."""
    return Path(shutil.copytree(made_once("minutes", play_minutes) / "shard", tmp_path / "shard"))


def by_name(found: list[Replayed]) -> dict[str, Replayed]:
    return {check.name: check for check in found}


def failed(found: list[Replayed]) -> list[str]:
    return [check.name for check in found if not check.ok]


def test_a_shard_replays_to_the_same_integers(shard_directory: Path) -> None:
    """law 3: days opened, cleared, settled, corrected, closed and kept are a function of what came in."""
    found = rerun(shard_directory)
    assert failed(found) == []
    counts = {name: check.count for name, check in by_name(found).items()}
    intervals = len(shards.INTERVALS)
    assert counts["day-ahead clearings"] == 2 * 24
    assert counts["real-time clearings"] == 2 * (intervals - 1)
    # the first interval has no register to count from, so that all meters are missing; one has no wholesale price
    assert counts["price-run clearings"] == 2 * (intervals - 1)
    assert counts["administrative prices"] == 2 + 2 * 2
    assert counts["energy"] == 402 * intervals
    for name in ("order signatures", "sharing keys", "settlement", "closes", "shared anew", "statements", "snapshots"):
        assert counts[name] > 0, name


def test_replay_writes_nothing_but_books_that_are_missing(minutes: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in minutes.rglob("*") if path.is_file()}
    rerun(minutes)
    assert {path: path.stat().st_mtime_ns for path in minutes.rglob("*") if path.is_file()} == before
    (minutes / "books.sqlite").unlink()
    assert "was missing" in by_name(rerun(minutes))["books"].detail
    assert failed(rerun(minutes)) == []


def put(path: Path, kind: type[Postings | Edits], make: Callable[[ShardRecord], tuple[Postings | Edits, str]]) -> None:
    """An operator who cheats signs what follows from nothing."""
    with ShardRecord.open(path, write=True) as record:
        table, name = make(record)
        feeder, at = record.feeders[0].name, record.journal.time(0)
        record.recorder(feeder).put(table, Span(at, FIRST + 1, 1), name=name)
        record.journal.commit(at)


def test_postings_that_follow_from_nothing_are_found(minutes: Path) -> None:
    def lie(record: ShardRecord) -> tuple[Postings, str]:
        one = Postings(unit=[0, 0], account=[record.feeders[0].substation - 1, -10], interval=[FIRST + 1] * 2,
                       line=[2, 21], quantity=[5, -5], price=[3, 3], amount=[15, -15], cause=[0, 0])  # fmt: skip
        return one, ""

    put(minutes, Postings, lie)
    assert {"books", "settlement"} <= set(failed(rerun(minutes)))


def test_energy_that_no_reading_says_is_found(minutes: Path) -> None:
    def lie(record: ShardRecord) -> tuple[Edits, str]:
        entry = next(iter(record.journal.find(kind=Energy.kind, interval=FIRST + 1)))
        row = record.table(entry, Energy).take([1])
        columns = {name: getattr(row, name) for name in Energy.row_dtype().names or ()}
        columns["import_wh"] = row.import_wh + 1
        edit = Edits(**columns, intervals=[1], version=[1], editor=[Editor.METER], reason=[EditReason.LATE_READING])
        return edit, "read/0"

    put(minutes, Edits, lie)
    assert failed(rerun(minutes)) == ["energy"]


def test_what_a_person_put_on_record_is_settled_as_it_stands(minutes: Path) -> None:
    def correction(record: ShardRecord) -> tuple[Edits, str]:
        entry = next(iter(record.journal.find(kind=Energy.kind, interval=FIRST + 1)))
        row = record.table(entry, Energy).take([1])
        columns = {name: getattr(row, name) for name in Energy.row_dtype().names or ()}
        columns["quality"] = np.array([Quality.CORRECTED], dtype=np.uint8)
        edit = Edits(**columns, intervals=[1], version=[1], editor=[Editor.PERSON], reason=[EditReason.FIELD_VISIT])
        return edit, "read/0"

    put(minutes, Edits, correction)
    found = rerun(minutes)
    assert failed(found) == []
    assert by_name(found)["energy"].detail.endswith("left out: 1 put on record otherwise")


def dearer(make: Callable[..., object]) -> Callable[..., object]:
    """Tasks as another gate would have made them."""

    def task(self: TaskMaker, *about: object) -> object:
        made = make(self, *about)
        period = replace(made.periods[0], root_price_micros=made.periods[0].root_price_micros + 1)  # type: ignore[attr-defined]
        return replace(made, periods=(period,))  # type: ignore[type-var]

    return task


def test_a_clearing_that_comes_out_otherwise_is_found(minutes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskMaker, "task", dearer(TaskMaker.task))
    found = rerun(minutes)
    assert failed(found) == ["real-time clearings"]
    assert by_name(found)["real-time clearings"].detail.startswith(
        f"{2 * INTERVALS} clearings run again, {2 * INTERVALS} with"
    )


def test_another_engine_counts_differences_and_is_forgiven_them(minutes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds of one mathematics may award steps of equal worth differently."""
    monkeypatch.setattr(TaskMaker, "task", dearer(TaskMaker.task))
    monkeypatch.setattr(rerun_gates, "engine_name", lambda engine: f"other/{engine}")
    found = rerun(minutes)
    assert failed(found) == []
    assert "another engine" in by_name(found)["real-time clearings"].detail


def test_gates_may_be_closed_again_in_processes(minutes: Path) -> None:
    assert by_name(rerun(minutes, processes=1))["real-time clearings"].count == 2 * INTERVALS


def test_what_is_left_of_a_shard_with_an_erased_customer_replays(shard_copy: Path) -> None:
    """What nobody can read any more is counted as left out; the other feeder and the books agree."""
    with ShardRecord.open(shard_copy) as record:
        gone = int(record.table(next(iter(record.journal.find(kind=Energy.kind))), Energy).customer[7])
        at = record.journal.time(0) + 1
    erase(shard_copy, gone, at, early=True)
    found = rerun(shard_copy)
    assert failed(found) == []
    assert verify_directory(shard_copy).ok
    counts = by_name(found)
    assert "left out: 2 days of feeders with erased customers" in counts["settlement"].detail
    assert counts["real-time clearings"].count == len(shards.INTERVALS) - 1  # of the other feeder
    assert counts["energy"].count == 401 * len(shards.INTERVALS)


def test_a_successor_replays_to_the_same_books(minutes: Path, tmp_path: Path) -> None:
    """Both logs are taken up under new keys; whatever follows from their entries follows as before."""
    out = tmp_path / "successor"
    done = succeed(minutes, out, Declaration("A. Operator", "rehearsed"))
    origin = done[0].predecessor.partition("+")[0]
    assert [each.successor.partition("+")[0] for each in done] == [f"{origin}~2", f"{origin}~2/market"]
    assert all(check.ok for check in rerun(out, processes=0))
    report = verify_directory(out)
    assert [check.name for check in report.checks if not check.ok] == []
    with Market.open(out):
        pass
