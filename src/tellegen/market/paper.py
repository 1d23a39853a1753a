"""Paper: orders of nobody that hold every price within cap and floor, by optimality and not by clipping.

At every node where somebody trades stand offers at the cap and bids at the floor, the last of them as large as all that
is inflexible there, and before them a ladder of small steps around the price at the root. Where nothing else gives way,
paper does, so a node's price cannot pass its last step; and the ladder turns a knife edge (a hundredth of a watt that
moves a price from 0.14 to the cap) into a stair. Nobody is behind paper: what is taken of it is the root's energy, the
difference is rent, and the clearing is relaxed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.market.book import OrderBook
from tellegen.market.outcome import Clearing
from tellegen.market.parameters import Parameters
from tellegen.records import OPERATOR, ClearingStatus, Device, Orders, Product, Side
from tellegen.units import MICROS, IntArray

PAPER = -2
"""The participant of paper in an order book: nobody, and no supplier in a test of market power."""
TAKEN_KW = 1e-6
"""Less paper than this is rounding."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Steps of paper at a node, the same up and down.

    Attributes
    ----------
    quantity_w : of each step, from the inside out.
    spread_micros : how far from the price at the root each stands, micro-currency/kWh; where that is beyond the cap or
        the floor, it stands there.
    last_w : by how much the last step, at the cap or the floor, is larger than what is inflexible at its node.
    """

    quantity_w: tuple[int, ...] = (1_000, 1_000, 2_000, 4_000, 8_000)
    spread_micros: tuple[int, ...] = (20_000, 60_000, 200_000, 750_000, 2_000_000)
    last_w: int = 1_000


def paper_orders(
    node: IntArray, fixed_w: IntArray, root_price_micros: int, floor_micros: int, cap_micros: int, ladder: Ladder
) -> Orders:
    """Paper at some nodes.

    Parameters
    ----------
    node : int64[n], each once. fixed_w : int64[n] >= 0, most that may be inflexible there, drawn or fed in.
    root_price_micros : a price beyond cap or floor counts as the bound.

    Examples
    --------
    >>> ladder = Ladder((2000,), (250_000,))
    >>> rows = paper_orders(np.array([4]), np.array([3000]), 100_000, -1_000_000, 5_000_000, ladder)
    >>> rows.side.tolist(), rows.price_micros.tolist(), rows.quantity_w.tolist()
    ([-1, -1, 1, 1], [350000, 5000000, -150000, -1000000], [2000, 4000, 2000, 4000])
    """
    root = min(max(root_price_micros, floor_micros), cap_micros)
    spread = np.array(ladder.spread_micros, dtype=np.int64)
    up = np.append(np.minimum(root + spread, cap_micros), cap_micros)
    down = np.append(np.maximum(root - spread, floor_micros), floor_micros)
    steps = up.size
    quantity = np.empty((node.size, 2, steps), dtype=np.int64)
    quantity[:, :, :-1] = np.array(ladder.quantity_w, dtype=np.int64)
    quantity[:, :, -1] = (fixed_w + ladder.last_w)[:, None]
    side = np.broadcast_to(np.array([[Side.SELL], [Side.BUY]], dtype=np.int8), quantity.shape)
    price = np.broadcast_to(np.stack([up, down]), quantity.shape)
    rows = quantity.size
    nothing = np.zeros(rows, dtype=np.uint8)
    return Orders(
        customer=np.full(rows, OPERATOR, dtype=np.int32),
        period=nothing,
        device=np.full(rows, Device.LOAD, dtype=np.uint8),
        node=np.repeat(node, 2 * steps).astype(np.int32),
        product=np.full(rows, Product.ENERGY, dtype=np.uint8),
        side=side.ravel(),
        price_taker=nothing,
        price_micros=price.ravel().astype(np.int64),
        quantity_w=quantity.ravel(),
        var_per_kw=np.zeros(rows, dtype=np.int32),
    )


def inflexible_w(orders: Orders, nodes: int) -> IntArray:
    """What price-takers draw and feed in at each node, the larger of the two, int64[nodes], W."""
    taker = (orders.price_taker != 0) & (orders.product == Product.ENERGY)
    drawn, fed = (
        np.bincount(orders.node[rows], orders.quantity_w[rows].astype(np.float64), nodes)
        for rows in (taker & (orders.side == Side.BUY), taker & (orders.side == Side.SELL))
    )
    return np.asarray(np.ceil(np.maximum(drawn, fed)), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PaperTaken:
    """Where paper was taken: node int64[n], ascending; kw float64[n], what nobody withdraws there positive."""

    node: IntArray
    kw: NDArray[np.float64]

    @classmethod
    def none(cls) -> PaperTaken:
        """There was none."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0))

    @classmethod
    def of(cls, clearing: Clearing, paper: OrderBook, orders: int) -> PaperTaken:
        """Of a clearing whose book has so many orders before the paper."""
        node, place = np.unique(paper.node, return_inverse=True)
        signed = paper.side * clearing.award_kw[orders:]
        kw = np.bincount(place, signed, minlength=node.size).astype(np.float64)
        taken = np.abs(kw) > TAKEN_KW
        return cls(node[taken], kw[taken])


def without_paper(clearing: Clearing, orders: int) -> Clearing:
    """The outcome for the first so many rows of a book; relaxed where any of the paper behind them was taken."""
    taken = float(clearing.award_kw[orders:].sum()) > TAKEN_KW
    status = ClearingStatus.RELAXED if taken and clearing.status is ClearingStatus.OPTIMAL else clearing.status
    return replace(clearing, status=status, award_kw=clearing.award_kw[:orders], tie=clearing.tie[:orders])


def beyond_limits(clearing: Clearing, node: IntArray, rules: Parameters) -> NDArray[np.bool_]:
    """Nodes whose price of energy, as it would stand on record, is beyond cap or floor: their paper is used up."""
    micros = np.rint(clearing.prices.energy[node] * MICROS)
    return np.asarray((micros > round(rules.price_cap * MICROS)) | (micros < round(rules.price_floor * MICROS)))
