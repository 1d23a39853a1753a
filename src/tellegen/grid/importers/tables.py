"""The element tables of a pandapower network as plain columns, from a file or from a live net.

A pandapower file names Python modules and classes that its own reader imports. Nothing of that is
done here: only the table texts inside the file are parsed, as data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError, printable
from tellegen.foreign.documents import bounded_text, json_document

FILE_BYTES_MAX = 512 * 2**20
ROWS_MAX = 2_000_000
WITHOUT_PHYSICS = {
    "bus_geodata",
    "group",
    "line_geodata",
    "loadcases",
    "measurement",
    "profiles",
    "reactive_capability_curve",
    "q_capability_curve_table",
    "q_capability_characteristic",
    "reactive_capability_curve_table",
    "shunt_characteristic_table",
    "characteristic",
    "studycases",
    "substation",
    "trafo_characteristic_spline",
    "trafo_characteristic_table",
    "bus_est",
}
"""Tables that say nothing about a power flow, and are not opened."""


def _missing(value: object) -> bool:
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """One element table: the row indices of the file and a list per column; ``None`` is missing."""

    source: str
    name: str
    index: tuple[int, ...]
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.index)

    def label(self, row: int) -> str:
        """What a row is called in messages and results, such as ``line 3``."""
        return printable(f"{self.name} {self.index[row]}")

    def labels(self) -> tuple[str, ...]:
        """`label` of every row."""
        return tuple(printable(f"{self.name} {k}") for k in self.index)

    def has(self, column: str) -> bool:
        """Whether the column exists with a value in at least one row."""
        return any(value is not None for value in self.columns.get(column, ()))

    def numbers(self, column: str, default: float | None = None) -> NDArray[np.float64]:
        """A column as float64; a missing value becomes `default`.

        Raises
        ------
        InputError : a value is missing where no default is given, or is not a finite number.
        """
        out = np.empty(len(self))
        values = self.columns.get(column, [None] * len(self))
        for row, value in enumerate(values):
            if value is None:
                if default is None:
                    raise InputError(self.source, f"{self.label(row)}, {column}", "is missing; a number is needed")
                out[row] = default
            elif isinstance(value, (int, float)) and math.isfinite(value):
                out[row] = value
            else:
                raise InputError(self.source, f"{self.label(row)}, {column}", f"is not a number: {str(value)[:40]!r}")
        return out

    def flags(self, column: str, default: bool) -> NDArray[np.bool_]:
        """A column as bool; a missing value becomes `default`."""
        values = self.columns.get(column, [None] * len(self))
        for row, value in enumerate(values):
            if value not in (None, True, False, 0, 1):
                raise InputError(self.source, f"{self.label(row)}, {column}", "must be true or false")
        return np.array([default if v is None else bool(v) for v in values], dtype=np.bool_)

    def texts(self, column: str) -> list[str]:
        """A column as text; a missing value becomes the empty text."""
        return ["" if v is None else str(v) for v in self.columns.get(column, [None] * len(self))]

    def references(self, column: str, target: Frame) -> NDArray[np.int64]:
        """Row positions in `target` of the indices that a column holds.

        Raises
        ------
        InputError : an index is missing or stands for no row of `target`.
        """
        position = {key: row for row, key in enumerate(target.index)}
        out = np.empty(len(self), dtype=np.int64)
        for row, value in enumerate(self.columns.get(column, [None] * len(self))):
            whole = isinstance(value, (int, float)) and math.isfinite(value) and value == int(value)
            key = int(value) if whole else None
            if key not in position:
                raise InputError(
                    self.source, f"{self.label(row)}, {column}", f"{value} is not in the {target.name} table"
                )
            out[row] = position[key]
        return out

    def take(self, keep: NDArray[np.bool_]) -> Frame:
        """The rows where `keep` is true."""
        where = np.nonzero(keep)[0].tolist()
        return Frame(
            self.source,
            self.name,
            tuple(self.index[k] for k in where),
            {name: [values[k] for k in where] for name, values in self.columns.items()},
        )


@dataclass(frozen=True, slots=True)
class Tables:
    """All element tables of a network, its name, base power (MVA) and frequency (Hz)."""

    source: str
    name: str
    sn_mva: float
    f_hz: float
    frames: Mapping[str, Frame]

    def frame(self, name: str) -> Frame:
        """A table, empty where the network has none of the kind."""
        return self.frames.get(name) or Frame(self.source, name, (), {})


def _whole(source: str, name: str, key: object) -> int:
    try:
        return int(str(key))
    except ValueError:
        raise InputError(source, f"table {name}, row {str(key)[:40]!r}", "must be numbered") from None


def _frame(source: str, name: str, payload: object) -> Frame:
    """A table from its text: ``split`` orientation, or column by column as older files have it."""
    if isinstance(payload, str):
        payload = json_document(payload, source, f"table {name}")
    if not isinstance(payload, dict):
        raise InputError(source, f"table {name}", "has no columns")
    columns: dict[str, list[Any]]
    if {"columns", "index", "data"} <= payload.keys():
        names, index, data = payload["columns"], payload["index"], payload["data"]
        if not all(isinstance(part, list) for part in (names, index, data)) or len(data) != len(index):
            raise InputError(source, f"table {name}", "does not have one row per index")
        for key, row in zip(index, data, strict=True):
            if not isinstance(row, list) or len(row) != len(names):
                raise InputError(source, f"{name} {key}", f"does not have {len(names)} values")
        columns = {str(column): [row[k] for row in data] for k, column in enumerate(names)}
    else:
        first: dict[str, Any] = next(iter(payload.values()), {})
        if not all(isinstance(values, dict) and values.keys() == first.keys() for values in payload.values()):
            raise InputError(source, f"table {name}", "has columns of different lengths")
        index = list(first)
        columns = {str(column): list(values.values()) for column, values in payload.items()}
    if len(index) > ROWS_MAX:
        raise InputError(source, f"table {name}", f"has {len(index)} rows, limit {ROWS_MAX}")
    cleaned = {key: [None if _missing(v) else v for v in values] for key, values in columns.items()}
    return Frame(source, name, tuple(_whole(source, name, key) for key in index), cleaned)


def _scalar(source: str, net: Mapping[str, Any], key: str, default: float) -> float:
    value = net.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(source, key, "must be a positive number")
    return float(value)


def read_tables(path: Path) -> Tables:
    """Tables of a pandapower JSON file (``pandapower.to_json``), parsed as data only.

    Raises
    ------
    InputError : the file is missing, too large, not JSON, or not a pandapower network.
    """
    text = bounded_text(path, FILE_BYTES_MAX)
    return tables_of_document(str(path), path.stem, json_document(text, path))


def tables_of_document(source: str, name: str, document: object) -> Tables:
    """Tables of a parsed pandapower JSON document."""
    net = document.get("_object", document) if isinstance(document, dict) else None
    if isinstance(net, str):
        net = json_document(net, source, "file, inside,")
    if not isinstance(net, dict) or "bus" not in net:
        raise InputError(source, "file", "is not a pandapower network: it has no bus table")
    frames = {
        key: _frame(source, key, value["_object"])
        for key, value in net.items()
        if isinstance(value, dict)
        and value.get("_class") == "DataFrame"
        and "_object" in value
        and not key.startswith(("res_", "_"))
        and key not in WITHOUT_PHYSICS
    }
    if "bus" not in frames:
        raise InputError(source, "table bus", "is not a table")
    return Tables(
        source=source,
        name=printable(str(net.get("name") or name)),
        sn_mva=_scalar(source, net, "sn_mva", 1.0),
        f_hz=_scalar(source, net, "f_hz", 50.0),
        frames=frames,
    )


def tables_of_net(source: str, net: Any) -> Tables:
    """Tables of a live pandapower network (a mapping of pandas frames); its results are left out."""
    frames = {}
    for key in sorted(str(k) for k in net):
        table = net[key]
        if key.startswith(("res_", "_")) or key in WITHOUT_PHYSICS:
            continue
        if not hasattr(table, "columns") or not hasattr(table, "index"):
            continue
        columns = {}
        for column in table.columns:
            values = table[column].tolist()
            columns[str(column)] = [_plain(value) for value in values]
        frames[key] = Frame(source, key, tuple(_whole(source, key, k) for k in table.index.tolist()), columns)
    return Tables(
        source=source,
        name=source,
        sn_mva=_scalar(source, net, "sn_mva", 1.0),
        f_hz=_scalar(source, net, "f_hz", 50.0),
        frames=frames,
    )


def _plain(value: Any) -> Any:
    if _missing(value):
        return None
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value)


def tables_to_json(tables: Tables) -> str:
    """Canonical text of tables, for a cache; `tables_from_json` is its inverse."""
    return json.dumps(
        {
            "name": tables.name,
            "sn_mva": tables.sn_mva,
            "f_hz": tables.f_hz,
            "frames": {
                key: {"index": list(frame.index), "columns": dict(frame.columns)}
                for key, frame in tables.frames.items()
                if len(frame)
            },
        }
    )


def tables_from_json(source: str, text: str) -> Tables:
    """Tables from the text that `tables_to_json` wrote.

    Raises
    ------
    ValueError, KeyError, TypeError : the text is not of that form.
    """
    document = json.loads(text)
    frames = {
        key: Frame(source, key, tuple(value["index"]), value["columns"]) for key, value in document["frames"].items()
    }
    return Tables(source, document["name"], document["sn_mva"], document["f_hz"], frames)
