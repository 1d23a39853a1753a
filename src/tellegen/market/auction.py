"""The double auction on a copper plate: one price for a community whose wires do not bind, in exact integers.

Orders are sorted by price; the volume is the largest at which every unit is worth at least what it costs. Every uniform
price at which nobody would rather have another award lies in one interval, between the orders just served and the
orders just left out; its middle settles. Where wires may bind, `tellegen.market.clear` prices every node instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import InputError
from tellegen.records import Side
from tellegen.units import MICROS, ROW_LIMIT, IntArray, allocate, check_rows, exact_sum, tie_hash


@dataclass(frozen=True, slots=True, eq=False)
class Auction:
    """The outcome of a double auction.

    Attributes
    ----------
    award_w : int64[n], what each order got, 0..quantity, side as the order.
    price_micros : the uniform price, micro-currency/kWh: the middle of the range, half a micro goes down.
    low_micros, high_micros : the range of prices that leave every order content with its award.
    volume_w : power that changes hands, the root's included.
    root_w : power taken from the root, negative where it is given to it; purchases less sales of the orders.
    welfare_nanos_per_h : nano-currency per hour, value to buyers less cost of sellers and of the root; price-takers
        count at the cap (buyers) or the floor (sellers).
    """

    award_w: IntArray
    price_micros: int
    low_micros: int
    high_micros: int
    volume_w: int
    root_w: int
    welfare_nanos_per_h: int


def double_auction(
    side: ArrayLike,
    price_micros: ArrayLike,
    quantity_w: ArrayLike,
    *,
    price_taker: ArrayLike | None = None,
    root_price_micros: int | None = None,
    root_limit_w: int | None = None,
    price_floor_micros: int = -MICROS,
    price_cap_micros: int = 5 * MICROS,
    context: str = "",
) -> Auction:
    """Clear a book of step orders without a network.

    Parameters
    ----------
    side : int[n], `Side`: +1 buys, -1 sells.
    price_micros : int[n], limit price in micro-currency/kWh.
    quantity_w : int[n] >= 0, the most that is wanted, W.
    price_taker : bool[n], orders that buy up to the cap or sell down to the floor; none where absent.
    root_price_micros : the price at which the root buys and sells; None: the community is an island.
    root_limit_w : largest power through the root, both ways; None: no limit.
    price_floor_micros, price_cap_micros : ends of the range where no order gives one.
    context : names the auction where single watts are allocated among ties.

    Returns
    -------
    Auction. The volume is the largest among those of the largest welfare. Orders at the marginal price on the long side
    share in proportion to quantity, whole watts by largest remainder with ties by hash, before the root at that price.

    Raises
    ------
    InputError : a row that is no order; a root limit without a price.
    QuantityError : numbers beyond a row (2^31), or not integers.

    Examples
    --------
    Two buyers, two sellers. The second buyer and the dear seller meet at no price; any price from 12 to 20 cents
    supports the trade.

    >>> result = double_auction([1, 1, -1, -1], [300_000, 120_000, 100_000, 200_000], [500, 400, 500, 400])
    >>> result.award_w.tolist(), result.price_micros, (result.low_micros, result.high_micros)
    ([500, 0, 500, 0], 160000, (120000, 200000))
    """
    direction, price, quantity = (
        check_rows(values, what) for values, what in ((side, "side"), (price_micros, "price"), (quantity_w, "quantity"))
    )
    _check(direction, price, quantity, price_floor_micros, price_cap_micros)
    if price_taker is not None:
        taker = np.asarray(price_taker, dtype=bool)
        price = np.where(taker, np.where(direction == Side.BUY, price_cap_micros, price_floor_micros), price)
    buy = np.flatnonzero((direction == Side.BUY) & (quantity > 0))
    sell = np.flatnonzero((direction == Side.SELL) & (quantity > 0))
    root = _root_order(price, quantity, buy, sell, root_price_micros, root_limit_w)
    bids = _Ladder.of(buy, -price[buy], quantity[buy], root if root is not None and root[0] == Side.BUY else None)
    asks = _Ladder.of(sell, price[sell], quantity[sell], root if root is not None and root[0] == Side.SELL else None)
    # The most that both sides agree to at some price: it is found at a price that a seller names.
    volume = int(np.minimum(asks.upto(asks.rank), bids.upto(-asks.rank)).max(initial=0))
    award = np.zeros(direction.size, dtype=np.int64)
    served_buy, left_buy, given = bids.fill(volume, award, f"buy/{context}")
    served_sell, left_sell, taken = asks.fill(volume, award, f"sell/{context}")
    below = [served_sell, None if left_buy is None else -left_buy]
    above = [None if served_buy is None else -served_buy, left_sell]
    low = max((end for end in below if end is not None), default=price_floor_micros)
    high = min((end for end in above if end is not None), default=price_cap_micros)
    if root is not None and given + taken < root[2]:
        # A root that could take or give one more watt holds the price.
        low = high = root[1]
    root_w = taken - given
    value = exact_sum(direction * award * price) - root_w * (root_price_micros or 0)
    return Auction(award, (low + high) // 2, low, high, volume, root_w, value)


def _check(side: IntArray, price: IntArray, quantity: IntArray, floor: int, cap: int) -> None:
    if not side.shape == price.shape == quantity.shape or side.ndim != 1:
        raise InputError("auction", "orders", "must have one side, price and quantity each")
    if not floor < cap:
        raise InputError("auction", f"price floor {floor}", f"must be below the cap {cap}")
    for bad, problem in (
        (np.abs(side) != 1, "has a side that is neither +1 (buy) nor -1 (sell)"),
        (quantity < 0, "has a negative quantity; a sell order injects"),
        ((price < floor) | (price > cap), f"has a price outside {floor} to {cap} micro-currency/kWh"),
    ):
        if bad.any():
            raise InputError("auction", f"row {int(np.argmax(bad))}", problem)


_Root = tuple[Side, int, int]
"""Side, price and quantity of the root's order."""


