"""One log takes up another: what its operator says of the one before.

A log that cannot be signed on (its disk was restored from a back-up, its key was stolen or lost) is succeeded by one
that begins with the same entries, under a key of its own and a name of its own: that of the shard, and which successor
it is. What is signed for a shard names the shard, whichever log it is written to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column

UNKNOWN_SIZE = -1
"""Nobody knows how far the predecessor was signed."""
_NUMBER = re.compile(r"~([0-9]+)(?=(?:/market)?\Z)")


@dataclass(frozen=True, slots=True, eq=False)
class Successions(Table):
    """The first entry of a log behind those that it has taken over from another.

    It proves by itself that the predecessor's key signed for what is taken over: its checkpoint is the name of
    `predecessor`, `size` and `root`, under `signature`.
    """

    kind: ClassVar[str] = "successions"

    predecessor: NDArray[np.bytes_] = column("|S256", "ASCII", "verifier key of the log before")
    size: NDArray[np.int64] = column("<i8", "1", "its first entries, which this log begins with")
    root: NDArray[np.void] = column("|V32", "bytes", "root of the tree over them")
    signature: NDArray[np.void] = column("|V64", "bytes", "Ed25519 of the predecessor's checkpoint at that size")
    signed_for: NDArray[np.int64] = column("<i8", "1", "entries for which it was signed, as far as known; -1: unknown")
    declared_by: NDArray[np.bytes_] = column("|S64", "ASCII", "who says so")
    reason: NDArray[np.bytes_] = column("|S256", "ASCII", "why it is not signed on")


def shard_of(log: str) -> str:
    """Name of the shard (or its market) whose log is called that: what is signed for it names the shard.

    >>> shard_of("city.example/north~2"), shard_of("city.example/north~2/market"), shard_of("city.example/north")
    ('city.example/north', 'city.example/north/market', 'city.example/north')
    """
    return _NUMBER.sub("", log)


def number_of(log: str) -> int:
    """Which of the logs of its shard one is, from 1.

    >>> number_of("city.example/north"), number_of("city.example/north~3/market")
    (1, 3)
    """
    found = _NUMBER.search(log)
    return 1 if found is None else int(found[1])


def successor_of(log: str) -> str:
    """Name of the log that takes up another.

    >>> successor_of("city.example/north"), successor_of("city.example/north~2/market")
    ('city.example/north~2', 'city.example/north~3/market')
    """
    shard, slash, market = shard_of(log).partition("/market") if log.endswith("/market") else (shard_of(log), "", "")
    return f"{shard}~{number_of(log) + 1}{slash}{market}"
