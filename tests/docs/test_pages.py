"""The pages under docs/ are true: their examples run and print what the pages say, and their links lead somewhere."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tellegen.cli import (  # noqa: F401 - commands register on import
    app,
    archive,
    bench,
    day,
    doctor,
    grid,
    meters,
    network,
    record,
    registry,
    rules,
    taps,
)

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FILE = re.compile(r"^File `([\w.-]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(
    r"^```console\n\$ tellegen ((?:clear|powerflow|network|rules|settle-taps|meters) [^\n]*)\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)")
WIDTH = "100"
"""Terminal columns for which the pages were written."""


@pytest.fixture
def page_files(request, tmp_path, monkeypatch):
    """A folder with the files that a page tells its reader to save; the working directory meanwhile."""
    text = request.param.read_text(encoding="utf-8")
    if ".dss`:" in text:
        pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    if "import pictures" in text:
        pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `pictures`)")
    for name, content in FILE.findall(text):
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", WIDTH)
    return request.param


def _ids(path: Path) -> str:
    return path.stem


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page_files", PAGES, ids=_ids, indirect=True)
def test_python_examples_of_a_page_run(page_files):
    failures, _ = doctest.testfile(str(page_files), module_relative=False, encoding="utf-8")
    assert failures == 0


@pytest.mark.parametrize("page_files", PAGES, ids=_ids, indirect=True)
def test_commands_print_what_a_page_says(page_files):
    for command, expected in CONSOLE.findall(page_files.read_text(encoding="utf-8")):
        result = CliRunner().invoke(app, shlex.split(command))
        printed = "".join(f"{line.rstrip()}\n" for line in result.stdout.rstrip().splitlines())
        # a line of three dots stands for any lines that are of no use to the reader
        wanted = re.escape(expected.rstrip() + "\n").replace(re.escape("...\n"), "(?:.*\n)*")
        assert result.exit_code == 0, command
        assert re.fullmatch(wanted, printed), f"{command} prints\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_links_of_a_page_lead_somewhere(page):
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = DOCS / name if name else page
        assert target.is_file(), name
        assert not anchor or anchor in _anchors(target), f"{name}#{anchor}"


def test_every_command_is_listed():
    """The table of commands in scenarios.md names every command there is."""
    listed = (DOCS / "scenarios.md").read_text(encoding="utf-8")
    names = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert names
    assert not {name for name in names if f"`tellegen {name}" not in listed}
