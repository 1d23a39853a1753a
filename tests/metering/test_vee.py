"""Validation, estimation and editing of load profiles: each check and estimate against one written meter by meter."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.metering import (
    Channel,
    LoadProfile,
    MeteringError,
    Methods,
    Quantity,
    Rules,
    Sites,
    check,
    edit,
    estimate,
    flag,
    outcomes,
)
from tellegen.metering.checks import FAILING, day_kind
from tellegen.metering.gaps import shares
from tellegen.metering.runs import Runs
from tellegen.records import Editor, EditReason, Edits, Quality, ValidationRule
from tellegen.units import allocate

Rule = ValidationRule
HOUR = 3600
RULES = Rules(
    spike_floor_w=0, consecutive_hours=4, zero_hours=5, sum_tolerance_wh=0, sum_tolerance_permille=0, prolonged_hours=30
)
METHODS = Methods(interpolation_minutes=120, similar_day_hours=6, profile_days=3, lookback_days=14)


def absent(shape: tuple[int, int]) -> Channel:
    return Channel.of(np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_))


def hourly(channel: Channel, first: int = 0, injected: Channel | None = None) -> LoadProfile:
    """A profile of hours, of withdrawn energy and maybe injected."""
    shape = channel.value.shape
    other = injected if injected is not None else absent(shape)
    return LoadProfile.of(np.arange(shape[0]) + 1, HOUR, first, (channel, other, absent(shape)))


@st.composite
def profiles(draw: st.DrawFn, days: int = 4) -> LoadProfile:
    """A few meters over a few days, with holes, wild values, flat stretches, and registers read now and then."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, t = draw(st.integers(1, 3)), draw(st.integers(1, 24 * days))
    true = rng.integers(0, draw(st.sampled_from([2, 12, 500])), (m, t))
    if draw(st.booleans()):
        true[:, : t // 3] = true[:, :1]
    register = np.zeros((m, t + 1), dtype=np.int64)
    register[:, 1:] = np.cumsum(true, axis=1)
    register += rng.integers(0, 10**6, (m, 1))
    known = rng.random((m, t + 1)) < draw(st.sampled_from([0.0, 0.1, 1.0]))
    register[rng.random((m, t + 1)) < draw(st.sampled_from([0.0, 0.03]))] += rng.integers(-900, 900)
    present = rng.random((m, t)) > draw(st.sampled_from([0.0, 0.2, 0.7]))
    value = true.copy()
    value[rng.random((m, t)) < draw(st.sampled_from([0.0, 0.05]))] = -7
    value[rng.random((m, t)) < draw(st.sampled_from([0.0, 0.05]))] *= 50
    channel = Channel(
        np.where(present, value, 0), present, np.zeros((m, t), np.bool_), np.where(known, register, 0), known
    )
    return hourly(channel, draw(st.integers(0, 200)))


SITES = Sites(np.array([1, 2, 3]), np.array([4000, 0, 9000]), np.zeros(3, np.int64), np.zeros(3, np.int64))


def naive_flags(profile: LoadProfile, row: int) -> list[set[ValidationRule]]:
    """Every check of one meter's withdrawn energy, as a person would do it, interval by interval."""
    channel = profile.channels[0]
    t = profile.shape[1]
    value, present = channel.value[row].tolist(), channel.present[row].tolist()
    found: list[set[ValidationRule]] = [set() for _ in range(t)]
    if not (any(present) or channel.known[row].any()):
        return found
    capacity = {1: 4000, 3: 9000}.get(row + 1)
    for k in range(t):
        if not present[k]:
            found[k].add(Rule.MISSING)
            continue
        if value[k] < 0:
            found[k].add(Rule.NEGATIVE)
        if capacity is not None and abs(value[k]) > capacity + 1:
            found[k].add(Rule.HIGH)
        for rule, hours, like in (
            (Rule.ZERO, RULES.zero_hours, lambda a, b: a == 0 == b),
            (Rule.CONSECUTIVE, RULES.consecutive_hours, lambda a, b: a == b != 0),
        ):
            first = last = k
            while first > 0 and present[first - 1] and like(value[first - 1], value[k]):
                first -= 1
            while last < t - 1 and present[last + 1] and like(value[last + 1], value[k]):
                last += 1
            if like(value[k], value[k]) and last - first + 1 > hours:
                found[k].add(rule)
    again = True
    while again:
        again = naive_spikes(profile, value, present, found) or naive_sums(
            profile, row, value, present, found, capacity
        )
    return found


def naive_spikes(profile: LoadProfile, value: list[int], present: list[bool], found: list[set[ValidationRule]]) -> bool:
    changed = []
    for day in sorted(set(profile.day.tolist())):
        good = [k for k in range(len(value)) if profile.day[k] == day and present[k] and not found[k]]
        if len(good) >= 3:
            third = sorted(value[k] for k in good)[-3]
            changed += [k for k in good if value[k] > 0 and (value[k] - third) * 100 > RULES.spike_percent * third]
    for k in changed:
        found[k].add(Rule.SPIKE)
    return bool(changed)


def naive_sums(
    profile: LoadProfile,
    row: int,
    value: list[int],
    present: list[bool],
    found: list[set[ValidationRule]],
    capacity: int | None,
) -> bool:
    changed = False
    for first, end, total in naive_spans(profile, row, capacity):
        inside = range(first, end)
        if all(present[k] and not found[k] for k in inside) and sum(value[k] for k in inside) != total:
            changed = True
            for k in inside:
                found[k].add(Rule.SUM_CHECK)
    return changed


def naive_spans(profile: LoadProfile, row: int, capacity: int | None) -> list[tuple[int, int, int]]:
    """Sound spans: a register that contradicts both its neighbours is left out; the others that contradict break."""
    channel = profile.channels[0]
    edges = np.flatnonzero(channel.known[row]).tolist()
    register = channel.register[row].tolist()

    def sound(a: int, b: int) -> bool:
        moved = register[b] - register[a]
        return moved >= 0 and (capacity is None or moved <= capacity * (b - a) + 1)

    steps = list(itertools.pairwise(edges))
    wild = {b for (a, b), (_, c) in itertools.pairwise(steps) if not sound(a, b) and not sound(b, c)}
    kept = [edge for edge in edges if edge not in wild]
    return [(a, b, register[b] - register[a]) for a, b in itertools.pairwise(kept) if sound(a, b)]


def as_sets(flags: np.ndarray) -> list[set[ValidationRule]]:
    return [{rule for rule in Rule if int(bits) & FAILING & (1 << rule)} for bits in flags]


@given(profiles())
@settings(max_examples=200, deadline=None)
def test_checks_find_what_a_person_finds_meter_by_meter(profile: LoadProfile) -> None:
    flags = check(profile, RULES, SITES).flags[0]
    for row in range(profile.shape[0]):
        assert as_sets(flags[row]) == naive_flags(profile, row)


def naive_estimates(profile: LoadProfile, row: int, bad: list[bool]) -> tuple[list[int], list[int]]:
    """Estimates of one meter before the registers are looked at: value and reason of each interval."""
    t = len(bad)
    value = profile.channels[0].value[row].tolist()
    good = [bool(profile.channels[0].present[row, k]) and not bad[k] for k in range(t)]
    out, why = [0] * t, [0] * t
    kind = day_kind(profile.day).tolist()
    k = 0
    while k < t:
        if good[k]:
            k += 1
            continue
        end = k
        while end < t and not good[end]:
            end += 1
        gap = range(k, end)
        parts: dict[int, list[tuple[int, int, int]]] = {}
        for at in gap:
            past = [
                value[at - 24 * back]
                for back in range(1, METHODS.lookback_days + 1)
                if at - 24 * back >= 0 and good[at - 24 * back] and kind[at - 24 * back] == kind[at]
            ]
            if end - k <= 2 and k > 0 and end < t:
                span = end - k + 1
                low, high = value[k - 1], value[end]
                part = (EditReason.INTERPOLATION, low * span + (high - low) * (at - k + 1), span)
            elif end - k <= METHODS.similar_day_hours and past:
                part = (EditReason.SIMILAR_DAY, past[0] * 12, 12)
            elif past:
                last = past[: METHODS.profile_days]
                part = (EditReason.PROFILE, sum(last) * (12 // len(last)), 12)
            elif any(good):
                part = (EditReason.AVERAGE, sum(v for v, g in zip(value, good, strict=True) if g), sum(good))
            else:
                continue
            parts.setdefault(part[0], []).append((at, part[1], part[2]))
        for reason, cells in parts.items():
            until = 0
            for at, numerator, denominator in cells:
                out[at] = (until + numerator) // denominator - until // denominator
                until += numerator
                why[at] = reason
        k = end
    return out, why


@given(profiles(days=16))
@settings(max_examples=100, deadline=None)
def test_estimates_are_those_of_a_person_meter_by_meter(profile: LoadProfile) -> None:
    bare = replace(profile.channels[0], known=np.zeros_like(profile.channels[0].known))
    profile = hourly(bare, profile.first)
    findings = check(profile, RULES)
    found = estimate(profile, findings, METHODS)
    for row in range(profile.shape[0]):
        bad = findings.failing[0, row].tolist()
        value, reason = naive_estimates(profile, row, bad)
        assert found.value[0, row].tolist() == [v if b else 0 for v, b in zip(value, bad, strict=True)]
        assert found.reason[0, row].tolist() == [r if b else 0 for r, b in zip(reason, bad, strict=True)]


@given(profiles(days=6))
@settings(max_examples=200, deadline=None)
def test_estimates_share_out_exactly_what_the_registers_say(profile: LoadProfile) -> None:
    """law 1: an edited span sums to the difference of its registers, unless what was measured is more than that."""
    editing = edit(profile, RULES, METHODS, SITES)
    left = 0
    for row in range(profile.shape[0]):
        capacity = {1: 4000, 3: 9000}.get(row + 1)
        for first, end, total in naive_spans(profile, row, capacity):
            cells = slice(first, end)
            if editing.replaced[0, row, cells].any():
                exact = editing.profile.channels[0].value[row, cells].sum() == total
                kept = np.where(editing.replaced[0], 0, profile.channels[0].value)[row, cells].sum()
                assert exact or kept > total
                left += not exact
    assert editing.estimates.unconserved == left


@given(profiles(days=6))
@settings(max_examples=200, deadline=None)
def test_what_was_edited_passes_and_is_not_edited_again(profile: LoadProfile) -> None:
    """Only what nothing is known of stays open; what was read is never changed."""
    before = [profile.channels[0].value.copy(), profile.channels[0].present.copy()]
    first = edit(profile, RULES, METHODS, SITES)
    again = edit(first.profile, RULES, METHODS, SITES)
    assert not again.replaced.any()
    open_ = first.findings.failing & ~first.replaced
    assert (again.findings.failing == open_).all()
    kept = ~first.replaced[0]
    assert (first.profile.channels[0].value[kept] == before[0][kept]).all()
    assert (profile.channels[0].value == before[0]).all()
    assert (profile.channels[0].present == before[1]).all()


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([300, 900, 1800, 3600]))
def test_good_data_pass_untouched(seed: int, m: int, interval_s: int) -> None:
    rng = np.random.default_rng(seed)
    t = 3 * 86_400 // interval_s
    most = 12_000 * interval_s // 3600
    value = np.sort(rng.integers(most // 2, most, (m, t)), axis=1)
    value[:, 1::2] -= 1  # ordinary load does not stand still
    register = np.concatenate([np.zeros((m, 1), np.int64), np.cumsum(value, axis=1)], axis=1)
    channel = replace(Channel.of(value), register=register, known=np.ones_like(register, dtype=np.bool_))
    nothing = absent((m, t))
    profile = LoadProfile.of(np.arange(m), interval_s, 0, (channel, channel, nothing))
    unlimited = replace(SITES, meter=np.arange(3), capacity_w=np.full(3, 12_000))
    editing = edit(profile, sites=unlimited)
    assert not editing.findings.flags.any()
    assert not len(editing.edits(np.arange(m)))
    assert outcomes(editing) == []


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6))))
def test_many_shares_at_once_are_those_of_one_at_a_time(groups: list[tuple[int, list[int]]]) -> None:
    groups = [(total, weights) for total, weights in groups if any(weights)]
    sizes = [len(weights) for _, weights in groups]
    ties = np.arange(sum(sizes))[::-1].astype(np.uint64)
    whole = (
        shares(
            np.array([total for total, _ in groups], dtype=np.int64),
            np.array([w for _, weights in groups for w in weights], dtype=np.int64),
            np.repeat(np.arange(len(groups)), sizes),
            ties,
        )
        if groups
        else np.zeros(0, np.int64)
    )
    at = 0
    for total, weights in groups:
        here = slice(at, at + len(weights))
        assert whole[here].tolist() == allocate(total, weights, ties[here]).tolist()
        at += len(weights)


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_runs_are_the_stretches_of_true(holds: list[list[bool]]) -> None:
    runs = Runs.of(holds)
    found = {(r, s, e) for r, s, e in zip(runs.row.tolist(), runs.start.tolist(), runs.end.tolist(), strict=True)}
    text = ["".join("x" if h else "." for h in row) + "." for row in holds]
    assert found == {
        (row, k, line.index(".", k))
        for row, line in enumerate(text)
        for k in range(5)
        if line[k] == "x" and (k == 0 or line[k - 1] == ".")
    }
    assert (runs.painted((len(holds), 5)) == np.array(holds)).all()


