"""A loaded network as a researcher sees it: named tables over the grid's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellegen.grid import Case, LimitKind, Network, load_case
from tellegen.workbench.tables import frame
from tellegen.workbench.topology import Topology

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False, repr=False)
class Feeder:
    """A network with what its file connects to it.

    Attributes
    ----------
    spec : how it was asked for.
    case : network, loads, generators and warnings as the importer gives them; arrays in per unit.
    """

    spec: str
    case: Case

    @property
    def name(self) -> str:
        """What the file calls the network."""
        return self.case.network.name

    @property
    def network(self) -> Network:
        """The network as the engine sees it."""
        return self.case.network

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every part of the file that was left out or approximated."""
        return self.case.warnings

    @property
    def root_price(self) -> float | None:
        """The file's reference cost, currency/kWh, or None."""
        return self.case.root_price

    @cached_property
    def topology(self) -> Topology:
        """Edges between buses, and the shortest ways to the root."""
        return Topology.of(self.case.network)

    @property
    def nodes(self) -> pl.DataFrame:
        """One row per node.

        Columns `node`, `phase` (0 balanced), `base_kv`, `v_min`, `v_max` (per unit), `root`, `distance_ohm`
        (impedance of the lines from the root, see `Topology`), `x`, `y` (on the file's map; null where unknown).
        """
        network, way = self.case.network, self.topology
        shown = np.flatnonzero(way.bus_of_node >= 0)
        bus = way.bus_of_node[shown]
        places = np.full((len(network.nodes), 2), np.nan) if self.case.coordinates is None else self.case.coordinates
        return frame(
            {
                "node": [network.nodes[k] for k in shown.tolist()],
                "phase": network.phase[shown],
                "base_kv": network.base_kv[shown],
                "v_min": network.v_min[shown],
                "v_max": network.v_max[shown],
                "root": np.isin(bus, way.root),
                "distance_ohm": way.distance_ohm[bus],
                "x": places[shown, 0],
                "y": places[shown, 1],
            },
            optional=("x", "y"),
        )

    @property
    def elements(self) -> pl.DataFrame:
        """One row per line or transformer.

        Columns `element`, `from_node`, `to_node`, `impedance_ohm` (positive sequence, at the lower of
        its nominal voltages), `rating_a` or `rating_kva` (lowest of its terminals; null where there is none).
        """
        way, network = self.topology, self.case.network
        rating: dict[tuple[str, int], float] = {}
        volt = network.base_kv * (np.sqrt(3.0) if network.balanced else 1.0)
        for name, node, limit, kind in zip(
            network.branches.element,
            network.branches.node.tolist(),
            network.branches.rating_pu.tolist(),
            network.branches.kind.tolist(),
            strict=True,
        ):
            base = network.base_kva / (volt[node] if kind == LimitKind.CURRENT else 1.0)
            key = (name, kind)
            if np.isfinite(limit):
                rating[key] = min(rating.get(key, np.inf), float(limit * base))
        kinds = {"rating_a": int(LimitKind.CURRENT), "rating_kva": int(LimitKind.APPARENT_POWER)}
        return frame(
            {
                "element": way.element,
                "from_node": [way.bus[k] for k in way.from_bus.tolist()],
                "to_node": [way.bus[k] for k in way.to_bus.tolist()],
                "impedance_ohm": way.impedance_ohm,
                **{
                    column: [rating.get((name, kind), np.nan) for name in way.element] for column, kind in kinds.items()
                },
            },
            text=("element", "from_node", "to_node"),
            optional=tuple(kinds),
        )

    @property
    def loads(self) -> pl.DataFrame:
        """The file's own inflexible demand at rated voltage: `load`, `node`, `phase`, `p_kw`, `q_kvar`."""
        loads, network = self.case.loads, self.case.network
        return frame(
            {
                "load": loads.name,
                "node": [network.nodes[k] for k in loads.node.tolist()],
                "phase": network.phase[loads.node],
                "p_kw": loads.p_kw,
                "q_kvar": loads.q_kvar,
            },
            text=("load", "node"),
        )

    @property
    def generators(self) -> pl.DataFrame:
        """The file's generators.

        Columns `generator`, `node`, `p_kw`, `q_kvar` (set-points), `p_min_kw`, `p_max_kw`, `cost` (currency/kWh at
        no output; null for those that are not dispatched), `cost_slope` (currency/kWh per kW).
        """
        units, network = self.case.generators, self.case.network
        return frame(
            {
                "generator": units.name,
                "node": [network.nodes[k] for k in units.node.tolist()],
                "p_kw": units.p_kw,
                "q_kvar": units.q_kvar,
                "p_min_kw": units.p_min_kw,
                "p_max_kw": units.p_max_kw,
                "cost": np.where(units.has_cost, units.cost_linear, np.nan),
                "cost_slope": np.where(units.has_cost, 2 * units.cost_quadratic, np.nan),
            },
            text=("generator", "node"),
            optional=("cost", "cost_slope"),
        )

    def __repr__(self) -> str:
        network = self.case.network
        phases = "balanced" if network.balanced else "three-phase"
        remarks = f", {len(self.warnings)} warnings" if self.warnings else ""
        return (
            f"Feeder({self.name}: {len(set(network.nodes))} buses, {phases}, {len(set(self.case.loads.name))} loads, "
            f"{len(self.case.generators.name)} generators{remarks})"
        )


def load_network(spec: str | Path) -> Feeder:
    """Load a network: an OpenDSS `.dss`, a MATPOWER `.m`, a pandapower `.json`, `simbench:CODE`, `pandapower:NAME`.

    Raises
    ------
    InputError : it cannot be read or is inconsistent; says where, and what would be right.

    Examples
    --------
    >>> load_network("pandapower:case33bw")  # doctest: +SKIP
    Feeder(case33bw: 33 buses, balanced, 32 loads, 0 generators)
    """
    return Feeder(str(spec), load_case(str(spec)))
