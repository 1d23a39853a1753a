"""The power flow of a network's own loads and generators, as frames and as the document of the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tellegen.grid import Network, PowerFlow, solve_powerflow
from tellegen.workbench.declared import set_points
from tellegen.workbench.feeder import Feeder
from tellegen.workbench.tables import Columns, frame, rows

if TYPE_CHECKING:
    import polars as pl

NEUTRAL = 4
"""Nodes from this phase number on are neutrals, whose voltage says nothing about supply."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FlowResult:
    """A solved power flow.

    Attributes
    ----------
    feeder : the network it is of.
    flow : the engine's own result, arrays in per unit.
    """

    feeder: Feeder
    flow: PowerFlow

    @property
    def root_kw(self) -> float:
        """Active power taken from the root."""
        return self.flow.root_kw

    @property
    def root_kvar(self) -> float:
        """Reactive power taken from the root."""
        return self.flow.root_kvar

    @property
    def losses_kw(self) -> float:
        """What the root delivers less what is drawn."""
        return self.flow.losses_kw

    @property
    def voltages(self) -> pl.DataFrame:
        """One row per node: `node`, `phase`, `pu`, and its limits `v_min`, `v_max` (null: none, as at the root)."""
        return voltage_frame(self.feeder.network, self.flow)

    @property
    def loadings(self) -> pl.DataFrame:
        """One row per line or transformer: `element`, `percent` of its rating at its worst terminal (0: no rating)."""
        return loading_frame(self.feeder.network, self.flow)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the file was left out or approximated."""
        return self.feeder.warnings

    def to_dict(self) -> dict[str, Any]:
        """The document of ``tellegen powerflow --json``."""
        document = network_document(self.feeder.network, self.flow)
        return {**document, "root_kvar": self.flow.root_kvar, "warnings": list(self.warnings)}

    def to_json(self) -> str:
        """The document of ``tellegen powerflow --json`` as text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def __repr__(self) -> str:
        columns = voltage_columns(self.feeder.network, self.flow)
        pu = [value for value, phase in zip(columns["pu"], columns["phase"], strict=True) if phase < NEUTRAL]
        return (
            f"FlowResult({self.feeder.name}: root {self.root_kw:.3f} kW, losses {self.losses_kw:.3f} kW, "
            f"voltages {min(pu):.4f} to {max(pu):.4f} pu)"
        )


def powerflow(feeder: Feeder) -> FlowResult:
    """AC power flow of a file's own loads and generators.

    Raises
    ------
    GridError : there is no power flow.

    Examples
    --------
    >>> from tellegen.workbench import load_network
    >>> powerflow(load_network("pandapower:case33bw"))  # doctest: +SKIP
    FlowResult(case33bw: root 3917.677 kW, losses 202.677 kW, voltages 0.9131 to 1.0000 pu)
    """
    case = feeder.case
    return FlowResult(feeder, solve_powerflow(case.network, set_points(case, dispatchable=True), loads=case.loads))


def shown_nodes(network: Network) -> list[int]:
    """Nodes that are the file's own: not the ideal ones behind a source's impedance."""
    hidden = set(network.source.tolist()) if network.root_terminals is not None else set()
    return [k for k in range(len(network.nodes)) if k not in hidden]


def voltage_columns(network: Network, flow: PowerFlow) -> Columns:
    """`node`, `phase`, `pu` of every node shown."""
    shown = shown_nodes(network)
    return {
        "node": [network.nodes[k] for k in shown],
        "phase": network.phase[shown].tolist(),
        "pu": np.abs(flow.voltage)[shown].tolist(),
    }


def voltage_frame(
    network: Network, flow: PowerFlow, v_min: float | None = None, v_max: float | None = None
) -> pl.DataFrame:
    """`voltage_columns` with limits, the network's own or those given; none at sources and neutrals."""
    shown = np.array(shown_nodes(network), dtype=np.int64)
    low = network.v_min if v_min is None else np.full(len(network.nodes), v_min)
    high = network.v_max if v_max is None else np.full(len(network.nodes), v_max)
    free = ~np.isin(np.arange(len(network.nodes)), network.source) & (network.phase < NEUTRAL)
    return frame(
        {
            **voltage_columns(network, flow),
            "v_min": np.where(free & (low > 0), low, np.nan)[shown],
            "v_max": np.where(free & np.isfinite(high), high, np.nan)[shown],
        },
        optional=("v_min", "v_max"),
    )


def loading_columns(network: Network, flow: PowerFlow) -> Columns:
    """`element`, `percent` of the worst terminal of every element but a source's impedance."""
    feeds: set[str] = set()
    if network.root_terminals is not None:
        feeds = {network.branches.element[k] for k in network.root_terminals.tolist()}
    percent: dict[str, float] = {}
    for element, value in zip(network.branches.element, flow.loading_percent.tolist(), strict=True):
        if element not in feeds:
            percent[element] = max(percent.get(element, 0.0), value)
    return {"element": list(percent), "percent": list(percent.values())}


def loading_frame(network: Network, flow: PowerFlow) -> pl.DataFrame:
    """`loading_columns` as a frame."""
    return frame(loading_columns(network, flow), text=("element",), optional=("percent",))


def network_document(network: Network, flow: PowerFlow) -> dict[str, Any]:
    """What a document says of the state of the wires."""
    return {
        "voltages": rows(voltage_columns(network, flow)),
        "loadings": rows(loading_columns(network, flow)),
        "losses_kw": flow.losses_kw,
        "root_kw": flow.root_kw,
    }
