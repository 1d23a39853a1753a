"""Spans: the stretches between registers that were read, and what flowed in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.metering.load_profile import Channel, Quantity
from tellegen.metering.runs import BoolArray
from tellegen.units import ROW_LIMIT, IntArray


def backwards(quantity: Quantity, moved: IntArray) -> BoolArray:
    """Whether a register went backwards; a net one may."""
    return (moved < 0) if quantity != Quantity.REACTIVE else np.zeros(np.shape(moved), dtype=np.bool_)


def beyond_capacity(moved: IntArray, capacity_w: IntArray, minutes: IntArray | int) -> BoolArray:
    """Whether more moved, in Wh or varh, than the connection carries in that time.

    Registers count whole Wh, so that a difference may show almost 1 Wh more than flowed.
    """
    most = capacity_w * minutes // 60 + 1
    return np.asarray((moved > most) | (moved < -most))


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Stretches between successive registers of a channel, int64[k] each, by meter and time.

    Attributes
    ----------
    row, start, end : meter's row, first interval, the one after the last.
    total : difference of the registers.
    sound : the difference is not negative, not beyond the connection's capacity, and fits rows.
    """

    row: IntArray
    start: IntArray
    end: IntArray
    total: IntArray
    sound: BoolArray

    @classmethod
    def of(cls, channel: Channel, quantity: Quantity, capacity_w: IntArray, interval_s: int) -> Spans:
        """Spans of a channel. A register that contradicts the one before it and the one after it is left out."""
        spans = cls._between(channel, channel.known, quantity, capacity_w, interval_s)
        if spans.sound.all():
            return spans
        wild = np.flatnonzero(~spans.sound[1:] & ~spans.sound[:-1] & (spans.row[1:] == spans.row[:-1]))
        relied = channel.known.copy()
        relied[spans.row[wild], spans.end[wild]] = False
        return cls._between(channel, relied, quantity, capacity_w, interval_s)

    @classmethod
    def _between(
        cls, channel: Channel, relied: BoolArray, quantity: Quantity, capacity_w: IntArray, interval_s: int
    ) -> Spans:
        row, edge = np.nonzero(relied)
        follows = row[1:] == row[:-1]
        row, start, end = row[1:][follows], edge[:-1][follows], edge[1:][follows]
        total = channel.register[row, end] - channel.register[row, start]
        minutes = (end - start) * (interval_s // 60)
        wrong = np.abs(total) >= ROW_LIMIT * (end - start)
        wrong |= backwards(quantity, total) | beyond_capacity(total, capacity_w[row], minutes)
        return cls(row, start, end, total, ~wrong)

    def take(self, where: BoolArray) -> Spans:
        """The spans for which `where` holds."""
        return Spans(self.row[where], self.start[where], self.end[where], self.total[where], self.sound[where])

    def sums(self, values: IntArray) -> IntArray:
        """Sum of int64[m, t] over each span."""
        until = np.zeros((values.shape[0], values.shape[1] + 1), dtype=np.int64)
        np.cumsum(values, axis=1, out=until[:, 1:])
        return until[self.row, self.end] - until[self.row, self.start]
