"""One interval's share of what the day-ahead market sold for its hour."""

from __future__ import annotations

import numpy as np

from tellegen.operations.facts import Forward
from tellegen.operations.positions import QUANTITIES, Position, parties_of
from tellegen.records import OPERATOR, Clearings, Prices
from tellegen.settlement import share_of_hour
from tellegen.units import INTERVALS_PER_HOUR


def forward_of(position: Position, interval: int, prices: Prices, clearing: Clearings) -> Forward:
    """Whole Wh of an interval; those of the hour sum to what was sold.

    Parameters
    ----------
    prices, clearing : of the hour's clearing.
    """
    hour = position.hour_of(interval)
    first = position.first + hour * INTERVALS_PER_HOUR
    k = interval - first
    customer, _ = parties_of(position.party)
    wh = np.stack([share_of_hour(position.wh[hour, q], customer, first, k) for q in range(len(QUANTITIES))])
    root = share_of_hour(clearing.root_wh, np.array([OPERATOR]), first, k)
    return Forward(position.party, wh, int(root[0]), prices, int(clearing.root_price[0]))
