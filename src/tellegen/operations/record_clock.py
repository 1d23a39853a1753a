"""The time of the record: it follows the wall clock, never runs back, and does not follow a jump."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_MAX_S = 60


def elapsed_s() -> float:
    """Seconds since some moment, those included in which the machine slept, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class RecordClock:
    """Seconds since the epoch, UTC, for what goes on record.

    A clock set wrong for a moment must not stand on record for good. So a step of the wall clock by more than
    `step_max_s` is not followed: time goes on by the count of elapsed seconds, and `stepped_s` says by how much
    the two differ, until the step is undone or the process starts again.

    Parameters
    ----------
    wall, elapsed : clocks, in seconds.
    not_before : time of the newest record.

    >>> wall, elapsed = [1000.0], [0.0]
    >>> clock = RecordClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0])
    >>> wall[0], elapsed[0] = 900_000.0, 5.0  # somebody set the clock
    >>> clock.now(), clock.stepped_s
    (1005, 898995)
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed_s,
        not_before: int = 0,
        step_max_s: float = STEP_MAX_S,
    ) -> None:
        self._wall, self._elapsed, self._step_max_s = wall, elapsed, step_max_s
        self._time = max(wall(), float(not_before))
        self._at = elapsed()
        self.stepped_s = 0

    def elapsed(self) -> float:
        """The count of seconds, which no setting of the clock moves."""
        return self._elapsed()

    def now(self) -> int:
        """The time, whole seconds; never less than before."""
        at = self._elapsed()
        expected = self._time + max(at - self._at, 0.0)
        step = self._wall() - expected
        steady = abs(step) <= self._step_max_s
        self.stepped_s = 0 if steady else round(step)
        self._time, self._at = max(self._time, expected + step if steady else expected), at
        return int(self._time)
