"""Gates closed again: every clearing from what the record says it is a function of, in any order, on all cores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellegen.grid import Engine
from tellegen.market.engine import engine_name
from tellegen.operations.administrative import administrative_clearing, stand_in
from tellegen.operations.book import Book
from tellegen.operations.clearers import Clearers
from tellegen.operations.findings import FINDINGS, findings
from tellegen.operations.gate import Before, Cleared, Found, GateTask
from tellegen.operations.record import ShardRecord
from tellegen.operations.runs import guide_of
from tellegen.operations.state import Gate, State
from tellegen.operations.tally import Tally
from tellegen.operations.tasks import TaskMaker
from tellegen.records import (
    COLD,
    OPERATOR,
    Awards,
    Clearings,
    ClearingStatus,
    Energy,
    GateOutcome,
    Gates,
    Header,
    Orders,
    Prices,
    RecordError,
    Refusals,
    RefusedOrders,
    Schedules,
    Starts,
    Table,
    Taps,
)
from tellegen.records.market import CLEARED, PRICE_RUN, REAL_TIME
from tellegen.units import IntArray

T = TypeVar("T", bound=Table)
TOGETHER = 8
"""Tasks that wait for each process before they are cleared: so many books are in memory."""
_ERASED = "with bids of erased customers"
_SEALED = (Schedules, RefusedOrders, *FINDINGS)
_ENGINE = "cleared by another engine, so that steps of equal worth may be awarded otherwise"


@dataclass(slots=True, eq=False)
class _Waiting:
    """A task whose clearings have not all been read yet; rows of each customer's submission by row of the book."""

    market: str
    task: GateTask
    own_rows: list[IntArray]
    recorded: dict[int, Cleared] = field(default_factory=dict)
    besides: dict[int, tuple[Taps | None, list[Table]]] = field(default_factory=dict)


