"""Validation: which readings are believed, one interval at a time (VEE; the rules have numbers).

The checks of `records.ValidationRule` in the order in which they are made; the first that fails names the rejection.

============== ===================================================================================
MISSING        no reading came
NEGATIVE       a cumulative register went backwards
HIGH           more energy than the connection can carry in the time since the last accepted reading
ZERO           both registers stand still, for longer than this customer's ever did
VOLTAGE        the voltage is not one a customer's meter can have
AFTER_GAP      the reading is good, but its difference spans intervals that were estimated
============== ===================================================================================

Codes and counters are the intake's to check: what it took is the meter's own, and of several readings about an
interval the one with the highest counter counts. So the readings of a meter are a set with one for each interval at
most, and this is a fold over that set in the order of the intervals; when a reading arrived does not matter.

A rejected reading leaves the accepted registers where they were, and the interval gets an estimate. The first good
reading afterwards becomes the new base, and its interval is estimated as well, because the difference belongs to
several intervals. A register that has jumped for good (a meter was set anew) would fail NEGATIVE or HIGH for ever; so
a reading that is good relative to the one of the interval before, itself rejected, also becomes the new base, as after
a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.devices import MeteringError
from tellegen.metering.load_profile import UNLIMITED_W, Quantity
from tellegen.metering.runs import BoolArray
from tellegen.metering.spans import backwards, beyond_capacity
from tellegen.records import Energy, Quality, Readings, ValidationRule
from tellegen.records.latest import latest
from tellegen.units import MARKET_INTERVAL_S, IntArray, check_rows

NEVER = -(2**31)
"""An interval before all others: that of a reading there never was."""
VOLTAGE_LOW_MV, VOLTAGE_HIGH_MV = 160_000, 290_000
"""Phase to neutral, outside of which no low-voltage meter runs."""
_CAPACITY_MAX_W = UNLIMITED_W - 24
"""What such a connection carries in one interval still fits a row."""
RuleArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class MeterState:
    """What is remembered of n meters between intervals.

    Attributes
    ----------
    accepted : int64[3, n], registers of the last accepted reading, by `Quantity`: Wh, Wh, varh.
    accepted_at : int32[n], the interval that it closed; `NEVER`: there was none.
    heard : int64[3, n], registers of the last reading, accepted or not.
    heard_at : int32[n], the interval that it closed; `NEVER`.
    still : int32[n], readings on end that showed the accepted registers of Wh.
    measured : int32[3, n], energy of the last interval that was measured, zeros before: an estimate goes by it.
    """

    accepted: IntArray
    accepted_at: NDArray[np.int32]
    heard: IntArray
    heard_at: NDArray[np.int32]
    still: NDArray[np.int32]
    measured: NDArray[np.int32]

    @classmethod
    def unknown(cls, meters: int) -> Self:
        """Meters nobody has heard of: the first reading of each is its base."""
        never = np.full(meters, NEVER, dtype=np.int32)
        nothing = np.zeros((3, meters), dtype=np.int64)
        flat = nothing.astype(np.int32)
        return cls(nothing, never, nothing, never, flat[0], flat)

    @classmethod
    def installed(cls, registers: IntArray, interval: int) -> Self:
        """Meters whose registers, int64[3, n], the fitter read at the end of an interval."""
        n = registers.shape[1]
        at = np.full(n, interval, dtype=np.int32)
        return replace(cls.unknown(n), accepted=registers, accepted_at=at, heard=registers, heard_at=at)

    def __len__(self) -> int:
        return int(self.still.size)

    def take(self, where: NDArray[np.generic]) -> MeterState:
        """Meters by integer index or mask."""
        return MeterState(*(getattr(self, spec.name)[..., where] for spec in fields(self)))

    def where(self, holds: BoolArray, other: MeterState) -> MeterState:
        """These where `holds`, else the other's."""
        return MeterState(
            *(np.where(holds, getattr(self, spec.name), getattr(other, spec.name)) for spec in fields(self))
        )

    def with_rows(self, rows: NDArray[np.generic], other: MeterState) -> MeterState:
        """These, some rows replaced by the other's, in its order."""
        columns = []
        for spec in fields(self):
            column = getattr(self, spec.name).copy()
            column[..., rows] = getattr(other, spec.name)
            columns.append(column)
        return MeterState(*columns)

    def joined(self, other: MeterState) -> MeterState:
        """These, then the other's."""
        return MeterState(
            *(np.concatenate([getattr(self, spec.name), getattr(other, spec.name)], axis=-1) for spec in fields(self))
        )

    def differs(self, other: MeterState) -> BoolArray:
        """bool[n]: something of a meter is not the same."""
        columns = [getattr(self, spec.name) != getattr(other, spec.name) for spec in fields(self)]
        return np.asarray(np.logical_or.reduce([np.atleast_2d(column).any(axis=0) for column in columns]))


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """What n meters sent about an interval: the one reading of each that counts.

    Attributes
    ----------
    came : bool[n], whether there is one; elsewhere the other columns are zeros.
    registers : int64[3, n], by `Quantity`.
    voltage_mv : int64[n].
    """

    came: BoolArray
    registers: IntArray
    voltage_mv: IntArray

    @classmethod
    def of(cls, readings: Readings, customer: IntArray, meter: IntArray) -> Self:
        """Readings about one interval, in any order, put to the meters they are of; strangers' are left out.

        Parameters
        ----------
        readings : of several of one meter that with the highest counter counts, then the later on record.
        customer, meter : int64[n], who is read, each customer once.
        """
        number = readings.customer.astype(np.int64)
        by_customer = np.argsort(customer, kind="stable")
        at = np.searchsorted(customer, number, sorter=by_customer)
        there = at < customer.size
        place = np.zeros(number.size, dtype=np.int64)
        place[there] = by_customer[at[there]]
        rows = np.flatnonzero(there)
        rows = rows[(customer[place[rows]] == number[rows]) & (meter[place[rows]] == readings.meter[rows])]
        return cls.placed(readings.take(rows), place[rows], customer.size)

    @classmethod
    def placed(cls, readings: Readings, place: IntArray, meters: int) -> Self:
        """Readings whose meter among n is known; of several the highest counter counts, then the later on record."""
        rows = latest([place], [readings.counter])
        at = place[rows]
        registers = np.zeros((3, meters), dtype=np.int64)
        voltage = np.zeros(meters, dtype=np.int64)
        came = np.zeros(meters, dtype=np.bool_)
        for quantity, column in zip(Quantity, registers_of(readings), strict=True):
            registers[quantity, at] = column[rows]
        voltage[at] = readings.voltage_mv[rows]
        came[at] = True
        return cls(came, registers, voltage)

    def take(self, where: NDArray[np.generic]) -> Sent:
        """Meters by integer index or mask."""
        return Sent(self.came[where], self.registers[:, where], self.voltage_mv[where])


