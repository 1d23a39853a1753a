"""Parquet as the text that a CSV file would hold: unpacked in a process whose memory is bounded.

A few hundred kilobytes of Parquet may stand for any number of bytes, in rows or in one row; the file's own words about
its size are the maker's. The process reads it with Polars, which works with threads: they are started first, then all
of them give up files, sockets and processes; its memory and time are limited.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import polars as pl

from tellegen.errors import InputError
from tellegen.foreign.confined import MIB, Confined, Limits

COLUMNS_MAX = 64
MEMORY_BYTES = 4096 * MIB
"""Address space, 0.8 GiB of which Polars takes before it reads."""
TEXT_BYTES_MAX = 768 * MIB


def text_of_parquet(
    content: bytes, source: object, rows_max: int, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """All columns, or those that are named and there, as text; what is null is empty.

    Raises
    ------
    InputError : it is no Parquet, has more rows, a column that has no text, or takes too much memory or time.
    """
    limits = Limits(
        memory_bytes=MEMORY_BYTES,
        request_bytes=len(content) + MIB,
        answer_bytes=TEXT_BYTES_MAX,
        threads=True,
    )
    head = json.dumps({"rows": rows_max, "columns": columns}).encode()
    with Confined("tellegen.foreign.parquet:answer_parquet", str(source), "Polars", limits) as process:
        text = process.ask(b"\n".join((head, content)))
    try:
        return pl.read_csv(io.BytesIO(text), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise InputError(source, "the file", f"has no table that is text: {error}".splitlines()[0]) from None


def answer_parquet() -> Callable[[bytes], bytes]:
    """Get ready: threads are started while memory is there, modules loaded while files may be opened."""
    first = io.BytesIO()
    table = pl.DataFrame({"a": ["1"], "f": [1.5], "b": [b"1"], "c": [None], "t": [datetime(2016, 1, 1, tzinfo=UTC)]})
    table.write_parquet(first)
    unpacked(first.getvalue(), 1, None).write_csv().encode()
    for broken in (b"", first.getvalue()[:-4] + b"PAR2", b"PAR1" + first.getvalue()[40:]):
        with suppress(InputError):
            unpacked(broken, 1, None)

    def answer(request: bytes) -> bytes:
        head, _, content = request.partition(b"\n")
        said = json.loads(head)
        return unpacked(content, said["rows"], said["columns"]).write_csv().encode()

    return answer


def unpacked(content: bytes, rows_max: int, columns: Sequence[str] | None) -> pl.DataFrame:
    """The table as text, in this process; rows are counted before they are read."""
    try:
        schema = pl.read_parquet_schema(io.BytesIO(content))
        names = [name for name in schema if columns is None or name in columns]
        if not names:
            wanted = "none" if columns is None else f"none of {', '.join(columns)}"
            raise InputError("", "columns", f"are missing: there is {wanted}")
        if len(names) > COLUMNS_MAX:
            raise InputError("", f"{len(names)} columns", f"are more than the {COLUMNS_MAX} that are read")
        count = pl.scan_parquet(io.BytesIO(content)).select(pl.len()).collect().item()
        if count > rows_max:
            raise InputError("", f"{count} rows", f"are more than the {rows_max} that are read; split the file")
        frame = pl.read_parquet(io.BytesIO(content), columns=names)
        return frame.select(_as_text(name, dtype) for name, dtype in frame.schema.items())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:  # a panic: damaged pages
        raise InputError("", "the file", f"is not readable Parquet: {error}".splitlines()[0]) from None


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as the text that a CSV file would hold; a number's shortest text gives the same number back."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            raise InputError("", f"column '{name}'", "has no time zone; store it as UTC")
        return column.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Null, pl.Categorical)):
        raise InputError("", f"column '{name}'", f"is of type {dtype}; store numbers, text or UTC timestamps")
    if dtype.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < 10**12)
        return (
            pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(column.cast(pl.String))
        )
    return column.cast(pl.String)
