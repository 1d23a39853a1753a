"""Wholesale prices become integers exactly, and where the file says nothing there is no price."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.operations.prices import PriceFile, PriceSeries, read_prices
from tellegen.records import RootPrices
from tellegen.rules import Rulebook
from tellegen.units import interval_at

BOOK = Rulebook.load()
FIRST = interval_at(datetime.fromisoformat("2016-03-26T00:00:00+01:00"))


def real_time(series: PriceSeries, *intervals: int) -> RootPrices:
    """Their prices in real time."""
    return series.of("real_time", [range(interval, interval + 1) for interval in intervals]).prices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def test_an_hourly_price_holds_for_its_twelve_intervals(file: Path):
    file.write_text(
        "time,real_time,day_ahead\n2016-03-26T00:00:00+01:00,0.0837,-0.01\n2016-03-26T01:00:00+01:00,0.09,0.123456\n"
    )
    series = read_prices(file, BOOK)
    assert series.real_time.end == FIRST + 24
    assert real_time(series, FIRST + 11).rows().tolist() == [(FIRST + 11, 83_700, b"prices.csv")]
    assert real_time(series, FIRST + 11, FIRST + 12).micros.tolist() == [83_700, 90_000]
    assert len(real_time(series, FIRST - 1, FIRST + 24)) == 0
    hours = [range(FIRST, FIRST + 12), range(FIRST + 6, FIRST + 18), range(FIRST + 24, FIRST + 36)]
    ahead = series.of("day_ahead", hours).prices
    assert ahead.interval.tolist() == [FIRST, FIRST + 6]
    assert ahead.micros.tolist() == [-10_000, round((-10_000 + 123_456) / 2)]


def test_without_a_column_there_is_no_day_ahead_price(file: Path):
    file.write_text("2016-03-25T23:00Z,0.08\n2016-03-25T23:05Z,0.09")
    series = read_prices(file, BOOK)
    assert real_time(series, FIRST, FIRST + 1).micros.tolist() == [80_000, 90_000]
    assert len(series.of("day_ahead", [range(FIRST, FIRST + 1)]).prices) == 0


def test_a_gap_has_no_price(file: Path):
    """Nothing is carried on: the market then settles at the administrative price."""
    file.write_text("2016-03-25T23:00Z,0.08\n2016-03-25T23:05Z,0.09\n2016-03-25T23:20Z,0.10\n")
    series = read_prices(file, BOOK)
    assert (real_time(series, *range(FIRST, FIRST + 5)).interval - FIRST).tolist() == [0, 1, 4]


def test_a_cell_that_is_left_empty_is_not_said_yet(file: Path):
    """The hours of tomorrow are known the day before, the price in real time is not."""
    file.write_text("2016-03-25T23:00Z,0.08,0.07\n2016-03-26T00:00Z,,0.06\n")
    series = read_prices(file, BOOK)
    assert series.real_time.end == FIRST + 12
    assert series.day_ahead.end == FIRST + 24
    assert len(real_time(series, FIRST + 12)) == 0


def test_a_file_that_grows_is_read_again(file: Path):
    """A line is there with its end: half a number is no price."""
    prices = PriceFile(file, BOOK)
    with pytest.raises(InputError, match=r"prices.csv: price file cannot be read: No such file"):
        prices.refresh()
    file.write_text("2016-03-25T23:00Z,0.08\n2016-03-25T23:05Z,0.0")
    assert prices.refresh()
    assert prices.series.real_time.prices.micros.tolist() == [80_000]
    assert not prices.refresh()
    with file.open("a") as stream:
        stream.write("9\n")
    assert prices.refresh()
    assert prices.series.real_time.prices.micros.tolist() == [80_000, 90_000]
    with file.open("a") as stream:
        stream.write("nonsense\n")
    with pytest.raises(InputError, match="line 3 has 1 columns, not 2 as the rows before"):
        prices.refresh()
    assert not prices.refresh()  # told once
    assert prices.series.real_time.prices.micros.tolist() == [80_000, 90_000]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the table has no prices"),
        ("time,price\n", "line 1 must name the columns time,real_time or time,real_time,day_ahead or time,"),
        ("2016-03-25T23:00Z\n", r"line 1 has 1 columns, not time, real_time\[, day_ahead\]"),
        ("2016-03-25T23:00Z,0.1,0.1\n2016-03-25T23:05Z,0.1\n", "line 2 has 2 columns, not 3 as"),
        ("yesterday,0.1\n", "line 1, time 'yesterday' is not ISO 8601"),
        ("2016-03-25T23:00,0.1\n", "has no offset; add Z"),
        ("2016-03-25T23:01Z,0.1\n", "is not at a whole five minutes"),
        ("2016-03-25T23:00Z,0.1\n2016-03-25T23:00Z,0.1\n", "line 2, time .* is not later than the line before"),
        ("2016-03-25T23:00Z,0.1\n2016-03-25T23:10Z,0.1\n", "are 10 minutes apart; give a price every 5, 15, 30 or 60"),
        ("2016-03-25T23:00Z,1e-1\n", "line 1, real_time '1e-1' is not a decimal number"),
        ("2016-03-25T23:00Z,nan\n", "is not a decimal number"),
        (
            "2016-03-25T23:00Z,83.70\n",
            r"line 1, real_time '83.70' is beyond .*\(-1 to 5 per kWh\); if the file is per MWh",
        ),
        ("2016-03-25T23:00Z,0.08,-42\n", "line 1, day_ahead '-42' is beyond"),
        ("2016-03-25T23:00Z,0.0000001\n", "has more digits than millionths"),
    ],
)
def test_what_is_no_price_is_named_with_its_place_and_remedy(file: Path, text: str, complaint: str):
    file.write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        read_prices(file, BOOK)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(file: Path):
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        read_prices(file, BOOK)


def test_a_cell_that_never_ends_is_named_with_its_line(file: Path):
    file.write_text("2016-03-25T23:00Z,0.1\n2016-03-25T23:05Z," + "1" * 200_000 + "\n")
    with pytest.raises(InputError, match="line 2 is not CSV"):
        read_prices(file, BOOK)


def test_prices_are_whole_numbers(file: Path):
    file.write_text("2016-03-25T23:00Z,0.1\n")
    assert read_prices(file, BOOK).real_time.prices.micros.dtype == np.int64
