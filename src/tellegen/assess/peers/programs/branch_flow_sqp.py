"""Peer: sequential quadratic programming on the branch-flow equations of a radial network, by PIQP.

Unknowns of each quadratic program are the steps and, for the branch above every node, P, Q, squared current l and
squared voltage w. All equations but ``l w_parent = P^2 + Q^2`` are linear; that one is linearised at an AC power flow
(tree sweeps) of the last dispatch, and its convex curvature, where the dual of l is positive, is in the objective. Its
duals are the prices. Runs alone: ``python branch_flow_sqp.py INSTANCE.npz RESULT.npz``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

Arrays = Mapping[str, NDArray[Any]]
PROGRAMS_MAX = 40
PRICE_TOLERANCE = 1e-7
"""Largest change of a price, as a share of the root's, at which the search stops."""
SQUARE_TOLERANCE = 1e-9
"""Largest excess over a squared voltage or rating in the power flow at which it stops."""


class NoSolutionError(Exception):
    """A quadratic program without a solution, or a power flow without one."""


def solve(instance: Arrays) -> dict[str, NDArray[Any]]:
    """Solve every book from no flexible demand, and every one but the first from the outcome before.

    Returns
    -------
    award [T, n], price [T, N], status [T], build_s, cold_s [T], warm_s [T - 1], iterations [T].

    Raises
    ------
    ValueError : the network is not radial, one-phase.
    """
    if "tree_absent" in instance:
        raise ValueError(f"the network is no tree: {instance['tree_absent']}")
    started = time.perf_counter()
    model = _Model(instance)
    build_s = time.perf_counter() - started
    result: dict[str, list[Any]] = {k: [] for k in ("award", "price", "status", "cold_s", "warm_s", "iterations")}
    last: tuple[NDArray[Any], NDArray[Any]] | None = None
    for k in range(instance["cost"].shape[0]):
        if k and last is None:
            result["warm_s"].append(np.inf)
        for start in [None] if last is None else [last, None]:
            begun = time.perf_counter()
            try:
                award, price, dual, count = model.search(k, start)
                status = "converged"
            except NoSolutionError as error:
                award, price = np.full(model.steps, np.nan), np.full(instance["v_min"].size, np.nan)
                dual, count, status = None, 0, str(error)
            taken = time.perf_counter() - begun
            if start is not None:
                result["warm_s"].append(taken if status == "converged" else np.inf)
        last = None if dual is None else (award, dual)
        for name, value in zip(
            ("award", "price", "status", "cold_s", "iterations"), (award, price, status, taken, count), strict=True
        ):
            result[name].append(value)
    return {**{name: np.array(values) for name, values in result.items()}, "build_s": np.array(build_s)}


