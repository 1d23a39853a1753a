"""Changes of the registry that reach a running intake: who is admitted or revoked, who hangs where.

The registrar makes them, under a key of its own which the authority on record has certified; whom it admits, the
authority itself has certified besides, offline. The intake has the key of neither.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tellegen.records import Admissions, Connections, KeyGenerations, RecordError, Revocations, Role, Table
from tellegen.records.submission import PLATFORM_SOURCES
from tellegen.registry import Directory, Reason
from tellegen.registry.assets import check_connections
from tellegen.registry.changes import NONCE_BYTES, REGISTRAR, TABLES, SentChanges

__all__ = ["NONCE_BYTES", "REGISTRAR", "TABLES", "SentChanges", "check_changes"]

_UNWAITED = (
    "reads_every is longer than the rules wait for (longest_meter_minutes of [timetable]): it would always be missing; "
    "enact rules that wait, or install a meter that reads as often"
)


def check_changes(table: Table, directory: Directory, known_at: int, longest: Callable[[int], int]) -> None:
    """Check that rows can stand on record.

    Parameters
    ----------
    known_at : when they go there, seconds since the epoch.
    longest : for how many market intervals of a meter the rules of an interval wait.

    Raises
    ------
    RecordError, RegistryError : one cannot; says which, and what would be right.
    """
    match table:
        case Connections():
            check_connections(table, directory)
            begins, of = np.unique(table.from_interval, return_inverse=True)
            waited = np.array([longest(interval) for interval in begins.tolist()])
            _check(table.reads_every <= waited[of], _UNWAITED)
        case Admissions():
            named = (table.name != b"") == ~np.isin(table.role, (Role.METER, Role.PARTICIPANT))
            good = np.isin(table.role, list(Role)) & named & (table.number >= 0)
            _check(good & (table.valid_from < table.valid_until), "role, name or number, and validity do not fit")
            _check(~np.isin(table.name, [name.encode() for name in PLATFORM_SOURCES]), "the name is the platform's own")
        case Revocations():
            timely = (table.revoked_at >= 0) & (table.revoked_at <= known_at)
            _check(timely & np.isin(table.reason, list(Reason)), "a revocation holds from now or before, for a reason")
        case KeyGenerations():
            counted = (table.generation >= 1) & (table.from_counter >= 0)
            _check(counted & (table.meter >= 0), "serials and counters count from 0, generations from 1")


def _check(good: NDArray[np.bool_], problem: str) -> None:
    if not good.all():
        raise RecordError(f"row {int(np.argmin(good))}: {problem}")
