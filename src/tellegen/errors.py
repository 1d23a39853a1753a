"""The root of every error that tellegen raises on purpose."""

from __future__ import annotations


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
        super().__init__(f"{source}: {place} {problem}".replace("\n", " "))


class WorkerError(TellegenError):
    """A worker process ended without a result."""
