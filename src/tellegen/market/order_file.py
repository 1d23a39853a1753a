"""Orders as outsiders hand them in: rows of text under eight column names, from a CSV file or from anywhere else.

Agreements are handed in the same way: one row per participant and place.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.connections import Connector
from tellegen.grid.network import IntArray, Network
from tellegen.market.book import NOT_ENERGISED, OrderBook
from tellegen.market.capability import Agreements
from tellegen.market.market_power import References
from tellegen.records import Product, Side

FILE_BYTES_MAX = 64 * 2**20
ROWS_MAX = 1_000_000
QUANTITY_KW_MAX = 1e9
PRICE_MAX = 1e6
KVAR_PER_KW_MAX = 1e3
COLUMNS = ("participant", "node", "phases", "product", "side", "price", "quantity_kw", "kvar_per_kw", "slope")
OPTIONAL_COLUMNS = ("phases", "kvar_per_kw", "slope")
SLOPE_MAX = 1e6
REQUIRED_COLUMNS = tuple(name for name in COLUMNS if name not in OPTIONAL_COLUMNS)
LIMIT_COLUMNS = (
    "import_kw", "export_kw", "firm_import_kw", "firm_export_kw", "energy_up_kwh", "energy_down_kwh",
)  # fmt: skip
REFERENCE_COLUMNS = ("participant", "product", "price")
AGREEMENT_COLUMNS = ("participant", "node", "phases", *LIMIT_COLUMNS)
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


class _RowError(Exception):
    """A field of the row at hand cannot stand; the reader adds where that row is."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(field, problem)


def read_orders_csv(path: str | Path, network: Network) -> OrderFile:
    """Read the order file of `tellegen clear`.

    Columns ``participant,node,phases,product,side,price,quantity_kw,kvar_per_kw``; `phases`, `price` and
    `kvar_per_kw` may be empty, and the columns `phases` and `kvar_per_kw` may be missing. An empty price is a
    price-taker. Rows of one participant at one node, product and side are the steps of its curve, dearest first
    for a buyer, cheapest first for a seller. Orders at a bus that no source feeds are read and get nothing.

    Parameters
    ----------
    path : the file, UTF-8.
    network : names the nodes.

    Raises
    ------
    InputError : names file, row and field, and what would be right.
    """
    return read_order_rows(path, _rows(Path(path)), network)


def read_order_rows(source: object, rows: Iterable[tuple[int, Mapping[str, str]]], network: Network) -> OrderFile:
    """Read orders from rows of text; what `read_orders_csv` says of a row holds here.

    Parameters
    ----------
    source : what the rows are called in an error.
    rows : (number by which an error and an award call the row, text by column); every column of `COLUMNS` is there.
    network : names the nodes.

    Raises
    ------
    InputError : names source, row and field, and what would be right; there is no row, or there are too many.
    """
    connector = Connector(network)
    parsed: list[tuple[int, Product, Side, float, float, float, float]] = []
    lines: list[int] = []
    names, nodes, phases = [], [], []
    last: dict[tuple[str, ...], tuple[int, float]] = {}
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        if len(lines) == ROWS_MAX:
            raise InputError(source, f"row {line}", f"is beyond the {ROWS_MAX} orders that are read")
        try:
            parsed.append(_order(connector, row))
            _check_new(line, row, seen)
            _check_monotone(line, row, parsed[-1], last)
        except _RowError as refused:
            place = f"row {line}, {refused.field}" if refused.field else f"row {line}"
            raise InputError(source, place, refused.problem) from None
        lines.append(line)
        names.append(row["participant"])
        nodes.append(row["node"])
        phases.append(row["phases"])
    if not parsed:
        raise InputError(source, "the table", f"holds no orders; give a row each under {','.join(COLUMNS)}")
    at, product, side, price, quantity, kvar, slope = zip(*parsed, strict=True)
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    book = OrderBook.of(
        at,
        side,
        price,
        quantity,
        kvar_per_kw=kvar,
        slope=slope,
        product=product,
        participant=[number[name] for name in names],
        connections=connector.table(),
    )
    return OrderFile(book, np.array(lines, dtype=np.int64), tuple(names), tuple(nodes), tuple(phases), connector)


def read_agreement_rows(source: object, rows: Iterable[tuple[int, Mapping[str, str]]], orders: OrderFile) -> Agreements:
    """Read connection agreements from rows of text under `AGREEMENT_COLUMNS`; an empty limit is none.

    Participants without an order are left out: there is nothing of theirs to limit. The connections of `orders` may
    grow by the places that agreements name; take `orders.connector.table()` for the book afterwards.

    Raises
    ------
    InputError : names source, row and field, and what would be right.
    """
    number = {name: k for k, name in enumerate(orders.participants)}
    who, where, limits = [], [], []
    for line, row in rows:
        try:
            place = _place(orders.connector, row["node"], row["phases"])
            values = [_limit(name, row.get(name, "")) for name in LIMIT_COLUMNS]
        except _RowError as refused:
            raise InputError(source, f"row {line}, {refused.field}", refused.problem) from None
        if row["participant"] in number and place != NOT_ENERGISED:
            who.append(number[row["participant"]])
            where.append(place)
            limits.append(values)
    columns = np.array(limits, dtype=np.float64).reshape(-1, len(LIMIT_COLUMNS)).T
    given = {name: column for name, column in zip(LIMIT_COLUMNS, columns, strict=True)}
    return Agreements.of(np.array(who, dtype=np.int64), np.array(where, dtype=np.int64), **given)


