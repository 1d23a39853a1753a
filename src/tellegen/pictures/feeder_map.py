"""The feeder as a map or a one-line diagram, with what is connected, or with prices, voltages or loadings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.network import FloatArray
from tellegen.pictures.canvas import (
    DIVERGING,
    INK,
    ORANGE,
    PHASE_COLOUR,
    PHASE_NAME,
    SEQUENTIAL,
    SKY,
    legend_below,
    note,
    sheet,
)
from tellegen.pictures.layout import bus_places
from tellegen.workbench import ClearingResult, Feeder, FlowResult, Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED_MAX = 40
"""Up to so many buses, all are named."""
MANY = 1500
"""From so many buses on, lines get thinner."""
ONE_SIDED = 0.15
"""Where values leave the root's hardly to one side, a scale of two colours would waste one."""
NEUTRAL = 4
_SHOWS = ("connections", "prices", "voltages", "loadings")


def feeder(subject: Feeder | FlowResult | ClearingResult, *, show: str | None = None) -> Figure:
    """Draw a feeder: on the coordinates of its file, else as a one-line diagram.

    Parameters
    ----------
    subject : a feeder, a power flow or a clearing.
    show : ``connections`` (loads, generators, phases), ``prices``, ``voltages`` or ``loadings``; None: the first that
        the subject has of prices, voltages, connections. Buses show the mean price of their phases, and the voltage
        that is furthest from nominal.

    Raises
    ------
    InputError : the subject has no such thing to show, or matplotlib is not installed.
    """
    show = show or _default(subject)
    if show not in _SHOWS:
        raise InputError("picture of a feeder", f"show '{show}'", f"must be one of {', '.join(_SHOWS)}")
    known = ("connections",) if isinstance(subject, Feeder) else _SHOWS
    if show not in known or (show == "prices" and not isinstance(subject, ClearingResult)):
        raise InputError("picture of a feeder", f"show '{show}'", "needs a clearing; loadings, voltages a power flow")
    of = subject if isinstance(subject, Feeder) else subject.feeder
    way, (places, own) = of.topology, bus_places(of)
    figure, axes = sheet(f"{of.name}: {show}", width=8.0, height=_height(places, own), grid="")
    axes.set_axis_off()
    if own:
        axes.set_aspect(_aspect(places))
    loading = None if isinstance(subject, Feeder) else _edge_loading(way, subject)
    if show == "connections":
        _draw_edges(axes, way, places, own, colour=_phase_colours(of), width=_phase_widths(of))
        _draw_connected(axes, of, places)
    elif show == "loadings":
        assert loading is not None
        _draw_loadings(figure, axes, way, places, own, loading)
    else:
        width = 0.8 + 2.6 * np.clip(np.zeros(len(way.element)) if loading is None else loading / 100.0, 0, 1.2)
        _draw_edges(axes, way, places, own, colour=["#b0b0b0"] * len(way.element), width=width)
        _draw_values(figure, axes, subject, show, places)
    _draw_names(axes, way, places, show)
    return figure


def _default(subject: Feeder | FlowResult | ClearingResult) -> str:
    if isinstance(subject, ClearingResult):
        return "prices"
    return "voltages" if isinstance(subject, FlowResult) else "connections"


def _height(places: FloatArray, own: bool) -> float:
    x, y = np.ptp(places, axis=0)
    if own:
        return float(np.clip(7.0 * y / max(x, 1e-12) + 0.8, 3.5, 9.0))
    return float(np.clip(1.6 + 0.28 * (y + 1), 3.0, 10.0))


def _aspect(places: FloatArray) -> float:
    """Equal lengths both ways; degrees of longitude shrink with the latitude."""
    if np.abs(places[:, 0]).max() <= 180 and np.abs(places[:, 1]).min() >= 15 and np.abs(places[:, 1]).max() <= 80:
        return float(1.0 / np.cos(np.radians(places[:, 1].mean())))
    return 1.0


def _segments(way: Topology, places: FloatArray, own: bool) -> list[FloatArray]:
    """Polyline of every edge: straight on a map, with a right angle in a diagram."""
    drawn = []
    nearer_first = way.parent[way.from_bus] != way.to_bus
    for a, b, keep in zip(way.from_bus.tolist(), way.to_bus.tolist(), nearer_first.tolist(), strict=True):
        near, far = (places[a], places[b]) if keep else (places[b], places[a])
        drawn.append(np.array([near, far]) if own else np.array([near, [near[0], far[1]], far]))
    return drawn


