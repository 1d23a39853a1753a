"""A shard whose disk was restored goes on in a successor: nobody is contradicted, and what is lost can be sent anew."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from intake_bench import NOW, Bench, open_intake, readings
from typer.testing import CliRunner

from tellegen.cli import app, evidence, record  # noqa: F401 - commands register on import
from tellegen.errors import InputError
from tellegen.journal import Journal, JournalError
from tellegen.journal.clock import RecordClock
from tellegen.operations.succession import Declaration, succeed
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder
from tellegen.records import Successions
from tellegen.verify import RefusedError, Shown, Verdict, check_receipt, entry_within, verify_directory
from tellegen.verify.promises import not_checked
from tellegen.verify.succession import Succession, compare_with_successor

SAID = Declaration("A. Operator", "the disk of the record was lost")


def clock(newest: int) -> RecordClock:
    return RecordClock(wall=lambda: float(NOW + 60), elapsed=lambda: float(NOW + 60), not_before=newest)


class Morning:
    """What a shard went through: a batch, the night's back-up, a batch more, and the loss of its disk."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, path = bench, bench.keys.path
        first, (self.kept,) = bench.final(readings(bench))
        bench.intake.close()
        shutil.copytree(path, folder / "night")
        bench.intake = open_intake(path, bench.wall)
        self.batch = readings(bench, bench.readings(counter=2), 2)
        self.taken, (self.lost,) = bench.final(self.batch)
        with Journal.open(path) as journal:
            self.key, self.newest = journal.verifier.vkey, journal.checkpoint
        bench.intake.close()
        self.night, self.successor, self.first = folder / "night", folder / "successor", first
        self.done = succeed(self.night, self.successor, replace(SAID, newest=(self.newest.note,)), clock)

    def said(self) -> tuple[Successions, str]:
        with Journal.open(self.successor) as journal:
            (index,) = journal.find(kind=Successions.kind)
            return succession_at(self.successor, index), journal.verifier.vkey


def succession_at(path: Path, index: int) -> Successions:
    with Vault.open(path / "vault") as vault, Journal.open(path) as journal:
        return Recorder(journal, vault, "").table(index, Successions)


@pytest.fixture
def morning(bench: Bench, tmp_path: Path) -> Morning:
    return Morning(bench, tmp_path)


def test_what_was_lost_is_sent_again_by_whoever_has_a_receipt(morning: Morning) -> None:
    """The same batch, signed once, for the shard: its log is another, its name is not."""
    bench = morning.bench
    bench.intake = open_intake(morning.successor, bench.wall)
    taken, (receipt,) = bench.final(morning.batch)
    again, _ = bench.final(readings(bench))
    assert (taken.accepted, taken.again, again.again) == (morning.taken.accepted, False, True)
    assert again.entries == morning.first.entries
    key = bench.intake.journal.verifier.vkey
    assert key.startswith(morning.key.partition("+")[0] + "~2+")
    for text, vkey in ((receipt, key), (morning.lost, morning.key), (morning.kept, morning.key)):
        entry = entry_within(text)
        assert entry is not None
        assert check_receipt(text, entry, vkey).header.kind == "readings"
    report = verify_directory(morning.successor)
    assert [check.name for check in report.checks if not check.ok] == []
    (check,) = (check for check in report.checks if check.name == "succession")
    lost = morning.newest.size - morning.done[0].size
    assert lost == 1
    assert f"entry {morning.done[0].size} of it is lost" in check.detail


def test_receipts_of_the_log_before_do_not_contradict_its_successor(morning: Morning) -> None:
    table, key = morning.said()
    for receipt in (morning.kept, morning.lost):
        shown = Shown.of(receipt, morning.key, name="a receipt")
        finding = compare_with_successor(shown, morning.key, table, key)
        assert finding.verdict is Verdict.CONSISTENT, finding.detail


def test_verify_holds_receipts_of_the_log_before_against_its_successor(morning: Morning, tmp_path: Path) -> None:
    """An honest successor keeps what was taken up, and what is lost is said to be; who says less is convicted."""
    (check,) = (
        check
        for check in verify_directory(morning.successor, receipts=[morning.kept, morning.lost]).checks
        if check.name == "receipts"
    )
    assert check.ok
    assert f"but receipt 2: entry {morning.done[0].size} is not on record" in check.detail
    assert f"entry {morning.done[0].size} of it is lost, says A. Operator" in check.detail
    with Journal.open(morning.night) as journal:
        note = journal.checkpoint.note
    succeed(morning.night, tmp_path / "liar", replace(SAID, newest=(note,)), clock)
    (problem,) = (c for c in verify_directory(tmp_path / "liar", receipts=[morning.lost]).checks if not c.ok)
    assert "keep the receipt" in problem.detail


