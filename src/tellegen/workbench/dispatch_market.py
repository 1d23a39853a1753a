"""A market as tap changers meet it: dispatches for given positions, from one book of orders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tellegen.errors import InputError
from tellegen.grid import Case, Dispatch, FixedLoads, LoadLaw, Network
from tellegen.grid.network import ComplexArray, FloatArray
from tellegen.market import Clearing, OrderBook, clear
from tellegen.records import Product
from tellegen.workbench.declared import generator_offers, set_points
from tellegen.workbench.orders import read_orders


@dataclass(slots=True)
class DispatchMarket:
    """Clears the orders on a case with given positions; what it found, in order."""

    book: OrderBook
    price: float
    orders_only: bool
    root_limit_kw: float | None = None
    v_min: float | None = None
    v_max: float | None = None
    cleared: list[Clearing] = field(default_factory=list)

    def __call__(self, case: Case) -> Dispatch:
        """Clear, and give the dispatch: what is given, and what was awarded."""
        none = np.zeros(len(case.network.nodes), dtype=np.complex128)
        given = none if self.orders_only else set_points(case, dispatchable=False)
        loads = _no_loads() if self.orders_only else case.loads
        cleared = clear(
            case.network,
            self.book,
            self.price,
            root_limit_kw=self.root_limit_kw,
            fixed_kva=given,
            loads=loads,
            v_min=self.v_min,
            v_max=self.v_max,
            tie_context="settle-taps",
        )
        self.cleared.append(cleared)
        return awarded(case.network, self.book, cleared.award_kw, Dispatch(given, loads))


def market_of(case: Case, network: str, orders: Path, root_price: float | None, orders_only: bool) -> DispatchMarket:
    """The market of a period: orders of a file, and the network file's own generators unless `orders_only`.

    Raises
    ------
    InputError : no price at the root, or orders that cannot be read.
    """
    price = root_price if root_price is not None else case.root_price
    if price is None:
        raise InputError(network, "root", "has no reference cost in the file; give --root-price")
    if not np.isfinite(price):
        raise InputError("command line", "--root-price", "must be a finite number")
    book = read_orders(orders, case.network).book
    return DispatchMarket(book if orders_only else OrderBook.concat(book, generator_offers(case)), price, orders_only)


def awarded(network: Network, book: OrderBook, award_kw: FloatArray, given: Dispatch) -> Dispatch:
    """What is given, and what orders were awarded at their nodes; at connections (``N + j``) leg by leg.

    Parameters
    ----------
    award_kw : float64 per order (kvar for reactive orders), on the side of the order.
    """
    size = len(network.nodes)
    power: ComplexArray = np.where(
        book.product == Product.ENERGY,
        award_kw * (1 + 1j * book.kvar_per_kw),
        np.where(book.product == Product.REACTIVE, 1j * award_kw, 0j),
    )
    power = power * book.side
    at_node = book.node < size
    demand = given.demand_kva.copy()
    np.add.at(demand, book.node[at_node], power[at_node])
    if at_node.all():
        return Dispatch(demand, given.loads)
    table = book.connections
    drawn = np.zeros(len(table), dtype=np.complex128)
    np.add.at(drawn, book.node[~at_node] - size, power[~at_node])
    legs = np.repeat(drawn, np.diff(table.start)) * table.share
    return Dispatch(demand, _joined(given.loads, table.node, table.other, legs))


def _joined(loads: FixedLoads, node: Any, other: Any, power: ComplexArray) -> FixedLoads:
    """Loads with rows of constant power between nodes besides."""
    size, extra = loads.node.size, node.size
    law = loads.law
    if law is not None:
        none = np.zeros(extra)
        constant = LoadLaw(np.ones(extra), none, none, none, none, none, np.full(extra, np.inf))
        names = LoadLaw.__dataclass_fields__
        law = LoadLaw(*(np.concatenate([getattr(law, name), getattr(constant, name)]) for name in names))
    ends = np.full(size, -1, dtype=np.int64) if loads.other is None else loads.other
    return replace(
        loads,
        name=loads.name + ("award",) * extra,
        node=np.concatenate([loads.node, node]),
        p_kw=np.concatenate([loads.p_kw, power.real]),
        q_kvar=np.concatenate([loads.q_kvar, power.imag]),
        other=np.concatenate([ends, other]),
        law=law,
    )


def _no_loads() -> FixedLoads:
    return FixedLoads((), np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
