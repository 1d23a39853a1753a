"""What each source has waiting, and what more of it may come: nobody fills the place of the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.rate import WAIT_S_MAX, Allowance

_OF_FREE = 3


@dataclass(slots=True)
class _Held:
    """What of a source waits."""

    batches: int = 0
    size: int = 0


class Sources:
    """Accounts of sources, each proven by its signature; there are no more of them than were ever admitted.

    A source may hold three times what it leaves free (A. K. Choudhury, E. L. Hahne, IEEE/ACM Trans. Networking 6,
    1998): one that is alone three quarters of the place, and the next finds room however much it wants.

    Parameters
    ----------
    elapsed : counts seconds.
    """

    def __init__(self, limits: IntakeLimits, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._elapsed = limits, elapsed
        self._allowances: dict[str, Allowance] = {}
        self._held: dict[str, _Held] = {}
        self._size = 0

    def charge(self, source: str, cost: int) -> float:
        """Charge a source; seconds that it has to wait first.

        Raises
        ------
        RefusedBatchError : that would be longer than `rate.WAIT_S_MAX`; nothing is charged.
        """
        allowance = self._allowances.get(source)
        if allowance is None:
            allowance = self._allowances[source] = Allowance(self._limits.rows_per_s_max)
        wait = allowance.wait_s(cost, self._elapsed())
        if wait > WAIT_S_MAX:
            raise RefusedBatchError(
                Reason.RATE,
                f"source '{source}' costs more than {self._limits.rows_per_s_max} rows a second",
                retry_after_s=math.ceil(wait),
                too_much_of=source,
            )
        allowance.charge(cost)
        return wait

    def correct(self, source: str, cost: int) -> None:
        """What was charged has cost so much more, or less."""
        self._allowances[source].charge(cost)

    def hold(self, source: str, size: int) -> None:
        """A batch with a body of so many bytes waits from now on.

        Raises
        ------
        RefusedBatchError : too many wait, or too much.
        """
        held = self._held.get(source) or _Held()
        free = self._limits.pending_bytes_max - self._size - size
        fits = free >= 0 and (not held.batches or held.size + size <= _OF_FREE * free)
        if not fits or held.batches >= self._limits.source_batches_max:
            raise RefusedBatchError(
                Reason.BUSY,
                f"{held.batches} batches of source '{source}' wait, {held.size} bytes, and {self._size} bytes of all",
                retry_after_s=1,
                too_much_of=source,
            )
        held.batches += 1
        held.size += size
        self._held[source] = held
        self._size += size

    def release(self, source: str, size: int) -> None:
        """It does not wait any more."""
        held = self._held[source]
        held.batches -= 1
        held.size -= size
        self._size -= size
        if not held.batches:
            del self._held[source]