def _draw_edges(
    axes: Axes, way: Topology, places: FloatArray, own: bool, *, colour: Any, width: Any, **more: Any
) -> Any:
    from matplotlib.collections import LineCollection

    loops = ~way.in_tree
    lines = LineCollection(
        _segments(way, places, own),
        colors=colour,
        linewidths=np.asarray(width) * np.clip((MANY / len(way.bus)) ** 0.5, 0.35, 1.0),
        linestyles=["--" if loop else "-" for loop in loops.tolist()],
        capstyle="round",
        zorder=1,
        **more,
    )
    axes.add_collection(lines)
    axes.autoscale_view()
    axes.margins(0.04, 0.06)
    return lines


def _edge_phases(of: Feeder) -> list[tuple[int, ...]]:
    """Phases of every edge."""
    found: dict[str, set[int]] = {}
    branches, network = of.network.branches, of.network
    for name, node in zip(branches.element, branches.node.tolist(), strict=True):
        if network.phase[node] < NEUTRAL:
            found.setdefault(name, set()).add(int(network.phase[node]))
    return [tuple(sorted(found.get(name, ()))) for name in of.topology.element]


def _phase_colours(of: Feeder) -> list[str]:
    return [PHASE_COLOUR[p[0]] if len(p) == 1 and p[0] else "#555555" for p in _edge_phases(of)]


def _phase_widths(of: Feeder) -> list[float]:
    return [1.5 if p == (0,) else 0.7 + 0.5 * len(p) for p in _edge_phases(of)]


def _draw_connected(axes: Axes, of: Feeder, places: FloatArray) -> None:
    """Loads as discs, generators as triangles, their areas in proportion to power."""
    from matplotlib.lines import Line2D

    way, case = of.topology, of.case
    count = len(way.bus)
    load, units = np.zeros(count), np.zeros(count)
    into = case.loads.p_kw > 0
    np.add.at(load, way.bus_of_node[case.loads.node[into]], case.loads.p_kw[into])
    np.add.at(units, way.bus_of_node[case.loads.node[~into]], -case.loads.p_kw[~into])
    np.add.at(units, way.bus_of_node[case.generators.node], np.maximum(case.generators.p_kw, case.generators.p_max_kw))
    largest = max(load.max(initial=0.0), units.max(initial=0.0), 1e-9)
    area = float(np.clip(20_000 / count, 40, 220))
    axes.scatter(places[:, 0], places[:, 1], s=min(6.0, 400 / count), color="#555555", zorder=2, linewidths=0)
    for power, marker, colour in ((load, "o", SKY), (units, "^", ORANGE)):
        at = power > 0
        axes.scatter(
            places[at, 0],
            places[at, 1],
            s=area * np.maximum(power[at] / largest, 0.12),
            marker=marker,
            color=colour,
            edgecolors="white",
            linewidths=0.4,
            zorder=3 if marker == "o" else 4,
        )
    handles = []
    if load.any():
        handles.append(_mark("o", SKY, f"load, {load.sum():,.0f} kW in all"))
    if units.any():
        handles.append(_mark("^", ORANGE, f"generator, {units.sum():,.0f} kW in all"))
    phases = sorted({p[0] for p in _edge_phases(of) if len(p) == 1 and p[0]})
    handles += [Line2D([], [], color=PHASE_COLOUR[p], linewidth=1.5, label=f"{PHASE_NAME[p]} only") for p in phases]
    if phases:
        handles.append(Line2D([], [], color="#555555", linewidth=2.2, label="two or three phases"))
    legend_below(axes, handles=handles)


def _mark(marker: str, colour: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, color=colour, linestyle="", markersize=7, label=label)


def _edge_loading(way: Topology, subject: FlowResult | ClearingResult) -> FloatArray:
    frame = subject.loadings
    percent = dict(zip(frame["element"].to_list(), frame["percent"].to_list(), strict=True))
    return np.array([percent.get(name, 0.0) for name in way.element])


def _draw_loadings(
    figure: Figure, axes: Axes, way: Topology, places: FloatArray, own: bool, loading: FloatArray
) -> None:
    order = np.clip(loading / 100.0, 0, 1.2)
    lines = _draw_edges(axes, way, places, own, colour=None, width=1.0 + 3.0 * order, cmap=SEQUENTIAL + "_r")
    lines.set_array(loading)
    lines.set_clim(0.0, max(100.0, float(loading.max(initial=0.0))))
    _colour_bar(figure, axes, lines, "loading, % of rating")


