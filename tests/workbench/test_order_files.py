"""Order files: what a trader may get wrong is named with its row and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.grid.network import Network
from tellegen.market import clear
from tellegen.records import Product
from tellegen.workbench import Feeder, order_rows, orders, read_orders

HEADER = "participant,node,phases,product,side,price,quantity_kw,kvar_per_kw\n"


@pytest.fixture(scope="module")
def network(street: Feeder) -> Network:
    return street.network


def write(folder: Path, text: str) -> Path:
    path = folder / "orders.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_row_by_row(network: Network, tmp_path: Path) -> None:
    text = (
        HEADER + "anna,3,,energy,buy,0.5,2,0.3\n\nanna,3,,Energy,BUY,0.2,1,\nben,6,0,reactive,sell,,4,\n"
        "ben,6,,reserve_up,sell,0.1,3,\nutility,1,,Reserve_Down,buy,,5,\n"
    )
    file = read_orders(write(tmp_path, text), network)
    assert file.row.tolist() == [2, 4, 5, 6, 7]
    assert file.participant == ("anna", "anna", "ben", "ben", "utility")
    assert file.participants == ("anna", "ben", "utility")
    assert file.book.participant.tolist() == [0, 0, 1, 1, 2]
    assert file.node == ("3", "3", "6", "6", "1")
    assert file.book.node.tolist() == [2, 2, 5, 5, 0]
    assert file.book.side.tolist() == [1, 1, -1, -1, 1]
    assert file.book.product.tolist() == [
        Product.ENERGY, Product.ENERGY, Product.REACTIVE, Product.RESERVE_UP, Product.RESERVE_DOWN,
    ]  # fmt: skip
    assert file.book.price[:2].tolist() == [0.5, 0.2]
    assert file.book.price_taker.tolist() == [False, False, True, False, True]
    assert file.book.kvar_per_kw.tolist() == [0.3, 0.0, 0.0, 0.0, 0.0]
    assert len(file.book.connections) == 0


def test_optional_columns_may_be_missing_and_order_is_free(network: Network, tmp_path: Path) -> None:
    text = "\ufeffquantity_kw,price,side,product,node,participant\n2,0.4,sell,energy,5,anna\n"
    file = read_orders(write(tmp_path, text), network)
    assert file.book.node.tolist() == [4]
    assert file.book.quantity_kw.tolist() == [2.0]


@pytest.mark.parametrize(
    ("row", "place", "problem"),
    [
        ("anna,99,,energy,buy,0.5,2,", "row 2, node '99'", "not in the network"),
        ("anna,3,,energy,buy,nan,2,", "row 2, price 'nan'", "finite"),
        ("anna,3,,energy,buy,inf,2,", "row 2, price 'inf'", "finite"),
        ("anna,3,,energy,buy,cheap,2,", "row 2, price 'cheap'", "not a number"),
        ("anna,3,,energy,buy,1_0,2,", "row 2, price '1_0'", "not a number"),
        ("anna,3,,energy,buy,0.5,-2,", "row 2, quantity_kw -2", "negative"),
        ("anna,3,,energy,buy,0.5,,", "row 2, quantity_kw ''", "not a number"),
        ("anna,3,,energy,buy,0.5,1e300,", "row 2, quantity_kw 1e300", "beyond the limit"),
        ("anna,3,,energy,buy,0.5,2,inf", "row 2, kvar_per_kw 'inf'", "finite"),
        ("anna,3,,heat,buy,0.5,2,", "row 2, product 'heat'", "energy, reactive, reserve_up, reserve_down"),
        ("anna,3,,reserve_up,sell,0.5,2,0.1", "row 2, kvar_per_kw", "goes with energy"),
        ("anna,3,,energy,short,0.5,2,", "row 2, side 'short'", "buy or sell"),
        ("anna,3,1.2,energy,buy,0.5,2,", "row 2, node '3'", "phases '1.2', but the network is balanced"),
        ("anna,3,,reactive,buy,0.5,2,0.3", "row 2, kvar_per_kw", "goes with energy"),
        (",3,,energy,buy,0.5,2,", "row 2, participant", "empty"),
        ("anna,3,,energy,buy,0.5,2", "row 2", "7 fields"),
        ("a,3,,energy,buy,0.5,2,\na,3,,energy,buy,0.5,2,", "row 3", "repeats row 2"),
        ("a,3,,energy,buy,0.2,2,\na,3,,energy,buy,0.5,2,", "row 3, price 0.5", "fall for a buyer"),
        ("a,3,,energy,sell,0.5,2,\na,3,,energy,sell,0.2,2,", "row 3, price 0.2", "rise for a seller"),
    ],
)
def test_what_is_wrong_is_named(network: Network, tmp_path: Path, row: str, place: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_orders(write(tmp_path, HEADER + row + "\n"), network)
    assert caught.value.place == place
    assert problem in caught.value.problem
    assert "orders.csv" in caught.value.source


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no rows"),
        (HEADER, "holds no rows"),
        ("participant,node,product,side,quantity_kw\na,3,energy,buy,2\n", "missing"),
        (HEADER.replace("price", "cost"), "missing"),
        (HEADER.strip() + ",colour\n", "not known"),
        (HEADER.strip() + ",price\n", "twice"),
        (HEADER + 'a,3,"x', "not CSV"),
    ],
)
def test_a_file_that_is_no_order_file(network: Network, tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_orders(write(tmp_path, text), network)


def test_files_that_cannot_be_read(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_orders(tmp_path / "nowhere.csv", network)
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\xff\xfe\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_orders(tmp_path / "latin.csv", network)
    path = write(tmp_path, HEADER + "a,3,,energy,buy,0.5,2,\nb,3,,energy,buy,0.5,2,\n")
    monkeypatch.setattr(order_rows, "ROWS_MAX", 1)
    with pytest.raises(InputError, match="beyond the 1 orders"):
        read_orders(path, network)
    monkeypatch.setattr(orders, "FILE_BYTES_MAX", 10)
    with pytest.raises(InputError, match="split the file"):
        read_orders(path, network)


def test_a_linear_piece_falls_or_rises_along_its_quantity(network: Network, tmp_path: Path) -> None:
    """Two pieces of a buyer's curve: from 0.50 to 0.30 over 4 kW, then from 0.30 on; the price is met in between."""
    path = tmp_path / "orders.csv"
    path.write_text(
        "participant,node,product,side,price,quantity_kw,slope\n"
        "anna,1,energy,buy,0.5,4,0.05\nanna,1,energy,buy,0.3,4,0.01\n"
    )
    book = read_orders(path, network).book
    assert book.slope.tolist() == [0.05, 0.01]
    assert clear(network, book, 0.4).award_kw == pytest.approx([2.0, 0.0], abs=1e-5)
    path.write_text(path.read_text().replace("0.3,4,0.01", "0.35,4,0.01"))
    with pytest.raises(InputError, match=r"follows 0\.3 in row 2: steps must fall"):
        read_orders(path, network)
    path.write_text("participant,node,product,side,price,quantity_kw,slope\nanna,1,energy,buy,,4,0.05\n")
    with pytest.raises(InputError, match=r"slope 0\.05 must be empty or positive"):
        read_orders(path, network)