def registers_of(readings: Readings) -> tuple[IntArray, IntArray, IntArray]:
    """Registers of readings by `Quantity`."""
    return readings.import_wh, readings.export_wh, readings.reactive_varh


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What a reading may be, int64[n] each.

    Attributes
    ----------
    fuse_w : connection capacity, either direction; bounds Wh and varh.
    voltage_low_mv, voltage_high_mv : the voltage is implausible outside.
    longest_still : longest run of intervals without movement in the customer's past
        (`longest_stillness`); standing still for longer is a fault.
    """

    fuse_w: IntArray
    voltage_low_mv: IntArray
    voltage_high_mv: IntArray
    longest_still: IntArray

    @classmethod
    def of(cls, fuse_w: IntArray, longest_still: IntArray) -> Self:
        """Limits of low-voltage connections."""
        n = fuse_w.size
        return cls(fuse_w, np.full(n, VOLTAGE_LOW_MV), np.full(n, VOLTAGE_HIGH_MV), longest_still)


def judged(interval: int | IntArray, sent: Sent, state: MeterState, limits: Limits) -> RuleArray:
    """The rule that each meter's reading breaks, uint8[n] of `ValidationRule`; changes nothing.

    Parameters
    ----------
    interval : the interval that the readings close, one for all or one for each meter.
    sent : what came.
    state : after the interval before.
    limits : of each meter.

    Raises
    ------
    MeteringError : an array has the wrong length.
    """
    n = len(state)
    for spec in fields(limits):
        if np.shape(getattr(limits, spec.name)) != (n,):
            shape = np.shape(getattr(limits, spec.name))
            raise MeteringError(f"limits.{spec.name} has shape {shape}, {n} meters need one each")
    if sent.came.shape != (n,):
        raise MeteringError(f"{sent.came.size} readings for {n} meters")
    known = state.accepted_at > NEVER
    since = np.where(known, interval - state.accepted_at.astype(np.int64), 1)
    still = np.where(_resting(sent, state), state.still.astype(np.int64) + 1, 0)
    against = _register_rule(sent.registers - state.accepted, since, still, limits)
    rule = np.where(known, against, np.uint8(ValidationRule.NONE))
    # a lasting jump: consistent with the meter's own last word, though that was rejected
    rejected = (state.heard_at == interval - 1) & (state.accepted_at != state.heard_at)
    again = rejected & ((rule == ValidationRule.NEGATIVE) | (rule == ValidationRule.HIGH))
    rebased = again
    if again.any():
        one, moving = np.ones(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        rebased = again & (_register_rule(sent.registers - state.heard, one, moving, limits) == ValidationRule.NONE)
        rule = np.where(rebased, np.uint8(ValidationRule.NONE), rule)
    plausible = (sent.voltage_mv >= limits.voltage_low_mv) & (sent.voltage_mv <= limits.voltage_high_mv)
    rule = np.where((rule == ValidationRule.NONE) & ~plausible, np.uint8(ValidationRule.VOLTAGE), rule)
    rule = np.where(sent.came, rule, np.uint8(ValidationRule.MISSING))
    spans = ~known | (since > 1) | rebased
    return np.where((rule == ValidationRule.NONE) & spans, np.uint8(ValidationRule.AFTER_GAP), rule)


def bridges(interval: int | IntArray, sent: Sent, state: MeterState, rule: RuleArray, limits: Limits) -> BoolArray:
    """bool[n]: a gap ends here, and what the registers moved is what flowed in all of its intervals and this one."""
    gap = (rule == ValidationRule.AFTER_GAP) & (state.accepted_at > NEVER)
    since = interval - state.accepted_at.astype(np.int64)
    moving = np.zeros(len(state), dtype=np.int64)
    against = _register_rule(sent.registers - state.accepted, since, moving, limits)
    return np.asarray(gap & (since > 1) & (against == ValidationRule.NONE))


def advanced(interval: int | IntArray, sent: Sent, state: MeterState, rule: RuleArray) -> MeterState:
    """The state after an interval, given what came and the rule on record for it; nothing is judged again."""
    at = np.broadcast_to(np.asarray(interval, dtype=np.int32), rule.shape)
    measured = rule == ValidationRule.NONE
    accepted = measured | (rule == ValidationRule.AFTER_GAP)
    still = np.where(_resting(sent, state), state.still + np.int32(1), np.int32(0))
    return MeterState(
        accepted=np.where(accepted, sent.registers, state.accepted),
        accepted_at=np.where(accepted, at, state.accepted_at),
        heard=np.where(sent.came, sent.registers, state.heard),
        heard_at=np.where(sent.came, at, state.heard_at),
        still=np.where(sent.came, still, state.still),
        measured=np.where(measured, sent.registers - state.accepted, state.measured).astype(np.int32),
    )


def energy_of(
    interval: int,
    customer: IntArray,
    sent: Sent,
    state: MeterState,
    rule: RuleArray,
    estimate: IntArray,
    every: int | IntArray = 1,
) -> Energy:
    """Energy of an interval: what the registers moved where that was measured, else the estimate.

    Parameters
    ----------
    estimate : int64[3, n], by `Quantity`, Wh and varh.
    every : market intervals that one reading of each meter spans.

    Raises
    ------
    MeteringError : not one estimate for each.
    QuantityError : an estimate does not fit a row.
    """
    n = rule.size
    if estimate.shape != (3, n):
        raise MeteringError(f"estimates have shape {estimate.shape}, (3, {n}) is needed")
    measured = rule == ValidationRule.NONE
    wh = np.where(measured, sent.registers - state.accepted, check_rows(estimate, "estimated energy"))
    return Energy(
        customer=customer.astype(np.int32),
        interval=np.full(n, interval, dtype=np.int64),
        import_wh=wh[Quantity.WITHDRAWN],
        export_wh=wh[Quantity.INJECTED],
        reactive_varh=wh[Quantity.REACTIVE],
        quality=quality_of(rule, every).astype(np.uint8),
        rule=rule,
    )


def quality_of(rule: IntArray | RuleArray, every: int | IntArray) -> IntArray:
    """Standing of energy, `Quality`: measured, or shared over a meter's span, where no rule was broken."""
    good = np.where(np.asarray(every) > 1, Quality.PROFILED, Quality.MEASURED)
    return np.where(rule == ValidationRule.NONE, good, Quality.ESTIMATED)


