"""What every outcome is asked: do the wires carry it, does everybody get what the prices say, are prices what they say?

Each question has a largest error that may be left; what is asked of flows, limits and prices is computed here from the
published awards, voltages and duals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tellegen.assess.trial.bids import bid_errors, welfare
from tellegen.assess.trial.books import Market
from tellegen.assess.trial.circuit import Circuit, Demand, NoFlowError, Seed
from tellegen.assess.trial.giving_way import limit_errors
from tellegen.assess.trial.questions import Answer, Question
from tellegen.grid.network import ComplexArray
from tellegen.market import Clearing, LimitType, Scenario
from tellegen.records import ClearingStatus, Product, Side


def judge(market: Market, outcome: Clearing, circuit: Circuit) -> Iterator[Answer]:
    """All that can be asked of an outcome by itself."""
    if outcome.status == ClearingStatus.FALLBACK:
        yield Answer(Question.ENDS, 1.0, outcome.reason)
        return
    yield Answer(Question.ENDS, 0.0)
    finite = _finite(market, outcome)
    yield finite
    if not finite.passed:
        return
    states = [(Scenario.DISPATCH, outcome.flow), *outcome.called]
    size = max(market.price_scale, float(np.abs(outcome.prices.energy).max()))
    priced = np.zeros(outcome.prices.energy.size, dtype=np.complex128)
    reserve = np.zeros((2, priced.size)) + outcome.prices.required[:, None]
    for scenario, flow in states:
        power = place_demand(market, outcome, scenario)
        demand = circuit.demand(power)
        name = scenario.name.lower()
        yield Answer(Question.FLOW, circuit.mismatch_pu(demand, flow.voltage), name)
        yield _branch(circuit, demand, flow.voltage, name)
        root = circuit.root_kva(power, flow.voltage)
        off = abs(root - complex(flow.root_kw, flow.root_kvar)) / max(1.0, abs(root))
        lines = np.abs(circuit.terminal_pu(flow.voltage) - flow.terminal_pu) / np.maximum(flow.terminal_pu, 1.0)
        yield Answer(Question.MEASURED, max(off, float(lines.max(initial=0.0))), name)
        prices = circuit.place_prices(demand, flow.voltage, _seed(market, outcome, scenario))
        priced += prices
        if scenario != Scenario.DISPATCH:
            way = 1.0 if scenario == Scenario.UP else -1.0
            reserve[scenario - 1] += way * prices.real
    yield from _prices(market, outcome, priced, reserve, size)
    yield bid_errors(market, outcome)
    yield from limit_errors(market, outcome, circuit)
    yield from _money(market, outcome)


def place_demand(market: Market, outcome: Clearing, scenario: Scenario) -> ComplexArray:
    """Demand at every place in kVA, as awards say, with all reserve of a scenario called."""
    book, award = market.book, outcome.award_kw
    demand = np.zeros(len(market.network.nodes) + len(book.connections), dtype=np.complex128)
    power = np.where(book.product == Product.REACTIVE, 1j, 1.0 + 1j * book.kvar_per_kw) * book.side * award
    traded = book.product <= Product.REACTIVE
    np.add.at(demand, book.node[traded], power[traded])
    if scenario != Scenario.DISPATCH:
        up = scenario == Scenario.UP
        called = (book.product == (Product.RESERVE_UP if up else Product.RESERVE_DOWN)) & (book.side == Side.SELL)
        np.add.at(demand, book.node[called], (-1.0 if up else 1.0) * award[called])
    return demand


def _finite(market: Market, outcome: Clearing) -> Answer:
    prices, award = outcome.prices, outcome.award_kw
    numbers = (prices.energy, prices.reactive, prices.low, prices.high, prices.reserve, prices.required, award)
    if not all(np.isfinite(values).all() for values in numbers):
        return Answer(Question.FINITE, 1.0, "a price or award is not finite")
    outside = (award < 0) | (award > market.book.quantity_kw)
    return Answer(Question.FINITE, float(outside.any()), f"order {int(np.argmax(outside))}" if outside.any() else "")


def _branch(circuit: Circuit, demand: Demand, voltage: ComplexArray, name: str) -> Answer:
    try:
        other = circuit.from_no_load(demand)
    except NoFlowError as failure:
        return Answer(Question.BRANCH, 1.0, f"{name}: {failure}")
    return Answer(Question.BRANCH, float(np.abs(other - voltage).max()), name)


def _seed(market: Market, outcome: Clearing, scenario: Scenario) -> Seed:
    """What the Lagrangian weighs in a scenario, from the limits as they are listed."""
    listed = [limit for limit in outcome.limits if limit.scenario == scenario and limit.dual != 0]
    volts = [limit for limit in listed if limit.kind <= LimitType.VOLTAGE_MAX]
    lines = [limit for limit in listed if limit.kind == LimitType.RATING]
    root = complex(market.root_price, market.root_reactive_price) if scenario == Scenario.DISPATCH else 0j
    root += sum(limit.dual for limit in listed if limit.kind == LimitType.ROOT_IMPORT)
    root -= sum(limit.dual for limit in listed if limit.kind == LimitType.ROOT_EXPORT)
    base = market.network.base_kva
    return Seed(
        root=root,
        node=np.array([limit.index for limit in volts], dtype=np.int64),
        of_node=np.array([-limit.dual if limit.kind == LimitType.VOLTAGE_MIN else limit.dual for limit in volts]),
        terminal=np.array([limit.index for limit in lines], dtype=np.int64),
        of_terminal=np.array([limit.dual * base for limit in lines]),
    )


def _prices(
    market: Market, outcome: Clearing, priced: ComplexArray, reserve: np.ndarray, size: float
) -> Iterator[Answer]:
    prices, network = outcome.prices, market.network
    places = np.arange(priced.size)
    if network.root_terminals is not None:
        places = np.setdiff1d(places, network.source)
    off = np.stack(
        [prices.energy - priced.real, prices.reactive - priced.imag, prices.reserve[0] - reserve[0],
         prices.reserve[1] - reserve[1]]
    )  # fmt: skip
    if not (market.book.product > Product.REACTIVE).any():
        off = off[:2]
    off = np.abs(off[:, places])
    kind, at = np.unravel_index(int(np.argmax(off)), off.shape)
    word = ("energy", "reactive", "reserve up", "reserve down")[int(kind)]
    yield Answer(Question.PRICES, float(off.max()) / size, f"{word} at place {int(places[at])}")
    sums = prices.root + prices.losses + prices.congestion + prices.voltage - prices.energy
    parted = max(float(np.abs(sums).max()), float(np.abs(prices.reactive_parts.sum(axis=0) - prices.reactive).max()))
    outside = max(float((prices.low - prices.energy).max()), float((prices.energy - prices.high).max()))
    yield Answer(Question.PARTS, max(parted, outside) / size)


def _money(market: Market, outcome: Clearing) -> Iterator[Answer]:
    book = market.book
    coupled = np.where(book.product == Product.ENERGY, book.kvar_per_kw * outcome.prices.reactive[book.node], 0.0)
    flows = book.side * outcome.award_kw * (outcome.prices.of_orders(book) + coupled)
    root = market.root_price * outcome.flow.root_kw + market.root_reactive_price * outcome.flow.root_kvar
    turnover = 1.0 + float(np.abs(flows).sum()) + abs(root)
    off = abs(welfare(market, outcome) - root - outcome.welfare) / turnover
    yield Answer(Question.MONEY, off, "welfare")
    if market.loads is None:
        # What loads between nodes pay has no published price.
        yield Answer(Question.MONEY, abs(float(flows.sum()) - root - outcome.rent) / turnover, "rent")
