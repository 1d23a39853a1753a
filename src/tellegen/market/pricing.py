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
from tellegen.market.curvature import bend_of
from tellegen.market.limits import LimitType
from tellegen.market.qp import solve_program
from tellegen.market.search import Found, Point, Task, build_program
from tellegen.market.steps import Scenario

ACTIVE_TOLERANCE = 1e-8
RANK_TOLERANCE = 1e-9
PRICE_TOLERANCE = 1e-7
NUDGE = 1e-6
"""Share of the flexible quantity by which total demand is moved to find the ends of a price range."""


@dataclass(frozen=True, slots=True, eq=False)
class NodalPrices:
    """Prices at every place, float64[places], and their parts, which sum to them.

    Energy in currency/kWh, reactive in currency/kvarh; parts are rows `root, losses, congestion, voltage` of
    [4, places]. `reserve` float64[2, places]: what a kW of reserve up and down is worth there, in currency/h per kW;
    `required` float64[2]: what who requires them pays.
    """

    energy_parts: FloatArray
    reactive_parts: FloatArray
    reserve: FloatArray
    required: FloatArray

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
    required, reserve = _reserve_prices(task, point, rows, dual)
    return NodalPrices(np.ascontiguousarray(parts.real), np.ascontiguousarray(parts.imag), reserve, required)


def _reserve_prices(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The duals of what is required, and what is left of them at each place once the wires have delivered it."""
    limits = task.limits
    required, reserve = np.zeros(2), np.zeros((2, point.root.shape[1]))
    for k, (kind, scenario, sign) in enumerate(
        ((LimitType.RESERVE_UP, Scenario.UP, 1.0), (LimitType.RESERVE_DOWN, Scenario.DOWN, -1.0))
    ):
        wanted = limits.kind[rows] == kind
        required[k] = (dual[wanted] / limits.scale[rows[wanted]]).sum()
        called = limits.scenario[rows] == scenario
        reserve[k] = required[k] + sign * (dual[called] @ point.rows[called]).real
    return required, reserve


def dual_range(task: Task, found: Found) -> tuple[FloatArray, FloatArray] | None:
    """Two dual vectors between which the optimum leaves the prices open, or None where they are unique.

    Duals are unique where the binding rows are independent in what is free to move. Where they are not, the quadratic
    program at the optimum is solved again with total demand, and the reserve that is required, a little lower and a
    little higher, spread evenly over the places that trade: two whole vectors (law 7).
    """
    point, rows = found.point, found.rows
    kink, _ = task.penalties(rows)
    value = point.values[rows][:, None]
    binding = np.asarray((np.abs(value - kink) < ACTIVE_TOLERANCE).any(axis=1))
    if not binding.any() or _independent(task, point, rows, binding):
        return None
    fixed = np.abs(task.steps.fixed_kva[0])
    nudge = NUDGE * float(task.steps.width.sum() + fixed.sum())
    trading = (fixed > 0).astype(np.float64)
    trading[task.steps.channels.place] = 1.0
    if not trading.any() or nudge == 0.0:
        return None
    shift = (nudge / trading.sum() * trading).astype(np.complex128)
    return _duals_at(task, found, (-shift, -nudge)), _duals_at(task, found, (shift, nudge))


def _independent(task: Task, point: Point, found_rows: IntArray, binding: NDArray[np.bool_]) -> bool:
    """Whether no change of the duals keeps what is free to move in balance and yet changes a price.

    Two ends of one line bind together and share a dual in any proportion: that leaves no price open.
    """
    width = task.steps.width
    inside = (point.y > 1e-7 * width) & (point.y < (1 - 1e-7) * width)
    rows, channels = point.rows[binding], point.row_channels[binding]
    size = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-300)[:, None]
    size = np.where(size > 1e-200, size, np.abs(channels).max(axis=1, initial=1e-300)[:, None])
    rows = rows / size
    matrix = (task.steps.spread(channels / size) * width)[:, inside]
    left, spectrum, _ = np.linalg.svd(matrix)
    spectrum = np.concatenate([spectrum, np.zeros(rows.shape[0] - spectrum.size)])
    loose = left[:, spectrum <= RANK_TOLERANCE * max(1.0, float(spectrum.max()))]
    kind = task.limits.kind[found_rows[binding]]
    asked = np.stack([kind == LimitType.RESERVE_UP, kind == LimitType.RESERVE_DOWN], axis=1) / size
    return float(np.abs(loose.T @ np.concatenate([rows, asked], axis=1)).max(initial=0.0)) < PRICE_TOLERANCE


def _duals_at(task: Task, found: Found, shift: tuple[ComplexArray, float]) -> FloatArray:
    program = build_program(task, found.point, found.rows, bend_of(found.curvature, task.steps), 0.0, shift)
    width = task.steps.width
    bound = np.where(found.point.y <= 0, -1, np.where(found.point.y >= width, 1, 0)).astype(np.int64)
    return solve_program(program, bound, (found.dual > 0).astype(np.int64)).dual
