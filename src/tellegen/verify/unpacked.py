"""How much does a Parquet file unpack to? Read from its page headers, before anything is unpacked.

A few kilobytes can stand for as many rows as one likes: a constant is a run of any length, and text compresses a
thousandfold. The footer only repeats what the pages say, so it is the pages that are counted: each column's must fill
its place without a gap, each says what it unpacks to and of how many values. Which column a chunk of pages is of, its
place among the columns says, as it does to whoever unpacks it; that its name says the same is required. Encodings in
which a value grows out of the one before it are refused. What is not flat, encrypted or kept in another file is refused
too.

Sources: the Parquet format (parquet.thrift), the compact protocol of Apache Thrift.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from tellegen.verify.report import RefusedError

FOOTER_BYTES_MAX = 1 << 20
PAGE_HEADER_BYTES_MAX = 1 << 16
VALUE_BYTES = 16
"""What a value takes in memory beside the bytes of its page: a number, or a view of a text."""
_MAGIC, _TAIL = b"PAR1", struct.Struct("<I4s")
_DEPTH_MAX = 12
_TRUE, _FALSE, _I8, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_HEADER_OF = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}
_ENCODING_OF = {_DATA_PAGE: 2, _DICTIONARY_PAGE: 2, _DATA_PAGE_V2: 4}
_REPEATED = 2
_ENCODINGS = frozenset({0, 2, 3, 5, 6, 8, 9})
"""All but bit packing, which is out of use, and delta byte arrays, in which a text is a prefix of the one before."""

Value = bool | int | bytes | list["Value"] | dict[int, "Value"]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Rows of a table, and the bytes that some of its columns take in memory."""

    rows: int
    size: int


def unpacked(data: bytes, columns: Collection[str]) -> Unpacked:
    """What a file unpacks to, of which `columns` are read.

    Raises
    ------
    RefusedError : it is no Parquet file, its parts contradict each other, or a column is not flat.
    """
    if len(data) < 2 * len(_MAGIC) + 4 or not data.startswith(_MAGIC):
        raise RefusedError("it is no Parquet file")
    length, magic = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    end = len(data) - _TAIL.size - length
    if magic != _MAGIC or end < len(_MAGIC) or length > FOOTER_BYTES_MAX:
        raise RefusedError(f"its footer has {length} bytes; {FOOTER_BYTES_MAX} of a Parquet file in clear are read")
    footer = _Reader(data, end, len(data) - _TAIL.size).struct()
    leaves = _leaves(_list(footer, 2))
    rows = size = 0
    for group in _list(footer, 4):
        count, chunks = _number(group, 3), _list(group, 1)
        rows += count
        if len(chunks) != len(leaves):
            raise RefusedError(f"a row group has {len(chunks)} columns, its schema {len(leaves)}")
        for leaf, chunk in zip(leaves, chunks, strict=True):
            size += _chunk(data, end, chunk, count, columns, leaf)
    if rows != _number(footer, 3):
        raise RefusedError("its footer counts other rows than its row groups")
    return Unpacked(rows, size)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column that has values: its names from the table down, and whether it is a plain one of the table's own."""

    path: tuple[bytes, ...]
    flat: bool


def _leaves(schema: list[Value]) -> list[_Leaf]:
    """Columns that have values, in their order, which is that of the chunks of every row group."""
    found: list[_Leaf] = []
    names: set[tuple[bytes, ...]] = set()
    # What is open: names, and how many parts are still to come.
    above: list[tuple[tuple[bytes, ...], int]] = []
    for k, element in enumerate(schema):
        inner = _number(element, 5) if _has(element, 5) else 0
        path: tuple[bytes, ...] = ()
        if k:
            if not above:
                raise RefusedError("its schema goes on behind its last column")
            outer, left = above.pop()
            above += [(outer, left - 1)] if left > 1 else []
            name = _field(element, 4)
            if not isinstance(name, bytes):
                raise RefusedError("its schema has a column without a name")
            path = (*outer, name)
            if path in names:
                raise RefusedError("its schema has two columns of one name")
            names.add(path)
        if inner:
            above.append((path, inner))
        elif k:
            wide = _has(element, 2) and _number(element, 2) > VALUE_BYTES
            repeated = _has(element, 3) and _number(element, 3) == _REPEATED
            found.append(_Leaf(path, len(path) == 1 and not wide and not repeated))
        if len(path) > _DEPTH_MAX:
            raise RefusedError("its schema is nested deeper than that of a table")
    if above:
        raise RefusedError("its schema announces more columns than follow")
    return found


