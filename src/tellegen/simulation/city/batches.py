"""What leaves a sender: a body, who says what of it, and a signature; feeder by feeder, a thousand rows at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tellegen.records import Route, Statement
from tellegen.simulation.city.population import Moves, ShardPopulation
from tellegen.simulation.shard import ShardKeys
from tellegen.units import IntArray

BATCH_ROWS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Batch:
    """One request, ready to be sent."""

    statement: Statement
    signature: bytes
    body: bytes
    rows: int


class Sender:
    """Signs batches under numbers of its own, route by route."""

    def __init__(self, keys: ShardKeys) -> None:
        self._keys = keys
        self._next: dict[tuple[Route, str], int] = {}

    def batch(
        self, route: Route, source: str, feeder: str, market: str, interval: int, body: bytes, rows: int
    ) -> Batch:
        """A batch of a source, signed."""
        number = self._next.get((route, source), 0)
        self._next[route, source] = number + 1
        statement = Statement.of(self._keys.origin, route, source, feeder, market, interval, number, body)
        return Batch(statement, self._keys.sign_as(source, statement.to_bytes()), body, rows)


class Whereabouts:
    """On which feeder and node everybody hangs in an interval, by place in the population.

    Parameters
    ----------
    moves : by the interval from which they hold.
    """

    def __init__(self, population: ShardPopulation, moves: Mapping[int, Moves]) -> None:
        feeder, node = population.feeder.astype(np.int32), population.node.astype(np.int32)
        self._from, self._at = [-1], [(feeder, node)]
        for interval, each in sorted(moves.items()):
            feeder, node = feeder.copy(), node.copy()
            feeder[each.who], node[each.who] = each.feeder, each.node
            self._from.append(interval)
            self._at.append((feeder, node))

    def at(self, interval: int) -> tuple[IntArray, IntArray]:
        """Place of its feeder among the shard's, and node, of each customer."""
        feeder, node = self._at[int(np.searchsorted(self._from, interval, side="right")) - 1]
        return feeder.astype(np.int64), node.astype(np.int64)


def by_feeder(feeder: IntArray, feeders: int) -> Iterator[tuple[int, IntArray]]:
    """Rows in batches: place of the feeder, and the rows of a batch; a feeder's rows keep their order.

    >>> [(k, rows.tolist()) for k, rows in by_feeder(np.array([1, 0, 1]), 2)]
    [(0, [1]), (1, [0, 2])]
    """
    order = np.argsort(feeder, kind="stable")
    start = np.searchsorted(feeder[order], np.arange(feeders + 1))
    for k in range(feeders):
        rows = order[start[k] : start[k + 1]]
        for at in range(0, rows.size, BATCH_ROWS_MAX):
            yield k, rows[at : at + BATCH_ROWS_MAX]
