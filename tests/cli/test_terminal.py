"""Names come from anybody; a terminal is shown none of what they may hold but text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tellegen.cli import meters, record  # noqa: F401 - commands register on import
from tellegen.cli.terminal import spelt_out
from tellegen.errors import SPACES

Tellegen = Callable[..., Any]
EVIL = "\x1b]0;pwned\x07\x1b[2J\x1b[8m\u202e\x9b2J"


@given(st.text(max_size=60))
def test_a_terminal_obeys_nothing_but_colours(text: str) -> None:
    shown = spelt_out(text)
    assert all(c.isprintable() or c in f"\n\t\x1b{SPACES}" for c in shown)
    assert shown.count("\x1b") <= text.count("\x1b[")
    shown.encode()


def test_colours_and_lines_stay() -> None:
    table = "\x1b[1;32mok\x1b[0m\tone\ntwo\x1b[38;5;8;39m\n"
    assert spelt_out(table) == table
    assert "\x1b" not in spelt_out(EVIL)


def test_a_file_s_name_is_spelt_out_in_an_error(tellegen: Tellegen, tmp_path: Path) -> None:
    file = tmp_path / EVIL
    for command in (("meters", "decode", file), ("meters", "validate", file), ("verify", file)):
        done = tellegen(*command)
        assert done.status == 2
        assert done.err.count("\n") == 1
        assert done.err.strip().isprintable()


def test_a_value_from_a_table_is_spelt_out(tellegen: Tellegen, tmp_path: Path) -> None:
    file = tmp_path / "profile.csv"
    rows = [f"4711,2026-01-15T{hour:02d}:00Z,60,{'1' if hour else EVIL}" for hour in range(24)]
    file.write_text("\n".join(["meter,end,minutes,import", *rows, ""]), encoding="utf-8")
    done = tellegen("meters", "validate", file)
    assert "\x1b" not in done.out + done.err
    assert "\u202e" not in done.out + done.err
