"""Benchmark ``record``: what it costs to make readings final, and to verify them from outside."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from tellegen.assess.registry import Figure, Options, Report, median_figure
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import Readings
from tellegen.verify import verify_directory


def measure(options: Options, report: Report) -> None:
    """Seal, append and commit batches of readings; verify the directory."""
    customers, batches = 120, 24 if options.quick else 288
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        vault = Vault.create(directory / "vault", range(customers + 1), b"benchmark")
        journal = Journal.create(directory, "bench.example/log", bytes(32))
        rng = np.random.default_rng(1)
        number = np.arange(customers + 1)

        def one(k: int) -> None:
            table = Readings(
                customer=number.astype(np.int32),
                meter=number,
                counter=np.full(customers + 1, k),
                import_wh=rng.integers(0, 10**7, customers + 1),
                export_wh=number,
                reactive_varh=number,
                voltage_mv=number,
                tag=np.zeros(customers + 1, dtype="V16"),
            )
            journal.append(vault.seal(table, feeder="f", interval=k, intervals=1, source="bench", known_at=300 * k))
            journal.commit(300 * k)

        options.progress(f"sealing {batches} batches")
        seal = []
        for k in range(batches):
            start = time.perf_counter()
            one(k)
            seal.append(1000.0 * (time.perf_counter() - start))
        options.progress("verifying them")
        check = []
        for _ in range(3):
            start = time.perf_counter()
            verify_directory(directory)
            check.append(1000.0 * (time.perf_counter() - start))
        journal.close()
        vault.close()
    sealed = median_figure(f"seal, append, fsync and sign {customers + 1} readings", seal, "ms")
    report.figures += [
        sealed,
        Figure("rows made final per second", 1000.0 * (customers + 1) / sealed.value, "rows/s"),
        median_figure(f"verify {batches} batches from outside", check, "ms"),
    ]