def test_a_day_far_from_the_days_before_is_reported_and_not_replaced() -> None:
    """1970-01-01 was a Thursday: day 4 is a Monday, and the weekend between says nothing of it."""
    value = np.full((1, 24 * 12), 100) + np.tile([[0, 1]], 144)
    value[0, 24 * 7 : 24 * 8] *= 4
    value[0, 24 * 11 : 24 * 12] -= 90
    editing = edit(hourly(Channel.of(value)))
    days = {(o.day, o.rules, o.reasons) for o in outcomes(editing)}
    assert days == {(7, ((Rule.HIGH_LOW, 24),), ()), (11, ((Rule.HIGH_LOW, 24),), ())}
    assert not editing.replaced.any()


def test_estimation_that_goes_on_is_reported() -> None:
    value = np.arange(24 * 8)[None] % 7 + 20
    present = np.ones_like(value, dtype=np.bool_)
    present[0, 50:130] = False
    editing = edit(hourly(Channel.of(np.where(present, value, 0), present)))
    for flags in (editing.findings.flags, check(editing.profile).flags):
        prolonged = (flags[0, 0] & flag(Rule.PROLONGED_ESTIMATION)) != 0
        assert np.flatnonzero(prolonged).tolist() == list(range(50, 130))


def test_a_home_that_injects_is_not_still() -> None:
    value, sun = np.zeros((1, 30), dtype=np.int64), np.zeros((1, 30), dtype=np.int64)
    sun[0, ::2] = 5
    still = flag(Rule.ZERO)
    assert (check(hourly(Channel.of(value)), RULES).flags[0] & still).all()
    assert not (check(hourly(Channel.of(value), injected=Channel.of(sun)), RULES).flags[0] & still).any()


