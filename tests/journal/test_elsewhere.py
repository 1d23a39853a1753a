"""A back-up that is restored is never signed on: who is asked elsewhere knows every checkpoint that was ever shown."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.journal import (
    ContradictedError,
    Journal,
    JournalError,
    Witness,
    cosigned,
    elsewhere,
)
from tellegen.journal.elsewhere import Plan, WitnessAddress, set_up

Grow = Callable[..., Journal]
More = Callable[..., int]
KEY = hashlib.sha256(b"operator").digest()
NOW = 1_700_000_000


@pytest.fixture
def more(grow: Grow) -> More:
    """Opens a log for writing, adds so many entries, and says how many there are."""

    def add(folder: Path, count: int, *, salt: str = "") -> int:
        with Journal.open(folder, KEY) as journal:
            return grow(journal, count, salt=salt).checkpoint.size

    return add


@pytest.fixture
def log(grow: Grow, tmp_path: Path) -> Path:
    """A log of five entries, and what was saved of it in the night."""
    grow(tmp_path / "log", 5).close()
    shutil.copytree(tmp_path / "log", tmp_path / "night")
    (tmp_path / "counter").mkdir()
    return tmp_path / "log"


def guarded(folder: Path, plan: Plan) -> None:
    with Journal.open(folder) as journal:
        set_up(plan, journal, journal.checkpoint, journal.verifier, journal.folder)


def restored(folder: Path) -> Path:
    """Last night's back-up, in which it stands who is asked."""
    night = folder.with_name("night")
    shutil.copy(folder / "journal" / "elsewhere", night / "journal" / "elsewhere")
    return night


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def witnesses(
    monkeypatch: pytest.MonkeyPatch, log: Path, count: int, every_s: int, needed: int
) -> tuple[Plan, dict[str, Witness]]:
    """So many witnesses at addresses without a network; those that are taken out of the mapping do not answer."""
    with Journal.open(log) as journal:
        verifier = journal.verifier
    there: dict[str, Witness] = {}
    for number in range(count):
        folder = log.with_name(f"w{number}")
        Witness.create(folder, f"witness.example/w{number}", bytes([number + 1]) * 32)
        there[f"http://w{number}"] = Witness(folder, [verifier], lambda: NOW)

    def post(url: str, body: bytes) -> tuple[int, str]:
        if url not in there:
            raise InputError(url, "witness", "cannot be reached")
        reply = there[url].add_checkpoint(body)
        return int(reply.status), reply.text

    monkeypatch.setattr(elsewhere, "post_to_witness", post)
    monkeypatch.setattr("tellegen.journal.journal.post_to_witness", post)
    addresses = tuple(WitnessAddress(url, witness.vkey) for url, witness in there.items())
    return Plan((), addresses, needed, every_s), there


def test_a_counter_keeps_a_back_up_from_being_signed_on(more: More, log: Path) -> None:
    """And nothing of the back-up is touched by the attempt: it may still be what is left of the record."""
    guarded(log, Plan((str(log.with_name("counter")),)))
    more(log, 1)
    more(log, 3)  # without loss the log goes on
    night = restored(log)
    before = files_of(night)
    with pytest.raises(
        ContradictedError, match=r"knows of 9 entries of example\.org/feeder, there are 5: nothing is signed"
    ):
        more(night, 1)
    assert files_of(night) == before
    with Journal.open(night) as journal:
        assert len(journal) == 5  # it may be read


def test_another_history_of_the_same_length_is_not_signed_on(more: More, log: Path) -> None:
    guarded(log, Plan((str(log.with_name("counter")),)))
    night = log.with_name("night")
    more(night, 4, salt="other")
    more(log, 2)
    restored(log)
    with pytest.raises(ContradictedError, match="another root of 7 entries"):
        more(night, 1)


