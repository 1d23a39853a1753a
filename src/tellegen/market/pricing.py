"""Prices of a clearing: what one more kWh (kvarh) of demand costs at each node, part by part, and their range.

By the envelope theorem the derivative of the optimal cost with respect to demand at node n is

    price_n = root price * dP_root/dP_n + reactive root price * dQ_root/dP_n + sum_r dual_r * dh_r/dP_n

at the optimum, one adjoint of the power flow per term. The parts are: the root price itself; losses (the rest of the
first two terms); congestion (ratings and the root limit); voltage (voltage limits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.market.book import NOT_ENERGISED, OrderBook
from tellegen.market.limits import LimitType
from tellegen.market.operating_point import TWIN_SLACK, Point, Task, price_scale, slopes_at, weighted_terms
from tellegen.market.qp import solve_program
from tellegen.market.search import Found, build_program
from tellegen.market.steps import Scenario
from tellegen.records import Product, Side

ACTIVE_TOLERANCE = 1e-8
RANK_TOLERANCE = 1e-9
PRICE_TOLERANCE = 1e-7
TWIN_TOLERANCE = 1e-4
"""Prices closer than this, relative to their scale, are those of two ends of one line and no range."""
NUDGE = 1e-6
"""Share of the quantity traded by which total demand is moved to find the ends of a price range."""


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Prices at every place (nodes, then the book's connections), with their parts and ranges.

    Attributes
    ----------
    energy : float64[places], currency/kWh, of which `root`, `losses`, `congestion` and `voltage` are the parts.
    reactive : float64[places], currency/kvarh; `reactive_parts` float64[4, places] are its parts, in the same order.
    reserve : float64[2, places], currency/h per kW: what reserve up and down is paid there, the wires' part included.
    required : float64[2], what those pay who require it.
    low, high : float64[places], ends of the range of the price of energy.
    required_low, required_high : float64[2], ends of the range of `required`.
    """

    energy: FloatArray
    root: FloatArray
    losses: FloatArray
    congestion: FloatArray
    voltage: FloatArray
    reactive: FloatArray
    reactive_parts: FloatArray
    reserve: FloatArray
    required: FloatArray
    low: FloatArray
    high: FloatArray
    required_low: FloatArray
    required_high: FloatArray

    @classmethod
    def of(
        cls, energy_parts: FloatArray, reactive_parts: FloatArray, reserve: FloatArray, required: FloatArray
    ) -> Prices:
        """Prices that leave nothing open, of parts float64[4, places]."""
        energy, reactive = energy_parts.sum(axis=0), reactive_parts.sum(axis=0)
        root, losses, congestion, voltage = energy_parts
        return cls(
            energy, root, losses, congestion, voltage, reactive, reactive_parts,
            reserve, required, energy, energy, required, required,
        )  # fmt: skip

    def between(self, ends: Sequence[Prices]) -> Prices:
        """With the range that these prices and `ends` span."""
        energy = np.stack([each.energy for each in (self, *ends)])
        required = np.stack([each.required for each in (self, *ends)])
        return replace(
            self,
            low=energy.min(axis=0),
            high=energy.max(axis=0),
            required_low=required.min(axis=0),
            required_high=required.max(axis=0),
        )

    def of_orders(self, book: OrderBook) -> FloatArray:
        """The price that each order of a book pays or is paid, float64[orders]; NaN where nothing is energised."""
        product, at = book.product, book.node
        buys = book.side == Side.BUY
        up, down = (np.where(buys, self.required[k], self.reserve[k, at]) for k in range(2))
        of_product = [product == kind for kind in (Product.REACTIVE, Product.RESERVE_UP, Product.RESERVE_DOWN)]
        price = np.select(of_product, [self.reactive[at], up, down], self.energy[at])
        return np.asarray(np.where(at == NOT_ENERGISED, np.nan, price))


