"""What people and programs may rely on at the command line: documents, exit statuses, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import Tellegen, matpower, refused


def test_rules_are_shown_by_day_and_compared(tellegen: Tellegen) -> None:
    shown = tellegen("rules", "show", "--at", "2016-05-14", "--json")
    assert shown.status == 0
    assert json.loads(shown.out)["effective"] == "2016-01-01"
    changes = json.loads(tellegen("rules", "diff", "2016-12-31", "2017-01-01", "--json").out)
    assert {"key": "network.withdrawal_per_kwh", "before": "0.080", "after": "0.085"} in changes
    assert tellegen("rules", "diff", "2016-05-14", "2016-05-15").out == ""
    refused(tellegen("rules", "show", "--at", "2001-01-01"), "2001-01-01", "2016-01-01")
    refused(tellegen("rules", "show", "--at", "soon"), "--at")


def test_a_benchmark_prints_the_documented_json(tellegen: Tellegen, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellegen import assess

    class Addition(assess.Benchmark):
        def measure(self, options: assess.Options, report: assess.Report) -> None:
            options.progress("adding")
            report.figures += [assess.Figure("sum", 2.0, "ms", target=3.0), assess.Figure("free", 1.0, "ms")]

    monkeypatch.setitem(assess.BENCHMARKS, "quick", Addition("one addition", "nowhere"))
    told = json.loads(tellegen("bench", "quick", "--json").out)
    assert told["figures"] == [
        {"name": "sum", "value": 2.0, "unit": "ms", "target": 3.0, "met": True},
        {"name": "free", "value": 1.0, "unit": "ms"},
    ]
    assert "one addition" in tellegen("bench", "quick").out
    assert "quick" in tellegen("bench").out
    assert "quick" in json.loads(tellegen("bench", "list", "--json").out)
    refused(tellegen("bench", "nope"), "nope", "clearing")


def test_doctor_says_what_is_installed(tellegen: Tellegen) -> None:
    told = json.loads(tellegen("doctor", "--json").out)
    assert told["parts"]["numpy"]
    assert set(told["barriers"]) == {"landlock", "seccomp"}
    assert "numpy" in tellegen("doctor").out
    assert "Landlock" in tellegen("doctor").out


def test_a_command_line_that_means_nothing_is_one_line(tellegen: Tellegen) -> None:
    refused(tellegen("frobnicate"), "frobnicate", "tellegen --help")
    refused(tellegen("clear"), "--", "tellegen clear --help")
    refused(tellegen("clear", "--netwrk", "x"), "--network")
    refused(tellegen("verify"), "directory")


def test_help_and_version_are_no_errors(tellegen: Tellegen) -> None:
    shown = tellegen("--help")
    assert shown.status == 0
    for command in ("demo", "run", "clear", "powerflow", "verify", "replay", "correct", "bench", "rules", "doctor"):
        assert command in shown.out
        assert tellegen(command, "--help").status == 0
    assert tellegen("--version").out.strip().count(".") == 2
    assert "Usage" in tellegen().out


def test_what_is_printed_as_json_is_one_document(run_directory: Path, tmp_path: Path, tellegen: Tellegen) -> None:
    """Progress, warnings and errors go to stderr; stdout holds one document and nothing else."""
    network = tmp_path / "two.m"
    network.write_text(matpower())
    for command in (
        ("verify", run_directory, "--json"),
        ("powerflow", "--network", network, "--json"),
        ("rules", "show", "--at", "2016-05-14", "--json"),
        ("doctor", "--json"),
        ("receipt", run_directory, "--entry", "3", "--json"),
    ):
        answer = tellegen(*command)
        assert answer.status == 0, command
        json.loads(answer.out)
