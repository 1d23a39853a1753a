"""Checks of load profiles, under the names that utilities give them, vectorised over meters and intervals.

A check looks only at what was measured; an estimate made before has its reason already. Checks that compare
(spike, sum) rely on what passed the others, and are made again until nothing more fails: so a profile in which
everything that failed has been replaced passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.load_profile import Channel, FlagArray, LoadProfile, Quantity, Sites, flag
from tellegen.metering.runs import BoolArray, Runs
from tellegen.metering.spans import Spans, backwards, beyond_capacity
from tellegen.records import ValidationRule
from tellegen.units import IntArray

REVIEW = flag(ValidationRule.HIGH_LOW, ValidationRule.PROLONGED_ESTIMATION)
"""Rules that ask a person to look and replace nothing."""
FAILING = ~(REVIEW | flag(ValidationRule.NONE))
PRECEDENCE = (
    ValidationRule.INTERVAL_SIZE,
    ValidationRule.DUPLICATE,
    ValidationRule.UNIT,
    ValidationRule.MULTIPLIER,
    ValidationRule.NEGATIVE,
    ValidationRule.HIGH,
    ValidationRule.ZERO,
    ValidationRule.CONSECUTIVE,
    ValidationRule.SPIKE,
    ValidationRule.SUM_CHECK,
    ValidationRule.MISSING,
    ValidationRule.HIGH_LOW,
    ValidationRule.PROLONGED_ESTIMATION,
)
"""Of several rules that an interval failed, the first of these is its rule on record."""
_MONDAY = 3
"""The epoch began on a Thursday."""
_SATURDAY = 5
_SPIKE_PEERS = 3
_Cell = TypeVar("_Cell", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Rules:
    """Parameters of the checks.

    Attributes
    ----------
    spike_percent : by how much a day's largest value may exceed its third largest, percent of the latter.
    spike_floor_w : mean power below which no value is a spike.
    sum_tolerance_wh, sum_tolerance_permille : how far the intervals of a span may sum beside the difference of its
        registers; the larger of the two counts.
    zero_hours : no energy either way for longer is a fault.
    consecutive_hours : the same value, not zero, for longer is a fault.
    history_days : earlier days of the same kind (Monday to Friday, weekend) that a day is compared with.
    history_days_min : fewer than these say nothing.
    high_percent, low_percent : a day above or below this share of their mean is unusual.
    lookback_days : how far back those days may lie.
    prolonged_hours : estimates in a row for longer are reported.
    """

    spike_percent: int = 180
    spike_floor_w: int = 5_000
    sum_tolerance_wh: int = 2
    sum_tolerance_permille: int = 1
    zero_hours: int = 24
    consecutive_hours: int = 12
    history_days: int = 4
    history_days_min: int = 3
    high_percent: int = 300
    low_percent: int = 20
    lookback_days: int = 35
    prolonged_hours: int = 72


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What the checks found.

    Attributes
    ----------
    flags : uint32[3, m, t], by `Quantity`; a bit per rule, `flag`.
    contradictory : spans whose registers cannot be right, so that no sum could be checked.
    """

    flags: NDArray[np.uint32]
    contradictory: int

    @property
    def failing(self) -> NDArray[np.bool_]:
        """bool[3, m, t], where a value is to be replaced."""
        return np.asarray((self.flags & FAILING) != 0)


def day_kind(day: IntArray) -> BoolArray:
    """Whether a day since the epoch is a Saturday or Sunday."""
    return (day + _MONDAY) % 7 >= _SATURDAY


