"""Law 7: prices are the derivative of welfare, whatever binds; finite differences of the re-solved optimum referee."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tellegen.grid import solve_powerflow
from tellegen.grid.network import LimitKind, Network
from tellegen.market import Clearing, LimitType, OrderBook, clear
from tellegen.records import ClearingStatus, Product

Street = Callable[..., Network]
HOUSES = (9, 10, 11, 12, 5, 7, 8)
TOLERANCE = 5e-6
"""Relative; the difference quotient itself has about 1e-7 from rounding in the welfare and its third derivative."""


def demand_book(slope: float) -> OrderBook:
    energy = OrderBook.of(
        np.repeat(HOUSES, 2), 1, np.tile([0.55, 0.42], 7) + 0.003 * np.arange(14), np.tile([9.0, 7.0], 7),
        slope=slope, kvar_per_kw=np.repeat([0.0, 0.3, 0.1, 0.0, 0.2, 0.0, 0.4], 2),
    )  # fmt: skip
    takers = OrderBook.of([9, 12, 8], 1, np.nan, [2.0, 3.0, 4.0], kvar_per_kw=0.25)
    seller = OrderBook.of([11, 6], -1, [0.33, 0.36], [3.0, 40.0], slope=slope)
    return OrderBook.concat(energy, takers, seller)


def solar_book(slope: float, price: float) -> OrderBook:
    sell = OrderBook.of(HOUSES, -1, price + 0.002 * np.arange(7), 30.0, slope=slope)
    absorb = OrderBook.of([9, 12], 1, 0.0, [2.0, 3.0], product=Product.REACTIVE)
    takers = OrderBook.of([9, 12, 8], 1, np.nan, [2.0, 3.0, 4.0], kvar_per_kw=0.25)
    return OrderBook.concat(sell, absorb, takers)


CASES = {
    "nothing binds": (demand_book, {}, {"v_min": 0.7, "v_max": 1.1}, 0.30, None),
    "lowest voltage": (demand_book, {}, {"v_min": 0.97}, 0.30, LimitType.VOLTAGE_MIN),
    "highest voltage": (lambda s: solar_book(s, 0.05), {}, {"v_max": 1.03}, 0.25, LimitType.VOLTAGE_MAX),
    "highest voltage, negative prices": (
        lambda s: solar_book(s, -0.3), {}, {"v_max": 1.03}, -0.05, LimitType.VOLTAGE_MAX,
    ),
    "root import": (demand_book, {}, {"v_min": 0.7, "root_limit_kw": 60.0}, 0.30, LimitType.ROOT_IMPORT),
    "root export": (lambda s: solar_book(s, 0.05), {}, {"root_limit_kw": 35.0}, 0.25, LimitType.ROOT_EXPORT),
    "line current": (demand_book, {"rating": 45.0}, {"v_min": 0.7}, 0.30, LimitType.RATING),
    "line power": (
        demand_book, {"rating": 45.0, "kind": LimitKind.APPARENT_POWER}, {"v_min": 0.7}, 0.30, LimitType.RATING,
    ),
    "power at the root": (
        lambda s: solar_book(s, 0.05), {"rating": 40.0, "kind": LimitKind.APPARENT_POWER, "line": 0}, {}, 0.25,
        LimitType.RATING,
    ),
    "free energy": (demand_book, {}, {"v_min": 0.97}, 0.0, LimitType.VOLTAGE_MIN),
}  # fmt: skip


def feeder(street: Street, options: dict[str, object]) -> Network:
    if "rating" not in options:
        return street()
    rating = np.full(12, np.inf)
    rating[int(options.get("line", 3))] = options["rating"]  # type: ignore[call-overload]
    return street(rating_kva=rating, kind=options.get("kind", LimitKind.CURRENT))


@pytest.mark.parametrize("slope", [0.0, 0.006], ids=["steps", "quadratic"])
@pytest.mark.parametrize("name", CASES)
def test_a_price_is_what_one_more_kwh_costs(street: Street, name: str, slope: float) -> None:
    book_of, options, limits, root_price, kind = CASES[name]
    network = feeder(street, options)
    book = book_of(slope)
    settings = dict(limits, root_reactive_price=0.02)

    def solve(extra: np.ndarray) -> Clearing:
        return clear(network, book, root_price, fixed_kva=extra, **settings)  # type: ignore[arg-type]

    base = solve(np.zeros(13, dtype=complex))
    assert base.status == ClearingStatus.OPTIMAL, base.reason
    assert {limit.kind for limit in base.limits} == ({kind} if kind is not None else set())
    assert np.array_equal(base.prices.low, base.prices.high)
    scale = max(abs(root_price), float(np.abs(base.prices.energy).max()))
    step_kw = 1e-3
    for node in (0, 3, 9, 12):
        for unit, prices in ((1.0, base.prices.energy), (1j, base.prices.reactive)):
            extra = np.zeros(13, dtype=complex)
            extra[node] = unit * step_kw
            difference = (solve(-extra).welfare - solve(extra).welfare) / (2 * step_kw)
            assert prices[node] == pytest.approx(difference, abs=TOLERANCE * scale), (node, unit)


@pytest.mark.parametrize("name", CASES)
def test_the_dispatch_is_feasible_on_the_ac_network(street: Street, name: str) -> None:
    """The awards alone, put through a fresh power flow, keep every limit (law 10)."""
    book_of, options, limits, root_price, _ = CASES[name]
    network, book = feeder(street, options), book_of(0.0)
    outcome = clear(network, book, root_price, **limits)  # type: ignore[arg-type]
    demand = np.zeros(13, dtype=complex)
    active = np.where(book.product == Product.ENERGY, 1.0, 0.0)
    reactive = np.where(book.product == Product.ENERGY, book.kvar_per_kw, 1.0)
    np.add.at(demand, book.node, book.side * outcome.award_kw * (active + 1j * reactive))
    flow = solve_powerflow(network, demand)
    volt = np.abs(flow.voltage[1:])
    assert volt.min() >= limits.get("v_min", 0.9) - 1e-8
    assert volt.max() <= limits.get("v_max", 1.1) + 1e-8
    assert (flow.terminal_pu <= network.branches.rating_pu * (1 + 1e-8)).all()
    assert abs(flow.root_kw) <= limits.get("root_limit_kw", np.inf) * (1 + 1e-8)
    assert np.abs(flow.voltage - outcome.flow.voltage).max() < 1e-10


def test_negative_prices_appear_where_exports_jam(street: Street) -> None:
    outcome = clear(street(), solar_book(0.0, -0.3), -0.05, v_max=1.03)
    assert outcome.prices.energy.min() < -0.2
    assert outcome.prices.voltage.min() < 0


def test_parts_name_their_cause(street: Street) -> None:
    voltage = clear(street(), demand_book(0.0), 0.3, v_min=0.97).prices
    assert np.abs(voltage.voltage[1:]).min() > 0
    assert not voltage.congestion.any()
    congested = clear(street(), demand_book(0.0), 0.3, v_min=0.7, root_limit_kw=60.0).prices
    assert not congested.voltage.any()
    assert congested.congestion.min() > 0
    # The root limit is worth the same at every node but for the losses on the way.
    assert congested.congestion[0] == pytest.approx(congested.congestion[1:].min(), rel=0.1)
