"""Numbers that OpenDSS scripts keep in files of their own, read here so that the engine opens none."""

from __future__ import annotations

import math
import re
from array import array
from itertools import islice

from tellegen.foreign.opendss_text import lines_of

VALUES_MAX = 2_000_000
"""Of one list; ten years of 15-minute values are 350,000."""

_NUMBER = re.compile(r"[-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eEdD][-+]?\d{1,3})?", re.ASCII)
_BETWEEN = re.compile(r"[\s,=]+")
_WORD = re.compile(r"[^\s,=]++")
_TIMES = {"LoadShape": "Hour", "TShape": "Hour", "PriceShape": "Hour"}
_VALUES = {"LoadShape": "Mult", "TShape": "Temp", "PriceShape": "Price"}


def number_of(word: str) -> float | None:
    """What a word stands for, or None where it is no finite number; the engine's exponents begin with D too.

    >>> number_of("-1.5d2"), number_of("1e999"), number_of("nan")
    (-150.0, None, None)
    """
    if not _NUMBER.fullmatch(word):
        return None
    number = float(word.lower().replace("d", "e"))
    return number if math.isfinite(number) else None


def column_of(form: str, content: bytes, column: int, header: bool) -> str:
    """A column of a file as a list for the engine.

    Parameters
    ----------
    form : ``file`` (text, a value or several a line), ``sngfile`` or ``dblfile`` (binary, four or eight bytes each).

    Raises
    ------
    ValueError : a value is no number, or there are too many.
    """
    if form != "file":
        return _listed(_binary(form, content))
    return _listed(_cells(content, column - 1, 1 if header else 0))


def columns_of_file(name: str, kind: str, content: bytes, paired: bool) -> list[str]:
    """Properties of a shape whose file is named by a property of its own.

    Parameters
    ----------
    name : CSVFile, PQCSVFile, SngFile or DblFile. kind : class of the shape.
    paired : the interval is 0, so that every line begins with its hour.
    """
    value = _VALUES[kind]
    first = 1 if paired else 0
    if name in ("SngFile", "DblFile"):
        numbers = _binary(name.lower(), content)
        if not paired:
            return [f"{value}={_listed(numbers)}"]
        return [f"{_TIMES[kind]}={_listed(numbers[0::2])}", f"{value}={_listed(numbers[1::2])}"]
    told = [f"{_TIMES[kind]}={_listed(_cells(content, 0))}"] if paired else []
    told.append(f"{value}={_listed(_cells(content, first))}")
    if name == "PQCSVFile":
        told.append(f"QMult={_listed(_cells(content, first + 1))}")
    return told


def coordinates_of(text: str, swapped: bool) -> dict[str, tuple[float, float]]:
    """Coordinates of buses from lines of bus, x and y (`swapped`: latitude before longitude).

    Raises
    ------
    ValueError : a line has no two numbers behind the bus.
    """
    found = {}
    for number, line in lines_of(text):
        line = re.split(r"!|//", line, maxsplit=1)[0].strip(" \t\x1a,")
        if not line:
            continue
        if number > VALUES_MAX:
            raise ValueError(f"has coordinates of more than {VALUES_MAX} lines")
        words = [match[0] for match in islice(_WORD.finditer(line.replace('"', " ")), 3)]
        x, y = (number_of(word) for word in (*words, "", "", "")[1:3])
        if x is None or y is None:
            raise ValueError(f"has coordinates whose line {number} is not bus, x and y")
        found[words[0].lower()] = (y, x) if swapped else (x, y)
    return found


def _cells(content: bytes, column: int, skipped: int = 0) -> list[str]:
    """A column of a text from its row `skipped` on; rows are counted first, and taken apart no further than is read."""
    if content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n") > VALUES_MAX:
        raise ValueError(f"has a file of more than {VALUES_MAX} values")
    rows = (line.decode("latin-1") for line in content.splitlines())
    filled = (row.strip() for row in rows if row.strip(" \t\x1a,"))
    return [_cell(_BETWEEN.split(row, maxsplit=column + 1), column) for row in islice(filled, skipped, None)]


def _cell(row: list[str], column: int) -> str:
    word = row[column] if column < len(row) else ""
    if number_of(word) is None:
        raise ValueError("has a file of numbers in which a line has no finite one at its place")
    return word.lower().replace("d", "e")


def _binary(form: str, content: bytes) -> list[float]:
    numbers = array("f" if form == "sngfile" else "d")
    if len(content) % numbers.itemsize or len(content) // numbers.itemsize > VALUES_MAX:
        raise ValueError(f"has a binary file that is not up to {VALUES_MAX} numbers of {numbers.itemsize} bytes")
    numbers.frombytes(content)
    found = numbers.tolist()
    if not all(abs(value) < 1e300 for value in found):
        raise ValueError("has a binary file with values that are not finite")
    return found


def _listed(values: list[str] | list[float]) -> str:
    return f"[{' '.join(map(str, values))}]"
