"""Peer: a book without a network as a linear program, by HiGHS (through SciPy).

Runs alone: ``python highs_auction.py INSTANCE.npz RESULT.npz``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def solve(instance: Arrays) -> dict[str, NDArray[Any]]:
    """Clear the book `repetitions` times.

    Returns
    -------
    award [n] kW, price (the dual of the balance), seconds [repetitions].
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    side, price, quantity = instance["side"], instance["price"], instance["quantity_kw"]
    taken = []
    for _ in range(int(instance["repetitions"])):
        begun = time.perf_counter()
        bounds = np.stack([np.zeros(side.size), quantity], axis=1)
        balance = csr_matrix(side[None, :].astype(float))
        found = linprog(-side * price, A_eq=balance, b_eq=[0.0], bounds=bounds, method="highs-ds")
        taken.append(time.perf_counter() - begun)
    dual = -float(found.eqlin.marginals[0])
    return {"award": found.x, "price": np.array(dual), "seconds": np.array(taken)}


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file)))  # type: ignore[arg-type]
