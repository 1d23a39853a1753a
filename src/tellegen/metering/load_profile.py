"""Load profiles: what many meters recorded, interval by interval, on one grid of time.

Three quantities, each a channel: energy withdrawn, energy injected, reactive energy (net withdrawal).
A meter's interval is 5, 15, 30 or 60 minutes and numbered from the epoch, in UTC, so that every day has
the same number of intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.metering.runs import BoolArray
from tellegen.records import ValidationRule
from tellegen.units import ROW_LIMIT, IntArray

DAY_S = 86_400
INTERVAL_LENGTHS_S = (300, 900, 1800, 3600)
CELLS_MAX = 20_000_000
"""Meters times intervals of one profile."""
INTERVALS_MAX = 1_000_000
"""Ten years of five minutes."""
UNLIMITED_W = ROW_LIMIT * 12
"""A capacity beyond what a row of five minutes can hold."""
FlagArray = NDArray[np.uint32]


class Quantity(IntEnum):
    """What a channel measures."""

    WITHDRAWN = 0
    INJECTED = 1
    REACTIVE = 2


class Unit(IntEnum):
    """Unit in which a row was written, watt-hours in each; reactive energy likewise in varh."""

    WH = 1
    KWH = 1_000
    MWH = 1_000_000


def flag(*rules: ValidationRule) -> np.uint32:
    """One bit for each rule: the form in which an interval's failures are kept.

    >>> int(flag(ValidationRule.MISSING, ValidationRule.HIGH))
    40
    """
    bits = 0
    for rule in rules:
        bits |= 1 << rule
    return np.uint32(bits)


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One quantity of m meters over t intervals.

    Attributes
    ----------
    value : int64[m, t], Wh or varh in each interval; 0 where there is none.
    present : bool[m, t], whether there is a value.
    estimated : bool[m, t], the value is an estimate made before.
    register : int64[m, t + 1], cumulative register at the start of each interval and the end of the last.
    known : bool[m, t + 1], whether the register was read there.
    """

    value: IntArray
    present: BoolArray
    estimated: BoolArray
    register: IntArray
    known: BoolArray

    @classmethod
    def of(cls, value: IntArray, present: BoolArray | None = None) -> Channel:
        """A channel of interval values whose registers were never read."""
        m, t = value.shape
        return cls(
            value=value,
            present=np.ones((m, t), dtype=np.bool_) if present is None else present,
            estimated=np.zeros((m, t), dtype=np.bool_),
            register=np.zeros((m, t + 1), dtype=np.int64),
            known=np.zeros((m, t + 1), dtype=np.bool_),
        )

    @property
    def metered(self) -> BoolArray:
        """bool[m]: the meter measures this quantity, for something of it is there."""
        return np.asarray(self.present.any(axis=1) | self.known.any(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class LoadProfile:
    """Channels of m meters over t intervals.

    Attributes
    ----------
    meter : int64[m], serial numbers, ascending.
    interval_s : length of an interval, one of `INTERVAL_LENGTHS_S`.
    first : number of the first interval, counted in `interval_s` from the epoch.
    channels : one for each `Quantity`, in its order.
    noted : uint32[m, t], `flag` bits of what was wrong with the rows an interval was made of.
    """

    meter: IntArray
    interval_s: int
    first: int
    channels: tuple[Channel, ...]
    noted: FlagArray

    @classmethod
    def of(cls, meter: IntArray, interval_s: int, first: int, channels: tuple[Channel, ...]) -> LoadProfile:
        """A profile whose rows had nothing wrong with them."""
        return cls(meter, interval_s, first, channels, np.zeros(channels[0].value.shape, dtype=np.uint32))

    @property
    def shape(self) -> tuple[int, int]:
        """Meters and intervals."""
        return self.noted.shape[0], self.noted.shape[1]

    @property
    def per_day(self) -> int:
        """Intervals of a day."""
        return DAY_S // self.interval_s

    @property
    def day(self) -> IntArray:
        """int64[t], UTC day since the epoch of each interval."""
        return (self.first + np.arange(self.shape[1], dtype=np.int64)) // self.per_day


@dataclass(frozen=True, slots=True, eq=False)
class ProfileRows:
    """Rows as they were handed in, one per meter and interval; nothing is believed of them yet.

    Attributes
    ----------
    line : int64[n], by which an error calls the row.
    meter : int64[n], serial number.
    end_s : int64[n], end of the interval, seconds since the epoch.
    length_s : int64[n], length of the interval; 0 where the row does not say.
    value, has_value : [3, n] by `Quantity`, energy of the interval.
    register, has_register : [3, n], cumulative register at its end.
    unit : int64[n], `Unit`.
    ratio : int64[n], product of the transformer ratios by which the row was multiplied; 1 for a direct meter.
    tag : V16[n], authentication code; zeros where there is none.
    """

    line: IntArray
    meter: IntArray
    end_s: IntArray
    length_s: IntArray
    value: IntArray
    has_value: BoolArray
    register: IntArray
    has_register: BoolArray
    unit: IntArray
    ratio: IntArray
    tag: NDArray[np.void]

    def __len__(self) -> int:
        return int(self.line.size)


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """What the registry says of the places where meters hang, int64[k] each; 0 for what it does not know.

    Attributes
    ----------
    meter : ascending.
    capacity_w : of the connection, either direction.
    unit : `Unit` in which the meter sends.
    ratio : of its transformers.
    """

    meter: IntArray
    capacity_w: IntArray
    unit: IntArray
    ratio: IntArray

    @classmethod
    def none(cls) -> Sites:
        """Nothing is known of any meter."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, nothing)

    def capacity_w_of(self, meters: IntArray) -> IntArray:
        """Capacities of the given meters; `UNLIMITED_W` where they are not known."""
        known = self.of("capacity_w", meters)
        return np.where(known > 0, known, UNLIMITED_W)

    def of(self, column: str, meters: IntArray) -> IntArray:
        """A column for the given meters; 0 where it is not known."""
        values: IntArray = getattr(self, column)
        if not self.meter.size:
            return np.zeros(meters.size, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.meter, meters), self.meter.size - 1)
        return np.where(self.meter[at] == meters, values[at], 0)


def common_interval_s(rows: ProfileRows) -> int:
    """The interval length that most rows have: as they say, else the commonest step between rows of a meter.

    Raises
    ------
    InputError : it is none of `INTERVAL_LENGTHS_S`.
    """
    steps = rows.length_s[rows.length_s > 0]
    if not steps.size:
        order = np.lexsort((rows.end_s, rows.meter))
        between = np.diff(rows.end_s[order])
        steps = between[(np.diff(rows.meter[order]) == 0) & (between > 0)]
    lengths, counts = np.unique(steps, return_counts=True)
    commonest = int(lengths[np.argmax(counts)]) if lengths.size else 0
    if commonest not in INTERVAL_LENGTHS_S:
        raise InputError(
            "load profile", "the interval", f"is {commonest} s in most rows; 5, 15, 30 or 60 minutes are read"
        )
    return commonest


def profile_of(
    rows: ProfileRows, sites: Sites | None = None, interval_s: int | None = None
) -> tuple[LoadProfile, IntArray]:
    """Put rows on the grid of time, with what is wrong with them.

    INTERVAL_SIZE: nothing but rows of another length or alignment fell into the interval. DUPLICATE: two rows about
    it differ. UNIT, MULTIPLIER: not the unit or ratio of the site; where that is not known, not the one that most of
    the meter's rows have. Where no row holds interval values, they are the differences of successive registers; one
    that fits no row (`units.ROW_LIMIT`) is none.

    Returns
    -------
    The profile, and the lines of rows that only say again what another said.

    Raises
    ------
    InputError : no rows, no common interval, or a span of time that no profile has (`CELLS_MAX`).
    """
    if not len(rows):
        raise InputError("load profile", "the table", "holds no good rows")
    site = sites if sites is not None else Sites.none()
    length = interval_s or common_interval_s(rows)
    meter, at = np.unique(rows.meter, return_inverse=True)
    slot = -(-rows.end_s // length) - 1
    by_registers = not rows.has_value.any()
    first = int(slot.min()) + by_registers  # the earliest register only opens the first interval
    t = int(slot.max()) + 1 - first
    if not 1 <= t <= min(INTERVALS_MAX, CELLS_MAX // meter.size):
        stray = int(rows.line[np.argmax(np.abs(slot - np.median(slot)))])
        raise InputError(
            "load profile",
            f"row {stray}",
            f"stretches {meter.size} meters over {max(t, 0)} intervals; 1 to {CELLS_MAX} cells are read, split it",
        )
    cell = at * (t + 1) + slot - first + 1  # by the edge that the row's end is
    fits = (rows.end_s % length == 0) & ((rows.length_s == 0) | (rows.length_s == length))
    placed, differs, repeats = _latest(cell, fits, rows)
    noted = np.zeros((meter.size, t + 1), dtype=np.uint32)
    flat = noted.reshape(-1)
    flat[cell[differs]] |= flag(ValidationRule.DUPLICATE)
    for rule, column in ((ValidationRule.UNIT, "unit"), (ValidationRule.MULTIPLIER, "ratio")):
        given: IntArray = getattr(rows, column)
        wanted = site.of(column, meter)
        wanted = np.where(wanted > 0, wanted, _commonest(at, given, meter.size))
        odd = placed[given[placed] != wanted[at[placed]]]
        flat[cell[odd]] |= flag(rule)
    empty = np.ones(flat.size, dtype=np.bool_)
    empty[cell[placed]] = False
    misfit = np.flatnonzero(~fits)
    flat[cell[misfit[empty[cell[misfit]]]]] |= flag(ValidationRule.INTERVAL_SIZE)
    doubted = flat != 0  # a register of a doubted row is not relied on either
    channels = tuple(_channel(rows, q, placed, cell, doubted, (meter.size, t), by_registers) for q in Quantity)
    profile = LoadProfile(meter, length, first, channels, np.ascontiguousarray(noted[:, 1:]))
    return profile, np.sort(rows.line[repeats])


def _latest(cell: IntArray, fits: BoolArray, rows: ProfileRows) -> tuple[IntArray, IntArray, IntArray]:
    """Of the rows about each cell the last; those whose content differs from the one before; those that repeat it."""
    order = np.flatnonzero(fits)
    order = order[np.argsort(cell[order], kind="stable")]
    same_cell = np.diff(cell[order]) == 0
    content = np.concatenate([rows.value, rows.register, rows.has_value, rows.has_register])[:, order]
    same = (content[:, 1:] == content[:, :-1]).all(axis=0)
    last = np.append(~same_cell, True)[: order.size]
    later = order[1:]
    return order[last], later[same_cell & ~same], later[same_cell & same]


def _commonest(group: IntArray, value: IntArray, groups: int) -> IntArray:
    """The commonest value in each group; of several the smallest."""
    pairs, counts = np.unique(np.stack([group, value]), axis=1, return_counts=True)
    order = np.lexsort((-pairs[1], counts, pairs[0]))
    commonest = np.zeros(groups, dtype=np.int64)
    commonest[pairs[0][order]] = pairs[1][order]
    return commonest


def _channel(
    rows: ProfileRows,
    quantity: Quantity,
    placed: IntArray,
    cell: IntArray,
    doubted: BoolArray,
    shape: tuple[int, int],
    by_registers: bool,
) -> Channel:
    m, t = shape

    def on_grid(column: IntArray, has: BoolArray) -> tuple[IntArray, BoolArray]:
        cells, filled = np.zeros(m * (t + 1), dtype=np.int64), np.zeros(m * (t + 1), dtype=np.bool_)
        cells[cell[placed]], filled[cell[placed]] = column[quantity, placed], has[quantity, placed]
        return np.where(filled, cells, 0).reshape(m, t + 1), filled.reshape(m, t + 1)

    register, read = on_grid(rows.register, rows.has_register)
    known = read & ~doubted.reshape(m, t + 1)
    if by_registers:
        moved = np.diff(register, axis=1)
        present = known[:, 1:] & known[:, :-1] & (np.abs(moved) < ROW_LIMIT)
        value = np.where(present, moved, 0)
    else:
        value, present = on_grid(rows.value, rows.has_value)
        value, present = value[:, 1:].copy(), present[:, 1:].copy()
    return Channel(value, present, np.zeros(shape, dtype=np.bool_), np.where(known, register, 0), known)