def nodal_prices(task: Task, point: Point, rows: IntArray, dual: FloatArray) -> Prices:
    """Prices and parts that follow from a point and its duals."""
    of_voltage = task.limits.kind[rows] <= LimitType.VOLTAGE_MAX
    kinds = ~of_voltage, of_voltage
    base = np.full(task.wiring.places, task.root_price + 1j * task.root_reactive_price)
    nothing = np.zeros(base.size, dtype=np.complex128)
    losses, congestion, voltage = nothing, nothing.copy(), nothing.copy()
    called = {}
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        terms = (weighted_terms(task, rows, np.where(mask, dual, 0.0), scenario, root=False) for mask in kinds)
        wires, volts = (line.weighted_gradient(*part) if part[0].size else nothing for part in terms)
        congestion += wires
        voltage += volts
        called[scenario] = (wires + volts).real
        if scenario == Scenario.DISPATCH:
            losses = line.weighted_gradient(*weighted_terms(task, rows, 0.0 * dual, scenario)) - base
    parts = np.stack([base, losses, congestion, voltage])
    required, reserve = np.zeros(2), np.zeros((2, base.size))
    for k, (kind, scenario, sign) in enumerate(
        ((LimitType.RESERVE_UP, Scenario.UP, 1.0), (LimitType.RESERVE_DOWN, Scenario.DOWN, -1.0))
    ):
        wanted = task.limits.kind[rows] == kind
        required[k] = (dual[wanted] / task.limits.scale[rows[wanted]]).sum()
        # What the wires make of it once it is called: the duals of what is required are paid less that.
        reserve[k] = required[k] + sign * called.get(scenario, 0.0)
    return Prices.of(np.ascontiguousarray(parts.real), np.ascontiguousarray(parts.imag), reserve, required)


def dual_range(task: Task, found: Found) -> tuple[IntArray, FloatArray, FloatArray] | None:
    """Rows, and two vectors of their duals between which the optimum leaves the prices open; None where it does not.

    Duals are unique where the binding rows are independent in what is free to move. Where they are not, the quadratic
    program at the optimum is solved again with total demand, and the reserve that is required, a little lower and a
    little higher, spread evenly over the places that trade: two whole vectors (law 7). A row that was left out for its
    twin opens a range too where the two differ at some place, if at none that trades: the dual stands at either.
    """
    rows, first, second = found.rows, found.dual, found.dual
    ends = _moved_ends(task, found)
    if ends is not None:
        first, second = ends
    tight = _tight_twins(task, found)
    if tight is not None:
        kept, left_out, steeper = tight
        rows = np.concatenate([rows, left_out])
        idle = np.zeros(left_out.size)
        first, last = np.concatenate([first, idle]), np.concatenate([second, idle])
        moved = last.copy()
        moved[found.rows.size :] = last[kept] / steeper
        moved[kept] = 0.0
        if not _same_prices(task, found.point, rows, last - moved):
            return rows, first, moved
        rows, first, second = found.rows, first[: found.rows.size], second
    return None if ends is None else (rows, first, second)


def _tight_twins(task: Task, found: Found) -> tuple[IntArray, IntArray, FloatArray] | None:
    """Of rows with a dual and a twin at its limit: places in `found.rows`, the twins, how much steeper these are."""
    where = {int(row): k for k, row in enumerate(found.rows) if found.dual[k] > 0}
    values = found.point.values
    pairs = {
        where[kept]: (row, steeper)
        for row, kept, steeper in found.twins.pairs
        if kept in where and values[row] > max(values[kept], 0.0) * steeper - TWIN_SLACK
    }
    if not pairs:
        return None
    twins = list(pairs.values())
    return (
        np.array(list(pairs), dtype=np.int64),
        np.array([row for row, _ in twins], dtype=np.int64),
        np.array([steeper for _, steeper in twins], dtype=np.float64),
    )


def _same_prices(task: Task, point: Point, rows: IntArray, difference: FloatArray) -> bool:
    """Whether a difference of duals changes no price at any place."""
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        terms = weighted_terms(task, rows, difference, scenario, root=False)
        if not terms[0].size:
            continue
        if float(np.abs(line.weighted_gradient(*terms)).max(initial=0.0)) > TWIN_TOLERANCE * price_scale(task):
            return False
    return True


