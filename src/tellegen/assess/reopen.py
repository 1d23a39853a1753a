"""What opening a shard costs: bytes read and seconds until its intake has a batch and its market a gate.

The history comes from a bulk writer (`assess.reopen_history`). The shard is opened when the next snapshots are due:
first the intake, which takes the readings of a feeder and makes them final; then the market, which clears the next gate
on every feeder. Each opening is a process of its own, so its seconds count from its start, modules included; its bytes
are what it asked of the operating system from then on (``rchar`` of ``/proc/self/io``), which holds what lies in the
page cache too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import numpy as np

from tellegen.assess.registry import Figure, Options, Report
from tellegen.assess.reopen_history import FIRST, OPEN_INTERVALS, History, length_of
from tellegen.errors import InputError, TellegenError
from tellegen.grid import best_engine
from tellegen.intake.intake import Intake
from tellegen.intake.sent import SentReadings
from tellegen.journal.clock import TRIALS, RecordClock
from tellegen.metering import DeviceCodes
from tellegen.operations.market import Market
from tellegen.records import ClearingStatus
from tellegen.records.market import REAL_TIME
from tellegen.registry import METER_PURPOSE
from tellegen.simulation.batches import readings_batch, readings_of
from tellegen.simulation.shard import ShardKeys
from tellegen.units import MARKET_INTERVAL_S

SECONDS_MAX, BYTES_RATIO_MAX = 15.0, 1.1
METERS, QUICK_METERS, LEAST_METERS = 100_000, 2_000, 200


class Opened(TypedDict):
    """What the process of an opening prints.

    Seconds since its start until the intake is open and has its batch, until the market is open and has cleared its
    gate; bytes read till then; entries of both journals, and how many of each a snapshot had folded.
    """

    intake_s: float
    batch_s: float
    market_s: float
    gate_s: float
    bytes_read: int
    entries: tuple[int, int]
    folded: tuple[int, int]
    feeders: int


def bytes_read() -> int:
    """What this process has read so far, files in the page cache included.

    Raises
    ------
    InputError : the system does not say.
    """
    try:
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except OSError:
        raise InputError("/proc/self/io", "rchar", "cannot be read; this is measured on Linux") from None
    return int(counts["rchar"])


def open_and_go_on(path: Path, intervals: int, started: float, *, seed: bytes, processes: int = 0) -> Opened:
    """Open the intake of a shard and let it take a batch; open its market and let it close a gate.

    Parameters
    ----------
    intervals : of its history. started : `time.time` at the start of the process. seed : of the shard's keys.
    processes : that clear.
    """
    engine = best_engine()
    before, now = bytes_read(), (FIRST + intervals) * MARKET_INTERVAL_S + 30

    def since() -> float:
        return time.time() - started

    def clock(newest: int) -> RecordClock:
        return RecordClock(wall=lambda: now, elapsed=lambda: now, not_before=newest, bounds=TRIALS)

    intake = Intake.open(path, clock=clock)
    intake_s = since()
    keys = ShardKeys(path, intake.journal.verifier.vkey, intake.vault.purpose_key(METER_PURPOSE), seed)
    customers = np.array(intake.vault.customers[:LEAST_METERS], dtype=np.int32)
    rows, _ = intake.directory.connections(customers, FIRST + intervals)
    feeder = rows.feeder[0]
    customers = rows.customer[rows.feeder == feeder]
    codes = DeviceCodes(keys.meter_master, keys.meters_of(customers))
    sent = readings_of(keys, codes, customers, FIRST + intervals - 1, intervals + 1)
    batch = readings_batch(keys, sent, bytes(feeder).decode(), FIRST + intervals - 1, 1 << 40)
    taken = intake.take(batch.statement, batch.signature, lambda: SentReadings.from_bytes(batch.body))
    intake.commit()
    batch_s = since()
    if taken.accepted != customers.size or intake.notices:
        raise InputError(path, "intake", f"took {taken.accepted} of {customers.size} rows; {intake.notices}")
    with Market.open(path, processes=processes, engine=engine) as market:
        market_s = since()
        closed = market.close_gate(REAL_TIME, FIRST + intervals, now)
        gate_s, read = since(), bytes_read() - before
        kept, journal = market.record.kept, market.record.journal
        if (closed.status == ClearingStatus.ADMINISTRATIVE).any() or not closed.orders or kept.entry < 0:
            raise InputError(path, "market", f"did not clear: {closed}; {kept.entry} {kept.problems}")
        opened = Opened(
            intake_s=intake_s,
            batch_s=batch_s,
            market_s=market_s,
            gate_s=gate_s,
            bytes_read=read,
            entries=(taken.entries[0], len(journal)),
            folded=(intake.folded_from, kept.market_size),
            feeders=len(market.record.feeders),
        )
    intake.close()
    return opened


def _opened(history: History, intervals: int, processes: int) -> Opened:
    """The same in a process of its own."""
    script = (
        "import sys, time; started = time.time(); import json; from pathlib import Path; "
        "from tellegen.assess.reopen import open_and_go_on; "
        "path, intervals, seed, processes = sys.argv[1:]; "
        "print(json.dumps(open_and_go_on(Path(path), int(intervals), started, seed=bytes.fromhex(seed), "
        "processes=int(processes))))"
    )
    path, seed = str(history.keys.path), history.keys.seed.hex()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, path, str(intervals), seed, str(processes)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TellegenError(f"the opening of {path} failed: {done.stderr.strip().splitlines()[-1:]}")
    found: Opened = json.loads(done.stdout)
    return found


@contextmanager
def _history(options: Options, meters: int, intervals: int) -> Iterator[History]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.progress(f"writing {intervals} intervals of {meters:,} meters")
        history = History(Path(folder) / "shard", meters)
        history.write(intervals)
        yield history


def measure(options: Options, report: Report) -> None:
    """Bytes after 2 and after 30 closed days, seconds with 100,000 meters; with ``--meters`` seconds alone."""
    if not options.meters:
        _measure_bytes(options, report)
    _measure_seconds(options, report, options.meters or (QUICK_METERS if options.quick else METERS))


def _measure_bytes(options: Options, report: Report) -> None:
    meters, days = (LEAST_METERS, (1, 3)) if options.quick else (1_000, (2, 30))
    read = {}
    for count in days:
        length = length_of(count)
        with _history(options, meters, length) as history:
            options.progress(f"opening it {count} days later")
            opened = _opened(history, length, 0)
        read[count] = opened["bytes_read"]
        conditions: dict[str, str | float] = {
            "history": "bulk writer",
            "entries of the intake": opened["entries"][0],
            "of the market": opened["entries"][1],
            "of the intake in the snapshot": opened["folded"][0],
            "of the market in the snapshot": opened["folded"][1],
        }
        report.figures.append(
            Figure(f"bytes read, {meters:,} meters, {count} days", read[count] / 1e6, "MB", conditions=conditions)
        )
    short, long = days
    ratio = read[long] / read[short]
    report.figures.append(Figure(f"bytes after {long} days to those after {short}", ratio, "1", BYTES_RATIO_MAX))


def _measure_seconds(options: Options, report: Report, meters: int) -> None:
    processes = min(os.cpu_count() or 1, 2)
    with _history(options, meters, OPEN_INTERVALS) as history:
        options.progress(f"opening {meters:,} meters")
        opened = _opened(history, OPEN_INTERVALS, processes)
    conditions: dict[str, str | float] = {
        "history": "bulk writer",
        "feeders": opened["feeders"],
        "processes that clear": processes,
        "MB read": opened["bytes_read"] / 1e6,
    }
    ready = f"until the market of {meters:,} meters has cleared its first gate"
    target = SECONDS_MAX if meters == METERS else None
    report.figures += [
        Figure(ready, opened["gate_s"], "s", target, conditions=conditions),
        Figure("of that, until the intake is open", opened["intake_s"], "s"),
        Figure("until it has its first batch", opened["batch_s"], "s"),
        Figure("until the market is open", opened["market_s"], "s"),
    ]
