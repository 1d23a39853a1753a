"""The one rule for what counts where several rows are about the same thing: the highest, then the one recorded last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import RecordError

AnyArray = NDArray[np.generic]


def latest(keys: Sequence[AnyArray], rank: Sequence[AnyArray] = ()) -> NDArray[np.intp]:
    """Rows that count: of all with equal keys the one of highest rank, and of equal ones the last.

    Parameters
    ----------
    keys : columns of n rows in the order of the record, the first the most significant.
    rank : columns of n rows, the first the most significant; a message counter, a customer's own sequence. Without
        any the order of the record decides alone.

    Returns
    -------
    Row numbers, one for each combination of keys, ascending by the keys.

    Raises
    ------
    RecordError : no key, or columns of different lengths.

    >>> latest([np.array([7, 5, 7, 7])]).tolist()
    [1, 3]
    >>> latest([np.array([7, 5, 7, 7])], [np.array([9, 0, 9, 8])]).tolist()  # of two ninths the later
    [1, 2]
    """
    if not keys or len({column.shape for column in (*keys, *rank)}) != 1:
        raise RecordError(f"keys and ranks must be columns of one length, not {[c.shape for c in (*keys, *rank)]}")
    order = np.lexsort((*reversed(rank), *reversed(keys)))  # stable: the order of the record stays
    return order[np.flatnonzero(last_of_runs([column[order] for column in keys]))]


def last_of_runs(keys: Sequence[AnyArray]) -> NDArray[np.bool_]:
    """Which rows, already in the order of their keys, are the last with theirs.

    >>> last_of_runs([np.array([5, 7, 7])]).tolist()
    [True, False, True]
    """
    last = np.ones(keys[0].size, dtype=np.bool_)
    if last.size:
        last[:-1] = np.logical_or.reduce([column[1:] != column[:-1] for column in keys])
    return last
