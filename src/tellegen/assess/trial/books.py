"""A random market: who bids what, at which prices at the root, within which limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tellegen.assess.trial.grounds import Ground
from tellegen.grid import Engine, FixedLoads, Network, best_engine
from tellegen.grid.network import FloatArray, IntArray
from tellegen.market import Agreements, Clearing, OrderBook, Start, clear
from tellegen.records import Product, Side

LOAD_MOST = 3.0
"""Books are drawn at nothing up to so many times the peak for which the feeder was planned."""
NUDGE = 0.03
"""The market before: every price and quantity by so much another, a tenth of the orders another altogether."""


@dataclass(frozen=True)
class Market:
    """One book with all that `clear` is told of it; every second one by the fastest engine installed."""

    network: Network
    book: OrderBook
    root_price: float
    root_reactive_price: float
    root_limit_kw: float | None
    v_min: float | None
    v_max: float | None
    loads: FixedLoads | None
    agreements: Agreements | None
    load_scale: float
    engine: Engine

    def clear(self, book: OrderBook | None = None, start: Start | None = None) -> Clearing:
        """Clear this book, or another under the same rules."""
        return clear(
            self.network,
            self.book if book is None else book,
            self.root_price,
            root_reactive_price=self.root_reactive_price,
            root_limit_kw=self.root_limit_kw,
            v_min=self.v_min,
            v_max=self.v_max,
            loads=self.loads,
            agreements=self.agreements,
            start=start,
            engine=self.engine,
        )

    @cached_property
    def price_scale(self) -> float:
        """Size of prices, currency/kWh."""
        asked = np.abs(self.book.price[np.isfinite(self.book.price)])
        return max(abs(self.root_price), float(asked.mean()) if asked.size else 0.0, 1e-2)


def draw_market(ground: Ground, number: int) -> Market:
    """The market of a number on a ground: the same whenever and wherever it is drawn."""
    rng = np.random.default_rng([ground.seed, number])
    noon, load = bool(rng.random() < 0.5), LOAD_MOST * float(rng.random()) * bool(rng.random() > 0.05)
    root = _root_price(rng)
    count = int(rng.integers(1, ground.place.size + 1))
    who = np.sort(rng.choice(ground.place.size, count, replace=False))
    rows = _Rows(rng, ground, who, coarse=bool(rng.random() < 0.3))
    _homes(rows, load)
    if noon:
        _roofs(rows)
    _devices(rows)
    reserves = bool(rng.random() < 0.25)
    if reserves:
        _reserves(rows)
    peak = float(ground.peak_kw.sum())
    agreements = _agreements(rows) if rng.random() < 0.25 else None
    own = float(rng.choice([0.3, 1.0])) * load if rng.random() < 0.6 else 0.0
    loads = None
    if ground.loads is not None and own > 0:
        loads = replace(ground.loads, p_kw=own * ground.loads.p_kw, q_kvar=own * ground.loads.q_kvar)
    return Market(
        network=ground.networks[int(rng.integers(len(ground.networks)))],
        book=rows.book(),
        root_price=root,
        root_reactive_price=float(rng.choice([0.0, 0.005])),
        root_limit_kw=float(peak * rng.uniform(0.0, 1.0)) if rng.random() < 0.3 else None,
        v_min=[None, 0.85, 0.95, 0.97][int(rng.integers(4))],
        v_max=[None, 1.03, 1.05, 1.15][int(rng.integers(4))],
        loads=loads,
        agreements=agreements,
        load_scale=load,
        engine=best_engine() if number % 2 else Engine.SUPERLU,
    )


def nudged(market: Market, number: int) -> OrderBook:
    """The book of the interval before: alike, with other bids."""
    rng, book = np.random.default_rng([7, number]), market.book
    size = len(book)
    other = rng.random(size) < 0.1
    moved = np.where(other, rng.uniform(0.2, 2.0, size), 1.0 + NUDGE * rng.standard_normal(size))
    return replace(
        book,
        price=book.price * np.where(other, rng.uniform(0.5, 1.5, size), 1.0 + NUDGE * rng.standard_normal(size)),
        quantity_kw=book.quantity_kw * np.abs(moved),
    )


def _root_price(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.1:
        return 0.0
    low, high = (-0.3, 0.0) if kind < 0.2 else (0.5, 3.0) if kind < 0.3 else (0.05, 0.5)
    return float(rng.uniform(low, high))


class _Rows:
    """Gathers the orders of one market; customer k of `who` is participant ``who[k] + 1``."""

    def __init__(self, rng: np.random.Generator, ground: Ground, who: IntArray, *, coarse: bool) -> None:
        self.rng, self.ground, self.who, self._coarse = rng, ground, who, coarse
        self.peak_kw = np.maximum(ground.peak_kw[who], 0.1)
        self._parts: list[OrderBook] = []

    def chance(self, share: float) -> np.ndarray:
        """Which customers do something that `share` of them do, bool[C]."""
        return np.asarray(self.rng.random(self.who.size) < share)

    def price(self, low: float, high: float) -> FloatArray:
        """Prices, in every third market from a short list, so that some tie."""
        drawn = self.rng.uniform(low, high, self.who.size)
        return np.round(drawn, 1) if self._coarse else drawn

    def add(
        self,
        among: np.ndarray,
        side: Side,
        price: FloatArray | float,
        kw: FloatArray,
        *,
        slope: FloatArray | float = 0.0,
        kvar: FloatArray | float = 0.0,
        product: Product = Product.ENERGY,
    ) -> None:
        """An order each of those `among` the customers."""
        at = np.flatnonzero(among)
        price, slope, kvar = (
            np.broadcast_to(np.asarray(v, dtype=np.float64), kw.shape)[at] for v in (price, slope, kvar)
        )
        self._parts.append(
            OrderBook.of(
                self.ground.place[self.who[at]], side, price, kw[at], slope=slope, kvar_per_kw=kvar, product=product,
                participant=self.who[at] + 1, connections=self.ground.connections,
            )
        )  # fmt: skip

    def require(self, product: Product, price: float, kw: float) -> None:
        """The operator's order for reserve."""
        place = int(self.ground.place[0])
        part = OrderBook.of([place], Side.BUY, price, [kw], product=product, connections=self.ground.connections)
        self._parts.append(part)

    def offered_kw(self, product: Product) -> float:
        """What is offered of a product so far."""
        return float(sum(p.quantity_kw[(p.product == product) & (p.side == Side.SELL)].sum() for p in self._parts))

    def book(self) -> OrderBook:
        """All orders."""
        return OrderBook.concat(*self._parts)


