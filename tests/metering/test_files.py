"""Load profiles from files: good rows land, bad rows say where, what and how to put it right."""

import io
import resource
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.foreign.parquet import unpacked
from tellegen.metering import profile_of
from tellegen.metering.coded_readings import read_coded
from tellegen.metering.files import read_csv, read_parquet, read_profile
from tellegen.records import Readings

HEADER = "meter,end,minutes,import,export,import_register,unit,ratio,tag\n"


def csv(*rows: str, header: str = HEADER) -> bytes:
    return (header + "".join(f"{row}\n" for row in rows)).encode()


GOOD = "7,2026-01-01T00:15:00Z,15,1.25,0,,kWh,,"
FAULTS = {
    "seven,2026-01-01T00:15:00Z,15,1,0,,kWh,,": ("meter", "'seven' is not a number"),
    "7,2026-01-01T00:15:00,15,1,0,,kWh,,": ("end", "has no time zone; write 2026-01-01T00:15:00Z if it is UTC"),
    "7,1.1.2026 00:15,15,1,0,,kWh,,": ("end", "is not a time"),
    "7,2026-02-30T00:15:00Z,15,1,0,,kWh,,": ("end", "is not a time"),
    "7,2026-01-01T00:15:00Z,15,1.2345,0,,kWh,,": ("import", "is not a whole number of Wh"),
    "7,2026-01-01T00:15:00Z,15,,0.0005,,kWh,,": ("export", "is not a whole number of Wh"),
    '7,2026-01-01T00:15:00Z,15,"1,5",0,,kWh,,': ("import", "has a decimal comma; write a point"),
    "7,2026-01-01T00:15:00Z,15,1e3,0,,kWh,,": ("import", "is not a number"),
    "7,2026-01-01T00:15:00Z,15,٣,0,,kWh,,": ("import", "is not a number"),
    "7,2026-01-01T00:15:00Z,15,3000,0,,MWh,,": ("import", "is out of range"),
    "7,2026-01-01T00:15:00Z,15,,,,kWh,,": ("the row", "holds no quantity"),
    "7,2026-01-01T00:15:00Z,15,1,0,,J,,": ("unit", "'J' is not known; write Wh, kWh or MWh"),
    "7,2026-01-01T00:15:00Z,15,1,0,,kWh,0,": ("ratio", "is not positive"),
    "7,2026-01-01T00:15:00Z,15,1,0,,kWh,,beef": ("tag", "write 32 hex digits"),
    "7,2026-01-01T00:15:00Z,15,1,0": ("the row", "has 5 fields, the header 9"),
}


@pytest.mark.parametrize(("row", "said"), FAULTS.items())
def test_a_bad_row_is_named_and_the_good_ones_land(row: str, said: tuple[str, str]) -> None:
    found = read_csv(csv(GOOD, row, GOOD))
    assert found.rows.line.tolist() == [2, 4]
    assert found.rows.value[0].tolist() == [1250, 1250]
    (rejection,) = found.rejections
    assert (rejection.line, rejection.field, found.rejected) == (3, said[0], 1)
    assert said[1] in str(rejection)


def test_units_zones_marks_and_line_ends() -> None:
    """A byte order mark, CRLF, semicolons with decimal commas, blank lines, offsets: one meaning."""
    plain = read_csv(csv("7,2026-01-01T00:15:00Z,15,1500,,,Wh,,", "7,2026-01-01T00:30:00Z,15,20000,,,wh,1,"))
    text = "meter;end;minutes;import;unit\r\n\r\n7;2026-01-01 01:15+0100;15;1,5;kWh\r\n"
    text += "7;2025-12-31T19:30:00-05:00;15;0,02;MWh\r\n"
    other = read_csv(b"\xef\xbb\xbf" + text.encode())
    assert not other.rejections
    for column in ("meter", "end_s", "length_s", "value", "ratio"):
        assert np.array_equal(getattr(plain.rows, column), getattr(other.rows, column)), column
    assert other.rows.line.tolist() == [3, 4]


