"""Prices of an interval that was not cleared: the rulebook says what stands in for them, in its order.

A gate that was missed, had no wholesale price, or passed its deadline is never cleared afterwards. There are then no
awards; what the meters show beyond forward positions settles at these prices. They are the price of no optimum, so a
rule has them lie within cap and floor: one that would be beyond stands at the bound, and the range of the price on
record says where it would have been.
"""

from __future__ import annotations

import numpy as np

from tellegen.operations.corrections import cleared_at
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import NONE, Gate, State
from tellegen.records import COLD, Clearings, ClearingStatus, GateOutcome, Prices
from tellegen.records.market import REAL_TIME
from tellegen.rules.calendar import AdministrativePrice, TimetableParameters
from tellegen.units import MICROS, IntArray, check_rows


def administrative_prices(
    rules: TimetableParameters,
    nodes: int,
    root_price: int | None,
    last: tuple[Prices, int] | None,
    day_ahead: Prices | None,
    bounds: tuple[int, int],
) -> Prices:
    """Prices at every node, micro-currency/kWh; the first of the rulebook's order that there is.

    Parameters
    ----------
    root_price : wholesale price of the interval, where it is known.
    last : prices of the feeder's last real-time clearing, and the wholesale price then.
    day_ahead : prices of the hour's day-ahead clearing.
    bounds : floor and cap, micro-currency/kWh.

    >>> administrative_prices(TimetableParameters(), 2, None, None, None, (-1_000_000, 5_000_000)).energy.tolist()
    [300000, 300000]
    """
    for stand_in in rules.administrative_order:
        if stand_in is AdministrativePrice.LAST_SPREAD and last is not None and root_price is not None:
            return _prices(last[0].energy - last[1] + root_price, root_price, bounds)
        if stand_in is AdministrativePrice.DAY_AHEAD and day_ahead is not None:
            return _prices(day_ahead.energy, root_price, bounds)
        if stand_in is AdministrativePrice.FIXED:
            break
    fixed = np.full(nodes, rules.administrative_micros_per_kwh, dtype=np.int64)
    return _prices(fixed, root_price, bounds)


def _prices(given: IntArray, root_price: int | None, bounds: tuple[int, int]) -> Prices:
    """All that differs from the wholesale price stands among the losses: nobody knows its parts."""
    given = check_rows(given, "administrative price")
    energy = np.clip(given, *bounds)
    nothing = np.zeros_like(energy)
    root = energy if root_price is None else np.full_like(energy, root_price)
    return Prices(
        node=np.arange(energy.size, dtype=np.int32),
        energy=energy,
        root=root,
        losses=energy - root,
        congestion=nothing,
        voltage=nothing,
        low=np.minimum(given, energy),
        high=np.maximum(given, energy),
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


def stand_in(
    record: ShardRecord, state: State, gate: Gate, feeder: int, interval: int, guide: Prices | None = None
) -> tuple[Prices, int]:
    """Prices of an interval that is not cleared on a feeder, by the rulebook; and what the root settles at.

    Parameters
    ----------
    guide : of the gate before a price run that is not held: reserve that was bought there is paid its price.
    """
    book = state.book.at(state.date_of(interval))
    rules, market = book.timetable, book.market
    priced = gate.outcome(feeder) is not GateOutcome.NO_PRICE
    root = state.root_prices.get((REAL_TIME, interval)) if priced else None
    position = state.positions.get((feeder, state.day_range(interval).start))
    hour = -1 if position is None else position.hour_of(interval)
    # what was cleared day-ahead after the gate was not known at it
    sold = NONE if position is None or hour < 0 else int(position.clearing[hour])
    forward = None if sold == NONE or sold > gate.entry else cleared_at(record, sold)
    spread_from = int(gate.rows.spread_from[feeder])
    last = None if spread_from == COLD else cleared_at(record, spread_from)
    prices = administrative_prices(
        rules,
        len(record.feeders[feeder].network.nodes),
        root,
        None if last is None else (last.prices, int(last.clearing.root_price[0])),
        None if forward is None else forward.prices,
        (round(market.price_floor * MICROS), round(market.price_cap * MICROS)),
    )
    if root is None:
        root = rules.administrative_micros_per_kwh if forward is None else int(forward.clearing.root_price[0])
    return prices if guide is None else prices.with_reserve_of(guide), root
