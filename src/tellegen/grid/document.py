"""Networks and cases as text: canonical JSON that gives back the same numbers, bit for bit.

The fields of the dataclasses are the fields of the document, written and read by their annotations. Arrays are lists
(of rows, where they have two dimensions), a complex array a list of real and one of imaginary parts, a sparse matrix
its shape and triplets; numbers that are not finite are the words ``inf``, ``-inf``, ``nan``. A field with a default may
be missing in a document of an earlier day.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp

from tellegen.errors import InputError
from tellegen.foreign.documents import json_document
from tellegen.foreign.regular import regular_bytes, regular_head
from tellegen.grid.consistency import check_case, check_network
from tellegen.grid.network import Branches, Case, Network

NETWORK_FORMAT = "tellegen-network@v2"
NETWORK_FORMAT_V1 = "tellegen-network@v1"
"""Balanced networks as they were recorded before; read, no longer written."""
CASE_FORMAT = "tellegen-case@v1"
DOCUMENT_BYTES_MAX = 512 * 2**20
"""A feeder of 8,500 nodes takes 7 MB."""
SIZE_MAX = 10_000_000
"""Most rows or columns of a matrix."""

_HEAD = re.compile(rb'\s*\{\s*"format"\s*:\s*"tellegen-case@')
_WORDS = {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}


def network_to_json(network: Network) -> bytes:
    """Canonical JSON of a network, balanced or by phases."""
    return _text(NETWORK_FORMAT, "network", network)


def network_from_json(content: bytes) -> Network:
    """Inverse of `network_to_json`.

    Raises
    ------
    InputError : not such a document, or one that contradicts itself.
    """
    source = "network document"
    document = _parsed(content, source)
    try:
        if document.get("format") == NETWORK_FORMAT_V1:
            network = _network_v1(document)
        else:
            network = _content(document, NETWORK_FORMAT, "network", Network)
        check_network(network)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(source, "content", f"is not a recorded network ({error})") from None
    return network


def case_to_json(case: Case) -> bytes:
    """Canonical JSON of a case: network, loads, generators, the taps and capacitors that may move.

    >>> from tellegen.grid.network import FixedLoads, Generators
    >>> y, none = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex)), np.zeros(0)
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.9), np.full(2, 1.1), line)
    >>> case = Case(net, FixedLoads(("x",), np.array([1]), np.array([0.9]), np.zeros(1)),
    ...             Generators((), np.zeros(0, int), *[none] * 6, np.zeros(0, bool), none, none), None)
    >>> content = case_to_json(case)
    >>> content[:29], case_to_json(case_from_json(content)) == content
    (b'{"format":"tellegen-case@v1",', True)
    """
    return _text(CASE_FORMAT, "case", case)


def case_from_json(content: bytes, source: object = "network document") -> Case:
    """Inverse of `case_to_json`.

    Raises
    ------
    InputError : not such a document, or one that contradicts itself.
    """
    document = _parsed(content, source)
    try:
        case: Case = _content(document, CASE_FORMAT, "case", Case)
        check_case(case)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(source, "content", f"is not a network document ({error})") from None
    return case


def read_case(path: Path) -> Case:
    """Read a file that `case_to_json` filled.

    Raises
    ------
    InputError : it cannot be read, is too large, or is no such document.
    """
    return case_from_json(regular_bytes(path, DOCUMENT_BYTES_MAX), path)


def is_case(content: bytes) -> bool:
    """Whether a document is that of a case, not of a network alone."""
    return _HEAD.match(content) is not None


def is_case_document(path: Path) -> bool:
    """Whether a file begins as `case_to_json` writes it."""
    return path.is_file() and _HEAD.match(regular_head(path, 200)) is not None


def _text(form: str, name: str, value: object) -> bytes:
    document = {"format": form, name: _encoded(value)}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _parsed(content: bytes, source: object) -> dict[str, Any]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(source, "content", f"is not JSON ({error})") from None
    document = json_document(text, source, "content", _refuse_constant)
    if not isinstance(document, dict):
        raise InputError(source, "content", "is not a network document (no object)")
    return document


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _content(document: dict[str, Any], form: str, name: str, kind: type[Any]) -> Any:
    if document.get("format") != form:
        raise ValueError(f"format {document.get('format')!r}, not {form!r}")
    if set(document) != {"format", name}:
        raise ValueError(f"holds {sorted(document)}, not format and {name}")
    return _decoded(document[name], kind, name)


def _encoded(value: Any) -> Any:
    """A value as JSON knows it; the inverse is `_decoded` with the annotation of the field."""
    if dataclasses.is_dataclass(value):
        return {field.name: _encoded(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value):
            return {"real": _numbers(value.real), "imag": _numbers(value.imag)}
        return _numbers(value) if value.dtype.kind == "f" else value.tolist()
    if sp.issparse(value):
        entries = sp.csr_matrix(value).sorted_indices().tocoo()
        return {
            "shape": [int(size) for size in entries.shape],
            "row": entries.row.tolist(),
            "column": entries.col.tolist(),
            **_encoded(np.asarray(entries.data, dtype=np.complex128)),
        }
    if isinstance(value, tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, complex):
        return [_number(value.real), _number(value.imag)]
    if isinstance(value, IntEnum):
        return int(value)
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(float(value))


def _numbers(values: Any) -> list[Any]:
    listed: list[Any] = values.tolist()
    if not np.isfinite(values).all():
        listed = [_numbers(row) if values.ndim > 1 else _number(float(row)) for row in values]
    return listed


def _fields(kind: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Annotation of each field of a dataclass, and whether it may be missing."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is not dataclasses.MISSING) for field in dataclasses.fields(kind)
    }


def _decoded(value: Any, kind: Any, place: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and types.NoneType in inner:
            return None
        return _decoded(value, next(part for part in inner if part is not types.NoneType), place)
    if origin is np.ndarray:
        return _array(value, typing.get_args(inner[1])[0], place)
    if origin is tuple:
        items = _typed(value, list, place)
        if inner[-1] is Ellipsis:
            if inner[0] is str and _all_of(items, str):
                return tuple(items)
            return tuple(_decoded(item, inner[0], f"{place}[{k}]") for k, item in enumerate(items))
        return tuple(_decoded(item, part, place) for item, part in zip(items, inner, strict=True))
    if kind is sp.csr_matrix:
        return _matrix(value, place)
    if kind is complex:
        real, imag = _typed(value, list, place)
        return complex(_real(real, place), _real(imag, place))
    if kind is float:
        return _real(value, place)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _object(_typed(value, dict, place), kind, place)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return kind(_typed(value, int, place))
    return _typed(value, kind, place)


def _object(given: dict[str, Any], kind: type[Any], place: str) -> Any:
    fields = _fields(kind)
    if strange := sorted(set(given) - set(fields)):
        raise ValueError(f"{place} has a field {strange[0]!r}, which is not known")
    if missing := [name for name, (_, optional) in fields.items() if name not in given and not optional]:
        raise ValueError(f"{place} lacks {missing[0]!r}")
    return kind(**{name: _decoded(item, fields[name][0], f"{place}.{name}") for name, item in given.items()})


def _typed(value: Any, kind: type[Any], place: str) -> Any:
    # A bool is an int to Python, not to a document.
    if type(value) is not kind:
        raise ValueError(f"{place} is {type(value).__name__}, not {kind.__name__}")
    return value


def _real(value: Any, place: str) -> float:
    if isinstance(value, str) and value in _WORDS:
        return float(_WORDS[value])
    if type(value) not in (int, float):
        raise ValueError(f"{place} holds {value!r}, which is no number")
    return float(value)


def _array(value: Any, scalar: type[Any], place: str) -> Any:
    if scalar is np.complex128:
        parts = _typed(value, dict, place)
        real, imag = (_array(parts[name], np.float64, place) for name in ("real", "imag"))
        if real.size != imag.size:
            raise ValueError(f"{place} has {real.size} real parts and {imag.size} imaginary ones")
        # Written part by part: a sum would turn a negative zero positive.
        whole = np.empty(real.size, dtype=np.complex128)
        whole.real, whole.imag = real, imag
        return whole
    items = _typed(value, list, place)
    if scalar is np.float64:
        if items and type(items[0]) is list:
            return np.stack([_row(item, place) for item in items])
        return _row(items, place)
    kind = bool if scalar is np.bool_ else int
    if not _all_of(items, kind):
        for item in items:
            _typed(item, kind, place)
    return np.array(items, dtype=scalar)


def _row(value: Any, place: str) -> Any:
    items = _typed(value, list, place)
    if not _all_of(items, float, int):  # words among them, or what is no number
        items = [_real(item, place) for item in items]
    return np.array(items, dtype=np.float64)


def _all_of(items: list[Any], *kinds: type[Any]) -> bool:
    """Whether all are of some types exactly; in one pass, for arrays are most of a document."""
    return {*map(type, items)} <= {*kinds}


def _matrix(value: Any, place: str) -> sp.csr_matrix:
    parts = _typed(value, dict, place)
    rows, columns = (int(_typed(size, int, place)) for size in _typed(parts["shape"], list, place))
    if not (0 <= rows <= SIZE_MAX and 0 <= columns <= SIZE_MAX):
        raise ValueError(f"{place} is {rows} by {columns}, the limit {SIZE_MAX}")
    row, column = (_array(parts[name], np.int64, place) for name in ("row", "column"))
    data = _array({"real": parts["real"], "imag": parts["imag"]}, np.complex128, place)
    if not row.size == column.size == data.size:
        raise ValueError(f"{place} has {row.size} rows, {column.size} columns and {data.size} values")
    if row.size and not (min(row.min(), column.min()) >= 0 and row.max() < rows and column.max() < columns):
        raise ValueError(f"{place} has an entry outside of its shape")
    return sp.csr_matrix((data, (row, column)), shape=(rows, columns))


def _network_v1(text: dict[str, Any]) -> Network:
    count, terminals = len(text["nodes"]), text["branches"]

    def matrix(triplets: dict[str, Any], rows: int) -> sp.csr_matrix:
        return _matrix({**triplets, "shape": [rows, count]}, "matrix")

    return Network(
        name=_typed(text["name"], str, "name"),
        nodes=_decoded(text["nodes"], tuple[str, ...], "nodes"),
        phase=_array(text["phase"], np.int64, "phase"),
        base_kva=_real(text["base_kva"], "base_kva"),
        base_kv=_array(text["base_kv"], np.float64, "base_kv"),
        admittance=matrix(text["admittance"], count),
        source=_array(text["source"], np.int64, "source"),
        source_voltage=np.array([_decoded(pair, complex, "source_voltage") for pair in text["source_voltage"]]),
        v_min=_array(text["v_min"], np.float64, "v_min"),
        v_max=_array(text["v_max"], np.float64, "v_max"),
        branches=Branches(
            element=_decoded(terminals["element"], tuple[str, ...], "branches.element"),
            node=_array(terminals["node"], np.int64, "branches.node"),
            current_rows=matrix(terminals["current_rows"], len(terminals["node"])),
            rating_pu=_array(["inf" if r is None else r for r in terminals["rating_pu"]], np.float64, "rating_pu"),
            kind=_array(terminals["kind"], np.int64, "branches.kind"),
        ),
    )
