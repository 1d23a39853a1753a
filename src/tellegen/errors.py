"""The root of every error that tellegen raises on purpose."""

from __future__ import annotations

import copyreg

SPACES = "\u00a0\u202f"
"""Spaces that join a number and its unit, or groups of digits."""


def printable(text: str) -> str:
    r"""Text from anybody as it may be shown: what moves a cursor, turns a line around or shows nothing is spelt out.

    >>> printable("Müller \x1b[2J\u202e.csv")
    'Müller \\x1b[2J\\u202e.csv'
    """
    return "".join(c if c.isprintable() or c in SPACES else c.encode("unicode_escape").decode() for c in text)


class TellegenError(Exception):
    """Root of all errors of this package."""


class InputError(TellegenError):
    """Unreadable or inconsistent input: where it stands, what is wrong, what would be right.

    The command line prints it as one line and exits with 2.

    >>> str(InputError("orders.csv", "row 7, node '99'", "is not in the network"))
    "orders.csv: row 7, node '99' is not in the network"
    """

    def __init__(self, source: object, place: str, problem: str) -> None:
        self.source, self.place, self.problem = str(source), place, problem
        super().__init__(printable(f"{source}: {place} {problem}".replace("\n", " ")))

    def __reduce__(self) -> tuple[object, ...]:
        """Worker processes raise it, too: it is made again without `__init__`, whose arguments are not its own."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class WorkerError(TellegenError):
    """A worker process ended without a result."""
