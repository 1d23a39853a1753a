"""What do the wires allow? Network model, importers, AC power flow and its sensitivities.

In: files (MATPOWER, pandapower, OpenDSS), or a SimBench code. Out: a `Case` (`Network`, the file's own
loads and generators), the power flow of a demand, and how every voltage and flow moves with every demand.
"""

from tellegen.grid.connections import Connections, Connector, Wiring, wire, with_plain_loads
from tellegen.grid.document import network_from_json, network_to_json
from tellegen.grid.importers import load_case
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import Branches, Case, FixedLoads, Generators, LimitKind, Network
from tellegen.grid.powerflow import Factors, GridError, PowerFlow, factorise, solve_powerflow
from tellegen.grid.sensitivity import Linearisation, Quantity, linearise

__all__ = [
    "Branches",
    "Case",
    "Connections",
    "Connector",
    "Factors",
    "FixedLoads",
    "Generators",
    "GridError",
    "LimitKind",
    "Linearisation",
    "LoadLaw",
    "Network",
    "PowerFlow",
    "Quantity",
    "Wiring",
    "factorise",
    "linearise",
    "load_case",
    "network_from_json",
    "network_to_json",
    "solve_powerflow",
    "wire",
    "with_plain_loads",
]
