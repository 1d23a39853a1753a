"""Every moment belongs to one day, and whatever is due about it comes once, in order, in the zone of its own day."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.operations.timetable import (
    OPEN_LEAD_S,
    Due,
    Verb,
    close_at,
    day_ahead_at,
    day_ahead_deadline,
    day_bounds,
    day_number,
    day_of,
    due,
    final_at,
    periods,
    real_time_at,
    real_time_deadline,
    settle_at,
    shared_anew,
)
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S

TEXT = Rulebook.load().versions[0].content.decode()
BARE = TEXT[: TEXT.index("# When the gates close")]
BERLIN = Rulebook.parse({"2016-01-01.toml": BARE.encode()}, source="book")  # the day-ahead gate at noon
MIDNIGHT = Rulebook.load()
ZONES = (
    "Europe/Berlin",
    "UTC",
    "America/Sao_Paulo",  # its summer began at midnight: 00:00 did not exist
    "America/Havana",  # its summer ends at 01:00: there are two midnights
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kathmandu",
    "Pacific/Apia",  # had no 2011-12-30
    "Pacific/Kiritimati",  # UTC+14
    "Etc/GMT+12",  # UTC-12
    "Africa/Casablanca",
)


def version(zone: str = "Europe/Berlin", **keys: object) -> bytes:
    stated = "\n".join(f"{key} = {value}" for key, value in keys.items())
    return f"{BARE.replace('Europe/Berlin', zone)}\n[timetable]\n{stated}\n".encode().replace(
        b"adopted = 2015-11-30", b"adopted = 1999-01-01"
    )


def book(**versions: bytes) -> Rulebook:
    return Rulebook.parse(
        {f"{name.strip('_').replace('_', '-')}.toml": content for name, content in versions.items()}, source="book"
    )


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def times(rules: Rulebook, verb: Verb, after: str, until: str) -> list[tuple[str, int]]:
    return [
        (datetime.fromtimestamp(each.at, UTC).strftime("%m-%d %H:%M:%S"), each.key)
        for each in due(rules, utc(after), utc(until))
        if each.verb is verb
    ]


# Days


def test_the_day_of_25_hours():
    """The worked example: Europe/Berlin, 2016-10-30."""
    bounds = day_bounds(BERLIN, date(2016, 10, 30))
    assert (bounds.start, bounds[-1], len(bounds)) == (4925928, 4926227, 300)
    assert len(periods(bounds)) == 25
    assert times(BERLIN, Verb.OPEN_DAY, "2016-10-29T00:00", "2016-10-29T12:00") == [
        ("10-29 09:55:00", day_number(date(2016, 10, 30)))
    ]
    assert times(BERLIN, Verb.CLOSE_DAY_AHEAD, "2016-10-29T00:00", "2016-10-29T12:00") == [("10-29 10:00:00", 4925928)]
    gates = times(BERLIN, Verb.CLOSE_REAL_TIME, "2016-10-29T21:59", "2016-10-30T22:59")
    assert gates[0] == ("10-29 22:00:00", 4925928)
    assert gates[-1] == ("10-30 22:55:00", 4926227)
    assert len(gates) == 300
    ends = [
        each for each in due(BERLIN, utc("2016-10-30T23:00"), utc("2016-10-30T23:01")) if each.verb is not Verb.OPEN_DAY
    ]
    assert [(each.verb, each.key) for each in ends] == [
        (Verb.SETTLE, 4926227),
        (Verb.CORRECT, utc("2016-10-30T23:01")),
        (Verb.CLOSE_DAY, day_number(date(2016, 10, 30))),
        (Verb.PUBLISH, day_number(date(2016, 10, 30))),
        (Verb.FINALISE, day_number(date(2016, 8, 31))),
        (Verb.SNAPSHOT, utc("2016-10-30T23:01")),
    ]
    assert times(BERLIN, Verb.FINALISE, "2016-12-29T00:00", "2016-12-30T00:00") == [
        ("12-29 23:01:00", day_number(date(2016, 10, 30)))
    ]


def test_the_day_of_23_hours():
    assert len(day_bounds(BERLIN, date(2016, 3, 27))) == 276
    assert len(periods(day_bounds(BERLIN, date(2016, 3, 27)))) == 23
    assert times(BERLIN, Verb.CLOSE_DAY_AHEAD, "2016-03-26T00:00", "2016-03-26T23:00")[0][0] == "03-26 11:00:00"
    assert times(BERLIN, Verb.CLOSE_DAY, "2016-03-27T00:00", "2016-03-27T23:00") == [
        ("03-27 22:01:00", day_number(date(2016, 3, 27)))
    ]


def test_the_default_rulebook_closes_day_ahead_as_the_day_begins():
    """ "24:00" is the delivery day's own midnight, and comes before the first gate of real time."""
    start = utc("2016-03-26T23:00")
    first = [each for each in due(MIDNIGHT, start - 1, start)]
    assert [(each.verb, each.key) for each in first] == [
        (Verb.CLOSE_DAY_AHEAD, start // 300),
        (Verb.CLOSE_REAL_TIME, start // 300),
    ]
    assert day_ahead_deadline(MIDNIGHT, date(2016, 3, 27)) == start + 240  # its awards are needed in the first interval


@given(
    zones=st.tuples(st.sampled_from(ZONES), st.sampled_from(ZONES), st.sampled_from(ZONES)),
    first=st.dates(date(2010, 1, 1), date(2019, 1, 1)),
    change=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_days_partition_time(zones, first, change):
    """Whatever the zones and wherever they change: each interval belongs to one day, and days follow one another."""
    second, third = first + timedelta(days=change), first + timedelta(days=change + 1)
    rules = book(**{str(day): version(zone) for day, zone in zip((first, second, third), zones, strict=True)})
    days = [first + timedelta(days=k) for k in range(30)]
    bounds = [day_bounds(rules, day) for day in days]
    for earlier, later in pairwise(bounds):
        assert earlier.stop == later.start
    for day, of_day in zip(days, bounds, strict=True):
        assert len(of_day) <= 50 * 12
        for interval in {of_day.start, of_day.start + len(of_day) // 2, of_day.stop - 1} if of_day else set():
            assert day_of(rules, interval) == day


def test_each_midnight_is_that_of_its_own_day():
    """The zone changes at midnight: the last day of the old zone ends where the first of the new one begins."""
    rules = book(_2016_01_01=version("Europe/Berlin"), _2017_01_01=version("America/New_York"))
    assert day_bounds(rules, date(2016, 12, 30)).start == utc("2016-12-29T23:00") // 300
    assert day_bounds(rules, date(2016, 12, 31)) == range(
        utc("2016-12-30T23:00") // 300, utc("2017-01-01T05:00") // 300
    )
    assert len(periods(day_bounds(rules, date(2016, 12, 31)))) == 30
    assert day_ahead_at(rules, date(2017, 1, 1)) == utc("2016-12-31T17:00")  # noon in New York


def test_a_day_that_has_no_time_is_empty():
    """Samoa went over the date line; and a change from UTC-12 to UTC+14 leaves a day no time either."""
    apia = book(_2010_01_01=version("Pacific/Apia"))
    assert len(day_bounds(apia, date(2011, 12, 30))) == 0
    across = book(_2016_01_01=version("Etc/GMT+12"), _2016_06_01=version("Pacific/Kiritimati"))
    lost = date(2016, 5, 31)
    assert len(day_bounds(across, lost)) == 0
    assert day_of(across, day_bounds(across, lost).start) == date(2016, 6, 1)
    about = {
        each.key
        for each in due(across, utc("2016-05-28T00:00"), utc("2016-06-04T00:00"))
        if each.verb is Verb.CLOSE_DAY
    }
    assert day_number(lost) not in about
    assert {day_number(lost) - 1, day_number(lost) + 1} <= about


def test_half_an_hour_of_summer_time_makes_half_a_period():
    howe = book(_2010_01_01=version("Australia/Lord_Howe"))
    assert [len(hour) for hour in periods(day_bounds(howe, date(2016, 10, 2)))][-2:] == [12, 6]
    assert len(day_bounds(howe, date(2016, 4, 3))) == 294


def test_what_no_rule_governs_is_no_day():
    with pytest.raises(InputError, match="governed by no version; the first holds from 2016-01-01"):
        day_of(BERLIN, utc("2015-12-31T12:00") // 300)
    assert due(BERLIN, utc("2015-06-01T00:00"), utc("2015-12-30T00:00")) == ()


# The timetable


@given(
    data=st.data(),
    zone=st.sampled_from(ZONES),
    day=st.dates(date(2016, 1, 10), date(2017, 1, 10)),
    minute=st.sampled_from(["00:00", "02:30", "12:00", "23:59", "24:00"]),
    waits=st.tuples(st.integers(0, 3600), st.integers(0, 3600)),
    leads=st.tuples(st.integers(0, 3600), st.integers(0, 3600)),
    longest=st.tuples(st.sampled_from([5, 15, 60]), st.sampled_from([5, 15, 60])),
    every=st.integers(1, 288),
)
@settings(max_examples=40, deadline=None)
def test_the_timetable_can_be_cut_anywhere(data, zone, day, minute, waits, leads, longest, every):
    """due(a, b) + due(b, c) == due(a, c): who looks twice misses nothing, and does nothing twice."""
    kept = {"day_ahead_local": f'"{minute}"', "snapshot_every": every, "correction_window_days": 3}
    kept |= {"correction_days": "[1, 3]"}
    rules = book(
        _2016_01_01=version(
            zone, reading_wait_s=waits[0], longest_meter_minutes=longest[0], gate_lead_s=leads[0], **kept
        ),
        **{str(day): version(reading_wait_s=waits[1], longest_meter_minutes=longest[1], gate_lead_s=leads[1], **kept)},
    )
    middle = day_bounds(rules, day).start * MARKET_INTERVAL_S
    a, b, c = sorted(data.draw(st.lists(st.integers(middle - 200_000, middle + 200_000), min_size=3, max_size=3)))
    whole = due(rules, a, c)
    assert due(rules, a, b) + due(rules, b, c) == whole
    assert list(whole) == sorted(whole)
    assert set(Counter(whole).values()) <= {1}
    for verb in (Verb.SETTLE, Verb.CLOSE_REAL_TIME):
        about = [each.key for each in whole if each.verb is verb]
        assert about == list(range(about[0], about[0] + len(about))) if about else True
    for each in whole:
        assert each.at == expected_at(rules, each)


def expected_at(rules: Rulebook, each: Due) -> int:
    match each.verb:
        case Verb.OPEN_DAY:
            return day_ahead_at(rules, each.day) - OPEN_LEAD_S
        case Verb.CLOSE_DAY_AHEAD:
            return day_ahead_at(rules, day_of(rules, each.key))
        case Verb.CLOSE_REAL_TIME:
            return real_time_at(rules, each.key)
        case Verb.SETTLE:
            return settle_at(rules, each.key)
        case Verb.CLOSE_DAY | Verb.PUBLISH:
            return close_at(rules, each.day)
        case Verb.FINALISE:
            return final_at(rules, each.day)
        case Verb.CORRECT | Verb.SNAPSHOT:
            return each.key


def test_what_a_day_owes_comes_in_its_order():
    """Opened, cleared, delivered, settled, corrected, closed, published, final."""
    day = date(2016, 7, 1)
    bounds = day_bounds(BERLIN, day)
    until = final_at(BERLIN, day)
    order = {each: k for k, each in enumerate(due(BERLIN, day_ahead_at(BERLIN, day) - 3600, until))}
    opened = Due.of(Verb.OPEN_DAY, day_ahead_at(BERLIN, day) - OPEN_LEAD_S, day_number(day))
    ahead = Due.of(Verb.CLOSE_DAY_AHEAD, day_ahead_at(BERLIN, day), bounds.start)
    gate = Due.of(Verb.CLOSE_REAL_TIME, real_time_at(BERLIN, bounds.start), bounds.start)
    settled = [Due.of(Verb.SETTLE, settle_at(BERLIN, t), t) for t in bounds]
    correct = Due.of(Verb.CORRECT, close_at(BERLIN, day), close_at(BERLIN, day))
    closed = Due.of(Verb.CLOSE_DAY, close_at(BERLIN, day), day_number(day))
    published = Due.of(Verb.PUBLISH, close_at(BERLIN, day), day_number(day))
    final = Due.of(Verb.FINALISE, until, day_number(day))
    steps = [opened, ahead, gate, *settled, correct, closed, published, final]
    places = [order[each] for each in steps]
    assert places == sorted(places)
    assert sum(each.verb is Verb.CORRECT and settled[0].at <= each.at <= closed.at for each in order) == 24
    assert sum(each.verb is Verb.SNAPSHOT and settled[0].at <= each.at <= closed.at for each in order) == 24


def test_a_market_has_nothing_due_before_its_first_day():
    """Not even the gate that closes, or the interval that ends, just as its first day opens."""
    day = date(2016, 7, 1)
    start = day_bounds(MIDNIGHT, day).start
    found = due(MIDNIGHT, (start - 288) * 300, (start + 2) * 300, day)
    assert [(each.verb, each.key) for each in found] == [
        (Verb.OPEN_DAY, day_number(day)),
        (Verb.CLOSE_DAY_AHEAD, start),
        (Verb.CLOSE_REAL_TIME, start),
        (Verb.CLOSE_REAL_TIME, start + 1),
        (Verb.SETTLE, start),
        (Verb.CLOSE_REAL_TIME, start + 2),
    ]
    final = final_at(MIDNIGHT, day - timedelta(days=1))
    assert not [each for each in due(MIDNIGHT, final - 1, final, day) if each.verb is Verb.FINALISE]


def test_intervals_settle_in_order_where_the_wait_becomes_shorter():
    """New rules wait a minute, the old ones an hour: the first intervals of the new day wait for the old day's last."""
    rules = book(_2016_01_01=version(reading_wait_s=3600), _2016_06_01=version(reading_wait_s=60))
    last = day_bounds(rules, date(2016, 5, 31)).stop - 1
    assert (
        settle_at(rules, last) == settle_at(rules, last + 1) == settle_at(rules, last + 11) == (last + 1) * 300 + 3600
    )
    assert settle_at(rules, last + 12) == (last + 13) * 300 + 60
    found = [each for each in due(rules, settle_at(rules, last) - 1, settle_at(rules, last))]
    verbs = [each.verb for each in found if each.verb is not Verb.CLOSE_REAL_TIME]
    assert verbs == [Verb.SETTLE] * 12 + [Verb.CORRECT, Verb.CLOSE_DAY, Verb.PUBLISH, Verb.FINALISE, Verb.SNAPSHOT]


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_an_interval_settles_once_the_longest_meter_interval_that_holds_it_was_read(minutes: int) -> None:
    """Five minutes after it ended at the soonest, and by a constant: the intervals of an hour settle one by one."""
    rules = book(_2016_01_01=version(reading_wait_s=300, longest_meter_minutes=minutes))
    first, span = day_bounds(rules, date(2016, 7, 1)).start, minutes // 5
    for interval in range(first, first + 24):
        read = (interval - interval % span + span) * MARKET_INTERVAL_S
        assert read + 300 <= settle_at(rules, interval) < read + 300 + minutes * 60
        assert settle_at(rules, interval + 1) - settle_at(rules, interval) == MARKET_INTERVAL_S


def test_a_longest_meter_interval_that_fits_no_hour_is_named() -> None:
    with pytest.raises(InputError, match=r"longest_meter_minutes 25; .* divides the hour: 5, 10, 15, 20, 30, 60"):
        book(_2016_01_01=version(longest_meter_minutes=25))


def test_a_day_is_shared_anew_at_the_ages_that_its_rules_name():
    closing = date(2016, 9, 30)
    assert shared_anew(BERLIN, closing) == tuple(closing - timedelta(days=age) for age in (55, 10, 3, 1))
    assert shared_anew(BERLIN, date(2016, 1, 3)) == (date(2016, 1, 2),)
    assert shared_anew(BERLIN, date(2016, 1, 1)) == ()


def test_deadlines_leave_the_settlement_its_time():
    day = date(2016, 7, 1)
    first = day_bounds(BERLIN, day).start
    assert real_time_deadline(BERLIN, first) == first * 300 + 240
    assert day_ahead_deadline(BERLIN, day) == day_ahead_at(BERLIN, day) + 48 * 60


def test_gates_come_before_the_settlement_that_a_second_clearing_is_part_of():
    gate, settle = (Due.of(verb, 0, 0).order for verb in (Verb.CLOSE_REAL_TIME, Verb.SETTLE))
    assert gate < settle
