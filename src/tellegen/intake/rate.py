"""How fast one source may send: a bucket that fills at a steady rate and pays for rows."""

from __future__ import annotations

import math

SAVED_S = 2
"""What a source does not use it may save up for this long."""


class RowRate:
    """Rows that a source may still send.

    >>> rate = RowRate(100)
    >>> rate.take(200, 0.0), rate.take(50, 0.0), rate.take(50, 0.5)
    (0, 1, 0)
    """

    __slots__ = ("_at", "_rows", "_rows_per_s")

    def __init__(self, rows_per_s: int) -> None:
        self._rows_per_s = rows_per_s
        self._rows = float(SAVED_S * rows_per_s)
        self._at = 0.0

    def take(self, rows: int, at: float) -> int:
        """Pay for rows at a time, in seconds; 0, or after how many whole seconds to try again.

        A batch of more than the bucket holds is let through when the bucket is full, and owed.
        """
        full = float(SAVED_S * self._rows_per_s)
        self._rows = min(full, self._rows + max(at - self._at, 0.0) * self._rows_per_s)
        self._at = max(at, self._at)
        if self._rows < min(rows, full):
            return math.ceil((min(rows, full) - self._rows) / self._rows_per_s)
        self._rows -= rows
        return 0
