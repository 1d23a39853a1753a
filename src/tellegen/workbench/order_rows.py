"""Orders, agreements and reference prices as outsiders hand them in: rows of text under the names of columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from tellegen.errors import InputError
from tellegen.grid import Network
from tellegen.grid.connections import Connector
from tellegen.grid.network import IntArray
from tellegen.market import NOT_ENERGISED, Agreements, OrderBook, References
from tellegen.records import Product, Side

ROWS_MAX = 1_000_000
QUANTITY_KW_MAX = 1e9
PRICE_MAX = 1e6
KVAR_PER_KW_MAX = 1e3
SLOPE_MAX = 1e6
COLUMNS = ("participant", "node", "phases", "product", "side", "price", "quantity_kw", "kvar_per_kw", "slope")
REQUIRED_COLUMNS = ("participant", "node", "product", "side", "price", "quantity_kw")
LIMIT_COLUMNS = (
    "import_kw", "export_kw", "firm_import_kw", "firm_export_kw", "energy_up_kwh", "energy_down_kwh",
)  # fmt: skip
AGREEMENT_COLUMNS = ("participant", "node", "phases", *LIMIT_COLUMNS)
REFERENCE_COLUMNS = ("participant", "product", "price")
Rows: TypeAlias = Iterable[tuple[int, Mapping[str, str]]]
"""Of each row the number by which errors and awards call it, and its text by column; every known column is there."""
_PRODUCTS = {product.name.lower(): product for product in Product}
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


@dataclass(frozen=True, slots=True, eq=False)
class OrderFile:
    """Orders that were handed in: the book, and what its rows were called.

    Attributes
    ----------
    book : the orders in the engine's units.
    row : int64[n], where each order stood: the line of a file (the header is line 1), the position in a frame.
    participant, node, phases : as they were written.
    connector : found the places; `book.participant` counts `participants` in the order in which they first stood.
    """

    book: OrderBook
    row: IntArray
    participant: tuple[str, ...]
    node: tuple[str, ...]
    phases: tuple[str, ...]
    connector: Connector

    @property
    def participants(self) -> tuple[str, ...]:
        """Names of the participants, each once, as `book.participant` counts them."""
        return tuple(dict.fromkeys(self.participant))

    @property
    def number(self) -> dict[str, int]:
        """How `book.participant` counts each participant."""
        return {name: k for k, name in enumerate(self.participants)}


class _Order(NamedTuple):
    """One row in the engine's units; a price of NaN is a price-taker's."""

    place: int
    side: Side
    price: float
    quantity_kw: float
    kvar_per_kw: float
    slope: float
    product: Product


class _RowError(Exception):
    """A field of the row at hand cannot stand; the reader adds where that row is."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(field, problem)


@contextmanager
def _at(source: object, line: int) -> Iterator[None]:
    try:
        yield
    except _RowError as refused:
        place = f"row {line}, {refused.field}" if refused.field else f"row {line}"
        raise InputError(source, place, refused.problem) from None


def orders_of(source: object, rows: Rows, network: Network) -> OrderFile:
    """Orders from rows of text under `COLUMNS`; `source` is what errors call them.

    Raises
    ------
    InputError : names source, row and field, and what would be right; there is no row, or there are too many.
    """
    connector = Connector(network)
    orders: list[_Order] = []
    lines: list[int] = []
    texts: list[Mapping[str, str]] = []
    seen: dict[tuple[str, ...], int] = {}
    last: dict[tuple[str, ...], tuple[int, float]] = {}
    for line, row in rows:
        if len(lines) == ROWS_MAX:
            raise InputError(source, f"row {line}", f"is beyond the {ROWS_MAX} orders that are read")
        with _at(source, line):
            order = _order(connector, row)
            _check_new(line, row, seen)
            _check_monotone(line, row, order, last)
        orders.append(order)
        lines.append(line)
        texts.append(row)
    if not orders:
        raise InputError(source, "the table", f"holds no orders; give a row each under {','.join(COLUMNS)}")
    place, side, price, quantity, kvar, slope, product = zip(*orders, strict=True)
    names, nodes, phases = (tuple(row[name] for row in texts) for name in ("participant", "node", "phases"))
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    book = OrderBook.of(
        place,
        side,
        price,
        quantity,
        kvar_per_kw=kvar,
        slope=slope,
        product=product,
        participant=[number[name] for name in names],
        connections=connector.table(),
    )
    return OrderFile(book, np.array(lines, dtype=np.int64), names, nodes, phases, connector)