def test_nobody_is_shown_a_checkpoint_that_the_counter_does_not_know(grow: Grow, more: More, log: Path) -> None:
    """The counter fails: no receipt, no checkpoint for readers; with the counter back the same log goes on."""
    counter = log.with_name("counter")
    guarded(log, Plan((str(counter),)))
    journal = Journal.open(log, KEY)
    counter.rename(log.with_name("away"))
    with pytest.raises(JournalError, match="is it mounted"):
        grow(journal, 1)
    assert journal.checkpoint.size == 5
    with Journal.open(log) as reader:
        assert reader.checkpoint.size == 5
    with pytest.raises(JournalError, match=r"knows nothing of example\.org/feeder; is it mounted"):
        more(log, 0)
    log.with_name("away").rename(counter)
    assert more(log, 1) == 7  # what had been signed, and shown to nobody, is no other history


def test_a_program_may_keep_the_count(more: More, log: Path) -> None:
    """In a token, say; here it is one that keeps sizes alone, in a file."""
    program = log.with_name("count.py")
    program.write_text(
        "import pathlib, sys\n"
        "kept = pathlib.Path(__file__).with_suffix('.size')\n"
        "if sys.argv[1] == 'keep':\n"
        "    kept.write_text(sys.argv[3])\n"
        "elif kept.exists():\n"
        "    print(kept.read_text())\n"
    )
    guarded(log, Plan((f"command:{sys.executable} {program}",)))
    more(log, 2)
    assert program.with_suffix(".size").read_text() == "7"
    with pytest.raises(ContradictedError, match="knows of 7 entries"):
        more(restored(log), 1)
    program.write_text("print('a lot')")
    with pytest.raises(JournalError, match="not SIZE and ROOT"):
        more(log, 0)


def test_a_witness_that_signs_each_checkpoint_keeps_a_back_up_from_being_signed_on(
    more: More, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = witnesses(monkeypatch, log, 1, every_s=0, needed=1)
    guarded(log, plan)
    more(log, 4)
    with Journal.open(log) as journal:
        witnessed = cosigned(journal)
    assert witnessed is not None
    assert witnessed.size == 9  # so every receipt is under a cosigned checkpoint
    with pytest.raises(ContradictedError, match="has signed for 9 entries, the checkpoint has 5"):
        more(restored(log), 1)


@pytest.mark.parametrize(("answering", "starts"), [(3, True), (2, True), (1, False)])
def test_two_of_three_witnesses_are_enough_where_that_was_said(
    more: More, log: Path, monkeypatch: pytest.MonkeyPatch, answering: int, starts: bool
) -> None:
    plan, there = witnesses(monkeypatch, log, 3, every_s=60, needed=2)
    guarded(log, plan)
    for url in list(there)[answering:]:
        del there[url]
    if starts:
        assert more(log, 1) == 6
    else:
        with pytest.raises(JournalError, match=r"1 of 2 witnesses know example\.org/feeder"):
            more(log, 1)


def test_one_witness_that_knows_more_is_enough_to_stop(more: More, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, there = witnesses(monkeypatch, log, 3, every_s=0, needed=1)
    guarded(log, plan)
    kept = dict(there)
    for url in list(there)[1:]:
        del there[url]
    more(log, 1)
    there.update(kept)
    with pytest.raises(ContradictedError, match=r"witness\.example/w0 has signed for 6"):
        more(restored(log), 1)


def test_a_witness_that_is_away_for_a_while_stops_nobody(
    grow: Grow, log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan, there = witnesses(monkeypatch, log, 1, every_s=1, needed=1)
    guarded(log, plan)
    with Journal.open(log, KEY) as journal:
        there.clear()
        monkeypatch.setattr("tellegen.journal.elsewhere.time.monotonic", lambda: 1e12)
        assert grow(journal, 2).checkpoint.size == 7
    assert "cannot be reached" in caplog.text


def test_a_damaged_plan_is_no_plan_to_go_without(more: More, log: Path) -> None:
    (log / "journal" / "elsewhere").write_text(json.dumps({"counters": 3}))
    with pytest.raises(JournalError, match="guard"):
        more(log, 0)


def test_a_guard_is_not_set_up_below_what_is_known(more: More, log: Path) -> None:
    plan = Plan((str(log.with_name("counter")),))
    guarded(log, plan)
    more(log, 1)
    with pytest.raises(ContradictedError, match="there are 5"):
        guarded(log.with_name("night"), plan)
    assert not (log.with_name("night") / "journal" / "elsewhere").exists()
