"""What nobody can mean is refused in one line where it stands; what is merely extreme is cleared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tellegen.errors import InputError, TellegenError
from tellegen.grid.network import Network
from tellegen.market import Agreements, OrderBook, clear
from tellegen.records import ClearingStatus, Product

Build = Callable[..., Network]
ROOT = 0.3
MANY = 100_000


@pytest.fixture(scope="module")
def line(tree: Build) -> Network:
    return tree([0, 1], np.array([0.08 + 0.032j, 0.048 + 0.016j]))


def book(**changed: object) -> OrderBook:
    columns: dict[str, object] = {"price": [0.5, np.nan, 0.1, 0.2], "quantity_kw": [20.0, 10.0, 15.0, 5.0]}
    return OrderBook.of([1, 2, 2, 1], [1, 1, -1, -1], **{**columns, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value"), [("price", 2e6), ("quantity_kw", 2e12), ("slope", 2e12), ("kvar_per_kw", -1e9)]
)
def test_an_order_beyond_all_measure_is_refused_where_it_stands(column: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"row 2 has {column} beyond the limit of 1e\+"):
        book(**{column: [0.1, 0.1, value, 0.1]})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 1e13])
def test_inflexible_demand_beyond_all_measure_is_refused(line: Network, value: float) -> None:
    with pytest.raises(InputError, match="inflexible demand"):
        clear(line, book(), ROOT, fixed_kva=np.array([0, value, 0], dtype=complex))


@pytest.mark.parametrize("base", [np.inf, -np.inf, np.nan, 0.0, -1.0])
def test_a_base_that_is_no_power_is_refused(tree: Build, base: float) -> None:
    network = replace(tree([0], np.array([0.05 + 0.02j])), base_kva=base)
    with pytest.raises(TellegenError, match="base_kva"):
        clear(network, OrderBook.of([1], 1, 0.5, [5.0]), ROOT)


@pytest.mark.parametrize("value", [1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("column", ["price", "quantity_kw", "kvar_per_kw", "slope"])
def test_numbers_that_differ_by_twelve_digits_are_cleared(line: Network, column: str, value: float) -> None:
    column_of = {"price": 0.5, "quantity_kw": 20.0, "kvar_per_kw": 0.2, "slope": 0.1}
    values = [value, *[column_of[column]] * 3]
    outcome = clear(line, book(**{column: values}), ROOT)
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason
    assert np.isfinite(outcome.prices.energy).all()


@pytest.mark.parametrize("kind", ["same price", "distinct prices", "sloped", "power factors", "price-takers"])
def test_a_hundred_thousand_orders_at_one_node(line: Network, kind: str) -> None:
    rng = np.random.default_rng(0)
    price = {"same price": 0.33, "price-takers": np.nan}.get(kind, rng.uniform(0.1, 0.5, MANY))
    orders = OrderBook.of(
        np.full(MANY, 2), 1, price, 1e-4,
        slope=rng.uniform(10, 100, MANY) if kind == "sloped" else 0.0,
        kvar_per_kw=rng.uniform(-0.5, 0.5, MANY) if kind == "power factors" else 0.0,
    )  # fmt: skip
    outcome = clear(line, orders, ROOT)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason


def test_a_hundred_thousand_orders_over_many_nodes(street: Build) -> None:
    rng, network = np.random.default_rng(0), street()
    side = np.where(rng.random(MANY) < 0.5, 1, -1)
    orders = OrderBook.of(rng.integers(1, 13, MANY), side, rng.uniform(0.1, 0.5, MANY), 1e-4)
    outcome = clear(network, orders, ROOT)
    assert outcome.status == ClearingStatus.OPTIMAL, outcome.reason


def test_a_network_of_one_node_says_that_there_is_nothing_to_solve(tree: Build) -> None:
    network = tree([], np.zeros(0, dtype=complex))
    with pytest.raises(TellegenError, match="nothing to solve"):
        clear(network, OrderBook.of([0], 1, 0.5, [1.0]), ROOT)


def test_without_orders_the_root_serves_what_is_fixed(line: Network) -> None:
    outcome = clear(line, OrderBook.empty(), ROOT, fixed_kva=np.array([0, 5.0, 5j]))
    assert outcome.status == ClearingStatus.OPTIMAL
    assert outcome.flow.root_kw > 5.0


def test_limits_of_no_width_are_refused_and_those_of_a_hair_are_not(line: Network) -> None:
    with pytest.raises(InputError, match="v_min below v_max"):
        clear(line, book(), ROOT, v_min=1.0, v_max=1.0)
    outcome = clear(line, book(), ROOT, v_min=1.0, v_max=1.0 + 1e-12)
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason


@pytest.mark.parametrize("impedance", [-0.05 + 0.02j, 0.05 - 0.02j, -0.05 - 0.02j, 1e-12, 1e-9j])
def test_odd_impedances_are_cleared(tree: Build, impedance: complex) -> None:
    network = tree([0, 1], np.array([0.08 + 0.032j, impedance]))
    outcome = clear(network, book(), ROOT)
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason


@pytest.mark.parametrize("kw", [0.0, 1e-12, 1e12])
def test_agreements_and_reserve_of_any_size_are_cleared(line: Network, kw: float) -> None:
    held = OrderBook.of([1, 0], [-1, 1], [0.1, np.nan], [3.0, kw], product=Product.RESERVE_UP, participant=[4, -1])
    orders = OrderBook.concat(book(participant=np.arange(4)), held)
    outcome = clear(line, orders, ROOT, agreements=Agreements.of([0], [1], import_kw=kw))
    assert outcome.status != ClearingStatus.FALLBACK, outcome.reason
