"""The benchmark of ingestion loses nothing, at a small size through the same server, load and audit."""

from __future__ import annotations

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")

from tellegen.assess import BENCHMARKS, Options, run_benchmark


def test_every_acknowledged_batch_is_on_record_as_signed() -> None:
    result = run_benchmark(BENCHMARKS, "ingestion", Options(quick=True))
    figures = {figure.name: figure for figure in result.figures}
    lost = figures["readings and bids: acknowledged and not on record as signed"]
    assert (lost.value, lost.met) == (0, True)
    assert figures["readings and bids: receipts, p99"].conditions["items"] == 2000
    assert all(figure.value > 0 for name, figure in figures.items() if "server" in name or "peer" in name)
