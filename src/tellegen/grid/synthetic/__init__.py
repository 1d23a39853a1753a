"""Feeders that ship with the product: drawn from a seed, of any size, realistic, free of anyone's data.

In: a number of customers, phases and a seed. Out: a `Feeder`, the `Case` of its network with the customers' nodes,
phases and peak demand. `opendss_script` writes it for OpenDSS.
"""

from tellegen.grid.synthetic.feeder import Feeder, synthetic_feeder
from tellegen.grid.synthetic.script import opendss_script

__all__ = ["Feeder", "opendss_script", "synthetic_feeder"]
