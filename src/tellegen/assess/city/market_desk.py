"""The market process of a shard: what is due by the timetable is done when it is told the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tellegen.grid import best_engine
from tellegen.journal.clock import Told
from tellegen.operations.market import Market
from tellegen.operations.process import GATES, perform
from tellegen.operations.timetable import Due, Verb, due
from tellegen.records import RootPrices

LOOK_S = 0.002
"""Between two looks whether the intake's record has reached a time."""


@dataclass(frozen=True, slots=True)
class Did:
    """A verb that was done.

    Attributes
    ----------
    key : about what, as in `operations.timetable.Due`. outcome : what the verb says of it.
    wall_s, cpu_s : seconds; stages : CPU seconds by stage.
    """

    verb: Verb
    key: int
    outcome: object
    wall_s: float
    cpu_s: float
    stages: dict[str, float]


class MarketDesk:
    """A market, told the time by `advance`.

    Parameters
    ----------
    told : the time, which goes on as the market does.
    since : time before which nothing is due. begin : the first interval that is cleared and settled.
    """

    def __init__(self, folder: Path, told: Told, since: int, begin: int) -> None:
        self._market = Market.open(folder, engine=best_engine())
        self._told, self._since, self._begin = told, since, begin
        self._done: set[Due] = set()

    def advance(self, until: int, prices: Mapping[tuple[str, int], int], through: Verb | None = None) -> list[Did]:
        """It is `until` now: do what is due and has not been done, in the order of the timetable.

        Parameters
        ----------
        prices : wholesale prices, micro-currency per kWh, by market and interval.
        through : of what is due at that time only what comes up to this verb; None: all.
        """
        if until > self._told.time():
            self._told.tell(until)
        market = self._market
        market.stages.taken()
        last = None if through is None else Due.of(through, until, 0)
        did = []
        for what in due(market.book, self._since, until, market.first_day):
            if last is not None and (what.at, what.order) > (last.at, last.order):
                break
            if what.verb in (Verb.CLOSE_REAL_TIME, Verb.SETTLE) and what.key < self._begin:
                continue
            if what in self._done or market.is_done(what):
                continue
            while not market.is_ready(what):
                time.sleep(LOOK_S)
            start, used = time.perf_counter(), time.process_time()
            outcome = self._do(what, until, prices)
            spent = time.perf_counter() - start, time.process_time() - used
            did.append(Did(what.verb, what.key, outcome, *spent, market.stages.taken()))
            self._done.add(what)
        if last is None:
            self._since = until
            self._done.clear()
        return did

    def close(self) -> None:
        """Release the files."""
        self._market.close()

    def _do(self, what: Due, at: int, prices: Mapping[tuple[str, int], int]) -> object:
        if what.verb in GATES:
            name = GATES[what.verb]
            hours = self._market.state.periods(name, what.key)
            known = {hour.start: prices[name, hour.start] for hour in hours if (name, hour.start) in prices}
            if known:
                self._market.take_prices(name, _root_prices(known), at)
        return perform(self._market, what, at)


def _root_prices(micros: Mapping[int, int]) -> RootPrices:
    source = np.full(len(micros), b"city", dtype="S64")
    return RootPrices(interval=np.array(list(micros)), micros=np.array(list(micros.values())), source=source)
