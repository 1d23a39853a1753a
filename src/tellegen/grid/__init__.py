"""What do the wires allow? Network model, importers, AC power flow and its sensitivities.

In: files (MATPOWER, pandapower, OpenDSS), or a SimBench code. Out: a `Case` (`Network`, the file's own
loads and generators), the power flow of a demand, and how every voltage and flow moves with every demand.
"""

from tellegen.grid.connections import Connections, Connector, Wiring, wire, with_plain_loads
from tellegen.grid.controls import Controls
from tellegen.grid.document import case_from_json, case_to_json, network_from_json, network_to_json
from tellegen.grid.elimination import Engine, best_engine
from tellegen.grid.importers import load_case
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import Branches, Case, FixedLoads, Generators, LimitKind, Network
from tellegen.grid.positions import at_steps, steps_moved, with_controls
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, factorise, solve_powerflow
from tellegen.grid.regulation import (
    Dispatch,
    JointSettlement,
    Move,
    Settlement,
    settle_jointly,
    settle_taps,
)
from tellegen.grid.sensitivity import Linearisation, Quantity, linearise

__all__ = [
    "Branches",
    "Case",
    "Connections",
    "Connector",
    "Controls",
    "Dispatch",
    "Engine",
    "Factors",
    "FixedLoads",
    "Generators",
    "GridError",
    "JointSettlement",
    "LimitKind",
    "Linearisation",
    "LoadLaw",
    "Move",
    "Network",
    "PowerFlow",
    "Quantity",
    "Settlement",
    "Wiring",
    "at_steps",
    "best_engine",
    "case_from_json",
    "case_to_json",
    "factorise",
    "linearise",
    "load_case",
    "network_from_json",
    "network_to_json",
    "settle_jointly",
    "settle_taps",
    "solve_powerflow",
    "steps_moved",
    "wire",
    "with_controls",
    "with_plain_loads",
]
