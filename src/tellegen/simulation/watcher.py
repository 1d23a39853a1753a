"""Who watches a day while it is played, from a process that gives way to those who play it.

It plays the worlds without a market, and referees what the record says of the market's.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tellegen.errors import TellegenError, WorkerError
from tellegen.simulation.baseline import simulate_baselines
from tellegen.simulation.referee import Referee
from tellegen.simulation.scenario import Scenario
from tellegen.simulation.setup import prepare
from tellegen.simulation.world_day import WorldDay
from tellegen.spawned import spawned

NICE = 3
"""By how much the process gives way: half as much time as the others where all want it, for at the end they wait."""


class Watcher:
    """A process beside a scenario that is played into a folder; to be closed. It starts with `begin`.

    Nothing is heard of it before the day is closed; then what failed on the way is raised by whoever asks.
    """

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario, self._folder = scenario, folder
        self._process: BaseProcess | None = None
        self._line: Connection | None = None
        self._heard: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is None or self._process is None:
            return
        self._line.close()
        if error is not None:
            self._process.terminate()  # whatever it is at, nobody wants to know
        self._process.join()

    def begin(self) -> None:
        """Play the worlds without a market."""
        self._process, self._line = spawned(_watch, self._scenario, self._folder)

    def follow(self, until: int) -> None:
        """Referee the intervals before one, which are on record."""
        self._say(until)

    def close_day(self) -> None:
        """The day is on record, and will be asked about."""
        self._say(None)

    def baselines(self) -> dict[str, WorldDay]:
        """The worlds without a market, by name."""
        worlds: dict[str, WorldDay] = self._answer("baselines")
        return worlds

    def equals_afresh(self) -> bool:
        """Whether the day settles afresh to the same."""
        return bool(self._answer("afresh"))

    def section(self) -> dict[str, float | None]:
        """The referee's section of the summary's evidence."""
        section: dict[str, float | None] = self._answer("section")
        return section

    def _say(self, word: int | None) -> None:
        assert self._line is not None
        try:
            self._line.send(word)
        except OSError:
            return  # it has died, or failed: told when it is asked

    def _answer(self, name: str) -> Any:
        """What it says under a name.

        Raises
        ------
        TellegenError : it failed. WorkerError : it has died.
        """
        assert self._line is not None
        while name not in self._heard:
            try:
                about, content = self._line.recv()
            except (EOFError, OSError):
                raise WorkerError("the process that watches a simulated day has died; run again") from None
            if isinstance(content, TellegenError):
                raise content
            self._heard[about] = content
        return self._heard[name]


def _watch(line: Connection, scenario: Scenario, folder: Path) -> None:
    """What the process does, until the line ends."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    try:
        try:
            setup = prepare(scenario)
            baselines, referee = simulate_baselines(setup), None
            while (until := line.recv()) is not None:
                referee = referee or Referee(setup, folder)
                referee.follow(until)
            line.send(("baselines", baselines))
            referee = referee or Referee(setup, folder)
            line.send(("afresh", referee.equals_afresh()))
            line.send(("section", referee.section()))
        except TellegenError as error:
            line.send(("failure", error))
    except (EOFError, BrokenPipeError):
        return  # nobody wants to know any more
