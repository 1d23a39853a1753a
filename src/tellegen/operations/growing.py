"""Tables in files that somebody else writes to while a market runs: read again where they changed, whole lines only."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from tellegen.errors import InputError
from tellegen.units import MARKET_INTERVAL_S

FILE_BYTES_MAX = 64 * 2**20
T = TypeVar("T")


class GrowingFile(Generic[T]):
    """What a file says, as it was last read.

    Parameters
    ----------
    path : the file. what : it is, for errors.
    read : reads it. content : until it has been read.
    """

    def __init__(self, path: Path, what: str, read: Callable[[], T], content: T) -> None:
        self.path, self.content = path, content
        self._what, self._read = what, read
        self._seen: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Read the file again where it has changed; says whether it had.

        Raises
        ------
        InputError : it cannot be read; what was read before stands.
        """
        try:
            now = self.path.stat()
        except OSError as error:
            raise InputError(self.path, self._what, f"cannot be read: {error.strerror or error}") from None
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen == self._seen:
            return False
        self._seen = seen  # an error is told once, not before each gate
        self.content = self._read()
        return True


def bounded_bytes(path: Path, what: str, *, growing: bool = False) -> bytes:
    """A file of somebody else's, if it is of tolerable size.

    Parameters
    ----------
    growing : somebody may be writing; a last line without its end does not count yet.

    Raises
    ------
    InputError : it cannot be read, or has more than `FILE_BYTES_MAX`.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(path, what, f"is larger than {FILE_BYTES_MAX} bytes; begin a new one")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, what, f"cannot be read: {error.strerror or error}") from None
    return data[: data.rfind(b"\n") + 1] if growing else data


def text_of(path: Path, data: bytes) -> str:
    """The text that a file holds.

    Raises
    ------
    InputError : it is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "is not UTF-8 text") from None


def rows_of(path: Path, data: bytes, headers: tuple[tuple[str, ...], ...]) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with their lines; a first line that names the columns is none of them.

    Parameters
    ----------
    data : what it holds. headers : what that line may be.

    Raises
    ------
    InputError : it is no text, no CSV, or has another header.
    """
    reader, line = csv.reader(text_of(path, data).splitlines()), 0
    try:
        for line, row in enumerate(reader, start=1):
            cells = [cell.strip() for cell in row]
            if line == 1 and cells and cells[0].lower() == headers[-1][0]:
                if tuple(cells) not in headers:
                    words = f"must name the columns {' or '.join(','.join(names) for names in headers)}"
                    raise InputError(path, "line 1", words)
                continue
            if any(cells):
                yield line, cells
    except csv.Error as error:
        raise InputError(path, f"line {line + 1}", f"is not CSV: {error}") from None


def interval_at(path: Path, line: int, text: str) -> int:
    """Market interval that begins at a time with its offset (ISO 8601).

    Raises
    ------
    InputError : it is none, has no offset, or is not at a whole five minutes.
    """
    place = f"line {line}, time '{text[:40]}'"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(path, place, "is not ISO 8601, such as 2016-03-26T00:00:00+01:00") from None
    if moment.tzinfo is None:
        raise InputError(path, place, "has no offset; add Z or one such as +01:00")
    seconds = moment.timestamp()
    if seconds % MARKET_INTERVAL_S:
        raise InputError(path, place, "is not at a whole five minutes")
    return int(seconds) // MARKET_INTERVAL_S
