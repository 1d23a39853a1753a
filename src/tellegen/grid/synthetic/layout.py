"""Where streets run and who lives there: a radial feeder drawn from a seed, before any admittance.

A primary substation feeds secondary substations along medium-voltage cables; each transforms to low voltage and feeds
several mains; a main is a chain of joints with laterals, and every customer hangs on a joint by a service drop.
How many customers share a substation, a main and a joint, how often a main branches, spans, demand, cables and the drop
that the planner allowed are drawn once per feeder, so that feeders differ in kind and not in noise alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.synthetic.equipment import MAINS, MEDIUM_VOLTAGE, SERVICE, TRANSFORMERS, Cable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LOW_KV, MEDIUM_KV = 0.4, 20.0
STATION_CUSTOMERS_MAX = 300
STATIONS_PER_CABLE = 6
LOADING_AT_PEAK = 0.8
"""Share of a transformer's rating that the planned peak may take."""
CABLE_RESERVE = 1.6
"""Ampacity over planned current; phases are not loaded alike."""
SHORT = 0.6
STRETCH_MIN, STRETCH_MAX = 0.3, 4.0
"""How far the planner's allowed drop may change the spans of a street."""


class Part(IntEnum):
    """What connects a bus to the one above it."""

    ROOT = 0
    MEDIUM = 1
    TRANSFORMER = 2
    MAIN = 3
    SERVICE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A radial feeder; bus k hangs on ``parent[k] < k``, bus 0 is the root.

    Attributes
    ----------
    bus : names, length B.
    parent : int64[B], -1 at the root; part : int64[B], `Part` of the branch above.
    kind : int64[B], index of its cable or transformer type among those of its part.
    length_km : float64[B], 0 for the root and transformers.
    customer_bus : int64[C]; phase : int64[C], 1 to 3; p_kw, q_kvar : float64[C], demand at the feeder's peak.
    root_pu : voltage at which the root is held.
    """

    bus: tuple[str, ...]
    parent: IntArray
    part: IntArray
    kind: IntArray
    length_km: FloatArray
    customer_bus: IntArray
    phase: IntArray
    p_kw: FloatArray
    q_kvar: FloatArray
    root_pu: float

    def cable(self, k: int) -> Cable:
        """Cable above bus k."""
        part = Part(self.part[k])
        return {Part.MEDIUM: MEDIUM_VOLTAGE, Part.MAIN: MAINS, Part.SERVICE: (SERVICE,)}[part][int(self.kind[k])]


@dataclass(slots=True)
class _Draft:
    bus: list[str]
    parent: list[int]
    part: list[int]
    length_km: list[float]
    station: list[int]

    def add(self, name: str, parent: int, part: Part, length_km: float, station: int) -> int:
        self.bus.append(name)
        self.parent.append(parent)
        self.part.append(part)
        self.length_km.append(length_km)
        self.station.append(station)
        return len(self.bus) - 1


@dataclass(frozen=True, slots=True)
class _Manner:
    """What is drawn once for a feeder."""

    per_station: float
    per_main: float
    per_joint: float
    branching: float
    span_km: float
    service_km: float
    demand_kw: float
    power_factor: float
    drop: tuple[float, float]
    root_pu: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> _Manner:
        middle = float(rng.uniform(0.056, 0.064))
        return cls(
            per_station=float(rng.uniform(130, 260)),
            per_main=float(rng.uniform(24, 60)),
            per_joint=float(rng.uniform(1.3, 3.5)),
            branching=float(rng.uniform(0.08, 0.4)),
            span_km=float(rng.uniform(0.018, 0.045)),
            service_km=float(rng.uniform(0.006, 0.018)),
            demand_kw=float(rng.uniform(1.1, 1.9)),
            power_factor=float(rng.uniform(0.94, 0.98)),
            drop=(middle - 0.004, middle + 0.004),
            root_pu=float(rng.choice([1.01, 1.02, 1.03])),
        )


def draw_layout(customers: int, seed: int) -> Layout:
    """Draw the feeder of a seed; nothing else changes it."""
    rng = np.random.default_rng([seed, customers])
    manner = _Manner.drawn(rng)
    stations = max(1, round(customers / manner.per_station), -(-customers // STATION_CUSTOMERS_MAX))
    p_kw = manner.demand_kw * rng.lognormal(-0.125, 0.5, customers)
    factor = np.clip(rng.normal(manner.power_factor, 0.015, customers), 0.9, 0.995)
    q_kvar = p_kw * np.tan(np.arccos(factor))
    draft = _Draft(["root"], [-1], [int(Part.ROOT)], [0.0], [-1])
    homes = _shares(rng, customers, stations)
    customer_bus = np.empty(customers, dtype=np.int64)
    above, first = 0, 0
    for station, count in enumerate(homes.tolist()):
        if stations > 1:
            above = 0 if station % STATIONS_PER_CABLE == 0 else above
            # One in four substations ends a spur; the cable goes on from the one before.
            node = draft.add(f"mv{station}", above, Part.MEDIUM, float(rng.uniform(0.4, 1.6)), -1)
            above = above if rng.random() < 0.25 else node
        else:
            node = 0
        low = draft.add(f"lv{station}", node, Part.TRANSFORMER, 0.0, station)
        customer_bus[first : first + count] = _streets(draft, rng, manner, low, station, first, count)
        first += count
    parent, part = np.array(draft.parent), np.array(draft.part)
    # Electricians take phases in turn, and now and then do not.
    phase = (np.arange(customers) + np.where(rng.random(customers) < 0.3, rng.integers(0, 3, customers), 0)) % 3 + 1
    kind = _sized(parent, part, customer_bus, np.hypot(p_kw, q_kvar))
    length = np.array(draft.length_km)
    layout = Layout(tuple(draft.bus), parent, part, kind, length, customer_bus, phase, p_kw, q_kvar, manner.root_pu)
    drop, at = rng.uniform(*manner.drop, stations), np.array(draft.station)
    factor = _stretch(layout, at, drop)
    for _ in range(len(MAINS) - 1):
        # Where the drop would cut spans short, the planner lays thicker cable.
        tight = (part == Part.MAIN) & (factor < SHORT)[at]
        kind[tight] = np.minimum(kind[tight] + 1, len(MAINS) - 1)
        factor = _stretch(layout, at, drop)
    factor = np.clip(factor, STRETCH_MIN, STRETCH_MAX)
    length[at >= 0] *= factor[at[at >= 0]]
    return layout


def _shares(rng: np.random.Generator, customers: int, stations: int) -> IntArray:
    """Customers per substation: unequal, none empty, none above its largest."""
    weight = rng.uniform(0.75, 1.25, stations)
    edges = np.rint(np.cumsum(weight) / weight.sum() * customers).astype(np.int64)
    share = np.diff(np.concatenate([[0], edges]))
    while (share > STATION_CUSTOMERS_MAX).any():
        share[np.argmax(share)] -= 1
        share[np.argmin(share)] += 1
    return share


def _streets(
    draft: _Draft, rng: np.random.Generator, manner: _Manner, low: int, station: int, first: int, count: int
) -> IntArray:
    """Mains, joints and service drops of one substation; the buses of its customers."""
    mains = max(1, round(count / manner.per_main))
    bus = []
    for main, homes in enumerate(np.array_split(np.arange(count), mains)):
        joints: list[int] = []
        tip = low
        waiting = homes.tolist()
        while waiting:
            if joints and rng.random() < manner.branching:
                tip = joints[int(rng.integers(len(joints)))]
            span = manner.span_km * float(rng.gamma(4.0, 0.25))
            tip = draft.add(f"j{station}_{main}_{len(joints)}", tip, Part.MAIN, span, station)
            joints.append(tip)
            served = 1 + int(rng.poisson(manner.per_joint - 1.0))
            for home in waiting[:served]:
                drop = manner.service_km * float(rng.uniform(0.5, 1.5))
                bus.append(draft.add(f"c{first + home}", tip, Part.SERVICE, drop, station))
            del waiting[:served]
    return np.array(bus, dtype=np.int64)


def _sum_down(parent: IntArray, value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Each bus with all below it."""
    total = value.copy()
    for k in range(parent.size - 1, 0, -1):
        total[parent[k]] += total[k]
    return total


