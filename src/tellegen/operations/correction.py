"""A wrong reading is put right: one more record, and only the differences are posted.

A correction file says which registers were true::

    customer = "home-042"
    reason = "registers read from the meter's own memory"
    known_at = 2016-05-11T09:00:00Z
    first_interval = 2016-05-08T07:00:00Z   # the registers' first value stands at its start
    import_wh = [1203400, 1203431, 1203470]  # one value more than there are intervals
    export_wh = [0, 0, 0]
    reactive_varh = [310, 314, 319]
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tellegen.books import Ledger
from tellegen.errors import InputError
from tellegen.metering import energy_from_registers
from tellegen.operations.facts import RecordedDay, read_day
from tellegen.operations.recorder import Span
from tellegen.operations.run_directory import Run
from tellegen.records import Customers, Energy, Postings, Statements, ValidationRule
from tellegen.replay import correct, full_replay, same_books
from tellegen.settlement import statements
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, interval_start

Register = Annotated[int, Field(ge=-(2**62), le=2**62)]


class CorrectionFile(BaseModel):
    """True registers of one meter over consecutive market intervals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer: str
    reason: str = Field(min_length=1, max_length=500)
    known_at: datetime
    first_interval: datetime
    import_wh: list[Register] = Field(min_length=2, max_length=10_000)
    export_wh: list[Register] = Field(min_length=2, max_length=10_000)
    reactive_varh: list[Register] = Field(min_length=2, max_length=10_000)


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


def read_correction(path: Path) -> CorrectionFile:
    """Read a correction file.

    Raises
    ------
    InputError : unreadable, an unknown or missing key, a time without zone, or lists of unequal length.
    """
    try:
        form = CorrectionFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "file", f"cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(path, "file", f"is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(path, f"key '{'.'.join(map(str, first['loc']))}'", str(first["msg"])) from None
    for name in ("known_at", "first_interval"):
        if getattr(form, name).tzinfo is None:
            raise InputError(path, f"key '{name}'", "has no time zone; write it as 2016-05-08T07:00:00Z")
    if form.first_interval.timestamp() % MARKET_INTERVAL_S:
        raise InputError(path, "key 'first_interval'", "is not the start of a market interval (every 5 minutes, UTC)")
    lengths = {len(form.import_wh), len(form.export_wh), len(form.reactive_varh)}
    if len(lengths) > 1:
        raise InputError(path, "registers", f"have {sorted(lengths)} values; give the same number of each")
    return form


def apply_correction(run: Run, form: CorrectionFile, source: object, *, preview: bool = False) -> Unwound:
    """Put a correction on record, re-settle what depends on it and post the differences.

    With `preview` nothing is written.

    Raises
    ------
    InputError : unknown customer, intervals of another day, registers that run backwards or move more than the
        connection carries, known before the day was closed, or on record already.
    RecordIncompleteError : a customer of the day has been erased, so its settlement is final.
    """
    number = run.number(form.customer, source)
    corrected = _energy(form, number, source)
    recorded = read_day(run.recorder)
    before = recorded.facts()
    inside = np.isin(corrected.interval, before.steps.interval)
    if not inside.all():
        raise InputError(source, "key 'first_interval'", f"and the registers leave the day {recorded.day} of this run")
    known_at = int(form.known_at.timestamp())
    closed = int(before.steps.interval[-1]) + 1
    if known_at < closed * MARKET_INTERVAL_S:
        raise InputError(
            source,
            "key 'known_at'",
            f"is before {interval_start(closed).isoformat()}, when the day it corrects was closed",
        )
    _check_capacity(corrected, recorded.customers, source)
    parameters = run.rulebook().at(recorded.day).settlement
    posted = recorded.all_postings()
    cause = next_entry = len(run.recorder.journal)
    if not preview:
        span = Span(known_at, int(corrected.interval[0]), len(corrected))
        cause = run.recorder.put(corrected, span, name="correction", source=form.reason)
    if cause < next_entry:
        raise InputError(
            source, "correction", f"is on record already, as entry {cause}; a new one needs its own known_at or reason"
        )
    outcome = correct(before, corrected, posted, parameters, cause=cause)
    after = Postings.concat([posted, outcome.postings])
    if not preview:
        day_span = Span(known_at, before.first_interval, len(before.steps.interval))
        _record(run, outcome.postings, statements(after), cause, day_span)
    own, others, moved = _moves(outcome.postings, number)
    column = int(np.searchsorted(before.customer, number))
    rows = np.isin(before.steps.interval, corrected.interval)
    return Unwound(
        customer=form.customer,
        number=number,
        reason=form.reason,
        first_interval=int(corrected.interval[0]),
        intervals=len(corrected),
        before_wh=int(before.steps.metered_wh[rows, column].sum()),
        after_wh=int(outcome.day.steps.metered_wh[rows, column].sum()),
        accounts_moved=moved,
        own_nanos=own,
        largest_other_nanos=others,
        meets_readings=_meets_readings(form, number, recorded),
        steps_rerun=outcome.steps_rerun,
        steps_total=outcome.steps_total,
        replay_equal=same_books(after, full_replay(before, corrected, parameters)),
    )


