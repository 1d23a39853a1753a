"""What gave way in a clearing, as it goes on record: the shadow price stays as evidence where cap and floor hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tellegen.market import Clearing, OrderBook
from tellegen.market.limits import LimitType
from tellegen.market.paper import PaperTaken
from tellegen.records import Product, Relaxations
from tellegen.units import MICROS, ROW_LIMIT, IntArray

NOT_CONVEX = (LimitType.VOLTAGE_MAX, LimitType.ROOT_EXPORT)
"""Limits that less of everything, in proportion, may strain more, though they hold where nothing flows."""
PAPER_ROW = "paper"
"""Name of the row of a feeder's paper."""
OF_ONE = {
    LimitType.EXPORT: "export limits of connections",
    LimitType.IMPORT: "import limits of connections",
    LimitType.STORED_UP: "energy behind reserve up",
    LimitType.STORED_DOWN: "energy behind reserve down",
    LimitType.SERVED: "demand and supply at nodes",
}
"""Limits that each concern one home, and the name of the row of all of a kind."""


def gave_way(outcome: Clearing, taken: PaperTaken) -> Relaxations:
    """Limits that were exceeded, in the order of the outcome, those of single homes by kind; then paper, in all."""
    prices: dict[str, list[float]] = {}
    for limit in outcome.relaxations:
        prices.setdefault(OF_ONE.get(LimitType(limit.kind), limit.name), []).append(limit.price)
    if taken.node.size:
        prices[PAPER_ROW] = outcome.prices.energy[taken.node].tolist()
    rows = np.zeros(len(prices), dtype=Relaxations.row_dtype())
    if not rows.size:
        return Relaxations.empty()
    rows["limit"] = limit_names(prices)
    rows["lowest_micros"] = whole([min(each) for each in prices.values()], MICROS)
    rows["highest_micros"] = whole([max(each) for each in prices.values()], MICROS)
    if taken.node.size:
        rows["paper_sold_w"][-1] = np.rint(-taken.kw[taken.kw < 0].sum() * 1_000)
        rows["paper_bought_w"][-1] = np.rint(taken.kw[taken.kw > 0].sum() * 1_000)
    return Relaxations.from_rows(rows)


def paid_for_limits(outcome: Clearing, book: OrderBook) -> float:
    """What the orders of a book pay by those parts of prices that limits make, currency/h; reserve apart."""
    prices, at = outcome.prices, book.node
    kw = book.side * outcome.award_kw
    energy, reactive = (prices.congestion + prices.voltage)[at], prices.reactive_parts[2:].sum(axis=0)[at]
    each = np.where(book.product == Product.ENERGY, energy + book.kvar_per_kw * reactive, 0.0)
    return float(kw @ np.where(book.product == Product.REACTIVE, reactive, each))


def limit_names(names: Iterable[str]) -> NDArray[np.bytes_]:
    """Names of limits as a column of a table, cut where they are too long for it."""
    column = Relaxations.row_dtype()["limit"]
    return np.array([name.encode("ascii", "replace")[: column.itemsize] for name in names], dtype=column)


def whole(values: Sequence[float], scale: int) -> IntArray:
    """Values times a scale as whole numbers that fit a row."""
    return np.array([round(max(min(value * scale, ROW_LIMIT - 1), 1 - ROW_LIMIT)) for value in values], dtype=np.int64)
