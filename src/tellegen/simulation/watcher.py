"""Who watches a day while it is played, from a process that gives way to those who play it.

It plays the worlds without a market, and referees what the record says of the market's.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from tellegen.simulation.baseline import simulate_baselines
from tellegen.simulation.referee import Referee
from tellegen.simulation.scenario import Scenario
from tellegen.simulation.world_day import WorldDay

NICE = 3
"""By how much the process gives way: half as much time as the others where all want it, for at the end they wait."""


class Watcher:
    """A process beside a scenario that is played into a folder; to be closed. It starts with what it is first asked."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario, self._folder = scenario, folder
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _give_way)
        self._baselines: Future[dict[str, WorldDay]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.shutdown(cancel_futures=True)

    def begin(self) -> None:
        """Play the worlds without a market."""
        self._baselines = self._process.submit(simulate_baselines, self._scenario)

    def follow(self, until: int) -> None:
        """Referee the intervals before one, which are on record."""
        self._process.submit(_follow, self._scenario, self._folder, until)

    def close_day(self) -> tuple[Future[bool], Future[dict[str, float | None]]]:
        """Whether the day settles afresh to the same, and the referee's section of it; nothing is asked after this."""
        said = (
            self._process.submit(_equals_afresh, self._scenario, self._folder),
            self._process.submit(_section, self._scenario, self._folder),
        )
        self._process.shutdown(wait=False)  # it ends as soon as that is said
        return said

    def baselines(self) -> dict[str, WorldDay]:
        """The worlds without a market, by name."""
        assert self._baselines is not None
        return self._baselines.result()


def _give_way() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the operator's to handle
    if hasattr(os, "nice"):
        os.nice(NICE)


@cache
def _referee(scenario: Scenario, folder: Path) -> Referee:
    return Referee(scenario, folder)


def _follow(scenario: Scenario, folder: Path, until: int) -> None:
    _referee(scenario, folder).follow(until)


def _equals_afresh(scenario: Scenario, folder: Path) -> bool:
    return _referee(scenario, folder).equals_afresh()


def _section(scenario: Scenario, folder: Path) -> dict[str, float | None]:
    return _referee(scenario, folder).section()
