"""The order book at the cleared point: demand and supply, awarded first, each in order of price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tellegen.grid.network import FloatArray
from tellegen.pictures.canvas import BLUE, FAINT, VERMILION, legend_below, note, sheet
from tellegen.records import Product
from tellegen.workbench import ClearingResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Stack:
    """One side of the book, float64[n] each: width in kW and price (infinite: a price-taker), in the order drawn."""

    awarded_kw: FloatArray
    awarded_price: FloatArray
    rejected_kw: FloatArray
    rejected_price: FloatArray


def orders(result: ClearingResult) -> Figure:
    """Energy orders as two stacks that meet where the market cleared.

    What was awarded comes first, by price; then what was not, lighter. Demand holds the network's own loads and losses
    as price-takers. The root stands where its price puts it, with what it delivered or took. Both awarded stacks are
    equally long: supply is demand and losses. Nodal prices differ, so an order can be refused in sight of a better one.

    Raises
    ------
    InputError : matplotlib is not installed.
    """
    demand, supply = stacks(result)
    figure, axes = sheet(f"{result.feeder.name}: the order book at the cleared point", height=4.8)
    low, high = _range(result, demand, supply)
    cleared = float(demand.awarded_kw.sum())
    energy = result.clearing.prices.energy
    axes.axhspan(
        max(float(energy.min()), low), min(float(energy.max()), high), color="#cccccc", alpha=0.5, linewidth=0, zorder=0
    )
    axes.plot([], [], color="#cccccc", linewidth=7, label="nodal prices")
    for side, colour, name in ((demand, BLUE, "demand"), (supply, VERMILION, "supply")):
        _draw_steps(axes, 0.0, side.awarded_kw, np.clip(side.awarded_price, low, high), colour, f"{name}, awarded")
        label = f"{name}, not awarded" if side.rejected_kw.size else None
        _draw_steps(
            axes, cleared, side.rejected_kw, np.clip(side.rejected_price, low, high), colour, label, awarded=False
        )
    axes.axvline(cleared, color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
    total = max(float(s.awarded_kw.sum() + s.rejected_kw.sum()) for s in (demand, supply)) or 1.0
    axes.set_xlim(0.0, 1.03 * total)
    axes.set_ylim(low, high)
    if np.isinf(demand.awarded_price).any():
        note(axes, "price-takers and losses", (0.0, high), (4, -6), ha="left", va="top")
    if np.isinf(supply.awarded_price).any():
        note(axes, "price-takers", (0.0, low), (4, 6), ha="left", va="bottom")
    axes.set_xlabel(f"power, kW (cleared: {cleared:,.1f} kW)")
    axes.set_ylabel("price, per kWh")
    legend_below(axes)
    return figure


def stacks(result: ClearingResult) -> tuple[Stack, Stack]:
    """Demand and supply of a clearing; their awarded parts have the same sum."""
    book, flow = result.book, result.clearing.flow
    energy = book.product == Product.ENERGY
    sign = book.side[energy]
    award, wanted = result.clearing.award_kw[energy], book.quantity_kw[energy]
    price = np.where(book.price_taker, np.where(book.side > 0, np.inf, -np.inf), book.price)[energy]
    own_supply = float(np.maximum(-result.fixed_kva.real, 0.0).sum())
    # What the file's loads draw depends on voltage, and is cut in a fallback: it is what else went in.
    own_demand = flow.root_kw - flow.losses_kw - float(sign @ award) + own_supply
    demand_kw = [award[sign > 0], [own_demand, flow.losses_kw, max(-flow.root_kw, 0.0)]]
    demand_price = [price[sign > 0], [np.inf, np.inf, result.root_price]]
    supply_kw = [award[sign < 0], [own_supply, max(flow.root_kw, 0.0)]]
    supply_price = [price[sign < 0], [-np.inf, result.root_price]]
    left = wanted - award
    return (
        _stack(demand_kw, demand_price, left[sign > 0], price[sign > 0], falling=True),
        _stack(supply_kw, supply_price, left[sign < 0], price[sign < 0], falling=False),
    )


def _stack(
    awarded_kw: list[FloatArray | list[float]],
    awarded_price: list[FloatArray | list[float]],
    rejected_kw: FloatArray,
    rejected_price: FloatArray,
    *,
    falling: bool,
) -> Stack:
    kw, price = np.concatenate(awarded_kw), np.concatenate(awarded_price)
    kept, refused = kw > 1e-9, rejected_kw > 1e-9
    kw, price, rejected_kw, rejected_price = kw[kept], price[kept], rejected_kw[refused], rejected_price[refused]
    first, last = (np.argsort(-p if falling else p, kind="stable") for p in (price, rejected_price))
    return Stack(kw[first], price[first], rejected_kw[last], rejected_price[last])


def _range(result: ClearingResult, *sides: Stack) -> tuple[float, float]:
    """Lowest and highest price drawn: of orders and the root; nodal prices beyond twice that range are cut off."""
    named = np.concatenate([[result.root_price], *(p for s in sides for p in (s.awarded_price, s.rejected_price))])
    named = named[np.isfinite(named)]
    low, high = float(named.min()), float(named.max())
    reach = max(high - low, 0.2 * abs(high), 1e-6)
    energy = result.clearing.prices.energy
    low, high = min(low, max(float(energy.min()), low - reach)), max(high, min(float(energy.max()), high + reach))
    pad = 0.15 * max(high - low, reach)
    return low - pad, high + pad


def _draw_steps(
    axes: Axes,
    begin: float,
    width: FloatArray,
    price: FloatArray,
    colour: str,
    label: str | None,
    *,
    awarded: bool = True,
) -> None:
    if not width.size:
        return
    edge = begin + np.concatenate([[0.0], np.cumsum(width)])
    axes.stairs(
        price,
        edge,
        baseline=None,
        color=colour,
        linewidth=2.0 if awarded else 1.4,
        alpha=1.0 if awarded else 0.55,
        linestyle="-" if awarded else (0, (3, 1.2)),
        label=label,
        zorder=3,
    )
