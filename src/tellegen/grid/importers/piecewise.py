"""Piecewise linear costs as rows of `Generators`: one row per segment, which shares the generator's name.

Rows are offers on their own, so segments fill in their order only where the cost is convex: all else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tellegen.grid.network import Generators

Segment = tuple[float, float, float]
"""From kW, to kW, currency per kWh."""
SAME_SLOPE = 1e-9
"""Share by which a slope may fall: rounding in the file's points."""


def segments(points_kw: Sequence[float], cost_per_h: Sequence[float]) -> list[Segment]:
    """Segments of a cost through points, currency per hour over kW.

    Raises
    ------
    ValueError : fewer than two points, points that do not ascend, or a cost that is not convex; says which.

    >>> segments([0, 10, 20], [0, 1, 3])
    [(0.0, 10.0, 0.1), (10.0, 20.0, 0.2)]
    """
    x, y = np.asarray(points_kw, dtype=np.float64), np.asarray(cost_per_h, dtype=np.float64)
    if x.size < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("needs two or more finite points")
    width = np.diff(x)
    if (width <= 0).any():
        raise ValueError("needs points of ascending power")
    slope = np.diff(y) / width
    if (np.diff(slope) < -SAME_SLOPE * np.abs(slope).max()).any():
        raise ValueError("has a cost that is not convex; the marginal cost must not fall as power rises")
    return [(float(a), float(b), float(s)) for a, b, s in zip(x[:-1], x[1:], slope, strict=True)]


def clipped(parts: Sequence[Segment], low_kw: float, high_kw: float) -> list[Segment]:
    """The segments within [low, high]; the first and the last reach on where the limits lie beyond them.

    A range across zero is split there, so that no row both draws and injects.
    """
    edges = [low_kw, *(b for _, b, _ in parts[:-1]), high_kw]
    out = []
    for k, (_, _, slope) in enumerate(parts):
        a, b = max(edges[k], low_kw), min(edges[k + 1], high_kw)
        for start, end in ((min(a, 0.0), min(b, 0.0)), (max(a, 0.0), max(b, 0.0))):
            if end > start:
                out.append((start, end, slope))
    return out or [(low_kw, high_kw, parts[0][2])]


def with_segments(units: Generators, costs: Mapping[int, Sequence[Segment]]) -> Generators:
    """Replace the rows of generators (by position) with one row per segment of their cost.

    A row of segment [a, b] stands for ``b - a`` above ``a``: its limits are 0 and ``b - a`` (below zero: ``a - b`` and
    0). What runs in any case, up to a positive lower limit, belongs to the first row. Set-points are shared out in
    order; reactive power stays with the first row.
    """
    if not costs:
        return units
    rows: list[int] = []
    columns: dict[str, list[float]] = {name: [] for name in (*_POWER, "cost_linear", "cost_quadratic")}
    for k in range(len(units.name)):
        own = {name: float(getattr(units, name)[k]) for name in columns}
        if k not in costs:
            pieces = [own]
        else:
            pieces = _pieces(own, clipped(costs[k], own["p_min_kw"], own["p_max_kw"]))
        for piece in pieces:
            rows.append(k)
            for name, values in columns.items():
                values.append(piece[name])
    at = np.array(rows, dtype=np.int64)
    return replace(
        units,
        name=tuple(units.name[k] for k in rows),
        node=units.node[at],
        has_cost=units.has_cost[at] | np.isin(at, list(costs)),
        **{name: np.array(values, dtype=np.float64) for name, values in columns.items()},
    )


_POWER = ("p_kw", "q_kvar", "p_min_kw", "p_max_kw", "q_min_kvar", "q_max_kvar")


def _pieces(own: dict[str, float], parts: Sequence[Segment]) -> list[dict[str, float]]:
    out = []
    for k, (a, b, slope) in enumerate(parts):
        # What must run in any case stays with the row that is nearest to zero; all others start at zero.
        if b <= 0:
            base = 0.0 if k == len(parts) - 1 else b
        else:
            base = 0.0 if k == 0 else a
        piece = dict.fromkeys(own, 0.0)
        piece.update(p_min_kw=a - base, p_max_kw=b - base, cost_linear=slope)
        piece["p_kw"] = float(np.clip(own["p_kw"] - base, a - base, b - base))
        out.append(piece)
    out[0].update({name: own[name] for name in ("q_kvar", "q_min_kvar", "q_max_kvar")})
    return out
