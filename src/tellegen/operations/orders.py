"""A correction by authority: somebody says which registers were true, and what followed from the wrong ones moves.

It goes on record as edits by a person. Their differences are posted and the pools of the closed day shared anew, all
in one commit; cents follow with the next close of the account. A day that is final moves no more.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.metering import energy_from_registers
from tellegen.operations.afresh import equals_afresh, first_close
from tellegen.operations.changed import corrected_postings
from tellegen.operations.closing import closes_row
from tellegen.operations.correction_file import CorrectionFile
from tellegen.operations.corrections import believed, located
from tellegen.operations.day import shared_again
from tellegen.operations.directory import read_number
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import CLOSE, State
from tellegen.operations.sums import LineSums
from tellegen.operations.timetable import day_bounds, day_of
from tellegen.operations.writer import Writer, folded
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import (
    CloseKind,
    Editor,
    EditReason,
    Edits,
    Energy,
    Postings,
    ValidationRule,
)
from tellegen.settlement import FeederClose
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, IntArray, interval_start


@dataclass(frozen=True, slots=True)
class Unwound:
    """What a correction moved.

    customer, number : its name and number. reason : as the correction file gives it.
    first_interval, intervals : what was corrected. before_wh, after_wh : its net withdrawal then.
    accounts_moved : customers whose bill changed. own_nanos : change of the customer's own bill.
    largest_other_nanos : largest change (by magnitude) of anybody else's.
    meets_readings : whether the registers meet the believed readings before and after them.
    steps_rerun, steps_total : interval settlements that ran again. replay_equal : whether the books now
    equal a settlement of the whole day from scratch with the corrected facts.
    """

    customer: str
    number: int
    reason: str
    first_interval: int
    intervals: int
    before_wh: int
    after_wh: int
    accounts_moved: int
    own_nanos: int
    largest_other_nanos: int
    meets_readings: bool
    steps_rerun: int
    steps_total: int
    replay_equal: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Moved:
    """What a correction changes on one feeder: edits, differences and shares, as they go on record."""

    feeder: int
    edits: Edits
    differences: Postings
    close: FeederClose


class Ordering:
    """Makes corrections by authority.

    Parameters
    ----------
    writer : on to the record; None: nothing is written, only previewed.
    """

    def __init__(self, record: ShardRecord, state: State, writer: Writer | None) -> None:
        self._record, self._state, self._writer = record, state, writer

    def correct(self, form: CorrectionFile, source: object, at: int) -> tuple[Unwound, list[tuple[int, Postings]]]:
        """Put a correction on record with all that follows from it; with no writer only say what would.

        Parameters
        ----------
        source : where the form comes from, for errors. at : time now, seconds since the epoch.

        Returns
        -------
        What it moves, and its postings by journal index.

        Raises
        ------
        InputError : unknown customer, intervals of several days or of one that is open or final, registers that run
            backwards or move more than the connection carries, known before the day was closed, or on record already.
        """
        record = self._record
        number = read_number(Recorder(record.intake, record.vault, ""), form.customer, source)
        if number in self._state.erased:
            raise InputError(source, f"customer '{form.customer}'", "has been erased; nothing of its moves any more")
        day = self._day(form, source)
        energy = _energy(form, number, source)
        interval, customer = energy.interval, energy.customer.astype(np.int64)
        feeder, _, _, capacity, _ = located(record, self._state, customer, interval)
        if (feeder < 0).any():
            start = interval_start(int(interval[np.argmax(feeder < 0)])).isoformat()
            raise InputError(source, f"customer '{form.customer}'", f"was not connected in the interval from {start}")
        _check_capacity(energy, capacity, source)
        known = record.journal.find(kind=Edits.kind, name=form.name)
        if known:
            raise InputError(
                source,
                "correction",
                f"is on record already, as entry {known[0]}; a new one needs its own known_at or reason",
            )
        posted, moved, before_wh = [], [], 0
        for k in np.unique(feeder).tolist():
            entry = len(record.journal) if self._writer is None else self._writer.next_entry
            edits, old_wh = self._edits(k, energy.take(feeder == k))
            before_wh += old_wh
            moved.append(self._moved(k, day, edits, entry))
            posted += self._put(form, day, moved[-1], at)
        if self._writer is not None:
            self._writer.commit(at)
        return self._unwound(form, number, day, energy, before_wh, moved), posted

    def _day(self, form: CorrectionFile, source: object) -> date:
        """The one closed day that a correction is about."""
        state, book = self._state, self._state.book
        first, last = form.first, form.first + len(form.import_wh) - 2
        if last > state.settled:
            raise InputError(source, "key 'first_interval'", "and the registers leave what has been settled here")
        day = day_of(book, first)
        bounds = day_bounds(book, day)
        if last not in bounds:
            raise InputError(
                source, "key 'first_interval'", f"and the registers leave the day {day}; give a file a day"
            )
        if state.is_final(bounds.start):
            raise InputError(source, "key 'first_interval'", f"is on {day}, which is final: nothing moves it any more")
        if not state.is_closed(bounds.start):
            raise InputError(source, "key 'first_interval'", f"is on {day}, which is not closed here; correct it then")
        closed = min(bounds.stop, state.settled + 1)
        if form.known < closed * MARKET_INTERVAL_S:
            start = interval_start(closed).isoformat()
            raise InputError(source, "key 'known_at'", f"is before {start}, when the day it corrects was closed")
        return day

    def _edits(self, feeder: int, energy: Energy) -> tuple[Edits, int]:
        """Edits by a person, and what was believed before (net Wh)."""
        olds, versions = [], []
        for interval in energy.interval.tolist():
            rows, version = believed(self._record, self._state, feeder, interval)
            mine = np.flatnonzero(rows.customer == energy.customer[0])
            olds.append(rows.take(mine))
            versions.append(version[mine])
        old, size = Energy.concat(olds), len(energy)
        edits = Edits(
            customer=energy.customer,
            interval=energy.interval,
            intervals=np.ones(size, dtype=np.int32),
            version=(np.concatenate(versions) + 1).astype(np.int32),
            import_wh=energy.import_wh,
            export_wh=energy.export_wh,
            reactive_varh=energy.reactive_varh,
            quality=energy.quality,
            rule=old.rule,
            editor=np.full(size, Editor.PERSON, dtype=np.uint8),
            reason=np.full(size, EditReason.FIELD_VISIT, dtype=np.uint8),
        )
        return edits, int((old.import_wh - old.export_wh).sum())

    def _moved(self, feeder: int, day: date, edits: Edits, entry: int) -> _Moved:
        record, state = self._record, self._state
        bounds = day_bounds(state.book, day)
        differences = corrected_postings(record, state, feeder, edits, entry)
        since = deepcopy(state.since_close.get((feeder, bounds.start), LineSums()))
        since.add(differences)
        parameters, before = state.book.at(day).settlement, first_close(record, feeder, day)
        closed = entry + 1 + bool(len(differences))  # the entry that says that the day is shared anew
        close = shared_again(bounds.start, len(bounds), before, since, parameters, closed)
        return _Moved(feeder, edits, differences, close)

    def _put(self, form: CorrectionFile, day: date, moved: _Moved, at: int) -> list[tuple[int, Postings]]:
        writer = self._writer
        if writer is None:
            return []
        feeder, bounds = self._record.feeders[moved.feeder].name, day_bounds(self._state.book, day)
        first, time = int(moved.edits.interval[0]), writer.time(at)
        span, whole = Span(time, first, len(moved.edits)), Span(time, bounds.start, len(bounds))
        entry = writer.put(moved.edits, span, feeder=feeder, name=form.name, source=form.reason)
        posted = []
        if len(moved.differences):
            index = writer.put(moved.differences, span, feeder=feeder, causes=(entry,))
            posted.append((index, moved.differences))
        shares = moved.close.postings
        row = closes_row(
            day,
            bounds,
            CloseKind.CORRECTION,
            customers=int(np.unique(shares.account[shares.account > 0]).size),
            read_size=self._state.corrected_until,
            open_rent=moved.close.open_rent_nanos,
            open_unaccounted=moved.close.open_unaccounted_nanos,
        )
        closed = writer.put(row, whole, feeder=feeder, name=form.name, causes=(entry,))
        if len(shares):
            posted.append((writer.put(shares, whole, feeder=feeder, name=CLOSE, causes=(closed,)), shares))
        return posted

    # What it comes to

    def _unwound(
        self, form: CorrectionFile, number: int, day: date, energy: Energy, before_wh: int, moved: list[_Moved]
    ) -> Unwound:
        book, steps = self._state.book, 0
        for each in moved:
            steps += np.unique(each.edits.interval).size
        change: dict[int, int] = {}
        for each in moved:
            for postings in (each.differences, each.close.postings):
                for account, amount in zip(postings.account.tolist(), postings.amount.tolist(), strict=True):
                    if account > 0:
                        change[account] = change.get(account, 0) + amount
        others = [amount for account, amount in change.items() if account != number]
        bounds = day_bounds(book, day)
        return Unwound(
            customer=form.customer,
            number=number,
            reason=form.reason,
            first_interval=form.first,
            intervals=len(energy),
            before_wh=before_wh,
            after_wh=int((energy.import_wh - energy.export_wh).sum()),
            accounts_moved=sum(amount != 0 for amount in change.values()),
            own_nanos=change.get(number, 0),
            largest_other_nanos=max(others, key=abs, default=0),
            meets_readings=self._meets_readings(form, number),
            steps_rerun=steps,
            steps_total=min(bounds.stop, self._state.settled + 1) - bounds.start,
            replay_equal=all(self._equals_replay(day, each) for each in moved),
        )

    def _equals_replay(self, day: date, moved: _Moved) -> bool:
        """Whether a settlement of the day from scratch comes to what is on record now, by customer and line."""
        if self._writer is not None:
            return equals_afresh(self._record, self._state, moved.feeder, day)
        postings = (moved.differences, moved.close.postings)
        return equals_afresh(self._record, self._state, moved.feeder, day, moved.edits, postings)

    def _meets_readings(self, form: CorrectionFile, number: int) -> bool:
        """Whether the first and last register equal the readings at those times, where these were believed.

        Only differences of registers settle, so a correction after a change of meter need not meet them.
        """
        record, ends = self._record, {form.first - 1: 0, form.first + len(form.import_wh) - 2: -1}
        for interval, place in ends.items():
            found = (
                record.table(entry, Energy)
                for feeder in record.feeders
                for entry in record.about(Energy, feeder.name, interval)
            )
            rules = [int(rule) for energy in found for rule in energy.rule[energy.customer == number]]
            if rules not in ([ValidationRule.NONE], [ValidationRule.AFTER_GAP]):
                continue
            sent = record.readings(interval, len(record.intake))
            sent = sent.take(sent.customer == number)
            if not len(sent):
                continue
            last = int(np.argmax(sent.counter))
            shown = int(sent.import_wh[last]), int(sent.export_wh[last]), int(sent.reactive_varh[last])
            if shown != (form.import_wh[place], form.export_wh[place], form.reactive_varh[place]):
                return False
        return True


def _energy(form: CorrectionFile, number: int, source: object) -> Energy:
    for name in ("import_wh", "export_wh"):
        if (np.diff(getattr(form, name)) < 0).any():
            raise InputError(source, f"key '{name}'", "runs backwards; a register only counts up")
    registers = (np.array(getattr(form, n), dtype=np.int64) for n in ("import_wh", "export_wh", "reactive_varh"))
    return energy_from_registers(number, form.first, *registers)


def _check_capacity(corrected: Energy, capacity_w: IntArray, source: object) -> None:
    """The limit of validation's rule HIGH: nobody draws more than the connection carries."""
    most = capacity_w // INTERVALS_PER_HOUR + 1
    for name in ("import_wh", "export_wh"):
        moved = getattr(corrected, name)
        worst = int(np.argmax(moved - most))
        if moved[worst] > most[worst]:
            start, capacity = interval_start(int(corrected.interval[worst])).isoformat(), int(capacity_w[worst])
            raise InputError(
                source,
                f"key '{name}'",
                f"moves by {moved[worst]} Wh in the interval from {start}; {capacity} W takes {most[worst]} Wh",
            )


def preview_correction(path: Path, form: CorrectionFile, source: object) -> Unwound:
    """What a correction would move; nothing is written.

    Raises
    ------
    InputError : there is no shard with a market, or as `Ordering.correct`.
    """
    with ShardRecord.open(path) as record:
        return Ordering(record, folded(record), None).correct(form, source, form.known)[0]
