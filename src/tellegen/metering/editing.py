"""Editing: what failed is replaced by new versions, each with its rule and reason; what was read stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.checks import PRECEDENCE, Findings, Rules, by_day, check
from tellegen.metering.devices import MeteringError
from tellegen.metering.gaps import Estimates, Methods, estimate
from tellegen.metering.load_profile import DAY_S, FlagArray, LoadProfile, Quantity, Sites, flag
from tellegen.metering.runs import BoolArray
from tellegen.records import Editor, EditReason, Edits, Quality, ValidationRule
from tellegen.units import MARKET_INTERVAL_S, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Editing:
    """What validation, estimation and editing made of a load profile.

    Attributes
    ----------
    raw : as it came.
    findings, estimates : of `raw`.
    """

    raw: LoadProfile
    findings: Findings
    estimates: Estimates

    @property
    def replaced(self) -> BoolArray:
        """bool[3, m, t], where an estimate stands in."""
        return self.estimates.reason > 0

    @property
    def profile(self) -> LoadProfile:
        """The profile with its estimates, marked as such."""
        channels = tuple(
            replace(
                channel,
                value=np.where(replaced, value, channel.value),
                present=channel.present | replaced,
                estimated=channel.estimated | replaced,
            )
            for channel, replaced, value in zip(self.raw.channels, self.replaced, self.estimates.value, strict=True)
        )
        return replace(self.raw, channels=channels)

    @property
    def rule(self) -> NDArray[np.uint8]:
        """uint8[m, t]: the rule that stands on record for each interval, the first of `PRECEDENCE` it failed."""
        return first_rule(np.bitwise_or.reduce(self.findings.flags, axis=0))

    def edits(self, customer: IntArray, version: int | NDArray[np.int32] = 1) -> Edits:
        """The edits as they go on record.

        Parameters
        ----------
        customer : int64[m], customer behind each meter of the profile.
        version : int32[m, t] or one number for all, from `versions.next_version`.

        Raises
        ------
        MeteringError : not one customer for each meter.
        """
        m, t = self.raw.shape
        if np.shape(customer) != (m,):
            raise MeteringError(f"{np.size(customer)} customers for {m} meters")
        row, column = np.nonzero(self.replaced.any(axis=0))
        spanned = self.raw.interval_s // MARKET_INTERVAL_S
        values = [channel.value[row, column] for channel in self.profile.channels]
        reasons = self.estimates.reason[:, row, column]
        return Edits(
            customer=np.asarray(customer, dtype=np.int32)[row],
            interval=(self.raw.first + column) * spanned,
            intervals=np.full(row.size, spanned),
            version=np.broadcast_to(np.asarray(version), (m, t))[row, column],
            import_wh=values[Quantity.WITHDRAWN],
            export_wh=values[Quantity.INJECTED],
            reactive_varh=values[Quantity.REACTIVE],
            quality=np.full(row.size, Quality.ESTIMATED),
            rule=self.rule[row, column],
            editor=np.full(row.size, Editor.RULE),
            reason=np.take_along_axis(reasons, (reasons > 0).argmax(axis=0)[None], axis=0)[0],
        )


def edit(
    profile: LoadProfile, rules: Rules | None = None, methods: Methods | None = None, sites: Sites | None = None
) -> Editing:
    """Check a load profile and estimate what failed; the profile itself stays untouched."""
    findings = check(profile, rules, sites)
    return Editing(profile, findings, estimate(profile, findings, methods, sites))


def first_rule(flags: FlagArray) -> NDArray[np.uint8]:
    """Of the rules in each entry the first of `PRECEDENCE`; NONE where there is none."""
    conditions = [(flags & flag(rule)) != 0 for rule in PRECEDENCE]
    return np.select(conditions, [np.uint8(rule) for rule in PRECEDENCE], np.uint8(ValidationRule.NONE))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be said of one meter's day.

    Attributes
    ----------
    meter, day : serial number; UTC day since the epoch.
    rules : each rule that was broken, with the number of intervals.
    reasons : how those that were replaced were estimated, with the number of intervals.
    unresolved : intervals that failed and of which nothing could be estimated.
    """

    meter: int
    day: int
    rules: tuple[tuple[ValidationRule, int], ...]
    reasons: tuple[tuple[EditReason, int], ...]
    unresolved: int

    @property
    def date(self) -> str:
        """The day as ISO 8601 writes it."""
        return datetime.fromtimestamp(self.day * DAY_S, UTC).date().isoformat()

    @property
    def text(self) -> str:
        """One sentence for a person."""
        said = ", ".join(f"{name(rule)} ({count})" for rule, count in self.rules)
        done = ", ".join(f"{name(reason)} ({count})" for reason, count in self.reasons)
        left = f"; nothing to estimate {self.unresolved} from" if self.unresolved else ""
        return said + (f"; estimated: {done}" if done else "") + left


def outcomes(editing: Editing) -> list[Outcome]:
    """Every meter's day of which something is to be said, by meter and day."""
    profile = editing.raw
    flags = by_day(profile, np.bitwise_or.reduce(editing.findings.flags, axis=0), 0)
    # several channels of an interval are replaced for one reason as a rule; the record keeps the first
    reason = by_day(profile, editing.estimates.reason.max(axis=0), 0)
    left = np.asarray((editing.findings.failing & ~editing.replaced).any(axis=0))
    by_rule = {rule: ((flags & flag(rule)) != 0).sum(axis=2) for rule in PRECEDENCE}
    by_reason = {why: (reason == why).sum(axis=2) for why in EditReason}
    open_ = by_day(profile, left, False).sum(axis=2)
    return [
        Outcome(
            meter=int(profile.meter[row]),
            day=int(profile.day[0]) + int(day),
            rules=tuple((rule, int(n[row, day])) for rule, n in by_rule.items() if n[row, day]),
            reasons=tuple((why, int(n[row, day])) for why, n in by_reason.items() if n[row, day]),
            unresolved=int(open_[row, day]),
        )
        for row, day in zip(*np.nonzero((flags != 0).any(axis=2)), strict=True)
    ]


def name(member: ValidationRule | EditReason) -> str:
    """A rule or reason as people write it.

    >>> name(ValidationRule.SUM_CHECK)
    'sum check'
    """
    return member.name.lower().replace("_", " ")
