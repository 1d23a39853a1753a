"""How voltages, flows and the root's power answer to demand: exact first and second derivatives.

With ``G(v, s) = Y v + Y_LS v_S + conj(s / v) = 0`` and a real function ``g`` with ``dg = Re(gamma^H dv)``, the
adjoint ``w`` of ``Y^H w + C conj(w) = gamma``, ``C = -diag(conj(s / v^2))``, gives every node's derivative at once::

    dg/dP_n = -Re(w_n / v_n),    dg/dQ_n = Im(w_n / v_n)

The second derivative along ``ds`` follows from the tangent ``dv`` by one more adjoint::

    Y^H dw + C conj(dw) = dgamma + conj(ds / v^2 - 2 s dv / v^3) conj(w),    dz = dw / v - w dv / v^2

with the result ``-Re dz`` for P and ``Im dz`` for Q. Method: discrete adjoints of the power flow equations; the
complex calculus is Wirtinger's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.sparse.linalg import SuperLU

from tellegen.grid.network import ComplexArray, FloatArray, IntArray, LimitKind, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, factorise, factorise_jacobian, solve_jacobian


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
    factors : of the network.
    load : complex[n], demand at the free nodes, per unit.
    voltage : complex[n], free voltages; all_voltage : complex[N].
    lu : factorised real Jacobian.
    """

    factors: Factors
    load: ComplexArray
    voltage: ComplexArray
    all_voltage: ComplexArray
    lu: SuperLU

    def gradients(self, quantity: IntArray, index: IntArray) -> ComplexArray:
        """Derivatives of m quantities with respect to demand at every node.

        Parameters
        ----------
        quantity, index : int64[m], `Quantity` and the node or terminal it is about.

        Returns
        -------
        complex128[m, N]: real part per kW, imaginary part per kvar of demand. Root powers in kW (kvar), others per
        unit. Only the root's powers answer to demand at a source.
        """
        adjoint = self._adjoint(self._seeds(quantity, index))
        base = self.factors.network.base_kva
        full = np.zeros((len(quantity), len(self.factors.network.nodes)), dtype=np.complex128)
        scale = np.where(np.asarray(quantity) <= Quantity.ROOT_KVAR, 1.0, 1.0 / base)
        # -Re(z) + j Im(z) is minus the conjugate.
        full[:, self.factors.free] = -np.conj(adjoint / self.voltage[:, None]).T * scale[:, None]
        source = self.factors.network.source
        full[np.ix_(np.asarray(quantity) == Quantity.ROOT_KW, source)] = 1.0
        full[np.ix_(np.asarray(quantity) == Quantity.ROOT_KVAR, source)] = 1.0j
        return full

    def hessian_product(
        self, quantity: IntArray, index: IntArray, weight: FloatArray, direction_kva: ComplexArray
    ) -> ComplexArray:
        """Exact second derivative of ``sum(weight * quantity)`` along directions of demand.

        Parameters
        ----------
        quantity, index, weight : [m], as for `gradients`.
        direction_kva : complex128[N, b], kW + j kvar; a source's rows are ignored (all is linear there).

        Returns
        -------
        complex128[N, b]: real part belongs to kW, imaginary part to kvar.
        """
        base = self.factors.network.base_kva
        size, v = np.asarray(weight, dtype=np.float64), self.voltage[:, None]
        size = np.where(np.asarray(quantity) <= Quantity.ROOT_KVAR, base * size, size)
        active = np.flatnonzero(size)
        quantity, index, size = np.asarray(quantity)[active], np.asarray(index)[active], size[active]
        step = direction_kva[self.factors.free] / base
        tangent = solve_jacobian(self.factors, self.lu, -np.conj(step / v))
        adjoint = self._adjoint((self._seeds(quantity, index) @ size)[:, None])
        seed = np.conj(step / v**2 - 2.0 * self.load[:, None] * tangent / v**3) * np.conj(adjoint)
        for kind, place, amount in zip(quantity, index, size, strict=True):
            if kind == Quantity.VOLTAGE:
                self._add_voltage_seed(seed, tangent, int(place), float(amount))
            elif kind == Quantity.TERMINAL:
                self._add_terminal_seed(seed, tangent, int(place), float(amount))
        change = self._adjoint(seed)
        result = np.zeros(direction_kva.shape, dtype=np.complex128)
        result[self.factors.free] = -np.conj(change / v - adjoint * tangent / v**2) / base
        return result

    def _adjoint(self, seeds: ComplexArray) -> ComplexArray:
        return solve_jacobian(self.factors, self.lu, seeds, transposed=True)

    def _places(self, node: IntArray) -> IntArray:
        """Positions of nodes among the free ones."""
        free = self.factors.free
        place = np.minimum(np.searchsorted(free, node), free.size - 1)
        if not np.array_equal(free[place], node):
            source = int(np.asarray(node)[free[place] != node][0])
            raise IndexError(f"node {source} is a source: its voltage does not answer to demand")
        return place.astype(np.int64)

    def _seeds(self, quantity: IntArray, index: IntArray) -> ComplexArray:
        """Complex gradients gamma with respect to the free voltages, [n, m]."""
        factors = self.factors
        seeds = np.zeros((self.voltage.size, len(quantity)), dtype=np.complex128)
        root = factors.y_source_free.conj().T @ factors.network.source_voltage
        kinds, places = np.asarray(quantity), np.asarray(index)
        seeds[:, kinds == Quantity.ROOT_KW] = root[:, None]
        seeds[:, kinds == Quantity.ROOT_KVAR] = -1j * root[:, None]
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

    def _add_voltage_seed(self, seed: ComplexArray, tangent: ComplexArray, node: int, weight: float) -> None:
        at = int(self._places(np.array([node]))[0])
        v, dv = self.voltage[at], tangent[at]
        seed[at] += weight * (dv / abs(v) - v * (np.conj(v) * dv).real / abs(v) ** 3)

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
    network: Network, demand_kva: ComplexArray, flow: PowerFlow, *, factors: Factors | None = None
) -> Linearisation:
    """Factorise the Jacobian at a solved power flow.

    Parameters
    ----------
    network, demand_kva, factors : as for `solve_powerflow`.
    flow : its solution.

    Raises
    ------
    GridError : the Jacobian is singular (voltage collapse), or the root is metered apart from the sources.

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
    if network.root_terminals is not None:
        raise GridError(f"{network.name}: a network with sources behind an impedance is not differentiated yet")
    known = factorise(network) if factors is None else factors
    load = np.asarray(demand_kva, dtype=np.complex128)[known.free] / network.base_kva
    voltage = flow.voltage[known.free]
    return Linearisation(
        factors=known,
        load=load,
        voltage=voltage,
        all_voltage=flow.voltage,
        lu=factorise_jacobian(known, voltage, load),
    )
