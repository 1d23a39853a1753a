"""When things come: about which intervals an intake takes what, and by which clock."""

from __future__ import annotations

import numpy as np
import pytest
from intake_bench import DAY, F1, FIRST, NOW, Bench, open_intake, readings, refused

from tellegen.intake.intake import Taken
from tellegen.intake.limits import Reason
from tellegen.journal.clock import Bounds, ClockError, RecordClock
from tellegen.privacy.recorder import Recorder, Span, start_clock
from tellegen.records import Clocks, Refusal
from tellegen.rules import Rulebook
from tellegen.simulation.batches import bids_batch, bids_of
from tellegen.verify import verify_directory
from tellegen.verify.promises import not_checked


def put_rules(bench: Bench) -> None:
    recorder = Recorder(bench.intake.journal, bench.intake.vault, "")
    for document in Rulebook.load().documents():
        recorder.put_document(document, Span(NOW, FIRST))
    bench.intake.commit()
    bench.open()


def at(bench: Bench, interval: int, counter: int) -> Taken:
    return bench.send(readings(bench, bench.readings(counter=counter, interval=interval), counter, interval))


@pytest.mark.parametrize(
    ("interval", "reason"),
    [(FIRST + 10 - 289, Reason.TOO_LATE), (FIRST + 10, Reason.TOO_EARLY), (2**62, Reason.TOO_EARLY)],
)
def test_readings_come_after_their_interval_and_not_too_long_after(bench: Bench, interval: int, reason: Reason) -> None:
    error = refused(lambda: bench.send(readings(bench, bench.readings(interval=interval), 1, interval)))
    assert error.reason is reason


def test_the_clock_does_not_follow_a_jump_nor_run_back(bench: Bench) -> None:
    wall, elapsed = [float(NOW)], [0.0]
    clock = RecordClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0], not_before=NOW + 5)
    assert clock.now() == NOW + 5
    wall[0], elapsed[0] = NOW - 86_400.0, 10.0
    assert (clock.now(), clock.stepped_s) == (NOW + 10, -86_410)
    wall[0], elapsed[0] = NOW + 20.0, 20.0
    assert (clock.now(), clock.stepped_s) == (NOW + 20, 0)


def test_a_clock_is_followed_a_minute_in_an_hour() -> None:
    """A thousand small steps are a jump too."""
    wall, elapsed = [float(NOW)], [0.0]
    clock = RecordClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0], not_before=NOW)
    for _ in range(1000):
        elapsed[0] += 0.1
        wall[0] += 60.0
        clock.now()
    assert clock.now() <= NOW + 100 + 60
    for _ in range(10):  # hours of a clock that runs 50 s fast in each
        wall[0] = NOW + elapsed[0] + 60
        elapsed[0] += 3600
        clock.now()
    wall[0] = NOW + elapsed[0] + 110
    assert (clock.now(), clock.stepped_s) == (NOW + elapsed[0] + 110, 0)


@pytest.mark.parametrize(("off_s", "good"), [(-3_700, False), (-3_500, True), (DAY - 60, True), (3 * DAY, False)])
def test_an_intake_does_not_start_where_its_clock_cannot_be_right(bench: Bench, off_s: int, good: bool) -> None:
    bench.final(readings(bench))
    bench.wall[0] += off_s
    if good:
        assert bench.open().clock.now() == max(bench.wall[0], NOW)
    else:
        with pytest.raises(ClockError, match="accept-clock"):
            bench.open()


def test_a_clock_that_was_ahead_once_does_not_leave_the_shard_dead(bench: Bench) -> None:
    """It was accepted 400 days ahead; with the clock right again, and accepted again, today's readings are taken."""
    bench.final(readings(bench))
    for now, number in ((NOW + 400 * DAY, 2), (NOW + 60, 3)):
        bench.intake.close()
        bench.wall[0] = float(now)
        bench.intake = open_intake(bench.keys.path, bench.wall, accept_clock="somebody")
        interval = now // 300 - 1
        taken, _ = bench.final(readings(bench, bench.readings(counter=number, interval=interval), number, interval))
        assert bench.intake.journal.entry(taken.entries[0]).known_at == now
    bench.open()  # and from there on nobody need say so
    found = [bench.intake.journal.entry(i) for i in bench.intake.journal.find(kind="clocks")]
    assert [header.known_at for header in found] == [NOW + 400 * DAY, NOW + 60]
    assert len(bench.intake.journal.find(kind="readings")) == 3
    checks = verify_directory(bench.keys.path).checks
    (check,) = (check for check in checks if check.name == "clocks")
    assert check.ok
    assert check.count == 2
    assert "says somebody" in check.detail
    assert any("clock was set right" in left for left in not_checked(checks))