class _Model:
    """The quadratic programs of one network; branches in units of the demand that may lie behind them."""

    def __init__(self, instance: Arrays) -> None:
        self.instance = instance
        self.kva = float(instance["base_kva"])
        parent = instance["tree_parent"]
        self.root = int(np.flatnonzero(parent < 0)[0])
        self.below = np.flatnonzero(parent >= 0)
        self.count, self.steps = self.below.size, instance["step_kva"].size
        self.place = np.full(parent.size, -1)
        self.place[self.below] = np.arange(self.count)
        self.above = self.place[parent[self.below]]
        self.z, self.shunt = instance["tree_impedance"][self.below], instance["tree_shunt"][self.below]
        self.w_root = float(np.abs(instance["source_voltage"][0]) ** 2)
        self.root_shunt = float(instance["tree_shunt"][self.root].real) * self.w_root
        n, inner = self.count, self.above >= 0
        children = sp.csr_matrix((np.ones(inner.sum()), (self.above[inner], np.flatnonzero(inner))), shape=(n, n))
        tree = sp.csc_matrix(sp.identity(n) - children)
        self.tree = splu(tree, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        self.top = ~inner
        self.w_top = np.where(self.top, self.w_root, 0.0)
        self.step_at = self.place[instance["leg_node"]]
        self.here = self.step_at >= 0
        self.y_unit = np.maximum(instance["width"].max(axis=0), 1e-9) / self.kva
        self.reach = self._reach()
        most = instance["tree_current_max"][self.below]
        # A rating of ten times what may lie behind it cannot bind; files have 1e5 for none.
        self.l_max = np.where(most < 10 * self.reach, most**2, np.inf)
        self.ratings = [
            (loss, np.flatnonzero(instance[name][self.below] < 10 * self.reach), instance[name][self.below])
            for loss, name in ((0.0, "tree_power_max_parent"), (1.0, "tree_power_max_child"))
        ]
        self._assemble(children)

    def _reach(self) -> NDArray[Any]:
        behind = np.abs(self.instance["fixed_kva"]).max(axis=0)[self.below] / self.kva
        np.add.at(behind, self.step_at[self.here], self.y_unit[self.here])
        total = self.tree.solve(behind)
        return np.asarray(np.maximum(total, 1e-3 * total.max()))

    def _assemble(self, children: sp.csr_matrix) -> None:
        """Matrices with a fixed pattern; `slot` are the places of what each linearisation changes."""
        n, m, a = self.count, self.steps, self.reach
        kva = self.instance["step_kva"]
        eye = sp.identity(n)
        into = [
            sp.csr_matrix((part[self.here], (self.step_at[self.here], np.flatnonzero(self.here))), shape=(n, m))
            for part in (kva.real, kva.imag)
        ]
        unit, inverse = sp.diags(a), sp.diags(1 / a)
        y_unit, square = sp.diags(self.y_unit), sp.diags(a**2)
        r, x = sp.diags(self.z.real), sp.diags(self.z.imag)
        g, b = sp.diags(self.shunt.real), sp.diags(self.shunt.imag)
        flow = eye - children
        marks = sp.diags(np.ones(n))
        parents = sp.csr_matrix(
            (np.ones((~self.top).sum()), (np.flatnonzero(~self.top), self.above[~self.top])), (n, n)
        )
        rows = [
            [-inverse @ into[0] @ y_unit, inverse @ flow @ unit, None, -inverse @ r @ square, -inverse @ g],
            [-inverse @ into[1] @ y_unit, None, inverse @ flow @ unit, -inverse @ x @ square, inverse @ b],
            [None, 2 * r @ unit, 2 * x @ unit, -sp.diags(np.abs(self.z) ** 2) @ square, eye - children.T],
            [sp.csr_matrix((n, m)), marks, marks, marks, parents],
        ]
        whole = sp.coo_matrix(sp.bmat(rows))
        self.equal = sp.csc_matrix(whole)
        self.equal.sort_indices()
        column = np.repeat(np.arange(m + 4 * n), np.diff(self.equal.indptr))
        key = column * (4 * n) + self.equal.indices

        def slots(row: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(np.searchsorted(key, at * (4 * n) + row))

        k = np.arange(n)
        self.inner = np.flatnonzero(~self.top)
        self.slot = [slots(3 * n + k, m + j * n + k) for j in range(3)]
        self.slot.append(slots(3 * n + self.inner, m + 3 * n + self.above[self.inner]))
        feed = np.zeros(m + 4 * n)
        feed[:m] = np.where(self.here, 0.0, kva.real) * self.y_unit
        feed[m : m + n] = np.where(self.top, a, 0.0)
        self.root_row = feed
        # Upper triangle of the Hessian: the diagonal, then P and Q of a branch with w of its parent.
        up = m + 3 * n + self.above[self.inner]
        row = np.concatenate([np.arange(m + 4 * n), m + self.inner, m + n + self.inner])
        column = np.concatenate([np.arange(m + 4 * n), up, up])
        pattern = sp.csc_matrix((np.arange(1.0, row.size + 1), (row, column)), shape=(m + 4 * n, m + 4 * n))
        pattern.sort_indices()
        self.hessian_pattern, self.hessian_order = pattern, pattern.data.astype(np.int64) - 1

    def flow(self, demand: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Exact P, Q, l, w of a demand [n] per unit, by sweeps up and down the tree."""
        w, loss = np.full(self.count, self.w_root), np.zeros(self.count)
        for _ in range(200):
            shunt = np.conj(self.shunt) * w
            power = self._up(demand + shunt + self.z * loss)
            fresh = self._down(self.w_top - 2 * (self.z.conj() * power).real + np.abs(self.z) ** 2 * loss)
            feeding = np.where(self.top, self.w_root, fresh[self.above])
            if not (feeding > 0).all():
                raise NoSolutionError("no power flow")
            fresh_loss = np.abs(power) ** 2 / feeding
            change = np.abs(fresh - w).max()
            w, loss = fresh, fresh_loss
            if change < 1e-14:
                break
        return power.real, power.imag, loss, w

    def _up(self, at: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.tree.solve(at.real) + 1j * self.tree.solve(at.imag))

    def _down(self, at: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.tree.solve(at, trans="T"))

    def search(
        self, k: int, start: tuple[NDArray[Any], NDArray[Any]] | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]:
        """Award [n] kW, price [N], dual of the equation of l [branches], programs solved."""
        instance = self.instance
        fixed = instance["fixed_kva"][k] / self.kva
        pi = float(instance["root_price"][k])
        width = instance["width"][k] / self.kva
        y = np.zeros(self.steps) if start is None else np.minimum(start[0] / self.kva, width)
        nu = self.reach * pi * self.z.real / self.reach.max() if start is None else start[1]
        price, changed = np.zeros(self.count), np.inf
        solver: Any = None
        for count in range(PROGRAMS_MAX):
            point = self.flow(self._demand(fixed, y))
            if changed <= PRICE_TOLERANCE * max(abs(pi), 0.01) and self._excess(point, fixed, y) <= SQUARE_TOLERANCE:
                prices = np.full(instance["v_min"].size, pi)
                prices[self.below] = price
                return y * self.kva, prices, nu, count
            solver, found = self._program(k, solver, point, fixed, nu)
            y = np.clip(found.x[: self.steps] * self.y_unit, 0.0, width)
            fresh = -found.y[: self.count] / self.reach * self.reach.max()
            changed = float(np.abs(fresh - price).max())
            price, nu = fresh, np.maximum(found.y[3 * self.count :], 0.0)
        raise NoSolutionError(f"prices still move by {changed:.1e} after {PROGRAMS_MAX} programs")

    def _demand(self, fixed: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        demand = fixed[self.below].copy()
        np.add.at(demand, self.step_at[self.here], (y * self.instance["step_kva"])[self.here])
        return demand

    def _excess(self, point: tuple[NDArray[Any], ...], fixed: NDArray[Any], y: NDArray[Any]) -> float:
        p, q, current, w = point
        low, high = (self.instance[name][self.below] ** 2 for name in ("v_min", "v_max"))
        worst = max(float((low - w).max()), float((w - high).max()), float((current / self.l_max - 1).max()))
        for loss, rated, most in self.ratings:
            power = (p + 1j * q - loss * self.z * current)[rated]
            worst = max(worst, float((np.abs(power / most[rated]) ** 2 - 1).max(initial=0.0)))
        root = p[self.top].sum() + self._root_fixed(fixed) + ((y * self.instance["step_kva"].real)[~self.here]).sum()
        limit = float(self.instance["root_limit_kw"]) / self.kva
        return max(worst, (abs(root) - limit) / max(limit, 1e-9) if np.isfinite(limit) else 0.0)

    def _root_fixed(self, fixed: NDArray[Any]) -> float:
        return float(fixed[self.root].real) + self.root_shunt

    def _program(
        self, k: int, solver: Any, point: tuple[NDArray[Any], ...], fixed: NDArray[Any], nu: NDArray[Any]
    ) -> tuple[Any, Any]:
        """Solve the program at a point; the objective is in currency/h per kW of the largest branch unit."""
        import piqp

        n, m, a, instance = self.count, self.steps, self.reach, self.instance
        p, q, current, w = point
        feeding = np.where(self.top, self.w_root, w[self.above])
        data = self.equal.data.copy()
        # l = (2 P0 P + 2 Q0 Q - l0 w) / w0, each in the branch's unit.
        data[self.slot[0]], data[self.slot[1]], data[self.slot[2]] = 2 * p / feeding / a, 2 * q / feeding / a, -1.0
        data[self.slot[3]] = -(current / feeding / a**2)[self.inner]
        at_top = np.where(self.top, current / a**2, 0.0)
        here = fixed[self.below]
        equal = sp.csc_matrix((data, self.equal.indices, self.equal.indptr), shape=self.equal.shape)
        right = np.concatenate([here.real / a, here.imag / a, self.w_top, at_top])
        shrink = 1.0 / a.max()
        hessian, centred = self._curvature(p, q, current, feeding, w, nu)
        linear = float(instance["root_price"][k]) * self.root_row * shrink - centred
        linear[:m] += instance["cost"][k] * self.y_unit * shrink
        hessian[:m] = instance["slope"][k] * self.kva * self.y_unit**2 * shrink
        pattern = self.hessian_pattern
        quadratic = sp.csc_matrix((hessian[self.hessian_order], pattern.indices, pattern.indptr), shape=pattern.shape)
        free = np.full(2 * n, np.inf)
        v_low, v_high = instance["v_min"][self.below] ** 2, instance["v_max"][self.below] ** 2
        width = instance["width"][k] / self.kva / self.y_unit
        program = {"P": quadratic, "c": linear, "A": equal, "b": right}
        program["x_l"] = np.concatenate([np.zeros(m), -free, np.zeros(n), v_low])
        program["x_u"] = np.concatenate([width, free, self.l_max / a**2, v_high])
        rows, low, high = self._rows(point, fixed)
        if rows.shape[0]:
            program |= {"G": rows, "h_l": low, "h_u": high}
        if solver is None:
            solver = piqp.SparseSolver()
            solver.settings.eps_abs = solver.settings.eps_rel = 1e-10
            solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = 1e-10
            solver.setup(**program)
        else:
            solver.update(**program)
        status = solver.solve()
        if status != piqp.PIQP_SOLVED or not np.isfinite(solver.result.x).all():
            raise NoSolutionError(f"quadratic program: {status.name}")
        return solver, solver.result

    def _curvature(
        self,
        p: NDArray[Any],
        q: NDArray[Any],
        current: NDArray[Any],
        feeding: NDArray[Any],
        w: NDArray[Any],
        nu: NDArray[Any],
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Entries of the Hessian of nu (P^2 + Q^2) / w (positive semidefinite), and its product with the point."""
        n, m, a, inner = self.count, self.steps, self.reach, self.inner
        w_w = np.zeros(n)
        np.add.at(w_w, self.above[inner], (2 * nu * current / a**2 / feeding**2)[inner])
        own, p_w, q_w = 2 * nu / feeding, -2 * nu * p / a / feeding**2, -2 * nu * q / a / feeding**2
        entries = np.concatenate([np.zeros(m), own, own, np.zeros(n), w_w, p_w[inner], q_w[inner]])
        parent_w = np.where(self.top, 0.0, feeding)
        times_w = w_w * w
        np.add.at(times_w, self.above[inner], (p_w * p / a + q_w * q / a)[inner])
        product = [np.zeros(m), own * p / a + p_w * parent_w, own * q / a + q_w * parent_w, np.zeros(n), times_w]
        return entries, np.concatenate(product)

    def _rows(
        self, point: tuple[NDArray[Any], ...], fixed: NDArray[Any]
    ) -> tuple[sp.csc_matrix, NDArray[Any], NDArray[Any]]:
        """Tangents of the ratings of apparent power, and the root's limit."""
        n, m, a = self.count, self.steps, self.reach
        p, q, current, _ = point
        parts: list[sp.csr_matrix] = []
        low: list[float] = []
        high: list[float] = []
        for loss, rated, most in self.ratings:
            power = (p + 1j * q - loss * self.z * current)[rated]
            unit = power / np.maximum(np.abs(power), 1e-300)
            values = [
                unit.real * a[rated],
                unit.imag * a[rated],
                -loss * (unit.conj() * self.z[rated]).real * a[rated] ** 2,
            ]
            k = np.arange(rated.size)
            columns = np.concatenate([m + rated, m + n + rated, m + 2 * n + rated])
            scaled = np.concatenate(values) / np.tile(most[rated], 3)
            parts.append(sp.csr_matrix((scaled, (np.tile(k, 3), columns)), shape=(rated.size, m + 4 * n)))
            low += [-np.inf] * rated.size
            high += [1.0] * rated.size
        limit = float(self.instance["root_limit_kw"]) / self.kva
        if np.isfinite(limit):
            used = np.flatnonzero(self.root_row)
            row = sp.csr_matrix((self.root_row[used], (np.zeros(used.size, int), used)), shape=(1, m + 4 * n))
            parts.append(row)
            low.append(-limit - self._root_fixed(fixed))
            high.append(limit - self._root_fixed(fixed))
        if not parts:
            return sp.csc_matrix((0, m + 4 * n)), np.zeros(0), np.zeros(0)
        return sp.csc_matrix(sp.vstack(parts)), np.array(low), np.array(high)


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file)))  # type: ignore[arg-type]
