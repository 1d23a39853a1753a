"""What a verification says."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import polars

from tellegen.errors import TellegenError, printable
from tellegen.units import MICROS
from tellegen.verify import promises

_FINDINGS = (
    TellegenError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
    sqlite3.Error,
    polars.exceptions.PolarsError,
    polars.exceptions.PanicException,
)
"""What damaged files can raise: each is an answer, no."""


DETAIL_CHARACTERS_MAX = 1_000


class RefusedError(TellegenError):
    """A check failed; the message says where and why."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What is refused meanwhile is refused by the name of the file that is read.

    >>> with reading("manifest"):
    ...     raise RefusedError("not a note")
    Traceback (most recent call last):
    ...
    tellegen.verify.report.RefusedError: manifest: not a note
    """
    try:
        yield
    except RefusedError as error:
        raise RefusedError(f"{name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes
    ----------
    name : what was checked.
    ok : whether it held.
    count : how many things were checked; 0 where it failed.
    detail : what was found, in words, of `DETAIL_CHARACTERS_MAX` at most; it may be printed as it is.
    """

    name: str
    ok: bool
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A price on record beside what was published; None where there is none on that side.

    Prices are micro-currency/kWh; `time` is the start of the period, UTC.
    """

    market: str
    interval: int
    time: str
    recorded: int | None
    published: int | None

    def words(self) -> str:
        """In one line.

        >>> Difference("real_time", 0, "1970-01-01T00:00Z", 60_001, 60_000).words()
        'real_time 1970-01-01T00:00Z: 0.060001 on record, 0.060000 published'
        """
        sides = (
            "no price" if micros is None else f"{micros / MICROS:.6f}" for micros in (self.recorded, self.published)
        )
        return "{} {}: {} on record, {} published".format(self.market, self.time, *sides)


@dataclass(frozen=True, slots=True)
class PriceComparison:
    """The root prices on record beside a published file.

    Attributes
    ----------
    agree : periods of which both say the same.
    differ : both say something else. not_published : on record, not in the file. not_recorded : published, and the
        gate went without. outside : on record, before or after all that the file says.
    documents, documents_equal : documents on record, and of how many the file begins with the very bytes.
    """

    agree: int
    differ: list[Difference]
    not_published: list[Difference]
    not_recorded: list[Difference]
    outside: int
    documents: int
    documents_equal: int


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of a directory; `ok` where every one held.

    `root_prices` : those on record beside a published file, where one was given.
    """

    ok: bool
    checks: list[Check]
    root_prices: PriceComparison | None = None

    @property
    def broken(self) -> dict[str, list[str]]:
        """Promises that do not hold, each with the checks that failed."""
        return promises.broken(self.checks)

    @property
    def not_checked(self) -> list[str]:
        """What the verification leaves open, in words."""
        return promises.not_checked(self.checks)

    def to_json(self) -> str:
        """The report as one JSON document."""
        document = asdict(self) | {"broken": self.broken, "not_checked": self.not_checked}
        if self.root_prices is None:
            del document["root_prices"]
        return json.dumps(document, indent=2)


def run_check(name: str, finding: Callable[[], tuple[int, str]]) -> Check:
    """Run one check: it returns what it counted and found, or raises.

    >>> run_check("sum", lambda: (3, "three rows sum to zero"))
    Check(name='sum', ok=True, count=3, detail='three rows sum to zero')
    """
    try:
        count, detail = finding()
    except _FINDINGS as error:
        text = str(error) if isinstance(error, TellegenError) else str(error).partition("\n")[0]
        if isinstance(error, MemoryError):
            text = "it takes more memory than there is"
        return Check(name, False, 0, _shown(text or type(error).__name__))
    return Check(name, True, count, _shown(detail))


def _shown(detail: str) -> str:
    """Details name what strangers have named."""
    whole = printable(detail)
    return whole if len(whole) <= DETAIL_CHARACTERS_MAX else f"{whole[: DETAIL_CHARACTERS_MAX - 4]} ..."
