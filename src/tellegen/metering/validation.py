"""Validation: which readings are believed, one interval at a time (VEE; the rules have numbers).

The checks of `records.ValidationRule` in the order in which they are made; the first that fails names
the rejection.

============== ===================================================================================
MISSING        no reading came
AUTHENTICATION the tag is not the meter's, or the meter is not this customer's
COUNTER        the message counter did not rise: an old message was sent again
NEGATIVE       a cumulative register went backwards
HIGH           more energy than the connection can carry in the time since the last accepted reading
ZERO           both registers stand still, for longer than this customer's ever did
VOLTAGE        the voltage is not one a customer's meter can have
AFTER_GAP      the reading is good, but its difference spans intervals that were estimated
============== ===================================================================================

A rejected reading leaves the accepted registers where they were, and the interval gets an estimate.
The first good reading afterwards becomes the new base, and its interval is estimated as well, because
the difference belongs to several intervals. A register that has jumped for good (a meter was changed
or set anew) would fail NEGATIVE or HIGH for ever; so a reading that is good relative to the last one
this meter sent, itself rejected, also becomes the new base, as after a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.devices import MeteringError
from tellegen.records import Energy, Quality, Readings, ValidationRule
from tellegen.units import INTERVALS_PER_HOUR, IntArray, check_rows

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Registers:
    """Cumulative registers per customer, int64[n]: Wh, Wh and varh."""

    import_wh: IntArray
    export_wh: IntArray
    reactive_varh: IntArray

    def chosen(self, where: BoolArray, other: Registers) -> Registers:
        """These where `where` holds, else the other's."""
        return Registers(
            np.where(where, self.import_wh, other.import_wh),
            np.where(where, self.export_wh, other.export_wh),
            np.where(where, self.reactive_varh, other.reactive_varh),
        )

    def since(self, base: Registers) -> Registers:
        """Differences to earlier registers."""
        return Registers(
            self.import_wh - base.import_wh,
            self.export_wh - base.export_wh,
            self.reactive_varh - base.reactive_varh,
        )