def _chunk(data: bytes, end: int, chunk: Value, rows: int, columns: Collection[str], leaf: _Leaf) -> int:
    """What one column of one row group unpacks to; 0 where it is not read."""
    if _has(chunk, 1):
        raise RefusedError("a column of it lies in another file")
    about = _field(chunk, 3)
    path = [part.decode("utf-8", "replace") for part in leaf.path]
    if tuple(_list(about, 3)) != leaf.path:
        raise RefusedError(f"a row group has another column where its schema has {path[0]}")
    if path[0] not in columns:
        return 0
    if not leaf.flat:
        raise RefusedError("a column of it is not flat, or of values of any length")
    first = _number(about, 9)
    at = _number(about, 11) if _has(about, 11) else first
    stop = at + _number(about, 7)
    if not len(_MAGIC) <= at <= first < stop <= end:
        raise RefusedError(f"pages of column {path[0]} lie outside the file")
    size = values = 0
    data_pages_begin = -1
    while at < stop:
        reader = _Reader(data, at, min(stop, at + PAGE_HEADER_BYTES_MAX))
        header = reader.struct()
        kind, inflated, length = (_number(header, k) for k in (1, 2, 3))
        if kind not in _HEADER_OF:
            raise RefusedError(f"column {path[0]} has a page of type {kind}")
        inner = _field(header, _HEADER_OF[kind])
        count, encoding = _number(inner, 1), _number(inner, _ENCODING_OF[kind])
        if encoding not in _ENCODINGS:
            raise RefusedError(f"column {path[0]} has encoding {encoding}, in which little stands for much")
        if kind != _DICTIONARY_PAGE:
            values += count
            data_pages_begin = at if data_pages_begin < 0 else data_pages_begin
        size += inflated + VALUE_BYTES * count
        at = reader.at + length
    if at != stop or values != rows or data_pages_begin != first:
        raise RefusedError(f"pages of column {path[0]} are not those that the footer says")
    return size


class _Reader:
    """Values of the compact protocol between two places of a file."""

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self._data, self.at, self._stop = data, at, stop

    def struct(self, depth: int = 0) -> dict[int, Value]:
        """A struct by its fields, each once."""
        if depth > _DEPTH_MAX:
            raise RefusedError("its headers are nested deeper than those of a Parquet file")
        found: dict[int, Value] = {}
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 0x0F
            field = field + delta if delta else self._signed()
            if field in found:
                raise RefusedError("a header says one thing twice")
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Value:
        if kind in (_TRUE, _FALSE, _I8):
            return self._byte()
        if _I8 < kind <= _I64:
            return self._signed()
        if kind in (_BINARY, _DOUBLE):
            return self._bytes(8 if kind == _DOUBLE else self._count())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 != 0x0F else self._count()
            self._need(count)
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == _MAP:
            if count := self._count():
                self._need(count)
                kinds = self._byte()
                for _ in range(count):
                    self._value(kinds >> 4, depth + 1)
                    self._value(kinds & 0x0F, depth + 1)
            return []
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise RefusedError(f"a header has a value of type {kind}")

    def _need(self, count: int) -> None:
        if count > self._stop - self.at:
            raise RefusedError("a header announces more than follows")

    def _byte(self) -> int:
        self._need(1)
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        self._need(count)
        self.at += count
        return self._data[self.at - count : self.at]

    def _count(self) -> int:
        """A number without sign, of at most 64 bits."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise RefusedError("a header holds a number of more than 64 bits")

    def _signed(self) -> int:
        number = self._count()
        return number >> 1 ^ -(number & 1)


def _has(value: Value, field: int) -> bool:
    return isinstance(value, dict) and field in value


def _field(value: Value, field: int) -> Value:
    if not isinstance(value, dict) or field not in value:
        raise RefusedError(f"a header lacks field {field}")
    return value[field]


def _number(value: Value, field: int) -> int:
    number = _field(value, field)
    if type(number) is not int or number < 0:
        raise RefusedError(f"field {field} of a header is no count")
    return number


def _list(value: Value, field: int) -> list[Value]:
    found = _field(value, field)
    if not isinstance(found, list):
        raise RefusedError(f"field {field} of a header is no list")
    return found
