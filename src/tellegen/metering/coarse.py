"""Meters that read less often than the market: one reading spans several intervals, and is shared among them.

A span is `every` market intervals that end with the reading; spans divide the hours of UTC. Within it the register is
taken to rise evenly from one reading to the next. So a coarse meter has a register at the end of every interval, as
other meters have, and all that judges, estimates, folds and corrects readings takes it as theirs: what is shared out
over a span is to the watt-hour what its registers moved.

    register(j) = before + floor((after - before) * j / every),  j = 1 ... every

The even profile is a rule and not a guess: it follows from nothing that anybody bid, was awarded or paid. A register
inside a span is known once both its ends were read; before that it is missing, like any reading that has not come.
What such a meter sends at other times counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellegen.records import Readings
from tellegen.records.latest import latest
from tellegen.units import INTERVALS_PER_HOUR, IntArray

SPANS = tuple(every for every in range(1, INTERVALS_PER_HOUR + 1) if INTERVALS_PER_HOUR % every == 0)
"""How many market intervals a meter's own may have."""


def span_end(interval: int | IntArray, every: IntArray) -> IntArray:
    """The interval with which the span of an interval ends: a reading about it closes the span.

    >>> span_end(np.array([12, 13, 14, 15]), np.array([3, 3, 3, 1])).tolist()
    [14, 14, 14, 15]
    """
    return np.asarray(interval + every - 1 - interval % every)


def moved_by(interval: int, every: int) -> range:
    """The intervals whose energy a reading moves: its span and the next; none where it closes no span.

    >>> moved_by(14, 3), moved_by(13, 3), moved_by(7, 1)
    (range(12, 18), range(0, 0), range(7, 9))
    """
    if (interval + 1) % every:
        return range(0)
    return range(interval + 1 - every, interval + 1 + every)


def span_registers(
    customer: IntArray, meter: IntArray, interval: IntArray, every: IntArray, fetch: Callable[[int], Readings]
) -> tuple[Readings, IntArray]:
    """Registers of coarse meters at the end of intervals, as readings of theirs.

    Parameters
    ----------
    customer, meter, interval, every : int64[k], whose, by which meter, when, and how many intervals a span has.
    fetch : readings about an interval that count, of these customers at least, in any order; of several of one meter
        that with the highest counter counts, then the later on record.

    Returns
    -------
    One reading for each pair of which there is one, and int64, which pair: the reading that closes the span with its
    registers moved back, at the end of a span as it was read.

    Examples
    --------
    >>> def fetch(t):
    ...     wh = {11: 100, 14: 110}[t]
    ...     return Readings(customer=[5], meter=[9], counter=[t], import_wh=[wh], export_wh=[0], reactive_varh=[-wh],
    ...                     voltage_mv=[230_000], tag=np.zeros(1, dtype="V16"))
    >>> rows, pair = span_registers(*np.array([[5, 5, 5], [9, 9, 9], [12, 13, 14], [3, 3, 3]]), fetch)
    >>> rows.import_wh.tolist(), rows.reactive_varh.tolist(), pair.tolist()
    ([103, 106, 110], [-104, -107, -110], [0, 1, 2])
    """
    end = span_end(interval, every)
    begin = end - every
    rows = [Readings.empty()]
    first, last = (np.full(customer.size, -1, dtype=np.int64) for _ in range(2))
    kept = 0
    for boundary in np.unique(np.concatenate([begin[interval < end], end])).tolist():
        read = fetch(boundary)
        read = read.take(latest([read.customer, read.meter], [read.counter]))
        for places, ends in ((first, begin), (last, end)):
            asked = np.flatnonzero(ends == boundary)
            at, there = _found(read, customer[asked], meter[asked])
            places[asked[there]] = kept + at
        rows.append(read)
        kept += len(read)
    known = Readings.concat(rows)
    pair = np.flatnonzero((last >= 0) & ((first >= 0) | (interval == end)))
    closing = known.take(last[pair])
    inside = np.flatnonzero(interval[pair] < end[pair])
    opening = known.take(first[pair[inside]])
    part, of = interval[pair[inside]] - begin[pair[inside]], every[pair[inside]]
    columns = {}
    for name in ("import_wh", "export_wh", "reactive_varh"):
        register = getattr(closing, name).copy()
        start = getattr(opening, name)
        register[inside] = start + (register[inside] - start) * part // of
        columns[name] = register
    return replace(closing, **columns), pair


def _found(read: Readings, customer: IntArray, meter: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Rows of readings, ascending by customer and meter, of some meters; and of which of these there is one."""
    at = np.searchsorted(read.customer, customer).astype(np.int64)
    last = np.searchsorted(read.customer, customer, side="right")
    there = np.zeros(customer.size, dtype=np.bool_)
    # nearly always a customer has sent from one meter
    while (at < last).any():
        open_ = np.flatnonzero((at < last) & ~there)
        hit = read.meter[at[open_]] == meter[open_]
        there[open_[hit]] = True
        at[open_[~hit]] += 1
        last = np.where(there, at, last)
    return at[there], there
