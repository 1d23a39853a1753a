"""The limits of a clearing as one numbered list of rows ``h <= 0``, with their penalty curves.

Numbers run: lowest voltage of each free node, highest voltage of each free node, rating of each rated branch terminal,
root import, root export. A row's value is per unit of voltage, or the share of the rating or root limit in excess.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.network import FloatArray, IntArray, LimitKind
from tellegen.grid.powerflow import Factors, PowerFlow
from tellegen.grid.sensitivity import Quantity
from tellegen.market.parameters import Parameters

ROOT_SCALE_KW_MIN = 1.0
"""A root limit is scaled by itself, but an island's limit of 0 kW by this."""


class LimitType(IntEnum):
    """What a limit is on."""

    VOLTAGE_MIN = 0
    VOLTAGE_MAX = 1
    RATING = 2
    ROOT_IMPORT = 3
    ROOT_EXPORT = 4


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """All limits of a clearing.

    Attributes
    ----------
    kind : int64[R], `LimitType`; index : int64[R], node, terminal row, or 0.
    level : float64[R], limit in pu of voltage, pu of the terminal's kind, or kW.
    quantity : int64[R], the `Quantity` that the row is about.
    sign, scale : float64[R]; the row is ``sign * (quantity - level) / scale``; root export's level counts
        negative.
    """

    factors: Factors
    kind: IntArray
    index: IntArray
    level: FloatArray
    quantity: IntArray
    sign: FloatArray
    scale: FloatArray

    def __len__(self) -> int:
        return int(self.kind.size)

    @classmethod
    def of(
        cls,
        factors: Factors,
        v_min: float | FloatArray | None,
        v_max: float | FloatArray | None,
        root_limit_kw: float | None,
    ) -> Limits:
        """Limits of a network, with overrides.

        Raises
        ------
        InputError : limits that cross or are not finite, a negative root limit.
        """
        network = factors.network
        free, size = factors.free, len(network.nodes)
        low = np.broadcast_to(np.asarray(network.v_min if v_min is None else v_min, dtype=np.float64), (size,))[free]
        high = np.broadcast_to(np.asarray(network.v_max if v_max is None else v_max, dtype=np.float64), (size,))[free]
        wrong = ~(low < high)
        if wrong.any():
            node = network.nodes[int(free[np.argmax(wrong)])]
            raise InputError(network.name, f"voltage limits of node {node}", "must be numbers with v_min below v_max")
        rating = network.branches.rating_pu
        rated = np.flatnonzero(np.isfinite(rating) & (rating > 0))
        root: list[float] = []
        if root_limit_kw is not None:
            if not (np.isfinite(root_limit_kw) and root_limit_kw >= 0):
                raise InputError(network.name, f"root limit {root_limit_kw} kW", "must be finite and not negative")
            root = [float(root_limit_kw)] * 2
        n, k = free.size, rated.size
        kinds = (LimitType.VOLTAGE_MIN,) * n + (LimitType.VOLTAGE_MAX,) * n + (LimitType.RATING,) * k
        kind = np.array(kinds + ((LimitType.ROOT_IMPORT, LimitType.ROOT_EXPORT) if root else ()), dtype=np.int64)
        quantity = np.where(kind <= LimitType.VOLTAGE_MAX, Quantity.VOLTAGE, Quantity.ROOT_KW)
        quantity = np.where(kind == LimitType.RATING, Quantity.TERMINAL, quantity).astype(np.int64)
        level = np.concatenate([low, high, rating[rated], root])
        scale = np.concatenate([np.ones(2 * n), rating[rated], np.maximum(root, ROOT_SCALE_KW_MIN)])
        negative = np.isin(kind, (LimitType.VOLTAGE_MIN, LimitType.ROOT_EXPORT))
        return cls(
            factors=factors,
            kind=kind,
            index=np.concatenate([free, free, rated, np.zeros(len(root), dtype=np.int64)]),
            level=level,
            quantity=quantity,
            sign=np.where(negative, -1.0, 1.0),
            scale=scale,
        )

    def values(self, flow: PowerFlow) -> FloatArray:
        """Row values float64[R] at a power flow; positive is an excess."""
        n = self.factors.free.size
        volt = np.abs(flow.voltage[self.factors.free])
        rated = self.index[self.kind == LimitType.RATING]
        measured = np.concatenate(
            [volt, volt, flow.terminal_pu[rated], np.full(len(self) - 2 * n - rated.size, flow.root_kw)]
        )
        signed_level = np.where(self.kind == LimitType.ROOT_EXPORT, -self.level, self.level)
        return np.asarray(self.sign * (measured - signed_level) / self.scale)

    def penalties(self, rows: IntArray, parameters: Parameters, root_price: float) -> tuple[FloatArray, FloatArray]:
        """Penalty curves of some rows: kinks [k, 2] in row units, prices [k, 2] in currency/h per row unit.

        The price of the root is added to the penalties: a limit may be worth the whole difference between the root
        and the dearest order before it gives way. A voltage row is priced per kW-equivalent: what one kW at the node
        does to its voltage at no load, which is its driving-point impedance. So the curve does not depend on the path
        of the search.
        """
        network = self.factors.network
        kind = self.kind[rows]
        voltage = kind <= LimitType.VOLTAGE_MAX
        kw_per_unit = np.where(kind == LimitType.RATING, self.scale[rows] * network.base_kva, self.scale[rows])
        if voltage.any():
            place = np.searchsorted(self.factors.free, self.index[rows[voltage]])
            unit = np.zeros((self.factors.free.size, place.size), dtype=np.complex128)
            unit[place, np.arange(place.size)] = 1.0
            impedance = np.abs(self.factors.lu.solve(unit)[place, np.arange(place.size)])
            kw_per_unit[voltage] = network.base_kva / impedance
        margin = np.where(voltage, parameters.margin_voltage_pu, parameters.margin_rating)
        kink = np.stack([np.zeros(rows.size), margin], axis=1)
        prices = abs(root_price) + np.array([parameters.penalty_margin_price, parameters.penalty_price])
        return kink, kw_per_unit[:, None] * prices[None, :]

    def name(self, row: int) -> str:
        """What a limit is called: ``voltage of node 7 (lowest)``, ``rating of line 3 at node 7``, ``root import``."""
        network = self.factors.network
        kind, index = LimitType(self.kind[row]), int(self.index[row])
        if kind <= LimitType.VOLTAGE_MAX:
            side = "lowest" if kind == LimitType.VOLTAGE_MIN else "highest"
            return f"voltage of node {network.nodes[index]} ({side})"
        if kind == LimitType.RATING:
            node = network.nodes[int(network.branches.node[index])]
            return f"rating of {network.branches.element[index]} at node {node}"
        return "root import" if kind == LimitType.ROOT_IMPORT else "root export"

    def unit(self, row: int) -> str:
        """Unit in which a binding limit is listed; a rating in pu of current counts kVA at nominal voltage."""
        kind = self.kind[row]
        if kind <= LimitType.VOLTAGE_MAX:
            return "pu"
        if kind == LimitType.RATING:
            power = self.factors.network.branches.kind[self.index[row]] == LimitKind.APPARENT_POWER
            return "kVA" if power else "kVA at nominal voltage"
        return "kW"

    def unit_size(self, row: int) -> float:
        """How many of `unit` one row unit is."""
        if self.kind[row] == LimitType.RATING:
            return float(self.scale[row] * self.factors.network.base_kva)
        return float(self.scale[row])
