"""Rows put on the grid of time: what is wrong with a row is noted on the interval it is about."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.metering import Sites, edit, outcomes, profile_of
from tellegen.metering.files import read_csv
from tellegen.metering.load_profile import LoadProfile
from tellegen.records import EditReason, ValidationRule

Rule = ValidationRule
INTERVALS = "meter,start,minutes,import,unit,ratio\n"
REGISTERS = "meter,end,import_register\n"


def rows(text: str, header: str = INTERVALS):
    return read_csv((header + text).encode()).rows


def day(changes: dict[int, str], meter: int = 7) -> str:
    """A day of hours, 10 and 11 Wh in turn; some of its rows written otherwise."""
    usual = [f"{meter},2026-01-01T{h:02d}:00Z,60,{10 + h % 2},Wh,1" for h in range(24)]
    return "\n".join(changes.get(h, row) for h, row in enumerate(usual) if changes.get(h, row)) + "\n"


def noted(profile: LoadProfile) -> dict[int, set[ValidationRule]]:
    (flags,) = edit(profile).findings.flags[0]
    return {k: {rule for rule in Rule if int(f) >> rule & 1} for k, f in enumerate(flags) if f}


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        ("7,2026-01-01T05:00Z,60,11,Wh,1\n7,2026-01-01T05:00Z,60,12,Wh,1", {Rule.DUPLICATE}),
        ("7,2026-01-01T05:00Z,60,0.011,kWh,1", {Rule.UNIT}),
        ("7,2026-01-01T05:00Z,60,11,Wh,20", {Rule.MULTIPLIER}),
        ("7,2026-01-01T05:10Z,60,11,Wh,1", {Rule.INTERVAL_SIZE, Rule.MISSING}),
        ("7,2026-01-01T05:00Z,15,11,Wh,1", {Rule.INTERVAL_SIZE, Rule.MISSING}),
        ("", {Rule.MISSING}),
    ],
)
def test_an_odd_row_costs_its_interval_and_no_other(row: str, rules: set[ValidationRule]) -> None:
    profile, repeats = profile_of(rows(day({5: row})))
    at = 6 if "05:10" in row else 5  # the row ends within the next interval, of which there is a proper one
    found = noted(profile)
    if at == 6:
        assert found == {5: {Rule.MISSING}}
    else:
        assert found == {5: rules}
    assert not repeats.size
    assert edit(profile).profile.channels[0].value[0, 5] in (10, 11)


def test_the_same_row_twice_says_nothing_new() -> None:
    profile, repeats = profile_of(rows(day({}) + "7,2026-01-01T05:00Z,60,11,Wh,1\n"))
    assert noted(profile) == {}
    assert repeats.tolist() == [26]


def test_the_registry_decides_what_unit_and_ratio_are_right() -> None:
    """Rows all of one kind are consistent with each other, and wrong all the same."""
    one = np.array([7])
    for sites, rule in (
        (Sites(one, one * 0, one * 0 + 1000, one * 0), Rule.UNIT),
        (Sites(one, one * 0, one * 0, one * 0 + 40), Rule.MULTIPLIER),
    ):
        profile, _ = profile_of(rows(day({})), sites)
        assert set(map(frozenset, noted(profile).values())) == {frozenset({rule})}


def test_intervals_follow_from_registers_and_a_gap_keeps_its_total() -> None:
    """Registers at 1000, 1010, (lost), (lost), 1040, 1052 Wh: thirty over three intervals."""
    text = "".join(
        f"7,2026-01-01T0{h}:00Z,{wh}\n" for h, wh in ((0, 1000), (1, 1010), (4, 1040), (5, 1052), (6, 1062), (7, 1074))
    )
    profile, _ = profile_of(rows(text, REGISTERS))
    editing = edit(profile)
    assert profile.channels[0].value.tolist() == [[10, 0, 0, 0, 12, 10, 12]]
    assert editing.profile.channels[0].value[0, 1:4].sum() == 30
    (outcome,) = outcomes(editing)
    assert outcome.text == "missing (3); estimated: average (3)"
    assert outcome.reasons == ((EditReason.AVERAGE, 3),)


def test_one_wild_register_spoils_two_intervals_and_no_sum() -> None:
    text = "".join(f"7,2026-01-01T0{h}:00Z,{wh}\n" for h, wh in enumerate((100, 110, 121, 990_000, 141, 152, 162)))
    profile, _ = profile_of(rows(text, REGISTERS))
    one = np.array([7])
    editing = edit(profile, sites=Sites(one, one * 0 + 10_000, one * 0, one * 0))
    assert editing.profile.channels[0].value.tolist() == [[10, 11, 10, 10, 11, 10]]
    assert [rule for rule in editing.rule[0].tolist() if rule] == [Rule.HIGH, Rule.NEGATIVE]


@given(st.permutations(range(30)), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_does_not_matter(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [f"{m},2026-01-01T{h:02d}:00Z,60,{rng.integers(0, 99)},Wh,1" for m in (3, 9, 5) for h in range(10)]
    plain, _ = profile_of(rows("\n".join(lines)))
    mixed, _ = profile_of(rows("\n".join(lines[k] for k in order)))
    assert plain.meter.tolist() == mixed.meter.tolist() == [3, 5, 9]
    assert (plain.channels[0].value == mixed.channels[0].value).all()


def test_a_span_of_time_that_no_profile_has_is_refused_by_its_row() -> None:
    with pytest.raises(InputError, match="row 26 stretches 1 meters over"):
        profile_of(rows(day({}) + "7,1726-01-01T05:00Z,60,11,Wh,1\n"))
    with pytest.raises(InputError, match="is 420 s in most rows; 5, 15, 30 or 60 minutes"):
        profile_of(rows("7,2026-01-01T05:00Z,7,11,Wh,1\n"))