@dataclass(frozen=True, slots=True, eq=False)
class MeterState:
    """What is remembered of the meters between intervals; arrays by customer, ascending.

    Attributes
    ----------
    customer : int64[n], ascending; 0 is the substation.
    meter : int64[n], serial number of the meter installed there.
    counter : int64[n], last message counter seen from the meter.
    accepted : registers of the last accepted reading.
    known : bool[n], whether there has been an accepted reading at all.
    gap : int64[n], intervals since then whose readings were rejected.
    heard : registers of the last authentic reading, accepted or not.
    heard_last : bool[n], whether that came in the last interval and was rejected.
    still : int64[n], intervals for which both registers have not moved.
    """

    customer: IntArray
    meter: IntArray
    counter: IntArray
    accepted: Registers
    known: BoolArray
    gap: IntArray
    heard: Registers
    heard_last: BoolArray
    still: IntArray

    @classmethod
    def installed(cls, customer: IntArray, meter: IntArray, registers: Registers | None = None) -> MeterState:
        """Meters as they were put in, at given registers (read by the fitter) or unknown ones.

        Raises
        ------
        MeteringError : customers are not ascending, each once.
        """
        numbers = np.asarray(customer, dtype=np.int64)
        if (np.diff(numbers) <= 0).any():
            raise MeteringError("customers must be ascending, each once")
        zero = np.zeros(numbers.size, dtype=np.int64)
        start = registers if registers is not None else Registers(zero, zero, zero)
        return cls(
            customer=numbers,
            meter=np.asarray(meter, dtype=np.int64),
            counter=zero - 1,  # so that a meter may start counting at 0
            accepted=start,
            known=np.full(numbers.size, registers is not None),
            gap=zero,
            heard=start,
            heard_last=np.zeros(numbers.size, dtype=np.bool_),
            still=zero,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What a reading may be, per customer in the order of `MeterState.customer`, int64[n].

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


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Energy to assume where a reading is rejected, int64[n]: Wh, Wh and varh."""

    import_wh: IntArray
    export_wh: IntArray
    reactive_varh: IntArray


def validate(
    interval: int,
    readings: Readings,
    authentic: BoolArray,
    state: MeterState,
    limits: Limits,
    estimate: Estimate,
) -> tuple[Energy, MeterState]:
    """Validate the readings at the end of an interval.

    Parameters
    ----------
    interval : the interval that the readings close.
    readings : as they came, in any order; of several from one customer the authentic one with the
        highest counter counts. Readings of customers that are not in `state` are ignored.
    authentic : bool per reading, from `DeviceCodes.check`.
    state : after the interval before.
    limits, estimate : per customer, in the order of `state.customer`.

    Returns
    -------
    One row of energy for each customer of `state`, and the state for the next interval.

    Raises
    ------
    MeteringError : an array has the wrong length.
    QuantityError : an estimate does not fit a row.
    """
    n = state.customer.size
    if authentic.shape != (len(readings),):
        raise MeteringError(f"{authentic.size} authentications for {len(readings)} readings")
    for name, column in (
        ("limits.fuse_w", limits.fuse_w),
        ("limits.voltage_low_mv", limits.voltage_low_mv),
        ("limits.voltage_high_mv", limits.voltage_high_mv),
        ("limits.longest_still", limits.longest_still),
        ("estimate.import_wh", estimate.import_wh),
        ("estimate.export_wh", estimate.export_wh),
        ("estimate.reactive_varh", estimate.reactive_varh),
    ):
        if np.shape(column) != (n,):
            raise MeteringError(f"{name} has shape {np.shape(column)}, {n} customers need one each")
    row, came = _row_of_each(readings, authentic, state)
    if not len(readings):
        readings, authentic = _placeholder(), np.zeros(1, dtype=np.bool_)
    sent = Registers(readings.import_wh[row], readings.export_wh[row], readings.reactive_varh[row])
    genuine = came & authentic[row] & (readings.meter[row] == state.meter)
    fresh = genuine & (readings.counter[row] > state.counter)
    voltage = readings.voltage_mv[row]

    resting = (sent.import_wh == state.accepted.import_wh) & (sent.export_wh == state.accepted.export_wh)
    still = np.where(resting, state.still + 1, 0)
    against = _register_rule(sent, state.accepted, state.gap + 1, still, limits)
    rule = np.where(state.known, against, ValidationRule.NONE)
    # a lasting jump: consistent with the meter's own last word, though that was rejected
    again = state.heard_last & np.isin(rule, (ValidationRule.NEGATIVE, ValidationRule.HIGH))
    consistent = (
        _register_rule(sent, state.heard, np.ones(n, dtype=np.int64), np.zeros_like(still), limits)
        == ValidationRule.NONE
    )
    rebased = again & consistent
    rule = np.where(rebased, ValidationRule.NONE, rule)
    plausible = (voltage >= limits.voltage_low_mv) & (voltage <= limits.voltage_high_mv)
    rule = np.where((rule == ValidationRule.NONE) & ~plausible, ValidationRule.VOLTAGE, rule)
    rule = np.where(fresh, rule, ValidationRule.COUNTER)
    rule = np.where(genuine, rule, ValidationRule.AUTHENTICATION)
    rule = np.where(came, rule, ValidationRule.MISSING)

    accepted = rule == ValidationRule.NONE
    spans = ~state.known | (state.gap > 0) | rebased
    rule = np.where(accepted & spans, ValidationRule.AFTER_GAP, rule)
    measured = accepted & ~spans
    moved = sent.since(state.accepted)
    energy = Energy(
        customer=state.customer.astype(np.int32),
        interval=np.full(n, interval, dtype=np.int64),
        import_wh=np.where(measured, moved.import_wh, check_rows(estimate.import_wh, "estimated import")),
        export_wh=np.where(measured, moved.export_wh, check_rows(estimate.export_wh, "estimated export")),
        reactive_varh=np.where(measured, moved.reactive_varh, check_rows(estimate.reactive_varh, "estimated reactive")),
        quality=np.where(measured, Quality.MEASURED, Quality.ESTIMATED).astype(np.uint8),
        rule=rule.astype(np.uint8),
    )
    following = replace(
        state,
        counter=np.where(fresh, readings.counter[row], state.counter),
        accepted=sent.chosen(accepted, state.accepted),
        known=state.known | accepted,
        gap=np.where(accepted, 0, state.gap + 1),
        heard=sent.chosen(fresh, state.heard),
        heard_last=fresh & ~accepted,
        still=np.where(fresh, still, state.still),
    )
    return energy, following


def _register_rule(sent: Registers, base: Registers, intervals: IntArray, still: IntArray, limits: Limits) -> IntArray:
    """First rule that the movement of the registers since `base` breaks; `still` counts intervals without any."""
    moved = sent.since(base)
    negative = (moved.import_wh < 0) | (moved.export_wh < 0)
    # registers count whole Wh, so a difference may show almost 1 Wh more than flowed
    most = limits.fuse_w * intervals // INTERVALS_PER_HOUR + 1
    high = (moved.import_wh > most) | (moved.export_wh > most)
    high |= (moved.reactive_varh > most) | (moved.reactive_varh < -most)
    return np.select(
        [negative, high, still > limits.longest_still],
        [np.int64(ValidationRule.NEGATIVE), np.int64(ValidationRule.HIGH), np.int64(ValidationRule.ZERO)],
        np.int64(ValidationRule.NONE),
    )


def _row_of_each(readings: Readings, authentic: BoolArray, state: MeterState) -> tuple[IntArray, BoolArray]:
    """Row of the reading that counts for each customer (0 where none came), and whether one came."""
    n = state.customer.size
    number = readings.customer.astype(np.int64)
    order = np.lexsort((readings.counter, authentic, number))
    place = np.searchsorted(state.customer, number[order])
    enrolled = place < n
    enrolled[enrolled] = state.customer[place[enrolled]] == number[order][enrolled]
    row = np.zeros(n, dtype=np.int64)
    came = np.zeros(n, dtype=np.bool_)
    row[place[enrolled]] = order[enrolled]  # of several the last in the order stays
    came[place[enrolled]] = True
    return row, came


def _placeholder() -> Readings:
    """One row that nobody sent, so that indexing by customer works when nothing came."""
    return Readings.from_bytes(bytes(Readings.row_dtype().itemsize))