class GatesAgain:
    """Clears gates again while the record is folded.

    Parameters
    ----------
    state : the fold, which is shown each record after it was applied.
    processes : that clear; 0: this one alone.
    """

    def __init__(self, record: ShardRecord, state: State, processes: int) -> None:
        self._record, self._state = record, state
        self._clearers = Clearers(processes)
        for feeder in record.feeders:
            self._clearers.know(feeder.network_name, feeder.given)
        self._limit = TOGETHER * max(processes, 1)
        self._engines = {engine_name(engine).encode("ascii"): engine for engine in Engine}
        self._makers: dict[Engine, TaskMaker] = {}
        self._waiting: dict[tuple[str, str, int], _Waiting] = {}
        self._ready: list[_Waiting] = []
        self._tallies = {
            market: Tally(f"{market.replace('_', '-')} clearings", "clearings run again", _DIFFER) for market in CLEARED
        }
        self._stand_ins = Tally("administrative prices", "intervals without a clearing", "with another price")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._clearers.close()

    @property
    def tallies(self) -> list[Tally]:
        """What was compared."""
        return [*self._tallies.values(), self._stand_ins]

    def after(self, index: int, header: Header, table: Table | None) -> None:
        """Take in a record that the state has just taken in."""
        if isinstance(table, Gates) and self._state.gates[header.market, header.interval].entry == index:
            self._open(header)
        elif isinstance(table, Clearings):
            self._take(index, header, table)

    def finish(self) -> None:
        """Clear what waits; gates that were never cleared to their end count for nothing."""
        self._clear()

    def _open(self, header: Header) -> None:
        market, first = header.market, header.interval
        gate = self._state.gates[market, first]
        if market == PRICE_RUN:
            self._open_run(gate, first)
            return
        book: Book | None = None
        for k, feeder in enumerate(self._record.feeders):
            if gate.outcome(k) is not GateOutcome.CLOSED:
                continue
            row = k * gate.periods
            if not all(self._is_whole(int(e)) for e in (gate.rows.start[row], gate.rows.spread_from[row])):
                self._tallies[market].leave_out(f"that start from clearings {_ERASED}", gate.periods)
                continue
            book = book or Book.of(self._record, market, self._state.periods(market, first), gate.cut, gate.entry)
            if not book.is_whole(feeder.name):
                self._tallies[market].leave_out(_ERASED, gate.periods)
                continue
            try:
                task = self._maker(bytes(gate.rows.engine[row]), market).task(market, first, k, book)
            except RecordError:
                self._tallies[market].leave_out(f"that start from clearings {_ERASED}", gate.periods)
                continue
            waiting = _Waiting(market, task, [book.own_rows(feeder.name, p) for p in range(gate.periods)])
            for period in task.periods:
                self._waiting[market, feeder.name, period.first] = waiting
        for maker in self._makers.values():
            maker.forget()

    def _open_run(self, gate: Gate, interval: int) -> None:
        connected = self._state.connected(REAL_TIME, interval, interval)
        for k, feeder in enumerate(self._record.feeders):
            if gate.outcome(k) not in (GateOutcome.CLOSED, GateOutcome.UNMETERED):
                continue
            entry = self._record.about(Energy, feeder.name, interval)[0]
            energy, guide = self._record.table(entry, Energy), int(self._state.gates[REAL_TIME, interval].cleared[k, 0])
            if len(energy) != self._record.header(entry).rows or not self._is_whole(guide):
                self._tallies[PRICE_RUN].leave_out(_ERASED, 1)
                continue
            try:
                maker = self._maker(bytes(gate.rows.engine[k]), PRICE_RUN)
                task = maker.run_task(interval, k, connected, energy.take(energy.customer != OPERATOR))
            except RecordError:
                self._tallies[PRICE_RUN].leave_out(_ERASED, 1)
                continue
            if task is None or gate.outcome(k) is GateOutcome.UNMETERED:
                # whether too many meters were missing is a fact of the record
                agree = task is None and gate.outcome(k) is GateOutcome.UNMETERED
                self._tallies[PRICE_RUN].compare(1, int(not agree), f"{feeder.name}, interval {interval}")
                continue
            self._waiting[PRICE_RUN, feeder.name, interval] = _Waiting(PRICE_RUN, task, [np.zeros(0, dtype=np.int64)])

    def _maker(self, engine: bytes, market: str) -> TaskMaker:
        if engine not in self._engines:
            self._tallies[market].forgiven = _ENGINE
        chosen = self._engines.get(engine, Engine.SUPERLU)
        if chosen not in self._makers:
            self._makers[chosen] = TaskMaker(self._record, self._state, chosen)
        return self._makers[chosen]

    def _is_whole(self, clearing: int) -> bool:
        """Whether all rows that a clearing put on record can be read: scheduled, refused, and found."""
        causes = () if clearing <= COLD else self._record.header(clearing).causes
        return all(
            len(self._record.table(entry, kind)) == self._record.header(entry).rows
            for entry in causes
            for kind in _SEALED
            if self._record.header(entry).kind == kind.kind
        )

    # What the record says of clearings

    def _take(self, index: int, header: Header, table: Clearings) -> None:
        if int(table.status[0]) == ClearingStatus.ADMINISTRATIVE:
            self._take_stand_in(index, header, table)
            return
        waiting = self._waiting.pop((header.market, header.feeder, header.interval), None)
        if waiting is None:
            return
        place = next(k for k, period in enumerate(waiting.task.periods) if period.first == header.interval)
        if not self._is_whole(index):
            self._drop(waiting, header.feeder)
            return
        period, own = waiting.task.periods[place], waiting.own_rows[place]
        recorded = waiting.recorded[place] = self._recorded(index, table, period.orders, own)
        found = [self._cause(index, kind) for kind in FINDINGS]
        waiting.besides[place] = self._cause(index, Taps), [each for each in found if each is not None]
        row = None if header.market == PRICE_RUN else self._rows_of(own, period.orders, recorded.awards)
        if row is not None:
            counted = replace(recorded.awards, order=row)
            before = Before(recorded.prices, recorded.starts, counted, period.orders)
            for maker in self._makers.values():
                maker.keep(index, before, int(table.root_price[0]))
        if len(waiting.recorded) == len(waiting.task.periods):
            self._ready.append(waiting)
            if len(self._ready) >= self._limit:
                self._clear()

    @staticmethod
    def _rows_of(own: IntArray, orders: Orders, awards: Awards) -> NDArray[np.int32] | None:
        """Rows of a book by those of each customer's own submission; None where one is not there."""
        key = orders.customer.astype(np.int64) << 32 | own
        wanted = awards.customer.astype(np.int64) << 32 | awards.order
        place = np.searchsorted(key, wanted)
        there = place < key.size
        there[there] = key[place[there]] == wanted[there]
        return place.astype(np.int32) if there.all() else None

    def _drop(self, waiting: _Waiting, feeder: str) -> None:
        for period in waiting.task.periods:
            self._waiting.pop((waiting.market, feeder, period.first), None)
        self._tallies[waiting.market].leave_out(_ERASED, len(waiting.task.periods))

    def _recorded(self, index: int, table: Clearings, orders: Orders, own: IntArray) -> Cleared:
        nothing = np.zeros(0, dtype=np.int64)
        return Cleared(
            first=self._record.header(index).interval,
            refused=self._refused(index, orders, own),
            awards=self._cause(index, Awards) or Awards.empty(),
            schedules=self._cause(index, Schedules) or Schedules.empty(),
            prices=self._cause(index, Prices) or Prices.empty(),
            starts=self._cause(index, Starts) or Starts.empty(),
            clearing=table,
            carry=nothing,
            found=Found(),
            taps=nothing,
            taps_after=nothing,
            taps_settled=True,
        )

    def _refused(self, clearing: int, orders: Orders, own: IntArray) -> RefusedOrders:
        """What was refused; earlier versions recorded rows of the book."""
        before = self._cause(clearing, Refusals)
        if before is None:
            return self._cause(clearing, RefusedOrders) or RefusedOrders.empty()
        return RefusedOrders(
            customer=orders.customer[before.row], order=own[before.row].astype(np.int32), refusal=before.refusal
        )

    def _cause(self, clearing: int, kind: type[T]) -> T | None:
        try:
            return self._record.table(self._record.cause(clearing, kind), kind)
        except KeyError:
            return None

    def _take_stand_in(self, index: int, header: Header, table: Clearings) -> None:
        gate = self._state.gates[header.market, header.interval]
        k = self._state.topology.number[header.feeder]
        guide = None
        if header.market == PRICE_RUN:
            guide = guide_of(self._record, self._state.gates[REAL_TIME, header.interval], k)
        prices, root = stand_in(self._record, self._state, gate, k, header.interval, guide)
        recorded = self._record.table(self._record.cause(index, Prices), Prices)
        same = prices.equals(recorded) and administrative_clearing(root).equals(table)
        self._stand_ins.compare(1, int(not same), f"entry {index}")
        # a feeder whose deadline passed had a task
        self._waiting.pop((header.market, header.feeder, header.interval), None)

    # Clearing again

    def _clear(self) -> None:
        ready, self._ready = self._ready, []
        for done in self._clearers.clear([waiting.task for waiting in ready]):
            waiting = ready[done.place]
            tally, periods = self._tallies[waiting.market], len(waiting.task.periods)
            if done.lost:
                tally.compare(periods, periods, f"{waiting.task.feeder}: {done.lost}")
                continue
            for place, again in enumerate(done.cleared):
                own = waiting.own_rows[place].astype(np.int32)
                said = replace(
                    again,
                    awards=replace(again.awards, order=own[again.awards.order]),
                    refused=replace(again.refused, order=own[again.refused.order]),
                )
                where = f"{waiting.task.feeder}, interval {again.first}"
                same = _same(said, waiting.recorded[place]) and _same_besides(waiting, place, again)
                tally.compare(1, int(not same), where)


def _same_besides(waiting: _Waiting, place: int, again: Cleared) -> bool:
    """Whether taps moved to the same places, and the same was found: market power, and what gave way."""
    taps, recorded = waiting.besides[place]
    moved = waiting.market == REAL_TIME and not np.array_equal(again.taps, again.taps_after)
    same_taps = not moved if taps is None else np.array_equal(taps.step, again.taps_after)
    found = findings(again)
    same = [each.kind for each in found] == [each.kind for each in recorded]
    return same_taps and same and all(a.equals(b) for a, b in zip(found, recorded, strict=True))


_DIFFER = "with another price, award, schedule, start or loss"
_SAID = ("refused", "awards", "schedules", "prices", "starts", "clearing")
"""What of a clearing goes on record."""


def _same(again: Cleared, recorded: Cleared) -> bool:
    return all(getattr(again, name).equals(getattr(recorded, name)) for name in _SAID)
