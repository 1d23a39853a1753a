"""Registers of everybody at the end of an interval, as validation takes them: as sent, or within a coarse meter's span.

Readings of coarse meters are looked up at the ends of their spans, twelve intervals away at most. Rows of those ends
are kept while intervals within them settle, each batch opened once; what is kept follows from the record and a cut.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from tellegen.intake.submitted import CountedReadings, Submitted
from tellegen.metering.coarse import span_registers
from tellegen.operations.topology import Connected
from tellegen.records import Readings
from tellegen.units import IntArray

ENDS_KEPT_MAX = 8
"""Ends of spans of which rows are kept: those of meters of every length around an interval."""


def registers_of(connected: Connected, interval: int, fetch: Callable[[int, IntArray | None], Readings]) -> Readings:
    """Readings about an interval, with those of coarse meters as `metering.coarse` makes them.

    Parameters
    ----------
    fetch : readings about an interval that count; of some customers (ascending), or of all.
    """
    coarse = np.flatnonzero(connected.reads_every > 1)
    sent = fetch(interval, None)
    if not coarse.size:
        return sent
    coarse = coarse[np.argsort(connected.customer[coarse])]
    customer = connected.customer[coarse]
    shared, _ = span_registers(
        customer,
        connected.meter[coarse],
        np.full(coarse.size, interval, dtype=np.int64),
        connected.reads_every[coarse],
        lambda end: fetch(end, customer),
    )
    return Readings.concat([sent.take(~np.isin(sent.customer, customer)), shared])


class SpanEnds:
    """Readings of coarse meters at the ends of their spans, read from the record batch by batch."""

    def __init__(self, submitted: Submitted) -> None:
        self._submitted = submitted
        self._customer: IntArray = np.zeros(0, dtype=np.int64)
        self._erased: list[int] = []
        self._kept: OrderedDict[int, tuple[int, CountedReadings]] = OrderedDict()

    def readings(self, end: int, size: int, customer: IntArray) -> CountedReadings:
        """Readings of some customers (ascending) about an interval, below a size of the intake's journal."""
        erased = self._submitted.erased
        if erased != self._erased or not np.array_equal(customer, self._customer):
            self._kept.clear()
            self._customer, self._erased = customer, erased
        since, known = self._kept.pop(end, (0, CountedReadings.none()))
        if since > size:
            since, known = 0, CountedReadings.none()
        if since < size:
            known = known.and_also(self._submitted.readings_since(end, since, size).of(customer))
        self._kept[end] = size, known
        while len(self._kept) > ENDS_KEPT_MAX:
            self._kept.popitem(last=False)
        return known
