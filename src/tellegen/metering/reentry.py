"""Validation entered again: some meters folded forward from where their state is certain.

A measured interval leaves a state that its own reading says all of: accepted and heard are its registers, there is no
gap, and if something flowed nothing stands still. So the last such interval before a late reading is an anchor from
which the fold can start; and once an interval comes out measured as it stands on record, with no late reading about
it, all that follows is as it was, up to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.devices import MeteringError
from tellegen.metering.load_profile import Quantity
from tellegen.metering.past import Estimates
from tellegen.metering.runs import BoolArray
from tellegen.metering.standing import Standing, exchanged
from tellegen.metering.validation import Limits, MeterState, RuleArray, Sent, advanced, bridges, judged, quality_of
from tellegen.records import Energy, Quality, Readings, ValidationRule
from tellegen.records.latest import latest
from tellegen.units import IntArray, check_rows

NOWHERE = -1
"""Serial number where a customer is not connected."""
BACK_FIRST, AHEAD_FIRST, BLOCK_MAX = 1, 3, 96
"""Intervals asked for at once: nearly always the ones around a late reading are enough."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where k customers were read in an interval each, int64[k].

    Attributes
    ----------
    meter : serial number of the meter installed; `NOWHERE`: not connected.
    capacity_w : of the connection.
    reads_every : market intervals that one reading of the meter spans.
    """

    meter: IntArray
    capacity_w: IntArray
    reads_every: IntArray

    def take(self, where: IntArray) -> Places:
        """Some of the pairs."""
        return Places(self.meter[where], self.capacity_w[where], self.reads_every[where])


class Known(Protocol):
    """What is on record, asked about many pairs of customer and interval at once, int64[k] each."""

    def since(self, customer: IntArray) -> IntArray:
        """The first interval of which a customer has energy on record, int64[k]."""

    def readings(self, customer: IntArray, interval: IntArray) -> tuple[Readings, IntArray]:
        """All readings about the pairs that count, late ones included, in the order of the record; their intervals.

        Those of coarse meters as `metering.coarse` makes them.
        """

    def energy(self, customer: IntArray, interval: IntArray) -> tuple[Energy, IntArray]:
        """What is believed of the pairs now, in any order, where there is a row; and its version."""

    def places(self, customer: IntArray, interval: IntArray) -> Places:
        """Where the customers were read."""

    def estimates(self, customer: IntArray, interval: IntArray) -> Estimates:
        """What to assume of the customers."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Rows that a fold made, of which energy is on record: what they are now, and what stands there.

    `quality` is what each row is now; `base` is the interval of the register before a gap that ends in the row, -1
    where none does.
    """

    customer: IntArray
    interval: IntArray
    energy_wh: IntArray
    rule: IntArray
    quality: IntArray
    base: IntArray
    moved: IntArray
    believed_wh: IntArray
    believed_quality: IntArray
    believed_rule: IntArray
    version: IntArray

    @classmethod
    def none(cls) -> Folded:
        """No rows."""
        flat, three = np.zeros(0, dtype=np.int64), np.zeros((3, 0), dtype=np.int64)
        return cls(flat, flat, three, flat, flat, flat, three, three, flat, flat, flat)

    @classmethod
    def joined(cls, parts: list[Folded]) -> Folded:
        """All rows, by customer and interval."""
        names = cls.__slots__
        columns = {name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names}
        order = np.lexsort((columns["interval"], columns["customer"]))
        return cls(**{name: column[..., order] for name, column in columns.items()})

    @property
    def pinned(self) -> BoolArray:
        """What a person put on record."""
        return np.asarray(self.believed_quality == Quality.CORRECTED)


class Fold:
    """Validation of some customers from their anchors on.

    Parameters
    ----------
    customer, first : int64[k] ascending, and the interval before which each one's state is wanted.
    until : the last interval there is.
    """

    def __init__(self, known: Known, customer: IntArray, first: IntArray, until: int) -> None:
        self._known, self._until = known, until
        self.customer = customer
        self.reached = first - 1
        """The interval up to which each customer is folded."""
        self._state = MeterState.unknown(customer.size)
        self._meter = np.full(customer.size, NOWHERE, dtype=np.int64)
        self._open = np.ones(customer.size, dtype=np.bool_)
        self._enter(first)

    def _enter(self, first: IntArray) -> None:
        """Find the anchors: the last intervals before `first` that were measured and in which something flowed."""
        since = self._known.since(self.customer)
        anchor = np.full(self.customer.size, -1, dtype=np.int64)
        measured = np.zeros((3, self.customer.size), dtype=np.int64)
        end, block = first.copy(), BACK_FIRST
        looking = np.flatnonzero(end > since)
        while looking.size:
            offset = np.arange(-block, 0)
            interval = end[looking, None] + offset
            row, column = np.nonzero(interval >= since[looking, None])
            who, when = self.customer[looking[row]], interval[row, column]
            energy, _ = self._known.energy(who, when)
            good = _was_read(energy.quality) & (energy.rule == ValidationRule.NONE)
            energy = energy.take(good & ((energy.import_wh != 0) | (energy.export_wh != 0)))
            energy = energy.take(np.lexsort((energy.interval, energy.customer)))
            energy = energy.take(latest([energy.customer]))
            found = np.searchsorted(self.customer, energy.customer)
            anchor[found] = energy.interval
            measured[:, found] = _wh(energy)
            end[looking] -= block
            looking = looking[(anchor[looking] < 0) & (end[looking] > since[looking])]
            block = min(block * 4, BLOCK_MAX)
        sure = np.flatnonzero(anchor >= 0)
        self.reached = np.where(anchor >= 0, anchor, since - 1)
        if not sure.size:
            return
        who, when = self.customer[sure], anchor[sure]
        places = self._known.places(who, when)
        sent = self._sent(who, when, places)
        if not sent.came.all():
            at = int(np.argmin(sent.came))
            raise MeteringError(
                f"customer {who[at]}, interval {when[at]}: measured energy is on record and the reading it rests on "
                "is not; check the intake's journal"
            )
        heard = when.astype(np.int32)
        still = np.zeros(sure.size, dtype=np.int32)
        certain = MeterState(sent.registers, heard, sent.registers, heard, still, measured[:, sure].astype(np.int32))
        self._state = self._state.with_rows(sure, certain)
        self._meter[sure] = places.meter

    def run(self, late: IntArray) -> Folded:
        """Fold until each customer's state is the one on record, or to the end.

        Parameters
        ----------
        late : the late pairs, as `pairs` counts them.
        """
        parts = [Folded.none()]
        block = AHEAD_FIRST
        while True:
            active = np.flatnonzero(self._open & (self.reached < self._until))
            if not active.size:
                return Folded.joined(parts)
            parts.extend(self._block(active, block, late))
            block = min(block * 2, BLOCK_MAX)

    def open_ends(self) -> Standing:
        """State of those that were folded to the end and never met a meter that is not on record."""
        ended = self._open & (self._meter != NOWHERE)
        return Standing(self.customer[ended], self._meter[ended], self._state.take(ended))

    def _block(self, active: IntArray, block: int, late: IntArray) -> list[Folded]:
        """Fold the next intervals of the active customers, asked for at once."""
        n = active.size
        who = np.repeat(self.customer[active], block)
        when = (self.reached[active, None] + 1 + np.arange(block)).ravel()
        inside = when <= self._until
        asked, about = who[inside], when[inside]
        places = self._known.places(asked, about)
        estimates = self._known.estimates(asked, about)
        sent = self._sent(asked, about, places)
        believed = _Believed.of(self._known, asked, about)
        tardy = np.isin(pairs(asked, about), late)
        at = np.full(n * block, -1, dtype=np.int64)
        at[inside] = np.arange(asked.size)
        grid = at.reshape(n, block)
        parts = []
        running = np.arange(n)
        for column in range(block):
            pair = grid[running, column]
            running, pair = running[pair >= 0], pair[pair >= 0]
            if not running.size:
                break
            rows = active[running]
            self.reached[rows] = about[pair]
            on = places.meter[pair] != NOWHERE
            rows, here = rows[on], pair[on]
            state = self._state.take(rows)
            state = exchanged(state, self._meter[rows] != places.meter[here])
            folded, after = _step(about[here], sent.take(here), state, places.take(here), estimates.take(here))
            agree = believed.agrees(here, *folded[:2]) & ~tardy[here]
            self._state = self._state.with_rows(rows, after)
            self._meter[rows] = places.meter[here]
            wh, rule, base, moved = folded
            there = np.flatnonzero(believed.there[here])
            parts.append(
                Folded(
                    self.customer[rows][there],
                    about[here][there],
                    wh[:, there],
                    rule[there].astype(np.int64),
                    quality_of(rule[there], places.reads_every[here[there]]),
                    base[there],
                    moved[:, there],
                    believed.wh[:, here[there]],
                    believed.quality[here[there]],
                    believed.rule[here[there]],
                    believed.version[here[there]],
                )
            )
            self._open[rows[agree]] = False
            running = running[self._open[active[running]]]
        return parts

    def _sent(self, who: IntArray, when: IntArray, places: Places) -> Sent:
        """The reading that counts of each pair; pairs are ascending."""
        readings, about = self._known.readings(who, when)
        at, there = _placed(readings.customer, about, who, when)
        there[there] = places.meter[at[there]] == readings.meter[there]
        return Sent.placed(readings.take(there), at[there], who.size)


@dataclass(frozen=True, slots=True, eq=False)
class _Believed:
    """What is on record of k pairs; zeros where there is no row."""

    there: BoolArray
    wh: IntArray
    quality: IntArray
    rule: IntArray
    version: IntArray

    @classmethod
    def of(cls, known: Known, who: IntArray, when: IntArray) -> _Believed:
        energy, version = known.energy(who, when)
        at, found = _placed(energy.customer, energy.interval, who, when)
        at, energy = at[found], energy.take(found)
        there, wh = np.zeros(who.size, dtype=np.bool_), np.zeros((3, who.size), dtype=np.int64)
        quality, rule, versions = (np.zeros(who.size, dtype=np.int64) for _ in range(3))
        there[at], wh[:, at] = True, _wh(energy)
        quality[at], rule[at], versions[at] = energy.quality, energy.rule, version[found]
        return cls(there, wh, quality, rule, versions)

    def agrees(self, at: IntArray, wh: IntArray, rule: RuleArray) -> BoolArray:
        """Whether an interval comes out measured, as it stands, with something flowing: an anchor in both worlds."""
        stands = self.there[at] & _was_read(self.quality[at]) & (self.rule[at] == ValidationRule.NONE)
        moving = (wh[: Quantity.REACTIVE] != 0).any(axis=0)
        return np.asarray(stands & (rule == ValidationRule.NONE) & moving & (wh == self.wh[:, at]).all(axis=0))


def _step(
    interval: IntArray, sent: Sent, state: MeterState, places: Places, estimates: Estimates
) -> tuple[tuple[IntArray, RuleArray, IntArray, IntArray], MeterState]:
    """Energy, rule, base and movement of a gap that ends (`Folded`); and the state for the next interval."""
    limits = Limits.of(places.capacity_w, estimates.longest_still)
    rule = judged(interval, sent, state, limits)
    moved = sent.registers - state.accepted
    estimate = check_rows(estimates.energy(state.measured.astype(np.int64)), "estimated energy")
    wh = np.where(rule == ValidationRule.NONE, moved, estimate)
    ends = bridges(interval, sent, state, rule, limits)
    base = np.where(ends, state.accepted_at, -1).astype(np.int64)
    return (wh, rule, base, np.where(ends, moved, 0)), advanced(interval, sent, state, rule)


def _was_read(quality: NDArray[np.integer]) -> BoolArray:
    """Whether energy is a difference of registers, be it over a longer interval of the meter."""
    return np.asarray((quality == Quality.MEASURED) | (quality == Quality.PROFILED))


def _wh(energy: Energy) -> IntArray:
    """int64[3, n] by `Quantity`."""
    return np.stack([energy.import_wh, energy.export_wh, energy.reactive_varh])


def pairs(customer: NDArray[np.integer], interval: NDArray[np.integer]) -> IntArray:
    """One number for each pair, in their order."""
    return customer.astype(np.int64) * 2**32 + interval


def _placed(
    customer: NDArray[np.integer], interval: IntArray, who: IntArray, when: IntArray
) -> tuple[IntArray, BoolArray]:
    """Place of each row among ascending pairs, and whether it has one."""
    rows, wanted = pairs(customer, interval), pairs(who, when)
    at = np.searchsorted(wanted, rows).astype(np.int64)
    there = at < wanted.size
    there[there] = wanted[at[there]] == rows[there]
    return at, there