def _energy(form: CorrectionFile, number: int, source: object) -> Energy:
    first = int(form.first_interval.timestamp()) // MARKET_INTERVAL_S
    for name in ("import_wh", "export_wh"):
        if (np.diff(getattr(form, name)) < 0).any():
            raise InputError(source, f"key '{name}'", "runs backwards; a register only counts up")
    return energy_from_registers(
        number,
        first,
        np.array(form.import_wh, dtype=np.int64),
        np.array(form.export_wh, dtype=np.int64),
        np.array(form.reactive_varh, dtype=np.int64),
    )


def _meets_readings(form: CorrectionFile, number: int, recorded: RecordedDay) -> bool:
    """Whether the first and last register equal the readings at those times, where these were believed.

    Only differences of registers settle, so a correction after a change of meter need not meet them.
    """
    believed = (ValidationRule.NONE, ValidationRule.AFTER_GAP)
    rules: dict[int, int] = {}
    for _, energy in recorded.energy:
        theirs = energy.take(energy.customer == number)
        for interval, rule in zip(theirs.interval.tolist(), theirs.rule.tolist(), strict=True):
            rules.setdefault(interval, rule)
    first = int(form.first_interval.timestamp()) // MARKET_INTERVAL_S
    ends = {first - 1: 0, first + len(form.import_wh) - 2: -1}
    for interval, readings in recorded.readings:
        if interval in ends and rules.get(interval) in believed:
            place = ends[interval]
            sent = readings.take(readings.customer == number)
            given = (form.import_wh[place], form.export_wh[place], form.reactive_varh[place])
            if len(sent) and given != (int(sent.import_wh[0]), int(sent.export_wh[0]), int(sent.reactive_varh[0])):
                return False
    return True


def _check_capacity(corrected: Energy, customers: Customers, source: object) -> None:
    """The limit of validation's rule HIGH: nobody draws more than the connection carries."""
    fuse_w = int(customers.fuse_w[customers.customer == corrected.customer[0]][0])
    most = fuse_w // INTERVALS_PER_HOUR + 1
    for name in ("import_wh", "export_wh"):
        moved = getattr(corrected, name)
        worst = int(moved.argmax())
        if moved[worst] > most:
            start = interval_start(int(corrected.interval[worst])).isoformat()
            raise InputError(
                source,
                f"key '{name}'",
                f"moves by {moved[worst]} Wh in the interval from {start}; {fuse_w} W takes {most} Wh",
            )


def _record(run: Run, differences: Postings, revised: Statements, cause: int, span: Span) -> None:
    recorder = run.recorder
    entry = recorder.put(differences, span, name="correction", causes=(cause,))
    recorder.put(revised, span, name="revised", causes=(entry,))
    recorder.commit(span.known_at)
    with Ledger.open(run.books) as ledger:
        ledger.post(differences, entry)


def _moves(differences: Postings, number: int) -> tuple[int, int, int]:
    """Change of one customer's bill, largest change of another's (nano-currency), and how many bills changed."""
    change: dict[int, int] = {}
    for account, amount in zip(differences.account.tolist(), differences.amount.tolist(), strict=True):
        if account > 0:
            change[account] = change.get(account, 0) + amount
    others = [amount for account, amount in change.items() if account != number]
    return change.get(number, 0), max(others, key=abs, default=0), sum(amount != 0 for amount in change.values())
