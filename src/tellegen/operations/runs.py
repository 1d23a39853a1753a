"""The price run of an interval, as a record: its gate, and what each feeder's second clearing came to.

It is closed with the settlement of its interval, in one commit with the energy that it rests on and the postings that
follow. Awards, schedules and reserve stay those of the gate before the interval; prices, losses and the price of
reactive power are the run's. They are frozen: what meters say later moves energy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.grid import Engine
from tellegen.market.engine import engine_name
from tellegen.operations.administrative import administrative_clearing, stand_in
from tellegen.operations.clearers import Clearers
from tellegen.operations.facts import Cleared
from tellegen.operations.findings import findings
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import GATE, NONE, Gate, State
from tellegen.operations.tasks import TaskMaker
from tellegen.operations.topology import Connected
from tellegen.operations.writer import Writer
from tellegen.privacy.recorder import Span
from tellegen.records import Clearings, Energy, GateOutcome, Gates, Prices, Table
from tellegen.records.market import PRICE_RUN, REAL_TIME


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """A feeder's run as it was put on record: the entry of its clearing, its prices and its row."""

    entry: int
    prices: Prices
    clearing: Clearings

    def settles(self, gate: Cleared) -> Cleared:
        """What an interval settles from: what the gate awarded, at the run's prices."""
        return replace(gate, prices=self.prices, clearing=self.clearing)


class PriceRuns:
    """Closes price runs."""

    def __init__(
        self, state: State, writer: Writer, clearers: Clearers, tasks: TaskMaker, engine: Engine, *, timed: bool
    ) -> None:
        self._timed = timed
        self._state, self._writer, self._clearers, self._tasks = state, writer, clearers, tasks
        self._record, self._engine = tasks.record, engine_name(engine).encode("ascii")

    def are_held(self, interval: int) -> bool:
        """Whether the rules of its day hold one for an interval."""
        return self._state.book.at(self._state.date_of(interval)).price_run is not None

    def close(self, interval: int, connected: Connected, energy: Energy, cut: int, at: int) -> list[Priced]:
        """Clear every feeder on meters, and put it with its gate on record, without a commit.

        Parameters
        ----------
        connected, energy : of everybody in the interval, in one order.
        cut : size of the intake's journal below which readings counted.
        """
        gate = self._state.gates[REAL_TIME, interval]
        tasks = {}
        outcome = gate.rows.outcome.copy()
        for k in range(len(self._record.feeders)):
            if gate.outcome(k) is not GateOutcome.CLOSED:
                continue
            here = connected.on(k)
            task = self._tasks.run_task(interval, k, connected, energy.take(np.arange(here.start, here.stop)))
            if task is None:
                outcome[k] = GateOutcome.UNMETERED
            else:
                tasks[k] = task
        feeders = list(tasks)
        rules = self._state.book.at(self._state.date_of(interval)).timetable
        within_s = rules.gate_deadline_s if self._timed else None
        with self._writer.stages("price"):
            answers = self._clearers.clear([tasks[k] for k in feeders], within_s=within_s)
            done = {feeders[each.place]: each for each in answers}
        for k, each in done.items():
            outcome[k] = GateOutcome.DEADLINE if each.lost else outcome[k]
        span, name = Span(self._writer.time(at), interval, 1, PRICE_RUN), f"{GATE}{cut}"
        rows = self._rows(gate, interval, cut, outcome)
        entry = self._writer.put(rows, span, name=name, causes=(gate.entry,))
        run = Gate(entry, cut, rows, np.full_like(gate.cleared, NONE))
        priced = []
        for k, feeder in enumerate(self._record.feeders):
            found: list[Table] = []
            if run.outcome(k) is GateOutcome.CLOSED:
                cleared = done[k].cleared[0]
                prices, clearing, found = cleared.prices, cleared.clearing, findings(cleared)
            else:
                prices, root = stand_in(self._record, self._state, run, k, interval, guide_of(self._record, gate, k))
                clearing = administrative_clearing(root)
            put = [
                self._writer.put(table, span, feeder=feeder.name, name=name, causes=(entry,))
                for table in (prices, *found)
            ]
            causes = (entry, *put, int(gate.cleared[k, 0]))
            priced.append(
                Priced(self._writer.put(clearing, span, feeder=feeder.name, name=name, causes=causes), prices, clearing)
            )
        return priced

    def _rows(self, gate: Gate, interval: int, cut: int, outcome: NDArray[np.uint8]) -> Gates:
        rows = gate.rows.rows().copy()
        rows["cut"], rows["engine"], rows["outcome"] = cut, self._engine, outcome
        rows["start"] = [self._tasks.starts_run(int(clearing)) for clearing in gate.cleared[:, 0]]
        rows["spread_from"] = self._state.run_spread_from
        return Gates.from_rows(rows)


def guide_of(record: ShardRecord, gate: Gate, feeder: int) -> Prices | None:
    """Prices of the gate before a run, at which reserve is paid; None where it was not cleared."""
    if gate.outcome(feeder) is not GateOutcome.CLOSED:
        return None
    return record.table(record.cause(int(gate.cleared[feeder, 0]), Prices), Prices)
