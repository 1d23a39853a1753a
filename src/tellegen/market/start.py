"""Where a clearing starts: what is on record of the one before, and nothing else.

Which of equal steps is awarded depends on where a search begins, and awards move devices. So a clearing starts from
integers and bits that stand on record, never from what happens to be in memory: recorded prices, the limits that the
last search worked with and their duals (`Starts`), and the steps that were partly taken, as recorded awards and orders
say; for prices alone do not tell how far those go. Curvature and voltages are found anew. Then the outcome is a
function of network, rules, book, root price and that start, in whatever process it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.grid.connections import Connections
from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.book import NOT_ENERGISED, OrderBook
from tellegen.market.capability import Agreements, group_orders
from tellegen.market.facts import price_table
from tellegen.market.outcome import Clearing
from tellegen.market.parameters import Parameters
from tellegen.market.steps import Steps
from tellegen.records import Awards, Clearings, ClearingStatus, Orders, Prices, RecordError, Starts
from tellegen.units import MICROS

MW_PER_KW = 1_000_000
HALF_MW = 0.5 / MW_PER_KW
"""An award that is nearer than this to nothing, or to the whole step, is no part of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What is known of the last clearing on a network; orders may come and go in between.

    Attributes
    ----------
    connections : of the places beyond the nodes. On another number of places, or with other connections, nothing of a
        start is used.
    energy, reactive : float64[places], currency/kWh (kvarh). reserve : float64[2, places], currency/h per kW.
    row_key : int64[k], working limits by `Limits.key`; dual : float64[k], currency/h per row unit.
    marginal : kW (kvar) of steps that were partly taken, by what they were (`Steps.identity`).
    """

    connections: Connections
    energy: FloatArray
    reactive: FloatArray
    reserve: FloatArray
    row_key: IntArray
    dual: FloatArray
    marginal: dict[tuple[float, ...], float]


def start_of(
    prices: Prices,
    starts: Starts,
    awards: Awards,
    orders: Orders,
    *,
    agreements: Agreements | None = None,
    parameters: Parameters | None = None,
) -> Start:
    """Where the next clearing starts, from what is on record of the last.

    Parameters
    ----------
    prices, starts, awards : of the last clearing that ended at an optimum; orders : the book that `awards.order`
        counts rows of.
    agreements, parameters : under which it was cleared.

    Raises
    ------
    RecordError : awards and orders do not match.
    """
    if len(awards) and not 0 <= int(awards.order.min()) <= int(awards.order.max()) < len(orders):
        raise RecordError(f"awards of rows up to {awards.order.max()}, but {len(orders)} orders")
    taken = orders.take(awards.order)
    if not np.array_equal(taken.customer, awards.customer):
        raise RecordError("awards are not of these orders")
    award_kw = awards.quantity_mw / MW_PER_KW
    return _start(prices, starts, OrderBook.from_orders(taken), award_kw, agreements, parameters)


def can_start(clearing: Clearings) -> bool:
    """Whether a clearing ended at an optimum; after any other the next one starts where that one did."""
    return int(clearing.status[0]) in (ClearingStatus.OPTIMAL, ClearingStatus.RELAXED)


def start_after(
    clearing: Clearing,
    book: OrderBook,
    *,
    agreements: Agreements | None = None,
    parameters: Parameters | None = None,
) -> Start | None:
    """`start_of` for whoever keeps no record: all as rounded as it would stand there; None after a fallback."""
    if clearing.starts is None:
        return None
    award_kw = np.rint(clearing.award_kw * MW_PER_KW) / MW_PER_KW
    rows = np.flatnonzero((award_kw > 0) & (book.node != NOT_ENERGISED))
    return _start(price_table(clearing), clearing.starts, book.take(rows), award_kw[rows], agreements, parameters)


def _start(
    prices: Prices,
    starts: Starts,
    book: OrderBook,
    award_kw: FloatArray,
    agreements: Agreements | None,
    parameters: Parameters | None,
) -> Start:
    # Only steps that were partly taken matter; equal orders hang at one place, so whole places are kept.
    partly = np.isin(book.node, book.node[award_kw < book.quantity_kw - HALF_MW])
    book, award_kw = book.take(np.flatnonzero(partly)), award_kw[partly]
    groups, rules = group_orders(book, agreements), parameters or Parameters()
    steps = Steps.of(
        len(prices),
        book,
        None,
        group=groups.of_order,
        curtailable_kw=groups.curtailable_kw,
        curtailment_price=rules.curtailment_price,
    )
    part = steps.member >= 0
    taken = np.bincount(steps.member[part], (award_kw - steps.fixed_kw)[part], minlength=steps.width.size)
    between = np.flatnonzero((taken > HALF_MW) & (taken < steps.width - HALF_MW))
    return Start(
        connections=book.connections,
        energy=prices.energy / MICROS,
        reactive=prices.reactive / MICROS,
        reserve=np.stack([prices.reserve_up, prices.reserve_down]) / MICROS,
        row_key=starts.row_key.astype(np.int64),
        dual=np.ascontiguousarray(starts.dual_bits, dtype=np.int64).view(np.float64),
        marginal={steps.identity(k): float(taken[k]) for k in between.tolist()},
    )
