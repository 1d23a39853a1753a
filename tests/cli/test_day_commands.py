"""``tellegen demo`` and ``run``: what is refused, and that nothing half-written is left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from answers import Tellegen, refused

SCENARIO = """
name = "x"
seed = 1
[feeder]
grid = "simbench:1-LV-rural1--2-sw"
[day]
date = 2016-05-14
hours = 4
"""
RULES = (Path(__file__).parents[2] / "src/tellegen/rules/rulebooks/default/2016-01-01.toml").read_text()


def fault(customer: str, start_hour: int, hours: int) -> str:
    return f'[fault]\ncustomer = "{customer}"\nstart_hour = {start_hour}\nhours = {hours}\n'


BAD_SCENARIOS = {
    "no TOML": ("name = ", ["not TOML"]),
    "an unknown key": (SCENARIO + "[plant]\nweather = 1\n", ["plant.weather"]),
    "no room for voltage": (
        SCENARIO.replace("[day]", "v_min_pu = 1.0\nv_max_pu = 1.0\n[day]"),
        ["feeder.v_min_pu", "no room"],
    ),
    "a misspelt key": (SCENARIO + "[meters]\nsilnt = 0.1\n", ["meters.silnt", "known: quarter_hour, silent"]),
    "coarse meters without rules that wait": (
        SCENARIO + "[meters]\nquarter_hour = 0.5\n",
        ["scenario.toml", "meters.quarter_hour", "longest_meter_minutes = 15"],
    ),
    "an unknown section": (SCENARIO + "[moon]\nphase = 1\n", ["moon"]),
    "a missing section": ('name = "x"\nseed = 1\n', ["feeder"]),
    "a seed that is no number": (SCENARIO.replace("seed = 1", 'seed = "one"'), ["seed"]),
    "a negative seed": (SCENARIO.replace("seed = 1", "seed = -1"), ["seed"]),
    "a share above one half": (SCENARIO + "[plant]\nmovement = 0.9\n", ["plant.movement"]),
    "a limit that is not a number": (SCENARIO.replace("[day]", "v_min_pu = nan\n[day]"), ["feeder.v_min_pu"]),
    "a time zone nobody knows": (SCENARIO + 'timezone = "Mars/Olympus"\n', ["day.timezone"]),
    "a day without profiles": (SCENARIO.replace("2016-05-14", "2016-01-03"), ["2016"]),
    "a day of another year": (SCENARIO.replace("2016-05-14", "2019-05-14"), ["2019"]),
    "an unknown feeder": (SCENARIO.replace("rural1", "rural99"), ["rural99", "SimBench"]),
    "a feeder that has no homes": (SCENARIO.replace("simbench:1-LV-rural1--2-sw", "simbench:"), ["simbench"]),
    "a fault beyond the day": (SCENARIO + fault("home-003", 3, 3), ["[fault]", "within the day"]),
    "a fault before anything is known": (SCENARIO + fault("home-003", 0, 1), ["[fault]", "an hour from its start"]),
    "a fault at nobody's meter": (SCENARIO + fault("home-999", 1, 1), ["fault.customer", "home-999"]),
    "prices that are not there": (SCENARIO + '[prices]\nfile = "none.csv"\n', ["none.csv"]),
    "rules that are not there": ('rulebook = "rules"\n' + SCENARIO, ["rules"]),
}


@pytest.fixture
def scenario(extras: None, tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        return path

    return write


def nothing_left(folder: Path) -> None:
    """No run, no part of one."""
    assert [p.name for p in folder.iterdir() if p.is_dir() and p.name not in {"rules"}] == []


@pytest.mark.parametrize("case", BAD_SCENARIOS)
def test_a_bad_scenario_is_refused_and_nothing_is_written(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path, case: str
) -> None:
    text, words = BAD_SCENARIOS[case]
    refused(tellegen("run", scenario(text), "--out", tmp_path / "run"), *words)
    nothing_left(tmp_path)


def prices_of(change: Callable[[list[list[str]]], list[list[str]]]) -> str:
    """An hourly price file of nine days, changed."""
    rows = [
        [f"2016-05-{6 + hour // 24:02d}T{hour % 24:02d}:00:00+02:00", f"{0.05 + 0.001 * (hour % 24):.4f}"]
        for hour in range(9 * 24)
    ]
    return "".join(",".join(row) + "\n" for row in change(rows))


BAD_PRICES = {
    "a gap": (lambda rows: rows[:100] + rows[103:], ["row 100", "gap"]),
    "a time twice": (lambda rows: [*rows[:50], rows[49], *rows[50:]], ["row 51", "repeats"]),
    "not a number": (lambda rows: [*rows[:9], [rows[9][0], "NaN"], *rows[10:]], ["row 10", "price 'NaN'"]),
    "a time without a zone": (lambda rows: [[rows[0][0][:19], "0.1"], *rows[1:]], ["row 1", "zone"]),
    "no time": (lambda rows: [*rows[:2], ["noon", "0.1"], *rows[3:]], ["row 3", "noon"]),
    "a column too many": (lambda rows: [[*rows[0], "1", "2"], *rows[1:]], ["row 1", "4 columns"]),
    "another year": (lambda rows: [[r[0].replace("2016", "2015"), r[1]] for r in rows], ["2016-05-14", "not covered"]),
    "nothing": (lambda rows: [], ["no rows"]),
}


@pytest.mark.parametrize("case", BAD_PRICES)
def test_a_bad_price_file_is_refused_and_nothing_is_written(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path, case: str
) -> None:
    change, words = BAD_PRICES[case]
    (tmp_path / "prices.csv").write_text(prices_of(change))
    answer = tellegen("run", scenario(SCENARIO), "--out", tmp_path / "run", "--prices", tmp_path / "prices.csv")
    refused(answer, "prices.csv", *words)
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("2016-01-01.toml", RULES.replace('"0.080"', "0.080"), ["withdrawal_per_kwh"]),
        ("2016-01-01.toml", RULES.replace("[taxes]", "[taxes]\nwindow = 3"), ["taxes", "window"]),
        ("2016-01-01.toml", RULES.replace('certify = "metrology institute"', 'certify = "auditor"'), ["roles"]),
        ("2016-13-01.toml", RULES, ["file name"]),
        ("2019-01-01.toml", RULES, ["2016-05-14", "governed by no version"]),
    ],
)
def test_bad_rules_are_refused_and_nothing_is_written(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    """law 1: a rulebook holds no float."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / name).write_text(text)
    answer = tellegen("run", scenario('rulebook = "rules"\n' + SCENARIO), "--out", tmp_path / "run")
    refused(answer, *words)
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hours", "3"),
        ("--hours", "26"),
        ("--hours", "four"),
        ("--price-day", "yesterday"),
        ("--sunshine",),
    ],
)
def test_a_bad_option_of_a_run_is_refused(tellegen: Tellegen, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused(tellegen("demo", "--out", tmp_path / "run", *arguments), arguments[0], "--help")
    nothing_left(tmp_path)


def test_a_run_never_overwrites(scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("two years of work")
    refused(tellegen("run", scenario(SCENARIO), "--out", full), "full", "not empty")
    refused(tellegen("demo", "--hours", "4", "--out", full / "thesis.txt"), "thesis.txt", "not empty")
    assert [p.name for p in full.iterdir()] == ["thesis.txt"]
    refused(tellegen("run", scenario(SCENARIO), "--out", full / ".."), "not empty")
    refused(tellegen("run", tmp_path / "none.toml", "--out", tmp_path / "run"), "none.toml")


def test_a_new_demo_replaces_the_last_one_only_once_it_is_complete(
    run_copy: Path, scenario_file: Path, tellegen: Tellegen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tellegen.simulation.scenario import read_scenario

    monkeypatch.setattr("tellegen.simulation.scenario.demo_scenario", lambda: read_scenario(scenario_file))
    folder = run_copy.parent
    monkeypatch.chdir(folder)
    last = run_copy.rename(folder / "tellegen-demo")
    refused(tellegen("demo", "--prices", "none.csv"), "none.csv")
    (last / "report.html").write_text("the last demo, looked at")
    refused(tellegen("demo", "--out", last), "not empty")
    assert tellegen("verify", last).status == 1
    answer = tellegen("demo")
    assert answer.status == 0
    assert "tellegen-demo/report.html" in " ".join(answer.out.split())
    assert [p.name for p in folder.iterdir()] == ["tellegen-demo"]
    assert tellegen("verify", last).status == 0


def test_without_the_plant_a_run_says_which_extra_is_missing(
    scenario_file: Path, tellegen: Tellegen, tmp_path: Path, extras: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dss", None)
    refused(tellegen("run", scenario_file, "--out", tmp_path / "run"), "pip install 'tellegen[plant]'")
    nothing_left(tmp_path)


def test_an_out_directory_that_cannot_be_made_is_one_line(
    scenario: Callable[[str], Path], tellegen: Tellegen, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused(tellegen("run", scenario(SCENARIO), "--out", tmp_path / "file" / "run"), "file")
