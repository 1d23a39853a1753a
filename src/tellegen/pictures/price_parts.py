"""Of what a price is made, node by node on the way from the root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.network import IntArray
from tellegen.pictures.canvas import BLUE, FAINT, INK, ORANGE, VERMILION, legend_below, sheet
from tellegen.workbench import ClearingResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED_MAX = 45
"""Up to so many nodes along the way, all are named."""
_COLOUR = {"losses": ORANGE, "congestion": VERMILION, "voltage": BLUE}
_HATCH = {"losses": "", "congestion": "////", "voltage": "...."}


def price_parts(result: ClearingResult, node: str | None = None, *, phase: int | None = None) -> Figure:
    """Losses, congestion and voltage on top of the root's price, at every node from the root to `node`.

    Parameters
    ----------
    result : a clearing.
    node : bus at the end of the way; None: where the price differs most from the root's.
    phase : 1, 2 or 3; None: the one whose price at `node` differs most from the root's.

    Raises
    ------
    InputError : there is no such node, or matplotlib is not installed.
    """
    nodes, phase = _way(result, node, phase)
    feeder, price = result.feeder, result.clearing.prices
    end = feeder.network.nodes[int(nodes[-1])]
    on_phase = f", phase {phase}" if phase else ""
    figure, axes = sheet(f"{feeder.name}: what the price is made of, from the root to {end}{on_phase}")
    x = np.arange(nodes.size)
    base = result.root_price
    up, down = np.zeros(nodes.size), np.zeros(nodes.size)
    for name, colour in _COLOUR.items():
        part = getattr(price, name)[nodes]
        if not (np.abs(part) > 1e-12).any():
            continue
        bottom = base + np.where(part >= 0, up, down)
        axes.bar(
            x,
            part,
            bottom=bottom,
            width=0.86,
            color=colour,
            hatch=_HATCH[name],
            edgecolor="white",
            linewidth=0.0,
            label=name,
        )
        up, down = up + np.maximum(part, 0), down + np.minimum(part, 0)
    axes.axhline(base, color=FAINT, linewidth=1.0, linestyle="--", label="energy: the price at the root")
    axes.plot(x, price.energy[nodes], color=INK, marker="o", markersize=3.5, linewidth=1.2, label="price")
    shown = x[:: int(np.ceil(nodes.size / NAMED_MAX))]
    names = [feeder.network.nodes[int(k)] for k in nodes[shown]]
    slanted = sum(map(len, names)) > 90
    axes.set_xticks(shown, names, rotation=90 if slanted else 0, fontsize=8.5)
    axes.set_xlim(-0.7, nodes.size - 0.3)
    axes.set_xlabel("node")
    axes.set_ylabel("price, per kWh")
    low, high = float((base + down).min()), float((base + up).max())
    pad = 0.08 * (high - low) or 0.05 * abs(base) or 1.0
    axes.set_ylim(min(low, base) - pad, max(high, base) + pad)
    legend_below(axes)
    return figure


def _way(result: ClearingResult, node: str | None, phase: int | None) -> tuple[IntArray, int]:
    """Nodes of one phase from the root to the end, and the phase."""
    network, way = result.feeder.network, result.feeder.topology
    if node is not None:
        network.node_index(node)  # names the node where there is none
        node = dict(network.aliases).get(str(node), str(node))
    distance = np.abs(result.clearing.prices.energy[: len(network.nodes)] - result.root_price)
    able = way.bus_of_node >= 0
    if node is not None:
        able &= np.array([name == node for name in network.nodes])
    if phase is not None:
        able &= network.phase == phase
    if not able.any():
        raise InputError("picture of price parts", f"phase {phase}", f"is not at node {node}")
    end = int(np.argmax(np.where(able, distance, -1.0)))
    phase = int(network.phase[end])
    at = {int(way.bus_of_node[k]): int(k) for k in np.flatnonzero((network.phase == phase) & (way.bus_of_node >= 0))}
    found = [at[bus] for bus in way.path(int(way.bus_of_node[end])) if bus in at]
    return np.array(found, dtype=np.int64), phase
