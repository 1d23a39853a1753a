"""Orders are the same orders whatever table they come in, and wrong ones are named in one line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.workbench import Feeder, OrderFile, read_orders

GOOD = {"participant": "anna", "node": 3, "product": "energy", "side": "buy", "price": 0.3, "quantity_kw": 2.0}


def same(one: OrderFile, other: OrderFile) -> None:
    for name in ("node", "product", "side", "price", "quantity_kw", "kvar_per_kw"):
        np.testing.assert_array_equal(getattr(one.book, name), getattr(other.book, name), err_msg=name)
    assert one.participant == other.participant
    assert one.node == other.node


def test_polars_pandas_and_dicts_read_as_the_file_does(street: Feeder, orders_file: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with orders_file.open() as stream:
        dicts = list(csv.DictReader(stream))
    expected = read_orders(orders_file, street.network)
    for table in (pl.read_csv(orders_file), pandas.read_csv(orders_file), dicts, tuple(dicts)):
        found = read_orders(table, street.network)
        same(found, expected)
        assert found.row.tolist() == [0, 1, 2, 3, 4, 5]
    assert expected.row.tolist() == [2, 3, 4, 5, 6, 7]


prices = st.one_of(st.none(), st.floats(-1e3, 1e3))
rows = st.lists(
    st.fixed_dictionaries(
        {
            "node": st.integers(1, 6),
            "product": st.sampled_from(["energy", "Energy "]),
            "side": st.sampled_from(["buy", "SELL"]),
            "price": prices,
            "quantity_kw": st.floats(0, 1e6),
            "kvar_per_kw": st.one_of(st.none(), st.floats(-10, 10)),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows)
def test_numbers_survive_the_way_through_text_bit_for_bit(street: Feeder, tmp_path: Path, rows: list[dict]) -> None:
    """A frame holds floats, a file decimal text; both give the same book."""
    table = [{"participant": f"p{k}", **row} for k, row in enumerate(rows)]
    path = tmp_path / "orders.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, table[0].keys())
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in table)
    frame = read_orders(pl.DataFrame(table, schema_overrides={"price": pl.Float64}), street.network)
    same(frame, read_orders(path, street.network))
    assert frame.book.price.tolist() == pytest.approx(
        [np.nan if row["price"] is None else row["price"] for row in rows], rel=0, abs=0, nan_ok=True
    )


def test_an_order_without_a_price_is_a_price_taker(street: Feeder) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    bare = {key: value for key, value in GOOD.items() if key != "price"}
    dearer = {**GOOD, "participant": "ben"}
    for table in ([dearer, {**bare, "price": None}], [dearer, bare], pandas.DataFrame([dearer, bare])):
        assert read_orders(table, street.network).book.price_taker.tolist() == [False, True]


def test_a_whole_number_that_pandas_made_a_float_is_still_a_bus(street: Feeder) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame([GOOD]).astype({"node": float})
    assert read_orders(frame, street.network).node == ("3",)


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        ({"node": 99}, "row 1, node '99'", "not in the network"),
        ({"price": float("nan")}, "row 1, price 'nan'", "finite"),
        ({"price": "dear"}, "row 1, price 'dear'", "not a number"),
        ({"quantity_kw": -1.0}, "row 1, quantity_kw -1.0", "a sell order injects"),
        ({"quantity_kw": None}, "row 1, quantity_kw ''", "not a number"),
        ({"side": "lend"}, "row 1, side 'lend'", "buy or sell"),
        ({"product": "gas"}, "row 1, product 'gas'", "energy, reactive, reserve_up, reserve_down"),
        ({"participant": None}, "row 1, participant", "empty"),
        ({"phases": "1.2"}, "row 1, node '3'", "phases '1.2', but the network is balanced"),
        ({"product": "reserve_up", "kvar_per_kw": 0.1}, "row 1, kvar_per_kw", "goes with energy"),
        ({"price": 0.5}, "row 1, price 0.5", "fall for a buyer"),
        ({}, "row 1", "repeats row 0"),
    ],
)
def test_a_wrong_order_of_a_frame_is_named(street: Feeder, change: dict, place: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_orders([GOOD, {**GOOD, **change}], street.network)
    assert caught.value.source == "orders frame"
    assert caught.value.place == place
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)


def test_a_table_that_holds_no_orders_is_refused(street: Feeder) -> None:
    with pytest.raises(InputError, match="orders frame: column 'product' is missing"):
        read_orders(pl.DataFrame({"participant": ["a"], "node": ["3"]}), street.network)
    with pytest.raises(InputError, match="column 'colour' is not known"):
        read_orders([{**GOOD, "colour": "red"}], street.network)
    with pytest.raises(InputError, match="twice"):
        read_orders([{**GOOD, "Node": 3}], street.network)
    for nothing in ([], pl.DataFrame(schema=list(GOOD))):
        with pytest.raises(InputError, match="holds no orders"):
            read_orders(nothing, street.network)
    for wrong in (7, {"node": 3}, np.zeros(3), [GOOD, 3]):
        with pytest.raises(InputError, match="give a Polars or pandas frame"):
            read_orders(wrong, street.network)