def check(profile: LoadProfile, rules: Rules | None = None, sites: Sites | None = None) -> Findings:
    """Check a load profile.

    Parameters
    ----------
    profile : history included, where there is some: the days before are what a day is compared with.
    rules : parameters; their defaults otherwise.
    sites : connection capacities; without them HIGH is not checked.

    >>> from tellegen.metering.load_profile import Channel
    >>> day = np.full((1, 288), 20); day[0, 100] = -5; day[0, 200] = 900
    >>> nothing = Channel.of(np.zeros((1, 288), dtype=int), np.zeros((1, 288), dtype=bool))
    >>> profile = LoadProfile.of(np.array([7]), 300, 0, (Channel.of(day), nothing, nothing))
    >>> found = check(profile, Rules(consecutive_hours=24)).flags[0, 0]
    >>> found[100] == flag(ValidationRule.NEGATIVE), found[200] == flag(ValidationRule.SPIKE)
    (np.True_, np.True_)
    """
    rule = rules if rules is not None else Rules()
    capacity_w = (sites if sites is not None else Sites.none()).capacity_w_of(profile.meter)
    flags = np.zeros((len(Quantity), *profile.shape), dtype=np.uint32)
    contradictory = 0
    for quantity in Quantity:
        channel = profile.channels[quantity]
        if not channel.metered.any():
            continue
        found = _each_interval(profile, quantity, rule, capacity_w)
        spans = Spans.of(channel, quantity, capacity_w, profile.interval_s)
        contradictory += int((~spans.sound).sum())
        _until_settled(profile, quantity, rule, found, spans.take(spans.sound))
        found |= _high_low(profile, channel, found, rule)
        found |= _prolonged(profile, channel, found, rule)
        flags[quantity] = found
    return Findings(flags, contradictory)


