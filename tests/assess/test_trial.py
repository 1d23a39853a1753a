"""The trial: books are drawn alike, its circuit stands on its own feet, and it finds what is wrong with an outcome."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tellegen.assess import BENCHMARKS, Options, run_benchmark
from tellegen.assess.trial.benchmark import try_book
from tellegen.assess.trial.books import draw_market
from tellegen.assess.trial.circuit import Circuit, NoFlowError, Seed
from tellegen.assess.trial.grounds import ground_of, names
from tellegen.assess.trial.judge import judge, place_demand
from tellegen.assess.trial.questions import ALLOWED, Question
from tellegen.assess.trial.settled import settled_errors
from tellegen.errors import InputError
from tellegen.market import Clearing, Scenario
from tellegen.records import ClearingStatus

BOUND = "phases", 24
"""A book with limits that bind, reserve that is held and orders that are taken in part."""


def circuit_of(name: str, number: int) -> tuple[Circuit, Clearing, np.ndarray]:
    market = draw_market(ground_of(name), number)
    outcome = market.clear()
    circuit = Circuit(market.network, market.loads, market.book.connections)
    return circuit, outcome, place_demand(market, outcome, Scenario.DISPATCH)


def test_forty_random_books_end_at_optima_that_are_what_they_say() -> None:
    result = run_benchmark(BENCHMARKS, "trial", Options(quick=True))
    missed = [figure.name for figure in result.figures if figure.met is False]
    assert not missed, result.notes
    asked = {figure.name for figure in result.figures}
    left_out = {question for question in Question if str(question) not in asked}
    assert left_out <= {Question.REPLAY, Question.ELSEWHERE}


@pytest.mark.parametrize("name", names([]))
def test_a_book_is_the_same_whenever_it_is_drawn(name: str) -> None:
    one, two = draw_market(ground_of(name), 3), draw_market(ground_of(name), 3)
    assert np.array_equal(one.book.price, two.book.price, equal_nan=True)
    assert np.array_equal(one.book.quantity_kw, two.book.quantity_kw)
    assert not np.array_equal(one.book.quantity_kw[:1], draw_market(ground_of(name), 4).book.quantity_kw[:1])


def test_books_have_all_that_a_market_has() -> None:
    drawn = [draw_market(ground_of(name), number) for name in names([]) for number in range(30)]
    books = [market.book for market in drawn]
    assert all(any((book.product == product).any() for book in books) for product in range(4))
    assert any(book.price_taker.any() for book in books)
    assert any((book.slope > 0).any() for book in books)
    assert any((book.price < 0).any() for book in books)
    assert any(market.root_price < 0 for market in drawn)
    assert any(market.root_limit_kw is not None for market in drawn)
    assert any(market.agreements is not None for market in drawn)
    assert any(market.loads is not None for market in drawn)
    assert min(market.load_scale for market in drawn) == 0.0
    assert max(market.load_scale for market in drawn) > 2.5


@pytest.mark.parametrize("name", names([]))
def test_its_prices_are_difference_quotients_of_its_own_power_flow(name: str) -> None:
    """Root power at a price, a voltage and a flow at weights: what one more kW or kvar does to their sum."""
    circuit, outcome, power = circuit_of(name, 7)
    network, at = circuit.network, int(circuit.free[-1])
    lines = np.flatnonzero(circuit.terminal_pu(outcome.flow.voltage) > 1e-3)[:2]
    seed = Seed(0.3 + 0.05j, np.array([at]), np.array([2.0]), lines, np.array([0.7, -0.4]))

    def weighed(demand: np.ndarray) -> float:
        voltage = circuit.from_no_load(circuit.demand(demand))
        root = circuit.root_kva(demand, voltage)
        flows = circuit.terminal_pu(voltage)[lines]
        return 0.3 * root.real + 0.05 * root.imag + 2.0 * abs(voltage[at]) + float(seed.of_terminal @ flows)

    prices = circuit.place_prices(circuit.demand(power), outcome.flow.voltage, seed)
    for place in (int(network.source[0]), at, power.size - 1):
        for unit, price in ((1.0, prices[place].real), (1j, prices[place].imag)):
            step = np.zeros(power.size, dtype=complex)
            step[place] = 1e-3 * unit
            quotient = (weighed(power + step) - weighed(power - step)) / 2e-3
            assert price == pytest.approx(quotient, abs=1e-6)


def test_beyond_the_nose_its_path_from_no_load_ends() -> None:
    circuit, _, power = circuit_of("taps", 7)
    with pytest.raises(NoFlowError, match="ends at"):
        circuit.from_no_load(circuit.demand(power + 1e4))


def spoiled(outcome: Clearing, question: Question) -> Clearing:
    """An outcome with one thing wrong."""
    prices, flow, limits = outcome.prices, outcome.flow, outcome.limits
    if question == Question.FLOW:
        voltage = flow.voltage.copy()
        voltage[-1] *= 1 + 1e-6
        return replace(outcome, flow=replace(flow, voltage=voltage))
    if question == Question.MEASURED:
        return replace(outcome, flow=replace(flow, root_kw=flow.root_kw + 0.01))
    if question in (Question.BIDS, Question.PRICES):
        return replace(outcome, prices=replace(prices, energy=prices.energy + 0.01))
    if question == Question.HELD:
        return replace(outcome, limits=(), flow=replace(flow, voltage=1.2 * flow.voltage))
    if question == Question.DUALS:
        return replace(outcome, limits=tuple(replace(limit, dual=-limit.dual) for limit in limits))
    if question == Question.PARTS:
        return replace(outcome, prices=replace(prices, losses=prices.losses + 1e-6))
    if question == Question.MONEY:
        return replace(outcome, welfare=outcome.welfare + 1e-3)
    if question == Question.FINITE:
        return replace(outcome, award_kw=outcome.award_kw * np.nan)
    return replace(outcome, status=ClearingStatus.FALLBACK, reason="as told")


@pytest.mark.parametrize(
    "question",
    [Question.ENDS, Question.FINITE, Question.FLOW, Question.MEASURED, Question.BIDS, Question.HELD, Question.DUALS,
     Question.PRICES, Question.PARTS, Question.MONEY],
)  # fmt: skip
def test_what_is_wrong_with_an_outcome_is_found(question: Question) -> None:
    market = draw_market(ground_of(BOUND[0]), BOUND[1])
    circuit, outcome = Circuit(market.network, market.loads, market.book.connections), market.clear()
    assert any(limit.dual > 0 for limit in outcome.limits)
    assert all(answer.passed for answer in judge(market, outcome, circuit))
    with np.errstate(invalid="ignore"):
        found = {answer.question for answer in judge(market, spoiled(outcome, question), circuit) if not answer.passed}
    assert question in found


def test_one_book_is_repeated_by_name() -> None:
    result = run_benchmark(BENCHMARKS, "trial", Options(only="mesh:1"))
    assert any(note.startswith(f"{Question.WARM_PRICES}: ") for note in result.notes)
    assert try_book("mesh", 1).status == "OPTIMAL"
    for name in ("mesh", "mesh:x", "nowhere:1"):
        with pytest.raises(InputError, match="must be GROUND:NUMBER"):
            run_benchmark(BENCHMARKS, "trial", Options(only=name))


def test_a_network_that_cannot_be_read_is_a_note() -> None:
    result = run_benchmark(BENCHMARKS, "trial", Options(books=6, networks=("nowhere.m",)))
    assert any(note.startswith("left out: nowhere.m") for note in result.notes)
    with pytest.raises(InputError, match="must be at most"):
        run_benchmark(BENCHMARKS, "trial", Options(books=10**9))


RENT = {
    "street:188": (),  # the root may deliver less than the empty wires lose: limits are not asked
    "taps:180": (Question.RENT_LIMITS, Question.RENT_METERS),  # paper is cheaper than carrying: short on meters
    "laws:212": (Question.RENT_LIMITS, Question.RENT_METERS),
    "phases:20": (Question.RENT_BENT, Question.RENT_METERS),  # a highest voltage binds
}
"""What is asked of a book's rent besides its losses."""


@pytest.mark.parametrize("name", RENT)
def test_rent_of_a_dispatch_covers_the_empty_wires_where_that_is_a_law(name: str) -> None:
    """Whether meters show as much is no law."""
    ground, number = name.split(":")
    answers = {a.question: a for a in settled_errors(draw_market(ground_of(ground), int(number)), int(number))}
    assert {each for each in answers if each.name.startswith("RENT")} == {Question.RENT_LOSSES, *RENT[name]}
    assert all(answer.passed for answer in answers.values())
    if name == "taps:180":
        assert answers[Question.RENT_METERS].error > ALLOWED[Question.RENT_LOSSES]