def validate(
    interval: int, customer: IntArray, sent: Sent, state: MeterState, limits: Limits, estimate: IntArray
) -> tuple[Energy, MeterState]:
    """Validate what came at the end of an interval: one row of energy for each, and the state for the next.

    `judged`, `energy_of` and `advanced` in one; see there.
    """
    rule = judged(interval, sent, state, limits)
    return energy_of(interval, customer, sent, state, rule, estimate), advanced(interval, sent, state, rule)


def _resting(sent: Sent, state: MeterState) -> BoolArray:
    shown = (sent.registers[: Quantity.REACTIVE] == state.accepted[: Quantity.REACTIVE]).all(axis=0)
    return np.asarray(shown & (state.accepted_at > NEVER))


def _register_rule(moved: IntArray, intervals: IntArray, still: IntArray, limits: Limits) -> RuleArray:
    """First rule that a movement of the registers in some intervals breaks; `still` counts readings without any."""
    minutes = intervals * (MARKET_INTERVAL_S // 60)
    capacity_w = np.minimum(limits.fuse_w, _CAPACITY_MAX_W)
    negative = np.logical_or.reduce([backwards(quantity, wh) for quantity, wh in zip(Quantity, moved, strict=True)])
    high = np.logical_or.reduce([beyond_capacity(wh, capacity_w, minutes) for wh in moved])
    return np.select(
        [negative, high, still > limits.longest_still],
        [np.uint8(ValidationRule.NEGATIVE), np.uint8(ValidationRule.HIGH), np.uint8(ValidationRule.ZERO)],
        np.uint8(ValidationRule.NONE),
    )
