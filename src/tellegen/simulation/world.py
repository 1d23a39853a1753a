"""A simulated world: the plant with its homes, instruments and registers.

The market's world and the worlds without a market run over the same plant, the same homes and the
same movement of load within each interval, so that only behaviour differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.grid import Network
from tellegen.simulation.plant import Plant, PlantState, count_violations
from tellegen.simulation.scenario import PlantErrors
from tellegen.units import INTERVALS_PER_HOUR

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SUBSTEPS = 3
"""Solutions of the plant per market interval; load moves between them."""
PHASES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What happened in one interval, as instruments with perfect accuracy would say.

    Attributes
    ----------
    net_kw, net_kvar : float64[n], mean net withdrawal of each customer.
    root_kw, root_kvar, losses_kw : means over the interval.
    voltage_pu : float64[N], mean magnitude at each node, over its phases too.
    voltage_violations : nodes whose mean voltage is outside the limits, in any phase.
    loading_violations : branches above their rating in the mean, at either end.
    loading_percent_max : largest mean loading.
    overload_percent : by how much mean loadings are above 100, summed over branch ends.
    """

    net_kw: FloatArray
    net_kvar: FloatArray
    root_kw: float
    root_kvar: float
    losses_kw: float
    voltage_pu: FloatArray
    voltage_violations: int
    loading_violations: int
    loading_percent_max: float
    overload_percent: float


@dataclass(frozen=True, slots=True, eq=False)
class Registers:
    """Cumulative registers of all meters in float Wh (varh); row 0 is the substation's meter."""

    import_wh: FloatArray
    export_wh: FloatArray
    reactive_varh: FloatArray

    def whole(self) -> tuple[IntArray, IntArray, IntArray]:
        """What the displays show: whole Wh and varh."""
        return _whole(self.import_wh), _whole(self.export_wh), _whole(self.reactive_varh)


def _whole(register: FloatArray) -> IntArray:
    return np.floor(register).astype(np.int64)


class FeederWorld:
    """A plant with `n` homes on it, and their registers since the start of the run.

    Parameters
    ----------
    plant : solved `SUBSTEPS` times per interval.
    node : int64[n], node of each customer.
    limits : network whose voltage limits and ratings count as violated (without the market's margin).
    errors : of which the world knows how load moves, how it answers voltage, how far its reactive power is from what is
        forecast, and how it is spread over the phases.
    seed : draws all that; the same in every world of a scenario.

    Notes
    -----
    Base load draws its power times ``V^voltage_response``, at the voltage of the solution before. With
    `phase_unbalance` each phase is a network of its own, with thrice its load: what one phase draws lifts no other, as
    it would through a neutral.
    """

    def __init__(self, plant: Plant, node: IntArray, limits: Network, errors: PlantErrors, seed: int) -> None:
        self._plant, self._node, self._limits = plant, node, limits
        self._errors, self._seed = errors, seed
        self._voltage = np.ones(len(limits.nodes))
        draw = np.random.Generator(np.random.PCG64([seed, 5]))
        self._reactive = 1.0 + errors.reactive_error * draw.uniform(-1.0, 1.0, node.size)
        apart = draw.uniform(-1.0, 1.0, (PHASES, node.size))
        spread = 1.0 + errors.phase_unbalance * (apart - apart.mean(axis=0))
        self._shares = spread if errors.phase_unbalance else np.ones((1, node.size))
        meters = node.size + 1
        # Registers start where meters stand that have run for a year or two.
        start = np.random.Generator(np.random.PCG64([seed, 3])).integers(10**6, 10**7, (2, meters)).astype(np.float64)
        self.registers = Registers(start[0], start[1], np.zeros(meters))

    def step(
        self, interval: int, base_kw: FloatArray, base_kvar: FloatArray, device_kw: FloatArray, device_kvar: FloatArray
    ) -> Observation:
        """Let one interval pass with given base load and device powers (float64[n], withdrawal positive)."""
        factors = self._factors(interval)
        hours = 1.0 / (INTERVALS_PER_HOUR * SUBSTEPS)
        imports, exports = self.registers.import_wh.copy(), self.registers.export_wh.copy()
        reactive = self.registers.reactive_varh.copy()
        phases, nets = [], []
        for factor in factors:
            drawn = factor * self._voltage[self._node] ** self._errors.voltage_response
            net_kw, net_kvar = base_kw * drawn + device_kw, base_kvar * self._reactive * drawn + device_kvar
            states = [self._solved((net_kw + 1j * net_kvar) * share) for share in self._shares]
            self._voltage = np.mean([s.voltage_pu for s in states], axis=0)
            power_w = 1000.0 * np.concatenate([[np.mean([s.root_kw for s in states])], net_kw])
            imports += np.maximum(power_w, 0.0) * hours
            exports += np.maximum(-power_w, 0.0) * hours
            reactive += 1000.0 * np.concatenate([[np.mean([s.root_kvar for s in states])], net_kvar]) * hours
            phases.append(states)
            nets.append((net_kw, net_kvar))
        self.registers = Registers(imports, exports, reactive)
        states = [state for each in phases for state in each]
        by_phase = np.mean([[s.voltage_pu for s in each] for each in phases], axis=0)
        voltage = np.asarray(by_phase.mean(axis=0))
        loading = np.mean([[s.loading_percent for s in each] for each in phases], axis=0).max(axis=0)
        voltage_violations, loading_violations = count_violations(by_phase, loading, self._limits)
        return Observation(
            net_kw=np.mean([kw for kw, _ in nets], axis=0),
            net_kvar=np.mean([kvar for _, kvar in nets], axis=0),
            root_kw=float(np.mean([s.root_kw for s in states])),
            root_kvar=float(np.mean([s.root_kvar for s in states])),
            losses_kw=float(np.mean([s.losses_kw for s in states])),
            voltage_pu=voltage,
            voltage_violations=voltage_violations,
            loading_violations=loading_violations,
            loading_percent_max=float(loading.max(initial=0.0)),
            overload_percent=float(np.maximum(loading - 100.0, 0.0).sum()),
        )

    def _solved(self, power_kva: NDArray[np.complex128]) -> PlantState:
        """The plant under complex power of each home, in one phase times three or in all of them alike."""
        demand = np.zeros(len(self._limits.nodes), dtype=np.complex128)
        np.add.at(demand, self._node, power_kva)
        return self._plant.solve(demand)

    def _factors(self, interval: int) -> FloatArray:
        """Base load of each substep over its mean, float64[SUBSTEPS, n]; the mean over substeps is 1."""
        draw = np.random.Generator(np.random.PCG64([self._seed, 2, interval]))
        factors = np.maximum(1.0 + self._errors.movement * draw.standard_normal((SUBSTEPS, self._node.size)), 0.05)
        return np.asarray(factors / factors.mean(axis=0))
