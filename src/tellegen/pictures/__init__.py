"""What does it look like? Pictures of feeders, power flows and clearings (extra ``pictures``: matplotlib).

In: what `tellegen.workbench` returns. Out: a matplotlib `Figure`, which a notebook shows and ``savefig`` writes.
Nothing here touches pyplot, its global state or its windows.
"""

from tellegen.pictures.feeder_map import feeder
from tellegen.pictures.order_stacks import orders
from tellegen.pictures.price_parts import price_parts
from tellegen.pictures.profiles import prices, voltages
from tellegen.pictures.rankings import loadings

__all__ = ["feeder", "loadings", "orders", "price_parts", "prices", "voltages"]
