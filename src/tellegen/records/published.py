"""Where wholesale prices come from: the document that they were read from, and the prices that its publisher signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column
from tellegen.units import MARKET_INTERVAL_S, interval_start

ADDRESS_BYTES_MAX = 200


@dataclass(frozen=True, slots=True, eq=False)
class PriceSources(Table):
    """Documents that wholesale prices were read from; a batch of `RootPrices` names its own among its causes.

    The digest is over the first `size` bytes of the document, which are whole lines: what is appended later leaves them
    as they are, so whoever holds a later state of it can compare as well.
    """

    kind: ClassVar[str] = "price_sources"

    address: NDArray[np.bytes_] = column(f"|S{ADDRESS_BYTES_MAX}", "UTF-8", "address (URL) or name of the document")
    retrieved_at: NDArray[np.int64] = column("<i8", "s", "when it was read, since the epoch, UTC")
    size: NDArray[np.int64] = column("<i8", "byte", "how much of it there was")
    sha256: NDArray[np.void] = column("|V32", "bytes", "SHA-256 of those bytes")


@dataclass(frozen=True, slots=True, eq=False)
class PublishedPrices(Table):
    """Wholesale prices as their publisher signed them, each by itself; the market is that of the batch.

    A batch of `RootPrices` names them among its causes: the price of a period is theirs, or their mean where it changes
    within it. What is signed is `price_message`.
    """

    kind: ClassVar[str] = "published_prices"

    interval: NDArray[np.int64] = column("<i8", "1", "first market interval in which the price holds")
    intervals: NDArray[np.int32] = column("<i4", "1", "market intervals in which it holds")
    micros: NDArray[np.int64] = column("<i8", "micro-currency/kWh", "the price")
    signature: NDArray[np.void] = column("|V64", "bytes", "Ed25519, by the publisher whom the rules name")


def price_message(publisher: str, market: str, interval: int, intervals: int, micros: int) -> bytes:
    r"""What a publisher signs for one price: who says it, of which market, from when on, for how long, how much.

    Parameters
    ----------
    publisher : name of the verifier key, which says of which zone or node the prices are.
    market : ``day_ahead`` or ``real_time``.
    interval, intervals : first market interval in which the price holds, and how many.
    micros : micro-currency per kWh.

    >>> price_message("exchange.example/DE-LU", "day_ahead", 4_863_156, 12, 83_700).decode().splitlines()[1:]
    ['exchange.example/DE-LU', 'day_ahead', '2016-03-25T23:00:00Z', '60 min', '83700 micros/kWh']
    """
    minutes = intervals * MARKET_INTERVAL_S // 60
    begins = f"{interval_start(interval):%Y-%m-%dT%H:%M:%SZ}"
    lines = ("tellegen root price v1", publisher, market, begins, f"{minutes} min", f"{micros} micros/kWh")
    return "".join(f"{line}\n" for line in lines).encode()