def _moved_ends(task: Task, found: Found) -> tuple[FloatArray, FloatArray] | None:
    point, rows = found.point, found.rows
    kink, _ = task.penalties(rows)
    value = point.values[rows][:, None]
    binding = np.asarray((np.abs(value - kink) < ACTIVE_TOLERANCE).any(axis=1))
    if not binding.any() or _independent(task, point, rows[binding]):
        return None
    fixed = np.abs(task.steps.fixed_kva[0])
    # What is traded, not what is asked for: an order that nobody could serve must not widen the range.
    traded = float(point.y.sum() + fixed.sum())
    some = traded > NUDGE * float(task.steps.width.sum() + fixed.sum())
    nudge = NUDGE * (traded if some else float(task.steps.width.min(initial=np.inf)))
    trading = (fixed > 0).astype(np.float64)
    trading[task.steps.channels.place] = 1.0
    if not trading.any() or not np.isfinite(nudge):
        return None
    effect = (nudge / trading.sum()) * (row_prices(task, point, rows).real @ trading)
    asked = np.isin(task.limits.kind[rows], (LimitType.RESERVE_UP, LimitType.RESERVE_DOWN))
    effect = effect + np.where(asked, nudge / task.limits.scale[rows], 0.0)
    return _duals_at(task, found, -effect), _duals_at(task, found, effect)


def row_prices(task: Task, point: Point, rows: IntArray) -> ComplexArray:
    """Derivatives of rows with respect to demand at every place, complex[k, places]; 0 for linear rows."""
    limits = task.limits
    found = np.zeros((rows.size, task.wiring.places), dtype=np.complex128)
    for scenario, line in zip(task.steps.scenarios, point.lines, strict=True):
        mine = np.flatnonzero((limits.quantity[rows] >= 0) & (limits.scenario[rows] == scenario))
        raw = line.gradients(limits.quantity[rows[mine]], limits.index[rows[mine]])
        found[mine] = raw * (limits.sign[rows[mine]] / limits.scale[rows[mine]])[:, None]
    return found


def _independent(task: Task, point: Point, rows: IntArray) -> bool:
    """Whether no change of the duals of rows keeps what is free to move in balance and yet changes a price.

    Two ends of one line bind together and share a dual in any proportion: that leaves no price open.
    """
    width = task.steps.width
    near = 1e-7 * np.minimum(width, point.y.max(initial=0.0))
    inside = (point.y > near) & (point.y < width - near)
    channels = slopes_at(task, point, rows).rows
    size = np.maximum(np.abs(channels).max(axis=1, initial=0.0), 1e-300)[:, None]
    matrix = (task.steps.spread(channels / size) * width)[:, inside]
    left, spectrum, _ = np.linalg.svd(matrix, full_matrices=matrix.shape[1] < rows.size)
    spectrum = np.concatenate([spectrum, np.zeros(rows.size - spectrum.size)])
    loose = left[:, spectrum <= RANK_TOLERANCE * max(1.0, float(spectrum.max()))]
    if not loose.size:
        return True
    prices, kind = row_prices(task, point, rows) / size, task.limits.kind[rows]
    asked = np.stack([kind == LimitType.RESERVE_UP, kind == LimitType.RESERVE_DOWN], axis=1) / size
    return float(np.abs(loose.T @ np.concatenate([prices, asked], axis=1)).max(initial=0.0)) < PRICE_TOLERANCE


def _duals_at(task: Task, found: Found, shift: FloatArray) -> FloatArray:
    slopes = slopes_at(task, found.point, found.rows)
    program = build_program(task, found.point, slopes, found.rows, found.bend, 0.0, shift)
    width = task.steps.width
    bound = np.where(found.point.y <= 0, -1, np.where(found.point.y >= width, 1, 0)).astype(np.int64)
    return solve_program(program, bound, (found.dual > 0).astype(np.int64)).dual
