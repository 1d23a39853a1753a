"""The Jacobian of the power flow, a real-linear map ``dv -> (Y + A) dv + C conj(dv)``, on a pattern found once.

A and C are what the currents of loads add: diagonal for constant power to ground; for a load with incidence ``m`` (its
ends) and coefficients ``a, c`` the products ``a m m'`` and ``c m m'``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.grid.elimination import Elimination, Engine, Plan, blocks, eliminate, mirrored_blocks, plan_elimination
from tellegen.grid.loads import Draw

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True, slots=True, eq=False)
class JacobianPattern:
    """Where the numbers of the Jacobian stand, for one network and one set of ends of loads.

    Attributes
    ----------
    plan : order and pattern of its elimination.
    constant : float64[V, 4], blocks of Y among the plan's values.
    entry : int64[T], values to which loads between nodes or with a law add; spread : real sparse [T, L], how.
    """

    plan: Plan
    constant: FloatArray
    entry: IntArray
    spread: sp.csr_matrix | None

    def eliminate(self, draw: Draw, voltage: ComplexArray, engine: Engine) -> Elimination:
        """Factorise at free voltages complex128[n].

        Raises
        ------
        SingularMatrixError : at the point of voltage collapse.
        """
        values = self.constant.copy()
        values[: self.plan.size] += mirrored_blocks(draw.plain_derivative(voltage)[self.plan.order])
        if self.spread is not None:
            direct, mirrored = draw.coefficients(draw.across(voltage))
            values[self.entry] += self.spread @ (blocks(direct) + mirrored_blocks(mirrored))
        return eliminate(self.plan, values, engine=engine)


def place_values(plan: Plan, matrix: sp.spmatrix) -> ComplexArray:
    """Values of a sparse matrix in the order of a plan, complex128[V]."""
    entries = sp.coo_matrix(matrix)
    values = np.zeros(plan.values, dtype=np.complex128)
    np.add.at(values, plan.positions(entries.row, entries.col), entries.data)
    return values


def plan_jacobian(admittance: sp.csr_matrix, plan: Plan, incidence: sp.csr_matrix | None = None) -> JacobianPattern:
    """Pattern of the Jacobian of ``admittance`` [n, n], with loads between nodes or with a law at `incidence` [n, L].

    `plan` is the admittance's own; it serves where the ends of every load are joined by a line, as phases of a bus are.
    """
    if incidence is None:
        return JacobianPattern(plan, blocks(place_values(plan, admittance)), np.zeros(0, dtype=np.int64), None)
    legs = sp.csc_matrix(incidence)
    count = np.diff(legs.indptr)
    # Every end of a load answers to every end: pairs of entries of one column.
    first = np.repeat(np.arange(legs.nnz), np.repeat(count, count))
    leg = np.repeat(np.arange(count.size), count**2)
    begin = np.concatenate([[0], np.cumsum(count**2)])[:-1]
    second = legs.indptr[leg] + (np.arange(leg.size) - begin[leg]) % np.maximum(count[leg], 1)
    row, column = legs.indices[first].astype(np.int64), legs.indices[second].astype(np.int64)
    try:
        at = plan.positions(row, column)
    except KeyError:
        plan = plan_elimination(admittance, np.stack([row, column], axis=1))
        at = plan.positions(row, column)
    entry, target = np.unique(at, return_inverse=True)
    spread = sp.csr_matrix((legs.data[first] * legs.data[second], (target, leg)), shape=(entry.size, count.size))
    return JacobianPattern(plan, blocks(place_values(plan, admittance)), entry.astype(np.int64), spread)