def test_who_does_not_say_how_much_is_lost_is_not_cleared(morning: Morning, tmp_path: Path) -> None:
    morning.successor = tmp_path / "silent"
    succeed(morning.night, morning.successor, SAID, clock)
    table, key = morning.said()
    verdicts = [
        compare_with_successor(Shown.of(receipt, morning.key, name="a receipt"), morning.key, table, key).verdict
        for receipt in (morning.kept, morning.lost)
    ]
    assert verdicts == [Verdict.CONSISTENT, Verdict.UNDECIDED]
    report = verify_directory(morning.successor, receipts=[morning.lost])
    assert report.ok
    assert any(left.startswith("how much of a log that was taken up is lost") for left in not_checked(report.checks))


def test_two_successors_of_one_name_are_a_verdict(morning: Morning, tmp_path: Path) -> None:
    """One back-up taken up twice: two keys, one name, and each has signed."""
    succeed(morning.night, tmp_path / "other", SAID, clock)
    files = []
    for path in (morning.successor, tmp_path / "other"):
        with Journal.open(path) as journal:
            (index,) = journal.find(kind=Successions.kind)
        file = tmp_path / f"{path.name}.json"
        done = CliRunner().invoke(app, ["receipt", str(path), "--entry", str(index), "--row", "0", "--json"])
        file.write_text(done.stdout)
        files.append(str(file))
    done = CliRunner().invoke(app, ["journal", "compare", *files])
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("TWO SUCCESSORS OF ONE NAME: ")


def test_an_operator_who_says_less_than_it_had_signed_for_is_convicted(morning: Morning, tmp_path: Path) -> None:
    """That nothing was lost, while somebody holds a receipt for more."""
    with Journal.open(morning.night) as journal:
        note = journal.checkpoint.note
    morning.successor = tmp_path / "liar"
    succeed(morning.night, morning.successor, replace(SAID, newest=(note,)), clock)
    table, key = morning.said()
    shown = Shown.of(morning.lost, morning.key, name="a receipt")
    assert compare_with_successor(shown, morning.key, table, key).verdict is Verdict.TWO_HISTORIES


def test_a_successor_that_took_up_other_entries_does_not_verify(morning: Morning) -> None:
    table, key = morning.said()
    name = key.partition("+")[0]
    for change in (
        {"root": np.array([bytes(32)], dtype="V32")},
        {"size": table.size - 1},
        {"predecessor": np.array([key.encode()])},
        {"signed_for": table.size - 1},
    ):
        with pytest.raises(RefusedError):
            Succession.of(replace(table, **change), name)
    assert Succession.of(table, name).reason == SAID.reason
    (morning.successor / "journal" / "operator.pub").write_text(f"{morning.key}\n")
    assert not verify_directory(morning.successor).ok


def test_a_key_that_was_stolen_is_succeeded_without_a_loss_and_again(morning: Morning, tmp_path: Path) -> None:
    again = tmp_path / "third"
    (done,) = succeed(morning.successor, again, Declaration("A. Operator", "the key was stolen"), clock)
    assert done.successor.startswith(morning.key.partition("+")[0] + "~3+")
    report = verify_directory(again)
    assert report.ok
    (check,) = (check for check in report.checks if check.name == "succession")
    assert check.count == 2
    assert "is not known" in check.detail


def test_what_goes_on_record_for_good_is_checked_first(morning: Morning, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for said in (Declaration("", "why"), Declaration("me", "e\x1b[2J"), Declaration("me", "x" * 257)):
        with pytest.raises(InputError, match="printable ASCII"):
            succeed(morning.night, out, said, clock)
    with pytest.raises(InputError, match="no shard"):
        succeed(tmp_path / "nothing", out, SAID, clock)
    other = morning.newest.note.replace(morning.newest.origin, "another.example/log")
    with pytest.raises(JournalError, match="says nothing about"):
        succeed(morning.night, out, replace(SAID, newest=(other,)), clock)
    assert not out.exists()


def test_a_key_that_another_user_holds_is_not_taken_along(
    morning: Morning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is denied a file where tests run as root: the copy is denied it here."""
    denied, copy = "log.key", shutil.copy2

    def denying(source: str, target: str, **options: bool) -> str:
        if Path(source).name == denied:
            raise PermissionError(13, "Permission denied", source)
        return copy(source, target, **options)

    monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, denying, False, False))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != denied)
    (done,) = succeed(morning.night, tmp_path / "out", SAID, clock)
    assert done.successor.startswith(morning.key.partition("+")[0] + "~2+")
    assert verify_directory(tmp_path / "out").ok
    denied = "keys.sqlite"
    with pytest.raises(InputError, match=r"keys\.sqlite.*cannot be copied"):
        succeed(morning.night, tmp_path / "another", SAID, clock)
    assert not (tmp_path / "another").exists()
