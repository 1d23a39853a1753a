"""Opening intake and market reads what came after their newest snapshots, however long the history is."""

import time
from pathlib import Path

from tellegen.assess.reopen import LEAST_METERS, open_and_go_on
from tellegen.assess.reopen_history import OPEN_INTERVALS, SNAPSHOT_EVERY, History, length_of
from tellegen.journal.stretch import STRETCH_HEIGHT


def test_an_opening_reads_no_more_of_a_long_history(tmp_path: Path) -> None:
    short, long = OPEN_INTERVALS, length_of(1)
    read, frame = {}, 0
    for intervals in (short, long):
        history = History(tmp_path / str(intervals), LEAST_METERS)
        history.write(intervals)
        opened = open_and_go_on(history.keys.path, intervals, time.time(), seed=history.keys.seed)
        (intake, market), (intake_folded, market_folded) = opened["entries"], opened["folded"]
        # readings, orders and bids of a feeder an interval; the snapshot's own entry, and the tick at the end
        assert intake - intake_folded == 3 * SNAPSHOT_EVERY + 2
        assert market - market_folded < 11 * (SNAPSHOT_EVERY + 1)
        read[intervals] = opened["bytes_read"]
        logs = [p for p in history.keys.path.glob("**/log/*.seg")]
        frame = sum(p.stat().st_size for p in logs) // (intake + market)
    # how much of the logs lies behind the index depends on where they end: less than a stretch, with heads of payloads
    assert read[long] - read[short] < 2 * (frame + 512) << STRETCH_HEIGHT
