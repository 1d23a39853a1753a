"""What a verification says."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass

import polars

from tellegen.errors import TellegenError

_FINDINGS = (
    TellegenError,
    OSError,
    ValueError,
    struct.error,
    sqlite3.Error,
    polars.exceptions.PolarsError,
    OverflowError,
    RecursionError,
)
"""What damaged files can raise: each is an answer, no."""


class RefusedError(TellegenError):
    """A check failed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes
    ----------
    name : what was checked.
    ok : whether it held.
    count : how many things were checked; 0 where it failed.
    detail : what was found, in words.
    """

    name: str
    ok: bool
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of a directory; `ok` where every one held."""

    ok: bool
    checks: list[Check]

    def to_json(self) -> str:
        """The report as one JSON document."""
        return json.dumps(asdict(self), indent=2)


def run_check(name: str, finding: Callable[[], tuple[int, str]]) -> Check:
    """Run one check: it returns what it counted and found, or raises.

    >>> run_check("sum", lambda: (3, "three rows sum to zero"))
    Check(name='sum', ok=True, count=3, detail='three rows sum to zero')
    """
    try:
        count, detail = finding()
    except _FINDINGS as error:
        text = str(error) or type(error).__name__
        return Check(name, False, 0, text.splitlines()[0])
    return Check(name, True, count, detail)
