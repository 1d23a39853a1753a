"""Peer: the exact AC problem as one non-linear program in rectangular voltages, by Ipopt (through CasADi).

Serves balanced and unbalanced networks alike: all it knows is the complex admittance matrix. Unknowns are the voltages
of the free nodes and the steps; orders between two nodes bring their current as unknowns besides. Runs alone:
``python ipopt.py INSTANCE.npz RESULT.npz``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

ACCURATE = {"ipopt.tol": 1e-8, "ipopt.nlp_scaling_method": "none", "ipopt.bound_relax_factor": 1e-12}
"""With its own scaling, prices of a 1,000-customer feeder are 3e-4 off at the same tolerance."""
WARM = {"ipopt.warm_start_init_point": "yes", "ipopt.mu_init": 1e-3, "ipopt.warm_start_bound_push": 1e-4}
"""Settings that made starts from the last interval quickest of those tried."""


def solve(instance: Arrays) -> dict[str, NDArray[Any]]:
    """Solve every book of an instance from a flat start, and every one but the first from the one before.

    Returns
    -------
    award [T, n], price [T, N], status [T], build_s, cold_s [T], warm_s [T - 1], iterations [T].
    """
    import casadi as ca

    started = time.perf_counter()
    size = instance["v_min"].size
    source = instance["source"]
    free = np.setdiff1d(np.arange(size), source)
    unit_kva = float(max(instance["width"].max(initial=0.0), 1.0))
    scale = float(instance["base_kva"]) / unit_kva
    steps = instance["step_kva"].size
    re, im, y = ca.SX.sym("re", free.size), ca.SX.sym("im", free.size), ca.SX.sym("y", steps)
    held = instance["source_voltage"]
    place = np.full(size, -1)
    place[free] = np.arange(free.size)
    volt_re, volt_im = ca.SX(size, 1), ca.SX(size, 1)
    volt_re[free.tolist()], volt_im[free.tolist()] = re, im
    volt_re[source.tolist()], volt_im[source.tolist()] = ca.DM(held.real), ca.DM(held.imag)

    def product(name: str, rows: int) -> tuple[Any, Any]:
        at = (instance[f"{name}_row"].tolist(), instance[f"{name}_column"].tolist())
        value = instance[f"{name}_value"]
        g = ca.DM.triplet(*at, ca.DM(value.real), rows, size)
        b = ca.DM.triplet(*at, ca.DM(value.imag), rows, size)
        return g @ volt_re - b @ volt_im, g @ volt_im + b @ volt_re

    cost, slope = ca.SX.sym("cost", steps), ca.SX.sym("slope", steps)
    fixed_p, fixed_q = ca.SX.sym("fixed_p", size), ca.SX.sym("fixed_q", size)
    root_price = ca.SX.sym("root_price")
    legs, legs_re, legs_im, across = _legs(ca, instance, y, volt_re, volt_im)
    current_re, current_im = product("y", size)
    demand_p, demand_q = fixed_p + legs[0], fixed_q + legs[1]
    current_re, current_im = current_re + legs_re, current_im + legs_im
    balance_p = scale * (volt_re * current_re + volt_im * current_im) + demand_p
    balance_q = scale * (volt_im * current_re - volt_re * current_im) + demand_q

    out_re, out_im = product("root", instance["root_node"].size)
    at = instance["root_node"].tolist()
    root = scale * ca.sum1(volt_re[at] * out_re + volt_im[at] * out_im)
    if np.isin(instance["root_node"], source).all():
        root += ca.sum1(demand_p[source.tolist()])
    # A rating of ten times all demand there may be cannot bind; files have 1e5 for none.
    most = (
        np.abs(instance["fixed_kva"]).max(axis=0).sum()
        + (instance["width"] * np.abs(instance["step_kva"])).max(0).sum()
    )
    rated = np.flatnonzero(instance["terminal_max"] * instance["base_kva"] < 10 * most).tolist()
    terminals, rating = instance["terminal_node"][rated], instance["terminal_max"][rated]
    flow_re, flow_im = (part[rated] for part in product("terminal", instance["terminal_node"].size))
    square = flow_re**2 + flow_im**2
    power = instance["terminal_is_power"][rated].astype(bool)
    near = volt_re[terminals.tolist()] ** 2 + volt_im[terminals.tolist()] ** 2
    square = ca.if_else(ca.DM(power.astype(float)), near * square, square) if terminals.size else square

    pair = across["unknowns"]
    unknowns = ca.vertcat(re, im, y, pair)
    order = free.tolist()
    volt_square = re**2 + im**2
    limited = ca.vertcat(
        balance_p[order], balance_q[order], across["equations"], volt_square, square, root if at else ca.SX(0, 1)
    )
    pairs = int(pair.shape[0])
    root_limit = float(instance["root_limit_kw"]) / unit_kva
    equal = np.zeros(2 * free.size + pairs)
    low = np.concatenate([equal, instance["v_min"][free] ** 2, np.full(terminals.size, -np.inf), [-root_limit]])
    high = np.concatenate([equal, instance["v_max"][free] ** 2, rating**2, [root_limit]])
    objective = cost.T @ y + 0.5 * ca.sum1(slope * y**2) + root_price * root
    given = ca.vertcat(cost, slope, fixed_p, fixed_q, root_price)
    program = {"x": unknowns, "p": given, "f": objective, "g": limited}
    quiet = {"print_time": False, "ipopt.print_level": 0, "ipopt.sb": "yes", **ACCURATE}
    cold_solver = ca.nlpsol("cold", "ipopt", program, quiet)
    warm_solver = ca.nlpsol("warm", "ipopt", program, {**quiet, **WARM})
    build_s = time.perf_counter() - started

    flat = np.concatenate([_flat(instance, free), np.zeros(steps + pairs)])
    result: dict[str, list[Any]] = {k: [] for k in ("award", "price", "status", "cold_s", "warm_s", "iterations")}
    last: Mapping[str, Any] | None = None
    for k in range(instance["cost"].shape[0]):
        # In units of unit_kva a step's slope is per unit_kva too; the objective is per hour and unit_kva.
        given_k = np.concatenate(
            [
                instance["cost"][k],
                instance["slope"][k] * unit_kva,
                instance["fixed_kva"][k].real / unit_kva,
                instance["fixed_kva"][k].imag / unit_kva,
                instance["root_price"][k : k + 1],
            ]
        )
        width = instance["width"][k] / unit_kva
        nothing = np.full(2 * free.size, np.inf)
        lbx = np.concatenate([-nothing, np.zeros(steps), np.full(pairs, -np.inf)])
        ubx = np.concatenate([nothing, width, np.full(pairs, np.inf)])
        bounds = {"p": given_k, "lbx": lbx, "ubx": ubx, "lbg": low, "ubg": high}
        begun = time.perf_counter()
        found = cold_solver(x0=flat, **bounds)
        result["cold_s"].append(time.perf_counter() - begun)
        stats = cold_solver.stats()
        if last is not None:
            begun = time.perf_counter()
            again = warm_solver(x0=last["x"], lam_x0=last["lam_x"], lam_g0=last["lam_g"], **bounds)
            taken = time.perf_counter() - begun
            result["warm_s"].append(taken if warm_solver.stats()["success"] else np.inf)
            if not stats["success"] and warm_solver.stats()["success"]:
                found, stats = again, warm_solver.stats()
        last = found
        values, duals = np.asarray(found["x"]).ravel(), np.asarray(found["lam_g"]).ravel()
        price = np.full(size, instance["root_price"][k])
        price[free] = duals[: free.size]
        result["award"].append(unit_kva * values[2 * free.size : 2 * free.size + steps])
        result["price"].append(price)
        result["status"].append(str(stats["return_status"]))
        result["iterations"].append(int(stats["iter_count"]))
    return {**{name: np.array(values) for name, values in result.items()}, "build_s": np.array(build_s)}


def _legs(ca: Any, instance: Arrays, y: Any, volt_re: Any, volt_im: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Demand to ground at every node, currents drawn between nodes, and the unknowns and equations of the latter."""
    size, step, node, other = instance["v_min"].size, *(instance[f"leg_{k}"] for k in ("step", "node", "other"))
    power = instance["step_kva"][step] * instance["leg_share"]
    ground, pair = np.flatnonzero(other < 0), np.flatnonzero(other >= 0)
    spread = [
        ca.DM.triplet(node[ground].tolist(), step[ground].tolist(), ca.DM(part[ground]), size, y.shape[0]) @ y
        for part in (power.real, power.imag)
    ]
    if not pair.size:
        nothing = ca.SX(0, 1)
        return spread, ca.SX(size, 1), ca.SX(size, 1), {"unknowns": nothing, "equations": nothing}
    scale = float(instance["base_kva"]) / max(float(instance["width"].max(initial=0.0)), 1.0)
    kv = instance["base_kv"]
    ratio = kv[other[pair]] / kv[node[pair]]
    i_re, i_im = ca.SX.sym("i_re", pair.size), ca.SX.sym("i_im", pair.size)
    a, b = node[pair].tolist(), other[pair].tolist()
    u_re = volt_re[a] - ca.DM(ratio) * volt_re[b]
    u_im = volt_im[a] - ca.DM(ratio) * volt_im[b]
    drawn = y[step[pair].tolist()]
    equations = ca.vertcat(
        scale * (u_re * i_re + u_im * i_im) - ca.DM(power[pair].real) * drawn,
        scale * (u_im * i_re - u_re * i_im) - ca.DM(power[pair].imag) * drawn,
    )
    column = list(range(pair.size))
    into = ca.DM.triplet(a + b, column + column, ca.DM(np.concatenate([np.ones(pair.size), -ratio])), size, pair.size)
    return spread, into @ i_re, into @ i_im, {"unknowns": ca.vertcat(i_re, i_im), "equations": equations}


def _flat(instance: Arrays, free: NDArray[Any]) -> NDArray[Any]:
    """No-load voltages of the free nodes, real parts and then imaginary parts."""
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import spsolve

    size = instance["v_min"].size
    y = csc_matrix((instance["y_value"], (instance["y_row"], instance["y_column"])), shape=(size, size))
    source = instance["source"]
    right = -(y[free][:, source] @ instance["source_voltage"])
    volt = spsolve(csc_matrix(y[free][:, free]), right)
    return np.concatenate([volt.real, volt.imag])


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file)))  # type: ignore[arg-type]
