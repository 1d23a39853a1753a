"""What a network's file itself declares, as the market sees it: inflexible demand, and offers of its generators."""

from __future__ import annotations

import numpy as np

from tellegen.grid import Case
from tellegen.grid.network import ComplexArray
from tellegen.market import OrderBook
from tellegen.records import Product, Side


def set_points(case: Case, *, dispatchable: bool) -> ComplexArray:
    """What the file's generators inject, as negative demand, complex128[N] in kVA.

    Generators with costs count only if `dispatchable` is set.
    """
    demand = np.zeros(len(case.network.nodes), dtype=np.complex128)
    units = case.generators
    counted = np.ones(len(units.node), dtype=bool) if dispatchable else ~units.has_cost
    np.add.at(demand, units.node[counted], -(units.p_kw + 1j * units.q_kvar)[counted])
    return demand


def generator_offers(case: Case) -> OrderBook:
    """Offers of the generators with costs: a linear piece above their minimum, and reactive power."""
    units = case.generators
    rows: list[tuple[int, int, int, float, float, float]] = []
    for k in np.flatnonzero(units.has_cost).tolist():
        node, low, high = int(units.node[k]), float(units.p_min_kw[k]), float(units.p_max_kw[k])
        slope = 2 * float(units.cost_quadratic[k])
        if low > 0:
            rows.append((node, Product.ENERGY, Side.SELL, np.nan, 0.0, low))
        if low < 0:
            rows.append((node, Product.ENERGY, Side.BUY, float(units.cost_linear[k]), slope, -low))
        start = max(low, 0.0)
        marginal = float(units.cost_linear[k]) + slope * start
        rows.append((node, Product.ENERGY, Side.SELL, marginal, slope, high - start))
        rows.append((node, Product.REACTIVE, Side.SELL, 0.0, 0.0, max(float(units.q_max_kvar[k]), 0.0)))
        rows.append((node, Product.REACTIVE, Side.BUY, 0.0, 0.0, max(-float(units.q_min_kvar[k]), 0.0)))
    if not rows:
        return OrderBook.empty()
    nodes, products, sides, prices, slopes, quantities = (np.array(column) for column in zip(*rows, strict=True))
    return OrderBook.of(nodes, sides, prices, quantities, product=products, slope=slopes)