def read_reference_rows(source: object, rows: Iterable[tuple[int, Mapping[str, str]]], orders: OrderFile) -> References:
    """Read reference prices from rows of text under `REFERENCE_COLUMNS`; participants without an order are left out.

    Raises
    ------
    InputError : names source, row and field, and what would be right.
    """
    number = {name: k for k, name in enumerate(orders.participants)}
    known: dict[tuple[int, int], float] = {}
    for line, row in rows:
        try:
            product, price = _product(row["product"]), _number("price", row["price"], PRICE_MAX)
        except _RowError as refused:
            raise InputError(source, f"row {line}, {refused.field}", refused.problem) from None
        key = (number.get(row["participant"], -1), int(product))
        if key in known:
            raise InputError(source, f"row {line}", f"names {row['participant']} and {row['product']} again")
        if key[0] >= 0:
            known[key] = price
    return References.of([who for who, _ in known], [what for _, what in known], list(known.values()))


def read_references_csv(path: str | Path, orders: OrderFile) -> References:
    """Read reference prices from a CSV file with a header of `REFERENCE_COLUMNS`."""
    return read_reference_rows(path, _rows(Path(path), REFERENCE_COLUMNS, REFERENCE_COLUMNS), orders)


def read_agreements_csv(path: str | Path, orders: OrderFile) -> Agreements:
    """Read agreements from a CSV file with a header of `AGREEMENT_COLUMNS`; only participant and node must be there."""
    return read_agreement_rows(path, _rows(Path(path), AGREEMENT_COLUMNS, ("participant", "node")), orders)


def _limit(name: str, text: str) -> float:
    if text == "":
        return math.inf
    value = _number(name, text, QUANTITY_KW_MAX)
    if value < 0:
        raise _RowError(f"{name} {text}", "is negative; leave it empty for no limit")
    return value


def check_columns(
    source: object, names: Sequence[str], known: Sequence[str] = COLUMNS, required: Sequence[str] = REQUIRED_COLUMNS
) -> list[str]:
    """Column names in lower case; refuses an unknown, a missing and a repeated one.

    >>> check_columns("mine", ["Participant", "node", "product", "side", "price", "quantity_kw"])[0]
    'participant'
    """
    header = [name.strip().lower() for name in names]
    missing = [name for name in required if name not in header]
    if missing:
        raise InputError(source, f"column '{missing[0]}'", f"is missing; the header is {','.join(known)}")
    unknown = [name for name in header if name not in known]
    if unknown:
        raise InputError(source, f"column '{unknown[0]}'", f"is not known; the header is {','.join(known)}")
    if len(set(header)) != len(header):
        raise InputError(source, "the header", "names a column twice")
    return header


def _place(connector: Connector, node: str, phases: str) -> int:
    """Where an order is connected, as `OrderBook.node` counts it."""
    if node in connector.network.not_energised:
        return NOT_ENERGISED
    try:
        return connector.place(node, "" if phases == "0" else phases)
    except ValueError as refused:
        raise _RowError(f"node '{node}'", str(refused)) from None


def _order(connector: Connector, row: Mapping[str, str]) -> tuple[int, Product, Side, float, float, float, float]:
    """Place, product, side, price (NaN: a price-taker), quantity and kvar per kW of one row."""
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
    return place, product, side, price, quantity, kvar, slope


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
    key = tuple(row[name] for name in COLUMNS)
    if key in seen:
        raise _RowError("", f"repeats row {seen[key]}; give one row with the quantity of both")
    seen[key] = line


def _check_monotone(
    line: int,
    row: Mapping[str, str],
    order: tuple[int, Product, Side, float, float, float, float],
    last: dict[tuple[str, ...], tuple[int, float]],
) -> None:
    side, price = order[2], order[3]
    if math.isnan(price):
        return
    place = (row["node"], row["phases"])
    curve = (row["participant"], *place, row["product"].lower(), row["side"].lower(), row["kvar_per_kw"])
    before = last.get(curve)
    if before is not None and (price - before[1]) * side > 0:
        rule = "fall for a buyer" if side == Side.BUY else "rise for a seller"
        raise _RowError(f"price {price:g}", f"follows {before[1]:g} in row {before[0]}: steps must {rule}")
    last[curve] = (line, price - side * order[6] * order[4])


def _rows(
    path: Path, known: Sequence[str] = COLUMNS, required: Sequence[str] = REQUIRED_COLUMNS
) -> list[tuple[int, dict[str, str]]]:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise InputError(path, f"{size} bytes", f"are more than the {FILE_BYTES_MAX} that are read; split the file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(path, "the file", f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(path, "the file", "is not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] | None = None
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = check_columns(path, fields, known, required)
                continue
            if len(fields) != len(header):
                raise InputError(path, f"row {reader.line_num}", f"has {len(fields)} fields, the header {len(header)}")
            row = dict.fromkeys(known, "")
            row.update(zip(header, (field.strip() for field in fields), strict=True))
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise InputError(path, f"row {reader.line_num}", f"is not CSV: {error}") from None
    if header is None or not rows:
        raise InputError(path, "the file", f"holds no rows; give a header {','.join(known)} and a row each")
    return rows
