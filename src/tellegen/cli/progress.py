"""What the operator is doing: a live panel on a terminal, one line per event elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tellegen.operations.clock import Clock
from tellegen.operations.correcting import Corrected
from tellegen.operations.gating import GateClosed
from tellegen.operations.market import DayClosed
from tellegen.operations.process import Event
from tellegen.operations.settling import Settled
from tellegen.operations.timetable import Due, Verb
from tellegen.records import ClearingStatus
from tellegen.units import MICROS, interval_start

WARNINGS_SHOWN = 5
_SHOWN = (
    ("day ahead", Verb.CLOSE_DAY_AHEAD),
    ("real time", Verb.CLOSE_REAL_TIME),
    ("settled", Verb.SETTLE),
    ("corrected", Verb.CORRECT),
    ("closed", Verb.CLOSE_DAY),
)


def moment(seconds: int) -> str:
    """A time as it is shown.

    >>> moment(1459000000)
    '2016-03-26 13:46:40 UTC'
    """
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"


def about(due: Due) -> str:
    """What a verb is about: a day, or the start of a period.

    >>> about(Due.of(Verb.CLOSE_REAL_TIME, 1459000200, 4863334))
    '2016-03-26 13:50'
    """
    match due.verb:
        case Verb.OPEN_DAY | Verb.CLOSE_DAY | Verb.PUBLISH | Verb.FINALISE:
            return due.day.isoformat()
        case Verb.CORRECT | Verb.SNAPSHOT:
            return f"{datetime.fromtimestamp(due.key, tz=UTC):%Y-%m-%d %H:%M}"
        case _:
            return f"{interval_start(due.key):%Y-%m-%d %H:%M}"


def words(result: object) -> str:
    """What a verb says that it did; empty where it was done before, or there was nothing to do."""
    match result:
        case GateClosed():
            return _gate(result)
        case Settled():
            estimated = f", {result.estimated:,} with estimates" if result.estimated else ""
            held = f", {result.held:,} on hold from now on" if result.held else ""
            return f"{result.customers:,} customers{estimated}{held}" if result.customers else ""
        case Corrected():
            facts = (
                (result.readings, "late readings"),
                (result.edits, "edits"),
                (result.days_shared, "days shared anew"),
                (result.unsettled, "too late to settle"),
            )
            return ", ".join(f"{count:,} {what}" for count, what in facts if count)
        case DayClosed():
            if not result.customers:
                return ""
            missing = f", {result.without_keys} feeders without keys" if result.without_keys else ""
            return f"{result.customers:,} statements, {result.cents / 100:,.2f} billed{missing}"
        case _:
            return ""


def _gate(closed: GateClosed) -> str:
    if not closed.status.size:
        return "closed before"
    status = [ClearingStatus(number).name.lower() if number >= 0 else "not held" for number in closed.status.tolist()]
    ended = ", ".join(f"{status.count(each):,} {each}" for each in dict.fromkeys(sorted(status)))
    binding = int(closed.binding.sum())
    limits = f", {binding:,} limits bind" if binding else ""
    low, mean, high = (micros / MICROS for micros in (closed.low_micros, closed.mean_micros, closed.high_micros))
    prices = f"prices {low:.4f} / {mean:.4f} / {high:.4f}"
    return f"{len(status):,} feeders: {ended}; {prices}; {closed.bids:,} bids, {closed.orders:,} orders{limits}"


def line(event: Event) -> str:
    """An event in one line."""
    if event.due is None:
        return f"{moment(event.at)}  warning: {event.warning}"
    return f"{moment(event.at)}  {event.due.verb} {about(event.due)}  {words(event.result)}".rstrip()


class Progress:
    """Shows events as they come; a context, for the panel is taken down at its end.

    Parameters
    ----------
    directory : of the shard.
    console : where the panel stands, or the lines where it is no terminal.
    """

    def __init__(self, directory: Path, console: Console | None = None) -> None:
        self._console = Console(soft_wrap=True, highlight=False, markup=False) if console is None else console
        self._directory, self._address = directory, ""
        self._clock: Clock | None = None
        self._last: dict[Verb, Event] = {}
        self._warnings: deque[Event] = deque(maxlen=WARNINGS_SHOWN)
        self._live = Live(get_renderable=self.panel, console=self._console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, address: str, clock: Clock) -> None:
        """The intake takes requests; the market begins."""
        self._address, self._clock = address, clock
        if self._console.is_terminal:
            self._live.start()
        else:
            self._print(f"{moment(clock.now())}  {self._directory}: intake at {address}")

    def tell(self, event: Event) -> None:
        """Show an event."""
        if event.due is None:
            self._warnings.append(event)
        else:
            self._last[event.due.verb] = event
        if not self._console.is_terminal:
            self._print(line(event))

    def _print(self, text: str) -> None:
        self._console.print(text)
        sys.stdout.flush()

    def panel(self) -> Group:
        """What stands on a terminal now."""
        table = Table.grid(padding=(0, 2))
        now = "" if self._clock is None else moment(self._clock.now())
        table.add_row(str(self._directory), f"{now}   intake at {self._address}")
        for title, verb in _SHOWN:
            event = self._last.get(verb)
            if event is not None and event.due is not None:
                table.add_row(title, Text(f"{about(event.due)}  {words(event.result)}"))
        latest = max(self._last.values(), key=lambda event: event.at, default=None)
        if latest is not None and latest.following is not None:
            following = latest.following
            table.add_row("next", Text(f"{following.verb} {about(following)} at {moment(following.at)}"))
        warnings = [Text(f"{moment(event.at)}  {event.warning}", style="yellow") for event in self._warnings]
        return Group(table, *warnings)
