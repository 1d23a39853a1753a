"""Load profiles from CSV and Parquet files; a bad row is named, the good ones land.

One layout for both: a header, then a row per meter and interval under the names of `COLUMNS`. See docs/metering.md.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tellegen.errors import InputError
from tellegen.foreign.opendss_text import shown
from tellegen.foreign.parquet import text_of_parquet
from tellegen.foreign.regular import regular_bytes
from tellegen.metering.load_profile import DAY_S, INTERVAL_LENGTHS_S, ProfileRows, Unit
from tellegen.metering.runs import BoolArray
from tellegen.units import ROW_LIMIT, IntArray

FILE_BYTES_MAX = 256 * 2**20
ROWS_MAX = 5_000_000
FIELD_CHARACTERS_MAX = 100
REJECTIONS_MAX = 1_000
"""Rejected rows that are described; all are counted."""
VALUES = ("import", "export", "reactive")
REGISTERS = ("import_register", "export_register", "reactive_register")
COLUMNS = ("meter", "start", "end", "minutes", *VALUES, *REGISTERS, "unit", "ratio", "tag")
LAYOUT = ",".join(COLUMNS)
REGISTER_LIMIT = 10**15
"""Wh: no meter counts further, and sums of differences stay exact."""
RATIO_MAX = 1_000_000
_UNITS = {unit.name.lower(): unit for unit in Unit}
_MICRO = 10**6
_NUMBER = r"^([+-]?)([0-9]{1,12})(?:[.,]([0-9]{1,6}))?$"
_TIME = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(Z|z|[+-][0-9]{2}:?[0-9]{2})$"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row was not taken, and what would be right."""

    line: int
    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return " ".join(f"row {self.line}, {self.field} {self.problem}; {self.remedy}".split())


@dataclass(frozen=True, slots=True, eq=False)
class ProfileFile:
    """What a file held.

    Attributes
    ----------
    rows : the good ones.
    rejections : of the others the first `REJECTIONS_MAX`, by line.
    rejected : how many there are in all.
    """

    rows: ProfileRows
    rejections: tuple[Rejection, ...]
    rejected: int


def read_profile(path: str | Path) -> ProfileFile:
    """Read a load profile: Parquet where the name ends in ``.parquet``, CSV otherwise.

    Raises
    ------
    InputError : the file as a whole cannot be read; bad rows are in `ProfileFile.rejections`.
    """
    file = Path(path)
    content = regular_bytes(file, FILE_BYTES_MAX)
    return (read_parquet if file.suffix.lower() == ".parquet" else read_csv)(content, file)


