"""Prices and voltages along the feeder: against the distance from the root, phase by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.pictures.canvas import FAINT, INK, PHASE_COLOUR, PHASE_NAME, VERMILION, legend_below, note, sheet
from tellegen.workbench import ClearingResult, Feeder, FlowResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEUTRAL = 4
MANY = 1500
"""From so many nodes on, what joins them is drawn fainter."""


def prices(result: ClearingResult) -> Figure:
    """Energy prices along the feeder, coloured by phase.

    Raises
    ------
    InputError : matplotlib is not installed.
    """
    feeder, price = result.feeder, result.clearing.prices
    figure, axes = sheet(f"{feeder.name}: prices along the feeder")
    nodes = _draw_profile(axes, feeder, price.energy)
    open_at = nodes[price.high[nodes] - price.low[nodes] > 1e-9]
    if open_at.size:
        x = feeder.topology.distance_ohm[feeder.topology.bus_of_node[open_at]]
        axes.vlines(x, price.low[open_at], price.high[open_at], color=FAINT, linewidth=0.9, label="range of a price")
    axes.axhline(result.root_price, color=FAINT, linewidth=1.0, linestyle="--", label="price at the root", zorder=1)
    axes.set_ylabel("price, per kWh")
    _name_extremes(axes, feeder, nodes, price.energy)
    legend_below(axes, markerscale=max(1.0, 4.0 / np.sqrt(_dot_area(nodes))))
    return figure


def voltages(result: FlowResult | ClearingResult) -> Figure:
    """Voltages along the feeder with their limits, coloured by phase.

    Raises
    ------
    InputError : matplotlib is not installed.
    """
    feeder = result.feeder
    flow = result.clearing.flow if isinstance(result, ClearingResult) else result.flow
    pu = np.abs(flow.voltage)
    figure, axes = sheet(f"{feeder.name}: voltages along the feeder")
    nodes = _draw_profile(axes, feeder, pu)
    _draw_limits(axes, result)
    axes.set_ylabel("voltage, pu")
    _name_extremes(axes, feeder, nodes, pu)
    legend_below(axes, markerscale=max(1.0, 4.0 / np.sqrt(_dot_area(nodes))))
    return figure


def _draw_profile(axes: Axes, feeder: Feeder, value: FloatArray) -> IntArray:
    """Nodes as points, joined as the wires join them; returns the nodes drawn."""
    from matplotlib.collections import LineCollection

    way, network, distance = feeder.topology, feeder.network, feeder.topology.distance_ohm
    nodes = np.flatnonzero((way.bus_of_node >= 0) & (network.phase < NEUTRAL))
    nodes = nodes[np.isfinite(way.distance_ohm[way.bus_of_node[nodes]])]
    at = {(int(way.bus_of_node[k]), int(network.phase[k])): int(k) for k in nodes}
    for phase in sorted({int(p) for p in network.phase[nodes]}):
        mine = nodes[network.phase[nodes] == phase]
        x = distance[way.bus_of_node[mine]]
        pairs = [(at.get((int(way.parent[way.bus_of_node[k]]), phase)), int(k)) for k in mine]
        lines = [
            [(distance[way.bus_of_node[a]], value[a]), (distance[way.bus_of_node[b]], value[b])]
            for a, b in pairs
            if a is not None
        ]
        colour = PHASE_COLOUR[phase]
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=0.9 if nodes.size < MANY else 0.3, alpha=0.45, zorder=2)
        )
        label = "node" if phase == 0 else PHASE_NAME[phase]
        axes.scatter(x, value[mine], s=_dot_area(nodes), color=colour, linewidths=0, label=label, zorder=3)
    axes.set_xlabel("impedance of the lines from the root, Ω")
    axes.margins(0.03, 0.12)
    return nodes


def _dot_area(nodes: IntArray) -> float:
    return float(np.clip(2500 / max(nodes.size, 1), 3, 26))


def _draw_limits(axes: Axes, result: FlowResult | ClearingResult) -> None:
    """One line for each limit that all nodes share; else a short mark for every node."""
    frame, feeder = result.voltages, result.feeder
    way = feeder.topology
    distance = feeder.topology.distance_ohm
    place = {name: float(distance[k]) for k, name in enumerate(way.bus)}
    drawn = False
    for column in ("v_min", "v_max"):
        known = frame.drop_nulls(column)
        levels = known[column].unique().sort().to_list()
        label = None if drawn else "limits"
        if len(levels) == 1:
            axes.axhline(levels[0], color=VERMILION, linewidth=1.2, linestyle="--", label=label, zorder=1)
        elif levels:
            x = [place[name] for name in known["node"].to_list()]
            axes.scatter(x, known[column], marker="_", s=40, color=VERMILION, linewidths=1.0, label=label, zorder=1)
        drawn = drawn or bool(levels)


def _name_extremes(axes: Axes, feeder: Feeder, nodes: IntArray, value: FloatArray) -> None:
    """Name the highest and the lowest node."""
    way, network = feeder.topology, feeder.network
    low, high = int(nodes[np.argmin(value[nodes])]), int(nodes[np.argmax(value[nodes])])
    if value[high] - value[low] < 1e-12:
        return
    distance = feeder.topology.distance_ohm
    reach = float(distance[way.bus_of_node[nodes]].max()) or 1.0
    for node, offset, side in ((high, 8, "bottom"), (low, -8, "top")):
        x = float(distance[way.bus_of_node[node]])
        name = network.nodes[node] + (f".{network.phase[node]}" if network.phase[node] else "")
        where = "right" if x > 0.85 * reach else "left" if x < 0.1 * reach else "center"
        note(axes, f"{name}: {value[node]:.4f}", (x, float(value[node])), (0, offset), ha=where, va=side, zorder=6)
        axes.scatter([x], [value[node]], s=46, facecolors="none", edgecolors=INK, linewidths=1.0, zorder=5)
