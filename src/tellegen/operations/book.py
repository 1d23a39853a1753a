"""From the record to the orders of a gate: what counts below its cut, feeder by feeder and period by period."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from tellegen.intake.submitted import Bids
from tellegen.operations.record import ShardRecord
from tellegen.records import OPERATOR, Orders, Requirements, Side
from tellegen.records.latest import latest
from tellegen.units import IntArray

_PERIODS = 256
"""More than any gate has: a period is a byte."""
_OWN_BITS = 31
"""Bits of a row's number."""


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """The bids of one gate that count.

    Attributes
    ----------
    bids : by feeder. required : the operator's own orders for reserve, by feeder.
    """

    bids: dict[str, Bids]
    required: dict[str, Orders] = field(default_factory=dict)
    _split: dict[str, _Split] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        record: ShardRecord,
        market: str,
        periods: tuple[range, ...],
        cut: int,
        gate: int | None,
        feeders: Collection[str] | None = None,
    ) -> Book:
        """Read a gate's book.

        Parameters
        ----------
        periods : intervals of each of its periods. cut : size of the intake's journal below which bids count.
        gate : journal index of the gate's record, which names the requirements that stood then; None: none yet.
        feeders : only of these; None: of all.
        """
        required = {} if gate is None else _required(record, periods, record.header(gate).causes, feeders)
        return cls(record.submitted.bids(market, periods[0].start, cut, feeders), required)

    @property
    def recorded(self) -> int:
        """Submissions on record about the gate."""
        return sum(bids.recorded for bids in self.bids.values())

    def is_whole(self, feeder: str) -> bool:
        """Whether all bids about a feeder that count can be read; those of erased customers are missing."""
        return feeder not in self.bids or not self.bids[feeder].unreadable

    def orders(self, feeder: str, period: int) -> Orders:
        """The book of a feeder's period: rows sorted by customer, each one's in its own order.

        Awards and refusals name rows of it until they go on record, where they name rows of `own_rows`.
        """
        split = self._of(feeder)
        return split.orders.take(split.rows(period))

    def own_rows(self, feeder: str, period: int) -> IntArray:
        """Of each row of `orders`, which row of its customer's submission it is, from 0; int64[n]."""
        split = self._of(feeder)
        return split.own[split.rows(period)]

    def rows_of(self, feeder: str, period: int, customer: ArrayLike, own: ArrayLike) -> IntArray:
        """Inverse of `own_rows`: row of `orders` for each row of a customer's submission; -1 where it is not there.

        Orders of erased customers are missing from a book, so that rows of it mean something within one reading only;
        rows of a customer's own submission stand on record.
        """
        here = self.orders(feeder, period).customer.astype(np.int64) << _OWN_BITS | self.own_rows(feeder, period)
        wanted = np.asarray(customer, dtype=np.int64) << _OWN_BITS | np.asarray(own, dtype=np.int64)
        place = np.searchsorted(here, wanted)
        found = place < here.size
        found[found] = here[place[found]] == wanted[found]
        return np.where(found, place, -1)

    def _of(self, feeder: str) -> _Split:
        if feeder not in self._split:
            bids, required = self.bids.get(feeder), self.required.get(feeder)
            orders = Orders.empty() if bids is None else bids.orders
            self._split[feeder] = _Split.of(orders if required is None else Orders.concat([required, orders]))
        return self._split[feeder]


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """A feeder's orders of all periods, and where those of each are.

    Attributes
    ----------
    own : int64[n], which row of its customer's submission each is.
    order, start : rows by period, and where each period begins.
    """

    orders: Orders
    own: IntArray
    order: IntArray
    start: IntArray

    @classmethod
    def of(cls, orders: Orders) -> _Split:
        own = np.arange(len(orders)) - np.searchsorted(orders.customer, orders.customer)
        order = np.argsort(orders.period, kind="stable")
        start = np.searchsorted(orders.period[order], np.arange(_PERIODS + 1))
        return cls(orders, own, order, start)

    def rows(self, period: int) -> IntArray:
        """Rows of a period, ascending."""
        return self.order[self.start[period] : self.start[period + 1]]


def _required(
    record: ShardRecord, periods: tuple[range, ...], entries: tuple[int, ...], feeders: Collection[str] | None
) -> dict[str, Orders]:
    """The operator's orders for reserve, as customer 0 at the root; by feeder."""
    tables: dict[str, list[Requirements]] = {}
    for entry in entries:
        header = record.header(entry)
        if header.kind == Requirements.kind and (feeders is None or header.feeder in feeders):
            tables.setdefault(header.feeder, []).append(record.table(entry, Requirements))
    found = {}
    for name, parts in tables.items():
        rows = Requirements.concat(parts)
        rows = rows.take(latest([rows.interval, rows.product]))
        number = {hours.start: k for k, hours in enumerate(periods)}
        period = np.array([number.get(interval, -1) for interval in rows.interval.tolist()], dtype=np.int64)
        asked = (period >= 0) & (rows.quantity_w > 0)
        rows, period = rows.take(asked), period[asked]
        feeder = next(feeder for feeder in record.feeders if feeder.name == name)
        n = len(rows)
        found[name] = Orders(
            customer=np.full(n, OPERATOR, dtype=np.int32),
            device=np.zeros(n, dtype=np.uint8),
            node=np.full(n, int(feeder.network.source[0]), dtype=np.int32),
            period=period.astype(np.uint8),
            product=rows.product,
            side=np.full(n, Side.BUY, dtype=np.int8),
            price_taker=np.zeros(n, dtype=np.uint8),
            price_micros=rows.price_micros,
            quantity_w=rows.quantity_w,
            var_per_kw=np.zeros(n, dtype=np.int32),
        )
    return found