def _each_interval(profile: LoadProfile, quantity: Quantity, rules: Rules, capacity_w: IntArray) -> FlagArray:
    """Checks in which intervals do not depend on what passed elsewhere."""
    channel = profile.channels[quantity]
    measured = channel.present & ~channel.estimated
    metered = channel.metered[:, None]
    found = np.where(metered & ~channel.estimated, profile.noted, np.uint32(0))
    failures = (
        (ValidationRule.MISSING, ~channel.present & metered),
        (ValidationRule.NEGATIVE, backwards(quantity, channel.value)),
        (ValidationRule.HIGH, beyond_capacity(channel.value, capacity_w[:, None], profile.interval_s // 60)),
        (ValidationRule.ZERO, _zero(profile, rules) if quantity == Quantity.WITHDRAWN else np.False_),
        (ValidationRule.CONSECUTIVE, _consecutive(profile, channel, measured, rules)),
    )
    for rule, failed in failures:
        asked = failed if rule == ValidationRule.MISSING else failed & measured
        found |= np.where(asked, flag(rule), np.uint32(0))
    return found


def _zero(profile: LoadProfile, rules: Rules) -> BoolArray:
    """Nothing flowed either way for too long; where injection is metered, it has to have been."""
    withdrawn, injected = profile.channels[Quantity.WITHDRAWN], profile.channels[Quantity.INJECTED]
    none_injected = injected.present & ~injected.estimated & (injected.value == 0)
    resting = withdrawn.present & ~withdrawn.estimated & (withdrawn.value == 0)
    resting &= none_injected | ~injected.metered[:, None]
    runs = Runs.of(resting)
    return runs.take(runs.length * profile.interval_s > rules.zero_hours * 3600).painted(profile.shape)


def _consecutive(profile: LoadProfile, channel: Channel, measured: BoolArray, rules: Rules) -> BoolArray:
    """The same value, not zero, for too long."""
    counted = measured & (channel.value != 0)
    runs = Runs.of(counted[:, 1:] & counted[:, :-1] & (np.diff(channel.value, axis=1) == 0))
    runs = Runs(runs.row, runs.start, runs.end + 1)  # k equal steps join k + 1 values
    return runs.take(runs.length * profile.interval_s > rules.consecutive_hours * 3600).painted(profile.shape)


def _until_settled(profile: LoadProfile, quantity: Quantity, rules: Rules, found: FlagArray, spans: Spans) -> None:
    """Spike and sum checks over what passed so far, in place, until they find nothing more."""
    channel = profile.channels[quantity]
    measured = channel.present & ~channel.estimated
    while True:
        good = measured & ((found & FAILING) == 0)
        failed = _spike(profile, channel, good, rules) if quantity != Quantity.REACTIVE else np.zeros_like(good)
        if failed.any():
            found[failed] |= flag(ValidationRule.SPIKE)
            continue
        failed = _sums_fail(channel, good, spans, rules)
        if not failed.any():
            return
        found[failed] |= flag(ValidationRule.SUM_CHECK)


def _spike(profile: LoadProfile, channel: Channel, good: BoolArray, rules: Rules) -> BoolArray:
    """The day's largest values, where they stand too far above its third largest."""
    days = by_day(profile, np.where(good, channel.value, -1), -1)
    if days.shape[2] < _SPIKE_PEERS:
        return np.zeros_like(good)
    third = np.partition(days, days.shape[2] - _SPIKE_PEERS, axis=2)[:, :, -_SPIKE_PEERS]
    third = third[:, profile.day - profile.day[0]]
    floor_wh = rules.spike_floor_w * profile.interval_s // 3600
    too_far = (channel.value - third) * 100 > rules.spike_percent * third
    return np.asarray(good & (third >= 0) & (channel.value > floor_wh) & too_far)


def _sums_fail(channel: Channel, good: BoolArray, spans: Spans, rules: Rules) -> BoolArray:
    """Spans all of whose intervals passed, but do not sum to the difference of the registers."""
    if not spans.row.size:
        return np.zeros_like(good)
    whole = spans.sums(good.astype(np.int64)) == spans.end - spans.start
    beside = np.abs(spans.sums(np.where(good, channel.value, 0)) - spans.total)
    tolerance = np.maximum(rules.sum_tolerance_wh, np.abs(spans.total) * rules.sum_tolerance_permille // 1000)
    failed = spans.take(whole & (beside > tolerance))
    return Runs(failed.row, failed.start, failed.end).painted((good.shape[0], good.shape[1]))


def _high_low(profile: LoadProfile, channel: Channel, found: FlagArray, rules: Rules) -> FlagArray:
    """Days, measured throughout, far from the mean of the last days of their kind."""
    good = channel.present & ~channel.estimated & ((found & FAILING) == 0)
    whole = np.asarray(by_day(profile, good, False).all(axis=2))
    energy = by_day(profile, np.where(good, channel.value, 0), 0).sum(axis=2)
    kind = day_kind(profile.day[0] + np.arange(whole.shape[1]))
    before, days = np.zeros_like(energy), np.zeros_like(energy)
    for back in range(1, min(rules.lookback_days, whole.shape[1] - 1) + 1):
        counts = whole[:, :-back] & (kind[back:] == kind[:-back]) & (days[:, back:] < rules.history_days)
        before[:, back:] += np.where(counts, energy[:, :-back], 0)
        days[:, back:] += counts
    said = whole & (days >= rules.history_days_min)
    said &= (energy * days * 100 > rules.high_percent * before) | (energy * days * 100 < rules.low_percent * before)
    return np.where(said[:, profile.day - profile.day[0]], flag(ValidationRule.HIGH_LOW), np.uint32(0))


def _prolonged(profile: LoadProfile, channel: Channel, found: FlagArray, rules: Rules) -> FlagArray:
    """Stretches without a good value that have lasted too long."""
    runs = Runs.of(channel.estimated | ((found & FAILING) != 0))
    runs = runs.take(runs.length * profile.interval_s > rules.prolonged_hours * 3600)
    return np.where(runs.painted(profile.shape), flag(ValidationRule.PROLONGED_ESTIMATION), np.uint32(0))


def by_day(profile: LoadProfile, cells: NDArray[_Cell], filling: int | bool) -> NDArray[_Cell]:
    """[m, t] as [m, days, intervals of a day]; intervals outside the profile get `filling`."""
    m, t = profile.shape
    s = profile.per_day
    lead = profile.first % s
    days = -(-(lead + t) // s)
    whole = np.full((m, days * s), filling, dtype=cells.dtype)
    whole[:, lead : lead + t] = cells
    return whole.reshape(m, days, s)
