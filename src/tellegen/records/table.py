"""Tables: the form in which every fact moves (law 4), and their canonical bytes.

A table is a frozen dataclass of equal-length NumPy arrays. Each column declares its little-endian
dtype, unit and meaning once; from that follow the canonical bytes of a row (its columns in order,
packed, little-endian), which is what is hashed, encrypted and signed. A column of a subarray dtype
such as ``(14,)<i8`` is a matrix with one row of numbers per row of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import TellegenError

NOBODY = -1
"""Subject of a row that concerns no customer: it is public, unsalted and unencrypted."""


class RecordError(TellegenError):
    """A record does not have the form its schema declares."""


def column(dtype: str, unit: str, doc: str) -> Any:
    """Declare a column: NumPy dtype (little-endian; a subarray dtype for a matrix), unit, and what it means."""
    return field(metadata={"dtype": dtype, "unit": unit, "doc": doc})


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Base of all tables.

    `kind` names the schema on record. `subject` names the column with the customer number that a
    row is about; a table without one is public.
    """

    kind: ClassVar[str] = ""
    subject: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        size = None
        for name, want, inner in _layout(type(self)).columns:
            given = getattr(self, name)
            if type(given) is np.ndarray and given.dtype == want and given.ndim and given.shape[1:] == inner:
                exact = given.astype(want)  # a copy: a table is nobody else's to change
            else:
                exact = self._exact(name, given, want, inner)
            if size is None:
                size = len(exact)
            elif len(exact) != size:
                raise RecordError(f"{self.kind}.{name}: {len(exact)} rows, other columns have {size}")
            object.__setattr__(self, name, exact)

    def _exact(self, name: str, values: ArrayLike, want: np.dtype[Any], inner: tuple[int, ...]) -> NDArray[Any]:
        """Values as a column has them, where they fit."""
        given = np.asarray(values)
        if given.size == 0:
            given = given.astype(want).reshape(0, *inner)
        exact = given.astype(want) if given.dtype.kind == want.kind or want.kind in "SV" else None
        if want.kind in "iu" and given.dtype.kind in "iub" and given.dtype != want:
            exact = given.astype(want)
            if not np.array_equal(exact, given):
                raise RecordError(f"{self.kind}.{name}: a value does not fit {want.str}")
        if want.kind == "S" and exact is not None and not np.array_equal(exact.astype(given.dtype), given):
            raise RecordError(f"{self.kind}.{name}: a text is longer than {want.itemsize} bytes")
        if exact is None:
            unit = next(spec.metadata["unit"] for spec in fields(self) if spec.name == name)
            raise RecordError(f"{self.kind}.{name}: {given.dtype} given, {want.str} ({unit}) needed")
        if exact.ndim != 1 + len(inner):
            raise RecordError(
                f"{self.kind}.{name}: {'two dimensions' if inner else 'one dimension'} needed, {exact.ndim} given"
            )
        if exact.shape[1:] != inner:
            raise RecordError(f"{self.kind}.{name}: rows of {exact.shape[1]} numbers given, {inner[0]} needed")
        return exact

    def __len__(self) -> int:
        return len(getattr(self, _layout(type(self)).names[0]))

    @classmethod
    def row_dtype(cls) -> np.dtype[np.void]:
        """Packed structured dtype of one row: the canonical layout."""
        return _layout(cls).row

    def rows(self) -> NDArray[np.void]:
        """The table as a packed structured array; ``rows().tobytes()`` is canonical."""
        out = np.empty(len(self), dtype=self.row_dtype())
        for name in _layout(type(self)).names:
            out[name] = getattr(self, name)
        return out

    @classmethod
    def from_rows(cls, rows: NDArray[np.void]) -> Self:
        """Inverse of `rows`."""
        layout = _layout(cls)
        if rows.ndim != 1 or rows.dtype != layout.row:
            return cls(**{name: rows[name] for name in layout.names})
        return cls._of(rows[name].copy() for name in layout.names)

    @classmethod
    def _of(cls, columns: Iterable[NDArray[Any]]) -> Self:
        """A table of columns that are as they are declared, and nobody else's."""
        table = object.__new__(cls)
        for name, values in zip(_layout(cls).names, columns, strict=True):
            object.__setattr__(table, name, values)
        return table

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Rebuild a table from canonical bytes.

        Raises
        ------
        RecordError : the length is not a whole number of rows.
        """
        dtype = cls.row_dtype()
        if len(data) % dtype.itemsize:
            raise RecordError(f"{cls.kind}: {len(data)} bytes are not rows of {dtype.itemsize}")
        return cls.from_rows(np.frombuffer(data, dtype=dtype))

    @classmethod
    def empty(cls) -> Self:
        """A table of no rows."""
        return cls.from_bytes(b"")

    @classmethod
    def concat(cls, tables: Sequence[Self]) -> Self:
        """Stack tables of one kind."""
        if not tables:
            return cls.empty()
        return cls._of(np.concatenate([getattr(table, name) for table in tables]) for name in _layout(cls).names)

    def take(self, where: ArrayLike) -> Self:
        """Rows by integer index or boolean mask."""
        index = np.asarray(where)
        if index.ndim != 1:
            raise RecordError(f"{self.kind}: rows are taken by one dimension, {index.ndim} given")
        return self._of(getattr(self, name)[index] for name in _layout(type(self)).names)

    def subjects(self) -> NDArray[np.int64]:
        """Customer number each row is about; `NOBODY` for public rows."""
        if self.subject is None:
            return np.full(len(self), NOBODY, dtype=np.int64)
        return np.asarray(getattr(self, self.subject), dtype=np.int64)

    def equals(self, other: Table) -> bool:
        """Bit-for-bit equality of two tables."""
        return type(self) is type(other) and self.rows().tobytes() == other.rows().tobytes()


@dataclass(frozen=True, slots=True)
class _Layout:
    """Dtype of a row, names of columns, and of each column its name, dtype of its numbers, and their shape in a row."""

    row: np.dtype[np.void]
    names: tuple[str, ...]
    columns: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]


def _layout(schema: type[Table]) -> _Layout:
    """The layout of a schema, made once: a small batch would spend much of its time on it."""
    layout = _LAYOUTS.get(schema)
    if layout is None:
        specs = fields(schema)
        row = np.dtype([(spec.name, spec.metadata["dtype"]) for spec in specs])
        names = tuple(spec.name for spec in specs)
        layout = _Layout(row, names, tuple((name, row[name].base, row[name].shape) for name in names))
        _LAYOUTS[schema] = layout
    return layout


_LAYOUTS: dict[type[Table], _Layout] = {}
