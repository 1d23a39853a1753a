"""A scenario in which some homes are read every quarter of an hour, and some never."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from playing import quarter_hours

from tellegen.errors import InputError
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.records import Energy, Quality, ValidationRule
from tellegen.simulation.play import simulate_day
from tellegen.simulation.scenario import read_scenario
from tellegen.simulation.setup import QUARTER_HOUR, prepare
from tellegen.verify import verify_directory

METERS = "\n[meters]\nquarter_hour = 0.4\nsilent = 0.1\n"


def with_meters(short_day: Path, folder: Path, *, rules: bool) -> Path:
    """The short day, shorter, with such meters and no fault."""
    shutil.copy(short_day.parent / "prices.csv", folder)
    text = short_day.read_text().replace("hours = 4", "hours = 2").split("[fault]")[0] + METERS
    if rules:
        (folder / "rules").mkdir()
        for version in quarter_hours().versions:
            (folder / "rules" / version.name).write_bytes(version.content)
        text = 'rulebook = "rules"\n' + text
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


def test_meters_that_nobody_waits_for_are_named(extras: None, scenario_file: Path, tmp_path: Path) -> None:
    scenario = read_scenario(with_meters(scenario_file, tmp_path, rules=False))
    with pytest.raises(InputError, match=r"meters\.quarter_hour.* longest_meter_minutes = 15 or more"):
        prepare(scenario)


def test_coarse_and_silent_homes_settle_replay_and_verify(extras: None, scenario_file: Path, tmp_path: Path) -> None:
    path = with_meters(scenario_file, tmp_path, rules=True)
    setup = prepare(read_scenario(path))
    coarse = np.flatnonzero((setup.reads_every == QUARTER_HOUR) & ~setup.silent) + 1
    fine = np.flatnonzero((setup.reads_every == 1) & ~setup.silent) + 1
    silent = np.flatnonzero(setup.silent) + 1
    assert min(coarse.size, fine.size, silent.size) > 0
    run = tmp_path / "run"
    simulate_day(read_scenario(path), run, lambda stage, done, total: None)
    with ShardRecord.open(run) as record:
        entries = record.journal.find(kind=Energy.kind, interval=setup.first + 7)
        energy = Energy.concat([table for _, table in record.tables(entries) if isinstance(table, Energy)])
    energy = energy.take(energy.rule != ValidationRule.ZERO)  # homes that stand still for longer than they ever did
    for customers, quality in ((coarse, Quality.PROFILED), (fine, Quality.MEASURED), (silent, Quality.ESTIMATED)):
        assert set(energy.quality[np.isin(energy.customer, customers)].tolist()) == {quality}
    assert [check.name for check in rerun(run) if not check.ok] == []
    assert [check.name for check in verify_directory(run).checks if not check.ok] == []
