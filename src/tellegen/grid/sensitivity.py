"""How voltages, flows and the root's power answer to demand: exact first and second derivatives.

With ``G(v, s) = Y v + Y_LS v_S + M conj(s / u) = 0``, ``u = M'v`` the voltages across the loads (for a load to ground
the node's own), and a real function ``g`` with ``dg = Re(gamma^H dv)``, the adjoint ``w`` of the Jacobian
``dv -> (Y + A) dv + C conj(dv)`` gives the derivative by every load at once, with ``z = M'w``::

    dg/dP = -Re(z / u),    dg/dQ = Im(z / u)

For constant power A = 0 and ``C = -M diag(conj(s / u^2)) M'``; loads with a law of voltage add to both. The second
derivative along ``ds`` follows from the tangent ``dv`` by one more adjoint::

    J' dw = dgamma + M (conj(ds / u^2) conj(z) - conj(da) z - dc conj(z)),    d(z/u) = dz / u - z du / u^2

where a and c are the coefficients of A and C. Method: discrete adjoints of the power flow equations; the complex
calculus is Wirtinger's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import scipy.sparse as sp

from tellegen.grid.connections import Wiring, wire
from tellegen.grid.elimination import Elimination
from tellegen.grid.loads import Draw
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, LimitKind, Network
from tellegen.grid.powerflow import Factors, PowerFlow, factorise, factorise_jacobian

DEAD_PU = 1e-6
"""Demand to ground at a node of lower voltage (a neutral) moves nothing that is asked for: its derivatives are 0."""
BEND = 1e-5
"""Share of its voltage by which a load with a law is moved to see its coefficients change."""


class Quantity(IntEnum):
    """What may be differentiated; `VOLTAGE` takes a node index, `TERMINAL` a branch terminal row."""

    ROOT_KW = 0
    ROOT_KVAR = 1
    VOLTAGE = 2
    TERMINAL = 3


@dataclass(frozen=True, slots=True, eq=False)
class Linearisation:
    """The power flow at one operating point, ready to be differentiated.

    Attributes
    ----------
    factors : of the network; wiring : of what hangs on it; draw : of the demand.
    voltage : complex[n], free voltages; all_voltage : complex[N].
    lu : factorised real Jacobian.
    """

    factors: Factors
    wiring: Wiring
    draw: Draw
    voltage: ComplexArray
    all_voltage: ComplexArray
    lu: Elimination

    def gradients(self, quantity: IntArray, index: IntArray, at: IntArray | None = None) -> ComplexArray:
        """Derivatives of m quantities with respect to demand at every place (nodes first, see `Wiring`).

        Parameters
        ----------
        quantity, index : int64[m], `Quantity` and the node or terminal it is about.
        at : int64[p], places asked for; None: all.

        Returns
        -------
        complex128[m, p]: real part per kW, imaginary part per kvar of demand. Root powers in kW (kvar), others
        per unit. Only the root's powers answer to demand at a source.
        """
        kinds = np.asarray(quantity)
        source = np.where(kinds == Quantity.ROOT_KW, 1.0, np.where(kinds == Quantity.ROOT_KVAR, 1j, 0.0))
        return self._answers(self._adjoint(self._seeds(quantity, index)), self._units(kinds), source, at)

    def projected(self, quantity: IntArray, index: IntArray, at: IntArray, unit: ComplexArray) -> FloatArray:
        """`gradients` along units of demand (kW + j kvar) at some places, complex128[p], as float64[m, p]."""
        kinds = np.asarray(quantity)
        if self.wiring.ports is not None or (self.factors.position[at] < 0).any():
            found = self.gradients(quantity, index, at)
            return np.asarray(found.real * unit.real + found.imag * unit.imag, order="C")
        place = self.factors.position[at]
        turn = -self._inverse_voltage()[place] * unit
        adjoint = self._adjoint(self._seeds(quantity, index)).T
        found = adjoint[:, place]
        found *= turn
        return np.asarray(found.real * self._units(kinds)[:, None])

    def weighted_gradient(
        self, quantity: IntArray, index: IntArray, weight: FloatArray, at: IntArray | None = None
    ) -> ComplexArray:
        """Derivative of ``sum(weight * quantity)``, complex128[p], by one adjoint; as `gradients` otherwise."""
        kinds = np.asarray(quantity)
        seed = self._weighted_seed(kinds, np.asarray(index), self._units(kinds) * weight)
        source = weight[kinds == Quantity.ROOT_KW].sum() + 1j * weight[kinds == Quantity.ROOT_KVAR].sum()
        gradient = self._answers(self._adjoint(seed[:, None]), np.ones(1), np.array([source]), at)
        return np.asarray(gradient[0])

    def _units(self, kinds: IntArray) -> FloatArray:
        """What turns derivatives per unit of power into derivatives per kW."""
        return np.where(kinds <= Quantity.ROOT_KVAR, 1.0, 1.0 / self.factors.network.base_kva)

    def _answers(
        self, adjoint: ComplexArray, scale: FloatArray, source: ComplexArray, at: IntArray | None
    ) -> ComplexArray:
        """Derivatives by places [m, p] from adjoints [n, m]; `source` are those by demand at a source."""
        size = len(self.factors.network.nodes)
        if self.wiring.ports is None or (at is not None and int(at.max(initial=0)) < size):
            place = self.factors.position if at is None else self.factors.position[at]
            # -Re(z) + j Im(z) is minus the conjugate.
            found = -np.conj(adjoint[place] * self._inverse_voltage()[place][:, None]) * scale
            if (place < 0).any():
                found[place < 0] = source
            return np.asarray(found.T, dtype=np.complex128)
        pairs = self._pairs()
        full = np.zeros((size + pairs.shape[1], scale.size), dtype=np.complex128)
        full[self.factors.free] = -np.conj(adjoint * self._inverse_voltage()[:, None]) * scale
        if pairs.shape[1]:
            full[size:] = -np.conj((pairs.T @ adjoint) / (pairs.T @ self.voltage)[:, None]) * scale
        full[self.factors.network.source] = source
        places = self.wiring.at_places(full.T)
        return places if at is None else places[:, at]

    def load_gradient(self, quantity: IntArray, index: IntArray, weight: FloatArray) -> ComplexArray:
        """Derivative of ``sum(weight * quantity)`` by the power of each load of the wiring, complex128[L].

        Real part per kW, imaginary part per kvar that the load draws.
        """
        count, incidence = self.wiring.power.size, self.draw.incidence
        if incidence is None or not count:
            return np.zeros(0, dtype=np.complex128)
        kinds = np.asarray(quantity)
        seed = self._weighted_seed(kinds, np.asarray(index), self._units(kinds) * weight)
        adjoint = self._adjoint(seed[:, None])[:, 0]
        own = incidence[:, :count]
        return np.asarray(-np.conj((own.T @ adjoint) / self.draw.across(self.voltage)[:count]))

    def hessian_product(
        self, quantity: IntArray, index: IntArray, weight: FloatArray, direction_kva: ComplexArray
    ) -> ComplexArray:
        """Exact second derivative of ``sum(weight * quantity)`` along directions of demand.

        Parameters
        ----------
        quantity, index, weight : [m], as for `gradients`.
        direction_kva : complex128[places, b], kW + j kvar; a source's rows are ignored (all is linear there).

        Returns
        -------
        complex128[places, b]: real part belongs to kW, imaginary part to kvar.
        """
        base, nodes = self.factors.network.base_kva, len(self.factors.network.nodes)
        size = np.asarray(weight, dtype=np.float64)
        size = np.where(np.asarray(quantity) <= Quantity.ROOT_KVAR, base * size, size)
        active = np.flatnonzero(size)
        quantity, index, size = np.asarray(quantity)[active], np.asarray(index)[active], size[active]
        ports = self.wiring.port_demand(direction_kva) / base
        step, inverse = ports[self.factors.free], self._inverse_voltage()[:, None]
        pairs, apart, turn = self._pairs(), ports[nodes:], np.zeros((0, 1))
        right = np.conj(step * inverse)
        if pairs.shape[1]:
            turn = 1.0 / (pairs.T @ self.voltage)[:, None]
            right += pairs @ np.conj(apart * turn)
        tangent = self.lu.solve(-right)
        adjoint = self._adjoint(self._weighted_seed(quantity, index, size)[:, None])
        mirror = np.conj(adjoint)
        seed = np.conj(step * inverse**2 - 2.0 * self.draw.load[:, None] * tangent * inverse**3) * mirror
        if self.draw.incidence is not None:
            seed += self._bend(tangent, adjoint)
        if pairs.shape[1]:
            seed += pairs @ (np.conj(apart * turn**2) * (pairs.T @ mirror))
        volts = quantity == Quantity.VOLTAGE
        self._add_voltage_seeds(seed, tangent, index[volts], size[volts])
        for kind, place, amount in zip(quantity[~volts], index[~volts], size[~volts], strict=True):
            if kind == Quantity.TERMINAL:
                self._add_terminal_seed(seed, tangent, int(place), float(amount))
            elif self.factors.network.root_terminals is not None:
                at = self.factors.network.root_terminals
                own = tangent[self.factors.terminal[at]]
                seed += amount * self._metered(self.factors.rows_free[at] @ tangent, own)[int(kind)]
        change = self._adjoint(seed)
        full = np.zeros((nodes + pairs.shape[1], direction_kva.shape[1]), dtype=np.complex128)
        full[self.factors.free] = -np.conj(change * inverse - adjoint * tangent * inverse**2) / base
        if pairs.shape[1]:
            across, force, kick = pairs.T @ change, pairs.T @ adjoint, pairs.T @ tangent
            full[nodes:] = -np.conj(across * turn - force * kick * turn**2) / base
        return self.wiring.at_places(full.T).T

    def _pairs(self) -> sp.csr_matrix:
        """Ends of the pairs of nodes among the ports, [n, J]."""
        incidence = self.draw.incidence
        if incidence is None:
            return sp.csr_matrix((self.voltage.size, 0))
        return incidence[:, self.wiring.power.size :]

    def _inverse_voltage(self) -> ComplexArray:
        alive = np.abs(self.voltage) > DEAD_PU
        return np.divide(1.0, self.voltage, out=np.zeros_like(self.voltage), where=alive)

    def _bend(self, tangent: ComplexArray, adjoint: ComplexArray) -> ComplexArray:
        """What the change of the coefficients of loads between nodes, or with laws, adds to the second adjoint."""
        m, draw = self.draw.incidence, self.draw
        assert m is not None
        across, change, force = draw.across(self.voltage), (m.T @ tangent).T, (m.T @ adjoint).T
        size = np.maximum(np.abs(change), 1e-300)
        h = BEND * np.abs(across) / size
        up, down = draw.coefficients(across + h * change), draw.coefficients(across - h * change)
        direct, mirrored = (up[0] - down[0]) / (2 * h), (up[1] - down[1]) / (2 * h)
        return np.asarray(m @ (-np.conj(direct) * force - mirrored * np.conj(force)).T)

    def _adjoint(self, seeds: ComplexArray) -> ComplexArray:
        return self.lu.solve(seeds, transposed=True)

    def _places(self, node: IntArray) -> IntArray:
        """Positions of nodes among the free ones."""
        free = self.factors.free
        place = np.minimum(np.searchsorted(free, node), free.size - 1)
        if not np.array_equal(free[place], node):
            source = int(np.asarray(node)[free[place] != node][0])
            raise IndexError(f"node {source} is a source: its voltage does not answer to demand")
        return place.astype(np.int64)

    def _weighted_seed(self, kinds: IntArray, index: IntArray, weight: FloatArray) -> ComplexArray:
        """Gradient of ``sum(weight * quantity)`` with respect to the free voltages, complex[n]."""
        root, root_reactive = self._root_seeds()
        seed = weight[kinds == Quantity.ROOT_KW].sum() * root
        seed += weight[kinds == Quantity.ROOT_KVAR].sum() * root_reactive
        volts = kinds == Quantity.VOLTAGE
        at = self._places(index[volts])
        np.add.at(seed, at, weight[volts] * self.voltage[at] / np.abs(self.voltage[at]))
        rest = np.flatnonzero(kinds == Quantity.TERMINAL)
        if rest.size:
            seed += self._seeds(kinds[rest], index[rest]) @ weight[rest]
        return np.asarray(seed)

    def _seeds(self, quantity: IntArray, index: IntArray) -> ComplexArray:
        """Complex gradients gamma with respect to the free voltages, [n, m]."""
        factors = self.factors
        seeds = np.zeros((self.voltage.size, len(quantity)), dtype=np.complex128)
        kinds, places = np.asarray(quantity), np.asarray(index)
        if (kinds <= Quantity.ROOT_KVAR).any():
            root, root_reactive = self._root_seeds()
            seeds[:, kinds == Quantity.ROOT_KW] = root[:, None]
            seeds[:, kinds == Quantity.ROOT_KVAR] = root_reactive[:, None]
        column = np.flatnonzero(kinds == Quantity.VOLTAGE)
        at = self._places(places[column])
        seeds[at, column] = self.voltage[at] / np.abs(self.voltage[at])
        for row_column in np.flatnonzero(kinds == Quantity.TERMINAL):
            place = int(places[row_column])
            nodes, row, current, volt, terminal = self._terminal(place)
            if factors.network.branches.kind[place] == LimitKind.CURRENT:
                seeds[nodes, row_column] += np.conj(row) * current / abs(current)
                continue
            power = volt * np.conj(current)
            angle = power / abs(power)
            seeds[nodes, row_column] += np.conj(row) * np.conj(angle) * volt
            if terminal >= 0:
                seeds[terminal, row_column] += angle * current
        return seeds

    def _terminal(self, place: int) -> tuple[IntArray, ComplexArray, complex, complex, int]:
        rows = self.factors.rows_free
        part = slice(rows.indptr[place], rows.indptr[place + 1])
        nodes, row = rows.indices[part], rows.data[part]
        current = complex(row @ self.voltage[nodes] + self.factors.rows_source[place])
        volt = complex(self.all_voltage[self.factors.network.branches.node[place]])
        # An idle terminal has no direction; its magnitude is not differentiable and it cannot bind.
        return nodes, row, current if abs(current) > 1e-12 else 1e-12 + 0j, volt, int(self.factors.terminal[place])

    def _root_seeds(self) -> tuple[ComplexArray, ComplexArray]:
        """Gradients of the root's active and reactive power with respect to the free voltages, [n] each."""
        factors = self.factors
        at = factors.network.root_terminals
        if at is None:
            return factors.root_seed, -1j * factors.root_seed
        volt = self.all_voltage[factors.network.branches.node[at]]
        return self._metered(factors.rows_free[at] @ self.voltage + factors.rows_source[at], volt)

    def _metered(self, current: ComplexArray, volt: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Gradients of minus the power into the root's terminals, [n, ...], from their currents and voltages."""
        factors = self.factors
        at = factors.network.root_terminals
        assert at is not None
        from_volt = factors.rows_free[at].conj().T @ volt
        own = np.zeros_like(from_volt)
        np.add.at(own, factors.terminal[at], current)
        return -(own + from_volt), -1j * (own - from_volt)

    def _add_voltage_seeds(self, seed: ComplexArray, tangent: ComplexArray, node: IntArray, weight: FloatArray) -> None:
        at = self._places(node)
        v, dv = self.voltage[at, None], tangent[at]
        size = np.abs(v)
        np.add.at(seed, at, weight[:, None] * (dv / size - v * (np.conj(v) * dv).real / size**3))

    def _add_terminal_seed(self, seed: ComplexArray, tangent: ComplexArray, place: int, weight: float) -> None:
        nodes, row, current, volt, terminal = self._terminal(place)
        change = row @ tangent[nodes]
        if self.factors.network.branches.kind[place] == LimitKind.CURRENT:
            turned = change / abs(current) - current * (np.conj(current) * change).real / abs(current) ** 3
            seed[nodes] += weight * np.conj(row)[:, None] * turned[None, :]
            return
        power = volt * np.conj(current)
        volt_change = tangent[terminal] if terminal >= 0 else np.zeros_like(change)
        power_change = volt_change * np.conj(current) + volt * np.conj(change)
        angle = power / abs(power)
        angle_change = power_change / abs(power) - power * (np.conj(power) * power_change).real / abs(power) ** 3
        inner = np.conj(angle_change) * volt + np.conj(angle) * volt_change
        seed[nodes] += weight * np.conj(row)[:, None] * inner[None, :]
        if terminal >= 0:
            seed[terminal] += weight * (angle_change * current + angle * change)


def linearise(
    network: Network,
    demand_kva: ComplexArray,
    flow: PowerFlow,
    *,
    wiring: Wiring | None = None,
    factors: Factors | None = None,
) -> Linearisation:
    """Factorise the Jacobian at a solved power flow.

    Parameters
    ----------
    network, demand_kva, wiring, factors : as for `solve_powerflow`.
    flow : its solution.

    Raises
    ------
    GridError : the Jacobian is singular (voltage collapse).

    Examples
    --------
    The two-node line of `solve_powerflow` at v = 0.9: one more kW of demand takes 1 / (2 v - 1) = 1.25 kW.

    >>> import scipy.sparse as sp
    >>> from tellegen.grid.network import Branches
    >>> from tellegen.grid.powerflow import solve_powerflow
    >>> y = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.9), np.full(2, 1.1), line)
    >>> demand = np.array([0, 0.9]) + 0j
    >>> point = linearise(net, demand, solve_powerflow(net, demand))
    >>> gradient = point.gradients(np.array([Quantity.ROOT_KW]), np.array([0]))
    >>> gradient[0].real.round(9).tolist()
    [1.0, 1.25]
    """
    known = factorise(network) if factors is None else factors
    wired = wire(network, known.free) if wiring is None else wiring
    draw = wired.draw(np.asarray(demand_kva, dtype=np.complex128))
    voltage = flow.voltage[known.free]
    return Linearisation(
        factors=known,
        wiring=wired,
        draw=draw,
        voltage=voltage,
        all_voltage=flow.voltage,
        lu=factorise_jacobian(known, voltage, draw),
    )
