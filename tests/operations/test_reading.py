"""A day read back from both journals is the day that was played, wherever its rows lie by now."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from shards import FIRST, MISSED

from tellegen.errors import InputError
from tellegen.operations.compaction import compact
from tellegen.operations.reading import RecordedDay, closed_days, read_day
from tellegen.operations.record import ShardRecord
from tellegen.privacy import Vault
from tellegen.records import OPERATOR, ClearingStatus, CloseKind, Quality
from tellegen.report.days import publish_days, published_days
from tellegen.verify import verify_directory

DAYS = [date(2016, 10, 24), date(2016, 10, 25)]


def days(path: Path) -> list[RecordedDay]:
    with ShardRecord.open(path) as record:
        return [read_day(record, day) for day in closed_days(record)]


def test_a_day_is_read_back_with_all_that_happened(shard_directory: Path) -> None:
    first, second = days(shard_directory)
    assert [first.day, second.day] == DAYS
    for day in (first, second):
        posted = day.all_postings()
        assert int(posted.amount.sum()) == 0
        assert {each.period.clearing.status[0] for each in day.rounds} <= set(ClearingStatus)
        for each in day.rounds:
            assert int(each.awarded_mw.sum()) == int(each.awards.quantity_mw.sum())
            assert (each.awarded_mw <= each.orders.quantity_w.astype(np.int64) * 1000).all()
    missed = [each for each in first.rounds if each.interval == MISSED]
    assert {int(each.period.clearing.status[0]) for each in missed} == {ClearingStatus.ADMINISTRATIVE}
    assert not any(each.awarded_mw.any() for each in missed)
    assert {each.market for each in second.rounds} == {"day_ahead", "real_time"}
    kinds = [CloseKind(int(table.close_kind[0])) for _, table in first.closes]
    assert kinds == [CloseKind.FIRST] * 2 + [CloseKind.CORRECTION] * 2 + [CloseKind.FINAL] * 2
    assert any(Quality.ESTIMATED in energy.quality for _, energy in first.energy)
    assert all(OPERATOR in readings.customer for interval, readings in first.readings if interval >= FIRST)


def test_one_feeder_is_a_part_of_the_day(shard_directory: Path) -> None:
    with ShardRecord.open(shard_directory) as record:
        whole = read_day(record, DAYS[0])
        parts = [read_day(record, DAYS[0], feeder.name) for feeder in record.feeders]
        with pytest.raises(InputError, match="none of this shard"):
            read_day(record, DAYS[0], "F9999")
    assert sum(len(part.rounds) for part in parts) == len(whole.rounds)
    assert sum(len(part.all_postings()) for part in parts) == len(whole.all_postings())


def test_a_compacted_day_reads_as_it_did(shard_copy: Path) -> None:
    before = days(shard_copy)
    with Vault.open(shard_copy / "vault") as vault:
        newest = max(epoch.day for epoch in vault.epochs)
        assert compact(shard_copy, vault, known_at=0, until_day=newest).epochs
    for left, right in zip(before, days(shard_copy), strict=True):
        assert right.all_postings().equals(left.all_postings())
        assert right.statements.equals(left.statements)
        for a, b in zip(left.rounds, right.rounds, strict=True):
            assert b.orders.equals(a.orders)
            assert (b.awarded_mw == a.awarded_mw).all()
        assert all(b.equals(a) for (_, a), (_, b) in zip(left.readings, right.readings, strict=True))


def test_a_shard_publishes_each_day_and_feeder(shard_copy: Path) -> None:
    folders = publish_days(shard_copy, DAYS)
    assert [each.relative_to(shard_copy).as_posix() for each in folders] == [
        f"days/{day}/{feeder}" for day in DAYS for feeder in ("F0000", "F0001")
    ]
    assert published_days(shard_copy) == DAYS
    for folder in folders:
        assert (folder / "report.html").read_bytes().startswith(b"<!doctype html>")
        postings = pl.read_parquet(folder / "tables" / "postings.parquet")
        assert postings["amount"].sum() == 0
    checks = {check.name: check for check in verify_directory(shard_copy).checks}
    assert checks["manifest"].ok
    assert checks["published files"].count == len(folders) * 12
    (folders[0] / "summary.json").write_text("{}")
    assert not verify_directory(shard_copy).ok
