"""The order book of one clearing, in the engine's units, and the CSV in which outsiders hand it in."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import InputError
from tellegen.grid.connections import Connections
from tellegen.grid.network import FloatArray, IntArray, Network
from tellegen.records import Orders, Product, Side
from tellegen.units import MICROS

FILE_BYTES_MAX = 64 * 2**20
ROWS_MAX = 1_000_000
QUANTITY_KW_MAX = 1e9
PRICE_MAX = 1e6
COLUMNS = ("participant", "node", "phases", "product", "side", "price", "quantity_kw", "kvar_per_kw")
_COLUMNS = ("node", "product", "side", "price", "slope", "quantity_kw", "kvar_per_kw", "participant")
_PRODUCTS = {"energy": Product.ENERGY, "reactive": Product.REACTIVE}
_RESERVES = ("reserve_up", "reserve_down")
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}


@dataclass(frozen=True, slots=True, eq=False)
class OrderBook:
    """Orders of one clearing, one row per step of a curve; equal-length arrays.

    Attributes
    ----------
    node : int64[n], the place: a node of the network, or ``N + j`` for row j of `connections`.
    product : int64[n], `Product`. A reserve is offered by who sells; who buys requires it, of the whole network.
    side : int64[n], `Side`: +1 buys (withdraws), -1 sells (injects).
    price : float64[n], currency/kWh (kvarh); NaN marks a price-taker, which is never shed.
    slope : float64[n] >= 0, currency/kWh per kW: over the step a buyer's price falls, a seller's rises by it for each
        kW taken; 0 is a plain step.
    quantity_kw : float64[n] >= 0, the most that is wanted (kvar for reactive orders).
    kvar_per_kw : float64[n], reactive power that comes along with each kW, on the same side; 0 for reactive orders.
    participant : int64[n], who stands behind the order; -1 where that does not matter.
    connections : of the places beyond the network's nodes.
    """

    node: IntArray
    product: IntArray
    side: IntArray
    price: FloatArray
    slope: FloatArray
    quantity_kw: FloatArray
    kvar_per_kw: FloatArray
    participant: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    connections: Connections = field(default_factory=Connections.none)

    def __post_init__(self) -> None:
        size = np.asarray(self.node).size
        if np.asarray(self.participant).size != size:
            object.__setattr__(self, "participant", np.full(size, -1, dtype=np.int64))
        for name in _COLUMNS:
            dtype = np.int64 if name in ("node", "product", "side", "participant") else np.float64
            values = np.asarray(getattr(self, name), dtype=dtype)
            if values.shape != (size,):
                raise InputError("orders", name, f"has shape {values.shape}, node has {size} rows")
            object.__setattr__(self, name, values)
        self._refuse(~np.isin(self.product, list(Product)), "is for a product that there is not")
        self._refuse(np.abs(self.side) != 1, "has a side that is neither +1 (buy) nor -1 (sell)")
        self._refuse(np.isinf(self.price), "has an infinite price; leave it out for a price-taker")
        self._refuse(~((self.slope >= 0) & np.isfinite(self.slope)), "has a slope that is negative or not finite")
        bad = ~((self.quantity_kw >= 0) & np.isfinite(self.quantity_kw))
        self._refuse(bad, "has a quantity that is negative or not finite")
        self._refuse(~np.isfinite(self.kvar_per_kw), "has kvar_per_kw that is not finite")
        coupled = (self.product != Product.ENERGY) & (self.kvar_per_kw != 0)
        self._refuse(coupled, "is not for energy and carries kvar_per_kw; leave that 0")

    def _refuse(self, bad: NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            raise InputError("orders", f"row {int(np.argmax(bad))}", problem)

    def __len__(self) -> int:
        return int(self.node.size)

    @property
    def price_taker(self) -> NDArray[np.bool_]:
        """Rows that take their whole quantity whatever the price."""
        return np.isnan(self.price)

    @classmethod
    def of(
        cls,
        node: ArrayLike,
        side: ArrayLike,
        price: ArrayLike,
        quantity_kw: ArrayLike,
        *,
        slope: ArrayLike = 0.0,
        kvar_per_kw: ArrayLike = 0.0,
        product: ArrayLike = Product.ENERGY,
        participant: ArrayLike = -1,
        connections: Connections | None = None,
    ) -> OrderBook:
        """Build a book; scalars apply to every row.

        >>> len(OrderBook.of([3, 4], Side.BUY, 0.3, [1.0, 2.0]))
        2
        """
        parts = np.broadcast_arrays(node, product, side, price, slope, quantity_kw, kvar_per_kw, participant)
        table = Connections.none() if connections is None else connections
        columns = {name: np.atleast_1d(part).copy() for name, part in zip(_COLUMNS, parts, strict=True)}
        return cls(**columns, connections=table)

    @classmethod
    def empty(cls) -> OrderBook:
        """A book without orders."""
        return cls.of(np.zeros(0, dtype=np.int64), 1, 0.0, np.zeros(0))

    @classmethod
    def concat(cls, *books: OrderBook) -> OrderBook:
        """Stack books, rows in the order given; all of one table of connections, or of none."""
        tables = [book.connections for book in books if len(book.connections)]
        if any(not table.same(tables[0]) for table in tables):
            raise InputError("orders", "connections", "differ between the books; make one table for all")
        columns = {name: np.concatenate([getattr(book, name) for book in books]) for name in _COLUMNS}
        return cls(**columns, connections=tables[0] if tables else Connections.none())

    @classmethod
    def from_orders(cls, orders: Orders) -> OrderBook:
        """Engine units of recorded orders, same rows.

        Raises
        ------
        InputError : an impossible side.
        """
        taker = orders.price_taker.astype(bool)
        product = orders.product.astype(np.int64)
        coupled = np.where(product == Product.ENERGY, orders.var_per_kw / 1000.0, 0.0)
        return cls(
            node=orders.node.astype(np.int64),
            product=product,
            side=orders.side.astype(np.int64),
            price=np.where(taker, np.nan, orders.price_micros / MICROS),
            slope=np.zeros(len(orders)),
            quantity_kw=orders.quantity_w / 1000.0,
            kvar_per_kw=coupled,
            participant=orders.customer.astype(np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class OrderFile:
    """An order file: the book, and what its rows were called. `row` is the line in the file (the header is line 1)."""

    book: OrderBook
    row: IntArray
    participant: tuple[str, ...]
    node: tuple[str, ...]
    phases: tuple[str, ...]


def read_orders_csv(path: str | Path, network: Network) -> OrderFile:
    """Read the order file of `tellegen clear`.

    Columns ``participant,node,phases,product,side,price,quantity_kw,kvar_per_kw``; `phases`, `price` and
    `kvar_per_kw` may be empty, and the columns `phases` and `kvar_per_kw` may be missing. An empty price is a
    price-taker. Rows of one participant at one node, product and side are the steps of its curve, dearest first
    for a buyer, cheapest first for a seller.

    Parameters
    ----------
    path : the file, UTF-8.
    network : names the nodes.

    Raises
    ------
    InputError : names file, row and field, and what would be right.
    """
    rows = _rows(Path(path))
    where = {name: k for k, name in reversed(list(enumerate(network.nodes)))}
    parsed: list[tuple[int, Product, Side, float, float, float]] = []
    lines, names, nodes, phases = [], [], [], []
    last: dict[tuple[str, ...], tuple[int, float]] = {}
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        source = f"row {line}"
        if not row["participant"]:
            raise InputError(path, f"{source}, participant", "is empty; every order names who stands behind it")
        node = row["node"]
        if node not in where:
            raise InputError(
                path, f"{source}, node '{node}'", "is not in the network; `tellegen powerflow` lists nodes"
            )
        if row["phases"] not in ("", "0"):
            raise InputError(path, f"{source}, phases '{row['phases']}'", "must be empty: the network is balanced")
        product, side = _product(path, source, row["product"]), _SIDES.get(row["side"].lower())
        if side is None:
            raise InputError(path, f"{source}, side '{row['side']}'", "must be buy or sell")
        price = math.nan if row["price"] == "" else _number(path, source, "price", row["price"], PRICE_MAX)
        quantity = _number(path, source, "quantity_kw", row["quantity_kw"], QUANTITY_KW_MAX)
        if quantity < 0:
            raise InputError(path, f"{source}, quantity_kw {row['quantity_kw']}", "is negative; a sell order injects")
        kvar = _number(path, source, "kvar_per_kw", row["kvar_per_kw"] or "0", 1e3)
        if kvar and product == Product.REACTIVE:
            raise InputError(path, f"{source}, kvar_per_kw", "must be empty: the order is for reactive power itself")
        key = tuple(row[name] for name in COLUMNS)
        if key in seen:
            raise InputError(path, source, f"repeats row {seen[key]}; give one row with the quantity of both")
        seen[key] = line
        curve = (row["participant"], node, row["product"].lower(), row["side"].lower(), row["kvar_per_kw"])
        _check_monotone(path, source, side, price, last.get(curve))
        if not math.isnan(price):
            last[curve] = (line, price)
        parsed.append((where[node], product, side, price, quantity, kvar))
        lines.append(line)
        names.append(row["participant"])
        nodes.append(node)
        phases.append(row["phases"])
    place, products, sides, prices, quantities, kvars = zip(*parsed, strict=True)
    book = OrderBook.of(place, sides, prices, quantities, kvar_per_kw=kvars, product=products)
    return OrderFile(book, np.array(lines, dtype=np.int64), tuple(names), tuple(nodes), tuple(phases))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
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
                header = _header(path, fields)
                continue
            if len(fields) != len(header):
                raise InputError(path, f"row {reader.line_num}", f"has {len(fields)} fields, the header {len(header)}")
            row = dict.fromkeys(COLUMNS, "")
            row.update(zip(header, (field.strip() for field in fields), strict=True))
            rows.append((reader.line_num, row))
            if len(rows) > ROWS_MAX:
                raise InputError(path, f"row {reader.line_num}", f"is beyond the {ROWS_MAX} orders that are read")
    except csv.Error as error:
        raise InputError(path, f"row {reader.line_num}", f"is not CSV: {error}") from None
    if header is None or not rows:
        raise InputError(path, "the file", f"holds no orders; give a header {','.join(COLUMNS)} and a row each")
    return rows


def _header(path: Path, fields: list[str]) -> list[str]:
    header = [field.strip().lower() for field in fields]
    missing = [name for name in COLUMNS if name not in header and name not in ("phases", "kvar_per_kw")]
    if missing:
        raise InputError(path, f"column '{missing[0]}'", f"is missing; the header is {','.join(COLUMNS)}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise InputError(path, f"column '{unknown[0]}'", f"is not known; the header is {','.join(COLUMNS)}")
    if len(set(header)) != len(header):
        raise InputError(path, "the header", "names a column twice")
    return header


def _product(path: str | Path, source: str, text: str) -> Product:
    if text.lower() in _RESERVES:
        raise InputError(path, f"{source}, product '{text}'", "cannot be traded: reserves are not cleared yet")
    if text.lower() not in _PRODUCTS:
        raise InputError(path, f"{source}, product '{text}'", "must be energy or reactive")
    return _PRODUCTS[text.lower()]


def _number(path: str | Path, source: str, name: str, text: str, limit: float) -> float:
    try:
        # float() reads underscores and other scripts' digits, which no spreadsheet means.
        value = float(text if text.isascii() and "_" not in text else "")
    except ValueError:
        raise InputError(path, f"{source}, {name} '{text}'", "is not a number") from None
    if not math.isfinite(value):
        raise InputError(path, f"{source}, {name} '{text}'", "must be finite")
    if abs(value) > limit:
        raise InputError(path, f"{source}, {name} {text}", f"is beyond the limit of {limit:g}")
    return value


def _check_monotone(path: str | Path, source: str, side: Side, price: float, before: tuple[int, float] | None) -> None:
    if before is None or math.isnan(price):
        return
    line, last = before
    if (price - last) * side > 0:
        order = "fall for a buyer" if side == Side.BUY else "rise for a seller"
        raise InputError(path, f"{source}, price {price:g}", f"follows {last:g} in row {line}: steps must {order}")
