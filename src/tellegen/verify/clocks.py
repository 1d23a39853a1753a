"""Where a clock was set right: the one place where the times of a log may run back or jump, by an operator's word."""

from __future__ import annotations

from collections.abc import Sequence

from tellegen.records import Clocks
from tellegen.verify.record import Entries, PublicRows
from tellegen.verify.report import RefusedError

_BEHIND_S, _AHEAD_S = 3540, 2 * 86_400
"""No process puts a smaller step on record: within these (an hour, less what a start takes; two days) it goes on from
the newest time instead."""


def check_clocks(entries: Entries, public: Sequence[PublicRows]) -> tuple[int, str]:
    """Each such entry says what it does: from which time to which, by a step that a process asks for; all are named.

    Raises
    ------
    RefusedError : one says another time before it or after it than stands there, or its step is too small to need one.
    """
    rows, told = {batch.index: batch.table for batch in public}, list[str]()
    for index, (header, _) in enumerate(entries):
        if header.kind != Clocks.kind:
            continue
        before = entries[index - 1][0].known_at if index else 0
        step = header.known_at - before
        if before and -_BEHIND_S <= step < _AHEAD_S:
            raise RefusedError(f"entry {index} sets the clock by {step:+} s, for which nobody has to: it is made up")
        table = rows.get(index)
        if table is None:
            told.append(f"entry {index} by {step:+} s, whose rows are not here")
            continue
        if not isinstance(table, Clocks) or len(table) != 1 or header.evidence:
            raise RefusedError(f"entry {index} is not one row of the operator's that sets a clock")
        if (int(table.before[0]), int(table.time[0])) != (before, header.known_at):
            raise RefusedError(
                f"entry {index} says that it sets the clock from {table.before[0]} to {table.time[0]}; on record it is "
                f"from {before} to {header.known_at}"
            )
        by = bytes(table.accepted_by[0]).decode("ascii", "backslashreplace")
        told.append(f"entry {index} by {step:+} s, says {by}")
    return len(told), f"set right at {'; '.join(told)}"
