"""Prices of an interval that was not cleared: the rulebook says what stands in for them, in its order.

A gate that was missed, had no wholesale price, or passed its deadline is never cleared afterwards. There are then no
awards; what the meters show beyond forward positions settles at these prices.
"""

from __future__ import annotations

import numpy as np

from tellegen.records import Clearings, ClearingStatus, Prices
from tellegen.rules.calendar import AdministrativePrice, TimetableParameters
from tellegen.units import IntArray, check_rows


def administrative_prices(
    rules: TimetableParameters,
    nodes: int,
    root_price: int | None,
    last: tuple[Prices, int] | None,
    day_ahead: Prices | None,
) -> Prices:
    """Prices at every node, micro-currency/kWh; the first of the rulebook's order that there is.

    Parameters
    ----------
    root_price : wholesale price of the interval, where it is known.
    last : prices of the feeder's last real-time clearing, and the wholesale price then.
    day_ahead : prices of the hour's day-ahead clearing.

    >>> administrative_prices(TimetableParameters(), 2, None, None, None).energy.tolist()
    [300000, 300000]
    """
    for stand_in in rules.administrative_order:
        if stand_in is AdministrativePrice.LAST_SPREAD and last is not None and root_price is not None:
            return _prices(last[0].energy - last[1] + root_price, root_price)
        if stand_in is AdministrativePrice.DAY_AHEAD and day_ahead is not None:
            return _prices(day_ahead.energy, root_price)
        if stand_in is AdministrativePrice.FIXED:
            break
    fixed = np.full(nodes, rules.administrative_micros_per_kwh, dtype=np.int64)
    return _prices(fixed, root_price)


def _prices(energy: IntArray, root_price: int | None) -> Prices:
    """All that differs from the wholesale price stands among the losses: nobody knows its parts."""
    energy = check_rows(energy, "administrative price")
    nothing = np.zeros_like(energy)
    root = energy if root_price is None else np.full_like(energy, root_price)
    return Prices(
        node=np.arange(energy.size, dtype=np.int32),
        energy=energy,
        root=root,
        losses=energy - root,
        congestion=nothing,
        voltage=nothing,
        low=energy,
        high=energy,
        reactive=nothing,
        reserve_up=nothing,
        reserve_down=nothing,
    )


def administrative_clearing(root_price: int) -> Clearings:
    """The row of an interval that was not cleared.

    Parameters
    ----------
    root_price : what the purchase at the root settles at, micro-currency/kWh.
    """
    row = np.zeros(1, dtype=Clearings.row_dtype())
    row["status"], row["root_price"] = ClearingStatus.ADMINISTRATIVE, root_price
    return Clearings.from_rows(row)
