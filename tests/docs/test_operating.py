"""What docs/operating.md tells a newcomer to do ends in the bill that it shows."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellegen.cli import operate

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
VERIFY = (PAGE.parent / "verify.md").read_text(encoding="utf-8")
WRITTEN_AT = 1_772_445_600.0  # 2026-03-02 10:00 UTC


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_first_shard_goes_from_a_network_file_through_two_closes_to_its_bills(
    tellegen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(operate.time, "time", lambda: WRITTEN_AT)
    (network,), (customers, _) = blocks("matlab"), blocks("csv")
    (tmp_path / "street.m").write_text(network)
    (tmp_path / "customers.csv").write_text(customers)
    prices, trial = blocks("python")
    (tmp_path / "make_prices.py").write_text(prices)
    (tmp_path / "trial.py").write_text(trial)
    runpy.run_path("make_prices.py")
    founded, played, _, *publishing = (block.partition("\n") for block in blocks("console"))
    answer = tellegen(*founded[0].removeprefix("$ tellegen ").split())
    assert (answer.status, answer.out, answer.err) == (0, founded[2], "")
    runpy.run_path("trial.py")
    assert capsys.readouterr().out == played[2]
    monkeypatch.setenv("COLUMNS", "100")
    shown = re.search(r"^```console\n(\$ tellegen verify north .*?)^```", VERIFY, re.DOTALL | re.MULTILINE)
    assert shown is not None
    for command, _, expected in (shown[1].partition("\n"), *publishing):
        answer = tellegen(*command.removeprefix("$ tellegen ").split())
        said = "".join(f"{line.rstrip()}\n" for line in answer.out.splitlines())
        wanted = re.escape(expected).replace(re.escape("...\n"), "(?:.*\n)*").replace(re.escape("..."), "[^\n]*")
        assert re.fullmatch(wanted, said), f"{command} prints\n{said}"
        assert answer.status == 0
