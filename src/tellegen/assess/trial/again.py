"""The same market cleared once more: from the interval before, and with a little more demand at some node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tellegen.assess.derivative import NoDerivativeError, price_quotients, sample_ports
from tellegen.assess.trial.bids import gains
from tellegen.assess.trial.books import Market, nudged
from tellegen.assess.trial.questions import Answer, Question
from tellegen.market import BindingLimit, Clearing, LimitType, OrderBook, Parameters, start_after
from tellegen.records import ClearingStatus

SURE = 1e-4
"""An order whose bid is further from its price than this share of the size of prices can be awarded one way only."""
PORTS = 2
ELSEWHERE = 1e-7
"""Outcomes whose worth differs by more than this share of all turnover are two optima."""
NETWORK = (LimitType.VOLTAGE_MIN, LimitType.VOLTAGE_MAX, LimitType.RATING)


def warm_errors(market: Market, cold: Clearing, number: int) -> Iterator[Answer]:
    """How far an outcome that started from another market's differs from that which started from nothing.

    Prices are compared where neither outcome gives a range; awards where the price decides them.
    """
    before = nudged(market, number)
    first = market.clear(before)
    start = start_after(first, before, agreements=market.agreements)
    if start is None:
        yield Answer(Question.ENDS, 1.0, f"the market before: {first.reason}")
        return
    warm = market.clear(start=start)
    if warm.status == ClearingStatus.FALLBACK:
        yield Answer(Question.ENDS, 1.0, f"warm: {warm.reason}")
        return
    size = max(market.price_scale, float(np.abs(cold.prices.energy).max()))
    worth = [end.welfare - _let_go(market, end) for end in (cold, warm)]
    turnover = 1.0 + size * float(market.book.quantity_kw.sum())
    if cold.evidence.choice.starts and abs(worth[1] - worth[0]) > ELSEWHERE * turnover:
        # Where somebody is paid to burn energy in the wires there are several optima, and a search finds one.
        more = worth[1] - worth[0]
        yield Answer(Question.ELSEWHERE, abs(more) / turnover, f"warm is worth {more:+.3g} more per h")
        return
    wide = [float((end.prices.high - end.prices.low).max()) / size for end in (cold, warm)]
    if max(wide) <= 1e-9 and len(market.book):
        # Where nobody trades the dual of two limits that are one to all who do may stand at either.
        at = np.unique(market.book.node)
        one, two = ((end.prices.energy[at], end.prices.reactive[at]) for end in (cold, warm))
        off = np.abs(np.subtract(one, two)).max(axis=0)
        yield Answer(Question.WARM_PRICES, float(off.max(initial=0.0)) / size, f"place {at[off.argmax()]}")
    book = market.book
    sure = np.abs(gains(market, cold)) > SURE * size
    off = np.where(sure, np.abs(warm.award_kw - cold.award_kw), 0.0) / max(1.0, float(book.quantity_kw.sum()))
    yield Answer(
        Question.WARM_DISPATCH, float(off.max(initial=0.0)), f"order {int(np.argmax(off))}" if off.size else ""
    )


def quotient_errors(market: Market, outcome: Clearing) -> Iterator[Answer]:
    """Prices beside difference quotients of markets cleared again, at the dearest and the cheapest place."""
    several = bool(outcome.evidence.choice.starts)
    if several or any(limit.kind not in NETWORK for limit in outcome.relaxations):
        return  # The market with a little more may have its optimum elsewhere, or what gives way has no public size.
    book = market.book
    start = start_after(outcome, book, agreements=market.agreements)
    ports = sample_ports(outcome, np.unique(book.node), PORTS).tolist()
    typical = float(np.median(book.quantity_kw[book.quantity_kw > 0])) if (book.quantity_kw > 0).any() else 1.0

    def solve(more: OrderBook) -> Clearing:
        again = market.clear(more, start)
        return replace(again, welfare=again.welfare - _let_go(market, again))

    try:
        found = price_quotients(
            solve, book, outcome, ports, root_price=market.price_scale,
            typical_kw=typical,
        )  # fmt: skip
    except NoDerivativeError as failure:
        yield Answer(Question.ENDS, 1.0, str(failure))
        return
    for quotient in found:
        word = "reactive" if quotient.reactive else "energy"
        yield Answer(Question.QUOTIENT, quotient.error, f"{word} at place {quotient.port}")


def _let_go(market: Market, outcome: Clearing) -> float:
    """What the excess over limits costs along their penalty curves, currency/h."""
    return sum(_penalty(market, limit) for limit in outcome.relaxations if limit.price > 0)


def _penalty(market: Market, limit: BindingLimit) -> float:
    rules, root = Parameters(), abs(market.root_price)
    if limit.kind not in NETWORK:
        return limit.dual * limit.excess
    kw = limit.dual / limit.price
    if limit.kind == LimitType.RATING:
        lines = market.network.branches
        margin = rules.margin_rating * float(lines.rating_pu[limit.index]) * market.network.base_kva
    else:
        margin = rules.margin_voltage_pu
    first, last = root + rules.penalty_margin_price, root + rules.penalty_price
    return kw * (first * min(limit.excess, margin) + last * max(limit.excess - margin, 0.0))
