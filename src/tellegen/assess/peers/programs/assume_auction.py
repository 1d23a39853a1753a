"""Peer: a book without a network by the pay-as-clear market of ASSUME.

Only its call is here: one market with one product, every order an entry of its order book. Making the entries is not
timed. Runs alone: ``python assume_auction.py INSTANCE.npz RESULT.npz``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def solve(instance: Arrays) -> dict[str, NDArray[Any]]:
    """Clear the book `repetitions` times.

    Returns
    -------
    award [n] kW, price, seconds [repetitions].
    """
    from assume.common.market_objects import MarketConfig, MarketProduct
    from assume.markets.clearing_algorithms.simple import PayAsClearRole
    from dateutil import rrule
    from dateutil.relativedelta import relativedelta

    hour, start = timedelta(hours=1), datetime(2025, 1, 1)
    market = MarketConfig(
        market_id="book",
        opening_hours=rrule.rrule(rrule.HOURLY, dtstart=start, until=start + hour),
        opening_duration=hour,
        market_mechanism="pay_as_clear",
        market_products=[MarketProduct(duration=relativedelta(hours=1), count=1)],
    )
    product = (start, start + hour, None)
    side, price, quantity = instance["side"], instance["price"], instance["quantity_kw"]
    rows = list(zip(side.tolist(), price.tolist(), quantity.tolist(), strict=True))
    taken = []
    for _ in range(int(instance["repetitions"])):
        book = [
            {
                "start_time": product[0],
                "end_time": product[1],
                "only_hours": None,
                "price": limit,
                "volume": -direction * most,
                "bid_id": str(k),
                "agent_addr": str(k),
            }
            for k, (direction, limit, most) in enumerate(rows)
        ]
        role = PayAsClearRole(market)
        begun = time.perf_counter()
        accepted, _, meta, _ = role.clear(book, [product])
        taken.append(time.perf_counter() - begun)
    award = np.zeros(side.size)
    for order in accepted:
        award[int(order["bid_id"])] = abs(float(order["accepted_volume"]))
    return {"award": award, "price": np.array(float(meta[0]["price"])), "seconds": np.array(taken)}


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file)))  # type: ignore[arg-type]
