"""The time of the record: it follows the wall clock, never runs back, does not follow a jump, nor begin after one."""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tellegen.errors import TellegenError

STEP_MAX_S = 60
"""Steps of the wall clock that are followed in an hour; crystals and leap seconds stay far below."""
STEP_PERIOD_S = 3600.0
BEHIND_MAX_S = 3600
"""How far behind the newest entry the wall clock may stand when a process begins."""
AHEAD_MAX_S = 2 * 86_400
"""How far ahead of it: one that is served puts the time on record every minute, and where it stood still for days the
clock looks like one that is days ahead."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the wall clock may be from the newest entry where a process begins to write, in seconds each way."""

    behind_s: int = BEHIND_MAX_S
    ahead_s: int = AHEAD_MAX_S

    def hold(self, wall: float, newest: int) -> bool:
        """Whether it is no further."""
        return not newest or -self.behind_s <= wall - newest <= self.ahead_s

    def check(self, wall: float, newest: int) -> None:
        """Refuse to begin where it is further; a record without an entry is near to any clock.

        Raises
        ------
        ClockError : it is; who of the two is wrong only an operator can say.

        >>> Bounds().check(1_000_000.0, 999_000)
        >>> Bounds(ahead_s=500).check(1_000_000.0, 999_000)
        Traceback (most recent call last):
        tellegen.journal.clock.ClockError: the clock is 1000 s ahead of the newest entry on record (at most 500): ...
        """
        apart = wall - newest
        if not self.hold(wall, newest):
            way, most = ("ahead of", self.ahead_s) if apart > 0 else ("behind", self.behind_s)
            raise ClockError(
                f"the clock is {round(abs(apart))} s {way} the newest entry on record (at most {most}): set it right; "
                "or, where it is right, say so (`tellegen journal accept-clock`, --accept-clock of serve and operate)"
            )


BOUNDS = Bounds()
TRIALS = Bounds(ahead_s=30 * 86_400)
"""Of a time that a world or a trial sets, which may begin days after all was made ready."""

FACTOR_MAX = 10_000.0
"""A time for trials runs so much faster at most."""


class ClockError(TellegenError):
    """The wall clock cannot be right, or the record is not; says how far they are apart, and the way on."""


def elapsed_s() -> float:
    """Seconds since some moment, those included in which the machine slept, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class RecordClock:
    """Seconds since the epoch, UTC, for what goes on record.

    A clock set wrong for a moment must not stand on record for good. So the wall clock is followed over `step_max_s`
    in an hour at most: beyond that, time goes on by the count of elapsed seconds, and `stepped_s` says by how much the
    two differ, until the step is undone or the process starts again. And it does not begin where the wall clock is
    further from the newest entry than `bounds` let it.

    Parameters
    ----------
    wall, elapsed : clocks, in seconds.
    not_before : time of the newest record; 0 where there is none.
    bounds : how far the wall clock may be from it.

    Raises
    ------
    ClockError : the wall clock is too far from the newest record.

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
        bounds: Bounds = BOUNDS,
    ) -> None:
        self._wall, self._elapsed, self._step_max_s = wall, elapsed, step_max_s
        begin = wall()
        bounds.check(begin, not_before)
        self._time = max(begin, float(not_before))
        self._at = elapsed()
        self._offset = self._anchor = self._time - self._at  # of the wall clock against the count, as followed so far
        self._anchored_at = self._at
        self.stepped_s = 0

    def elapsed(self) -> float:
        """The count of seconds, which no setting of the clock moves."""
        return self._elapsed()

    def now(self) -> int:
        """The time, whole seconds; never less than before."""
        self._at = max(self._elapsed(), self._at)
        offset = self._wall() - self._at
        if self._at - self._anchored_at >= STEP_PERIOD_S:
            self._anchor, self._anchored_at = self._offset, self._at
        steady = abs(offset - self._anchor) <= self._step_max_s
        self.stepped_s = 0 if steady else round(offset - self._offset)
        if steady:
            self._offset = offset
        self._time = max(self._time, self._at + self._offset)
        return int(self._time)


@dataclass(frozen=True, slots=True)
class Pace:
    """A time for trials that runs `factor` times as fast as the seconds are counted; processes of a machine share it.

    factor : at least 1. start : the time, seconds since the epoch, when the count of seconds stood at `since`.

    >>> Pace.parse("60@1459000000@5.5").time(6.5)
    1459000060.0
    """

    factor: float
    start: int
    since: float

    @classmethod
    def parse(cls, text: str) -> Pace:
        """From its text.

        Raises
        ------
        TellegenError : it is none.
        """
        try:
            factor, start, since = text.split("@")
            pace = cls(float(factor), int(start), float(since))
        except ValueError:
            raise ClockError(f"{text!r} is no pace FACTOR@START@SINCE") from None
        if not 1.0 <= pace.factor <= FACTOR_MAX:
            raise ClockError(f"a time for trials runs 1 to {FACTOR_MAX:g} times as fast, not {factor}")
        return pace

    def __str__(self) -> str:
        return f"{self.factor!r}@{self.start}@{self.since!r}"

    def time(self, elapsed: float | None = None) -> float:
        """The time, now or at a count of seconds."""
        return self.start + ((elapsed_s() if elapsed is None else elapsed) - self.since) * self.factor

    def clock(self, newest: int) -> RecordClock:
        """The time of a record whose newest entry is this old."""
        return RecordClock(wall=self.time, elapsed=self.time, not_before=newest, bounds=TRIALS)


_TOLD = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class Told:
    """A time for trials that stands until somebody tells it on; the processes that share it share a file.

    file : holds the seconds since the epoch.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     told = Told(Path(folder) / "time")
    ...     told.tell(1_000)
    ...     Told.parse(str(told)).time()
    1000.0
    """

    file: Path
    factor: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, text: str) -> Told | Pace:
        """From its text; a pace's own is that of a time that runs.

        Raises
        ------
        TellegenError : it is neither.
        """
        word, colon, name = text.partition(":")
        return cls(Path(name)) if colon and word == "told" else Pace.parse(text)

    def __str__(self) -> str:
        return f"told:{self.file}"

    def tell(self, seconds: int) -> None:
        """It is so late now; there is one who tells at a time."""
        place = os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(place, _TOLD.pack(seconds), 0)  # whoever reads meanwhile finds the old time or the new one
        finally:
            os.close(place)

    def time(self, elapsed: float | None = None) -> float:
        """The time.

        Raises
        ------
        ClockError : nobody has told it.
        """
        try:
            return float(_TOLD.unpack(self.file.read_bytes())[0])
        except (OSError, struct.error):
            raise ClockError(f"{self.file} does not hold a time") from None

    def clock(self, newest: int) -> RecordClock:
        """The time of a record; it has no other count of seconds."""
        return RecordClock(wall=self.time, elapsed=self.time, not_before=newest, bounds=TRIALS)
