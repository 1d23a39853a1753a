"""A gate closes: its cut and its price go on record first, then each feeder is cleared, or has the rulebook's price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from tellegen.grid import Engine
from tellegen.market.engine import engine_name
from tellegen.operations.administrative import administrative_clearing, stand_in
from tellegen.operations.book import Book
from tellegen.operations.clearers import Beside, Clearers
from tellegen.operations.findings import findings
from tellegen.operations.gate import Before, Cleared, GateTask
from tellegen.operations.holds import holds_in
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError, NotYetError
from tellegen.operations.state import GATE, NONE, Gate, State
from tellegen.operations.tasks import TaskMaker
from tellegen.operations.timetable import day_ahead_deadline, real_time_deadline
from tellegen.operations.writer import Writer
from tellegen.privacy.recorder import Span
from tellegen.records import PREVIOUS, Clearings, GateOutcome, Gates, Prices, Refusal, Table, Taps
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.units import IntArray

FEEDERS_A_COMMIT = 64
"""Feeders whose clearings are made final together: a crash costs no more than these."""


@dataclass(frozen=True, slots=True, eq=False)
class GateClosed:
    """How a gate closed; arrays have one element per feeder, and none where nothing was left to do of it.

    Attributes
    ----------
    bids : submissions on record about the feeders that were cleared now, those that do not count included.
    orders : rows of their books.
    status : int64, the worst `ClearingStatus` of its periods; -1 where no day-ahead market was held.
    binding : int64, limits that bind. root_wh : int64, energy taken from the root.
    low_micros, mean_micros, high_micros : of the energy prices at all nodes in all periods, micro-currency/kWh; 0 where
        nothing has a price.
    """

    bids: int
    orders: int
    status: IntArray
    binding: IntArray
    root_wh: IntArray
    low_micros: int = 0
    mean_micros: int = 0
    high_micros: int = 0

    @classmethod
    def before(cls) -> GateClosed:
        """What comes of a gate that was closed before, so long ago that how stands in the journal only."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(0, 0, nothing, nothing, nothing)


@dataclass(slots=True, eq=False)
class _DayAhead:
    """A day-ahead gate whose feeders are cleared one after the other.

    Attributes
    ----------
    beside : who clears them. task : of a feeder, with its book.
    handed_out : by its place there, each feeder that is not done; `handed` : all that were handed out, done or not.
    bids, orders : of those that were done since the market was opened.
    """

    first: int
    beside: Beside
    task: Callable[[int], tuple[GateTask, Book]]
    handed_out: dict[int, tuple[int, GateTask, Book]] = field(default_factory=dict)
    handed: set[int] = field(default_factory=set)
    bids: int = 0
    orders: int = 0

    def hand_out(self, feeders: list[int]) -> None:
        """Hand out some of those that wait, so that nobody is idle."""
        for k in feeders:
            if not self.beside.room:
                return
            if k not in self.handed:
                task, book = self.task(k)
                self.handed.add(k)
                self.handed_out[self.beside.add(task)] = k, task, book
                self.bids += book.recorded


