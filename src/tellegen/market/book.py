"""The order book of one clearing, in the engine's units."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import InputError
from tellegen.grid.connections import Connections
from tellegen.grid.network import FloatArray, IntArray
from tellegen.records import Orders, Product
from tellegen.units import MICROS

NOT_ENERGISED = -1
"""The place of an order at a bus that no source feeds: it is awarded nothing, and there is no price."""
QUANTITY_KW_MOST, PRICE_MOST, SLOPE_MOST, KVAR_PER_KW_MOST = 1e12, 1e6, 1e12, 1e6
"""Beyond these an order says nothing of any wires, and its digits would cost those of the rest."""
_COLUMNS = ("node", "product", "side", "price", "slope", "quantity_kw", "kvar_per_kw", "participant")

_MOST = {
    "quantity_kw": QUANTITY_KW_MOST,
    "price": PRICE_MOST,
    "slope": SLOPE_MOST,
    "kvar_per_kw": KVAR_PER_KW_MOST,
}


@dataclass(frozen=True, slots=True, eq=False)
class OrderBook:
    """Orders of one clearing, one row per step of a curve; equal-length arrays.

    Attributes
    ----------
    node : int64[n], the place: a node of the network, ``N + j`` for row j of `connections`, or `NOT_ENERGISED`.
    product : int64[n], `Product`. A reserve is offered by who sells; who buys requires it, of the whole network.
    side : int64[n], `Side`: +1 buys (withdraws), -1 sells (injects).
    price : float64[n], currency/kWh (kvarh); NaN marks a price-taker, which is served whatever the price, and shed
        only where nothing has a power flow with it.
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
        unknown = (self.product < min(Product)) | (self.product > max(Product))
        self._refuse(unknown, "is for a product that there is not")
        self._refuse(np.abs(self.side) != 1, "has a side that is neither +1 (buy) nor -1 (sell)")
        self._refuse(np.isinf(self.price), "has an infinite price; leave it out for a price-taker")
        self._refuse(~((self.slope >= 0) & np.isfinite(self.slope)), "has a slope that is negative or not finite")
        bad = ~((self.quantity_kw >= 0) & np.isfinite(self.quantity_kw))
        self._refuse(bad, "has a quantity that is negative or not finite")
        self._refuse(~np.isfinite(self.kvar_per_kw), "has kvar_per_kw that is not finite")
        for name, most in _MOST.items():
            self._refuse(np.abs(getattr(self, name)) > most, f"has {name} beyond the limit of {most:g}")
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

    def take(self, rows: IntArray) -> OrderBook:
        """Some of the rows, in the order given."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS})

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

        >>> len(OrderBook.of([3, 4], +1, 0.3, [1.0, 2.0]))
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
