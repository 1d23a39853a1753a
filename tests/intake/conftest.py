"""The shard that tests of the intake share, and a copy of it for each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from intake_bench import FEEDERS, FIRST, NOW, Bench, open_intake

from tellegen.metering import DeviceCodes
from tellegen.simulation.shard import ShardKeys, build_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    return build_shard(tmp_path_factory.mktemp("shard") / "s", FEEDERS, b"intake", first_interval=FIRST)


@pytest.fixture
def bench(shard: ShardKeys, tmp_path: Path) -> Iterator[Bench]:
    path = Path(shutil.copytree(shard.path, tmp_path / "s"))
    keys, wall = replace(shard, path=path), [float(NOW)]
    codes = DeviceCodes(keys.meter_master, keys.meters_of(np.arange(1, 20)))
    made = Bench(keys, codes, wall, open_intake(path, wall))
    yield made
    made.intake.close()