def read_csv(content: bytes, source: object = "CSV") -> ProfileFile:
    r"""Read CSV text, UTF-8 with or without a mark, lines ended in any way.

    Fields are separated by commas, or by semicolons; only with these may a number have a decimal comma.

    >>> found = read_csv(b"meter,end,import,unit\r\n7,2026-01-01T00:15Z,1.5,kWh\r\n7,2026-01-01T00:30,2,kWh\r\n")
    >>> found.rows.value[0].tolist(), str(found.rejections[0])
    ([1500], "row 3, end '2026-01-01T00:30' has no time zone; write 2026-01-01T00:30Z if it is UTC")
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(source, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8") from None
    header_text = text.lstrip("\r\n").split("\n", 1)[0]
    semicolons = header_text.count(";") > header_text.count(",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",", strict=True)
    header: list[str] | None = None
    lines: list[int] = []
    table: list[list[str]] = []
    ragged: list[Rejection] = []
    try:
        for fields in reader:
            if not any(fields):
                continue
            if header is None:
                header = _header(fields, source)
            elif len(fields) != len(header):
                problem = f"has {len(fields)} fields, the header {len(header)}"
                ragged.append(Rejection(reader.line_num, "the row", problem, "give each field its column"))
            else:
                lines.append(reader.line_num)
                table.append(fields)
            if len(lines) > ROWS_MAX:
                raise InputError(source, f"row {reader.line_num}", f"is beyond the {ROWS_MAX} that are read; split it")
    except csv.Error as error:
        raise InputError(source, f"row {reader.line_num}", f"is not CSV: {error}; check its quotes") from None
    if header is None:
        raise InputError(source, "the file", f"is empty; give a header of {LAYOUT}")
    columns = dict(zip(header, zip(*table, strict=True), strict=True)) if table else dict.fromkeys(header, ())
    frame = pl.DataFrame({name: pl.Series(name, column, dtype=pl.String) for name, column in columns.items()})
    return _read(frame, np.array(lines, dtype=np.int64), ragged, "" if semicolons else ",", source)


def read_parquet(content: bytes, source: object = "Parquet") -> ProfileFile:
    """Read Parquet bytes with the columns of the CSV layout; times are UTC timestamps or text, rows count from 1."""
    frame = text_of_parquet(content, source, ROWS_MAX)
    frame.columns = _header(frame.columns, source)
    return _read(frame, np.arange(1, frame.height + 1, dtype=np.int64), [], "", source)


def _header(fields: Sequence[str], source: object) -> list[str]:
    header = [field.strip().lower() for field in fields]
    for name in header:
        if name not in COLUMNS:
            raise InputError(source, f"column {shown(name)}", f"is not known; the header is {LAYOUT}")
        if header.count(name) > 1:
            raise InputError(source, f"column '{name}'", "stands in the header twice; leave one")
    if "meter" not in header or ("start" in header) == ("end" in header):
        raise InputError(source, "the header", f"needs meter and either start or end; it is of {LAYOUT}")
    if "start" in header and "minutes" not in header:
        raise InputError(source, "the header", "has start without minutes; add the length of the interval, or give end")
    if not set(header) & {*VALUES, *REGISTERS}:
        raise InputError(source, "the header", f"names no quantity; give one of {','.join((*VALUES, *REGISTERS))}")
    return header


class _Columns:
    """The columns of a file as text, and which rows have been rejected, why."""

    def __init__(self, frame: pl.DataFrame, lines: IntArray, foreign_mark: str) -> None:
        self.frame = frame.select(pl.all().cast(pl.String).fill_null("").str.strip_chars())
        self.lines, self.foreign_mark = lines, foreign_mark
        self.bad = np.zeros(lines.size, dtype=np.bool_)
        self.rejections: list[Rejection] = []

    def text(self, name: str) -> pl.Series:
        """A column, empty where the file has none."""
        if name in self.frame.columns:
            return self.frame[name]
        return pl.Series(name, [""] * self.lines.size, dtype=pl.String)

    def reject(self, where: BoolArray, name: str, problem: str, remedy: str) -> None:
        """Reject rows, for one reason; `{}` in the texts is the field as written. The first reason is the row's."""
        new = np.flatnonzero(where & ~self.bad)
        self.bad |= where
        room = REJECTIONS_MAX - len(self.rejections)
        texts = self.text(name)
        for row in new[: max(room, 0)].tolist():
            written = texts[row][:FIELD_CHARACTERS_MAX]
            said = problem.replace("{}", written), remedy.replace("{}", written)
            self.rejections.append(Rejection(int(self.lines[row]), name, *said))

    def number(self, name: str, factor: IntArray | int, limit: int, unit: str) -> tuple[IntArray, BoolArray]:
        """Exact multiples of `unit`: the number as written times `factor`; and whether there is one."""
        if name not in self.frame.columns:
            return np.zeros(self.lines.size, dtype=np.int64), np.zeros(self.lines.size, dtype=np.bool_)
        text = self.text(name)
        there = (text != "").to_numpy().copy()
        parts = text.str.extract_groups(_NUMBER).struct.unnest()
        readable = parts["2"].is_not_null().to_numpy() & (text.str.len_chars() < FIELD_CHARACTERS_MAX).to_numpy()
        if self.foreign_mark:
            comma = text.str.contains(",", literal=True).to_numpy() & readable
            self.reject(comma, name, "'{}' has a decimal comma", "write a point, or separate fields by semicolons")
        self.reject(there & ~readable, name, "'{}' is not a number", "write digits with at most 6 decimals")
        whole = parts["2"].fill_null("0").cast(pl.Int64).to_numpy()
        part = parts["3"].fill_null("").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).to_numpy()
        scaled = part * factor
        value = np.where((parts["1"] == "-").fill_null(False).to_numpy(), -1, 1) * (whole * factor + scaled // _MICRO)
        uneven = (scaled % _MICRO != 0) & there
        self.reject(
            uneven, name, f"'{{}}' is not a whole number{unit and ' of '}{unit}", "round it where it is measured"
        )
        self.reject(
            there & (np.abs(value) >= limit),
            name,
            "'{}' is out of range",
            f"write less than {limit}{unit and ' '}{unit}",
        )
        return np.where(there, value, 0), there & ~self.bad

    def time_s(self, name: str) -> IntArray:
        """Seconds since the epoch."""
        text = self.text(name)
        parts = text.str.extract_groups(_TIME).struct.unnest()
        bare = text.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?$").to_numpy()
        self.reject(bare, name, "'{}' has no time zone", "write {}Z if it is UTC")
        zone = parts["4"].str.to_uppercase().str.replace("Z", "+00:00", literal=True).str.replace(":", "", literal=True)
        canonical = parts["1"] + "T" + parts["2"] + parts["3"].fill_null(":00") + zone
        stamp = canonical.str.to_datetime("%Y-%m-%dT%H:%M:%S%z", strict=False, time_unit="ms", time_zone="UTC")
        wrong = stamp.is_null().to_numpy()
        self.reject(wrong, name, "'{}' is not a time", "write ISO 8601 such as 2026-01-01T00:15:00Z")
        return stamp.dt.epoch("s").fill_null(0).to_numpy().astype(np.int64)


def _read(
    frame: pl.DataFrame, lines: IntArray, ragged: list[Rejection], foreign_mark: str, source: object
) -> ProfileFile:
    columns = _Columns(frame, lines, foreign_mark)
    n = lines.size
    meter, has_meter = columns.number("meter", 1, 10**12, "")
    columns.reject(~has_meter | (meter <= 0), "meter", "'{}' is not a serial number", "write digits, 1 or more")
    unit_text = columns.text("unit").str.to_lowercase().str.replace("varh", "wh", literal=True)
    unit = unit_text.replace_strict({"": Unit.WH, **_UNITS}, default=0, return_dtype=pl.Int64).to_numpy()
    columns.reject(unit == 0, "unit", "'{}' is not known", "write Wh, kWh or MWh, for reactive energy varh alike")
    unit = np.where(unit == 0, 1, unit)
    minutes, _ = columns.number("minutes", 1, DAY_S // 60, "minutes")
    at_end = "end" in frame.columns
    odd = (minutes <= 0) if not at_end else (minutes < 0)
    columns.reject(odd, "minutes", "'{}' is no length", f"write {', '.join(str(s // 60) for s in INTERVAL_LENGTHS_S)}")
    time_s = columns.time_s("end" if at_end else "start")
    values = [columns.number(name, unit, ROW_LIMIT, "Wh") for name in VALUES]
    registers = [columns.number(name, unit, REGISTER_LIMIT, "Wh") for name in REGISTERS]
    ratio, has_ratio = columns.number("ratio", 1, RATIO_MAX, "")
    columns.reject(
        has_ratio & (ratio <= 0), "ratio", "'{}' is not positive", "write the transformers' product, 1 or more"
    )
    empty = ~np.logical_or.reduce([has for _, has in (*values, *registers)])
    columns.reject(empty, "the row", "holds no quantity", f"fill one of {','.join((*VALUES, *REGISTERS))}")
    tag = columns.text("tag")
    tagged = (tag != "").to_numpy()
    columns.reject(
        tagged & ~tag.str.contains(r"^[0-9a-fA-F]{32}$").to_numpy(), "tag", "'{}' is not a code", "write 32 hex digits"
    )
    good = np.flatnonzero(~columns.bad)
    tags = bytes(16 * good.size)
    if tagged.any():
        tags = b"".join(bytes.fromhex(text) if text else bytes(16) for text in tag.gather(good).to_list())
    rejections = sorted([*ragged, *columns.rejections], key=lambda rejection: rejection.line)[:REJECTIONS_MAX]
    if not good.size and not rejections:
        raise InputError(source, "the file", f"holds no rows; give a header of {LAYOUT} and a row each")
    rows = ProfileRows(
        line=lines[good],
        meter=meter[good],
        end_s=(time_s + (0 if at_end else minutes * 60))[good],
        length_s=(minutes * 60)[good],
        value=np.stack([value[good] for value, _ in values]).reshape(len(VALUES), good.size),
        has_value=np.stack([has[good] for _, has in values]),
        register=np.stack([value[good] for value, _ in registers]),
        has_register=np.stack([has[good] for _, has in registers]),
        unit=unit[good].astype(np.int64),
        ratio=np.where(has_ratio, ratio, 1)[good],
        tag=np.frombuffer(tags, dtype="V16"),
    )
    return ProfileFile(rows, tuple(rejections), n - good.size + len(ragged))
