"""Several local optima: one rule decides between them, and history has no say.

case33bw as in studies of where convex relaxations fail: low load, offers at -0.2, an export cap of 1 MW. Whoever is
paid to take energy burns it in the wires, the cost is concave, and every search stays on the slope where it began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tellegen.assess.peers.instance import Instance
from tellegen.assess.peers.programs import ipopt
from tellegen.grid import load_case
from tellegen.grid.network import Network
from tellegen.market import Clearing, OrderBook, Parameters, Start, clear, start_after
from tellegen.records import ClearingStatus

ONE = Parameters(starts=0)
LIMITS = {"v_min": 0.9, "v_max": 1.05, "root_limit_kw": 1000.0}


@cache
def paid_to_burn(seed: int) -> tuple[Network, OrderBook]:
    """30 % of the load at falling values, ten solar parks of 900 kW that pay 0.2 to feed in."""
    pytest.importorskip("pandapower", reason="case33bw comes with the extra 'grids'")
    case = load_case("pandapower:case33bw")
    rng, free = np.random.default_rng(seed), case.network.free
    demand = np.bincount(case.loads.node, case.loads.p_kw, minlength=len(case.network.nodes))[free] * 0.3
    value, slope = rng.uniform(0.8, 1.6, free.size), rng.uniform(0.5, 1.0, free.size)
    buy = OrderBook.of(free, 1, value, demand, slope=slope / np.maximum(demand, 1.0))
    return case.network, OrderBook.concat(buy, OrderBook.of(rng.choice(free, 10, replace=False), -1, -0.2, 900.0))


@cache
def chosen(seed: int) -> Clearing:
    return clear(*paid_to_burn(seed), 1.0, **LIMITS)


@pytest.mark.parametrize("seed", [0, 1])
def test_of_several_optima_the_best_is_taken_and_the_others_are_counted(seed: int) -> None:
    best, alone = chosen(seed), clear(*paid_to_burn(seed), 1.0, parameters=ONE, **LIMITS)
    assert best.status == alone.status == ClearingStatus.OPTIMAL
    assert best.welfare > alone.welfare + 0.1
    assert best.evidence.choice.starts == Parameters().starts
    assert best.evidence.choice.optima > 1
    assert best.evidence.choice.spread >= best.welfare - alone.welfare - 1e-6
    assert best.prices.energy.min() < 0
    assert best.evidence.kkt_residual <= 1e-6


def starts_at(seed: int) -> list[Start]:
    """Neighbouring intervals: others' weather, other limits, and the poorer optimum of this very one."""
    network, book = paid_to_burn(seed)
    sells = book.side < 0
    rng = np.random.default_rng(9)
    clouds = [replace(book, quantity_kw=np.where(sells & (rng.random(len(book)) < 0.5), 0.0, book.quantity_kw))]
    cleared = [(clear(network, sky, 1.0, parameters=ONE, **LIMITS), sky) for sky in [book, *clouds]]
    cleared.append((clear(network, book, 1.0, parameters=ONE, v_min=0.9, v_max=1.05, root_limit_kw=3000.0), book))
    starts = [start_after(one, sky) for one, sky in cleared]
    return [start for start in starts if start is not None]


def test_the_interval_before_does_not_decide_which_optimum_it_is() -> None:
    network, book = paid_to_burn(1)
    cold = chosen(1)
    alone = [clear(network, book, 1.0, parameters=ONE, start=start, **LIMITS).welfare for start in starts_at(1)]
    assert min(alone) < cold.welfare - 0.1
    for start in starts_at(1):
        again = clear(network, book, 1.0, start=start, **LIMITS)
        assert again.welfare == pytest.approx(cold.welfare, abs=1e-5)
        np.testing.assert_allclose(again.prices.energy, cold.prices.energy, atol=2e-6)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_ipopt_finds_nothing_better(seed: int) -> None:
    """Ipopt stays on the slope where it starts too; wherever that ends, the choice of all is no worse."""
    pytest.importorskip("casadi", reason="Ipopt needs CasADi")
    network, book = paid_to_burn(seed)
    instance = Instance("burn", network, (book,), np.array([1.0]), **LIMITS)  # type: ignore[arg-type]
    award = ipopt.solve(instance.arrays())["award"][0]
    flow = instance.flow(0, award)
    assert np.abs(flow.voltage).max() < 1.05 + 1e-6
    assert flow.root_kw > -1000.0 - 1e-2
    theirs = -instance.cost(0, award) - flow.root_kw
    assert theirs <= chosen(seed).welfare + 0.02  # what the last digits of its limits are worth
    assert theirs == pytest.approx(chosen(seed).welfare, abs=10.0)


def test_nothing_is_run_again_where_no_price_is_negative(street: Callable[..., Network]) -> None:
    book = OrderBook.of([9, 12, 5], [1, 1, -1], [0.5, 0.6, 0.0], [30.0, 30.0, 10.0])
    cleared = clear(street(), book, 0.2, v_min=0.97)
    assert cleared.limits
    assert cleared.evidence.choice.starts == 0
    assert cleared.evidence.choice.optima == 1


def test_a_negative_root_price_is_searched_again_and_may_well_have_one_optimum(street: Callable[..., Network]) -> None:
    book = OrderBook.of([9, 12, 5], [1, 1, -1], [0.5, 0.1, -0.3], [3.0, 3.0, 4.0])
    cleared = clear(street(), book, -0.15)
    assert cleared.status == ClearingStatus.OPTIMAL
    assert cleared.award_kw.tolist() == [3.0, 3.0, 4.0]
    assert cleared.evidence.choice.starts > 0
    assert cleared.evidence.choice.optima == 1


def test_twins_are_told_apart_by_their_place_in_the_list(tree: Callable[..., Network]) -> None:
    """Two equal branches, one kW too many for the root: either could burn it, and every run picks the same."""
    fork = tree([0, 1, 1], np.array([0.02, 0.4, 0.4]) + 0j)
    book = OrderBook.of([2, 3], -1, -0.2, [30.0, 30.0])
    base = clear(fork, book, 0.1, root_limit_kw=20.0, v_max=1.5)
    assert base.status == ClearingStatus.OPTIMAL, base.reason
    assert base.award_kw.max() > base.award_kw.min() + 1.0
    for kw in ([30.0, 0.0], [0.0, 30.0]):
        other = replace(book, quantity_kw=np.array(kw))
        start = start_after(clear(fork, other, 0.1, root_limit_kw=20.0, v_max=1.5), other)
        again = clear(fork, book, 0.1, root_limit_kw=20.0, v_max=1.5, start=start)
        np.testing.assert_allclose(again.award_kw, base.award_kw, atol=1e-5)