def test_start_and_end_of_an_interval_are_told_apart() -> None:
    start = read_csv(csv("7,2026-01-01T00:00Z,15,5", header="meter,start,minutes,import\n"))
    end = read_csv(csv("7,2026-01-01T00:15Z,15,5", header="meter,end,minutes,import\n"))
    assert start.rows.end_s.tolist() == end.rows.end_s.tolist()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("meter,end,import,import\n", "stands in the header twice"),
        ("meter,end,power\n", "column 'power' is not known"),
        ("meter,start,import\n", "start without minutes"),
        ("meter,import\n", "needs meter and either start or end"),
        ("meter,end,unit\n", "names no quantity"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(header: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_csv(csv("7,2026-01-01T00:15Z,1", header=header))


def test_whole_files_that_cannot_be_read() -> None:
    for content, said in ((b"", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), (HEADER.encode(), "holds no rows")):
        with pytest.raises(InputError, match=said):
            read_csv(content)
    with pytest.raises(InputError, match="not readable Parquet"):
        read_parquet(b"PAR1 no such thing PAR1")


def test_a_tag_is_kept() -> None:
    found = read_csv(csv(f"7,2026-01-01T00:15:00Z,15,1,0,,kWh,,{'0a' * 16}"))
    assert found.rows.tag.tobytes() == b"\x0a" * 16


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def test_parquet_holds_the_same_columns_in_types_of_its_own(tmp_path: Path) -> None:
    times = [datetime(2026, 1, 1, 0, 15 * k, tzinfo=UTC) for k in (1, 2, 3)]
    frame = pl.DataFrame({"meter": [7, 7, None], "end": times, "import": [1.25, 2.0, 3.0], "unit": ["kWh"] * 3})
    file = tmp_path / "profile.parquet"
    file.write_bytes(parquet(frame))
    found = read_profile(file)
    assert found.rows.value[0].tolist() == [1250, 2000]
    assert [str(rejection) for rejection in found.rejections] == [
        "row 3, meter '' is not a serial number; write digits, 1 or more"
    ]
    with pytest.raises(InputError, match="column 'end' has no time zone"):
        read_parquet(parquet(frame.with_columns(pl.col("end").dt.replace_time_zone(None))))


@pytest.mark.parametrize("rows", [0, 3])
def test_parquet_of_columns_of_other_things_or_none_is_refused(rows: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="columns are missing"):
        read_parquet(parquet(pl.DataFrame()))
    path = tmp_path / "readings.parquet"
    path.write_bytes(parquet(pl.DataFrame({"other": ["x"] * rows}, schema={"other": pl.String})))
    with pytest.raises(InputError, match="columns are missing: there is none of"):
        read_coded(path)
    with pytest.raises(InputError):
        read_parquet(parquet(pl.DataFrame({"": ["x"] * rows}, schema={"": pl.String})))


@given(st.text(max_size=120))
@settings(max_examples=60, deadline=None)  # the first use of Polars, and each of its panics, takes its time
def test_any_text_is_read_or_refused_in_one_way(text: str) -> None:
    for content in (text.encode("utf-8", "replace"), (HEADER + text).encode("utf-8", "replace")):
        try:
            said = [str(rejection) for rejection in read_csv(content).rejections]
        except InputError as refused:
            said = [str(refused)]
        assert not any("\n" in line for line in said)


@given(st.data())
@settings(max_examples=60, deadline=None)  # the first use of Polars, and each of its panics, takes its time
def test_damaged_parquet_is_read_or_refused(data: st.DataObject) -> None:
    frame = pl.DataFrame({"meter": [7, 8] * 50, "end": ["2026-01-01T00:15Z"] * 100, "import": [1, 2] * 50})
    content = bytearray(parquet(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    # As it is read in a process of its own; there, a panic ends that process at most.
    try:
        frame = unpacked(bytes(content), 100, None)
    except InputError:
        return
    assert frame.height <= 100
    assert set(frame.dtypes) <= {pl.String}


@pytest.mark.parametrize("name", ["rows", "bytes"])
def test_parquet_that_unpacks_without_end_is_refused_with_little_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes stand for 20 million rows, or for 1,500 rows of a megabyte each."""
    monkeypatch.setattr("tellegen.foreign.parquet.MEMORY_BYTES", 1536 * 2**20)
    rows = {"rows": 20_000_000, "bytes": 1_500}[name]
    long = {"rows": "1", "bytes": "1" * 1_000_000}[name]
    text = pl.repeat(long, rows, eager=True)
    number = pl.repeat(1, rows, dtype=pl.Int64, eager=True)
    names = ["interval", *(spec.name for spec in fields(Readings) if spec.name != "tag")]
    file = tmp_path / "bomb.parquet"
    pl.DataFrame({n: number for n in names} | {"tag": text}).write_parquet(file, statistics=False)
    assert file.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="rows" if name == "rows" else "memory|more than it may") as refusal:
        read_coded(file)
    assert len(str(refusal.value).splitlines()) == 1
    assert str(refusal.value).startswith(str(file))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_thousand_meters_and_a_day_are_read_as_columns() -> None:
    rows = [f"{m},2026-01-01T{k // 4:02d}:{k % 4 * 15:02d}:00Z,15,{m + k}" for m in range(1, 101) for k in range(96)]
    found = read_csv(csv(*rows, header="meter,start,minutes,import\n"))
    profile, repeats = profile_of(found.rows)
    assert profile.shape == (100, 96)
    assert profile.channels[0].value[3].tolist() == [4 + k for k in range(96)]
    assert not repeats.size