@pytest.mark.parametrize(
    ("back_s", "before_s", "after_s", "problem"),
    [
        (50, 0, 0, "nobody has to"),
        (-86_400, 0, 0, "nobody has to"),
        (7_200, 1, 0, "on record it is"),
        (7_200, 0, 1, "on record it is"),
    ],
)
def test_an_entry_that_sets_no_wrong_clock_right_is_made_up(
    bench: Bench, back_s: int, before_s: int, after_s: int, problem: str
) -> None:
    """Whoever signs the log could date entries back behind it, in the minute before a gate."""
    bench.final(readings(bench))
    journal = bench.intake.journal
    newest = journal.time(0)
    said = Clocks(
        before=np.array([newest + before_s]),
        time=np.array([newest - back_s + after_s]),
        accepted_by=np.array([b"A. Operator"]),
    )
    Recorder(journal, bench.intake.vault, "").put(said, Span(newest - back_s, FIRST), source="operator")
    journal.commit(newest + 86_400)
    (check,) = (check for check in verify_directory(bench.keys.path).checks if not check.ok)
    assert check.name == "clocks"
    assert problem in check.detail


def test_a_small_step_is_not_accepted_where_the_bounds_are_narrow(bench: Bench) -> None:
    """What `verify` calls made up no process writes."""
    bench.final(readings(bench))
    journal, vault = bench.intake.journal, bench.intake.vault

    def narrow(newest: int) -> RecordClock:
        wall = float(bench.intake.journal.time(0) - 100)
        return RecordClock(wall=lambda: wall, elapsed=lambda: 0.0, not_before=newest, bounds=Bounds(behind_s=60))

    with pytest.raises(ClockError):
        start_clock(journal, vault, narrow, "operator", "somebody")


def test_a_quiet_intake_puts_the_time_on_record(bench: Bench) -> None:
    """So a gate's cut is known although nobody bids."""
    bench.final(readings(bench))
    bench.wall[0] += 4
    assert bench.intake.tick() is None
    bench.wall[0] += 1
    entry = bench.intake.tick()
    assert bench.intake.tick() is None
    bench.intake.commit()
    assert bench.intake.journal.entry(entry).known_at == NOW + 5
    assert verify_directory(bench.keys.path).checks[6].ok


def test_readings_are_taken_as_far_back_as_the_rulebook_corrects(bench: Bench) -> None:
    """And an operator's limit only shortens that; the replay window stays as it is."""
    put_rules(bench)
    window = 61 * 288
    assert refused(lambda: at(bench, FIRST + 9 - window, 1)).reason is Reason.TOO_LATE
    bench.wall[0] += 40 * DAY  # less than the rulebook's 60 days
    assert at(bench, FIRST + 5, 2).accepted == 8
    assert at(bench, FIRST + 40 * 288, 700).accepted == 8
    problems = refused(lambda: at(bench, FIRST + 6, 3)).rows
    assert {p.refusal for p in problems} == {Refusal.STALE_COUNTER}  # read it again: a new counter
    bench.intake.commit()
    bench.open(late_intervals_max=288)
    assert refused(lambda: at(bench, FIRST + 6, 701)).reason is Reason.TOO_LATE


def test_a_day_ahead_bid_names_the_first_interval_of_its_day(bench: Bench) -> None:
    """By the local calendar of the rules, so that it is a bid for one gate and no other."""
    put_rules(bench)
    today, tomorrow = 5_899_956, 5_900_244  # local midnights
    for interval, begins in ((tomorrow, tomorrow), (tomorrow + 1, tomorrow), (tomorrow - 12, today)):
        submissions, orders = bids_of(bench.keys, F1, "F1", "day_ahead", interval)
        batch = bids_batch(bench.keys, submissions, orders, "F1", "day_ahead", interval, interval)
        if interval == begins:
            assert bench.send(batch).accepted == 8
            continue
        error = refused(lambda batch=batch: bench.send(batch))
        assert error.reason is Reason.MALFORMED
        assert f"does not begin a delivery day; of that day the first is {begins}" in str(error)
