"""Changes of the registry that reach a running intake: who is admitted or revoked, who hangs where.

Only the operator makes them. It certifies offline, where its authority's keys are, and hands in what goes on record
under its own key, the one that signs checkpoints; so the intake needs no authority.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellegen.records import Admissions, Connections, KeyGenerations, RecordError, Revocations, Role, Table
from tellegen.records.submission import PLATFORM_SOURCES
from tellegen.registry import Directory, Reason
from tellegen.registry.assets import check_connections
from tellegen.registry.registrar import SOURCE

REGISTRAR = SOURCE
"""Source of these changes; no certificate makes anybody else it."""
TABLES: dict[str, type[Table]] = {table.kind: table for table in (Admissions, Revocations, Connections, KeyGenerations)}
"""What can be changed, by kind."""


_UNWAITED = (
    "reads_every is longer than the rules wait for (longest_meter_minutes of [timetable]): it would always be missing; "
    "enact rules that wait, or install a meter that reads as often"
)
NONCE_BYTES = 32


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class SentChanges:
    """A table of changes; all of its rows stand, or none.

    The digest of the body stands in a public header. What a customer's rows may be can be guessed, so bytes that
    nobody can guess stand before them; they are kept nowhere.
    """

    table: Table
    nonce: bytes = field(default_factory=_nonce, repr=False)

    @classmethod
    def from_bytes(cls, body: bytes) -> SentChanges:
        """Read a body: the kind of the table, a newline, the nonce, its canonical rows.

        Raises
        ------
        RecordError : no such kind, no rows, or not a whole number of them.
        """
        kind, newline, rest = body.partition(b"\n")
        table = TABLES.get(kind.decode("latin-1")) if newline else None
        if table is None:
            raise RecordError(f"it does not begin with one of {', '.join(TABLES)} and a newline")
        sent = cls(table.from_bytes(rest[NONCE_BYTES:]), rest[:NONCE_BYTES])
        if not sent.rows:
            raise RecordError("it holds no rows")
        return sent

    def to_bytes(self) -> bytes:
        """The body."""
        return self.table.kind.encode() + b"\n" + self.nonce + self.table.rows().tobytes()

    @property
    def rows(self) -> int:
        """Rows to be worked on."""
        return len(self.table)


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