def _root_order(
    price: IntArray, quantity: IntArray, buy: IntArray, sell: IntArray, root_price: int | None, limit: int | None
) -> _Root | None:
    """The one order that the root gives, if any: it buys where there is too much at its price, else it sells."""
    if root_price is None:
        if limit is not None:
            raise InputError("auction", f"root limit {limit} W", "needs a root price")
        return None
    if limit is not None and limit < 0:
        raise InputError("auction", f"root limit {limit} W", "must not be negative")
    wanted = exact_sum(quantity[buy][price[buy] > root_price])
    offered = exact_sum(quantity[sell][price[sell] < root_price])
    most = exact_sum(quantity) + 1 if limit is None else limit
    return None if most == 0 else (Side.BUY if offered > wanted else Side.SELL, root_price, most)


@dataclass(frozen=True, slots=True, eq=False)
class _Ladder:
    """One side of the book, best first, the root behind others at its price.

    `row` of the book, -1 for the root; `rank` is the price of sellers, minus the price of buyers; `total` of quantities
    up to each.
    """

    row: NDArray[np.intp]
    rank: IntArray
    quantity: IntArray
    total: IntArray

    @classmethod
    def of(cls, row: NDArray[np.intp], rank: IntArray, quantity: IntArray, root: _Root | None) -> _Ladder:
        order = np.argsort(rank)
        row, rank, quantity = row[order], rank[order], quantity[order]
        if root is not None:
            own = -root[1] if root[0] == Side.BUY else root[1]
            at = np.searchsorted(rank, own, side="right")
            row, rank, quantity = (np.insert(x, at, y) for x, y in ((row, -1), (rank, own), (quantity, root[2])))
        if exact_sum(quantity) >= ROW_LIMIT**2:
            raise InputError("auction", "the quantities", "add up to more than is counted exactly")
        return cls(row, rank, quantity, np.cumsum(quantity))

    def upto(self, rank: IntArray) -> IntArray:
        """Quantity at ranks up to (and with) the given ones."""
        place = np.searchsorted(self.rank, rank, side="right")
        return np.append(0, self.total)[place]

    def fill(self, volume: int, award: IntArray, context: str) -> tuple[int | None, int | None, int]:
        """Serve `volume` best first.

        Returns
        -------
        The last rank that was served, the first rank that was not served in full, and what the root's order got.
        """
        if volume == 0:
            return None, int(self.rank[0]) if self.rank.size else None, 0
        # The marginal rank is the first up to which there is enough.
        margin = int(self.rank[np.searchsorted(self.total, volume)])
        first, last = np.searchsorted(self.rank, margin, side="left"), np.searchsorted(self.rank, margin, side="right")
        own = slice(first, last - int(self.row[last - 1] < 0))
        rest, whole = volume - int(self.total[first - 1] if first else 0), int(self.quantity[own].sum())
        got = self.quantity.copy()
        got[own.stop :] = 0
        got[own.stop : last] = max(rest - whole, 0)
        if rest < whole:
            got[own] = allocate(rest, self.quantity[own], tie_hash(f"auction/{context}", self.row[own]))
        award[self.row[self.row >= 0]] = got[self.row >= 0]
        partly = rest < int(self.quantity[first:last].sum())
        left = margin if partly else int(self.rank[last]) if last < self.rank.size else None
        return margin, left, int(got[self.row < 0].sum())
