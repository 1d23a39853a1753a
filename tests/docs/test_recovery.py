"""What docs/recovery.md tells an operator to do, done from start to end: each command, and what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "recovery.md").read_text(encoding="utf-8")
KEY = re.compile(r"\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}")
REFUSED = "nothing is signed"


def test_the_page_plays_from_the_first_batch_over_a_loss_to_a_successor(
    tellegen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, content in re.findall(r"^File `([\w.]+)`:\n\n```csv\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(content)
    played = 0
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        for line, shown in re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", block, re.MULTILINE):
            command, _, file = line.partition(" > ")
            if not command.startswith("tellegen "):
                subprocess.run(command, shell=True, check=True)
                continue
            answer = tellegen(*shlex.split(command)[1:])
            told = KEY.sub("+KEY", answer.err if REFUSED in shown else answer.out).replace(f"{tmp_path}/", "")
            assert answer.status == (2 if REFUSED in shown else 0), f"{line}: {answer.err or answer.out}"
            if file:
                (tmp_path / file).write_text(answer.out)
            elif shown:
                said = "".join(f"{each.rstrip()}\n" for each in told.splitlines())
                wanted = re.escape(shown).replace(re.escape("...\n"), "(?:.*\n)*")
                assert re.fullmatch(wanted, said), f"{line} prints\n{said}"
            played += 1
    assert played == 15
