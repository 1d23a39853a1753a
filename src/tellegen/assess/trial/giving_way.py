"""Limits hold, or are listed with an excess and a dual that lies on the published penalty curve."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tellegen.assess.trial.books import Market
from tellegen.assess.trial.circuit import Circuit
from tellegen.assess.trial.questions import Answer, Question
from tellegen.grid.network import FloatArray
from tellegen.market import BindingLimit, Clearing, LimitType, Parameters, Scenario
from tellegen.records import Product, Side

NEAR = 1e-6
"""A limit with a dual is at its level, nearer than this share of it."""
KINK = 1e-6
OWN_TIMES = 10.0
Key = tuple[int, int, int]


def limit_errors(market: Market, outcome: Clearing, circuit: Circuit) -> Iterator[Answer]:
    """What limits are hurt without being listed; duals that are negative, idle or off their curve."""
    listed = {(int(x.kind), x.index, int(x.scenario)): x for x in outcome.limits if x.kind < LimitType.RESERVE_UP}
    elements = market.network.branches.element
    known: dict[Key, float] = {}
    worst, where = 0.0, ""
    for kind, index, scenario, excess in _measured(market, outcome, circuit):
        unlisted = np.maximum(excess, 0.0)
        for j, k in enumerate(index.tolist()):
            if (kind, k, scenario) in listed:
                known[kind, k, scenario], unlisted[j] = float(excess[j]), 0.0
        if kind == LimitType.RATING:
            # What passes both ends of a line is one excess, listed at either.
            for k in [key[1] for key in listed if key[0] == kind and key[2] == scenario]:
                ends = np.flatnonzero([elements[j] == elements[k] for j in index])
                given = float(excess[np.flatnonzero(index == k)].max(initial=0.0))
                unlisted[ends] = np.maximum(unlisted[ends] - max(given, 0.0), 0.0)
        if unlisted.max(initial=0.0) > worst:
            worst, at = float(unlisted.max()), int(np.argmax(unlisted))
            where = f"{LimitType(kind).name.lower()} {int(index[at])} in {Scenario(scenario).name.lower()}"
    yield Answer(Question.HELD, worst, where)
    yield _reserve(market, outcome)
    for key, limit in listed.items():
        if key in known:
            yield _on_curve(market, limit, known[key], circuit)
        else:
            yield Answer(Question.DUALS, 1.0, f"{limit.name} is listed, but is no limit")
    for limit in outcome.limits:
        yield Answer(Question.DUALS, max(-limit.dual, 0.0), limit.name)


def _measured(market: Market, outcome: Clearing, circuit: Circuit) -> Iterator[tuple[int, np.ndarray, int, FloatArray]]:
    """(kind, index, scenario, excess in pu or as a share of the limit) of every limit of the network."""
    network = market.network
    free = circuit.free[network.phase[circuit.free] <= 3]
    if network.root_terminals is not None:
        free = np.setdiff1d(free, network.branches.node[network.root_terminals])
    low = network.v_min if market.v_min is None else np.full(len(network.nodes), market.v_min)
    high = network.v_max if market.v_max is None else np.full(len(network.nodes), market.v_max)
    rating = network.branches.rating_pu
    rated = np.flatnonzero(np.isfinite(rating) & (rating > 0))
    for scenario, flow in ((Scenario.DISPATCH, outcome.flow), *outcome.called):
        volt, s = np.abs(flow.voltage), int(scenario)
        yield int(LimitType.VOLTAGE_MIN), free, s, low[free] - volt[free]
        yield int(LimitType.VOLTAGE_MAX), free, s, volt[free] - high[free]
        yield int(LimitType.RATING), rated, s, circuit.terminal_pu(flow.voltage)[rated] / rating[rated] - 1.0
        if market.root_limit_kw is not None:
            limit, scale = market.root_limit_kw, max(market.root_limit_kw, 1.0)
            zero = np.zeros(1, dtype=np.int64)
            yield int(LimitType.ROOT_IMPORT), zero, s, np.array([(flow.root_kw - limit) / scale])
            yield int(LimitType.ROOT_EXPORT), zero, s, np.array([(-flow.root_kw - limit) / scale])


def _on_curve(market: Market, limit: BindingLimit, excess: float, circuit: Circuit) -> Answer:
    """How far price and excess (share of the limit, or pu) are from the penalty curve, as a share of its prices."""
    rules, root = Parameters(), abs(market.root_price)
    first, last = root + rules.penalty_margin_price, root + rules.penalty_price
    voltage = limit.kind <= LimitType.VOLTAGE_MAX
    margin = rules.margin_voltage_pu if voltage else rules.margin_rating
    price = limit.price
    if voltage:
        kw = market.network.base_kva / circuit.driving_impedance(limit.index)
        price = limit.dual / kw
    if abs(price - limit.price) > 1e-7 * last:
        return Answer(Question.DUALS, abs(price - limit.price) / last, f"{limit.name}: price and dual differ")
    if excess < -NEAR:
        off = price
    elif excess <= KINK:
        off = price - first
    elif excess < margin - KINK:
        off = abs(price - first)
    elif excess <= margin + KINK:
        off = max(first - price, price - last)
    else:
        off = abs(price - last)
    return Answer(Question.DUALS, max(off, 0.0) / last, f"{limit.name}: excess {excess:.3g} at {price:.6g}")


def _reserve(market: Market, outcome: Clearing) -> Answer:
    """What is required is offered, or listed as missing; what is held can be called."""
    book, award = market.book, outcome.award_kw
    worst, where = 0.0, ""
    for product, kind in ((Product.RESERVE_UP, LimitType.RESERVE_UP), (Product.RESERVE_DOWN, LimitType.RESERVE_DOWN)):
        mine = book.product == product
        missing = float((book.side * award)[mine].sum())
        listed = sum(limit.excess for limit in outcome.relaxations if limit.kind == kind)
        off = max(missing - listed, 0.0) / max(1.0, float(award[mine].sum()))
        if off > worst:
            worst, where = off, product.name.lower()
    agreed = market.agreements
    if agreed is None:
        return Answer(Question.HELD, worst, where)
    for who, most_in, most_out in zip(
        agreed.participant.tolist(), agreed.import_kw.tolist(), agreed.export_kw.tolist(), strict=True
    ):
        mine = book.participant == who
        net = float((book.side * award)[mine & (book.product == Product.ENERGY)].sum())
        sold = mine & (book.side == Side.SELL)
        up, down = (float(award[sold & (book.product == p)].sum()) for p in (Product.RESERVE_UP, Product.RESERVE_DOWN))
        for beyond, kind in ((up - net - most_out, LimitType.EXPORT), (net + down - most_in, LimitType.IMPORT)):
            given = sum(x.excess for x in outcome.relaxations if x.kind == kind and x.index == who)
            off = max(beyond - given, 0.0) / max(1.0, abs(net))
            if off > worst:
                worst, where = off, f"{kind.name.lower()} of {who}"
    return Answer(Question.HELD, worst, where)
