"""Laws of markets that must be alike, or one better than the other: welfare, prices and awards are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streets import (
    OHM,
    PARENT,
    PRICE,
    ROOT,
    ROOT_REACTIVE,
    assert_alike,
    chosen,
    feeder,
    is_unique,
    limits,
    market,
    on,
    seeds,
    street,
)

from tellegen.grid.elimination import Engine
from tellegen.market import OrderBook, Parameters, clear, start_after
from tellegen.records import ClearingStatus


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_order_of_the_rows_means_nothing(seed: int, phases: int) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    order = np.random.default_rng(seed).permutation(len(book))
    one, two = solve(book), solve(chosen(book, order))
    assert_alike(one, two, book)
    assert two.award_kw == pytest.approx(one.award_kw[order], abs=1e-6)


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_splitting_an_order_in_two_changes_nothing(seed: int, phases: int) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    part = np.where(book.slope > 0, 1.0, np.random.default_rng(seed).random(len(book)))
    rest = replace(book, quantity_kw=book.quantity_kw * (1 - part), slope=np.zeros(len(book)))
    one = solve(book)
    two = solve(OrderBook.concat(replace(book, quantity_kw=book.quantity_kw * part), rest))
    assert_alike(one, two, book)
    assert two.award_kw[: len(book)] + two.award_kw[len(book) :] == pytest.approx(one.award_kw, abs=1e-6)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_equal_orders_share_in_proportion_wherever_they_stand(seed: int) -> None:
    book, rng = market(seed, plain=True), np.random.default_rng(seed)
    book = replace(book, price=np.round(book.price, 1), kvar_per_kw=np.zeros(len(book)))
    outcome = on(seed, 1)(chosen(book, rng.permutation(len(book))))
    book = chosen(book, np.random.default_rng(seed).permutation(len(book)))
    live = book.quantity_kw > 0
    for tie in np.unique(outcome.tie[outcome.tie >= 0]):
        members = (outcome.tie == tie) & live
        share = outcome.award_kw[members] / book.quantity_kw[members]
        assert share == pytest.approx(np.full(share.size, share[0]), rel=1e-12, abs=1e-15)


@given(seeds, st.sampled_from([1, 3]), st.sampled_from([1e-3, 0.1, 1e3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_coin_means_nothing(seed: int, phases: int, money: float) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    rules = Parameters(
        price_cap=5 * money, price_floor=-money, penalty_margin_price=5 * money, penalty_price=10 * money,
        curtailment_price=2 * money, kkt_max=1e-6 * money,
    )  # fmt: skip
    network = street(phases, ("", "I", "S")[seed % 3])
    coins = replace(book, price=money * book.price, slope=money * book.slope)
    two = clear(network, coins, ROOT * money, root_reactive_price=ROOT_REACTIVE * money, parameters=rules,
                **limits(seed))  # type: ignore[arg-type]  # fmt: skip
    assert_alike(solve(book), two, book, money=money)


@given(seeds, st.sampled_from([1, 3]), st.sampled_from([1e-9, 1e-3, 1e3, 1e9]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_watt_and_a_gigawatt_are_cleared_alike_on_wires_of_their_size(seed: int, phases: int, size: float) -> None:
    book, bounds = market(seed, phases), limits(seed)
    one = clear(street(phases), book, ROOT, **bounds)  # type: ignore[arg-type]
    bounds = {name: value * size if name == "root_limit_kw" else value for name, value in bounds.items()}
    grown = replace(book, quantity_kw=size * book.quantity_kw, slope=book.slope / size)
    two = clear(feeder(phases, ohm=OHM / size, base_kva=100 * size), grown, ROOT, **bounds)  # type: ignore[arg-type]
    assert two.status == one.status, two.reason
    assert two.welfare / size == pytest.approx(one.welfare, rel=1e-7, abs=1e-7)
    if is_unique(one):
        assert two.prices.energy == pytest.approx(one.prices.energy, rel=1e-5, abs=PRICE)


@given(seeds)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_a_joint_in_a_line_and_an_unloaded_spur_change_nothing(seed: int) -> None:
    """Line 4 is cut in two by bus 13; bus 14 hangs on bus 7 with nobody there."""
    rng, at = np.random.default_rng(seed), 3
    share = rng.uniform(0.1, 0.9)
    ohm = np.concatenate([OHM, [share * OHM[at], 0.01 + 0.02j]])
    ohm[at] *= 1 - share
    parent = [*PARENT, PARENT[at], 7]
    parent[at] = 13
    rating = 18.0 if seed % 2 else np.inf
    book, bounds = market(seed), limits(seed)
    one = clear(feeder(rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    two = clear(feeder(parent=parent, ohm=ohm, rating_kva=rating), book, ROOT, **bounds)  # type: ignore[arg-type]
    assert_alike(one, two, book)
    assert two.award_kw == pytest.approx(one.award_kw, abs=1e-5)
    assert two.prices.energy[14] == pytest.approx(two.prices.energy[7], abs=1e-9)


@given(seeds)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_switches_of_a_microohm_change_nothing_to_speak_of(seed: int) -> None:
    closed = np.random.default_rng(seed).random(OHM.size) < 0.3
    one, two = (feeder(ohm=np.where(closed, ohm, OHM), rating_kva=18.0) for ohm in (1e-6, 1e-9))
    book, bounds = market(seed), limits(seed)
    outcomes = [clear(network, book, ROOT, **bounds) for network in (one, two)]  # type: ignore[arg-type]
    assert outcomes[1].status == outcomes[0].status
    # A microohm in series moves voltages by 1e-7 pu, and welfare by what such a voltage is worth.
    assert outcomes[1].welfare == pytest.approx(outcomes[0].welfare, abs=1e-4)


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_warm_start_from_any_market_changes_nothing_but_time(seed: int, phases: int) -> None:
    """Also from one with other people, four times the quantities, a negative root price and narrow limits."""
    book, solve = market(seed, phases), on(seed, phases)
    far = market(seed + 1, phases, size=17, scale=4.0, plain=True)
    before = solve(far, v_min=0.99, v_max=1.003)
    assert before.status != ClearingStatus.FALLBACK, before.reason
    cold = solve(book)
    for state in (start_after(before, far), start_after(cold, book)):
        assert_alike(cold, solve(book, start=state), book)


def test_compiled_sweeps_find_what_superlu_finds() -> None:
    pytest.importorskip("numba", reason="the sweeps are compiled by numba")
    for seed in range(4):
        network = feeder(3, rating_kva=18.0)
        one, two = (
            clear(network, market(seed, 3), ROOT, engine=engine, **limits(seed))  # type: ignore[arg-type]
            for engine in (Engine.SUPERLU, Engine.SWEEPS)
        )
        assert two.status == one.status
        assert two.welfare == pytest.approx(one.welfare, rel=1e-9, abs=1e-9)
        assert two.award_kw == pytest.approx(one.award_kw, abs=1e-6)


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_another_participant_never_lowers_welfare(seed: int, phases: int) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    one, two = solve(book), solve(OrderBook.concat(book, market(seed + 7, phases, size=3, plain=True)))
    if one.status == two.status == ClearingStatus.OPTIMAL:
        assert two.welfare >= one.welfare - 1e-8 * max(1.0, abs(one.welfare))


@given(seeds, st.sampled_from([1, 3]), st.sampled_from([0.01, 0.1, 0.4]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_better_bid_never_gets_less(seed: int, phases: int, better: float) -> None:
    book, solve = market(seed, phases), on(seed, phases)
    row = int(np.random.default_rng(seed).choice(np.flatnonzero(~book.price_taker)))
    price = book.price.copy()
    price[row] += book.side[row] * better
    one, two = solve(book), solve(replace(book, price=price))
    assert two.award_kw[row] >= one.award_kw[row] - 1e-6
