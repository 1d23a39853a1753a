"""Laws of three phases, and of loads that the file itself declares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streets import (
    PRICE,
    ROOT,
    ROOT_REACTIVE,
    SHIFT,
    assert_alike,
    feeder,
    is_unique,
    limits,
    market,
    on,
    paid,
    seeds,
    street,
)

from tellegen.grid import Connector
from tellegen.grid.loads import LoadLaw
from tellegen.grid.network import FixedLoads
from tellegen.market import OrderBook, clear
from tellegen.records import ClearingStatus


@given(seeds)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_three_like_phases_without_coupling_are_the_balanced_street(seed: int) -> None:
    book, bounds, rating = market(seed), limits(seed), 12.0 if seed % 2 else np.inf
    one = clear(feeder(rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    thirds = [
        replace(book, node=3 * book.node + p, quantity_kw=book.quantity_kw / 3, slope=3 * book.slope) for p in range(3)
    ]
    network = feeder(3, mutual=0.0, rating_kva=rating)
    two = clear(network, OrderBook.concat(*thirds), ROOT, **bounds)  # type: ignore[arg-type]
    assert two.status == one.status, two.reason
    assert two.welfare == pytest.approx(one.welfare, rel=1e-8, abs=1e-8)
    assert two.award_kw.reshape(3, -1).sum(axis=0) == pytest.approx(one.award_kw, abs=1e-5)
    if is_unique(one) and is_unique(two):
        per_phase = two.prices.energy.reshape(-1, 3)
        assert per_phase == pytest.approx(np.repeat(one.prices.energy[:, None], 3, axis=1), abs=PRICE)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_a_delta_customer_is_three_customers_between_phases(seed: int) -> None:
    connector, rng = Connector(street(3)), np.random.default_rng(seed)
    delta, pairs = connector.place("9", "1-2-3"), [connector.place("9", name) for name in ("1-2", "2-3", "1-3")]
    connections = connector.table()
    rest = OrderBook.of(
        rng.integers(3, 39, 20), 1, rng.uniform(0.1, 0.6, 20), rng.uniform(0, 3, 20), connections=connections
    )
    kw = rng.uniform(1, 12)
    solve = on(seed, 3)
    one = solve(
        OrderBook.concat(rest, OrderBook.of([delta], 1, np.nan, [kw], kvar_per_kw=0.3, connections=connections))
    )
    many = OrderBook.concat(rest, OrderBook.of(pairs, 1, np.nan, kw / 3, kvar_per_kw=0.3, connections=connections))
    assert_alike(one, solve(many), many)
    assert one.prices.energy[delta] == pytest.approx(one.prices.energy[pairs].mean(), rel=1e-12)


@given(seeds, st.permutations([0, 1, 2]))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_the_names_of_the_phases_mean_nothing(seed: int, order: list[int]) -> None:
    """What stood on phase p stands on phase ``order[p]``, the source's voltages too."""
    place = 3 * (np.arange(39) // 3) + np.array(order)[np.arange(39) % 3]
    source = np.empty(3, dtype=complex)
    source[order] = SHIFT
    book, bounds, rating = market(seed, 3), limits(seed), 18.0 if seed % 2 else np.inf
    legs = book.connections
    other = np.where(legs.other < 0, -1, place[legs.other])
    moved = replace(
        book,
        node=np.where(book.node < 39, place[np.minimum(book.node, 38)], book.node),
        connections=replace(legs, node=place[legs.node], other=other),
    )
    one = clear(feeder(3, rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    two = clear(feeder(3, rating_kva=rating, source=source), moved, ROOT, **bounds)  # type: ignore[arg-type]
    assert two.status == one.status, two.reason
    assert two.welfare == pytest.approx(one.welfare, rel=1e-8, abs=1e-8)
    assert two.award_kw == pytest.approx(one.award_kw, abs=1e-5)
    if is_unique(one) and is_unique(two):
        at = np.unique(book.node[book.node < 39])
        assert two.prices.energy[place[at]] == pytest.approx(one.prices.energy[at], abs=PRICE)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_rent_counts_what_the_files_own_loads_draw_at_their_voltage(seed: int) -> None:
    """Constant-impedance loads pay their nodal price for what they draw; with the market's orders that is the rent."""
    rng, network = np.random.default_rng(seed), street(1)
    at, kw = np.array([5, 8, 12]), rng.uniform(0.5, 4, 3)
    one, none = np.ones(3), np.zeros(3)
    law = LoadLaw(one, 2 * one, 2 * one, none, none, none, np.full(3, np.inf))
    loads = FixedLoads(("a", "b", "c"), at, kw, 0.3 * kw, law=law)
    book = market(seed)
    outcome = clear(network, book, ROOT, root_reactive_price=ROOT_REACTIVE, loads=loads, v_min=0.9, v_max=1.1)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason
    drawn = kw * (1 + 0.3j) * np.abs(outcome.flow.voltage[at]) ** 2
    own = outcome.prices.energy[at] @ drawn.real + outcome.prices.reactive[at] @ drawn.imag
    root = ROOT * outcome.flow.root_kw + ROOT_REACTIVE * outcome.flow.root_kvar
    assert outcome.rent == pytest.approx(paid(book, outcome) + own - root, abs=1e-7)
