"""At the published prices nobody would rather have traded otherwise; and what everybody's trade is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.assess.trial.books import Market
from tellegen.assess.trial.questions import Answer, Question
from tellegen.grid.network import FloatArray
from tellegen.market import Clearing, LimitType, Parameters
from tellegen.market.clearing import PERIOD_HOURS
from tellegen.records import Product, Side

EDGE = 1e-8
"""Share of an order's quantity that is none of it, or all."""
LEAST_KW = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """Orders, the flexible parts of price-takers among them as orders at the curtailment price.

    Attributes
    ----------
    price, quantity_kw, award_kw : float64[n]; NaN prices are firm parts, which ask nothing.
    """

    price: FloatArray
    quantity_kw: FloatArray
    award_kw: FloatArray


def _taken(market: Market, outcome: Clearing) -> _Taken:
    book, agreed, award = market.book, market.agreements, outcome.award_kw
    price, quantity, taken = book.price.copy(), book.quantity_kw.copy(), award.copy()
    if agreed is None:
        return _Taken(price, quantity, taken)
    for who, import_kw, export_kw in zip(
        agreed.participant.tolist(), agreed.firm_import_kw.tolist(), agreed.firm_export_kw.tolist(), strict=True
    ):
        for side, firm in ((Side.BUY, import_kw), (Side.SELL, export_kw)):
            mine = (book.participant == who) & (book.side == side) & (book.product == Product.ENERGY)
            mine &= np.isnan(book.price)
            asked = float(book.quantity_kw[mine].sum())
            if asked <= firm:
                continue
            kept = book.quantity_kw[mine] * firm / asked
            price[mine] = int(side) * Parameters().curtailment_price
            quantity[mine] -= kept
            taken[mine] = np.maximum(taken[mine] - kept, 0.0)  # what is firm is shed last
    return _Taken(price, quantity, taken)


def bid_errors(market: Market, outcome: Clearing) -> Answer:
    """How far the price that an order faces is on the wrong side of its bid, currency/kWh."""
    book, taken = market.book, _taken(market, outcome)
    gain = _gains(market, outcome, taken)
    none, full = (
        taken.award_kw <= EDGE * taken.quantity_kw,
        taken.award_kw >= (1 - EDGE) * taken.quantity_kw,
    )
    wrong = np.where(none, np.maximum(gain, 0.0), np.where(full, np.maximum(-gain, 0.0), np.abs(gain)))
    wrong[none & full] = 0.0
    wrong[np.isnan(taken.price)] = 0.0
    # A price-taker is served in full, or its node is listed as short.
    shed = {limit.index for limit in outcome.limits if limit.kind == LimitType.SERVED}
    short = book.price_taker & (taken.award_kw < taken.quantity_kw - LEAST_KW) & np.isnan(taken.price)
    cut = short & ~np.isin(book.node, list(shed))
    if cut.any():
        return Answer(Question.BIDS, 1.0, f"order {int(np.argmax(cut))} takes any price, is cut and not listed")
    worst = int(np.argmax(wrong)) if wrong.size else 0
    return Answer(Question.BIDS, float(wrong.max(initial=0.0)), f"order {worst}")


def gains(market: Market, outcome: Clearing) -> FloatArray:
    """What one kW more of each order gains at the published prices, currency/kWh; NaN where it takes any price."""
    return _gains(market, outcome, _taken(market, outcome))


def _gains(market: Market, outcome: Clearing, taken: _Taken) -> FloatArray:
    book = market.book
    coupled = np.where(book.product == Product.ENERGY, book.kvar_per_kw * outcome.prices.reactive[book.node], 0.0)
    gain = book.side * (taken.price - outcome.prices.of_orders(book) - coupled) - book.slope * taken.award_kw
    return np.asarray(gain + _own(market, outcome))


def _own(market: Market, outcome: Clearing) -> FloatArray:
    """What a participant's own limits add to the gain of each of its orders, currency/kWh."""
    book, gain = market.book, np.zeros(len(market.book))
    reserve_hours = Parameters().reserve_hours
    hours = PERIOD_HOURS + reserve_hours
    weights = {
        LimitType.EXPORT: (1.0, 1.0, 1.0, Product.RESERVE_UP),
        LimitType.STORED_UP: (1.0, PERIOD_HOURS / hours, reserve_hours / hours, Product.RESERVE_UP),
        LimitType.IMPORT: (-1.0, 1.0, 1.0, Product.RESERVE_DOWN),
        LimitType.STORED_DOWN: (-1.0, PERIOD_HOURS / hours, reserve_hours / hours, Product.RESERVE_DOWN),
    }
    for limit in outcome.limits:
        if limit.kind not in weights or limit.dual == 0:
            continue
        way, of_net, of_call, product = weights[limit.kind]
        mine = book.participant == limit.index
        net = mine & (book.product == Product.ENERGY)
        gain[net] += way * of_net * limit.dual * book.side[net]
        called = mine & (book.product == product) & (book.side == Side.SELL)
        gain[called] -= of_call * limit.dual
    return gain


def welfare(market: Market, outcome: Clearing) -> float:
    """Value to buyers less cost to sellers, currency/h, the root aside; a price-taker's firm part counts nothing."""
    book, taken = market.book, _taken(market, outcome)
    priced = ~np.isnan(taken.price)
    value = book.side * taken.price * taken.award_kw - book.slope * taken.award_kw**2 / 2
    return float(value[priced].sum())
