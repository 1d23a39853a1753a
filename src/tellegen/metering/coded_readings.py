"""Readings with their meters' codes from CSV and Parquet files, as head-ends export them; a bad row is named.

One layout for both: a header, then a row per reading: ``interval`` (market interval that it closes) and the columns of
`records.Readings`, `tag` as 32 hex digits (in Parquet also as 16 bytes).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl

from tellegen.errors import InputError
from tellegen.foreign.parquet import text_of_parquet
from tellegen.foreign.regular import regular_bytes
from tellegen.metering.files import FILE_BYTES_MAX, REJECTIONS_MAX, ROWS_MAX, Rejection
from tellegen.records import Readings

INTEGERS = ("interval", *(spec.name for spec in fields(Readings) if spec.name != "tag"))
LAYOUT = ",".join((*INTEGERS, "tag"))
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class CodedFile:
    """What a file held: good rows by market interval, ascending; of the others the first few, and how many."""

    readings: dict[int, Readings]
    rejections: tuple[Rejection, ...]
    rejected: int

    def batches(self) -> Iterator[tuple[int, Readings]]:
        """Interval and at most `BATCH_ROWS` of its readings, in order."""
        for interval, readings in self.readings.items():
            for start in range(0, len(readings), BATCH_ROWS):
                yield interval, readings.take(np.arange(start, min(start + BATCH_ROWS, len(readings))))


def read_coded(path: Path) -> CodedFile:
    """Read coded readings: Parquet where the name ends in ``.parquet``, CSV otherwise.

    Raises
    ------
    InputError : the file as a whole cannot be read; bad rows are in `CodedFile.rejections`.
    """
    content = regular_bytes(path, FILE_BYTES_MAX)
    try:
        if path.suffix.lower() == ".parquet":
            frame = text_of_parquet(content, path, ROWS_MAX, (*INTEGERS, "tag"))
        else:
            frame = pl.read_csv(io.BytesIO(content), infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(path, "the file", f"is no table: {str(error).splitlines()[0]}") from None
    missing = [name for name in (*INTEGERS, "tag") if name not in frame.columns]
    if missing:
        raise InputError(path, f"column '{missing[0]}'", f"is missing; the columns are {LAYOUT}")
    if frame.height > ROWS_MAX:
        raise InputError(path, f"{frame.height} rows", f"are more than the {ROWS_MAX} that are read; split the file")
    return _by_interval(frame)


def _by_interval(frame: pl.DataFrame) -> CodedFile:
    kinds = dict.fromkeys(INTEGERS, pl.Int64()) | {"customer": pl.Int32()}
    table = frame.select(
        *(pl.col(name).cast(kind, strict=False) for name, kind in kinds.items()),
        pl.col("tag").str.to_lowercase().str.extract("^([0-9a-f]{32})$", 1),
    )
    bad = table.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    good = table.filter(~bad)
    found = {
        int(interval): _readings(group) for (interval,), group in sorted(good.group_by("interval", maintain_order=True))
    }
    rows = np.flatnonzero(bad)
    return CodedFile(found, tuple(_rejection(table, frame, int(row)) for row in rows[:REJECTIONS_MAX]), rows.size)


def _readings(group: pl.DataFrame) -> Readings:
    columns = {name: group[name].to_numpy() for name in INTEGERS if name != "interval"}
    return Readings(**columns, tag=np.frombuffer(bytes.fromhex("".join(group["tag"])), dtype="V16"))


def _rejection(table: pl.DataFrame, frame: pl.DataFrame, row: int) -> Rejection:
    name = next(name for name, value in zip(table.columns, table.row(row), strict=True) if value is None)
    wanted = "32 hex digits" if name == "tag" else "a whole number"
    return Rejection(row + 2, name, f"{str(frame[name][row])[:40]!r} is not {wanted}", f"give {wanted}")
