"""The same market for everybody: a network and a series of order books, and the file in which peers are given them.

The file is plain arrays (NumPy ``.npz``), so that a peer needs nothing of this package. All peers minimise, for each
book of the series,

    sum_k (cost_k y_k + slope_k y_k^2 / 2) + root_price * P_root     over 0 <= y_k <= width_k

on the AC network within its limits. Every bid is new in each book; who bids, where, and on which side stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.assess.peers.tree import tree_of
from tellegen.errors import InputError
from tellegen.grid.loads import GROUND
from tellegen.grid.network import Case, ComplexArray, FixedLoads, FloatArray, IntArray, LimitKind, Network
from tellegen.grid.powerflow import PowerFlow, solve_powerflow
from tellegen.market import OrderBook
from tellegen.records import Product

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Legs:
    """Where orders are connected; an order may have several rows.

    Attributes
    ----------
    row : int64[L], order; node, other : int64[L], ends of the leg, `other` -1 for ground.
    share : float64[L], of the order's power.
    """

    row: IntArray
    node: IntArray
    other: IntArray
    share: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A market to be solved by several engines.

    Attributes
    ----------
    name : how figures call it.
    network : the feeder.
    books : order books of successive intervals; same rows but for price, slope and quantity.
    root_price : float64[T], currency/kWh.
    v_min, v_max : per unit, override the network's limits; None: the network's.
    root_limit_kw : largest power through the root, both ways; None: no limit.
    case : elements of a balanced network, from which OpenDSS is built as a referee; None: no such referee.
    script : of a three-phase network, for the same purpose.
    """

    name: str
    network: Network
    books: tuple[OrderBook, ...]
    root_price: FloatArray
    v_min: float | FloatArray | None = None
    v_max: float | FloatArray | None = None
    root_limit_kw: float | None = None
    case: Case | None = None
    script: str | None = None

    def __post_init__(self) -> None:
        if not self.books or self.root_price.shape != (len(self.books),):
            raise InputError("peers", f"instance {self.name}", "must have a root price for each of its books")
        first = self.books[0]
        for name in ("node", "product", "side", "kvar_per_kw", "price_taker"):
            if not all(np.array_equal(getattr(first, name), getattr(book, name)) for book in self.books):
                raise InputError("peers", f"instance {self.name}", f"must have the same {name} in every book")
        if not all(book.connections.same(first.connections) for book in self.books):
            raise InputError("peers", f"instance {self.name}", "must have the same connections in every book")
        if not np.isin(first.product, (Product.ENERGY, Product.REACTIVE)).all():
            raise InputError("peers", f"instance {self.name}", "must be of energy and reactive power alone")

    @property
    def steps(self) -> IntArray:
        """Rows of a book that are variables (not price-takers), int64[n]."""
        return np.flatnonzero(~self.books[0].price_taker)

    def legs(self) -> Legs:
        """What every order, price-takers included, hangs on."""
        book, size = self.books[0], len(self.network.nodes)
        plain = np.flatnonzero(book.node < size)
        joined = np.flatnonzero(book.node >= size)
        table, place = book.connections, book.node[joined] - size
        count = table.start[place + 1] - table.start[place]
        leg = np.repeat(table.start[place] - np.cumsum(count) + count, count) + np.arange(count.sum())
        return Legs(
            row=np.concatenate([plain, np.repeat(joined, count)]),
            node=np.concatenate([book.node[plain], table.node[leg]]),
            other=np.concatenate([np.full(plain.size, GROUND), table.other[leg]]),
            share=np.concatenate([np.ones(plain.size), table.share[leg]]),
        )

    def served_kw(self, interval: int, award_kw: FloatArray) -> FloatArray:
        """What every order of a book gets, float64[rows], when its steps get `award_kw` [n]."""
        served = self.books[interval].quantity_kw.copy()
        served[self.steps] = award_kw
        return served

    def demand_kva(self, interval: int, award_kw: FloatArray) -> ComplexArray:
        """Demand to ground at every node, complex128[N], when the steps of a book get `award_kw` [n]."""
        legs, demand = self.legs(), np.zeros(len(self.network.nodes), dtype=np.complex128)
        power = legs.share * (self.served_kw(interval, award_kw) * _unit_demand(self.books[interval]))[legs.row]
        ground = legs.other == GROUND
        np.add.at(demand, legs.node[ground], power[ground])
        return demand

    def flow(self, interval: int, award_kw: FloatArray) -> PowerFlow:
        """Our power flow when the steps of a book get `award_kw` [n].

        Raises
        ------
        GridError : there is none.
        """
        legs, demand = self.legs(), self.demand_kva(interval, award_kw)
        power = legs.share * (self.served_kw(interval, award_kw) * _unit_demand(self.books[interval]))[legs.row]
        pair = np.flatnonzero(legs.other != GROUND)
        between = FixedLoads(
            name=("order",) * pair.size,
            node=legs.node[pair],
            p_kw=power[pair].real,
            q_kvar=power[pair].imag,
            other=legs.other[pair],
        )
        return solve_powerflow(self.network, demand, loads=between if pair.size else None)

    def cost(self, interval: int, award_kw: FloatArray) -> float:
        """Cost of sellers less value to buyers, currency/h; the root is not in it."""
        book, rows = self.books[interval], self.steps
        linear = -book.side[rows] * book.price[rows]
        return float(linear @ award_kw + 0.5 * (book.slope[rows] * award_kw) @ award_kw)

    def arrays(self) -> Arrays:
        """What the file holds; see docs/peers.md for its fields."""
        network, book, rows = self.network, self.books[0], self.steps
        limits = self.limits()
        branches = network.branches
        rated = np.flatnonzero(np.isfinite(branches.rating_pu) & (branches.rating_pu > 0))
        nothing = np.zeros(rows.size)
        unit = _unit_demand(book)[rows]
        if network.root_terminals is None:
            root_rows, root_node = sp.csr_matrix(network.admittance)[network.source], network.source
        else:
            at = network.root_terminals
            root_rows, root_node = -sp.csr_matrix(branches.current_rows)[at], branches.node[at]
        legs = self.legs()
        variable = np.full(len(book), -1, dtype=np.int64)
        variable[rows] = np.arange(rows.size)
        mine = variable[legs.row] >= 0
        if (legs.other[~mine] != GROUND).any():
            raise InputError("peers", f"instance {self.name}", "must have its price-takers between a phase and ground")
        fixed = np.stack([self.demand_kva(k, nothing) for k in range(len(self.books))])
        arrays: Arrays = {
            "base_kva": np.array(network.base_kva),
            "base_kv": network.base_kv,
            **_coordinates("y", sp.csr_matrix(network.admittance)),
            "source": network.source,
            "source_voltage": network.source_voltage,
            "v_min": limits[0],
            "v_max": limits[1],
            **_coordinates("terminal", sp.csr_matrix(branches.current_rows)[rated]),
            "terminal_node": branches.node[rated],
            "terminal_is_power": branches.kind[rated] == LimitKind.APPARENT_POWER,
            "terminal_max": branches.rating_pu[rated],
            **_coordinates("root", root_rows),
            "root_node": root_node,
            "root_limit_kw": np.array(np.inf if self.root_limit_kw is None else self.root_limit_kw),
            "root_price": self.root_price,
            "fixed_kva": fixed,
            "leg_step": variable[legs.row[mine]],
            "leg_node": legs.node[mine],
            "leg_other": legs.other[mine],
            "leg_share": legs.share[mine],
            "step_kva": unit,
            "cost": np.stack([-b.side[rows] * b.price[rows] for b in self.books]),
            "slope": np.stack([b.slope[rows] for b in self.books]),
            "width": np.stack([b.quantity_kw[rows] for b in self.books]),
        }
        tree = tree_of(network) if not len(book.connections) else "its customers hang between phases"
        if isinstance(tree, str):
            return {**arrays, "tree_absent": np.array(tree)}
        return {
            **arrays,
            "tree_parent": tree.parent,
            "tree_impedance": tree.impedance,
            "tree_shunt": tree.shunt,
            "tree_current_max": tree.current_max,
            "tree_power_max_parent": tree.power_max_parent,
            "tree_power_max_child": tree.power_max_child,
        }

    def limits(self) -> tuple[FloatArray, FloatArray]:
        """Voltage limits of every node, float64[N] each, per unit; none at the source."""
        network, size = self.network, len(self.network.nodes)
        low, high = np.full(size, 0.0), np.full(size, np.inf)
        free = network.free
        low[free] = np.broadcast_to(network.v_min if self.v_min is None else self.v_min, size)[free]
        high[free] = np.broadcast_to(network.v_max if self.v_max is None else self.v_max, size)[free]
        return low, high

    def write(self, path: Path) -> None:
        """Write the file."""
        np.savez(path, **self.arrays())  # type: ignore[arg-type]


def _unit_demand(book: OrderBook) -> ComplexArray:
    """Demand that one unit of each order adds at its node, kW + j kvar."""
    energy = book.product == Product.ENERGY
    return np.asarray(book.side * np.where(energy, 1.0 + 1j * book.kvar_per_kw, 1j), dtype=np.complex128)


def _coordinates(name: str, matrix: sp.csr_matrix) -> Arrays:
    entries = sp.coo_matrix(matrix)
    return {f"{name}_row": entries.row, f"{name}_column": entries.col, f"{name}_value": entries.data}
