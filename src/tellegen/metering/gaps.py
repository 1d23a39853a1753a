"""Gaps: energy to assume where nothing good was measured, by methods that depend on how long the gap is.

A short gap is drawn as a straight line; one of up to a day copies the last good day of its kind; a longer one takes
the mean of several. Where neither has anything to go by, the meter's own mean stands in. Whatever the method, if the
registers on both sides of a gap are known, the estimates share out exactly what flowed between them: by largest
remainder, rule ``estimation``, equal remainders by the hash of the interval's number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.checks import Findings, day_kind
from tellegen.metering.devices import MeteringError
from tellegen.metering.load_profile import Channel, LoadProfile, Quantity, Sites, flag
from tellegen.metering.runs import BoolArray, Runs
from tellegen.metering.spans import Spans
from tellegen.records import EditReason, ValidationRule
from tellegen.units import IntArray, allocate, tie_hash

_TWELFTHS = 12
"""A mean of up to four days, in a unit that divides it: law 1 divides once, over the whole gap."""
PROFILE_DAYS_MAX = 4


@dataclass(frozen=True, slots=True)
class Methods:
    """Up to which length of gap a method is used, and how far back it looks.

    Attributes
    ----------
    interpolation_minutes : straight line between the good intervals on both sides.
    similar_day_hours : the most recent good value at this time of a day of the same kind.
    profile_days : days whose mean a longer gap takes, 1 to `PROFILE_DAYS_MAX`.
    lookback_days : how far back days are looked for.
    """

    interpolation_minutes: int = 60
    similar_day_hours: int = 24
    profile_days: int = PROFILE_DAYS_MAX
    lookback_days: int = 35

    def __post_init__(self) -> None:
        if not 1 <= self.profile_days <= PROFILE_DAYS_MAX:
            raise MeteringError(f"a profile is the mean of 1 to {PROFILE_DAYS_MAX} days, not of {self.profile_days}")


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What stands in for the intervals that failed.

    Attributes
    ----------
    value : int64[3, m, t], by `Quantity`, Wh or varh; 0 where `reason` is 0.
    reason : uint8[3, m, t], `EditReason`; 0 where nothing is estimated.
    unconserved : spans whose estimates do not sum to the registers, for what was measured is more than they moved.
    """

    value: IntArray
    reason: NDArray[np.uint8]
    unconserved: int


def estimate(
    profile: LoadProfile, findings: Findings, methods: Methods | None = None, sites: Sites | None = None
) -> Estimates:
    """Estimate every interval that failed and of whose meter anything is known.

    Parameters
    ----------
    profile, findings : the profile, history included, and what `check` found of it.
    methods : parameters; their defaults otherwise.
    sites : connection capacities, as for `check`.

    >>> from tellegen.metering.checks import check
    >>> wh = np.array([[10, 0, 0, 40]])
    >>> nothing = Channel.of(wh * 0, wh < 0)
    >>> profile = LoadProfile.of(np.array([7]), 900, 0, (Channel.of(wh, wh > 0), nothing, nothing))
    >>> estimate(profile, check(profile)).value[0].tolist()
    [[0, 20, 30, 0]]
    """
    how = methods if methods is not None else Methods()
    capacity_w = (sites if sites is not None else Sites.none()).capacity_w_of(profile.meter)
    value = np.zeros(findings.flags.shape, dtype=np.int64)
    reason = np.zeros(findings.flags.shape, dtype=np.uint8)
    unconserved = 0
    for quantity in Quantity:
        if not findings.failing[quantity].any():
            continue
        gaps = _Gaps(profile, profile.channels[quantity], findings.failing[quantity])
        gaps.interpolate(how)
        gaps.from_days(how, EditReason.SIMILAR_DAY, 1, how.similar_day_hours * 3600)
        gaps.from_days(how, EditReason.PROFILE, how.profile_days, None)
        gaps.average()
        gaps.keep_shape(findings.flags[quantity])
        spans = Spans.of(profile.channels[quantity], quantity, capacity_w, profile.interval_s)
        unconserved += gaps.conserve(quantity, spans.take(spans.sound))
        value[quantity][gaps.row, gaps.column] = gaps.value
        reason[quantity][gaps.row, gaps.column] = gaps.reason
    return Estimates(value, reason, unconserved)


