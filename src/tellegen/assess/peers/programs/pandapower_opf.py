"""Peer: pandapower's optimal power flow (``runopp``, PYPOWER's interior point) on a balanced radial network.

Steps are controllable loads and static generators with polynomial costs. An order whose reactive power is tied to its
active power, and a rating of current, have no counterpart there: such an instance is refused. Runs alone:
``python pandapower_opf.py INSTANCE.npz RESULT.npz [SECONDS]``; books that do not fit in SECONDS are left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
MW = 1e-3


def solve(instance: Arrays, budget_s: float = 60.0) -> dict[str, NDArray[Any]]:
    """Solve book after book from a flat start while time is left.

    Returns
    -------
    award [T, n], price [T, N], status [T], build_s, cold_s [T], iterations [T] (not told: 0).

    Raises
    ------
    ValueError : the instance has no counterpart in pandapower.
    """
    import pandapower as pp

    if "tree_absent" in instance:
        raise ValueError(f"the network is no tree: {instance['tree_absent']}")
    if instance["step_kva"].imag.any():
        raise ValueError("reactive power tied to an order's active power has no counterpart")
    most = np.abs(instance["fixed_kva"]).max(axis=0).sum() + instance["width"].max(axis=0).sum()
    for name in ("tree_current_max", "tree_power_max_parent", "tree_power_max_child"):
        if (instance[name] * instance["base_kva"] < 10 * most).any():
            raise ValueError("a rating has no counterpart that means the same")
    books, steps, size = instance["cost"].shape[0], instance["step_kva"].size, instance["v_min"].size
    result: dict[str, list[Any]] = {
        "award": [np.full(steps, np.nan)] * books,
        "price": [np.full(size, np.nan)] * books,
        "status": ["no time left"] * books,
        "cold_s": [np.inf] * books,
        "iterations": [0] * books,
    }
    begun_all, build_s = time.perf_counter(), 0.0
    for k in range(books):
        if k and time.perf_counter() - begun_all + result["cold_s"][0] > budget_s:
            break
        begun = time.perf_counter()
        net, rows = _network(pp, instance, k)
        build_s = time.perf_counter() - begun
        begun = time.perf_counter()
        try:
            pp.runopp(net, init="flat", calculate_voltage_angles=False, delta=1e-12)
        except pp.OPFNotConverged:
            result["cold_s"][k], result["status"][k] = time.perf_counter() - begun, "not converged"
            continue
        result["cold_s"][k], result["status"][k] = time.perf_counter() - begun, "converged"
        award = np.empty(steps)
        for j, (table, row) in enumerate(rows):
            award[j] = net[f"res_{table}"].at[row, "p_mw"] / MW
        result["award"][k] = award
        result["price"][k] = net.res_bus["lam_p"].to_numpy() * MW
    return {**{name: np.array(values) for name, values in result.items()}, "build_s": np.array(build_s)}


def _network(pp: Any, instance: Arrays, k: int) -> tuple[Any, list[tuple[str, int]]]:
    """The network of book k, and for each step the table and row that stand for it."""
    kv, base = instance["base_kv"], float(instance["base_kva"])
    parent = instance["tree_parent"]
    root = int(np.flatnonzero(parent < 0)[0])
    net = pp.create_empty_network(sn_mva=base * MW)
    # One nominal voltage: transformers are impedances in per unit here.
    common = float(kv[root])
    for node in range(kv.size):
        low, high = (0.0, 2.0) if node == root else (instance["v_min"][node], min(instance["v_max"][node], 2.0))
        pp.create_bus(net, vn_kv=common, min_vm_pu=float(low), max_vm_pu=float(high))
    ohm = common**2 / (base * MW)
    for node in np.flatnonzero(parent >= 0).tolist():
        z = complex(instance["tree_impedance"][node]) * ohm
        pp.create_line_from_parameters(net, int(parent[node]), node, 1.0, z.real, z.imag, 0.0, 1e5)
    for node, y in enumerate(instance["tree_shunt"].tolist()):
        if y:
            pp.create_shunt(net, node, q_mvar=-y.imag * base * MW, p_mw=y.real * base * MW)
    limit = float(instance["root_limit_kw"]) * MW
    bound = {"min_p_mw": -limit, "max_p_mw": limit} if np.isfinite(limit) else {}
    pp.create_ext_grid(net, root, vm_pu=float(np.abs(instance["source_voltage"][0])), **bound)
    pp.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=float(instance["root_price"][k]) / MW)
    fixed = instance["fixed_kva"][k] * MW
    for node in np.flatnonzero(fixed).tolist():
        power = complex(fixed[node])
        pp.create_load(net, node, power.real, power.imag, controllable=False)
    rows = []
    for j, node in enumerate(instance["leg_node"].tolist()):
        most = float(instance["width"][k][j]) * MW
        still = {"min_q_mvar": 0.0, "max_q_mvar": 0.0, "min_p_mw": 0.0, "max_p_mw": most, "controllable": True}
        cost, slope = float(instance["cost"][k][j]) / MW, float(instance["slope"][k][j]) / MW**2
        buys = instance["step_kva"][j].real > 0
        table = "load" if buys else "sgen"
        row = int((pp.create_load if buys else pp.create_sgen)(net, node, 0.0, 0.0, **still))
        rows.append((table, row))
        # pandapower turns a load into a negative generator and the sign of its linear cost with it.
        pp.create_poly_cost(net, row, table, cp1_eur_per_mw=cost, cp2_eur_per_mw2=slope / 2)
    return net, rows


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        np.savez(sys.argv[2], **solve(dict(file), *(float(a) for a in sys.argv[3:4])))  # type: ignore[arg-type]
