"""What time is it, and when is it later? The clocks by which a market runs.

The wall clock of an operator; one that belongs to a simulated world and moves only from one act to the next; and one
that runs faster than the wall, for trials.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable
from itertools import count
from typing import Protocol

from tellegen.journal.clock import Pace, RecordClock, elapsed_s

SLICE_S = 10.0
"""Longest sleep between two looks at the clock: by then a step of the wall clock is noticed."""
SLEEP_S_MIN = 0.005
"""Shortest sleep of an accelerated clock, whose seconds may be shorter than that."""
Act = Callable[[], None]


class Clock(Protocol):
    """The time of a market, in whole seconds since the epoch, UTC."""

    @property
    def stepped_s(self) -> int:
        """Seconds by which the wall clock has jumped, and is not followed."""

    def now(self) -> int:
        """The time; never less than before."""

    def elapsed(self) -> float:
        """A count of seconds that no setting of the clock moves."""

    def wait(self, until: int, order: int = 0) -> None:
        """Return once it is `until`, or once the wait is broken off.

        Parameters
        ----------
        order : place of what the caller does then among what is due at one time (see `tellegen.operations.timetable`).
        """


class Wall:
    """The wall clock: it does not follow a jump, and does not run back (see `tellegen.journal.clock`).

    Parameters
    ----------
    stop : breaks a wait off.
    time : what gives the time.
    """

    def __init__(self, stop: threading.Event, time: RecordClock | None = None) -> None:
        self._stop, self._time = stop, RecordClock() if time is None else time

    @property
    def stepped_s(self) -> int:
        """Seconds by which the wall clock has jumped, and is not followed."""
        return self._time.stepped_s

    def now(self) -> int:
        """The time."""
        return self._time.now()

    def elapsed(self) -> float:
        """The count of seconds."""
        return self._time.elapsed()

    def wait(self, until: int, order: int = 0) -> None:
        """Sleep until then, or until somebody stops."""
        while (left := until - self.now()) > 0 and not self._stop.wait(min(left, SLICE_S)):
            pass


class Accelerated:
    """The time for trials.

    Parameters
    ----------
    pace : what it is.
    stop : breaks a wait off.
    elapsed : the count of seconds.
    """

    def __init__(self, pace: Pace, stop: threading.Event, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._pace, self._stop, self._elapsed = pace, stop, elapsed

    @property
    def stepped_s(self) -> int:
        """None: nobody sets it."""
        return 0

    def now(self) -> int:
        """The time."""
        return math.floor(self._pace.time(self._elapsed()))

    def elapsed(self) -> float:
        """The count of seconds, not accelerated."""
        return self._elapsed()

    def wait(self, until: int, order: int = 0) -> None:
        """Sleep until then, or until somebody stops."""
        while self.now() < until and not self._stop.is_set():
            left = (until - self._pace.time(self._elapsed())) / self._pace.factor
            self._stop.wait(min(max(left, SLEEP_S_MIN), SLICE_S))


class Simulated:
    """The clock of a simulated world: it moves to the next act or to what is waited for, and stands meanwhile.

    The acts of the world wait in a queue by time. Whoever waits lets all those happen that come before it by time and
    order, each at its own time; of equals the act comes first, and of acts that which was added first. While a market
    is down nobody waits, and time stands.

    >>> clock = Simulated(1000)
    >>> clock.at(1300, lambda: print("a bid at", clock.now()))
    >>> clock.wait(1200)
    >>> clock.wait(1500)
    a bid at 1300
    >>> clock.now()
    1500
    """

    def __init__(self, start: int) -> None:
        self._start = self._now = start
        self._order = 0
        self._acts: list[tuple[int, int, int, Act]] = []
        self._added = count()

    @property
    def stepped_s(self) -> int:
        """None: nobody sets it."""
        return 0

    @property
    def place(self) -> tuple[int, int]:
        """The time, and the place of the act that is happening among what is due at it."""
        return self._now, self._order

    def at(self, time: int, act: Act, order: int = 0) -> None:
        """Have something done at a time; at once when next waited for, where the time has passed."""
        heapq.heappush(self._acts, (time, order, next(self._added), act))

    def now(self) -> int:
        """The time."""
        return self._now

    def elapsed(self) -> float:
        """Seconds since the start."""
        return float(self._now - self._start)

    def wait(self, until: int, order: int = 0) -> None:
        """Let happen what comes before, and move to then."""
        while self._acts and self._acts[0][:2] <= (until, order):
            time, self._order, _, act = heapq.heappop(self._acts)
            self._now = max(self._now, time)
            act()
        self._now, self._order = max(self._now, until), order
