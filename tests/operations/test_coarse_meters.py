"""A shard in which some meters read every quarter of an hour, some late and some never."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playing import FIRST, Street, quarter_hours

from tellegen.operations.corrections import believed
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.operations.timetable import settle_at
from tellegen.operations.writer import folded
from tellegen.records import Clearings, ClearingStatus, Energy, GateOutcome, Gates, Quality, Readings
from tellegen.records.market import PRICE_RUN
from tellegen.verify import verify_directory

INTERVALS, LATE_END, QUARTER = 24, FIRST + 8, 3
"""Two hours; the end of the third quarter, of which some readings come late."""


def in_time(interval: int, readings: Readings) -> NDArray[np.bool_]:
    return np.asarray(~((interval == LATE_END) & (readings.customer % 4 == 3)))


def play_two_hours(folder: Path) -> None:
    """The late readings come with the second hour, and are settled with its end."""
    street = Street(folder / "shard", rulebook=quarter_hours(), keep=in_time, coarse=0.3, silent=0.04)
    with street.market() as market:
        street.prices(market, range(FIRST, FIRST + INTERVALS))
    street.schedule(range(FIRST, FIRST + INTERVALS + 4))
    street.clock.at((FIRST + 20) * 300 + 100, lambda: [street.take(each) for each in street.kept_back[LATE_END]])
    street.play(settle_at(quarter_hours(), FIRST + INTERVALS - 1) + 5)
    street.close()


@pytest.fixture
def hours(made_once: Callable[..., Path]) -> Path:
    return made_once("coarse", play_two_hours) / "shard"


def spans(record: ShardRecord, customer: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """What some meters' registers moved over each quarter whose both ends are on record, Wh imported; -1 elsewhere."""
    registers = {}
    for end in range(FIRST + QUARTER - 1, FIRST + INTERVALS, QUARTER):
        read = record.readings(end, len(record.intake))
        shown = dict(zip(read.customer.tolist(), read.import_wh.tolist(), strict=True))
        registers[end] = np.array([shown.get(each, -1) for each in customer.tolist()])
    return {end: registers[end] - registers[start] for start, end in pairwise(registers)}


def test_every_quarter_sums_to_its_registers_late_or_not(hours: Path) -> None:
    with ShardRecord.open(hours) as record:
        state = folded(record)
        assert state.settled == FIRST + INTERVALS - 1
        compared = 0
        for k in range(len(record.feeders)):
            connected = state.connected("real_time", FIRST + 12, FIRST + 12)
            here = connected.on(k)
            coarse = connected.customer[here][connected.reads_every[here] == QUARTER]
            rows = {t: believed(record, state, k, t)[0] for t in range(FIRST, FIRST + INTERVALS)}
            for end, moved in spans(record, coarse).items():
                quarter = [rows[t].take(np.isin(rows[t].customer, coarse)) for t in range(end + 1 - QUARTER, end + 1)]
                good = np.all([each.quality == Quality.PROFILED for each in quarter], axis=0)
                assert good.sum() >= 0.9 * coarse.size  # some are silent
                total = np.sum([each.import_wh for each in quarter], axis=0)
                np.testing.assert_array_equal(total[good], moved[good])
                assert np.ptp([each.import_wh[good] for each in quarter], axis=0).max() <= 1
                compared += int(good.sum())
        assert compared > 500


def test_who_is_late_counts_as_missing_in_the_run_and_moves_energy_alone(hours: Path) -> None:
    """Who reads every quarter in time is not missing in it; the run's prices stand."""
    with ShardRecord.open(hours) as record:
        state = folded(record)
        for t, late in ((FIRST + 7, True), (FIRST + 13, False)):
            connected = state.connected("real_time", t, t)
            quarter = connected.customer[connected.reads_every == QUARTER]
            entries = record.journal.find(kind=Energy.kind, interval=t)
            first = Energy.concat([table for _, table in record.tables(entries) if isinstance(table, Energy)])
            missing = first.customer[first.quality == Quality.ESTIMATED].astype(np.int64)
            assert np.isin(quarter[quarter % 4 == 3], missing).all() == late
            assert np.isin(quarter[quarter % 4 != 3], missing).mean() < 0.15
        edited = {t for key in state.edits for t in _edited(record, state.edits[key])}
        assert {FIRST + 6, FIRST + 7, FIRST + 8, FIRST + 9, FIRST + 10, FIRST + 11} <= edited
        runs = [table for _, table in record.tables(record.journal.find(kind=Gates.kind, market=PRICE_RUN))]
        closed = [table for table in runs if isinstance(table, Gates) and (table.outcome == GateOutcome.CLOSED).all()]
        assert len(closed) >= INTERVALS - 8
        cleared = dict(record.tables(record.journal.find(kind=Clearings.kind, market=PRICE_RUN)))
        solved = [t for t in cleared.values() if isinstance(t, Clearings) and t.status[0] <= ClearingStatus.RELAXED]
        assert len(solved) >= len(closed)


def _edited(record: ShardRecord, entries: tuple[int, ...]) -> set[int]:
    return {int(t) for _, table in record.tables(entries) for t in table.interval}  # type: ignore[attr-defined]


def test_a_shard_of_coarse_meters_replays_and_verifies(hours: Path) -> None:
    found = rerun(hours)
    assert [check.name for check in found if not check.ok] == []
    verify_directory(hours)


def test_opened_from_a_snapshot_it_stands_where_the_fold_does(hours: Path) -> None:
    with ShardRecord.open(hours) as record, ShardRecord.open(hours, use_snapshot=False) as whole:
        assert record.kept.entry >= 0
        one, other = folded(record).meters.parts(), folded(whole).meters.parts()
        assert {name: column.tobytes() for name, column in one.items()} == {
            name: column.tobytes() for name, column in other.items()
        }
