"""What the documents tell a newcomer to type is what the program understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

from tellegen.cli import app, bench, day, doctor, grid, record, rules, serve, taps  # noqa: F401 - commands register on import

PROJECT = Path(__file__).parents[1]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("**/*.md"))]
ENDS = {"|", ">", ">>", "<", "&&", ";", "2>", "&"}
CHEAP = {("doctor",), ("rules", "show"), ("rules", "diff"), ("bench", "list"), ("bench",)}


def commands(text: str) -> Iterator[tuple[str, ...]]:
    """Arguments of every ``$ tellegen ...`` line in the console blocks of a document."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"\$ (\S*/)?tellegen( |$)", line):
                continue
            words = shlex.shlex(line.removeprefix("$ "), posix=True)
            words.whitespace_split, words.commenters = True, "#"
            yield tuple(takewhile(lambda word: word not in ENDS, words))[1:]


TYPED = [
    pytest.param(arguments, id=f"{path.name}: {' '.join(arguments)}")
    for path in DOCUMENTS
    if path.is_file()
    for arguments in commands(path.read_text(encoding="utf-8"))
]


def parse(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the commands that a line calls; raises for an option or argument that there is not."""
    command: Any = typer.main.get_command(app)
    names: list[str] = []
    rest = list(arguments)
    while True:
        # The root's own switches (--version, --help) act while they are parsed, so they are left out.
        context = command.make_context(
            command.name or "tellegen", [a for a in rest if a not in {"--help", "--version"}], resilient_parsing=False
        )
        rest = [*getattr(context, "protected_args", getattr(context, "_protected_args", [])), *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return tuple(names)
        name, command, rest = command.resolve_command(context, rest)
        names.append(name)


@pytest.mark.parametrize("arguments", TYPED)
def test_a_documented_command_line_is_understood(arguments: tuple[str, ...]) -> None:
    if {"--help", "--version"}.isdisjoint(arguments):
        assert parse(arguments)


@pytest.mark.parametrize("arguments", [p for p in TYPED if tuple(p.values[0][:2]) in CHEAP])
def test_a_cheap_documented_command_runs(
    arguments: tuple[str, ...], tellegen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tellegen(*arguments).status == 0


def test_a_command_line_that_nobody_understands_is_found() -> None:
    """The test above can fail."""
    text = (
        "```console\n$ tellegen clear --network a.m \\\n    --orders b.csv --json | head\n$ tellegen fly\n$ ls\n```\n"
    )
    understood, nonsense = commands(text)
    assert parse(understood) == ("clear",)
    assert parse(("rules", "show", "--at", "2016-05-14")) == ("rules", "show")
    with pytest.raises(Exception, match="No such command"):
        parse(nonsense)
    with pytest.raises(Exception, match="No such option"):
        parse(("clear", "--network", "a.m", "--wind", "3"))
