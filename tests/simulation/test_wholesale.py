"""Wholesale prices: what may be read, and what is refused."""

import gzip
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.simulation.wholesale import default_prices, read_prices

AEP = Path(__file__).parents[2].parent / "shared" / "data" / "prices" / "aep-rt-lmp-5min-2008-2010.csv.gz"


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def hours(count: int) -> list[str]:
    return [f"2016-05-{7 + h // 24:02d}T{h % 24:02d}:00:00+02:00,{0.01 * (h % 24):.2f}" for h in range(count)]


def test_the_file_s_own_midnight_stands_for_the_day(tmp_path: Path) -> None:
    prices = read_prices(write(tmp_path / "p.csv", hours(48)), date(2016, 5, 8), 288, 1)
    day = prices.real_time_micros[prices.past :]
    assert day[:24].tolist() == [0] * 12 + [10_000] * 12


def test_without_a_day_ahead_column_only_yesterday_is_known(tmp_path: Path) -> None:
    """No agent sees the future: changing the day's own prices leaves its day-ahead prices alone."""
    rows = hours(48)
    before = read_prices(write(tmp_path / "a.csv", rows), date(2016, 5, 8), 288, 1)
    changed = rows[:24] + [row.rsplit(",", 1)[0] + ",9.9" for row in rows[24:]]
    after = read_prices(write(tmp_path / "b.csv", changed), date(2016, 5, 8), 288, 1)
    assert np.array_equal(before.day_ahead_micros, after.day_ahead_micros)
    assert not np.array_equal(before.real_time_micros, after.real_time_micros)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[:30] + r[31:], "row 30 is followed by a gap"),
        (lambda r: [*r[:5], r[4], *r[5:]], "repeats or reverses time"),
        (lambda r: [*r[:5], "2016-05-07T05:00:00+02:00,nan", *r[6:]], "row 6 price 'nan'"),
        (lambda r: [*r[:5], "2016-05-07T05:00:00,0.1", *r[6:]], "has no zone"),
        (lambda r: [*r[:5], "noon,0.1", *r[6:]], "ISO 8601"),
        (lambda r: [*r[:5], "1,2,3,4", *r[6:]], "columns"),
        (lambda r: r[:30], "is not covered"),
        (lambda r: [], "has no rows"),
    ],
)
def test_a_bad_price_file_is_named_by_row(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_prices(write(tmp_path / "p.csv", change(hours(48))), date(2016, 5, 8), 288, 1)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(InputError, match="cannot be read"):
        read_prices(path, date(2016, 5, 8), 288, 1)


def test_compressed_and_plain_files_read_the_same(tmp_path: Path) -> None:
    plain = write(tmp_path / "p.csv", hours(48))
    packed = tmp_path / "p.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, two = (read_prices(p, date(2016, 5, 8), 288, 1) for p in (plain, packed))
    assert np.array_equal(one.real_time_micros, two.real_time_micros)


@pytest.mark.skipif(not AEP.exists(), reason="the AEP price series is not shipped with the product")
def test_five_minute_wholesale_prices_of_2009_are_read_whole() -> None:
    prices = read_prices(AEP, date(2009, 7, 15), 288, 7)
    day = prices.real_time_micros[prices.past :]
    assert len(day) == 288
    assert 16_000 < day.min() < day.max() < 757_001
    with pytest.raises(InputError, match="gap"):  # clocks went back on 2009-11-01: an hour is missing
        read_prices(AEP, date(2009, 11, 2), 288, 7)


def test_the_default_series_depends_on_the_seed_alone() -> None:
    one, two, other = default_prices(1, 288, 8), default_prices(1, 288, 8), default_prices(2, 288, 8)
    assert np.array_equal(one.real_time_micros, two.real_time_micros)
    assert not np.array_equal(one.real_time_micros, other.real_time_micros)
    by_hour = one.day_ahead_micros.reshape(-1, 12)
    assert (by_hour == by_hour[:, :1]).all()


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress("\n".join(hours(48)).encode()))
    whole[12:16] = b"\xff" * 4  # inside the deflate stream, after the ten bytes of gzip's head
    (tmp_path / "p.csv.gz").write_bytes(whole)
    with pytest.raises(InputError, match="cannot be read"):
        read_prices(tmp_path / "p.csv.gz", date(2016, 5, 8), 288, 1)