def _sized(parent: IntArray, part: IntArray, customer_bus: IntArray, kva: FloatArray) -> IntArray:
    """The smallest cable and transformer that carries the planned peak; a main is of one type to its ends."""
    own = np.zeros(parent.size)
    np.add.at(own, customer_bus, kva)
    below = np.asarray(_sum_down(parent, own), dtype=np.float64)
    kind = np.zeros(parent.size, dtype=np.int64)
    for k in range(1, parent.size):
        if part[k] == Part.MAIN and part[parent[k]] == Part.MAIN:
            kind[k] = kind[parent[k]]
        elif part[k] == Part.TRANSFORMER:
            kind[k] = _first([t.kva * LOADING_AT_PEAK for t in TRANSFORMERS], below[k])
        elif part[k] in (Part.MAIN, Part.MEDIUM):
            cables, kv = (MAINS, LOW_KV) if part[k] == Part.MAIN else (MEDIUM_VOLTAGE, MEDIUM_KV)
            kind[k] = _first([c.ampacity_a for c in cables], CABLE_RESERVE * below[k] / (np.sqrt(3.0) * kv))
    return kind


def _first(sizes: list[float], wanted: float) -> int:
    return next((k for k, size in enumerate(sizes) if size >= wanted), len(sizes) - 1)


def _stretch(layout: Layout, station: IntArray, drop: FloatArray) -> FloatArray:
    """Factor per substation on the spans, so that a substation and its streets have their planned drop at the peak.

    Per phase, with unit voltage: the drop along a branch is the real part of its own and mutual impedance times the
    currents below it.
    """
    turn = np.exp(-2j * np.pi * np.arange(3) / 3)
    own = np.zeros((layout.parent.size, 3), dtype=np.complex128)
    power = (layout.p_kw - 1j * layout.q_kvar) / 1000.0
    own[layout.customer_bus, layout.phase - 1] = power * turn[layout.phase - 1]
    current = np.asarray(_sum_down(layout.parent, own))
    fallen = np.zeros((layout.parent.size, 3))
    base_ohm = LOW_KV**2 / 3
    inside = np.zeros(drop.size)
    for k in np.flatnonzero(layout.part >= Part.TRANSFORMER).tolist():
        if layout.part[k] == Part.TRANSFORMER:
            unit = TRANSFORMERS[int(layout.kind[k])]
            percent = complex(unit.copper_percent, unit.reactance_percent)
            inside[station[k]] = np.real(percent / 100.0 * 3000.0 / unit.kva * current[k] / turn).max()
            continue
        cable = layout.cable(k)
        positive, zero = cable.positive_ohm_per_km, cable.zero_ohm_per_km
        if layout.part[k] == Part.SERVICE:
            lost = 2 * positive * current[k]
        else:
            lost = positive * current[k] + (zero - positive) / 3 * current[k].sum()
        part = layout.length_km[k] / base_ohm * np.real(lost / turn)
        fallen[k] = fallen[layout.parent[k]] + part
    street = np.array([fallen[station == s].max() for s in range(drop.size)])
    return np.asarray((drop - inside) / street)
