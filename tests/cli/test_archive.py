"""``tellegen archive`` over a small shard."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tellegen.cli import main
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import AllocationKeys

DAY = 20_000


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    table = AllocationKeys(customer=np.array([1, 2]), weight_wh=np.array([500, 700]))
    with (
        Vault.create(tmp_path / "vault", [1, 2]) as vault,
        Journal.create(tmp_path, "shard.example/1", vault.purpose_key("intake")) as journal,
    ):
        batch = vault.seal_live(table, feeder="F1", interval=0, intervals=288, source="dso", known_at=DAY * 86_400)
        journal.append(batch)
        journal.commit(DAY * 86_400)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tellegen", "archive", *map(str, words)])
    monkeypatch.setattr("time.time", lambda: DAY * 86_400 + 130_000.0)  # a clock far ahead of the record is asked about
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return int(str(stop.value.code)), out, err


def test_a_day_is_compacted_shown_read_and_erased(
    shard: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = told(capsys, monkeypatch, "compact", shard, "--day", "2024-10-03")
    assert (status, out) == (0, "nothing to compact up to 2024-10-03\n")
    status, out, _ = told(capsys, monkeypatch, "compact", shard, "--json")
    done = json.loads(out)
    assert (done["epochs"], done["files"], done["rows"]) == (1, 1, 2)
    status, out, _ = told(capsys, monkeypatch, "show", shard, "--json")
    (file,) = json.loads(out)["files"]
    assert (file["file"], file["customers"]) == ("archive/keys/F1/2024-10-04.1.parquet", 2)
    where = ("--kind", "keys", "--feeder", "F1", "--day", "2024-10-04")
    status, out, _ = told(capsys, monkeypatch, "read", shard, *where, "--customer", 2)
    assert out == "customer,weight_wh\n2,700\n"
    status, out, _ = told(capsys, monkeypatch, "erase", shard, "--customer", 1, "--yes")
    assert out.splitlines()[0] == "1: key destroyed; 1 rows on record can no longer be read by anybody"
    status, out, _ = told(capsys, monkeypatch, "read", shard, *where, "--json")
    assert json.loads(out)["rows"] == [{"customer": 2, "weight_wh": 700}]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("compact", "--day", "2999-01-01"), "has not ended"),
        (("compact", "--day", "soon"), "is no day"),
        (("read", "--kind", "nothing", "--feeder", "F1", "--day", "2024-10-04"), "is none of"),
        (("read", "--kind", "keys", "--feeder", "F1", "--day", "2024-10-04"), "has no keys of 'F1'"),
        (("erase", "--customer", "9", "--yes"), "has no key"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    shard: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    problem: str,
) -> None:
    status, _, err = told(capsys, monkeypatch, words[0], shard, *words[1:])
    assert status == 2
    assert problem in err
    assert len(err.splitlines()) == 1
