"""Where a clearing starts: the record alone, so that memory decides nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from tellegen.grid import Engine, best_engine
from tellegen.grid.network import Network
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.market import (
    Facts,
    OrderBook,
    Parameters,
    Start,
    can_start,
    clear,
    engine_name,
    start_after,
    start_of,
    to_records,
)
from tellegen.records import ClearingStatus, Orders, RecordError, Table

RECORDED = Path(__file__).with_name("recorded_gates.json")
T = TypeVar("T", bound=Table)
Kept = tuple[Network, int, list[tuple[Orders, list[int]]]]


@pytest.fixture(scope="module")
def recorded() -> Kept:
    """Gates of an evening as they stood on record before starts did: books, and prices of the chain in memory."""
    said = json.loads(RECORDED.read_text())
    network = synthetic_feeder(20, phases=3, seed=4).network
    limits = np.where(network.v_min > 0, said["v_min"], 0.0)
    ratings = replace(network.branches, rating_pu=np.full(network.branches.rating_pu.size, np.inf))
    network = replace(network, v_min=limits, v_max=np.full(limits.size, 1.5), branches=ratings)
    gates = []
    for gate in said["gates"]:
        columns = gate["orders"] | {"period": [0] * len(gate["orders"]["node"])}
        gates.append((Orders(**{name: np.array(values) for name, values in columns.items()}), gate["energy"]))
    return network, said["root_price_micros"], gates


def facts_of(network: Network, orders: Orders, root: int, start: Start | None, engine: Engine) -> Facts:
    book = OrderBook.from_orders(orders)
    return to_records(clear(network, book, root / 1e6, start=start, engine=engine), orders, root_price_micros=root)


def decoded(table: T) -> T:
    """A table as it is read back from the record."""
    return type(table).from_bytes(table.rows().tobytes())


@pytest.mark.parametrize("engine", Engine)
def test_prices_are_those_of_the_chain_that_was_kept_in_memory(recorded: Kept, engine: Engine) -> None:
    """Two micro: each is rounded by half of one, and optima are found to a millionth of a currency unit."""
    if engine is Engine.SWEEPS and best_engine() is not engine:
        pytest.skip("compiled loops need the extra 'fast'")
    network, root, gates = recorded
    start: Start | None = None
    for orders, energy in gates:
        facts = facts_of(network, orders, root, start, engine)
        assert facts.clearing.status[0] == ClearingStatus.OPTIMAL
        assert np.abs(facts.prices.energy - np.array(energy)).max() <= 2
        start = start_of(facts.prices, facts.starts, facts.awards, orders)


def test_a_start_from_decoded_records_is_the_start_from_the_tables(recorded: Kept) -> None:
    """In memory or read back, on the network at hand or on a copy of it: the same integers, gate by gate."""
    network, root, gates = recorded
    start: Start | None = None
    again: Start | None = None
    for orders, _ in gates:
        facts = facts_of(network, orders, root, start, Engine.SUPERLU)
        other = facts_of(replace(network), orders, root, again, Engine.SUPERLU)
        names = ("awards", "schedules", "prices", "starts", "clearing")
        for one, two in ((getattr(facts, name), getattr(other, name)) for name in names):
            assert one.equals(two)
        start = start_of(facts.prices, facts.starts, facts.awards, orders)
        again = start_of(decoded(facts.prices), decoded(facts.starts), decoded(facts.awards), decoded(orders))


def test_the_same_book_again_needs_fewer_programs(recorded: Kept) -> None:
    network, root, gates = recorded
    orders = gates[0][0]
    first = facts_of(network, orders, root, None, Engine.SUPERLU)
    start = start_of(first.prices, first.starts, first.awards, orders)
    again = facts_of(network, orders, root, start, Engine.SUPERLU)
    assert again.clearing.iterations[0] < first.clearing.iterations[0]


def test_duals_come_back_bit_for_bit_and_partly_taken_steps_by_what_they_are(recorded: Kept) -> None:
    network, root, gates = recorded
    orders = gates[0][0]
    outcome = clear(network, OrderBook.from_orders(orders), root / 1e6)
    facts = to_records(outcome, orders, root_price_micros=root)
    start = start_of(facts.prices, decoded(facts.starts), facts.awards, orders)
    assert outcome.starts is not None
    assert start.dual.tobytes() == outcome.starts.dual_bits.tobytes()
    assert start.row_key.tolist() == outcome.starts.row_key.tolist()
    award = facts.awards.by_order(len(orders))
    some = np.flatnonzero((award > 0) & (award < orders.quantity_w * 1000))
    assert some.size
    assert set(start.marginal.values()) >= {award[k] / 1e6 for k in some}


def test_a_start_of_another_network_is_left_alone(recorded: Kept, street: Callable[..., Network]) -> None:
    network, root, gates = recorded
    facts = facts_of(network, gates[0][0], root, None, Engine.SUPERLU)
    start = start_of(facts.prices, facts.starts, facts.awards, gates[0][0])
    book = OrderBook.of([9], 1, 0.4, 3.0)
    cold, warm = (clear(street(), book, 0.25, start=s) for s in (None, start))
    assert warm.prices.energy.tolist() == cold.prices.energy.tolist()
    assert warm.evidence.iterations == cold.evidence.iterations


def test_a_fallback_leaves_nothing_to_start_from(recorded: Kept) -> None:
    network, root, gates = recorded
    orders = gates[0][0]
    book = OrderBook.from_orders(orders)
    outcome = clear(network, book, root / 1e6, parameters=Parameters(iterations_max=0))
    facts = to_records(outcome, orders, root_price_micros=root)
    assert facts.clearing.status[0] == ClearingStatus.FALLBACK
    assert not can_start(facts.clearing)
    assert not len(facts.starts)
    assert start_after(outcome, book) is None


def test_awards_of_other_orders_are_refused(recorded: Kept) -> None:
    network, root, gates = recorded
    orders = gates[0][0]
    facts = facts_of(network, orders, root, None, Engine.SUPERLU)
    for wrong in (orders.take(np.arange(5)), orders.take(np.arange(len(orders))[::-1])):
        with pytest.raises(RecordError, match="orders"):
            start_of(facts.prices, facts.starts, facts.awards, wrong)


@pytest.mark.parametrize("engine", Engine)
def test_the_name_of_an_engine_fits_its_column(engine: Engine) -> None:
    program, elimination, digest = engine_name(engine).encode("ascii").split(b"/")
    assert len(engine_name(engine)) <= 32
    assert program
    assert elimination.decode() == engine
    int(digest, 16)
    assert engine_name(Engine.SUPERLU) != engine_name(Engine.SWEEPS)