@dataclass(slots=True, eq=False)
class _Gaps:
    """The intervals of a channel that failed, as flat arrays by meter and time, and what is assumed of each so far."""

    profile: LoadProfile
    channel: Channel
    bad: BoolArray
    good: BoolArray = field(init=False)
    row: IntArray = field(init=False)
    column: IntArray = field(init=False)
    gap: IntArray = field(init=False)
    runs: Runs = field(init=False)
    value: IntArray = field(init=False)
    reason: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.good = self.channel.present & ~self.channel.estimated & ~self.bad
        self.row, self.column = np.nonzero(self.bad)
        self.runs = Runs.of(~self.good)
        self.gap = self.runs.number(self.profile.shape)[self.row, self.column]
        self.value = np.zeros(self.row.size, dtype=np.int64)
        self.reason = np.zeros(self.row.size, dtype=np.uint8)

    def interpolate(self, how: Methods) -> None:
        """A straight line over gaps that are short and have a good interval on each side."""
        t = self.profile.shape[1]
        fits = (self.runs.length * self.profile.interval_s <= how.interpolation_minutes * 60) & (self.runs.start > 0)
        at = np.flatnonzero((fits & (self.runs.end < t))[self.gap])
        gap, row = self.gap[at], self.row[at]
        left, right = self.runs.start[gap] - 1, self.runs.end[gap]
        low, high = self.channel.value[row, left], self.channel.value[row, right]
        steps = right - left
        self._settle(at, low * steps + (high - low) * (self.column[at] - left), steps, EditReason.INTERPOLATION)

    def from_days(self, how: Methods, reason: EditReason, days: int, longest_s: int | None) -> None:
        """The mean of the last good values at this time of day on days of the same kind."""
        s = self.profile.per_day
        open_ = self.reason == 0
        if longest_s is not None:
            open_ &= (self.runs.length * self.profile.interval_s <= longest_s)[self.gap]
        at = np.flatnonzero(open_)
        total, seen = np.zeros(at.size, dtype=np.int64), np.zeros(at.size, dtype=np.int64)
        kind = day_kind(self.profile.day)
        for back in range(1, how.lookback_days + 1):
            earlier = self.column[at] - back * s
            here = np.flatnonzero((earlier >= 0) & (seen < days))
            if not here.size:
                break
            row, then, now = self.row[at[here]], earlier[here], self.column[at[here]]
            usable = self.good[row, then] & (kind[then] == kind[now])
            total[here] += np.where(usable, self.channel.value[row, then], 0)
            seen[here] += usable
        found = seen > 0
        mean = total[found] * (_TWELFTHS // seen[found])
        self._settle(at[found], mean, np.full(mean.size, _TWELFTHS), reason)

    def average(self) -> None:
        """The mean of all good intervals of the meter."""
        count = self.good.sum(axis=1)
        total = np.where(self.good, self.channel.value, 0).sum(axis=1)
        at = np.flatnonzero((self.reason == 0) & (count[self.row] > 0))
        self._settle(at, total[self.row[at]], count[self.row[at]], EditReason.AVERAGE)

    def keep_shape(self, flags: NDArray[np.uint32]) -> None:
        """What failed only by its sum keeps its shape; the registers give its total."""
        at = (flags[self.row, self.column] & ~flag(ValidationRule.PROLONGED_ESTIMATION)) == flag(
            ValidationRule.SUM_CHECK
        )
        self.value[at] = self.channel.value[self.row[at], self.column[at]]
        self.reason[at] = EditReason.MEASURED_SHAPE

    def conserve(self, quantity: Quantity, spans: Spans) -> int:
        """Make the estimates of each span sum to its registers; returns the spans where that cannot be."""
        number = Runs(spans.row, spans.start, spans.end).number(self.profile.shape)[self.row, self.column]
        there = ~self.bad & self.channel.present
        rest = spans.total - spans.sums(np.where(there, self.channel.value, 0))
        # nothing may be shared out where an earlier hole was never filled, or what is left is negative
        closed = spans.sums((there | self.bad).astype(np.int64)) == spans.end - spans.start
        possible = closed & ((rest >= 0) | (quantity == Quantity.REACTIVE))
        touched = np.zeros(spans.row.size, dtype=np.bool_)
        inside = np.flatnonzero(number >= 0)
        touched[number[inside]] = True
        at = inside[possible[number[inside]]]
        if at.size:
            self._share(quantity, at, number[at], rest)
        return int((touched & ~possible).sum())

    def _share(self, quantity: Quantity, at: IntArray, span: IntArray, rest: IntArray) -> None:
        group = np.cumsum(np.append(True, np.diff(span) != 0)) - 1
        total = rest[span[np.append(True, np.diff(span) != 0)]]
        base = np.zeros(at.size, dtype=np.int64)
        weight = np.maximum(self.value[at], 0)
        if quantity == Quantity.REACTIVE:  # signed: what the registers add is spread evenly over the estimates
            base, weight = self.value[at], np.ones(at.size, dtype=np.int64)
            total = total - _sums(group, base, total.size)
        weightless = _sums(group, weight, total.size) == 0
        weight = np.where(weightless[group], 1, weight)
        ties = tie_hash("estimation", np.arange(self.profile.first, self.profile.first + self.profile.shape[1]))
        self.value[at] = base + shares(total, weight, group, ties[self.column[at]])
        self.reason[at] = np.where(self.reason[at] == 0, EditReason.EVEN_SPREAD, self.reason[at])

    def _settle(self, at: IntArray, numerator: IntArray, denominator: IntArray, reason: EditReason) -> None:
        """Assume fractions: rounded cumulatively along each gap, so that rounding never adds up."""
        if not at.size:
            return
        until = np.cumsum(numerator)
        first = np.append(True, np.diff(self.gap[at]) != 0)
        start = np.flatnonzero(first)
        until -= np.repeat((until - numerator)[start], np.diff(np.append(start, at.size)))
        whole = until // denominator
        self.value[at] = np.where(first, whole, np.diff(whole, prepend=0))
        self.reason[at] = reason


def _sums(group: IntArray, values: IntArray, groups: int) -> IntArray:
    """Exact sum of each group of successive entries."""
    start = np.searchsorted(group, np.arange(groups))
    return np.asarray(np.add.reduceat(values, start))


def shares(totals: IntArray, weight: IntArray, group: IntArray, ties: NDArray[np.uint64]) -> IntArray:
    """`units.allocate` for many groups at once: each total shared in proportion to the weights of its group.

    Parameters
    ----------
    totals : int64[g], any sign.
    weight : int64[n], none negative, one at least positive in each group.
    group : int64[n], ascending from 0, every group at least once.
    ties : uint64[n]; equal remainders go to the smaller first.

    >>> shares(np.array([10, -1]), np.array([1, 1, 1, 5]), np.array([0, 0, 0, 1]), np.arange(4).astype("u8")).tolist()
    [4, 3, 3, -1]
    """
    whole = _sums(group, weight, totals.size)
    magnitude = np.abs(totals)
    rest = magnitude % whole
    if int(rest.max(initial=0)) * int(weight.max(initial=0)) >= 2**63:  # exact all the same, one group at a time
        starts = np.flatnonzero(np.diff(group, prepend=-1))[1:]
        parts = zip(totals.tolist(), np.split(weight, starts), np.split(ties, starts), strict=True)
        return np.concatenate([allocate(total, weights, hashes) for total, weights, hashes in parts])
    share, remainder = np.divmod(rest[group] * weight, whole[group])
    missing = rest - _sums(group, share, totals.size)
    order = np.lexsort((ties, -remainder, group))
    rank = np.arange(group.size) - np.searchsorted(group, group)
    share[order] += rank < missing[group]
    return np.asarray(np.where(totals[group] < 0, -1, 1) * ((magnitude // whole)[group] * weight + share))