def agreements_of(source: object, rows: Rows, orders: OrderFile) -> Agreements:
    """Connection agreements from rows of text under `AGREEMENT_COLUMNS`; an empty limit is none.

    Participants without an order are left out: there is nothing of theirs to limit. The connections of `orders` may
    grow by the places that agreements name; take `orders.connector.table()` for the book afterwards.

    Raises
    ------
    InputError : names source, row and field, and what would be right.
    """
    number, found = orders.number, []
    for line, row in rows:
        with _at(source, line):
            place = _place(orders.connector, row["node"], row["phases"])
            limits = [_limit(name, row[name]) for name in LIMIT_COLUMNS]
        if row["participant"] in number and place != NOT_ENERGISED:
            found.append((number[row["participant"]], place, *limits))
    who, where, *columns = np.array(found, dtype=np.float64).reshape(-1, 2 + len(LIMIT_COLUMNS)).T
    given = dict(zip(LIMIT_COLUMNS, columns, strict=True))
    return Agreements.of(who.astype(np.int64), where.astype(np.int64), **given)


def references_of(source: object, rows: Rows, orders: OrderFile) -> References:
    """Reference prices from rows of text under `REFERENCE_COLUMNS`; participants without an order are left out.

    Raises
    ------
    InputError : names source, row and field, and what would be right.
    """
    number = orders.number
    known: dict[tuple[int, int], float] = {}
    for line, row in rows:
        with _at(source, line):
            product, price = _product(row["product"]), _number("price", row["price"], PRICE_MAX)
            key = (number.get(row["participant"], -1), int(product))
            if key in known:
                raise _RowError("", f"names {row['participant']} and {row['product']} again")
        if key[0] >= 0:
            known[key] = price
    return References.of([who for who, _ in known], [what for _, what in known], list(known.values()))


def _order(connector: Connector, row: Mapping[str, str]) -> _Order:
    if not row["participant"]:
        raise _RowError("participant", "is empty; every order names who stands behind it")
    place = _place(connector, row["node"], row["phases"])
    product, side = _product(row["product"]), _SIDES.get(row["side"].lower())
    if side is None:
        raise _RowError(f"side '{row['side']}'", "must be buy or sell")
    price = math.nan if row["price"] == "" else _number("price", row["price"], PRICE_MAX)
    quantity = _number("quantity_kw", row["quantity_kw"], QUANTITY_KW_MAX)
    if quantity < 0:
        raise _RowError(f"quantity_kw {row['quantity_kw']}", "is negative; a sell order injects")
    kvar = _number("kvar_per_kw", row["kvar_per_kw"] or "0", KVAR_PER_KW_MAX)
    if kvar and product != Product.ENERGY:
        raise _RowError("kvar_per_kw", f"must be empty: it goes with energy, and the order is for {row['product']}")
    slope = _number("slope", row["slope"] or "0", SLOPE_MAX)
    if slope < 0 or (slope and math.isnan(price)):
        raise _RowError(f"slope {row['slope']}", "must be empty or positive, and belongs to an order with a price")
    return _Order(place, side, price, quantity, kvar, slope, product)


def _place(connector: Connector, node: str, phases: str) -> int:
    """Where an order is connected, as `OrderBook.node` counts it."""
    if node in connector.network.not_energised:
        return NOT_ENERGISED
    try:
        return connector.place(node, "" if phases == "0" else phases)
    except ValueError as refused:
        raise _RowError(f"node '{node}'", str(refused)) from None


def _limit(name: str, text: str) -> float:
    value = math.inf if text == "" else _number(name, text, QUANTITY_KW_MAX)
    if value < 0:
        raise _RowError(f"{name} {text}", "is negative; leave it empty for no limit")
    return value


def _product(text: str) -> Product:
    if text.lower() not in _PRODUCTS:
        raise _RowError(f"product '{text}'", f"must be one of {', '.join(_PRODUCTS)}")
    return _PRODUCTS[text.lower()]


def _number(name: str, text: str, limit: float) -> float:
    try:
        # float() reads underscores and other scripts' digits, which no spreadsheet means.
        value = float(text if text.isascii() and "_" not in text else "")
    except ValueError:
        raise _RowError(f"{name} '{text}'", "is not a number") from None
    if not math.isfinite(value):
        raise _RowError(f"{name} '{text}'", "must be finite")
    if abs(value) > limit:
        raise _RowError(f"{name} {text}", f"is beyond the limit of {limit:g}")
    return value


def _check_new(line: int, row: Mapping[str, str], seen: dict[tuple[str, ...], int]) -> None:
    first = seen.setdefault(tuple(row[name] for name in COLUMNS), line)
    if first != line:
        raise _RowError("", f"repeats row {first}; give one row with the quantity of both")


def _check_monotone(
    line: int, row: Mapping[str, str], order: _Order, last: dict[tuple[str, ...], tuple[int, float]]
) -> None:
    if math.isnan(order.price):
        return
    place = (row["node"], row["phases"])
    curve = (row["participant"], *place, row["product"].lower(), row["side"].lower(), row["kvar_per_kw"])
    before = last.get(curve)
    if before is not None and (order.price - before[1]) * order.side > 0:
        rule = "fall for a buyer" if order.side == Side.BUY else "rise for a seller"
        raise _RowError(f"price {order.price:g}", f"follows {before[1]:g} in row {before[0]}: steps must {rule}")
    last[curve] = (line, order.price - order.side * order.slope * order.quantity_kw)
