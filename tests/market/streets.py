"""Balanced and three-phase streets with random books, on which laws of every clearing are tried.

Nothing here knows how the engine works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import strategies as st

from tellegen.grid import Connector, Network
from tellegen.grid.connections import Connections
from tellegen.grid.network import Branches, LimitKind
from tellegen.market import Agreements, Clearing, OrderBook, clear
from tellegen.records import Product

ROOT, ROOT_REACTIVE = 0.25, 0.005
PARENT = [0, 1, 2, 3, 4, 5, 6, 7, 2, 4, 6, 8]
OHM = (0.32 + 0.08j) * np.array([0.1, 0.05, 0.06, 0.05, 0.07, 0.05, 0.04, 0.06, 0.02, 0.03, 0.02, 0.03])
MUTUAL = 0.3
SHIFT = np.exp(-2j * np.pi / 3 * np.arange(3))
PRICE = 2e-6
"""Two accepted optima may each be 1e-6 from stationary."""
UP, DOWN = Product.RESERVE_UP, Product.RESERVE_DOWN
ROWS = ("node", "product", "side", "price", "slope", "quantity_kw", "kvar_per_kw", "participant")
seeds = st.integers(0, 10**6)


def feeder(
    phases: int = 1,
    *,
    parent: list[int] = PARENT,
    ohm: np.ndarray = OHM,
    mutual: float = MUTUAL,
    rating_kva: float = np.inf,
    kind: LimitKind = LimitKind.CURRENT,
    base_kva: float = 100.0,
    source: np.ndarray | None = None,
) -> Network:
    """A tree of one node per bus, or of three: node ``3 k + p`` is phase p + 1 of bus k; bus 0 is the root.

    Three phases have the positive-sequence impedance `ohm` and couple by `mutual` of it; ratings are of the whole line.
    """
    size, kv = len(parent) + 1, 0.4 if phases == 1 else 0.4 / np.sqrt(3)
    coupling = np.identity(phases) + (mutual if phases > 1 else 0.0)
    blocks = [kv**2 * 1e3 / base_kva * np.linalg.inv(z * coupling) for z in ohm]
    child, above = np.arange(1, size), np.asarray(parent)
    ends = sp.csr_matrix(
        (np.repeat([1.0, -1.0], size - 1), (np.tile(child - 1, 2), np.concatenate([above, child]))),
        shape=(size - 1, size),
    )
    ends = sp.csr_matrix(sp.kron(ends, np.identity(phases)))
    flow = sp.csr_matrix(sp.block_diag(blocks) @ ends)
    at = (np.concatenate([above, child])[:, None] * phases + np.arange(phases)).ravel()
    return Network(
        name="street",
        nodes=tuple(str(k // phases) for k in range(size * phases)),
        phase=np.tile(np.arange(1, 4), size) if phases == 3 else np.zeros(size, dtype=np.int64),
        base_kva=base_kva,
        base_kv=np.full(size * phases, kv),
        admittance=sp.csr_matrix(ends.T @ flow),
        source=np.arange(phases),
        source_voltage=(np.ones(1) + 0j if phases == 1 else SHIFT) if source is None else source,
        v_min=np.full(size * phases, 0.9),
        v_max=np.full(size * phases, 1.1),
        branches=Branches(
            element=tuple(f"line {k}" for k in np.repeat(child, phases)) * 2,
            node=at,
            current_rows=sp.csr_matrix(sp.vstack([flow, -flow])),
            rating_pu=np.full(at.size, rating_kva / phases / base_kva),
            kind=np.full(at.size, int(kind)),
        ),
    )


@cache
def street(phases: int, limited: str = "") -> Network:
    kind = LimitKind.APPARENT_POWER if limited == "S" else LimitKind.CURRENT
    return feeder(phases, rating_kva=18.0 if limited else np.inf, kind=kind)


@cache
def table(phases: int) -> tuple[np.ndarray, Connections]:
    """Places where people live: every node, or a phase, two, three, between two, delta, at some buses."""
    if phases == 1:
        return np.arange(1, 13), Connections.none()
    rng, connector = np.random.default_rng(5), Connector(street(3))
    kinds = ("1", "2", "3", "1-2", "2-3", "1-3", "1.2", "2.3", "1.3", "", "1-2-3")
    found = [connector.place(str(rng.integers(1, 13)), kinds[k % len(kinds)]) for k in range(22)]
    return np.array(found), connector.table()


def market(seed: int, phases: int = 1, size: int = 40, scale: float = 1.0, plain: bool = False) -> OrderBook:
    """Buyers and sellers, steps and slopes, ties in every second book, price-takers, reactive orders."""
    rng, (places, connections) = np.random.default_rng(seed), table(phases)
    product = np.where(rng.random(size) < 0.15, int(Product.REACTIVE), int(Product.ENERGY))
    side, energy = np.where(rng.random(size) < 0.6, 1, -1), product == Product.ENERGY
    buys, sells = rng.uniform(0.15, 0.7, size), rng.uniform(-0.2, 0.35, size)
    if seed % 2:
        buys, sells = rng.choice([0.2, 0.3, 0.4, 0.6], size), rng.choice([-0.2, 0.0, 0.1, 0.3], size)
    price = np.where(energy, np.where(side > 0, buys, sells), rng.choice([0.0, 0.01], size))
    taker, sloped = rng.random(size) < 0.15, rng.random(size) < 0.2
    kw = (1.0 if phases == 1 else 0.4) * scale * rng.uniform(0, 4, size) * (rng.random(size) > 0.05)
    return OrderBook.of(
        rng.choice(places, size), side, np.where(taker & (not plain), np.nan, price), kw,
        slope=np.where(sloped & (not plain), 0.05 / scale, 0.0),
        kvar_per_kw=np.where(energy & (rng.random(size) < 0.4), rng.uniform(-0.5, 0.5, size), 0.0),
        product=product, connections=connections,
    )  # fmt: skip


def limits(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed + 1000)
    chosen = {"v_min": float(rng.choice([0.9, 0.96, 0.98])), "v_max": float(rng.choice([1.01, 1.1]))}
    if rng.random() < 0.4:
        chosen["root_limit_kw"] = float(rng.choice([5.0, 20.0]))
    return chosen


def on(seed: int, phases: int) -> Callable[..., Clearing]:
    """A market place: network, root prices and limits of a seed; clears books."""
    network = street(phases, ("", "I", "S")[seed % 3])

    def solve(book: OrderBook, **more: Any) -> Clearing:
        return clear(network, book, ROOT, **{"root_reactive_price": ROOT_REACTIVE, **limits(seed), **more})

    return solve


def chosen(book: OrderBook, rows: np.ndarray) -> OrderBook:
    return replace(book, **{name: getattr(book, name)[rows] for name in ROWS})


def paid(book: OrderBook, outcome: Clearing) -> float:
    return float((book.side * outcome.award_kw * unit_price(book, outcome)).sum())


def unit_price(book: OrderBook, outcome: Clearing) -> np.ndarray:
    coupled = np.where(book.product == Product.ENERGY, book.kvar_per_kw * outcome.prices.reactive[book.node], 0.0)
    return outcome.prices.of_orders(book) + coupled


def is_unique(outcome: Clearing) -> bool:
    return np.array_equal(outcome.prices.low, outcome.prices.high)


def assert_alike(one: Clearing, two: Clearing, book: OrderBook, *, money: float = 1.0) -> None:
    """Same status and welfare; same unique prices, where somebody trades; `money` coins of `two` are one of `one`."""
    assert two.status == one.status, two.reason
    assert two.welfare / money == pytest.approx(one.welfare, rel=1e-8, abs=1e-8)
    if is_unique(one) and is_unique(two):
        size = max(1.0, float(np.abs(one.prices.energy).max()))
        at = np.unique(book.node)
        assert two.prices.energy[at] / money == pytest.approx(one.prices.energy[at], abs=PRICE * size)


def with_reserve(seed: int, phases: int) -> tuple[OrderBook, Agreements]:
    rng, scale = np.random.default_rng(seed), 1.0 if phases == 1 else 0.5
    book = market(seed, phases, size=25, scale=2.0)
    book = replace(book, participant=rng.integers(1, 10, 25))
    parts = [book]
    for product in (UP, DOWN):
        rows = rng.choice(25, 10)
        parts.append(
            OrderBook.of(
                book.node[rows], -1, rng.uniform(0, 0.08, 10), scale * rng.uniform(0, 3, 10), product=product,
                participant=book.participant[rows], connections=book.connections,
            )
        )  # fmt: skip
        kw = [12 * scale * rng.uniform(0.2, 0.8)]
        parts.append(OrderBook.of([0], 1, 3.0, kw, product=product, connections=book.connections))
    who = np.unique(np.stack([book.participant, book.node]), axis=1)[:, ::3]

    def some(low: float, high: float) -> np.ndarray:
        return np.where(rng.random(who.shape[1]) < 0.5, np.inf, rng.uniform(low, high, who.shape[1]))

    agreed = Agreements.of(
        who[0], who[1], import_kw=some(1, 6), export_kw=some(1, 6), firm_import_kw=some(0, 2),
        firm_export_kw=some(0, 2), energy_up_kwh=some(0, 3), energy_down_kwh=some(0, 3),
    )  # fmt: skip
    return OrderBook.concat(*parts), agreed
