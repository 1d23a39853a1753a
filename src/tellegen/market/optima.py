"""Several local optima: when there may be some, and which of them is taken.

Where every price of energy is positive, losses cost something and the optimum that the search finds is in practice the
only one. Where a price is negative, somebody is paid to burn energy in the wires, and the cost is concave in the
dispatch: case33bw with offers at -0.2 behind an export cap has several optima, and each search ends at that on whose
slope it began. So a negative price, at the root or at any place, is the sign on which the search is run again from a
fixed list of starts, each cold, so that neither the last interval nor the order in which they are run has a say. The
largest welfare is taken; of equals the first in the list, and what the search at hand had found only if it is better
than all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.powerflow import GridError
from tellegen.market.effort import Effort
from tellegen.market.operating_point import Task, price_scale
from tellegen.market.search import Found, Guess, search

NEGATIVE = 1e-6
"""A price below this share of the price scale, with a minus before it, is negative and not rounding."""
EQUAL = 1e-8
"""Optima whose welfare differs by less than this share of all flexible power at the price scale are the same."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a search came out on top.

    Attributes
    ----------
    starts : starts that were run besides the search at hand.
    optima : distinct optima seen, told apart by welfare.
    spread : currency/h, welfare of the best less that of the worst.
    """

    starts: int = 0
    optima: int = 1
    spread: float = 0.0


def may_have_several(task: Task, energy: FloatArray) -> bool:
    """Whether some price of energy is negative, float64[places] of the optimum at hand or that of the root."""
    least = min(task.root_price, float(energy.min(initial=0.0)))
    return bool(task.steps.width.size) and least < -NEGATIVE * price_scale(task)


def best_of_all(task: Task, found: Found, effort: Effort) -> tuple[Found, Choice]:
    """The best of what was found and of what the fixed starts find, and how that came about."""
    ends: list[Found] = []
    listed = starts(task)
    for y in listed:
        try:
            end = search(task, Guess(y, np.zeros(0, dtype=np.int64), np.zeros(0)), effort)
        except GridError:
            continue
        if end.settled:
            ends.append(end)
    run = len(listed)
    if found.settled:
        ends.append(found)
    if not ends:
        return found, Choice(run, 0)
    cost = np.array([objective(task, end) for end in ends])
    tie = EQUAL * price_scale(task) * float(task.steps.width.sum())
    best = int(np.flatnonzero(cost <= cost.min() + tie)[0])
    gaps = np.diff(np.sort(cost))
    return replace(ends[best], iterations=effort.spent), Choice(
        run, 1 + int((gaps > tie).sum()), float(cost.max() - cost.min())
    )


def starts(task: Task) -> list[FloatArray]:
    """The fixed list of starts, each a dispatch float64[m]; at most `Parameters.starts`, none twice.

    Nothing flexible taken; everything; then sellers only, and not all of them: in the order of their electrical
    distance from the root, the far half, the near half, every second one and the others, every second pair and the
    others, and so on with blocks twice as long; then the same with all buyers.
    """
    steps, count = task.steps, task.parameters.starts
    nothing = np.zeros_like(steps.width)
    sells = np.flatnonzero((steps.sign < 0) & (steps.channels.active[steps.channel] > 0))
    sells = sells[np.argsort(-_distance(task, steps.channels.place[steps.channel[sells]]), kind="stable")]
    rank, half = np.arange(sells.size), (sells.size + 1) // 2
    blocks = [half, *(2**k for k in range(sells.size.bit_length()) if 2**k < half)]
    listed = [nothing, steps.width.copy()]
    for base in (nothing, np.where(steps.sign > 0, steps.width, 0.0)):
        for block in blocks if half else []:
            for side in (0, 1):
                y, taken = base.copy(), sells[(rank // block) % 2 == side]
                y[taken] = steps.width[taken]
                listed.append(y)
    return list({y.tobytes(): y for y in listed}.values())[:count]


def _distance(task: Task, place: IntArray) -> FloatArray:
    """Impedance that places see, per unit; of customers on several nodes, that of their first to ground (0: none)."""
    size = len(task.network.nodes)
    node = np.where(place < size, place, -1)
    if task.wiring.ports is not None:
        columns = task.wiring.ports.tocsc()
        for k in np.flatnonzero(place >= size).tolist():
            rows = columns.indices[columns.indptr[place[k]] : columns.indptr[place[k] + 1]]
            node[k] = min((row for row in rows.tolist() if row < size), default=-1)
    seen = np.isin(node, task.factors.free)
    distance = np.zeros(place.size)
    distance[seen] = task.factors.driving_impedance(node[seen])
    # To nine digits, so that twins keep the order of their places on every machine.
    return np.asarray(np.round(distance, 9))


def objective(task: Task, found: Found) -> float:
    """What the search minimises at its end, currency/h: cost less value, the root, and what let go costs."""
    point, flow = found.point, found.point.flow
    kink, penalty = task.penalties(found.rows)
    excess = np.maximum(point.values[found.rows], 0.0)
    margin = kink[:, 1]
    let_go = penalty[:, 0] @ np.minimum(excess, margin) + penalty[:, 1] @ np.maximum(excess - margin, 0.0)
    root = task.root_price * flow.root_kw + task.root_reactive_price * flow.root_kvar
    return float(task.steps.cost(point.y) + root + let_go)
