"""Peer: the shortest way to clear a book without a network: two sorts and two running sums (NumPy).

Runs alone: ``python sort_auction.py INSTANCE.npz RESULT.npz``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def clear(side: NDArray[Any], price: NDArray[Any], quantity: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Award of each order, and the lowest price at which nobody wants another."""
    buy, sell = np.flatnonzero(side > 0), np.flatnonzero(side < 0)
    buy, sell = buy[np.argsort(-price[buy])], sell[np.argsort(price[sell])]
    wanted, offered = np.cumsum(quantity[buy]), np.cumsum(quantity[sell])
    # What buyers dearer than each seller want in all.
    dearer = np.searchsorted(-price[buy], -price[sell], side="right")
    at_price = np.concatenate([[0.0], wanted])[dearer]
    volume = float(np.minimum(at_price, offered).max(initial=0.0))
    award = np.zeros(side.size)
    award[buy] = np.clip(volume - (wanted - quantity[buy]), 0.0, quantity[buy])
    award[sell] = np.clip(volume - (offered - quantity[sell]), 0.0, quantity[sell])
    served, short = award[sell] > 0, award[buy] < (1 - 1e-9) * quantity[buy]
    return award, float(np.concatenate([price[sell][served], price[buy][short]]).max(initial=0.0))


def solve(instance: Arrays) -> dict[str, NDArray[Any]]:
    """Clear the book `repetitions` times.

    Returns
    -------
    award [n] kW, price, seconds [repetitions].
    """
    taken = []
    for _ in range(int(instance["repetitions"])):
        begun = time.perf_counter()
        award, price = clear(instance["side"], instance["price"], instance["quantity_kw"])
        taken.append(time.perf_counter() - begun)
    return {"award": award, "price": np.array(price), "seconds": np.array(taken)}


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file)))  # type: ignore[arg-type]
