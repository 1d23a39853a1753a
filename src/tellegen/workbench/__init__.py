"""What does a researcher hold in hand? A feeder, its power flow, a clearing: frames in, frames out.

In: a network by file or name, orders as a Polars or pandas frame, a list of dicts or a CSV file. Out: results whose
tables are Polars frames, and the JSON document that the command line prints. `tellegen.load_network`,
`tellegen.powerflow` and `tellegen.clear` are the functions of this room; `tellegen.pictures` draws what they return.
"""

from tellegen.workbench.clearing import ClearingResult, OptionError, clear
from tellegen.workbench.feeder import Feeder, load_network
from tellegen.workbench.flow import FlowResult, powerflow
from tellegen.workbench.order_rows import OrderFile
from tellegen.workbench.orders import OrdersLike, read_orders
from tellegen.workbench.topology import Topology

__all__ = [
    "ClearingResult",
    "Feeder",
    "FlowResult",
    "OptionError",
    "OrderFile",
    "OrdersLike",
    "Topology",
    "clear",
    "load_network",
    "powerflow",
    "read_orders",
]
