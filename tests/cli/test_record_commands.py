"""What reads a record (``verify``, ``replay``, ``correct``, ``erase``, ``receipt``): documents, statuses, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from answers import Tellegen, refused

from tellegen.journal import Journal


def test_verify_prints_the_documented_json(run_directory: Path, tellegen: Tellegen) -> None:
    told = json.loads(tellegen("verify", run_directory, "--json").out)
    assert set(told) == {"ok", "checks", "broken", "not_checked"}
    assert all(set(check) == {"name", "ok", "count", "detail"} for check in told["checks"])
    people = tellegen("verify", run_directory)
    assert people.status == 0
    assert "the record verifies" in people.out


def test_a_run_is_the_directory_the_contract_names(run_directory: Path) -> None:
    for name in ("journal", "books.sqlite", "summary.json", "report.html"):
        assert (run_directory / name).exists(), name
    for name in ("prices", "awards", "readings", "postings", "statements"):
        assert (run_directory / "tables" / f"{name}.parquet").is_file(), name


@pytest.mark.parametrize("command", ["verify", "replay", "receipt", "erase", "correct", "publish"])
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "hollow"])
def test_a_directory_that_is_no_run_is_refused(tellegen: Tellegen, tmp_path: Path, command: str, kind: str) -> None:
    place = tmp_path / "run"
    if kind == "file":
        place.write_text("")
    elif kind != "missing":
        place.mkdir()
    if kind == "hollow":
        (place / "journal").mkdir()
    more = {
        "receipt": ("--entry", "0"),
        "erase": ("--customer", "home-001", "--yes"),
        "correct": ("--file", tmp_path / "c.toml"),
    }
    (tmp_path / "c.toml").write_text(CORRECTION)
    answer = tellegen(command, place, *more.get(command, ()))
    if (command, kind) == ("verify", "hollow"):
        assert answer.status == 1
    else:
        refused(answer, str(place))


CORRECTION = """
customer = "home-005"
reason = "read again"
known_at = 2016-06-01T08:00:00Z
first_interval = 2016-05-13T23:00:00Z
import_wh = [10, 20]
export_wh = [0, 0]
reactive_varh = [0, 0]
"""
CORRECTED = 4_877_268
"""The interval that it is about."""
BAD_CORRECTIONS = {
    "no TOML": ("customer", ["not TOML"]),
    "an unknown key": (CORRECTION + "amount = 3\n", ["amount"]),
    "a key too few": (CORRECTION.replace('reason = "read again"', ""), ["reason"]),
    "nobody": (CORRECTION.replace("home-005", "home-999"), ["home-999", "not enrolled"]),
    "no zone": (CORRECTION.replace("08:00:00Z", "08:00:00"), ["known_at", "time zone"]),
    "between two intervals": (CORRECTION.replace("23:00:00Z", "23:01:00Z"), ["first_interval"]),
    "another day": (CORRECTION.replace("2016-05-13T", "2016-04-13T"), ["first_interval", "not closed here"]),
    "a register that runs backwards": (CORRECTION.replace("[10, 20]", "[20, 10]"), ["import_wh", "backwards"]),
    "lists of unequal length": (CORRECTION.replace("[10, 20]", "[10, 20, 30]"), ["registers"]),
    "a float": (CORRECTION.replace("[10, 20]", "[10, 20.5]"), ["import_wh"]),
    "a jump no fuse lets through": (CORRECTION.replace("[10, 20]", "[0, 9000000000]"), []),
    "registers beyond all counting": (CORRECTION.replace("[10, 20]", "[0, 99999999999999999999]"), ["import_wh"]),
}


@pytest.mark.parametrize("case", BAD_CORRECTIONS)
def test_a_bad_correction_is_refused_and_nothing_is_written(
    run_copy: Path, tmp_path: Path, tellegen: Tellegen, case: str
) -> None:
    text, words = BAD_CORRECTIONS[case]
    file = tmp_path / "correction.toml"
    file.write_text(text)
    before = {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()}
    refused(tellegen("correct", run_copy, "--file", file), *words)
    assert {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()} == before


def test_the_same_correction_is_not_made_twice(run_copy: Path, tmp_path: Path, tellegen: Tellegen) -> None:
    file = tmp_path / "correction.toml"
    file.write_text(CORRECTION)
    assert tellegen("correct", run_copy, "--file", file).status == 0
    before = {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()}
    refused(tellegen("correct", run_copy, "--file", file), "correction.toml", "on record already", "known_at")
    assert {p: p.read_bytes() for p in sorted(run_copy.rglob("*")) if p.is_file()} == before
    assert tellegen("verify", run_copy).status == 0


def test_a_receipt_of_what_is_not_there_is_refused(run_directory: Path, tellegen: Tellegen) -> None:
    refused(tellegen("receipt", run_directory, "--entry", "99999"), "entries 0 to")
    refused(tellegen("receipt", run_directory, "--entry", "-1"), "entries 0 to")
    refused(tellegen("receipt", run_directory, "--entry", "0", "--row", "77"), "rows 0 to")
    refused(tellegen("receipt", run_directory, "--entry", "0", "--row", "-1", "--json"), "rows 0 to")


def test_erasing_asks_first(
    run_copy: Path, tellegen: Tellegen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = tmp_path / "answers"
    answers.write_text("n\n")
    with answers.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        answer = tellegen("erase", run_copy, "--customer", "home-001")
    assert answer.status == 1
    assert "nothing was done" in answer.err
    assert tellegen("verify", run_copy).status == 0
    refused(tellegen("erase", run_copy, "--customer", "home-999"), "home-999")


def flip(file: Path, place: int) -> None:
    """Another bit stands in a file from now on."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def payload_of(journal: Path, kind: str, interval: int) -> int:
    """Where the payload of the last entry of a kind about an interval begins in the journal's file of payloads."""
    with Journal.open(journal) as opened:
        payload = opened.payload(opened.find(kind=kind, interval=interval)[-1])
    return (journal / "journal" / "payloads" / "000000.seg").read_bytes().index(payload)


