"""What is a stored kWh worth? Valuation of batteries by dynamic programming, all of them at once.

For each battery the state of charge is divided into cells; ``value[t, b, c]`` is what one more kWh in
cell ``c`` is worth at the start of interval ``t``. Behind one meter the cost of power is convex and
piecewise linear (first the home's own surplus or demand, then the market), so the value of stored
energy is concave, and one step back in time is a sup-convolution of it with line segments. In terms
of the marginal value ``v``, falling with energy ``e``, a segment of slope ``s`` (currency per stored
kWh) and length ``l`` turns it into

    charging:     clip(s, v(e + l), v(e))
    discharging:  clip(s, v(e), v(e - l)).

No actions are enumerated and nothing is rounded but the shift, which averages neighbouring cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.devices import Batteries

FloatArray = NDArray[np.float64]

_UNREACHABLE = 1e9
"""Marginal value of energy below empty, and minus that above full: beyond any price."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the batteries see behind their meters, interval by interval; all float64[k, T].

    own_w : demand of the home less its PV (positive: the home imports), shared among its batteries.
    import_price, export_price : currency per kWh, the first not below the second.
    """

    own_w: FloatArray
    import_price: FloatArray
    export_price: FloatArray

    def part(self, columns: slice | NDArray[np.int64]) -> Surroundings:
        """Some of the intervals, in the order given."""
        return Surroundings(self.own_w[:, columns], self.import_price[:, columns], self.export_price[:, columns])


@dataclass(frozen=True, slots=True)
class _Segments:
    """Slopes (currency per stored kWh) and lengths (stored Wh) of the steps at every interval, [T, k] each."""

    charge_slope: tuple[FloatArray, FloatArray]
    charge_wh: tuple[FloatArray, FloatArray]
    discharge_slope: tuple[FloatArray, FloatArray]
    discharge_wh: tuple[FloatArray, FloatArray]


def _segments(batteries: Batteries, around: Surroundings, wear: float, hours: float) -> _Segments:
    one_way = np.sqrt(batteries.efficiency)
    own, buy, sell = around.own_w.T, around.import_price.T, around.export_price.T
    surplus = np.clip(-own, 0.0, batteries.power_w)
    demand = np.clip(own, 0.0, batteries.power_w)
    dearest = np.where(surplus > 0.0, sell, buy) / one_way
    # with negative prices it would pay to burn energy by charging and discharging at once
    at_home = np.minimum((buy - wear) * one_way, dearest)
    to_grid = np.minimum((sell - wear) * one_way, dearest)
    inward, outward = one_way * hours, hours / one_way
    return _Segments(
        (sell / one_way, buy / one_way),
        (surplus * inward, (batteries.power_w - surplus) * inward),
        (at_home, to_grid),
        (demand * outward, (batteries.power_w - demand) * outward),
    )


def terminal_value(
    batteries: Batteries, around: Surroundings, target_wh: FloatArray, *, wear: float, cells: int
) -> FloatArray:
    """Value at the horizon's end that brings every battery back to about `target_wh`, float64[k, cells].

    Below the target a stored kWh is worth the dearest refill of the horizon, above it the poorest use.
    """
    one_way = np.sqrt(batteries.efficiency)[:, None]
    dear = (around.import_price / one_way).max(axis=1)
    poor = np.minimum(((around.export_price - wear) * one_way).min(axis=1), dear)
    # the cell that holds the target shares its weight, so that the target need not lie on the grid
    below = np.clip((target_wh / batteries.capacity_wh)[:, None] * cells - np.arange(cells), 0.0, 1.0)
    return np.asarray(poor[:, None] + (dear - poor)[:, None] * below)


def stored_energy_value(
    batteries: Batteries,
    around: Surroundings,
    terminal: FloatArray,
    *,
    wear: float,
    hours: float = 1.0 / 12.0,
) -> FloatArray:
    """Marginal value of stored energy, currency per kWh: float64[T + 1, k, cells], falling along cells.

    Parameters
    ----------
    terminal : float64[k, cells], value at the end, falling along cells (see `terminal_value`).
    wear : currency per kWh discharged, at the meter.

    >>> one = Batteries(np.array([1]), np.array([1000.0]), np.array([1000.0]), np.array([1.0]), np.array([0.0]))
    >>> prices = np.array([[0.1, 0.4]])
    >>> around = Surroundings(np.zeros((1, 2)), prices, prices)
    >>> stored_energy_value(one, around, np.zeros((1, 4)), wear=0.0, hours=1.0)[:, 0].tolist()
    [[0.1, 0.1, 0.1, 0.1], [0.4, 0.4, 0.4, 0.4], [0.0, 0.0, 0.0, 0.0]]
    """
    count, cells = terminal.shape
    horizon = around.own_w.shape[1]
    value = np.empty((horizon + 1, count, cells))
    value[horizon] = terminal
    steps = _segments(batteries, around, wear, hours)
    cell_wh = batteries.capacity_wh / cells
    inward = [_Shift(length / cell_wh, cells) for length in steps.charge_wh]
    outward = [_Shift(-length / cell_wh, cells) for length in steps.discharge_wh]
    for t in range(horizon - 1, -1, -1):
        now = value[t + 1]
        for slope, shift in zip(steps.charge_slope, inward, strict=True):
            if shift.any[t]:
                now = np.minimum(np.maximum(slope[t, :, None], shift.of(now, t)), now)
        for slope, shift in zip(steps.discharge_slope, outward, strict=True):
            if shift.any[t]:
                now = np.minimum(np.maximum(slope[t, :, None], now), shift.of(now, t))
        value[t] = now
    return value


class _Shift:
    """``v(e + cells)`` per row and interval, averaging the two cells that a shifted cell overlaps.

    Where the cells lie is found for all intervals at once: there are thousands of shifts in a plan.

    Parameters
    ----------
    cells : float64[T, k], by how many cells; of one sign. width : cells of a battery.
    """

    def __init__(self, cells: FloatArray, width: int) -> None:
        count = cells.shape[1]
        whole = np.floor(cells).astype(np.int64)
        self.any = np.asarray(cells.any(axis=1))
        self._part = (cells - whole)[:, :, None]
        self._rest = 1.0 - self._part
        pad = int(np.abs(whole).max(initial=0)) + 2
        self._padded = np.empty((count, width + 2 * pad))
        self._padded[:, :pad], self._padded[:, pad + width :] = _UNREACHABLE, -_UNREACHABLE
        self._inside = self._padded[:, pad : pad + width]
        row = (np.arange(count) * (width + 2 * pad))[:, None]
        self._at = np.arange(width) + (pad + whole)[:, :, None] + row

    def of(self, value: FloatArray, t: int) -> FloatArray:
        """float64[k, width] of interval `t`."""
        self._inside[:] = value
        flat, at = self._padded.ravel(), self._at[t]
        return np.asarray(self._rest[t] * flat.take(at) + self._part[t] * flat.take(at + 1))


def schedule(
    batteries: Batteries,
    around: Surroundings,
    value: FloatArray,
    soc_wh: FloatArray,
    *,
    wear: float,
    hours: float = 1.0 / 12.0,
) -> tuple[FloatArray, FloatArray]:
    """Follow the valuation: power in W (charging positive) float64[k, T], and energy float64[k, T + 1]."""
    horizon = around.own_w.shape[1]
    cells = value.shape[2]
    cell_wh = batteries.capacity_wh / cells
    one_way = np.sqrt(batteries.efficiency)
    power = np.zeros((len(batteries), horizon))
    energy = np.empty((len(batteries), horizon + 1))
    energy[:, 0] = now = soc_wh
    step = _segments(batteries, around, wear, hours)
    for t in range(horizon):
        ahead = value[t + 1]
        up, down = np.zeros(len(batteries)), np.zeros(len(batteries))
        reach_up, reach_down = np.zeros(len(batteries)), np.zeros(len(batteries))
        for j in (0, 1):
            reach_up, reach_down = reach_up + step.charge_wh[j][t], reach_down + step.discharge_wh[j][t]
            worth = np.count_nonzero(ahead > step.charge_slope[j][t, :, None] + 1e-9, axis=1) * cell_wh
            keep = np.count_nonzero(ahead >= step.discharge_slope[j][t, :, None] - 1e-9, axis=1) * cell_wh
            up = np.maximum(up, np.minimum(worth - now, reach_up))
            down = np.maximum(down, np.minimum(now - keep, reach_down))
        down = np.where(up > 0.0, 0.0, down)
        power[:, t] = (up / one_way - down * one_way) / hours
        now = np.clip(now + up - down, 0.0, batteries.capacity_wh)
        energy[:, t + 1] = now
    return power, energy


def mean_value(value: FloatArray, capacity_wh: FloatArray, low_wh: FloatArray, high_wh: FloatArray) -> FloatArray:
    """Mean marginal value between two energies per battery, currency per kWh; the point value where equal.

    value : float64[k, cells]; low_wh <= high_wh, clipped to [0, capacity].

    >>> mean_value(np.array([[0.4, 0.2]]), np.array([1000.0]), np.array([250.0]), np.array([750.0])).round(6).tolist()
    [0.3]
    """
    count, cells = value.shape
    total = np.concatenate([np.zeros((count, 1)), np.cumsum(value, axis=1)], axis=1)
    rows = np.arange(count)

    def worth(energy_wh: FloatArray) -> FloatArray:
        position = np.clip(energy_wh / capacity_wh, 0.0, 1.0) * cells
        cell = np.minimum(position.astype(np.int64), cells - 1)
        return np.asarray(total[rows, cell] + (position - cell) * value[rows, cell])

    width = np.clip(high_wh, 0.0, capacity_wh) - np.clip(low_wh, 0.0, capacity_wh)
    span = width / capacity_wh * cells
    cell = np.minimum((np.clip(low_wh / capacity_wh, 0.0, 1.0) * cells).astype(np.int64), cells - 1)
    thin = span < 1e-9
    mean = (worth(high_wh) - worth(low_wh)) / np.where(thin, 1.0, span)
    return np.asarray(np.where(thin, value[rows, cell], mean))


@dataclass(frozen=True, slots=True)
class StorageBid:
    """Steps of a battery: power float64[k, 3] in W and worth float64[k, 3] behind the meter, both ways."""

    charge_w: FloatArray
    charge_value: FloatArray
    discharge_w: FloatArray
    discharge_cost: FloatArray


def storage_bid(
    batteries: Batteries,
    soc_wh: FloatArray,
    value: FloatArray,
    *,
    surplus_w: FloatArray,
    demand_w: FloatArray,
    wear: float,
    hours: float,
) -> StorageBid:
    """Steps of what a battery would buy and sell in a period that ends with `value`.

    Each direction has three steps, cut at half the power and where the home's own surplus or demand
    ends. A charged kWh is worth the mean marginal value of the cells it fills, less losses; a
    discharged one costs that of the cells it empties, with losses and wear.
    """
    one_way = np.sqrt(batteries.efficiency)
    most = np.minimum(batteries.power_w, np.maximum(batteries.capacity_wh - soc_wh, 0.0) / (one_way * hours))
    least = np.minimum(batteries.power_w, np.maximum(soc_wh, 0.0) * one_way / hours)
    charge_cuts, discharge_cuts = _cuts(most, surplus_w), _cuts(least, demand_w)
    value_in, cost_out = [], []
    for j in range(3):
        low, high = (soc_wh + charge_cuts[:, i] * one_way * hours for i in (j, j + 1))
        value_in.append(mean_value(value, batteries.capacity_wh, low, high) * one_way)
        high, low = (soc_wh - discharge_cuts[:, i] * hours / one_way for i in (j, j + 1))
        cost_out.append(mean_value(value, batteries.capacity_wh, low, high) / one_way + wear)
    charge_value = np.minimum.accumulate(np.stack(value_in, axis=1), axis=1)
    # where stored energy is worth less than nothing, losses would make a round trip look like a gain
    discharge_cost = np.maximum(np.stack(cost_out, axis=1), charge_value[:, :1])
    return StorageBid(
        np.diff(charge_cuts, axis=1),
        charge_value,
        np.diff(discharge_cuts, axis=1),
        np.maximum.accumulate(discharge_cost, axis=1),
    )


def _cuts(most: FloatArray, own: FloatArray) -> FloatArray:
    """Ends of the three steps of a curve in W, float64[k, 4]."""
    return np.sort(np.stack([np.zeros_like(most), np.clip(own, 0.0, most), most / 2, most], axis=1), axis=1)