def _homes(rows: _Rows, load: float) -> None:
    """Demand: price-takers, steps, falling lines; with reactive power that is drawn or fed in."""
    rng, size = rows.rng, rows.who.size
    demand = load * rows.peak_kw * rng.uniform(0.3, 1.2, size)
    kind, kvar = rng.random(size), np.where(rows.chance(0.8), rng.uniform(-0.2, 0.5, size), 0.0)
    firm = float(rng.choice([0.1, 0.4, 0.9]))
    rows.add(kind < firm, Side.BUY, np.nan, demand, kvar=kvar)
    stepped = (kind >= firm) & (kind < firm + 0.7 * (1 - firm))
    first = rng.uniform(0.3, 0.8, size)
    rows.add(stepped, Side.BUY, rows.price(0.4, 2.0), demand * first, kvar=kvar)
    rows.add(stepped, Side.BUY, rows.price(0.1, 0.4), demand * (1 - first), kvar=kvar)
    top, bottom = rows.price(0.3, 1.5), rng.uniform(-0.05, 0.3, size)
    slope = (top - bottom) / np.maximum(demand, 1e-3)
    rows.add(
        (kind >= firm + 0.7 * (1 - firm)) & (demand > 0), Side.BUY, top, demand, slope=np.maximum(slope, 0.0), kvar=kvar
    )


def _roofs(rows: _Rows) -> None:
    """Sun beyond what is drawn: part of it cannot be curtailed, some is paid to feed in."""
    rng, size = rows.rng, rows.who.size
    kw = rows.peak_kw * rng.uniform(0.3, 4.0, size) * float(rng.random())
    roof, taker = rows.chance(0.5), rows.chance(0.15)
    rows.add(roof & taker, Side.SELL, np.nan, kw)
    rows.add(roof & ~taker, Side.SELL, rows.price(-0.2, 0.1), kw, kvar=np.where(rows.chance(0.3), -0.2, 0.0))


def _devices(rows: _Rows) -> None:
    """Batteries on both sides, engines with rising cost, reactive power for sale and sought."""
    rng, size = rows.rng, rows.who.size
    kw = rows.peak_kw * rng.uniform(0.3, 2.0, size)
    battery = rows.chance(0.2)
    rows.add(battery, Side.BUY, rows.price(0.1, 0.25), kw)
    rows.add(battery, Side.SELL, rows.price(0.27, 0.5), kw)
    rows.add(rows.chance(0.1), Side.SELL, rows.price(0.0, 0.6), 3 * kw, slope=rng.uniform(0.01, 0.3, size) / kw)
    for side in (Side.BUY, Side.SELL):
        rows.add(rows.chance(0.08), side, rows.price(0.0, 0.02), kw, product=Product.REACTIVE)


def _reserves(rows: _Rows) -> None:
    """Offers of reserve, and an operator who requires it at a price or at any."""
    rng, size = rows.rng, rows.who.size
    for product in (Product.RESERVE_UP, Product.RESERVE_DOWN):
        if rng.random() < 0.3:
            continue
        rows.add(
            rows.chance(0.4),
            Side.SELL,
            rows.price(0.0, 0.1),
            rows.peak_kw * rng.uniform(0.1, 1.5, size),
            product=product,
        )
        wanted = rows.offered_kw(product) * rng.uniform(0.1, 1.2)
        rows.require(product, float("nan") if rng.random() < 0.3 else float(rng.uniform(0.05, 3.0)), wanted)


def _agreements(rows: _Rows) -> Agreements:
    """Agreements of a third of the customers, each with some of the limits."""
    rng = rows.rng
    some = rows.chance(0.35)
    at, kw = rows.who[some], rows.peak_kw[some]

    def limit(low: float, high: float) -> FloatArray:
        return np.where(rng.random(at.size) < 0.5, np.inf, kw * rng.uniform(low, high, at.size))

    return Agreements.of(
        at + 1, rows.ground.place[at], import_kw=limit(0.2, 3), export_kw=limit(0.2, 3), firm_import_kw=limit(0, 2),
        firm_export_kw=limit(0, 2), energy_up_kwh=limit(0, 2), energy_down_kwh=limit(0, 2),
    )  # fmt: skip
