"""Corners in which auctions have gone wrong before: one table, on a balanced and on a three-phase network.

Ties, must-serve and must-run, one side alone, nothing at all, exact meetings, zero prices and quantities. The rows
follow what users have reported of GridLAB-D's double auction (equal bids; must-serve load; null clearing and its price;
zero-quantity bids).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from tellegen.grid.network import Network
from tellegen.market import OrderBook, Parameters, clear
from tellegen.records import ClearingStatus

ROOT = 0.3
SCARCE = ROOT + Parameters().penalty_price
FREE, ISLAND = None, 0.0
OPTIMAL, RELAXED = ClearingStatus.OPTIMAL, ClearingStatus.RELAXED
Rows = list[tuple[int, int, float, float]]
MUST = np.nan


@dataclass(frozen=True)
class Corner:
    """Orders (bus 1..3, side, price, kW) with the awards and the price, or range of prices, that follow."""

    orders: Rows
    awards: list[float]
    price: float | tuple[float, float]
    root_limit_kw: float | None = ISLAND
    root_price: float = ROOT
    status: ClearingStatus = OPTIMAL
    tied: list[int] = field(default_factory=list)


CORNERS = {
    "empty book": Corner([], [], ROOT, FREE),
    "empty book on an island": Corner([], [], (-SCARCE, ROOT + SCARCE)),
    "one buyer, root sells": Corner([(1, 1, 0.5, 4.0)], [4.0], ROOT, FREE),
    "one buyer below the root": Corner([(1, 1, 0.2, 4.0)], [0.0], ROOT, FREE),
    "one seller, root buys": Corner([(1, -1, 0.1, 4.0)], [4.0], ROOT, FREE),
    "one seller above the root": Corner([(1, -1, 0.4, 4.0)], [0.0], ROOT, FREE),
    "buyers only, nothing to buy": Corner([(1, 1, 0.5, 4.0), (2, 1, 0.4, 2.0)], [0.0, 0.0], (0.5, SCARCE + ROOT)),
    "sellers only, nobody to sell to": Corner([(1, -1, 0.5, 4.0), (2, -1, 0.4, 2.0)], [0.0, 0.0], (-SCARCE, 0.4)),
    "no overlap": Corner([(1, 1, 0.2, 4.0), (2, -1, 0.6, 4.0)], [0.0, 0.0], (0.2, 0.6)),
    "marginal seller": Corner([(1, 1, 0.5, 3.0), (2, -1, 0.1, 2.0), (3, -1, 0.4, 2.0)], [3.0, 2.0, 1.0], 0.4),
    "marginal buyer": Corner([(1, 1, 0.5, 3.0), (2, 1, 0.2, 3.0), (3, -1, 0.1, 4.0)], [3.0, 1.0, 4.0], 0.2),
    "quantities meet": Corner([(1, 1, 0.5, 3.0), (2, -1, 0.1, 3.0)], [3.0, 3.0], (0.1, 0.5)),
    "prices meet": Corner([(1, 1, 0.4, 3.0), (1, -1, 0.4, 2.0), (2, 1, 0.9, 1.0)], [], 0.4),
    "equal buyers": Corner(
        [(1, 1, 0.4, 10.0), (1, 1, 0.4, 20.0), (2, -1, 0.1, 15.0)], [5.0, 10.0, 15.0], 0.4, tied=[0, 1]
    ),
    "equal sellers": Corner(
        [(1, -1, 0.2, 10.0), (1, -1, 0.2, 20.0), (2, 1, 0.9, 15.0)], [5.0, 10.0, 15.0], 0.2, tied=[0, 1]
    ),
    "all bid the root price": Corner([(1, 1, ROOT, 5.0), (1, -1, ROOT, 5.0), (2, 1, 0.9, 1.0)], [], ROOT, FREE),
    "zero quantity": Corner(
        [(1, 1, 0.9, 0.0), (2, -1, 0.0, 0.0), (1, 1, 0.5, 3.0), (3, -1, 0.4, 9.0)], [0.0, 0.0, 3.0, 3.0], 0.4
    ),
    "nothing but zero quantities": Corner([(1, 1, 0.9, 0.0), (2, -1, MUST, 0.0)], [0.0, 0.0], (-SCARCE, ROOT + SCARCE)),
    "zero price": Corner([(1, -1, 0.0, 5.0), (2, 1, 0.1, 3.0)], [3.0, 3.0], 0.0),
    "zero price at the root": Corner([(1, -1, 0.0, 5.0), (2, 1, 0.1, 3.0), (3, -1, 0.1, 2.0)], [], 0.0, FREE, 0.0),
    "everything costs nothing": Corner([(1, -1, 0.0, 5.0), (2, 1, 0.0, 3.0)], [], 0.0, FREE, 0.0),
    "negative price": Corner([(1, -1, -0.2, 5.0), (2, 1, -0.1, 3.0)], [3.0, 3.0], -0.2),
    "must-serve met": Corner([(1, 1, MUST, 3.0), (2, -1, 0.1, 2.0), (3, -1, 0.7, 4.0)], [3.0, 2.0, 1.0], 0.7),
    "must-serve is served before any bid": Corner(
        [(1, 1, MUST, 3.0), (2, 1, 4.9, 3.0), (3, -1, 0.1, 4.0)], [3.0, 1.0, 4.0], 4.9
    ),
    "must-serve beyond supply": Corner(
        [(1, 1, MUST, 5.0), (2, 1, 0.9, 1.0), (3, -1, 0.1, 3.0)], [5.0, 0.0, 3.0], ROOT + SCARCE, status=RELAXED
    ),
    "must-run met": Corner([(1, -1, MUST, 3.0), (2, 1, 0.5, 2.0), (3, 1, 0.1, 4.0)], [3.0, 2.0, 1.0], 0.1),
    "must-run beyond demand": Corner(
        [(1, -1, MUST, 5.0), (2, -1, 0.1, 1.0), (3, 1, 0.9, 3.0)], [5.0, 0.0, 3.0], ROOT - SCARCE, status=RELAXED
    ),
    "must-run meets must-serve": Corner([(1, -1, MUST, 3.0), (2, 1, MUST, 3.0)], [3.0, 3.0], (-9.0, 9.0), 1.0),
    "at the root itself": Corner([(0, 1, 0.5, 2.0), (0, -1, 0.1, 7.0)], [2.0, 7.0], ROOT, FREE),
    "a single node": Corner(
        [(1, 1, 0.5, 3.0), (1, 1, 0.2, 3.0), (1, -1, 0.1, 2.0), (1, -1, 0.4, 2.0)], [3.0, 0.0, 2.0, 1.0], 0.4
    ),
    "a wash trade": Corner([(1, 1, 0.9, 5.0), (1, -1, 0.0, 5.0)], [5.0, 5.0], ROOT, FREE),
}


@pytest.fixture(scope="module", params=[False, True], ids=["balanced", "three phases"])
def network(request: pytest.FixtureRequest, tree: Callable[..., Network], phases: Callable[..., Network]) -> Network:
    """Three buses on wires so thick that losses are a millionth."""
    thick = tree([0, 0, 0], np.full(3, 1e-5 + 1e-5j))
    return phases(thick) if request.param else thick


@pytest.mark.parametrize("name", CORNERS)
def test_corners_of_the_auction(network: Network, name: str) -> None:
    corner = CORNERS[name]
    # On three phases each bus has its orders on another phase: the root, the island's limit, is one for all.
    at = [bus if network.balanced else 3 * bus + bus % 3 for bus, *_ in corner.orders]
    _, side, price, quantity = zip(*corner.orders, strict=True) if corner.orders else ((), (), (), ())
    book = OrderBook.of(at, side, price, quantity) if at else OrderBook.empty()
    outcome = clear(network, book, corner.root_price, root_limit_kw=corner.root_limit_kw)
    assert outcome.status == corner.status, (outcome.reason, outcome.relaxations)
    assert np.isfinite(outcome.prices.energy).all()
    assert (outcome.prices.low <= outcome.prices.energy).all()
    assert (outcome.prices.energy <= outcome.prices.high).all()
    assert (outcome.award_kw >= 0).all()
    assert (outcome.award_kw <= book.quantity_kw).all()
    if corner.awards:
        np.testing.assert_allclose(outcome.award_kw, corner.awards, atol=1e-3)
    low, high = corner.price if isinstance(corner.price, tuple) else (corner.price, corner.price)
    tiny = 1e-3
    assert outcome.prices.energy.min() >= low - tiny
    assert outcome.prices.energy.max() <= high + tiny
    assert outcome.prices.energy == pytest.approx(np.full(len(network.nodes), outcome.prices.energy[0]), abs=tiny)
    for k in corner.tied:
        assert outcome.tie[k] == outcome.tie[corner.tied[0]] >= 0
    # What nobody asked for does not pass the root.
    if corner.root_limit_kw == ISLAND and corner.status == OPTIMAL:
        assert abs(outcome.flow.root_kw) < 1e-5
