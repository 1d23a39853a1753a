"""Numbers that OpenDSS scripts keep in files of their own, read here so that the engine opens none."""

from __future__ import annotations

import re
from array import array

VALUES_MAX = 2_000_000
"""Of one list; ten years of 15-minute values are 350,000."""

_NUMBER = re.compile(r"[-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eEdD][-+]?\d{1,3})?")
_BETWEEN = re.compile(r"[\s,=]+")
_TIMES = {"LoadShape": "Hour", "TShape": "Hour", "PriceShape": "Hour"}
_VALUES = {"LoadShape": "Mult", "TShape": "Temp", "PriceShape": "Price"}


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
    rows = _rows(content)[1 if header else 0 :]
    return _listed([_cell(row, column - 1) for row in rows])


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
    rows = _rows(content)
    told = [f"{_TIMES[kind]}={_listed([_cell(row, 0) for row in rows])}"] if paired else []
    told.append(f"{value}={_listed([_cell(row, first) for row in rows])}")
    if name == "PQCSVFile":
        told.append(f"QMult={_listed([_cell(row, first + 1) for row in rows])}")
    return told


def coordinates_of(text: str, swapped: bool) -> dict[str, tuple[float, float]]:
    """Coordinates of buses from lines of bus, x and y (`swapped`: latitude before longitude).

    Raises
    ------
    ValueError : a line has no two numbers behind the bus.
    """
    found = {}
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        line = re.split(r"!|//", line, maxsplit=1)[0].strip(" \t\x1a,")
        if not line:
            continue
        words = [word for word in _BETWEEN.split(line.replace('"', " ").strip()) if word]
        if len(words) < 3 or not (_NUMBER.fullmatch(words[1]) and _NUMBER.fullmatch(words[2])):
            raise ValueError(f"has coordinates whose line {number} is not bus, x and y")
        x, y = float(words[1]), float(words[2])
        found[words[0].lower()] = (y, x) if swapped else (x, y)
    return found


def _rows(content: bytes) -> list[list[str]]:
    rows = [_BETWEEN.split(line.strip()) for line in content.decode("latin-1").splitlines() if line.strip(" \t\x1a,")]
    if len(rows) > VALUES_MAX:
        raise ValueError(f"has a file of more than {VALUES_MAX} values")
    return rows


def _cell(row: list[str], column: int) -> str:
    word = row[column] if column < len(row) else ""
    if not _NUMBER.fullmatch(word):
        raise ValueError("has a file of numbers in which a line has none at its place")
    return word


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
