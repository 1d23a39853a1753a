"""Benchmark ``faults``: promises that a journal breaks when everything goes wrong; the target is none."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

from tellegen.assess.faults.flips import flip_bits
from tellegen.assess.faults.kills import kill_rounds, writer_command
from tellegen.assess.faults.promises import ContradictionError
from tellegen.assess.faults.simulation import Tally, simulate
from tellegen.assess.registry import Figure, Options, Report

_SEEDS, _KILLS = 2000, 100


def measure(options: Options, report: Report) -> None:
    """Simulated worlds, flipped bits, killed processes."""
    seeds = options.seeds or (50 if options.quick else _SEEDS)
    kills = options.kills or (3 if options.quick else _KILLS)
    tally, broken = Tally(), 0
    for seed in range(seeds):
        try:
            tally.add(simulate(seed))
        except ContradictionError as error:
            broken += 1
            report.notes.append(str(error))
        if seed % 500 == 499:
            options.progress(f"{seed + 1} simulated worlds, {tally.receipts} receipts")
    happened: dict[str, str | float] = {name.replace("_", " "): count for name, count in asdict(tally).items()}
    report.figures.append(Figure(f"promises broken in {seeds} simulated worlds", broken, "", 0.0, conditions=happened))

    options.progress("flipping bits")
    flips = flip_bits(step=97 if options.quick else 1)
    report.notes += [f"not named: {place}" for place in flips.missed[:10]]
    bits: dict[str, str | float] = dict(flips.flipped)
    report.figures.append(
        Figure(f"flipped bits of {flips.flipped.total()} not named", len(flips.missed), "", 0.0, conditions=bits)
    )

    with tempfile.TemporaryDirectory() as folder:
        run, lost = Path(folder) / "run", 0
        counts: dict[str, str | float] = {}
        try:
            killed = kill_rounds(writer_command(run), run, kills, progress=options.progress)
            counts = {"receipts": killed.receipts, "entries": killed.entries}
        except ContradictionError as error:
            lost = 1
            report.notes.append(str(error))
    report.figures.append(Figure(f"promises broken by {kills} kills of a writer", lost, "", 0.0, conditions=counts))
