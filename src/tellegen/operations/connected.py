"""Which customer hangs on which feeder of a shard, interval by interval (a fact with two times, law 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tellegen.records import Connections, Device
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Connected:
    """Everybody on the feeders of a shard in one interval, by feeder, then by customer.

    Attributes
    ----------
    customer, node, meter, capacity_w : int64[n].
    start : int64[feeders + 1]; rows ``start[k]`` up to ``start[k + 1]`` hang on feeder k.
    """

    customer: IntArray
    node: IntArray
    meter: IntArray
    capacity_w: IntArray
    start: IntArray

    def on(self, feeder: int) -> slice:
        """Rows of a feeder."""
        return slice(int(self.start[feeder]), int(self.start[feeder + 1]))


class ConnectionHistory:
    """Connections as they became known; later ones replace earlier ones from their interval on.

    >>> def row(feeder, node, first): return Connections(customer=[5], device=[0], asset=[77], feeder=[feeder],
    ...     node=[node], phases=[0], from_interval=[first], capacity_w=[9000], import_limit_w=[9000],
    ...     export_limit_w=[9000])
    >>> history = ConnectionHistory(["F1", "F2"])
    >>> history.add([row(b"F1", 3, 0), row(b"F2", 8, 10)])
    >>> history.at(9).start.tolist(), history.at(10).start.tolist(), history.at(10).node.tolist()
    ([0, 1, 1], [0, 0, 1], [8])
    """

    def __init__(self, feeders: Sequence[str]) -> None:
        self._number = {name.encode("ascii"): k for k, name in enumerate(feeders)}
        self._feeders = len(feeders)
        self._rows = Connections.empty()
        self._feeder: IntArray = np.zeros(0, dtype=np.int64)
        self._latest: tuple[int, Connected] | None = None

    def add(self, batches: Sequence[Connections]) -> None:
        """Take in batches in the order in which they are on record."""
        if not batches:
            return
        everything = Connections.concat([self._rows, *batches])
        points = everything.take(everything.device == Device.LOAD)
        # of rows about one customer and interval the one recorded last counts, so arrival breaks the tie
        order = np.lexsort((np.arange(len(points)), points.from_interval, points.customer))
        self._rows = points.take(order)
        names, place = np.unique(self._rows.feeder, return_inverse=True)
        self._feeder = np.array([self._number.get(bytes(name), -1) for name in names], dtype=np.int64)[place]
        self._latest = None

    def at(self, interval: int) -> Connected:
        """Who is connected in an interval, as known now; customers on feeders of other shards are left out."""
        if self._latest is not None and self._latest[0] == interval:
            return self._latest[1]
        rows = self._rows
        holds = np.flatnonzero(rows.from_interval <= interval)
        customer = rows.customer[holds]
        last = holds[np.append(customer[1:] != customer[:-1], True)] if holds.size else holds
        last = last[(self._feeder[last] >= 0) & (rows.node[last] >= 0)]
        order = last[np.argsort(self._feeder[last], kind="stable")]
        connected = Connected(
            customer=rows.customer[order].astype(np.int64),
            node=rows.node[order].astype(np.int64),
            meter=rows.asset[order],
            capacity_w=rows.capacity_w[order],
            start=np.searchsorted(self._feeder[order], np.arange(self._feeders + 1)),
        )
        self._latest = (interval, connected)
        return connected
