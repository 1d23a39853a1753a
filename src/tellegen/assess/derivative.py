"""Law 7's referee: a price is the derivative of welfare, as central differences of re-solved optima show it.

For a port (a node, or a connection of a book) and a small demand ``h`` that nobody values,

    price ~ (W(-h) - W(h)) / 2h,    W(h) = welfare of the whole market cleared again with h more demand at the port,

in active power for the energy price, in reactive power for the reactive one. Every term is a clearing of its own: the
quotient knows nothing of adjoints or multipliers. Step bids make welfare piecewise smooth: where an order is used up or
a limit starts to bind within ``2h``, the one-sided quotients differ and ``h`` is made smaller; a port that stays kinked
is reported as such, and its price is to lie between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tellegen.errors import TellegenError
from tellegen.grid.network import IntArray
from tellegen.market import Clearing, OrderBook
from tellegen.records import ClearingStatus, Product, Side

STEPS = (1e-2, 2e-3, 4e-4)
"""Demand steps as shares of `typical_kw`, tried from the largest: rounding grows as they shrink, kinks go."""
KINK = 1e-4
"""One-sided quotients that differ by more than this share of the price scale show a kink or strong curvature."""
PRICE_SCALE_MIN = 1e-3


class NoDerivativeError(TellegenError):
    """A market that has no optimum to differentiate."""


@dataclass(frozen=True, slots=True)
class Quotient:
    """One price beside the difference quotient.

    Attributes
    ----------
    port : node index, or connection; reactive : which price.
    price, quotient : currency/kWh (kvarh).
    one_sided : (less demand, more demand) quotients.
    step_kw : h.
    error : ``|price - quotient|`` relative to the larger of the price and the root's price.
    kinked : the one-sided quotients differ at the smallest step; `error` is then the distance of the price from the
        interval between them.
    """

    port: int
    reactive: bool
    price: float
    quotient: float
    one_sided: tuple[float, float]
    step_kw: float
    error: float
    kinked: bool


def price_quotients(
    solve: Callable[[OrderBook], Clearing],
    book: OrderBook,
    base: Clearing,
    ports: Iterable[int],
    *,
    root_price: float,
    typical_kw: float,
    steps: tuple[float, ...] = STEPS,
    price_of: Callable[[Clearing, int, bool], float] | None = None,
) -> list[Quotient]:
    """Compare energy and reactive prices at some ports with difference quotients.

    Parameters
    ----------
    solve : clears a book under the limits and root price of `base`.
    book : the orders of `base`.
    base : the clearing whose prices are judged.
    ports : as in ``book.node``.
    root_price : currency/kWh, the scale for prices near zero.
    typical_kw : size of a customer at a port; steps are relative to it.
    price_of : price at a port; a node's from ``base.prices`` where absent.

    Returns
    -------
    Two quotients per port, energy then reactive, ports in the order given.

    Raises
    ------
    NoDerivativeError : `base` or a re-solved market is a fallback, which has no optimum to differentiate.
    """
    read = _node_price if price_of is None else price_of
    if base.status == ClearingStatus.FALLBACK:
        raise NoDerivativeError(f"a fallback has no derivative: {base.reason}")
    scale = max(abs(root_price), PRICE_SCALE_MIN)

    def welfare(more: OrderBook) -> float:
        again = solve(OrderBook.concat(book, more))
        if again.status == ClearingStatus.FALLBACK:
            raise NoDerivativeError(f"the market cleared again is a fallback: {again.reason}")
        return again.welfare

    def at(port: int, product: Product) -> Callable[[float], float]:
        return lambda step_kw: welfare(
            OrderBook.of([port], Side.BUY if step_kw > 0 else Side.SELL, np.nan, abs(step_kw), product=product)
        )

    # Solved again as the others are, from the same start, so that what the start leaves in all of them cancels.
    here = welfare(OrderBook.empty())
    steps_kw = [share * typical_kw for share in steps]
    found = []
    for port in ports:
        for reactive in (False, True):
            value = at(port, Product.REACTIVE if reactive else Product.ENERGY)
            found.append(_compare(value, here, read(base, port, reactive), port, reactive, scale, steps_kw))
    return found


def _node_price(base: Clearing, port: int, reactive: bool) -> float:
    return float((base.prices.reactive if reactive else base.prices.energy)[port])


def _compare(
    welfare: Callable[[float], float],
    here: float,
    price: float,
    port: int,
    reactive: bool,
    scale: float,
    steps_kw: list[float],
) -> Quotient:
    size = max(abs(price), scale)
    for step in steps_kw:
        below, above = welfare(-step), welfare(step)
        less, more = (below - here) / step, (here - above) / step
        kinked = abs(less - more) > KINK * size
        if not kinked:
            break
    quotient = (less + more) / 2
    error = abs(price - quotient)
    if kinked:
        error = max(min(less, more) - price, price - max(less, more), 0.0)
    return Quotient(port, reactive, price, quotient, (less, more), step, error / size, kinked)


def sample_ports(outcome: Clearing, ports: IntArray, count: int) -> IntArray:
    """Ports to judge: dearest and cheapest first, then some spread evenly over the order of prices.

    >>> from types import SimpleNamespace
    >>> priced = SimpleNamespace(prices=SimpleNamespace(energy=np.array([0.3, 0.1, 0.2, 0.4])))
    >>> sample_ports(priced, np.array([0, 1, 2, 3]), 3).tolist()
    [1, 0, 3]
    """
    known = np.unique(ports)
    order = known[np.argsort(outcome.prices.energy[known], kind="stable")]
    return order[np.unique(np.linspace(0, order.size - 1, min(count, order.size)).round().astype(np.int64))]
