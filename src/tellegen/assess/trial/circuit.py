"""A power flow that owes the engine nothing: admittances as the network states them, a Newton, its transpose.

Unknown are the voltages of the nodes that are no source, real and imaginary parts apart. What a customer or load draws
flows through *legs*: from a node to ground or to another node. With incidence M (real) and the legs' voltages
``u = M' v``, the equations are

    F(v) = Y_LL v + Y_LS v_S + M conj(S(|u|) / u) = 0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from tellegen.grid import Connections, FixedLoads, LimitKind, LoadLaw, Network
from tellegen.grid.loads import GROUND
from tellegen.grid.network import ComplexArray, FloatArray, IntArray

NEWTON_MAX = 30
PATH_STEPS_MAX = 200
"""Steps of a path from no load to all of it, where Newton does not arrive at once."""
ARRIVED_PU = 1e-11
LAW_STEP = 1e-6


class NoFlowError(Exception):
    """No power flow was found on the way from no load."""


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What all legs draw, complex128[legs], per unit: rated power of loads with laws, power of the rest."""

    power: ComplexArray


class Circuit:
    """A network with loads of its own and the connections of a book."""

    def __init__(self, network: Network, loads: FixedLoads | None, connections: Connections) -> None:
        self.network, self.connections = network, connections
        size = len(network.nodes)
        self.free = np.setdiff1d(np.arange(size), network.source)
        matrix = sp.csr_matrix(network.admittance)
        self._y = matrix[self.free][:, self.free].tocsc()
        self._from_sources = matrix[self.free][:, network.source] @ network.source_voltage
        self._loads = loads
        own = np.zeros(0, dtype=np.int64) if loads is None else loads.node
        other = np.full(own.size, GROUND) if loads is None or loads.other is None else loads.other
        node = np.concatenate([np.arange(size), connections.node, own])
        ends = np.concatenate([np.full(size, GROUND), connections.other, other])
        pair = np.flatnonzero(ends != GROUND)
        # The voltage of a leg is per unit of the base of its first node.
        scale = -network.base_kv[ends[pair]] / network.base_kv[node[pair]]
        everywhere = sp.csr_matrix(
            (
                np.concatenate([np.ones(node.size), scale]),
                (np.concatenate([node, ends[pair]]), np.concatenate([np.arange(node.size), pair])),
            ),
            shape=(size, node.size),
        )
        self._legs = everywhere.T.tocsr()
        """Voltage of each leg from those of all nodes, [legs, N]."""
        self._first = node
        self._law_from = node.size - own.size

    # -- demand ------------------------------------------------------------------------------------------------

    def demand(self, place_kva: ComplexArray) -> Demand:
        """Legs' power when demand at the places (nodes, then connections) is `place_kva`."""
        size, table = len(self.network.nodes), self.connections
        row = np.repeat(np.arange(len(table)), np.diff(table.start))
        parts = [place_kva[:size], place_kva[size:][row] * table.share]
        if self._loads is not None:
            parts.append(self._loads.p_kw + 1j * self._loads.q_kvar)
        return Demand(np.concatenate(parts).astype(np.complex128) / self.network.base_kva)

    def _drawn(self, demand: Demand, across: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Power of each leg at its voltage, and its derivative with the voltage's magnitude."""
        power, slope = demand.power.copy(), np.zeros_like(demand.power)
        law = None if self._loads is None else self._loads.law
        if law is not None:
            rated, at = demand.power[self._law_from :], np.abs(across[self._law_from :]) / law.rated_pu
            power[self._law_from :] = _of_law(law, rated, at)
            step = _of_law(law, rated, at + LAW_STEP) - _of_law(law, rated, at - LAW_STEP)
            slope[self._law_from :] = step / (2 * LAW_STEP * law.rated_pu)
        return power, slope

    def current(self, demand: Demand, voltage: ComplexArray) -> ComplexArray:
        """Current that the legs take from every node, complex128[N]."""
        across = self._legs @ voltage
        power, _ = self._drawn(demand, across)
        through = np.divide(power, across, out=np.zeros_like(power), where=power != 0)
        return np.asarray(self._legs.T @ np.conj(through))

    def mismatch_pu(self, demand: Demand, voltage: ComplexArray) -> float:
        """Largest power that a free node misses or has too much, per unit, rounding of its branches' powers aside."""
        error = self._error(demand, voltage)
        size = np.abs(voltage[self.free])
        rounding = 8 * np.finfo(np.float64).eps * (abs(self._y) @ size) * size
        return float(np.maximum(np.abs(error) * size - rounding, 0.0).max(initial=0.0))

    def _error(self, demand: Demand, voltage: ComplexArray) -> ComplexArray:
        drawn = self.current(demand, voltage)[self.free]
        return np.asarray(self._y @ voltage[self.free] + self._from_sources + drawn)

    # -- Newton ------------------------------------------------------------------------------------------------

    def _jacobian(self, demand: Demand, voltage: ComplexArray) -> sp.csc_matrix:
        across = self._legs @ voltage
        power, slope = self._drawn(demand, across)
        live = np.flatnonzero(power)
        m, u = self._legs[live][:, self.free].T, across[live]
        direct = np.conj(slope[live]) / (2 * np.abs(u))
        mirrored = direct * u / np.conj(u) - np.conj(power[live]) / np.conj(u) ** 2
        a = self._y + m @ sp.diags(direct) @ m.T
        c = m @ sp.diags(mirrored) @ m.T
        return sp.csc_matrix(sp.bmat([[(a + c).real, -(a - c).imag], [(a + c).imag, (a - c).real]]))

    def from_no_load(self, demand: Demand) -> ComplexArray:
        """Voltages of all nodes on the branch that begins at no load.

        Raises
        ------
        NoFlowError : the path from no load ends before all of the demand is served.
        """
        voltage = self._at_no_load()
        found = self._newton(demand, voltage)
        if found is not None:
            return found
        reached, step = 0.0, 0.1
        for _ in range(PATH_STEPS_MAX):
            share = min(reached + step, 1.0)
            further = self._newton(Demand(share * demand.power), voltage)
            # A leap along the path is another branch.
            if further is None or float(np.abs(further - voltage).max()) > 0.1:
                step /= 2
                continue
            voltage, reached, step = further, share, 1.5 * step
            if reached == 1.0:
                return voltage
        raise NoFlowError(f"the path from no load ends at {100 * reached:.4f} % of the demand")

    def _at_no_load(self) -> ComplexArray:
        voltage = np.empty(len(self.network.nodes), dtype=np.complex128)
        voltage[self.network.source] = self.network.source_voltage
        voltage[self.free] = splu(self._y).solve(-self._from_sources)
        return voltage

    def _newton(self, demand: Demand, start: ComplexArray) -> ComplexArray | None:
        voltage, free = start.copy(), self.free
        best = np.inf
        for _ in range(NEWTON_MAX):
            error = self._error(demand, voltage)
            size = float((np.abs(error) * np.abs(voltage[free])).max(initial=0.0))
            if not np.isfinite(size) or size > 1e6:
                return None
            if size < ARRIVED_PU or (size < 1e-7 and size > 0.5 * best):
                return voltage
            best = min(best, size)
            try:
                step = splu(self._jacobian(demand, voltage)).solve(-np.concatenate([error.real, error.imag]))
            except RuntimeError:
                return None
            voltage[free] += step[: free.size] + 1j * step[free.size :]
        return None

    def driving_impedance(self, node: int) -> float:
        """Magnitude of the impedance that a free node sees at no load, per unit."""
        unit = np.zeros(self.free.size, dtype=np.complex128)
        at = int(np.searchsorted(self.free, node))
        unit[at] = 1.0
        return float(abs(splu(self._y).solve(unit)[at]))

    # -- what is measured, and prices from it -------------------------------------------------------------------

    def root_kva(self, place_kva: ComplexArray, voltage: ComplexArray) -> complex:
        """Power taken from the sources, those of the network's root terminals where it has any."""
        network, at = self.network, self.network.root_terminals
        if at is not None:
            rows = network.branches.current_rows[at] @ voltage
            return -complex((voltage[network.branches.node[at]] * np.conj(rows)).sum()) * network.base_kva
        leaving = network.source_voltage * np.conj(sp.csr_matrix(network.admittance)[network.source] @ voltage)
        return complex(leaving.sum()) * network.base_kva + complex(place_kva[network.source].sum())

    def terminal_pu(self, voltage: ComplexArray) -> FloatArray:
        """Current or apparent power at each branch terminal, float64[K]."""
        lines = self.network.branches
        size = np.abs(lines.current_rows @ voltage)
        apparent = lines.kind == LimitKind.APPARENT_POWER
        return np.asarray(np.where(apparent, size * np.abs(voltage[lines.node]), size))

    def place_prices(self, demand: Demand, voltage: ComplexArray, seed: Seed) -> ComplexArray:
        """Derivatives of what a seed weighs with demand at each place: real with kW, imaginary with kvar."""
        free, size = self.free, len(self.network.nodes)
        gamma = self._gamma(voltage, seed)[free]
        jacobian = self._jacobian(demand, voltage)
        adjoint = splu(jacobian).solve(np.concatenate([gamma.real, -gamma.imag]), trans="T")
        lam = np.zeros(size, dtype=np.complex128)
        lam[free] = adjoint[: free.size] + 1j * adjoint[free.size :]
        # One kW through a leg takes conj(1 / u) of current, one kvar conj(j / u).
        across = self._legs @ voltage
        taken = np.divide(np.conj(self._legs @ lam), np.conj(across), out=0 * across, where=across != 0)
        leg = -(taken.real + 1j * (-1j * taken).real) / self.network.base_kva
        at_source = np.isin(self._first[:size], self.network.source)
        if self.network.root_terminals is None:
            leg[:size] = np.where(at_source, seed.root, leg[:size])
        table = self.connections
        row = np.repeat(np.arange(len(table)), np.diff(table.start))
        legs = leg[size : size + table.node.size] * table.share
        shared = np.bincount(row, legs.real, len(table)) + 1j * np.bincount(row, legs.imag, len(table))
        return np.concatenate([leg[:size], shared])

    def _gamma(self, voltage: ComplexArray, seed: Seed) -> ComplexArray:
        """Complex gradient: what the seed weighs changes by ``Re(gamma' dv)``, complex128[N]."""
        network, lines = self.network, self.network.branches
        base, gamma = network.base_kva, np.zeros(voltage.size, dtype=np.complex128)
        turned = seed.root.real + 1j * seed.root.imag
        if network.root_terminals is None:
            matrix = sp.csr_matrix(network.admittance)[network.source]
            gamma += base * turned * (matrix.T @ np.conj(network.source_voltage))
        else:
            at = network.root_terminals
            rows, here = lines.current_rows[at], lines.node[at]
            np.add.at(gamma, here, -base * np.conj(turned) * np.conj(rows @ voltage))
            gamma -= base * turned * (rows.T @ np.conj(voltage[here]))
        np.add.at(gamma, seed.node, seed.of_node * np.conj(voltage[seed.node]) / np.abs(voltage[seed.node]))
        rows, here = lines.current_rows[seed.terminal], lines.node[seed.terminal]
        current, volt = rows @ voltage, voltage[here]
        apparent = lines.kind[seed.terminal] == LimitKind.APPARENT_POWER
        size = np.where(apparent, np.abs(volt), 1.0)
        gamma += rows.T @ (seed.of_terminal * size * np.conj(current) / np.abs(current))
        turned_volt = np.conj(volt) / np.abs(volt) * np.abs(current) * apparent
        np.add.at(gamma, here, seed.of_terminal * turned_volt)
        return gamma


@dataclass(frozen=True, slots=True, eq=False)
class Seed:
    """What prices are the derivatives of: weights of the root's power and of measured quantities.

    Attributes
    ----------
    root : currency/kWh on the root's kW (real) and kvar (imaginary).
    node, of_node : voltages at nodes, and their weights in currency/h per pu.
    terminal, of_terminal : branch terminals, and weights in currency/h per pu of their kind.
    """

    root: complex
    node: IntArray
    of_node: FloatArray
    terminal: IntArray
    of_terminal: FloatArray


def _of_law(law: LoadLaw, rated: ComplexArray, at: FloatArray) -> ComplexArray:
    """Power at voltages `at` per unit of rated, as `tellegen.grid.loads` states it in words."""

    def share(exponent: FloatArray) -> FloatArray:
        found = at**exponent
        for k in np.flatnonzero((at <= law.minimum) | (at > law.maximum)).tolist():
            m, low, least, edge = at[k], law.low[k], law.minimum[k], law.edge_exponent[k]
            if m > law.maximum[k]:
                found[k] = law.maximum[k] ** (edge - 2) * m**2
            elif m <= low:
                found[k] = m**2
            else:
                found[k] = m * (low + (least ** (edge - 1) - low) * (m - low) / (least - low))
        return found

    return np.asarray(rated.real * share(law.p_exponent) + 1j * rated.imag * share(law.q_exponent))
