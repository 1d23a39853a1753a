"""Small text for long integer series, so that a day of a feeder fits into one page.

A matrix is laid row after row and coded as: difference to the value before; zigzag (0, -1, 1, -2
... become 0, 1, 2, 3 ...); a run of zeros as a zero and the number of further zeros; each number in
groups of seven bits, least first, the top bit saying that more follow; base64. `series.js` reads it.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def _zero_runs(codes: IntArray) -> IntArray:
    """Replace each run of zeros by a zero and the count of the zeros after it."""
    zero = codes == 0
    first = zero & ~np.concatenate(([False], zero[:-1]))
    starts = np.flatnonzero(first)
    last = zero & ~np.concatenate((zero[1:], [False]))
    lengths = np.flatnonzero(last) - starts
    kept = ~zero | first
    tokens = codes[kept]
    at = np.cumsum(kept)[starts]
    return np.asarray(np.insert(tokens, at, lengths))


def _seven_bit_groups(tokens: IntArray) -> bytes:
    groups = np.ones(tokens.size, dtype=np.int64)
    rest = tokens >> 7
    while rest.any():
        groups += rest > 0
        rest >>= 7
    starts = np.cumsum(groups) - groups
    out = np.zeros(int(groups.sum()), dtype=np.uint8)
    for k in range(int(groups.max(initial=0))):
        has = groups > k
        more = np.where(groups[has] > k + 1, 0x80, 0)
        out[starts[has] + k] = (((tokens[has] >> (7 * k)) & 0x7F) | more).astype(np.uint8)
    return out.tobytes()


def pack_series(values: NDArray[np.integer], unit: float = 1.0) -> dict[str, object]:
    """Code an integer matrix as a small JSON object.

    Parameters
    ----------
    values : int[rows, columns], magnitudes below 2^51.
    unit : what one step is worth to the reader of the page (1e-4 for ten-thousandths).

    Returns
    -------
    ``{"rows", "unit", "data"}`` with base64 text.

    >>> pack_series(np.array([[5, 5, 5, 4]]))["data"]  # +5, two zeros, -1
    'CgABAQ=='
    """
    matrix = np.atleast_2d(np.asarray(values, dtype=np.int64))
    delta = np.diff(matrix.ravel(), prepend=np.int64(0))
    zigzag = np.where(delta < 0, -2 * delta - 1, 2 * delta)
    data = base64.b64encode(_seven_bit_groups(_zero_runs(zigzag))).decode("ascii")
    return {"rows": int(matrix.shape[0]), "unit": unit, "data": data}
