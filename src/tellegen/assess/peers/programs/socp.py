"""Peer: the second-order cone relaxation of the branch-flow equations on a radial network, by Clarabel.

With P, Q, l (power and squared current at the parent's end of the branch above node j) and w (squared voltage), the
equation l w_parent = P^2 + Q^2 is relaxed to an inequality. Where losses have no price, or a highest voltage binds,
the relaxation invents losses; the outcome is then no dispatch. Source: Farivar and Low (2013). Runs alone:
``python socp.py INSTANCE.npz RESULT.npz``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
IDLE_RATING = 10.0
"""A rating of more than this many times the demand that may lie behind it cannot bind; files have 1e5 for none."""


def solve(instance: Arrays) -> dict[str, NDArray[Any]]:
    """Solve every book from nothing, and every one but the first with the factors of the one before.

    Returns
    -------
    award [T, n], price [T, N], status [T], build_s, cold_s [T], warm_s [T - 1], iterations [T], gap [T] (largest
    l w - P^2 - Q^2, per unit).

    Raises
    ------
    ValueError : the network is not radial, one-phase.
    """
    import clarabel

    if "tree_absent" in instance:
        raise ValueError(f"the network is no tree: {instance['tree_absent']}")
    started = time.perf_counter()
    model = _Model(instance)
    result: dict[str, list[Any]] = {
        k: [] for k in ("award", "price", "status", "cold_s", "warm_s", "iterations", "gap")
    }
    cones = [clarabel.ZeroConeT(model.equalities), clarabel.NonnegativeConeT(model.inequalities)]
    cones += [clarabel.SecondOrderConeT(int(k)) for k in model.cone_sizes]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.presolve_enable = False
    settings.input_sparse_dropzeros = False
    build_s = time.perf_counter() - started
    solver = None
    for k in range(instance["cost"].shape[0]):
        begun = time.perf_counter()
        quadratic, linear, right = model.data(k)
        prepared = time.perf_counter() - begun
        begun = time.perf_counter()
        fresh = clarabel.DefaultSolver(quadratic, linear, model.matrix, right, cones, settings)
        found = fresh.solve()
        result["cold_s"].append(time.perf_counter() - begun)
        if solver is not None:
            begun = time.perf_counter()
            solver.update(P=quadratic, q=linear, b=right)
            solver.solve()
            result["warm_s"].append(time.perf_counter() - begun)
        else:
            build_s += prepared
            solver = clarabel.DefaultSolver(quadratic, linear, model.matrix, right, cones, settings)
            solver.solve()
        x, z = np.array(found.x) * model.scale, np.array(found.z)
        result["award"].append(x[: model.steps] * model.unit_kva)
        result["price"].append(model.prices(k, z))
        result["status"].append(str(found.status))
        result["iterations"].append(found.iterations)
        result["gap"].append(model.gap(x))
    return {**{name: np.array(values) for name, values in result.items()}, "build_s": np.array(build_s)}


class _Model:
    """The program ``min 1/2 x'Px + q'x, A x + s = b``, s in zero, nonnegative and second-order cones.

    x = steps, then P, Q, l, w of every node but the root. Each branch has a unit of power of its own, the demand that
    may lie behind it, for flows of a trunk are a thousand times those of a house line (l: the square of that unit).
    """

    def __init__(self, instance: Arrays) -> None:
        self.instance = instance
        self.unit_kva = float(max(instance["width"].max(initial=0.0), 1.0))
        scale = float(instance["base_kva"]) / self.unit_kva
        parent = instance["tree_parent"]
        self.root = int(np.flatnonzero(parent < 0)[0])
        self.below = np.flatnonzero(parent >= 0)
        self.count, self.steps = self.below.size, instance["step_kva"].size
        place = np.full(parent.size, -1)
        place[self.below] = np.arange(self.count)
        self.above = place[parent[self.below]]
        # Impedance in the unit of unit_kva: z grows as the base of power shrinks.
        self.z = instance["tree_impedance"][self.below] / scale
        shunt = instance["tree_shunt"] * scale
        self.w_root = float(np.abs(instance["source_voltage"][0]) ** 2)
        self.root_shunt_kw = float(shunt[self.root].real) * self.w_root
        n, eye = self.count, sp.identity(self.count, format="csr")
        self.reach = self._reach(instance, place, parent)
        self.step_unit = np.maximum(instance["width"].max(axis=0), 1e-9) / self.unit_kva
        inner = self.above >= 0
        children = sp.csr_matrix((np.ones(inner.sum()), (self.above[inner], np.flatnonzero(inner))), shape=(n, n))
        step_node = place[instance["leg_node"]]
        here = step_node >= 0
        into = [
            sp.csr_matrix((part[here], (step_node[here], np.flatnonzero(here))), shape=(n, self.steps))
            for part in (instance["step_kva"].real, instance["step_kva"].imag)
        ]
        r, x, none = sp.diags(self.z.real), sp.diags(self.z.imag), None
        g, b = sp.diags(shunt[self.below].real), sp.diags(shunt[self.below].imag)
        first, up = sp.csr_matrix(eye - children), sp.csr_matrix(eye - children.T)
        self.scale = np.concatenate([self.step_unit, self.reach, self.reach, self.reach**2, np.ones(n)])
        balance = [
            [-into[0], first, none, -r, -g],
            [-into[1], none, first, -x, b],
            [none, 2 * r, 2 * x, -sp.diags(np.abs(self.z) ** 2), up],
        ]
        self.at_root = ~here
        top = sp.csr_matrix((np.ones((~inner).sum()), (np.zeros((~inner).sum(), int), np.flatnonzero(~inner))), (1, n))
        own = sp.csr_matrix(np.where(self.at_root, instance["step_kva"].real, 0.0)[None, :])
        self.root_row = sp.csr_matrix(sp.hstack([own, top, sp.csr_matrix((1, 3 * n))]))
        self.equalities = 3 * n
        bounded = self._bounds()
        cones = self._cones(eye)
        width = self.steps + 4 * n
        self.inequalities = bounded.shape[0]
        assert bounded.shape[1] == width
        self.row_scale = np.concatenate(
            [1 / self.reach, 1 / self.reach, np.ones(n), self.bound_scale, np.ones(sum(self.cone_sizes))]
        )
        self.matrix = sp.csc_matrix(
            sp.diags(self.row_scale) @ sp.vstack([sp.bmat(balance), bounded, cones]) @ sp.diags(self.scale)
        )

    def _reach(self, instance: Arrays, place: NDArray[Any], parent: NDArray[Any]) -> NDArray[Any]:
        """Largest demand behind each branch, in units of `unit_kva`, at least a thousandth of all of it."""
        behind = np.abs(instance["fixed_kva"]).max(axis=0) / self.unit_kva
        np.add.at(behind, instance["leg_node"], instance["width"].max(axis=0) / self.unit_kva)
        depth = np.zeros(parent.size, dtype=np.int64)
        at = parent.copy()
        while (at >= 0).any():
            depth += at >= 0
            at = np.where(at >= 0, parent[np.maximum(at, 0)], -1)
        for level in range(int(depth.max()), 0, -1):
            here = np.flatnonzero(depth == level)
            np.add.at(behind, parent[here], behind[here])
        return np.asarray(np.maximum(behind[self.below], 1e-3 * behind[self.root]))

    def _bounds(self) -> sp.csr_matrix:
        instance, n, steps = self.instance, self.count, self.steps
        y = sp.hstack([sp.identity(steps), sp.csr_matrix((steps, 4 * n))])
        w = sp.hstack([sp.csr_matrix((n, steps + 3 * n)), sp.identity(n)])
        scale = float(instance["base_kva"]) / self.unit_kva
        most = instance["tree_current_max"][self.below] * scale
        current = np.flatnonzero(most < IDLE_RATING * self.reach)
        l_rows = sp.csr_matrix(
            (np.ones(current.size), (np.arange(current.size), steps + 2 * n + current)), (current.size, steps + 4 * n)
        )
        self.current_square = most[current] ** 2
        rows = [-y, y, -w, w, l_rows]
        self.bound_scale = np.concatenate(
            [1 / self.step_unit, 1 / self.step_unit, np.ones(2 * n), 1 / self.reach[current] ** 2]
        )
        self.root_limit = float(instance["root_limit_kw"]) / self.unit_kva
        if np.isfinite(self.root_limit):
            rows += [self.root_row, -self.root_row]
            self.bound_scale = np.append(self.bound_scale, [1 / self.root_limit] * 2)
        return sp.csr_matrix(sp.vstack(rows))

    def _cones(self, eye: sp.csr_matrix) -> sp.csr_matrix:
        """Rows of ``-G`` so that ``s = h + G x``: (l + w_parent, 2P, 2Q, l - w_parent), then ratings of power."""
        instance, n = self.instance, self.count
        inner = np.flatnonzero(self.above >= 0)
        parent_w = sp.csr_matrix((np.ones(inner.size), (inner, self.above[inner])), (n, n))
        blank = sp.csr_matrix((n, self.steps))
        zero = sp.csr_matrix((n, n))
        # In the branch's own unit the cone keeps its form: its rows are written in it.
        unit = sp.diags(1 / self.reach)
        parts = [
            sp.hstack([blank, zero, zero, unit**2, parent_w]),
            sp.hstack([blank, 2 * unit, zero, zero, zero]),
            sp.hstack([blank, zero, 2 * unit, zero, zero]),
            sp.hstack([blank, zero, zero, unit**2, -parent_w]),
        ]
        stacked = sp.csr_matrix(sp.vstack(parts))
        order = np.arange(4 * n).reshape(4, n).T.ravel()
        top = np.where(self.above < 0, self.w_root, 0.0)
        offset = np.stack([top, 0 * top, 0 * top, -top], axis=1).ravel()
        blocks, offsets, sizes = [stacked[order]], [offset], [4] * n
        scale = float(instance["base_kva"]) / self.unit_kva
        r, x = sp.diags(self.z.real), sp.diags(self.z.imag)
        for name, loss in (("tree_power_max_parent", 0.0), ("tree_power_max_child", 1.0)):
            most = instance[name][self.below] * scale
            rated = np.flatnonzero(most < IDLE_RATING * self.reach)
            p = sp.csr_matrix(sp.hstack([blank, eye, zero, -loss * r, zero]))[rated]
            q = sp.csr_matrix(sp.hstack([blank, zero, eye, -loss * x, zero]))[rated]
            k = rated.size
            p, q = sp.diags(1 / most[rated]) @ p, sp.diags(1 / most[rated]) @ q
            whole = sp.csr_matrix(sp.vstack([sp.csr_matrix((k, p.shape[1])), p, q]))
            blocks.append(whole[np.arange(3 * k).reshape(3, k).T.ravel()])
            offsets.append(np.tile([1.0, 0.0, 0.0], k))
            sizes += [3] * k
        self.cone_offset, self.cone_sizes = np.concatenate(offsets), np.array(sizes)
        return -sp.csr_matrix(sp.vstack(blocks))

    def data(self, k: int) -> tuple[sp.csc_matrix, NDArray[Any], NDArray[Any]]:
        """P, q, b of book k."""
        instance, n = self.instance, self.count
        price = float(instance["root_price"][k])
        size = self.steps + 4 * n
        diagonal = np.zeros(size)
        diagonal[: self.steps] = instance["slope"][k] * self.unit_kva * self.step_unit**2
        quadratic = sp.csc_matrix((diagonal, np.arange(size), np.arange(size + 1)), shape=(size, size))
        linear = price * np.asarray(self.root_row.todense()).ravel()
        linear[: self.steps] += instance["cost"][k]
        linear *= self.scale
        fixed = instance["fixed_kva"][k] / self.unit_kva
        here = fixed[self.below]
        w_source = np.where(self.above < 0, self.w_root, 0.0)
        root_fixed = float(fixed[self.root].real) + self.root_shunt_kw
        low, high = instance["v_min"][self.below] ** 2, instance["v_max"][self.below] ** 2
        width = instance["width"][k] / self.unit_kva
        right = [here.real, here.imag, w_source, np.zeros(self.steps), width, -low, high, self.current_square]
        if np.isfinite(self.root_limit):
            right.append(np.array([self.root_limit - root_fixed, self.root_limit + root_fixed]))
        return quadratic, linear, np.concatenate([*right, self.cone_offset]) * self.row_scale

    def prices(self, k: int, dual: NDArray[Any]) -> NDArray[Any]:
        """Energy price of every node: cost of one more unit of fixed demand, the right side of its balance."""
        price = np.full(self.instance["v_min"].size, float(self.instance["root_price"][k]))
        price[self.below] = -dual[: self.count] / self.reach
        return price

    def gap(self, x: NDArray[Any]) -> float:
        """Largest l w - P^2 - Q^2, in units of `unit_kva`."""
        p, q, current, w = x[self.steps :].reshape(4, self.count)
        feeding = np.where(self.above < 0, self.w_root, w[self.above])
        return float((current * feeding - p**2 - q**2).max())


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file)))  # type: ignore[arg-type]
