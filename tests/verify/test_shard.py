"""`tellegen verify` of a shard: both of its journals, and what one says of the other."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import shards
from hypothesis import given
from hypothesis import strategies as st
from playing import quarter_hours

from tellegen.journal import Journal
from tellegen.operations import timetable
from tellegen.records import Clearings, CloseKind, Closes, GateOutcome, Gates, Header
from tellegen.rules import Rulebook
from tellegen.verify import RefusedError, verify_directory
from tellegen.verify.calendar import Calendar
from tellegen.verify.market import IntakeTimes, MarketChecks
from tellegen.verify.record import PublicRows


def test_a_healthy_shard_verifies(shard_directory: Path) -> None:
    report = verify_directory(shard_directory)
    assert [check.name for check in report.checks if not check.ok] == []
    found = {check.name: check for check in report.checks}
    assert found["closes"].detail == "4 days of feeders are closed, each once; 2 of them are final"
    assert found["settlements"].count == len(shards.INTERVALS)
    assert found["gates"].count == 2 * len(shards.INTERVALS) + 2  # each with its price run, and two days ahead
    assert found["senders"].count > 0
    assert found["manifest"].detail.startswith("absent")


def test_each_journal_has_a_key_of_its_own(shard_directory: Path) -> None:
    with Journal.open(shard_directory) as intake, Journal.open(shard_directory / "market") as market:
        keys = intake.verifier.vkey, market.verifier.vkey
    assert verify_directory(shard_directory, key=keys[0], market_key=keys[1]).ok
    assert not verify_directory(shard_directory, key=keys[0], market_key=keys[0]).ok


@pytest.mark.parametrize(
    "name", ["market/journal/operator.pub", "market/journal/checkpoint", "market/journal/log/000000.seg"]
)
def test_a_byte_of_the_market_s_journal_is_missed(shard_copy: Path, name: str) -> None:
    file = shard_copy / name
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    assert not verify_directory(shard_copy).ok


def test_what_is_the_operator_s_own_needs_no_manifest(shard_copy: Path) -> None:
    for name in (
        "registry/head-end.pem",
        "keys/home-1.pem",
        "state/part",
        "prices.csv",
        "reserves.csv",
        "market/operator.lock",
        "serve.lock",
    ):
        (shard_copy / name).parent.mkdir(exist_ok=True)
        (shard_copy / name).write_text("x")
    assert verify_directory(shard_copy).ok
    (shard_copy / "tables").mkdir()
    (shard_copy / "tables" / "prices.parquet").write_text("x")
    assert not verify_directory(shard_copy).ok


# The calendar, which verification derives for itself

BOOKS = [Rulebook.load(), shards.short_days(), quarter_hours()]


@given(st.sampled_from(BOOKS), st.integers(0, 900), st.integers(0, 400))
def test_both_calendars_agree(book: Rulebook, days: int, offset: int) -> None:
    """What the operator goes by and what a verifier derives are written twice, and say the same."""
    mine = Calendar.of({document.name: document.content for document in book.documents()})
    day = date(2016, 1, 2) + timedelta(days=days)
    bounds = timetable.day_bounds(book, day)
    assert mine.bounds(day) == bounds
    interval = bounds.start + offset
    assert mine.day_of(interval) == timetable.day_of(book, interval)
    assert mine.gate_at("real_time", interval) == timetable.real_time_at(book, interval)
    assert mine.settle_at(interval) == timetable.settle_at(book, interval)
    assert mine.final_at(day) == timetable.final_at(book, day)
    if bounds:
        assert mine.gate_at("day_ahead", bounds.start) == timetable.day_ahead_at(book, day)
        assert list(mine.periods("day_ahead", bounds.start)) == [p.start for p in timetable.periods(bounds)]


# A market that lies


INTERVAL = 4_900_000
DUE = INTERVAL * 300
CALENDAR = Calendar.of({d.name: d.content for d in Rulebook.load().documents()})
RULES = CALENDAR.rules(CALENDAR.day_of(INTERVAL)).sha256


def header(kind: str, name: str = "", known_at: int = DUE, feeder: str = "", causes: tuple[int, ...] = ()) -> Header:
    return Header(kind, name, feeder, "real_time", INTERVAL, 1, "market operator", known_at, causes, 1, "", "")


def intake(*times: int) -> IntakeTimes:
    return IntakeTimes([(header("orders", known_at=at), b"") for at in times])


def gate(cut: int, **columns: object) -> PublicRows:
    row = np.zeros(1, dtype=Gates.row_dtype())
    row["feeder"], row["interval"], row["intervals"], row["cut"] = b"F1", INTERVAL, 1, cut
    row["rules"], row["root_price"] = np.void(RULES), 250_000
    for name, value in columns.items():
        row[name] = value
    return PublicRows(0, header("gates", f"gate/{cut}"), Gates.from_rows(row))


def clearing(causes: tuple[int, ...] = (0,), **columns: int) -> PublicRows:
    row = np.zeros(1, dtype=Clearings.row_dtype())
    row["root_price"] = 250_000
    for name, value in columns.items():
        row[name] = value
    return PublicRows(1, header("clearings", "gate/2", feeder="F1", causes=causes), Clearings.from_rows(row))


def checks(times: IntakeTimes, *public: PublicRows) -> MarketChecks:
    return MarketChecks([], public, times, CALENDAR)


def test_a_gate_that_cut_at_its_time_is_right() -> None:
    assert checks(intake(DUE - 9, DUE - 1, DUE), gate(2), clearing()).check_gates()[0] == 1


@pytest.mark.parametrize(
    ("times", "public", "problem"),
    [
        ((DUE - 9, DUE, DUE), (gate(2),), "counts entries of"),
        ((DUE - 9, DUE - 5, DUE - 1), (gate(2),), "leaves out entry 2"),
        ((DUE - 9,), (gate(2),), "the intake has 1"),
        ((DUE - 9, DUE - 1), (gate(2, rules=np.void(bytes(32))),), "not by the rulebook"),
        ((DUE - 9, DUE - 1), (gate(2, intervals=2),), "no period"),
        ((DUE - 9, DUE - 1), (clearing(),), "names no gate"),
        ((DUE - 9, DUE - 1), (gate(2), clearing(causes=())), "names no gate"),
        ((DUE - 9, DUE - 1), (gate(2), clearing(root_price=1)), "wholesale price"),
        ((DUE - 9, DUE - 1), (gate(2), clearing(status=3)), "status"),
        ((DUE - 9, DUE - 1), (gate(2), clearing(), clearing()), "already"),
        ((DUE - 9, DUE - 1), (gate(2), clearing(), gate(2, outcome=GateOutcome.DEADLINE)), "afterwards"),
    ],
)
def test_a_market_that_lies_about_a_gate_is_found(
    times: tuple[int, ...], public: tuple[PublicRows, ...], problem: str
) -> None:
    """Bids that came too late, bids left out, rules of another day, prices out of nowhere."""
    with pytest.raises(RefusedError, match=problem):
        checks(intake(*times), *public).check_gates()


SETTLES = CALENDAR.settle_at(INTERVAL)


def price_run(*causes: int, **columns: object) -> PublicRows:
    """The run of a gate of entry 0, closed when its interval settles."""
    gated = gate(3, **columns)
    assert gated.table is not None
    said = Header("gates", "gate/3", "", "price_run", INTERVAL, 1, "market operator", SETTLES, causes, 1, "", "")
    return PublicRows(2, said, gated.table)


def test_a_price_run_follows_its_gate_at_its_wholesale_price() -> None:
    times = intake(DUE - 9, DUE - 1, SETTLES - 1, SETTLES)
    assert checks(times, gate(2), clearing(), price_run(0)).check_gates()[0] == 2
    lies = (
        ((gate(2), price_run()), "no run of the gate"),
        ((gate(2), price_run(0, root_price=1)), "no run of the gate"),
        ((gate(2), price_run(0, outcome=GateOutcome.NO_PRICE)), "no run of the gate"),
        ((gate(2, outcome=GateOutcome.MISSED), price_run(0)), "no run of the gate"),
    )
    for public, problem in lies:
        with pytest.raises(RefusedError, match=problem):
            checks(times, *public).check_gates()
    with pytest.raises(RefusedError, match="counts entries of"):
        checks(intake(DUE - 9, DUE - 1, SETTLES), gate(2), price_run(0)).check_gates()


def test_a_gate_that_nobody_closed_in_time_may_cut_where_the_record_ended() -> None:
    late = gate(2, outcome=GateOutcome.MISSED)
    assert checks(intake(DUE - 9, DUE - 5, DUE - 1), late, clearing(status=3)).check_gates()[0] == 1


def test_a_clock_that_was_set_right_ends_what_a_gate_counts() -> None:
    """What was recorded under the wrong clock lies before any later gate."""
    turned = [(header("orders", known_at=DUE + 900), b""), (header("clocks", known_at=DUE - 60), b"")]
    times = IntakeTimes([*turned, (header("orders", known_at=DUE - 1), b""), (header("orders", known_at=DUE), b"")])
    times.check_cut(3, DUE, "gate")
    with pytest.raises(RefusedError):
        times.check_cut(4, DUE, "gate")


def close(kind: CloseKind, known_at: int, **columns: int) -> PublicRows:
    day = CALENDAR.day_of(INTERVAL)
    bounds = CALENDAR.bounds(day)
    row = np.zeros(1, dtype=Closes.row_dtype())
    row["day"], row["first_interval"], row["intervals"] = (day - date(1970, 1, 1)).days, bounds.start, len(bounds)
    row["close_kind"] = kind
    for name, value in columns.items():
        row[name] = value
    return PublicRows(0, header("closes", known_at=known_at, feeder="F1"), Closes.from_rows(row))


DAY = CALENDAR.day_of(INTERVAL)
FIRST, CORRECTION, FINAL = (
    close(kind, at)
    for kind, at in (
        (CloseKind.FIRST, CALENDAR.close_at(DAY)),
        (CloseKind.CORRECTION, CALENDAR.close_at(DAY) + 86_400),
        (CloseKind.FINAL, CALENDAR.final_at(DAY)),
    )
)


def test_a_day_closes_once_is_shared_anew_and_is_final() -> None:
    assert checks(intake(DUE), FIRST, CORRECTION, CORRECTION, FINAL).check_closes()[0] == 1


@pytest.mark.parametrize(
    "public",
    [
        (CORRECTION,),
        (FIRST, FIRST),
        (FIRST, FINAL, CORRECTION),
        (close(CloseKind.FIRST, CALENDAR.close_at(DAY) - 1),),
        (FIRST, close(CloseKind.FINAL, CALENDAR.final_at(DAY) - 1)),
        (close(CloseKind.FIRST, CALENDAR.close_at(DAY), intervals=287),),
        (close(CloseKind.FIRST, CALENDAR.close_at(DAY), read_size=2),),
    ],
)
def test_a_close_out_of_order_is_found(public: tuple[PublicRows, ...]) -> None:
    with pytest.raises(RefusedError):
        checks(intake(DUE), *public).check_closes()


# Holds of who did not deliver


def holding(kind: str, interval: int = INTERVAL, *, causes: tuple[int, ...] = (), length: int = 1) -> Header:
    return Header(kind, "", "F1", "real_time", interval, length, "market operator", DUE, causes, 1, "", "")


GATED = [holding("gates", INTERVAL + k) for k in (0, 1)]
HOLD = [*GATED, holding("energy"), holding("holds", INTERVAL + 2, causes=(2,), length=288)]


def refusing(interval: int, *causes: int) -> Header:
    return holding("refused_orders", interval, causes=causes)


def found(entries: list[Header]) -> tuple[int, str]:
    calendar = Calendar.of({d.name: d.content for d in Rulebook.load().documents()})
    return MarketChecks([(each, b"") for each in entries], (), intake(DUE), calendar).check_holds()


def test_who_is_held_is_held_from_the_next_gate_for_as_long_as_the_rules_say() -> None:
    assert found(GATED)[0] == 0
    holds, told = found(
        [*HOLD, refusing(INTERVAL + 2, 0, 3), refusing(INTERVAL + 289, 1, 3), refusing(INTERVAL + 1, 0)]
    )
    assert holds == 1
    assert "2 batches of refusals name theirs" in told, "why the third refuses orders is sealed: replay checks it"


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([*HOLD[:3], holding("holds", INTERVAL + 1, causes=(2,), length=288)], "24 hours"),
        ([*HOLD[:3], holding("holds", INTERVAL + 2, causes=(2,), length=289)], "24 hours"),
        ([*HOLD[:3], holding("holds", INTERVAL + 2, length=288)], "no energy"),
        ([*HOLD[:3], holding("energy", INTERVAL + 1), HOLD[3]], "no energy"),
        ([*HOLD, refusing(INTERVAL + 1, 0, 3)], "not on hold then"),
        ([*HOLD, refusing(INTERVAL + 290, 1, 3)], "not on hold then"),
    ],
)
def test_a_hold_out_of_nowhere_is_found(entries: list[Header], problem: str) -> None:
    """Too soon, too long, of an older settlement or of none; orders refused before it begins or beyond its end."""
    with pytest.raises(RefusedError, match=problem):
        found(entries)
