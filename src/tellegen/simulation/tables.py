"""Tables of what only a simulation can know: other worlds, devices, perfect voltages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tellegen.grid import Network
from tellegen.report.tables import write_table
from tellegen.settlement import RetailBills
from tellegen.simulation.setup import Setup
from tellegen.simulation.world_day import DEVICE_KINDS, WorldDay
from tellegen.units import NANOS_PER_CENT


def write_simulation_tables(
    setup: Setup, directory: Path, worlds: dict[str, WorldDay], retail: dict[str, RetailBills]
) -> None:
    """Tables of what only a simulation can know: other worlds, devices, perfect voltages."""
    intervals = np.arange(setup.first, setup.first + setup.intervals)
    names = np.array(setup.community.names)
    write_table(directory, "nodes", nodes_table(setup))
    past, span = setup.wholesale.past, setup.intervals
    wholesale = {
        "interval": intervals,
        "day_ahead": setup.wholesale.day_ahead_micros[past : past + span],
        "real_time": setup.wholesale.real_time_micros[past : past + span],
    }
    write_table(directory, "wholesale", pl.DataFrame(wholesale))
    write_table(directory, "devices", _devices(worlds["market"], intervals, names))
    write_table(directory, "worlds", pl.concat([_world(day, intervals) for day in worlds.values()]))
    write_table(directory, "voltages", pl.concat([_voltages(day, intervals) for day in worlds.values()]))
    write_table(directory, "world_energy", pl.concat([_net_energy(d, intervals, names) for d in worlds.values()]))
    if retail:
        write_table(directory, "bills", pl.concat([_bills(name, b, names) for name, b in retail.items()]))


def _world(day: WorldDay, intervals: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "world": [day.name] * len(intervals),
            "interval": intervals,
            "root_kw": day.root_kw,
            "losses_kw": day.losses_kw,
            "v_min_pu": day.voltage_pu.min(axis=1).astype(np.float64),
            "v_max_pu": day.voltage_pu.max(axis=1).astype(np.float64),
            "voltage_violations": day.voltage_violations,
            "loading_violations": day.loading_violations,
            "max_loading_percent": day.loading_percent_max,
        }
    )


def _voltages(day: WorldDay, intervals: np.ndarray) -> pl.DataFrame:
    steps, nodes = day.voltage_pu.shape
    return pl.DataFrame(
        {
            "world": np.repeat(day.name, steps * nodes),
            "interval": np.repeat(intervals, nodes),
            "node_index": np.tile(np.arange(nodes), steps),
            "pu": day.voltage_pu.ravel(),
        }
    )


def _devices(day: WorldDay, intervals: np.ndarray, names: np.ndarray) -> pl.DataFrame:
    steps, kinds, customers = day.device_w.shape
    frame = pl.DataFrame(
        {
            "interval": np.repeat(intervals, kinds * customers),
            "device": np.tile(np.repeat(DEVICE_KINDS, customers), steps),
            "customer": np.tile(np.arange(1, customers + 1), steps * kinds),
            "name": np.tile(names, steps * kinds),
            "power_w": day.device_w.ravel(),
        }
    )
    return frame.filter(pl.col("power_w").abs().max().over("customer", "device") > 0)


def _net_energy(day: WorldDay, intervals: np.ndarray, names: np.ndarray) -> pl.DataFrame:
    net = (day.import_wh - day.export_wh)[:, 1:]
    steps, customers = net.shape
    return pl.DataFrame(
        {
            "world": np.repeat(day.name, net.size),
            "customer": np.tile(np.arange(1, customers + 1), steps),
            "name": np.tile(names, steps),
            "interval": np.repeat(intervals, customers),
            "net_wh": net.ravel(),
        }
    )


def _bills(world: str, billed: RetailBills, names: np.ndarray) -> pl.DataFrame:
    frames = [
        pl.DataFrame(
            {
                "world": np.repeat(world, names.size),
                "customer": np.arange(1, names.size + 1),
                "name": names,
                "line": np.repeat(str(line), names.size),
                "amount": amount,
                "cents": (amount + NANOS_PER_CENT // 2) // NANOS_PER_CENT,
            }
        )
        for line, amount in billed.lines.items()
    ]
    return pl.concat(frames)


def nodes_table(setup: Setup) -> pl.DataFrame:
    """Nodes with the parent towards the root and the resistance of the path, per unit."""
    network = setup.network
    parent, path = _tree(network)
    customers = np.bincount(setup.node, minlength=len(network.nodes))
    return pl.DataFrame(
        {
            "node_index": np.arange(len(network.nodes)),
            "node": list(network.nodes),
            "parent": parent,
            "path_r_pu": path,
            "customers": customers,
        }
    )


def _tree(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Breadth-first tree from the root, and the series resistance along it."""
    matrix = network.admittance.tocsr()
    parent = np.full(len(network.nodes), -1, dtype=np.int64)
    path = np.zeros(len(network.nodes))
    seen = set(network.source.tolist())
    queue = list(network.source.tolist())
    for node in queue:
        row = slice(matrix.indptr[node], matrix.indptr[node + 1])
        for other, admittance in zip(matrix.indices[row].tolist(), matrix.data[row].tolist(), strict=True):
            if other not in seen and admittance != 0:
                seen.add(other)
                queue.append(other)
                parent[other] = node
                path[other] = path[node] + abs((-1.0 / admittance).real)
    return parent, path
