"""What corrections know of days that are final: all that was believed of them, and nothing that came later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shards import FIRST, FORGOTTEN, HELD_BACK

from tellegen.operations.corrections import OnRecord, believed
from tellegen.operations.record import ShardRecord
from tellegen.operations.writer import folded
from tellegen.records import Quality, Unsettled, UnsettledReason


def test_what_was_edited_of_a_day_is_believed_when_it_is_final(shard_directory: Path) -> None:
    """A meter's state may begin on such a day, long after."""
    with ShardRecord.open(shard_directory) as record:
        state = folded(record)
        assert state.is_final(FIRST)
        edited = 0
        for k in range(len(record.feeders)):
            for interval in HELD_BACK:
                rows, version = believed(record, state, k, interval)
                late = rows.customer % 40 == 3
                assert (version[late] > 0).all()
                assert (rows.quality[late] == Quality.MEASURED).all()
                edited += int(late.sum())
        assert edited > 0


def test_a_reading_that_came_too_late_counts_for_nothing(shard_directory: Path) -> None:
    """It is named on record, and no fold that passes its interval takes it in."""
    with ShardRecord.open(shard_directory) as record:
        state, size = folded(record), len(record.intake)
        named = [record.table(entry, Unsettled) for entry in record.journal.find(kind=Unsettled.kind)]
        rows = Unsettled.concat(named)
        assert set(rows.reason.tolist()) == {UnsettledReason.FINAL_DAY}
        sent = record.readings(FORGOTTEN, size)
        forgotten = sent.customer[sent.customer % 40 == 3].astype(np.int64)
        assert forgotten.size == len(rows)
        known = OnRecord(record, state, size, record.past(), forgotten)
        for interval in range(FORGOTTEN - 1, FORGOTTEN + 2):
            readings, _ = known.readings(forgotten, np.full(forgotten.size, interval))
            assert len(readings) == (0 if interval == FORGOTTEN else forgotten.size)


def test_a_reading_that_a_run_is_about_to_name_counts_for_nothing_in_that_run(shard_directory: Path) -> None:
    """The memory of a meter may reach over the end of a final day: what was read there is no base of what follows."""
    with ShardRecord.open(shard_directory) as record:
        state, size, interval = folded(record), len(record.intake), FORGOTTEN + 1
        assert state.is_final(state.day_range(interval).start)
        counted = record.submitted.readings(interval, size)
        naming = Unsettled(
            entry=counted.entry,
            row=counted.row,
            reason=np.full(counted.entry.size, UnsettledReason.FINAL_DAY, dtype=np.uint8),
        )
        customer = counted.readings.customer.astype(np.int64)
        asked = customer, np.full(customer.size, interval)
        assert len(OnRecord(record, state, size, record.past(), customer).readings(*asked)[0]) > 0
        assert len(OnRecord(record, state, size, record.past(), customer, naming).readings(*asked)[0]) == 0