@pytest.mark.parametrize(
    ("folder", "read", "interval"), [("", "readings", CORRECTED - 1), ("market", "energy", CORRECTED)]
)
def test_a_damaged_journal_is_no_traceback_for_any_command(
    run_copy: Path, tellegen: Tellegen, tmp_path: Path, folder: str, read: str, interval: int
) -> None:
    """Least of all is it a correction that rests on what is damaged."""
    (tmp_path / "c.toml").write_text(CORRECTION)
    journal = run_copy / folder / "journal"
    places = {
        "log/000000.seg": (journal / "log" / "000000.seg").stat().st_size // 3,
        "payloads/000000.seg": payload_of(run_copy / folder, read, interval),
        "checkpoints": (journal / "checkpoints").stat().st_size - 40,  # the newest: all that is read is held against it
        "operator.pub": 10,
    }
    for name, place in places.items():
        file = journal / name
        whole = file.read_bytes()
        flip(file, place)
        assert tellegen("verify", run_copy).status == 1
        for command in (("replay",), ("correct", "--file", tmp_path / "c.toml", "--preview")):
            answer = tellegen(command[0], run_copy, *command[1:])
            assert answer.status in {1, 2}, (name, command)
            assert len(answer.err.splitlines()) <= 1
        file.write_bytes(whole)
    assert tellegen("verify", run_copy).status == 0


def test_a_correction_rests_on_the_readings_around_it_and_no_others(
    run_copy: Path, tellegen: Tellegen, tmp_path: Path
) -> None:
    """Damage elsewhere moves nothing of what it says; it is for verify and replay to find."""
    (tmp_path / "c.toml").write_text(CORRECTION)
    preview = ("correct", run_copy, "--file", tmp_path / "c.toml", "--preview", "--json")
    before = tellegen(*preview)
    flip(run_copy / "journal" / "payloads" / "000000.seg", payload_of(run_copy, "readings", CORRECTED + 20))
    assert tellegen(*preview) == before
    assert before.status == 0
    assert tellegen("verify", run_copy).status == 1
    assert tellegen("replay", run_copy).status in {1, 2}


def test_a_run_without_its_vault_can_be_verified_but_not_replayed(run_copy: Path, tellegen: Tellegen) -> None:
    shutil.rmtree(run_copy / "vault")
    assert tellegen("verify", run_copy).status == 0
    refused(tellegen("replay", run_copy), "vault")
