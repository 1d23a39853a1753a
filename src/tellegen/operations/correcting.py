"""A run of corrections: what came late is settled, and pools of days whose facts changed are shared anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from tellegen.metering.gap_energy import GapEnergy
from tellegen.metering.past import Past
from tellegen.metering.refold import refold
from tellegen.operations.afresh import first_close
from tellegen.operations.changed import corrected_postings
from tellegen.operations.closing import closes_row
from tellegen.operations.corrections import OnRecord, late_readings, located
from tellegen.operations.day import shared_again
from tellegen.operations.meters import meter_states
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError
from tellegen.operations.state import CLOSE, NONE, READ, State
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import close_at, day_bounds, day_of, shared_anew
from tellegen.operations.writer import Writer
from tellegen.privacy.recorder import Span
from tellegen.records import OPERATOR, CloseKind, Postings
from tellegen.units import MARKET_INTERVAL_S, IntArray


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a run came to.

    Attributes
    ----------
    readings : late ones that could move money, one for each interval whose energy they move.
    unsettled : those that could not, named on record.
    edits : new versions of energy. postings : rows of differences. days_shared : feeders' days shared anew.
    """

    readings: int = 0
    unsettled: int = 0
    edits: int = 0
    postings: int = 0
    days_shared: int = 0


class Correcting:
    """Settles what came late."""

    def __init__(self, record: ShardRecord, state: State, writer: Writer) -> None:
        self._record, self._state, self._writer = record, state, writer

    def run(self, run: int, past: Past, at: int) -> tuple[Corrected, list[tuple[int, Postings]]]:
        """Settle what is on record of the intake before a time and has not been settled.

        Returns
        -------
        What it came to, and its postings by journal index.

        Raises
        ------
        MarketError : before its time.
        """
        if at < run:
            raise MarketError(f"the corrections of {run} are not due at {at} already")
        self._record.refresh()
        cut = self._record.submitted.cut(run)
        # a run that is asked for again knows no less than those behind it, so nothing is left for it to move
        size = max(len(self._record.intake) if cut is None else cut, self._state.corrected_until)
        late = late_readings(self._record, self._state, size)
        posted: list[tuple[int, Postings]] = []
        edits = 0
        span = Span(self._writer.time(at), run // 300)
        customer, interval = self._with_gaps(late.customer, late.interval)
        if customer.size:
            known = OnRecord(self._record, self._state, size, past, customer, late.unsettled)
            edits = self._settle(customer, interval, known, size, at, posted)
        if len(late.unsettled) or (not edits and size > self._state.corrected_until):
            # also where there is nothing to name: the next run need not look at what this one has looked at
            self._writer.put(late.unsettled, span, name=f"{READ}{size}")
        self._writer.commit(at)
        shared = self._share(run, at, posted)
        corrected = Corrected(
            readings=int(late.customer.size),
            unsettled=len(late.unsettled),
            edits=edits,
            postings=sum(len(postings) for _, postings in posted),
            days_shared=shared,
        )
        return corrected, posted

    def _with_gaps(self, customer: IntArray, interval: IntArray) -> tuple[IntArray, IntArray]:
        """Where the energy of a gap is conserved, every gap that has ended on an open day is looked at as well."""
        state = self._state
        ended = [(t, who) for t, who in state.after_gap.items() if self._conserves(t)]
        return (
            np.concatenate([customer, *(who for _, who in ended)]),
            np.concatenate([interval, *(np.full(who.size, t, dtype=np.int64) for t, who in ended)]),
        )

    def _conserves(self, interval: int) -> bool:
        rules = self._state.book.at(self._state.date_of(interval)).timetable
        return rules.gap_energy is GapEnergy.CONSERVED

    def _settle(
        self,
        customer: IntArray,
        interval: IntArray,
        known: OnRecord,
        size: int,
        at: int,
        posted: list[tuple[int, Postings]],
    ) -> int:
        record, state, writer = self._record, self._state, self._writer
        rules = state.book.at(state.date_of(state.settled)).timetable
        refolded = refold(customer, interval, state.settled, known, state.meters.standing, rules.gap_energy)
        # a gap that began on a day that is final by now keeps what was estimated of it there
        edits = refolded.edits.take(refolded.edits.interval >= state.final_until)
        feeder = located(record, state, edits.customer.astype(np.int64), edits.interval)[0]
        for k in np.unique(feeder[feeder >= 0]).tolist():
            mine = edits.take(feeder == k)
            wires = record.feeders[k]
            first = int(mine.interval.min())
            span = Span(writer.time(at), first, int(mine.interval.max()) - first + 1)
            number = np.where(mine.customer == wires.substation, OPERATOR, mine.customer).astype(np.int32)
            entry = writer.put(replace(mine, customer=number), span, feeder=wires.name, name=f"{READ}{size}")
            postings = corrected_postings(record, state, k, mine, entry, known.believed)
            if len(postings):
                posted.append((writer.put(postings, span, feeder=wires.name, causes=(entry,)), postings))
        if len(refolded.standing.customer):
            span = Span(writer.time(at), state.settled)
            writer.put(meter_states(refolded.standing), span, name=f"{READ}{size}")
        return len(edits)

    def _share(self, run: int, at: int, posted: list[tuple[int, Postings]]) -> int:
        """Before the close of a day, share the pools of the days of `correction_days` anew where facts changed."""
        state, writer = self._state, self._writer
        closing = self._closing(run)
        if closing is None or state.is_closed(day_bounds(state.book, closing).start):
            return 0
        shared = 0
        for day in shared_anew(state.book, closing):
            bounds = day_bounds(state.book, day)
            for k, feeder in enumerate(self._record.feeders):
                if (k, bounds.start) not in state.dirty:
                    continue
                span = Span(writer.time(at), bounds.start, len(bounds))
                since = state.since_close.get((k, bounds.start), LineSums())
                before = first_close(self._record, k, day)
                parameters = state.book.at(day).settlement
                close = shared_again(bounds.start, len(bounds), before, since, parameters, writer.next_entry)
                row = closes_row(
                    day,
                    bounds,
                    CloseKind.CORRECTION,
                    customers=int(np.unique(close.postings.account[close.postings.account > 0]).size),
                    read_size=state.corrected_until,
                    open_rent=close.open_rent_nanos,
                    open_unaccounted=close.open_unaccounted_nanos,
                )
                entry = writer.put(row, span, feeder=feeder.name, name=f"correction {run}")
                if len(close.postings):
                    index = writer.put(close.postings, span, feeder=feeder.name, name=CLOSE, causes=(entry,))
                    posted.append((index, close.postings))
                shared += 1
        writer.commit(at)
        return shared

    def _closing(self, run: int) -> date | None:
        """The day whose close comes right behind a run; None where there is none."""
        book, settled = self._state.book, self._state.settled
        if settled == NONE:
            return None
        day = day_of(book, settled)
        if self._record.last_interval is not None and settled >= self._record.last_interval:
            # the market has ended: days go on closing without it
            now = day_of(book, run // MARKET_INTERVAL_S)
            return next((d for d in (now - timedelta(1), now) if close_at(book, d) == run), None)
        return day if settled == day_bounds(book, day)[-1] and close_at(book, day) == run else None
