"""What a batch costs the intake, and how much of that one source may have.

The unit is a row: what it takes to check a reading and put it on record. A batch is charged by its bytes before
anybody looks into it, and set right once its rows are counted; so one that is refused, unreadable or on record already
costs its sender as much as one that counts.
"""

from __future__ import annotations

from tellegen.intake.registry_changes import SentChanges
from tellegen.intake.sent import Sent, SentBids, SentRoots

SAVED_S = 2
"""What a source does not use it may save up for this long."""
WAIT_S_MAX = 2
"""A batch that is too fast waits this long for its turn at most; beyond, it is refused."""
BATCH_COST = 100
"""Of a signature to check, an answer and its share of a commit, in rows."""
SIGNED_COST = 10
"""Of a row that is signed by itself: another signature to check."""
ASK_COST = 200
"""Of a question about awards."""
ROW_BYTES = 64
"""Of which a body is taken to be one row until they are counted."""


def cost_of_bytes(size: int) -> int:
    """Rows that a batch is charged before its body of so many bytes is read."""
    return BATCH_COST + size // ROW_BYTES


def cost_of_rows(sent: Sent | SentChanges) -> int:
    """Rows that a batch costs, those included that cannot be read."""
    match sent:
        case SentBids():
            rows = SIGNED_COST * len(sent.submissions) + len(sent.orders)
        case SentRoots():
            rows = SIGNED_COST * sent.rows
        case _:
            rows = sent.rows
    return BATCH_COST + rows + (0 if isinstance(sent, SentChanges) else len(sent.problems))


class Allowance:
    """Rows that a source may still cost: a bucket that fills at a steady rate.

    >>> rate = Allowance(100)
    >>> rate.wait_s(200, 0.0), rate.charge(200)
    (0.0, None)
    >>> rate.wait_s(50, 0.0), rate.wait_s(50, 0.5)
    (0.5, 0.0)
    """

    __slots__ = ("_at", "_full", "_rows", "_rows_per_s")

    def __init__(self, rows_per_s: int) -> None:
        self._rows_per_s = rows_per_s
        self._rows = self._full = float(SAVED_S * rows_per_s)
        self._at = 0.0

    def wait_s(self, rows: int, at: float) -> float:
        """Seconds, from a time on, until so many can be paid for; more than the bucket holds, when it is full.

        Parameters
        ----------
        at : seconds since some moment.
        """
        self._rows = min(self._full, self._rows + max(at - self._at, 0.0) * self._rows_per_s)
        self._at = max(at, self._at)
        return max(0.0, (min(rows, self._full) - self._rows) / self._rows_per_s)

    def charge(self, rows: int) -> None:
        """Pay, or owe; less than 0 gives back."""
        self._rows = min(self._full, self._rows - rows)