class Gating:
    """Closes gates.

    Parameters
    ----------
    timed : whether time goes on while feeders are cleared, so that what is not done by the deadline is broken off.
    """

    def __init__(
        self,
        record: ShardRecord,
        state: State,
        writer: Writer,
        clearers: Clearers,
        tasks: TaskMaker,
        engine: Engine,
        *,
        timed: bool,
    ) -> None:
        self._record, self._state, self._writer, self._clearers = record, state, writer, clearers
        self._tasks, self._timed = tasks, timed
        self._engine = engine_name(engine).encode("ascii")
        self._day_ahead: _DayAhead | None = None

    def is_done(self, market: str, first: int) -> bool:
        """Whether nothing is left to do of a gate: every feeder has its outcome, or the market ended before it."""
        gate = self._state.gates.get((market, first))
        if gate is not None:
            return gate.is_complete(market)
        if self._record.has_ended(first):
            return True
        if market == REAL_TIME:
            return first <= self._state.settled
        return self._state.is_closed(self._state.day_range(first).start)

    def close(self, market: str, first: int, at: int) -> GateClosed:
        """Close a gate, or do what is left of it.

        Where time goes on, a day-ahead gate is closed by its record; its feeders are then cleared by `work`.

        Raises
        ------
        NotYetError : the intake's record has not reached the gate.
        MarketError : asked for before its time.
        """
        if self.is_done(market, first) and (market, first) not in self._state.gates:
            return GateClosed.before()
        beside = market == DAY_AHEAD and self._timed
        if beside:
            self.work(at, 0.0)  # a gate before it that has passed its deadline
        gate = self._on_record(market, first, at)
        if beside and not gate.is_complete(market):
            return self.work(at, 0.0) or self._closed(gate, 0, 0)
        periods = self._state.periods(market, first)
        clear = self._waiting(gate)
        bids = orders = 0
        if clear and at > self._deadline(market, first):
            self._miss(gate, market, first, clear, GateOutcome.DEADLINE, at)
            clear = []
        for start in range(0, len(clear), FEEDERS_A_COMMIT):
            chunk = clear[start : start + FEEDERS_A_COMMIT]
            names = {self._record.feeders[k].name for k in chunk}
            with self._writer.stages("collect"):
                book = Book.of(self._record, market, periods, gate.cut, gate.entry, names)
            bids += book.recorded
            orders += self._clear(gate, market, first, chunk, book, at)
        self._administer(gate, market, first, at)
        return self._closed(gate, bids, orders)

    # Day-ahead, beside real time

    @property
    def unfinished(self) -> int | None:
        """First interval of the earliest delivery day whose gate is on record and not cleared; None: there is none."""
        gates = self._state.gates.items()
        return min((t for (m, t), gate in gates if m == DAY_AHEAD and not gate.is_complete(m)), default=None)

    def work(self, at: int, wait_s: float) -> GateClosed | None:
        """Go on with a day-ahead gate; what it came to, once it is complete.

        Parameters
        ----------
        wait_s : how long to wait for a feeder that is being cleared; 0: only what is there already, and the deadline.
        """
        first = self.unfinished
        if first is None or not self._timed:
            return None
        gate, begun = self._state.gates[DAY_AHEAD, first], self._begun(first)
        if at > self._deadline(DAY_AHEAD, first):
            self._miss(gate, DAY_AHEAD, first, self._waiting(gate), GateOutcome.DEADLINE, at)
        else:
            begun.hand_out(self._waiting(gate))
            lost: list[int] = []
            answers = begun.beside.done(wait_s)
            for answer in answers:
                k, task, book = begun.handed_out.pop(answer.place)
                if answer.lost:
                    lost.append(k)
                else:
                    begun.orders += self._take(gate, DAY_AHEAD, k, task, book, answer.cleared, at)
            if answers:
                self._writer.commit(at)
            if lost:
                self._miss(gate, DAY_AHEAD, first, lost, GateOutcome.DEADLINE, at)
            if not gate.is_complete(DAY_AHEAD):
                begun.hand_out(self._waiting(gate))
                return None
        begun.beside.drop()
        self._day_ahead = None
        self._tasks.forget()
        return self._closed(gate, begun.bids, begun.orders)

    def _begun(self, first: int) -> _DayAhead:
        if self._day_ahead is None or self._day_ahead.first != first:
            if self._day_ahead is not None:
                self._day_ahead.beside.drop()
            self._day_ahead = _DayAhead(first, self._clearers.beside(), partial(self._task, first))
        return self._day_ahead

    def _task(self, first: int, feeder: int) -> tuple[GateTask, Book]:
        gate, periods = self._state.gates[DAY_AHEAD, first], self._state.periods(DAY_AHEAD, first)
        name = self._record.feeders[feeder].name
        book = Book.of(self._record, DAY_AHEAD, periods, gate.cut, gate.entry, {name})
        return self._tasks.task(DAY_AHEAD, first, feeder, book), book

    # The gate itself

    def _on_record(self, market: str, first: int, at: int) -> Gate:
        state = self._state
        if (market, first) in state.gates:
            return state.gates[market, first]
        due = state.gate_at(market, first)
        if at < due:
            raise MarketError(f"the {market} gate of interval {first} closes at {due}, not at {at} already")
        size = self._record.refresh()
        cut = self._record.submitted.cut(due)
        missed = at > self._deadline(market, first)
        if cut is None:
            if not missed:
                raise NotYetError(f"the intake's record has not reached {due}, when the gate of {first} closes")
            cut = size
        rows = self._rows(market, first, cut, missed)
        periods = state.periods(market, first)
        span = Span(self._writer.time(at), first, periods[-1].stop - first, market)
        self._writer.put(rows, span, name=f"{GATE}{cut}", causes=self._requirements(market, periods))
        self._writer.commit(at)
        return state.gates[market, first]

    def _rows(self, market: str, first: int, cut: int, missed: bool) -> Gates:
        state, feeders = self._state, self._record.feeders
        periods = state.periods(market, first)
        rows = np.zeros((len(feeders), len(periods)), dtype=Gates.row_dtype())
        rows["feeder"] = np.array([feeder.name.encode() for feeder in feeders], dtype="S32")[:, None]
        rows["interval"] = [hours.start for hours in periods]
        rows["intervals"] = [len(hours) for hours in periods]
        rows["cut"], rows["engine"] = cut, self._engine
        rows["rules"] = np.void(bytes.fromhex(state.book.at(state.date_of(first)).sha256))
        prices = [state.root_prices.get((market, hours.start)) for hours in periods]
        rows["root_price"] = [0 if price is None else price for price in prices]
        outcome = GateOutcome.MISSED if missed else GateOutcome.CLOSED
        # a delivery day with an hour that has no price is not cleared in part: its hours start from one another
        rows["outcome"] = GateOutcome.NO_PRICE if outcome is GateOutcome.CLOSED and None in prices else outcome
        rows["start"] = PREVIOUS
        rows["start"][:, 0] = state.start_from[market]
        rows["spread_from"] = state.spread_from[:, None]
        rows["taps_from"] = state.taps_from[:, None]
        return Gates.from_rows(rows.ravel())

    def _requirements(self, market: str, periods: tuple[range, ...]) -> list[int]:
        """Entries of what the operator of the grid asks for in some period."""
        asked = self._state.requirements
        return [index for hours in periods for index in asked.get((market, hours.start), ())]

    def _deadline(self, market: str, first: int) -> int:
        book = self._state.book
        if market == DAY_AHEAD:
            return day_ahead_deadline(book, self._state.date_of(first))
        return real_time_deadline(book, first)

    def _miss(self, gate: Gate, market: str, first: int, feeders: list[int], outcome: GateOutcome, at: int) -> None:
        """Put on record that feeders are not cleared after all."""
        rows = gate.rows.rows().reshape(-1, gate.periods)[feeders]
        rows["outcome"] = outcome
        periods = self._state.periods(market, first)
        span = Span(self._writer.time(at), first, periods[-1].stop - first, market)
        self._writer.put(Gates.from_rows(rows.ravel()), span, name=f"{GATE}{gate.cut}", causes=(gate.entry,))
        self._writer.commit(at)

    # Feeders

    @staticmethod
    def _waiting(gate: Gate) -> list[int]:
        """Feeders that are to be cleared and are not."""
        rows = np.flatnonzero((gate.cleared == NONE).any(axis=1)).tolist()
        return [k for k in rows if gate.outcome(k) is GateOutcome.CLOSED]

    def _clear(self, gate: Gate, market: str, first: int, feeders: list[int], book: Book, at: int) -> int:
        """Clear some feeders and make the outcome final; rows of their books. Whose worker is lost has no clearing."""
        stages = self._writer.stages
        with stages("collect"):
            tasks = [self._tasks.task(market, first, k, book) for k in feeders]
        orders = 0
        lost: list[int] = []
        within_s = max(self._deadline(market, first) - at, 0) if self._timed else None
        answers = self._clearers.clear(tasks, within_s=within_s)
        while True:
            with stages("clear"):
                answer = next(answers, None)
            if answer is None:
                break
            k = feeders[answer.place]
            if answer.lost:
                lost.append(k)
                continue
            orders += self._take(gate, market, k, tasks[answer.place], book, answer.cleared, at)
        self._writer.commit(at)
        self._tasks.forget()
        if lost:
            self._miss(gate, market, first, lost, GateOutcome.DEADLINE, at)
        return orders

    def _take(
        self, gate: Gate, market: str, k: int, task: GateTask, book: Book, cleared: tuple[Cleared, ...], at: int
    ) -> int:
        """Put what was cleared on record; rows of the books."""
        for number, (period, done) in enumerate(zip(task.periods, cleared, strict=True)):
            said = done.awards
            own = book.own_rows(task.feeder, number).astype(np.int32)
            refused = replace(done.refused, order=own[done.refused.order])
            recorded = replace(done, awards=replace(said, order=own[said.order]), refused=refused)
            entry = self._put(gate, market, k, recorded, period.intervals, at)
            before = Before(done.prices, done.starts, said, period.orders)
            self._tasks.keep(entry, before, int(gate.rows.root_price[k * gate.periods + number]))
        return sum(len(period.orders) for period in task.periods)

    def _put(self, gate: Gate, market: str, k: int, done: Cleared, intervals: int, at: int) -> int:
        feeder, span = self._record.feeders[k].name, Span(self._writer.time(at), done.first, intervals, market)
        name = f"{GATE}{gate.cut}"
        causes = [gate.entry]
        tables: list[Table] = [done.awards, done.schedules, done.prices, done.starts]
        if len(done.refused):
            held = (done.refused.refusal == Refusal.NOT_DELIVERED).any()
            because = (gate.entry, *(holds_in(self._record, range(done.first, done.first + 1)) if held else ()))
            causes.append(self._writer.put(done.refused, span, feeder=feeder, name=name, causes=because))
        tables += findings(done)
        # day-ahead, they move from hour to hour of what is planned; those of the wires are where real time left them
        if market == REAL_TIME and not np.array_equal(done.taps, done.taps_after):
            tables.append(Taps(step=done.taps_after.astype(np.int32)))
        causes += [self._writer.put(table, span, feeder=feeder, name=name, causes=(gate.entry,)) for table in tables]
        return self._writer.put(done.clearing, span, feeder=feeder, name=name, causes=causes)

    def _administer(self, gate: Gate, market: str, first: int, at: int) -> None:
        """In real time, what is not cleared has the rulebook's price; day-ahead there is then no market."""
        if market != REAL_TIME:
            return
        waiting = np.flatnonzero(gate.cleared[:, 0] == NONE).tolist()
        for k in waiting:
            feeder = self._record.feeders[k]
            prices, root = stand_in(self._record, self._state, gate, k, first)
            span, name = Span(self._writer.time(at), first, 1, market), f"{GATE}{gate.cut}"
            causes = (gate.entry, self._writer.put(prices, span, feeder=feeder.name, name=name, causes=(gate.entry,)))
            self._writer.put(administrative_clearing(root), span, feeder=feeder.name, name=name, causes=causes)
        if waiting:
            self._writer.commit(at)

    def _closed(self, gate: Gate, bids: int, orders: int) -> GateClosed:
        feeders = len(self._record.feeders)
        status, binding, root = np.full(feeders, NONE), np.zeros(feeders, dtype=np.int64), np.zeros(feeders, np.int64)
        prices = [np.zeros(0, dtype=np.int64)]
        for k in range(feeders):
            for entry in gate.cleared[k][gate.cleared[k] != NONE].tolist():
                prices.append(self._record.table(self._record.cause(entry, Prices), Prices).energy)
                row = self._record.table(entry, Clearings)
                status[k] = max(int(status[k]), int(row.status[0]))
                binding[k] += int(row.binding[0])
                root[k] += int(row.root_wh[0])
        whole = np.concatenate(prices)
        spread = (int(whole.min()), round(float(whole.mean())), int(whole.max())) if whole.size else (0, 0, 0)
        return GateClosed(bids, orders, status, binding, root, *spread)