def _draw_values(
    figure: Figure, axes: Axes, subject: FlowResult | ClearingResult | Feeder, show: str, places: FloatArray
) -> None:
    assert not isinstance(subject, Feeder)
    from matplotlib.colors import Normalize, TwoSlopeNorm

    way = subject.feeder.topology
    value, limited = _bus_values(subject, show)
    known = np.isfinite(value)
    low, high = float(value[known].min()), float(value[known].max())
    middle = subject.root_price if isinstance(subject, ClearingResult) and show == "prices" else 1.0
    pad = 1e-9 + 0.02 * (high - low)
    norm = Normalize(low - pad, high + pad)
    reach = max(middle - low, high - middle)
    if min(middle - low, high - middle) > ONE_SIDED * reach:
        norm = TwoSlopeNorm(middle, middle - reach, middle + reach)
    palette = DIVERGING if isinstance(norm, TwoSlopeNorm) else SEQUENTIAL
    order = np.argsort(np.abs(np.where(known, value, middle) - middle))
    order = order[known[order]]
    points = axes.scatter(
        places[order, 0],
        places[order, 1],
        c=value[order],
        cmap=palette,
        norm=norm,
        s=float(np.clip(4500 / len(way.bus), 14, 90)),
        edgecolors="#444444",
        linewidths=0.4,
        zorder=3,
    )
    if limited.any():
        axes.scatter(
            places[limited, 0],
            places[limited, 1],
            s=float(np.clip(9000 / len(way.bus), 24, 200)),
            facecolors="none",
            edgecolors=INK,
            linewidths=1.4 if len(way.bus) < 1000 else 0.7,
            zorder=4,
            label="voltage limit binds" if isinstance(subject, ClearingResult) else "outside its voltage limits",
        )
        legend_below(axes)
    _colour_bar(figure, axes, points, "price, per kWh" if show == "prices" else "voltage, pu")


def _bus_values(subject: FlowResult | ClearingResult, show: str) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Value per bus, NaN for buses of neutrals alone, and buses at (or beyond) a voltage limit."""
    network, way = subject.feeder.network, subject.feeder.topology
    flow = subject.clearing.flow if isinstance(subject, ClearingResult) else subject.flow
    node = np.flatnonzero((way.bus_of_node >= 0) & (network.phase < NEUTRAL))
    bus = way.bus_of_node[node]
    pu = np.abs(flow.voltage)
    limited = np.zeros(len(way.bus), dtype=np.bool_)
    if isinstance(subject, ClearingResult):
        at = [limit.index for limit in subject.clearing.limits if limit.unit == "pu"]
        limited[way.bus_of_node[at]] = True
    else:
        free = np.setdiff1d(node, network.source)
        out = free[(pu[free] < network.v_min[free] - 1e-9) | (pu[free] > network.v_max[free] + 1e-9)]
        limited[way.bus_of_node[out]] = True
    if show == "prices" and isinstance(subject, ClearingResult):
        total = np.bincount(bus, subject.clearing.prices.energy[node], minlength=len(way.bus))
        count = np.bincount(bus, minlength=len(way.bus))
        return np.divide(total, count, out=np.full(len(way.bus), np.nan), where=count > 0), limited
    value = np.full(len(way.bus), np.nan)
    for k, b in zip(node.tolist(), bus.tolist(), strict=True):
        if not abs(pu[k] - 1.0) <= abs(value[b] - 1.0):
            value[b] = pu[k]
    return value, limited


def _colour_bar(figure: Figure, axes: Axes, mappable: Any, label: str) -> None:
    bar = figure.colorbar(mappable, ax=axes, shrink=0.75, aspect=28, pad=0.02)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)


def _draw_names(axes: Axes, way: Topology, places: FloatArray, show: str) -> None:
    axes.scatter(places[way.root, 0], places[way.root, 1], marker="s", s=70, color=INK, zorder=5)
    few = len(way.bus) <= LABELLED_MAX
    for bus in range(len(way.bus)) if few else way.root.tolist():
        name = way.bus[bus]
        at_root = bus in way.root
        note(
            axes,
            f"root {name}" if at_root else name,
            (float(places[bus, 0]), float(places[bus, 1])),
            (0, -17) if at_root else (0, 6),
            ha="center",
            zorder=6,
            fontweight="bold" if at_root else "normal",
        )
