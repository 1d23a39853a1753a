"""Laws of reserves and connection agreements; an independent power flow replays what was sold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streets import DOWN, ROOT, ROOT_REACTIVE, UP, feeder, limits, paid, seeds, street, with_reserve

from tellegen.grid import solve_powerflow
from tellegen.grid.connections import wire
from tellegen.grid.powerflow import factorise
from tellegen.market import Agreements, Clearing, OrderBook, clear, start_after
from tellegen.records import ClearingStatus, Product


def call(book: OrderBook, outcome: Clearing, sign: int, product: Product | None) -> np.ndarray:
    """Demand at every place with all reserve of a product called."""
    size = 13 * (3 if len(book.connections) else 1) + len(book.connections)
    power = np.where(book.product == Product.REACTIVE, 1j, 1 + 1j * book.kvar_per_kw)
    moved, demand = np.isin(book.product, (Product.ENERGY, Product.REACTIVE)), np.zeros(size, dtype=complex)
    np.add.at(demand, book.node[moved], (book.side * outcome.award_kw * power)[moved])
    if product is not None:
        sold = (book.product == product) & (book.side < 0)
        np.add.at(demand, book.node[sold], sign * outcome.award_kw[sold])
    return demand


@given(seeds, st.sampled_from([1, 3]))
@settings(max_examples=14, deadline=None, derandomize=True)
def test_what_is_sold_as_reserve_can_be_called_and_agreements_hold(seed: int, phases: int) -> None:
    (book, agreed), bounds = with_reserve(seed, phases), limits(seed)
    network = street(phases, "I" if seed % 2 else "")
    outcome = clear(network, book, ROOT, root_reactive_price=ROOT_REACTIVE, agreements=agreed, **bounds)  # type: ignore[arg-type]
    bill = paid(book, outcome)
    root = ROOT * outcome.flow.root_kw + ROOT_REACTIVE * outcome.flow.root_kvar
    assert outcome.rent == pytest.approx(bill - root, abs=1e-9 * max(1.0, abs(bill)))
    if outcome.status != ClearingStatus.OPTIMAL:
        return
    wiring, factors = wire(network, network.free, None, book.connections), factorise(network)
    for sign, product in ((0, None), (-1, UP), (1, DOWN)):
        flow = solve_powerflow(network, call(book, outcome, sign, product), wiring=wiring, factors=factors)
        volt = np.abs(flow.voltage[network.free])
        assert volt.min() >= bounds["v_min"] - 2e-7
        assert volt.max() <= bounds["v_max"] + 2e-7
        assert (flow.terminal_pu <= network.branches.rating_pu * (1 + 2e-7)).all()
        assert abs(flow.root_kw) <= bounds.get("root_limit_kw", np.inf) * (1 + 2e-7)
    for product in (UP, DOWN):
        assert (book.side * outcome.award_kw)[book.product == product].sum() <= 1e-6
    for k in range(agreed.participant.size):
        mine = (book.participant == agreed.participant[k]) & (book.node == agreed.place[k])
        energy, up, down = (mine & (book.product == product) for product in (Product.ENERGY, UP, DOWN))
        net = (book.side * outcome.award_kw)[energy].sum()
        u, w = outcome.award_kw[up].sum(), outcome.award_kw[down].sum()
        assert u - net <= agreed.export_kw[k] + 1e-6
        assert net + w <= agreed.import_kw[k] + 1e-6
        assert u - net / 12 <= agreed.energy_up_kwh[k] + 1e-6
        assert net / 12 + w <= agreed.energy_down_kwh[k] + 1e-6


def test_stored_energy_limits_reserve_of_one_who_draws_power_meanwhile() -> None:
    """2 kW drawn for five minutes add 1/6 kWh to the half kWh that stands behind reserve which lasts an hour."""
    draws = OrderBook.of([5], 1, np.nan, [2.0], participant=1)
    offers = OrderBook.of([5, 9], -1, [0.01, 0.02], [2.0, 2.0], product=UP, participant=[1, 2])
    book = OrderBook.concat(draws, offers, OrderBook.of([0], 1, 3.0, [2.0], product=UP))
    outcome = clear(feeder(), book, ROOT, agreements=Agreements.of([1], [5], energy_up_kwh=0.5))
    assert outcome.award_kw[1:3] == pytest.approx([0.5 + 2 / 12, 2 - 0.5 - 2 / 12], abs=1e-6)
    assert outcome.prices.required[0] == pytest.approx(0.02, abs=1e-6)


def test_a_warm_start_from_any_market_with_reserves_never_ends_worse_than_a_cold_one() -> None:
    network, bounds = street(1, "I"), limits(9)
    (book, agreed), (far, far_agreed) = with_reserve(9, 1), with_reserve(10, 1)
    before = clear(network, far, 0.02, agreements=far_agreed, v_min=0.985, v_max=1.003)
    cold = clear(network, book, ROOT, agreements=agreed, **bounds)  # type: ignore[arg-type]
    start = start_after(before, far, agreements=far_agreed)
    warm = clear(network, book, ROOT, agreements=agreed, start=start, **bounds)  # type: ignore[arg-type]
    assert cold.status != ClearingStatus.FALLBACK, cold.reason
    assert warm.status == cold.status, warm.reason
