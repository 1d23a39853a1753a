"""No command puts anything on record under a clock that is far from it; a way back stands on record."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellegen.cli import shard as shard_commands
from tellegen.journal import Journal
from tellegen.journal import clock as clocks

DAY = 86_400
HEAD = "customer,device,asset,feeder,node,phases,from_interval,capacity_w,import_limit_w,export_limit_w"


@pytest.fixture
def shard(tellegen: Callable[..., Any], tmp_path: Path) -> Path:
    tellegen("registry", "init", tmp_path / "s", "--origin", "s.example/1")
    for customer in (1, 2):
        (tmp_path / f"{customer}.csv").write_text(
            f"{HEAD}\n{customer},load,{customer},F1,{customer},0,0,9000,9000,4000\n"
        )
    assert tellegen("registry", "import", tmp_path / "s", tmp_path / "1.csv").status == 0
    return tmp_path / "s"


def off_by(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now = time.time()
    monkeypatch.setattr(shard_commands, "now_s", lambda: int(now) + seconds)
    monkeypatch.setattr(clocks.RecordClock.__init__, "__kwdefaults__", _wall(now + seconds))


def _wall(now: float) -> dict[str, object]:
    return dict(clocks.RecordClock.__init__.__kwdefaults__ or {}) | {"wall": lambda: now}


@pytest.mark.parametrize(("seconds", "words"), [(3 * DAY, "ahead of"), (400 * DAY, "ahead of"), (-2 * 3600, "behind")])
def test_a_command_under_a_wrong_clock_writes_nothing(
    tellegen: Callable[..., Any], shard: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, words: str
) -> None:
    with monkeypatch.context() as context:
        off_by(context, seconds)
        answer = tellegen("registry", "import", shard, shard.with_name("2.csv"))
        assert (answer.status, answer.out) == (2, "")
        assert words in answer.err
        assert answer.err.count("\n") == 1
    assert tellegen("registry", "import", shard, shard.with_name("2.csv")).status == 0  # the clock is right again


def test_a_record_ahead_of_its_time_comes_back_by_an_entry_that_says_who_said_so(
    tellegen: Callable[..., Any], shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        off_by(context, 400 * DAY)
        assert "is right, says me" in tellegen("journal", "accept-clock", shard, "--by", "me").out
        assert tellegen("registry", "import", shard, shard.with_name("2.csv")).status == 0
    (shard.parent / "3.csv").write_text(f"{HEAD}\n3,load,3,F1,3,0,0,9000,9000,4000\n")
    assert "behind" in tellegen("registry", "import", shard, shard.with_name("3.csv")).err
    assert tellegen("journal", "accept-clock", shard, "--by", "me again").status == 0
    assert tellegen("registry", "import", shard, shard.with_name("3.csv")).status == 0
    with Journal.open(shard) as journal:
        kinds = [header.kind for header in journal.entries()]
        assert kinds[-4:] == ["clocks", "connections-2", "clocks", "connections-2"]
        assert abs(journal.entry(len(journal) - 1).known_at - time.time()) < DAY
    assert tellegen("verify", shard).status == 0
    assert "near the record anyway" in tellegen("journal", "accept-clock", shard, "--by", "me").out
