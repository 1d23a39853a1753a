"""The simulated plant: what the wires do, as OpenDSS solves it (extra ``plant``).

The plant is not the market's model (law 10): the series impedance of every line and transformer
differs from the one the market knows, by up to `perturb`, drawn from the seed. With ``perturb=0``
it is the market's network, solved by an independent program: the referee of the power flow.

The circuit is written in per unit on one phase, with 1 kV as base. An ideal transformer of real
ratio is written as its pi of three admittances, as reactors. Phase shifts turn everything behind
them and change no magnitude, so they are taken out before and put back after a solution.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError, TellegenError
from tellegen.grid.elements import Elements, terminal_current_rows, two_port
from tellegen.grid.network import Case, LimitKind, Network

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

SOURCE_X_PU = 1e-8
"""Reactance behind the root: an ideal source to eight digits, and no worse conditioned than that."""
NO_ADMITTANCE_PU = 1e-13
LIMIT_TOLERANCE = 1e-6
"""How far (per unit, or share of a rating) a limit may be exceeded before it counts as violated."""


class PlantError(TellegenError):
    """The plant cannot be built or has no solution."""


@dataclass(frozen=True, slots=True, eq=False)
class PlantState:
    """What the plant's instruments show.

    Attributes
    ----------
    voltage_pu : float64[N], magnitudes.
    root_kw, root_kvar : power that the root delivers.
    losses_kw : root less all demand.
    terminal_pu : float64[K], current or apparent power at each branch terminal (its `LimitKind`).
    loading_percent : float64[K], of the rating; 0 where there is none.
    """

    voltage_pu: FloatArray
    root_kw: float
    root_kvar: float
    losses_kw: float
    terminal_pu: FloatArray
    loading_percent: FloatArray


def require_engine() -> None:
    """Make sure that OpenDSS is there.

    Raises
    ------
    InputError : the extra ``plant`` is not installed.
    """
    if find_spec("dss") is None:
        raise InputError("plant", "package dss-python", "is needed: pip install 'tellegen[plant]'")


def perturbed(elements: Elements, perturb: float, seed: int) -> Elements:
    """The same elements, each series impedance times a factor uniform in ``1 +- perturb``."""
    if not 0.0 <= perturb < 1.0:
        raise PlantError(f"perturb {perturb} must be at least 0 and below 1")
    factor = np.random.default_rng(seed).uniform(1.0 - perturb, 1.0 + perturb, elements.impedance_pu.size)
    return replace(elements, impedance_pu=elements.impedance_pu * factor)


def _turned(elements: Elements, network: Network) -> FloatArray:
    """Angle in radians by which transformers turn each node against its root, float64[N]."""
    shift = np.angle(elements.ratio)
    beside: list[list[tuple[int, float]]] = [[] for _ in network.nodes]
    for f, t, angle in zip(elements.from_node.tolist(), elements.to_node.tolist(), shift.tolist(), strict=True):
        beside[f].append((t, -angle))
        beside[t].append((f, angle))
    turned = np.full(len(network.nodes), np.nan)
    for root in network.source.tolist():
        if not np.isnan(turned[root]):
            continue
        turned[root] = 0.0
        waiting = deque([root])
        while waiting:
            node = waiting.popleft()
            for other, angle in beside[node]:
                if np.isnan(turned[other]):
                    turned[other] = turned[node] + angle
                    waiting.append(other)
    mismatch = turned[elements.from_node] - shift - turned[elements.to_node]
    if (np.abs(np.exp(1j * mismatch) - 1.0) > 1e-9).any():
        raise PlantError("phase shifts around a loop do not cancel; the one-phase plant cannot show that")
    return turned


class Plant:
    """A network in OpenDSS, ready to be solved for one demand after another.

    Parameters
    ----------
    case : the market's network, with its elements.
    perturb : largest relative difference of a series impedance from the market's.
    seed : draws the differences; the same seed gives the same plant.

    Raises
    ------
    InputError : the extra ``plant`` is not installed.
    PlantError : the case has no elements, or phase shifts that one phase cannot show.
    """

    def __init__(self, case: Case, *, perturb: float = 0.1, seed: int = 0) -> None:
        require_engine()
        from dss import DSS

        if case.elements is None:
            raise PlantError(f"{case.network.name}: the case has no elements from which to build a plant")
        self.network = case.network
        self.elements = perturbed(case.elements, perturb, seed)
        self._rows = terminal_current_rows(self.elements)
        self._turned = _turned(self.elements, self.network)
        self._turn_back = np.exp(1j * self._turned)
        self._free = self.network.free
        branches = self.network.branches
        self._power_limited = np.flatnonzero(branches.kind == LimitKind.APPARENT_POWER)
        self._percent = np.where(np.isinf(branches.rating_pu), 0.0, 100.0 / branches.rating_pu)
        DSS.AllowChangeDir = False  # else a new context moves the whole process to where it was started
        self._engine: Any = DSS.NewContext()
        self._engine.AllowForms = False
        self._write_circuit()
        self._circuit: Any = self._engine.ActiveCircuit
        named = [int(name.split(".")[0][1:]) for name in self._circuit.AllNodeNames]
        self._order = np.array(named, dtype=np.int64)

    def _write_circuit(self) -> None:
        network, elements = self.network, self.elements
        ohm = 1000.0 / network.base_kva  # (1 kV)^2 over base power
        say = self._engine.Text.Commands
        source = f"R1=0 X1={SOURCE_X_PU * ohm!r} R0=0 X0={SOURCE_X_PU * ohm!r}"
        lines = ["clear", "set DefaultBaseFrequency=50"]
        for k, (node, voltage) in enumerate(zip(network.source.tolist(), network.source_voltage.tolist(), strict=True)):
            angle = float(np.degrees(np.angle(voltage) - self._turned[node]))
            head = "new circuit.plant" if k == 0 else f"new vsource.root{k}"
            lines.append(f"{head} phases=1 bus1=n{node}.1 basekv=1 pu={abs(voltage)!r} angle={angle!r} {source}")

        plain = replace(elements, ratio=np.abs(elements.ratio).astype(np.complex128))
        from_from, from_to, _, to_to = two_port(plain)
        across, at_from, at_to = -from_to, from_from + from_to, to_to + from_to

        def reactor(name: str, admittance: complex, first: str, second: str) -> None:
            if abs(admittance) > NO_ADMITTANCE_PU:
                z = ohm / complex(admittance)
                lines.append(f"new reactor.{name} phases=1 bus1={first} bus2={second} R={z.real!r} X={z.imag!r}")

        for k, (f, t) in enumerate(zip(elements.from_node.tolist(), elements.to_node.tolist(), strict=True)):
            if f != t:
                reactor(f"e{k}", across[k], f"n{f}.1", f"n{t}.1")
            reactor(f"f{k}", at_from[k], f"n{f}.1", f"n{f}.0")
            reactor(f"t{k}", at_to[k], f"n{t}.1", f"n{t}.0")
        for node, admittance in enumerate(elements.node_shunt_pu.tolist()):
            reactor(f"g{node}", admittance, f"n{node}.1", f"n{node}.0")
        # vminpu and vmaxpu are where OpenDSS would turn constant power into constant impedance.
        for node in self._free:
            lines.append(
                f"new load.d{node} phases=1 bus1=n{node}.1 kV=1 kW=0 kvar=0 model=1 vminpu=.3 vmaxpu=2 vlowpu=.1"
            )
        lines += ["set mode=snap", "set controlmode=off", "set tolerance=1e-10", "set maxiterations=500", "solve"]
        say("\n".join(lines))

    def solve(self, demand_kva: ComplexArray) -> PlantState:
        """Solve for constant power ``kW + j kvar`` at each node, complex128[N], consumption positive.

        Raises
        ------
        PlantError : the demand has not one finite value per node, or OpenDSS finds no solution.
        """
        demand = np.asarray(demand_kva, dtype=np.complex128)
        if demand.shape != (len(self.network.nodes),) or not np.isfinite(demand).all():
            raise PlantError(f"{len(self.network.nodes)} finite demands are needed, one per node")
        loads = self._circuit.Loads
        more = loads.First
        for power in demand[self._free].tolist():
            loads.kW, loads.kvar = power.real, power.imag
            more = loads.Next
        if more:
            raise PlantError("the circuit has more loads than the network has nodes")
        self._circuit.Solution.Solve()
        if not self._circuit.Solution.Converged:
            raise PlantError(f"{self.network.name}: OpenDSS finds no solution; the demand is beyond the network")
        parts = np.asarray(self._circuit.AllBusVolts, dtype=np.float64)
        voltage = np.empty(len(self.network.nodes), dtype=np.complex128)
        voltage[self._order] = (parts[0::2] + 1j * parts[1::2]) / 1000.0
        voltage *= self._turn_back
        supplied = -np.asarray(self._circuit.TotalPower, dtype=np.float64)
        at_root = complex(demand[self.network.source].sum())  # served at the source itself, over no wire
        root_kw, root_kvar = float(supplied[0]) + at_root.real, float(supplied[1]) + at_root.imag
        magnitude = np.abs(voltage)
        terminal = np.abs(self._rows @ voltage)
        terminal[self._power_limited] *= magnitude[self.network.branches.node[self._power_limited]]
        return PlantState(
            voltage_pu=magnitude,
            root_kw=root_kw,
            root_kvar=root_kvar,
            losses_kw=root_kw - float(demand.real.sum()),
            terminal_pu=terminal,
            loading_percent=self._percent * terminal,
        )


def count_violations(voltage_pu: FloatArray, loading_percent: FloatArray, limits: Network) -> tuple[int, int]:
    """Count broken limits: nodes outside their voltage limits (roots excepted), overloaded elements.

    Parameters
    ----------
    voltage_pu : float64[N], or [phases, N], of which any counts. loading_percent : float64[K], per branch terminal; an
        element overloaded at both of its ends counts once.
    limits : network whose limits count.
    """
    free, voltage = limits.free, np.atleast_2d(voltage_pu)
    outside = (voltage < limits.v_min - LIMIT_TOLERANCE) | (voltage > limits.v_max + LIMIT_TOLERANCE)
    anywhere = np.flatnonzero(outside.any(axis=0))
    over = np.flatnonzero(loading_percent > 100.0 * (1.0 + LIMIT_TOLERANCE))
    return int(np.isin(anywhere, free).sum()), len({limits.branches.element[k] for k in over.tolist()})
