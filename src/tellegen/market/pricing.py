"""Prices of a clearing: what one more kWh (kvarh) of demand costs at each node, part by part, and their range.

By the envelope theorem the derivative of the optimal cost with respect to demand at node n is

    price_n = root price * dP_root/dP_n + reactive root price * dQ_root/dP_n + sum_r dual_r * dh_r/dP_n

at the optimum, one adjoint of the power flow per term. The parts are: the root price itself; losses (the rest of the
first two terms); congestion (ratings and the root limit); voltage (voltage limits).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.market.limits import LimitType
from tellegen.market.qp import solve_program
from tellegen.market.search import Found, Point, Task, build_program

ACTIVE_TOLERANCE = 1e-8
RANK_TOLERANCE = 1e-9
PRICE_TOLERANCE = 1e-7
NUDGE = 1e-6
"""Share of the flexible quantity by which total demand is moved to find the ends of a price range."""


@dataclass(frozen=True, slots=True, eq=False)
class NodalPrices:
    """Prices at every node, float64[N], and their parts, which sum to them.

    Energy in currency/kWh, reactive in currency/kvarh; parts are rows `root, losses, congestion, voltage` of [4, N].
    """

    energy_parts: FloatArray
    reactive_parts: FloatArray

    @property
    def energy(self) -> FloatArray:
        """Sum of the parts."""
        return np.asarray(self.energy_parts.sum(axis=0))

    @property
    def reactive(self) -> FloatArray:
        """Sum of the parts."""
        return np.asarray(self.reactive_parts.sum(axis=0))


def nodal_prices(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> NodalPrices:
    """Prices and parts that follow from a point and its duals."""
    voltage = task.limits.kind[rows] <= LimitType.VOLTAGE_MAX
    root, reactive = task.root_price, task.root_reactive_price
    base = np.full(point.root.shape[1], root + 1j * reactive)
    losses = root * point.root[0] + reactive * point.root[1] - base
    congestion = dual[~voltage] @ point.rows[~voltage]
    parts = np.stack([base, losses, congestion, dual[voltage] @ point.rows[voltage]])
    return NodalPrices(np.ascontiguousarray(parts.real), np.ascontiguousarray(parts.imag))


def dual_range(task: Task, found: Found) -> tuple[FloatArray, FloatArray] | None:
    """Two dual vectors between which the optimum leaves the prices open, or None where they are unique.

    Duals are unique where the binding rows are independent in what is free to move. Where they are not, the quadratic
    program at the optimum is solved again with total demand a little lower and a little higher, spread evenly over the
    nodes that trade: two whole vectors (law 7).
    """
    point, rows = found.point, found.rows
    kink, _ = task.penalties(rows)
    value = point.values[rows][:, None]
    binding = np.asarray((np.abs(value - kink) < ACTIVE_TOLERANCE).any(axis=1))
    if not binding.any() or _independent(task, point, binding):
        return None
    nudge = NUDGE * float(task.steps.width.sum() + np.abs(task.steps.fixed_kva).sum())
    trading = np.zeros(point.root.shape[1])
    trading[task.steps.node] = 1.0
    trading[np.abs(task.steps.fixed_kva) > 0] = 1.0
    if not trading.any() or nudge == 0.0:
        return None
    shift = (nudge / trading.sum() * trading).astype(np.complex128)
    return _duals_at(task, found, -shift), _duals_at(task, found, shift)


def _independent(task: Task, point: Point, binding: NDArray[np.bool_]) -> bool:
    """Whether no change of the duals keeps what is free to move in balance and yet changes a price.

    Two ends of one line bind together and share a dual in any proportion: that leaves no price open.
    """
    width = task.steps.width
    inside = (point.y > 1e-7 * width) & (point.y < (1 - 1e-7) * width)
    rows = point.rows[binding]
    rows = rows / np.abs(rows).max(axis=1)[:, None]
    matrix = (task.steps.project(rows) * width)[:, inside]
    left, spectrum, _ = np.linalg.svd(matrix)
    spectrum = np.concatenate([spectrum, np.zeros(rows.shape[0] - spectrum.size)])
    loose = left[:, spectrum <= RANK_TOLERANCE * max(1.0, float(spectrum.max()))]
    return float(np.abs(loose.T @ rows).max(initial=0.0)) < PRICE_TOLERANCE


def _duals_at(task: Task, found: Found, shift_kva: ComplexArray) -> FloatArray:
    program = build_program(task, found.point, found.rows, found.curvature.on(task.steps), 0.0, shift_kva)
    width = task.steps.width
    bound = np.where(found.point.y <= 0, -1, np.where(found.point.y >= width, 1, 0)).astype(np.int64)
    return solve_program(program, bound, (found.dual > 0).astype(np.int64)).dual
