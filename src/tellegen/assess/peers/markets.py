"""The markets on which engines are compared; in each of them limits bind."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from tellegen.assess.peers.instance import Instance
from tellegen.errors import InputError
from tellegen.grid import Branches, LimitKind, Network, load_case
from tellegen.grid.network import FloatArray, IntArray
from tellegen.market import OrderBook

BASE_KVA, BASE_KV = 100.0, 0.4
MAIN_OHM_PER_KM, SERVICE_OHM_PER_KM = 0.125 + 0.08j, 0.641 + 0.085j
"""240 mm2 and 50 mm2 aluminium cables, usual figures of manufacturers' tables at 20 degrees Celsius."""
FEEDER_CUSTOMERS = 50
"""Customers on one cable from the transformer."""


def radial_feeder(customers: int, seed: int) -> Network:
    """A low-voltage district: one transformer, cables with 50 customers each, one node a customer.

    Half of the customers lie along a main cable, the others hang on it by cables of their own. The transformer is one
    of 1 kVA per customer with 4 % short-circuit voltage.
    """
    rng = np.random.default_rng(seed)
    parent, ohm = [0], [complex(0.008, 0.0392) * BASE_KV**2 * 1e3 / customers]
    for first in range(0, customers, FEEDER_CUSTOMERS):
        main, spread = 1, rng.uniform(0.6, 1.8)
        for customer in range(first, min(first + FEEDER_CUSTOMERS, customers)):
            service = customer % 2 == 1
            length_km = spread * (rng.uniform(0.01, 0.03) if service else rng.uniform(0.005, 0.02))
            parent.append(main)
            ohm.append(length_km * (SERVICE_OHM_PER_KM if service else MAIN_OHM_PER_KM))
            if not service:
                main = customer + 2
    size = customers + 2
    child, above = np.arange(1, size), np.array(parent)
    incidence = sp.csr_matrix(
        (np.repeat([1.0, -1.0], size - 1), (np.tile(child - 1, 2), np.concatenate([child, above]))),
        shape=(size - 1, size),
    )
    flow = sp.diags(BASE_KV**2 * 1e3 / BASE_KVA / np.array(ohm)) @ incidence
    return Network(
        name=f"district of {customers}",
        nodes=tuple(str(k) for k in range(size)),
        phase=np.zeros(size, dtype=np.int64),
        base_kva=BASE_KVA,
        base_kv=np.full(size, BASE_KV),
        admittance=sp.csr_matrix(incidence.T @ flow),
        source=np.array([0]),
        source_voltage=np.array([1.02 + 0j]),
        v_min=np.full(size, 0.9),
        v_max=np.full(size, 1.1),
        branches=Branches(
            element=tuple(f"branch {k}" for k in child),
            node=child,
            current_rows=sp.csr_matrix(flow),
            rating_pu=np.full(size - 1, np.inf),
            kind=np.full(size - 1, int(LimitKind.CURRENT)),
        ),
    )


def demand_books(node: IntArray, peak_kw: FloatArray, intervals: int, seed: int, *, sloped: bool) -> list[OrderBook]:
    """Evening: every customer has a part that it does not bid for and two bids besides; every third offers its battery.

    With `sloped` the two bids are one whose price falls over its quantity, and offers rise.
    """
    rng = np.random.default_rng(seed)
    count = node.size
    seller = np.arange(0, count, 3)
    books = []
    for _ in range(intervals):
        high, low = rng.uniform(0.35, 0.6, count), rng.uniform(0.15, 0.35, count)
        wanted, offered = peak_kw * rng.uniform(0.6, 1.2, (2, count)), peak_kw[seller] * rng.uniform(0.2, 0.8, seller.size)
        fixed = OrderBook.of(node, 1, np.nan, 0.25 * peak_kw * rng.uniform(0.8, 1.2, count), kvar_per_kw=0.3)
        ask = rng.uniform(0.25, 0.5, seller.size)
        if sloped:
            whole = wanted.sum(axis=0) / 2
            buy = OrderBook.of(node, 1, high, whole, slope=(high - low) / whole)
            sell = OrderBook.of(node[seller], -1, ask, offered, slope=0.1 / offered)
        else:
            buy = OrderBook.of(np.tile(node, 2), 1, np.concatenate([high, low]), wanted.ravel() / 2)
            sell = OrderBook.of(node[seller], -1, ask, offered)
        books.append(OrderBook.concat(fixed, buy, sell))
    return books


def solar_books(node: IntArray, peak_kw: FloatArray, intervals: int, seed: int, *, sloped: bool) -> list[OrderBook]:
    """Noon: little demand, and two of three customers offer more sun than the wires can take away."""
    rng = np.random.default_rng(seed)
    count = node.size
    seller = np.flatnonzero(np.arange(count) % 3 > 0)
    books = []
    for _ in range(intervals):
        fixed = OrderBook.of(node, 1, np.nan, 0.1 * peak_kw * rng.uniform(0.8, 1.2, count), kvar_per_kw=0.3)
        buy = OrderBook.of(node, 1, rng.uniform(0.05, 0.2, count), 0.1 * peak_kw)
        ask, most = rng.uniform(0.0, 0.1, seller.size), peak_kw[seller] * rng.uniform(1.0, 2.5, seller.size)
        sell = OrderBook.of(node[seller], -1, ask, most, slope=0.05 / most if sloped else 0.0)
        books.append(OrderBook.concat(fixed, buy, sell))
    return books


def district(customers: int, intervals: int, season: str, *, sloped: bool = False, seed: int = 1) -> Instance:
    """A district of `radial_feeder` in the `evening` (lowest voltage binds) or at `noon` (highest voltage binds)."""
    network = radial_feeder(customers, seed)
    node = np.arange(2, customers + 2)
    rng = np.random.default_rng(seed)
    form = "quadratic" if sloped else "step"
    prices = rng.uniform(0.2, 0.3, intervals)
    if season == "evening":
        books = demand_books(node, rng.uniform(1.0, 3.0, customers), intervals, seed, sloped=sloped)
        about = f"{customers} customers, {form} bids, evening: the lowest voltage binds"
        return Instance(f"{customers}-evening-{form}", about, network, tuple(books), prices, v_min=0.98)
    if season != "noon":
        raise InputError("peers", f"season '{season}'", "must be evening or noon")
    books = solar_books(node, rng.uniform(2.0, 5.0, customers), intervals, seed, sloped=sloped)
    about = f"{customers} customers, {form} bids, noon: power flows back, the highest voltage binds"
    return Instance(f"{customers}-noon-{form}", about, network, tuple(books), prices, v_max=1.05)


def case33(intervals: int, season: str, *, seed: int = 1) -> Instance:
    """The 33-bus feeder of Baran and Wu as pandapower ships it, one customer a bus, step bids around the file's loads.

    Raises
    ------
    InputError : the extra `grids` is not installed.
    """
    case = load_case("pandapower:case33bw")
    network = case.network
    at, kw = case.loads.node, case.loads.p_kw
    make = demand_books if season == "evening" else solar_books
    rng = np.random.default_rng(seed)
    books = make(at, kw * (1.0 if season == "evening" else 2.5), intervals, seed, sloped=False)
    side = "lowest" if season == "evening" else "highest"
    return Instance(
        f"case33-{season}",
        f"33 buses (Baran and Wu), step bids, {season}: the {side} voltage binds",
        network,
        tuple(books),
        rng.uniform(0.2, 0.3, intervals),
        v_min=0.955 if season == "evening" else 0.9,
        v_max=1.1 if season == "evening" else 1.02,
    )
