"""Is a journal whole? Every problem by its place, and the repair of those that may be repaired."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tellegen.errors import InputError
from tellegen.journal.journal import Journal
from tellegen.journal.note import JournalError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written.

    Attributes
    ----------
    file : path below ``journal/``; empty where no single file is at fault.
    place : where in the file ("frame 3 at byte 812", "line 6"); empty for the whole file.
    problem : what is wrong.
    repairable : whether `repair` may put it right without taking anything from what was signed.
    """

    file: str
    place: str
    problem: str
    repairable: bool = False

    def __str__(self) -> str:
        return ": ".join(filter(None, (", ".join(filter(None, (self.file, self.place))), self.problem)))


def check(path: Path | str) -> list[Problem]:
    """Every problem of the journal under ``path/journal``; none if it is whole."""
    try:
        with Journal.open(path) as journal:
            for index in range(len(journal)):
                journal.payload(index)
    except (JournalError, InputError) as error:
        return [Problem("", "", str(error))]
    return []


def repair(path: Path | str, signing_key: bytes) -> list[str]:
    """Put right what may be put right, and say what was.

    Raises
    ------
    JournalError : damage below the last checkpoint, which is never repaired.
    """
    before = check(path)
    Journal.open(path, signing_key).close()
    return [str(problem) for problem in before]
