"""What the rulebook on record says of the intake itself.

How far back readings count, how long it may be silent, and how often it keeps what it knows.
"""

from __future__ import annotations

from datetime import UTC, datetime

from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder
from tellegen.rules import Rulebook
from tellegen.rules.days import day_bounds, day_of
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S

WINDOW_INTERVALS = 288
TICK_S = 5
SNAPSHOT_S = 12 * MARKET_INTERVAL_S
"""Where there is no rulebook, or none yet."""
_INTERVALS_PER_DAY = 288


class Calendar:
    """Times of the rules of a day; without a rulebook the defaults above.

    >>> Calendar(None).window_intervals(0), Calendar(None).tick_s(0)
    (288, 5)
    """

    def __init__(self, rulebook: Rulebook | None) -> None:
        self._rulebook = rulebook
        self._of_day: dict[int, tuple[int, int, int]] = {}

    @classmethod
    def of(cls, journal: Journal, vault: Vault) -> Calendar:
        """With the rulebook that is on record."""
        recorder = Recorder(journal, vault, "")
        return cls(read_rulebook(recorder) if _rulebook_documents(recorder) else None)

    def window_intervals(self, now: int) -> int:
        """How many intervals back a reading may be about."""
        return self._at(now)[0]

    def tick_s(self, now: int) -> int:
        """After how many seconds without an entry the time is put on record."""
        return self._at(now)[1]

    def snapshot_s(self, now: int) -> int:
        """After how many seconds what is known is kept again."""
        return self._at(now)[2]

    def day_start(self, interval: int) -> int:
        """First interval of the delivery day that an interval is of; where no rules say so, the interval itself."""
        if self._rulebook is None:
            return interval
        try:
            return day_bounds(self._rulebook, day_of(self._rulebook, interval)).start
        except InputError:
            return interval

    def longest_meter_intervals(self, interval: int) -> int:
        """For how long an interval of a meter the market waits; where no rules say so, an hour."""
        if self._rulebook is None:
            return INTERVALS_PER_HOUR
        try:
            return self._rulebook.at(day_of(self._rulebook, interval)).timetable.longest_meter_intervals
        except InputError:
            return INTERVALS_PER_HOUR

    def _at(self, now: int) -> tuple[int, int, int]:
        day = now // 86_400
        if day not in self._of_day:
            self._of_day = {day: self._read(now)}
        return self._of_day[day]

    def _read(self, now: int) -> tuple[int, int, int]:
        if self._rulebook is None:
            return WINDOW_INTERVALS, TICK_S, SNAPSHOT_S
        try:
            timetable = self._rulebook.at(datetime.fromtimestamp(now, UTC).date()).timetable
        except InputError:
            return WINDOW_INTERVALS, TICK_S, SNAPSHOT_S
        # a day more, for the window begins when the reading's local day has ended
        window = (timetable.correction_window_days + 1) * _INTERVALS_PER_DAY
        return window, timetable.tick_s, timetable.snapshot_every * MARKET_INTERVAL_S


def read_rulebook(recorder: Recorder) -> Rulebook:
    """The rulebook on record.

    Raises
    ------
    InputError : there is none.
    """
    return Rulebook.from_documents(_rulebook_documents(recorder))


def _rulebook_documents(recorder: Recorder) -> dict[str, bytes]:
    names = {recorder.journal.entry(index).name for index in recorder.journal.find(kind="document")}
    return {name: recorder.document(name) for name in sorted(names) if name.startswith("rulebook/")}
