"""Versions: what was believed of each interval, as of any time.

Interval energy has two times (law 2): the interval, and when something of it became known. Rows are recorded one
after another and never changed. What was believed at a time is, for each customer and interval, the last row that was
known by then: an estimate replaces what failed, a true reading that comes later replaces the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tellegen.metering.devices import MeteringError
from tellegen.metering.runs import BoolArray
from tellegen.records import Editor, EditReason, Edits, Energy, Quality, ValidationRule
from tellegen.records.latest import last_of_runs
from tellegen.units import IntArray

Recorded = tuple[int, Energy | Edits]
"""Rows, and when they became known, seconds since the epoch."""


def believed(record: Sequence[Recorded], at: int) -> Energy:
    """Interval energy as it was known at a time.

    Parameters
    ----------
    record : rows in the order of the journal.
    at : what became known later is left out.

    Returns
    -------
    One row for each customer and interval, ascending by both.

    Raises
    ------
    MeteringError : an edit is not of the version that follows what it replaces: two were made of the same one.

    >>> raw = Energy(customer=[1], interval=[9], import_wh=[99], export_wh=[0], reactive_varh=[0],
    ...              quality=[Quality.MEASURED], rule=[0])
    >>> late = late_reading([(100, raw)], raw.take([0]))
    >>> believed([(100, raw), (200, late)], 150).quality.tolist(), late.version.tolist()
    ([0], [1])
    """
    rows, version = _rows([facts for known_at, facts in record if known_at <= at])
    order = np.lexsort((rows.interval, rows.customer))  # stable: the order of record stays
    last = last_of_runs([rows.customer[order], rows.interval[order]])
    expected = np.arange(order.size) - np.repeat(np.flatnonzero(last) - _counts(last) + 1, _counts(last))
    wrong = np.flatnonzero((version[order] >= 0) & (version[order] != expected))
    if wrong.size:
        at_row = order[wrong[0]]
        raise MeteringError(
            f"customer {rows.customer[at_row]}, interval {rows.interval[at_row]}: an edit is version "
            f"{version[at_row]}, {expected[wrong[0]]} follows on record"
        )
    return rows.take(order[last])


def next_version(record: Sequence[Recorded], customer: ArrayLike, interval: ArrayLike) -> IntArray:
    """The version that an edit of each customer's interval has to have: as many as there are rows about it.

    Parameters
    ----------
    record : all that is known.
    customer, interval : int64, alike in shape.
    """
    rows, _ = _rows([facts for _, facts in record])
    shape = np.shape(customer)
    pairs = np.stack(
        [np.append(rows.customer, np.ravel(customer)), np.append(rows.interval, np.ravel(interval))], axis=0
    )
    which = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
    return np.bincount(which[: len(rows)], minlength=which.size)[which[len(rows) :]].reshape(shape)


def late_reading(record: Sequence[Recorded], true: Energy, intervals: int = 1) -> Edits:
    """The edits by which readings that came late supersede what stands on record.

    Parameters
    ----------
    record : all that is known.
    true : interval energy from the late readings.
    intervals : market intervals that each row spans.
    """
    n = len(true)
    return Edits(
        customer=true.customer,
        interval=true.interval,
        intervals=np.full(n, intervals),
        version=next_version(record, true.customer, true.interval).astype(np.int32),
        import_wh=true.import_wh,
        export_wh=true.export_wh,
        reactive_varh=true.reactive_varh,
        quality=np.full(n, Quality.CORRECTED),
        rule=np.full(n, ValidationRule.NONE),
        editor=np.full(n, Editor.METER),
        reason=np.full(n, EditReason.LATE_READING),
    )


def _rows(facts: Sequence[Energy | Edits]) -> tuple[Energy, IntArray]:
    """All rows as energy, in order, and the version that each claims; -1 where it claims none."""
    names = Energy.row_dtype().names or ()
    tables = [Energy(**{name: getattr(table, name) for name in names}) for table in facts]
    claims = [
        np.asarray(table.version, dtype=np.int64) if isinstance(table, Edits) else np.full(len(table), -1)
        for table in facts
    ]
    return Energy.concat(tables), np.concatenate([np.zeros(0, dtype=np.int64), *claims])


def _counts(last: BoolArray) -> IntArray:
    return np.diff(np.flatnonzero(last), prepend=-1)
