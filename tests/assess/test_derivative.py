"""Law 7 by its referee: prices are difference quotients of re-solved optima, on balanced and three-phase feeders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tellegen.assess.derivative import NoDerivativeError, Quotient, price_quotients, sample_ports
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.market import Clearing, OrderBook, Parameters, start_after
from tellegen.simulation.workload import ROOT_PRICE, BidForm, Binding, Situation, limits_that_bind, market_books

TOLERANCE = 1e-5
"""Relative; quotients of 0.4 % of a home's demand carry about 1e-7 of curvature and rounding."""


def judged(phases: int, form: BidForm, situation: Situation, binding: Binding, error: float = 0.0) -> list[Quotient]:
    feeder = synthetic_feeder(50, phases=phases, seed=2)
    book = market_books(feeder, 5, form=form, situation=situation)[0].book
    instance = limits_that_bind(feeder.network, book, binding)
    base = instance.clear(book)
    start = start_after(base, book)
    if error:
        base = replace(base, prices=replace(base.prices, energy=base.prices.energy * (1 + error)))

    def solve(orders: OrderBook) -> Clearing:
        return instance.clear(orders, start)

    ports = sample_ports(base, feeder.customer_node, 3).tolist()
    return price_quotients(solve, book, base, ports, root_price=ROOT_PRICE, typical_kw=2.0)


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("form", BidForm)
@pytest.mark.parametrize(
    ("situation", "binding"),
    [
        (Situation.EVENING, Binding.LOWEST_VOLTAGE),
        (Situation.NOON, Binding.HIGHEST_VOLTAGE),
        (Situation.EVENING, Binding.RATING),
        (Situation.EVENING, Binding.ROOT),
    ],
)
def test_prices_are_difference_quotients(phases: int, form: BidForm, situation: Situation, binding: Binding) -> None:
    found = judged(phases, form, situation, binding)
    assert len(found) == 6
    assert sum(q.kinked for q in found) <= 2
    assert max(q.error for q in found) < TOLERANCE


def test_a_price_that_is_wrong_by_a_thousandth_is_found() -> None:
    """The referee can say no."""
    found = judged(3, BidForm.STEPS, Situation.EVENING, Binding.LOWEST_VOLTAGE, error=1e-3)
    energy = [q for q in found if not q.reactive]
    assert min(q.error for q in energy) > 5e-4


def test_dearest_and_cheapest_port_are_in_every_sample() -> None:
    feeder = synthetic_feeder(50, phases=1, seed=2)
    book = market_books(feeder, 5)[0].book
    base = limits_that_bind(feeder.network, book, Binding.LOWEST_VOLTAGE).clear(book)
    energy = base.prices.energy[feeder.customer_node]
    chosen = base.prices.energy[sample_ports(base, feeder.customer_node, 4)]
    assert chosen.min() == energy.min()
    assert chosen.max() == energy.max()
    assert chosen.size == 4


def test_a_fallback_has_no_derivative() -> None:
    feeder = synthetic_feeder(10, phases=1, seed=2)
    book = market_books(feeder, 5)[0].book
    instance = limits_that_bind(feeder.network, book, Binding.LOWEST_VOLTAGE)
    base = instance.clear(book, parameters=Parameters(iterations_max=0))
    with pytest.raises(NoDerivativeError, match="fallback"):
        price_quotients(instance.clear, book, base, [int(np.max(feeder.customer_node))], root_price=1.0, typical_kw=1.0)
