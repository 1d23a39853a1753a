"""Benchmark ``storage``: bytes at rest and CPU of a day of 5-minute readings and bids, on the path they really take.

Sealed live, journaled, compacted, read back and compared. Bytes of files are those on disk; what codes and signatures
take is known to the byte (16 and 64 each, stored as they are), so values alone are the file less them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from tellegen.assess.register_day import INTERVALS, register_day
from tellegen.assess.registry import Figure, Options, Report
from tellegen.journal import Journal
from tellegen.operations.compaction import compact
from tellegen.privacy import Archive, Vault
from tellegen.records import Orders, Submissions, Table
from tellegen.units import MARKET_INTERVAL_S

DAY = 20_000
SECONDS_PER_DAY = 86_400
VALUES = ("counter", "import_wh", "export_wh", "reactive_varh", "voltage_mv")
TARGET_BYTES_PER_VALUE = 1.2
CODE_BYTES, SIGNATURE_BYTES = 16, 64
FEEDER = "F1"
COMMITTED = 12
"""Intervals to a commit: disk syncs are not what is measured here."""


def measure(options: Options, report: Report) -> None:
    """A day of a feeder, from sealing to reading back."""
    customers = 40 if options.quick else 1000
    draw = np.random.default_rng(1)
    days: dict[str, list[Table]] = {"readings": list(register_day(customers)), "orders": [], "submissions": []}
    for _ in range(INTERVALS):
        orders, submissions = _bids(customers, draw)
        days["orders"].append(orders)
        days["submissions"].append(submissions)
    reads = customers * INTERVALS
    rows = sum(len(table) for tables in days.values() for table in tables)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with Vault.create(directory / "vault", range(1, customers + 1)) as vault:
            options.progress(f"sealing {rows} rows of {customers} customers")
            with Journal.create(directory, "bench.example/log", vault.purpose_key("operator signature")) as journal:
                seal_s = _record(journal, vault, days)
            live_bytes = sum(path.stat().st_size for path in (directory / "journal" / "payloads").iterdir())
            options.progress("compacting")
            start = time.process_time()
            compact(directory, vault, known_at=(DAY + 1) * SECONDS_PER_DAY, until_day=DAY)
            compact_s = time.process_time() - start
            archive = Archive(directory, vault)
            options.progress("reading back")
            start = time.process_time()
            for kind, tables in days.items():
                if not archive.read(kind, FEEDER, DAY).equals(type(tables[0]).concat(tables)):
                    raise AssertionError(f"{kind} do not come back as they were sealed")
            read_s = time.process_time() - start
            size = {kind: (directory / archive.files(kind, FEEDER, DAY)[0]).stat().st_size for kind in days}
            left = sum(path.stat().st_size for path in (directory / "journal").rglob("*") if path.is_file())
    values = (size["readings"] - CODE_BYTES * reads) / (len(VALUES) * reads)
    bids = size["orders"] + size["submissions"]
    report.figures += [
        Figure(
            "readings at rest, values only (five registers a read)",
            values,
            "bytes/value",
            TARGET_BYTES_PER_VALUE,
            conditions={"customers": customers, "reads": reads},
        ),
        Figure("a read at rest, values only", values * len(VALUES), "bytes/read"),
        Figure("a read at rest with its code", size["readings"] / reads, "bytes/read"),
        Figure("a read with code and a signature of its own", size["readings"] / reads + SIGNATURE_BYTES, "bytes/read"),
        Figure("a bid of two steps at rest with its signature", bids / reads, "bytes/bid"),
        Figure("the same without the signature", bids / reads - SIGNATURE_BYTES, "bytes/bid"),
        Figure("what stays in the journal, log and stubs", left / rows, "bytes/row"),
        Figure("live, before compaction", live_bytes / rows, "bytes/row"),
        Figure("sealing live", 1e6 * seal_s / rows, "us CPU/row"),
        Figure("compaction, verified", 1e6 * compact_s / rows, "us CPU/row"),
        Figure("reading back", 1e6 * read_s / rows, "us CPU/row"),
    ]
    report.notes += [
        "registers are synthetic (assess/register_day.py): no household was measured; codes and signatures are random "
        "bytes, which no compression tells from real ones, and are not checked here",
        "a signature of its own for each read is arithmetic: 64 bytes that nothing compresses",
    ]


def _record(journal: Journal, vault: Vault, days: dict[str, list[Table]]) -> float:
    """Seal interval by interval; CPU seconds of it."""
    spent = 0.0
    for interval in range(INTERVALS):
        known_at = DAY * SECONDS_PER_DAY + interval * MARKET_INTERVAL_S
        start = time.process_time()
        batches = [
            vault.seal_live(
                tables[interval], feeder=FEEDER, interval=interval, intervals=1, source="head-end", known_at=known_at
            )
            for tables in days.values()
        ]
        spent += time.process_time() - start
        for batch in batches:
            journal.append(batch)
        if interval % COMMITTED == COMMITTED - 1:
            journal.commit(known_at)
    return spent


def _bids(customers: int, draw: np.random.Generator) -> tuple[Orders, Submissions]:
    """Two steps of demand a customer, signed; every number new."""
    whole = 2 * customers
    number = np.repeat(np.arange(1, customers + 1, dtype=np.int32), 2)
    nothing = np.zeros(whole, dtype=np.int64)
    orders = Orders(
        customer=number,
        period=nothing.astype(np.uint8),
        device=nothing.astype(np.uint8),
        node=number,
        product=nothing.astype(np.uint8),
        side=np.ones(whole, dtype=np.int8),
        price_taker=nothing.astype(np.uint8),
        price_micros=draw.integers(50_000, 400_000, whole),
        quantity_w=draw.integers(0, 6_000, whole),
        var_per_kw=nothing.astype(np.int32),
    )
    submissions = Submissions(
        customer=number[::2],
        order_rows=np.full(customers, 2, dtype=np.int32),
        sequence=draw.integers(0, 2**40, customers),
        signature=np.frombuffer(draw.bytes(SIGNATURE_BYTES * customers), dtype="V64"),
    )
    return orders, submissions