def test_reactive_energy_may_be_negative_and_keeps_its_registers() -> None:
    value = np.array([[-5, 4, 0, -9]])
    present = np.array([[True, True, False, True]])
    register, known = np.array([[0, 0, 0, 0, -3]]), np.array([[True, False, False, False, True]])
    reactive = Channel(value, present, ~present & False, register, known)
    active = Channel.of(np.array([[1, 2, 3, 4]]))
    profile = LoadProfile.of(np.array([1]), HOUR, 0, (active, absent((1, 4)), reactive))
    editing = edit(profile)
    assert as_sets(editing.findings.flags[Quantity.REACTIVE, 0]) == [set(), set(), {Rule.MISSING}, set()]
    assert editing.profile.channels[Quantity.REACTIVE].value.tolist() == [[-5, 4, 7, -9]]


def test_edits_go_on_record_with_rule_reason_and_all_three_quantities() -> None:
    value, present = np.array([[10, 0, 30, 40]]), np.array([[True, False, True, True]])
    profile = hourly(Channel.of(value, present), 1000, Channel.of(np.array([[0, 2, 3, 4]])))
    edits = edit(profile).edits(np.array([77]), 3)
    want = Edits([77], [12_012], [12], [3], [20], [2], [0], [Quality.ESTIMATED], [Rule.MISSING], [Editor.RULE], [1])
    assert edits.equals(want)
    with pytest.raises(MeteringError, match="2 customers for 1 meters"):
        edit(profile).edits(np.array([1, 2]))


def test_nothing_is_made_up_of_a_meter_of_which_nothing_is_known() -> None:
    present = np.zeros((1, 4), dtype=np.bool_)
    register, known = np.array([[0, 0, 0, 0, 10]]), np.array([[False, False, False, False, True]])
    one_edge = Channel(np.zeros((1, 4), np.int64), present, present.copy(), register, known)
    editing = edit(hourly(one_edge))
    assert not editing.replaced.any()
    (outcome,) = outcomes(editing)
    assert outcome.text == "missing (4); nothing to estimate 4 from"
    two = replace(one_edge, known=np.array([[True, False, False, False, True]]))
    assert edit(hourly(two)).profile.channels[0].value.sum() == 10


def test_a_profile_of_more_days_than_can_be_divided_exactly_is_refused() -> None:
    with pytest.raises(MeteringError, match="1 to 4 days, not of 5"):
        Methods(profile_days=5)
