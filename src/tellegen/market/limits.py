"""The limits of a clearing as one numbered list of rows ``h <= 0``, with their penalty curves.

Numbers run, for each scenario: lowest voltage of each node below the root, highest voltage of each, rating of each
rated branch terminal, root import, root export. Then come the linear rows: reserve required, up and down, and the
participants' own limits. A row's value is per unit of voltage, or the share of its limit in excess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.connections import Connections
from tellegen.grid.network import FloatArray, IntArray, LimitKind, Network
from tellegen.grid.powerflow import Factors, PowerFlow
from tellegen.grid.sensitivity import Quantity
from tellegen.market.parameters import Parameters
from tellegen.market.steps import Scenario

EVEN = 1e-12
"""Excesses of voltages that differ by less are one: rounding decides nothing."""
SCALE_KW_MIN = 1.0
"""A limit in kW is scaled by itself, but one of 0 kW by this."""
PHASES = 3
"""Nodes of higher number are neutrals, whose voltage says nothing about supply."""
OWN_PENALTY = 10.0
"""A participant's own limit gives way at so many times what the network's limits cost: only when nothing else can."""


class LimitType(IntEnum):
    """What a limit is on."""

    VOLTAGE_MIN = 0
    VOLTAGE_MAX = 1
    RATING = 2
    ROOT_IMPORT = 3
    ROOT_EXPORT = 4
    RESERVE_UP = 5
    RESERVE_DOWN = 6
    EXPORT = 7
    IMPORT = 8
    STORED_UP = 9
    STORED_DOWN = 10
    SERVED = 11


@dataclass(frozen=True, slots=True, eq=False)
class LinearRows:
    """Limits ``matrix @ totals <= level`` over channels, in kW.

    Attributes
    ----------
    kind : int64[K], `LimitType`; index : int64[K], the participant, or 0.
    matrix : sparse [K, c]; level, scale : float64[K]; the row is ``(matrix @ totals - level) / scale``.
    name : in words, length K.
    """

    kind: IntArray
    index: IntArray
    matrix: sp.csr_matrix
    level: FloatArray
    scale: FloatArray
    name: tuple[str, ...]

    @classmethod
    def of(
        cls,
        kind: LimitType,
        index: IntArray,
        matrix: sp.csr_matrix,
        level: FloatArray,
        size_kw: FloatArray,
        name: Sequence[str],
    ) -> LinearRows:
        """Rows of one kind, with the size of the limit in all, of which `level` is what is left to the variables."""
        kinds = np.full(index.size, kind, dtype=np.int64)
        return cls(kinds, index.astype(np.int64), matrix, level, np.maximum(size_kw, SCALE_KW_MIN), tuple(name))

    @classmethod
    def stack(cls, parts: Sequence[LinearRows]) -> LinearRows:
        """Rows of all parts, in their order."""
        if not parts:
            nothing = np.zeros(0, dtype=np.int64)
            return cls(nothing, nothing, sp.csr_matrix((0, 0)), np.zeros(0), np.zeros(0), ())
        kind, index, level, scale = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("kind", "index", "level", "scale")
        )
        matrix = sp.csr_matrix(sp.vstack([part.matrix for part in parts]))
        return cls(kind, index, matrix, level, scale, tuple(name for part in parts for name in part.name))


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """All limits of a clearing.

    Attributes
    ----------
    kind : int64[R], `LimitType`; index : int64[R], node, terminal row, participant, or 0.
    scenario : int64[R], the `Scenario` in which the row holds; linear rows hold in the dispatch.
    level : float64[R], limit in pu of voltage, pu of the terminal's kind, or kW; root export's is negative.
    quantity : int64[R], the `Quantity` that the row is about; -1 for linear rows.
    sign, scale : float64[R]; the row is ``sign * (quantity - level) / scale``.
    linear : the linear rows, which are the last.
    """

    factors: Factors
    kind: IntArray
    index: IntArray
    scenario: IntArray
    level: FloatArray
    quantity: IntArray
    sign: FloatArray
    scale: FloatArray
    linear: LinearRows
    _scenarios: tuple[Scenario, ...]
    _limited: IntArray
    _rated: IntArray
    _rooted: bool

    def __len__(self) -> int:
        return int(self.kind.size)

    @classmethod
    def of(
        cls,
        factors: Factors,
        v_min: float | FloatArray | None,
        v_max: float | FloatArray | None,
        root_limit_kw: float | None,
        *,
        scenarios: tuple[Scenario, ...],
        linear: LinearRows,
    ) -> Limits:
        """Limits of a network, with overrides.

        Raises
        ------
        InputError : limits that cross or are not finite, a negative root limit.
        """
        network, free = factors.network, factors.free
        size, at = len(network.nodes), network.root_terminals
        # Where the sources stand behind an impedance, the root is metered at nodes that have no limits.
        metered = () if at is None else network.branches.node[at]
        free = free[(network.phase[free] <= PHASES) & np.isin(free, metered, invert=True)]
        low, high = (
            np.asarray(own if level is None else level, dtype=np.float64)
            for own, level in ((network.v_min, v_min), (network.v_max, v_max))
        )
        shape = next((level.shape for level in (low, high) if level.shape not in ((), (size,))), None)
        if shape is not None:
            raise InputError(network.name, f"voltage limits of shape {shape}", f"must be one number or {size}")
        low, high = (np.broadcast_to(level, (size,))[free] for level in (low, high))
        wrong = ~(low < high)
        if wrong.any():
            node = network.nodes[int(free[np.argmax(wrong)])]
            raise InputError(network.name, f"voltage limits of node {node}", "must be numbers with v_min below v_max")
        rating = network.branches.rating_pu
        rated = np.flatnonzero(np.isfinite(rating) & (rating > 0))
        if root_limit_kw is not None and not (np.isfinite(root_limit_kw) and root_limit_kw >= 0):
            raise InputError(network.name, f"root limit {root_limit_kw} kW", "must be finite and not negative")
        root = np.zeros(0) if root_limit_kw is None else np.array([float(root_limit_kw)])
        none = np.zeros(root.size, dtype=np.int64)
        rooted = np.maximum(root, SCALE_KW_MIN)
        blocks = (
            (LimitType.VOLTAGE_MIN, Quantity.VOLTAGE, -1.0, free, low, np.ones(free.size)),
            (LimitType.VOLTAGE_MAX, Quantity.VOLTAGE, 1.0, free, high, np.ones(free.size)),
            (LimitType.RATING, Quantity.TERMINAL, 1.0, rated, rating[rated], rating[rated]),
            (LimitType.ROOT_IMPORT, Quantity.ROOT_KW, 1.0, none, root, rooted),
            (LimitType.ROOT_EXPORT, Quantity.ROOT_KW, -1.0, none, -root, rooted),
        )
        sizes, times = [block[3].size for block in blocks], len(scenarios)
        kind, quantity, sign = (np.repeat([block[k] for block in blocks], sizes) for k in range(3))
        index, level, scale = (np.concatenate([block[k] for block in blocks]) for k in range(3, 6))
        count = linear.kind.size
        return cls(
            factors=factors,
            kind=np.concatenate([np.tile(kind, times), linear.kind]),
            index=np.concatenate([np.tile(index, times), linear.index]),
            scenario=np.concatenate([np.repeat(scenarios, kind.size), np.zeros(count, dtype=np.int64)]),
            level=np.concatenate([np.tile(level, times), linear.level]),
            quantity=np.concatenate([np.tile(quantity, times), np.full(count, -1)]),
            sign=np.concatenate([np.tile(sign, times), np.ones(count)]),
            scale=np.concatenate([np.tile(scale, times), linear.scale]),
            linear=linear,
            _scenarios=scenarios,
            _limited=free,
            _rated=rated,
            _rooted=bool(root.size),
        )

    def values(self, flows: Sequence[PowerFlow], totals: FloatArray) -> FloatArray:
        """Row values float64[R] at the power flows of the scenarios and the channel totals; positive is an excess."""
        measured = []
        for flow in flows:
            volt = np.abs(flow.voltage[self._limited])
            measured += [volt, volt, flow.terminal_pu[self._rated]]
            if self._rooted:
                measured.append(np.full(2, flow.root_kw))
        if self.linear.kind.size:
            measured.append(self.linear.matrix @ totals)
        return np.asarray(self.sign * (np.concatenate(measured) - self.level) / self.scale)

    def peaks(self, values: FloatArray) -> NDArray[np.bool_]:
        """Rows but those of a voltage that is less in excess than at a neighbour, bool[R].

        What cures the worst of neighbours nearly always cures them all, and rows that say nearly the same are hard to
        tell apart.
        """
        peak, free = np.ones(len(self), dtype=bool), self.factors.free
        start, index = self.factors.neighbours
        at, count = self.factors.position[self._limited], self._limited.size
        size = 2 * count + self._rated.size + 2 * self._rooted
        here = np.full(free.size, -np.inf)
        for first in (size * k + side * count for k in range(len(self._scenarios)) for side in (0, 1)):
            here[at] = values[first : first + count]
            peak[first : first + count] = here[at] >= np.maximum.reduceat(here[index], start[:-1])[at] - EVEN
        return peak

    def ends_of_one(self, row: int, other: int) -> bool:
        """Whether two rows are ratings of one conductor in one state: what passes both ends is one excess."""
        network, (a, b) = self.factors.network, self.index[[row, other]]
        if not (self.kind[[row, other]] == LimitType.RATING).all() or self.scenario[row] != self.scenario[other]:
            return False
        branches = network.branches
        return branches.element[a] == branches.element[b] and bool(np.ptp(network.phase[branches.node[[a, b]]]) == 0)

    @property
    def key(self) -> IntArray:
        """What tells each row from others, whatever else is traded, int64[R]."""
        return np.asarray((self.kind * 4 + self.scenario) * 2**40 + self.index)

    @property
    def first_linear(self) -> int:
        """Number of the first linear row."""
        return len(self) - self.linear.kind.size

    def penalties(self, rows: IntArray, parameters: Parameters, root_price: float) -> tuple[FloatArray, FloatArray]:
        """Penalty curves of some rows: kinks [k, 2] in row units, prices [k, 2] in currency/h per row unit.

        The price of the root is added to the penalties: a limit may be worth the whole difference between the root
        and the dearest order before it gives way. A voltage row is priced per kW-equivalent: what one kW at the node
        does to its voltage at no load, which is its driving-point impedance. So the curve does not depend on the path
        of the search.
        """
        kind, kw_per_unit = self.kind[rows], self.kw_per_unit(rows)
        voltage = kind <= LimitType.VOLTAGE_MAX
        margin = np.where(voltage, parameters.margin_voltage_pu, parameters.margin_rating)
        kink = np.stack([np.zeros(rows.size), margin], axis=1)
        prices = abs(root_price) + np.array([parameters.penalty_margin_price, parameters.penalty_price])
        kw_per_unit = np.where(kind >= LimitType.EXPORT, OWN_PENALTY * kw_per_unit, kw_per_unit)
        return kink, kw_per_unit[:, None] * prices[None, :]

    def kw_per_unit(self, rows: IntArray) -> FloatArray:
        """Power in kW (kVA) that one row unit stands for, float64[k].

        Of a voltage: the kW of demand at the node that move it by 1 pu at no load, by its driving-point impedance.
        """
        network, kind = self.factors.network, self.kind[rows]
        voltage = kind <= LimitType.VOLTAGE_MAX
        size = np.where(kind == LimitType.RATING, self.scale[rows] * network.base_kva, self.scale[rows])
        if voltage.any():
            size[voltage] = network.base_kva / self.factors.driving_impedance(self.index[rows[voltage]])
        return np.asarray(size)

    def name(self, row: int) -> str:
        """What a limit is called: ``voltage of node 7 (lowest)``, ``rating of line 3 at node 7``, ``root import``.

        Limits that bind when reserve is called say so.
        """
        network = self.factors.network
        kind, index = LimitType(self.kind[row]), int(self.index[row])
        if row >= self.first_linear:
            return self.linear.name[row - self.first_linear]
        called = ("", " with reserve up called", " with reserve down called")[int(self.scenario[row])]
        if kind <= LimitType.VOLTAGE_MAX:
            side = "lowest" if kind == LimitType.VOLTAGE_MIN else "highest"
            return f"voltage of node {node_name(network, index)} ({side}){called}"
        if kind == LimitType.RATING:
            node = node_name(network, int(network.branches.node[index]))
            return f"rating of {network.branches.element[index]} at node {node}{called}"
        return ("root import" if kind == LimitType.ROOT_IMPORT else "root export") + called

    def unit(self, row: int) -> tuple[str, float]:
        """Unit in which a binding limit is listed, and how many of it one row unit is.

        A rating in pu of current counts kVA at nominal voltage.
        """
        kind, network, size = self.kind[row], self.factors.network, float(self.scale[row])
        if kind != LimitType.RATING:
            return "pu" if kind <= LimitType.VOLTAGE_MAX else "kW", size
        power = network.branches.kind[self.index[row]] == LimitKind.APPARENT_POWER
        return "kVA" if power else "kVA at nominal voltage", float(size * network.base_kva)


def node_name(network: Network, node: int) -> str:
    """A node as a person names it: the bus, with its phase where phases are told apart."""
    phase = int(network.phase[node])
    return f"{network.nodes[node]}.{phase}" if phase else network.nodes[node]


def place_name(network: Network, connections: Connections, place: int) -> str:
    """A place as a person names it."""
    size = len(network.nodes)
    return f"node {node_name(network, place) if place < size else connections.name[place - size]}"
