"""What reserve is asked for stands in a file that a person writes; what cannot stand is one line."""

from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.operations.requirements import read_reserves
from tellegen.records import Product
from tellegen.rules import Rulebook

BOOK = Rulebook.load()
HEADER = "time,product,quantity_kw,price,feeder\n"
NINE = 4_863_276  # 2016-03-26 09:00 UTC


def reserves(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "reserves.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def test_a_row_holds_until_the_next_and_its_own_feeder_comes_first(tmp_path: Path) -> None:
    path = reserves(
        tmp_path,
        "2016-03-26T09:00Z,reserve_up,10,0.04,",
        "2016-03-26T11:00:00+01:00,reserve_up,2.5,0.05,F2",
        "2016-03-26T11:00Z,reserve_up,0,0,",
    )
    said = read_reserves(path, ("F1", "F2"), BOOK)
    asked = {feeder: said.on(feeder, [NINE - 1, NINE, NINE + 12, NINE + 24]) for feeder in ("F1", "F2")}
    assert asked["F1"].interval.tolist() == asked["F2"].interval.tolist() == [NINE, NINE + 12, NINE + 24]
    assert asked["F1"].quantity_w.tolist() == [10_000, 10_000, 0]
    assert asked["F2"].quantity_w.tolist() == [10_000, 2_500, 2_500]
    assert asked["F2"].price_micros.tolist() == [40_000, 50_000, 50_000]
    assert set(asked["F1"].product.tolist()) == {Product.RESERVE_UP}


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    path = reserves(tmp_path, "2016-03-26T09:00Z,reserve_up,10,0.04")
    path.write_text(path.read_text() + "2016-03-26T10:00Z,reserve_up,1")
    assert len(read_reserves(path, ("F1",), BOOK, growing=True).rows) == 1


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("2016-03-26T09:00Z,reserve_up,10", "line 2 has 3 columns, not time, product, quantity_kw, price"),
        ("2016-03-26 9,reserve_up,10,1", "line 2, time '2016-03-26 9' is not ISO 8601"),
        ("2016-03-26T09:00,reserve_up,10,1", "line 2, time '2016-03-26T09:00' has no offset"),
        ("2016-03-26T09:01Z,reserve_up,10,1", "is not at a whole five minutes"),
        ("2016-03-26T09:00Z,energy,10,1", "line 2, product 'energy' is none of reserve_up, reserve_down"),
        ("2016-03-26T09:00Z,reserve_up,-1,1", "line 2, quantity_kw '-1' is not a decimal number"),
        ("2016-03-26T09:00Z,reserve_up,0.0001,1", "line 2, quantity_kw '0.0001' is not a whole number of 1/1000"),
        ("2016-03-26T09:00Z,reserve_up,1,much", "line 2, price 'much' is not a decimal number"),
        (
            "2016-03-26T09:00Z,reserve_up,1,5.01",
            "is above the rulebook's price cap of 5 per kWh, .*raise price_cap_per_kwh",
        ),
        ("2016-03-26T09:00Z,reserve_up,1,1,F3", "line 2, feeder 'F3' is none of F1"),
        ("2016-03-26T09:00Z,reserve_up,1,1\n2016-03-26T10:00+01:00,reserve_up,2,1,", "line 3 asks for what a line"),
    ],
)
def test_what_cannot_stand_is_one_line(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        read_reserves(reserves(tmp_path, row), ("F1",), BOOK)
    assert "\n" not in str(caught.value)
