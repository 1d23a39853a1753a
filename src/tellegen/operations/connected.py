"""Which customer hangs on which feeder of a shard, interval by interval: a fact with two times (law 2).

When it became known is told by its place in the intake's journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tellegen.errors import InputError
from tellegen.records import Connections, Device
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Connected:
    """Everybody on the feeders of a shard in one interval: customers by feeder, then the substations.

    Attributes
    ----------
    customer, node, meter, capacity_w : int64[n + feeders].
    start : int64[feeders + 1]; rows ``start[k]`` up to ``start[k + 1]`` are the customers on feeder k, in ascending
        order, and row ``start[-1] + k`` is its substation.
    """

    customer: IntArray
    node: IntArray
    meter: IntArray
    capacity_w: IntArray
    start: IntArray

    @property
    def customers(self) -> int:
        """How many customers there are."""
        return int(self.start[-1])

    def on(self, feeder: int) -> slice:
        """Rows of a feeder's customers."""
        return slice(int(self.start[feeder]), int(self.start[feeder + 1]))


class ConnectionHistory:
    """Connections as they stand on record; later ones replace earlier ones from their interval on.

    Parameters
    ----------
    feeders : their names.
    substations : the numbers under which the operator's own meters at the roots are registered.

    >>> def row(number, feeder, node, first): return Connections(customer=[number], device=[0], asset=[70 + number],
    ...     feeder=[feeder], node=[node], phases=[0], from_interval=[first], capacity_w=[9000],
    ...     import_limit_w=[9000], export_limit_w=[9000])
    >>> history = ConnectionHistory(["F1", "F2"], [8, 9])
    >>> history.add([(20, row(8, b"F1", 0, 0)), (21, row(9, b"F2", 0, 0)), (22, row(5, b"F1", 3, 0))])
    >>> history.add([(30, row(5, b"F2", 4, 10))])  # moves in interval 10, as entry 30 says
    >>> [history.at(interval, size).start.tolist() for interval, size in ((9, 31), (10, 31), (10, 30))]
    [[0, 1, 1], [0, 0, 1], [0, 1, 1]]
    """

    def __init__(self, feeders: Sequence[str], substations: Sequence[int]) -> None:
        self._number = {name.encode("ascii"): k for k, name in enumerate(feeders)}
        self._substations = np.array(substations, dtype=np.int64)
        self._rows = Connections.empty()
        self._feeder: IntArray = np.zeros(0, dtype=np.int64)
        self._entry: IntArray = np.zeros(0, dtype=np.int64)
        self._latest: tuple[int, int, Connected] | None = None

    def add(self, batches: Sequence[tuple[int, Connections]]) -> None:
        """Take in the next batches, each with its journal index, in the order in which they are on record."""
        if not batches:
            return
        entry = np.concatenate([self._entry, *(np.full(len(table), index) for index, table in batches)])
        everything = Connections.concat([self._rows, *(table for _, table in batches)])
        points = np.flatnonzero(everything.device == Device.LOAD)
        # of rows about one customer and interval the one recorded last counts
        order = points[np.lexsort((entry[points], everything.from_interval[points], everything.customer[points]))]
        self._rows, self._entry = everything.take(order), entry[order]
        names, place = np.unique(self._rows.feeder, return_inverse=True)
        self._feeder = np.array([self._number.get(bytes(name), -1) for name in names], dtype=np.int64)[place]
        self._latest = None

    def at(self, interval: int, size: int) -> Connected:
        """Who is connected in an interval, as known from the entries below a size of the journal.

        Customers on feeders of other shards are left out.

        Raises
        ------
        InputError : a feeder has no meter at its substation.
        """
        if self._latest is not None and self._latest[:2] == (interval, size):
            return self._latest[2]
        rows, feeders = self._rows, len(self._number)
        holds = np.flatnonzero((rows.from_interval <= interval) & (self._entry < size))
        customer = rows.customer[holds]
        last = holds[np.append(customer[1:] != customer[:-1], True)] if holds.size else holds
        last = last[(self._feeder[last] >= 0) & (rows.node[last] >= 0)]
        root = np.isin(rows.customer[last], self._substations)
        # substations come after all customers, each in the place of its feeder
        group = self._feeder[last] + np.where(root, feeders, 0)
        order = np.argsort(group, kind="stable")
        start = np.searchsorted(group[order], np.arange(2 * feeders + 1))
        if (np.diff(start[feeders:]) != 1).any():
            name = list(self._number)[int(np.argmax(np.diff(start[feeders:]) != 1))].decode()
            raise InputError("registry", f"feeder {name}", "needs one meter at its substation; connect it")
        last = last[order]
        connected = Connected(
            customer=rows.customer[last].astype(np.int64),
            node=rows.node[last].astype(np.int64),
            meter=rows.asset[last],
            capacity_w=rows.capacity_w[last],
            start=start[: feeders + 1],
        )
        self._latest = (interval, size, connected)
        return connected
