"""From orders to the variables of the search: ties merged, price-takers fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network
from tellegen.market.book import OrderBook
from tellegen.records import Product


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """The ways in which variables act on the network: demand at a node, in kW with its kvar, or in kvar alone.

    Attributes
    ----------
    node : int64[c]; active, reactive : float64[c], kW and kvar of demand that one unit adds.
    """

    node: IntArray
    active: FloatArray
    reactive: FloatArray

    def project(self, gradient: ComplexArray) -> FloatArray:
        """Derivatives with respect to channels, [..., c], of something with derivatives `gradient` [..., N]."""
        at = gradient[..., self.node]
        return np.asarray(at.real * self.active + at.imag * self.reactive)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Variables ``0 <= y <= width``; equal orders (same node, product, side, price) are one, shared pro rata.

    Attributes
    ----------
    node : int64[m]; width : float64[m], kW or kvar.
    active, reactive : float64[m], demand in kW and kvar that one unit of y adds at the node (signed by side).
    channel : int64[m], the place in `channels` of what y adds to; sign : float64[m], +1 for buyers, -1 for sellers.
    price, slope : float64[m], marginal cost of the step: ``price + slope * y``, a buyer's value counted negative.
    member : int64[orders], the variable of each order, -1 where it is not one.
    fixed_kva : complex128[N], demand of price-takers and of what cannot be moved.
    fixed_kw : float64[orders], award of orders that are not variables.
    """

    node: IntArray
    width: FloatArray
    active: FloatArray
    reactive: FloatArray
    channels: Channels
    channel: IntArray
    sign: FloatArray
    price: FloatArray
    slope: FloatArray
    member: IntArray
    fixed_kva: ComplexArray
    fixed_kw: FloatArray

    @classmethod
    def of(cls, network: Network, book: OrderBook, fixed_kva: ComplexArray | None) -> Steps:
        """Variables and fixed demand of a book.

        Raises
        ------
        InputError : an order at a node that the network does not have; demand that is not finite.
        """
        size = len(network.nodes)
        outside = (book.node < 0) | (book.node >= size)
        if outside.any():
            row = int(np.argmax(outside))
            raise InputError("orders", f"row {row}, node {book.node[row]}", f"is not one of the {size} network nodes")
        fixed = np.zeros(size, dtype=np.complex128)
        if fixed_kva is not None:
            given = np.asarray(fixed_kva, dtype=np.complex128)
            if given.shape != (size,) or not np.isfinite(given).all():
                raise InputError(
                    "inflexible demand", f"shape {given.shape}", f"must be {size} finite values, one per node"
                )
            fixed += given
        energy = book.product == Product.ENERGY
        active = np.where(energy, book.side, 0).astype(np.float64)
        reactive = np.where(energy, book.side * book.kvar_per_kw, book.side).astype(np.float64)
        taker = book.price_taker
        np.add.at(fixed, book.node[taker], (book.quantity_kw * (active + 1j * reactive))[taker])
        live = np.flatnonzero(~taker & (book.quantity_kw > 0))
        # A sloped order ties with none: its own row number tells it apart.
        alone = np.where(book.slope[live] > 0, live + 1, 0)
        keys = np.stack(
            [book.node[live], book.product[live], book.side[live], book.price[live], book.kvar_per_kw[live], alone]
        ).astype(np.float64)
        order = np.lexsort(keys[::-1])
        fresh = np.ones(live.size, dtype=bool)
        fresh[1:] = (np.diff(keys[:, order], axis=1) != 0).any(axis=0)
        group = np.cumsum(fresh) - 1
        first = live[order[fresh]]
        member = np.full(len(book), -1, dtype=np.int64)
        member[live[order]] = group
        channels, channel = _channels(book, first)
        return cls(
            node=book.node[first],
            width=np.bincount(group, weights=book.quantity_kw[live[order]], minlength=first.size).astype(np.float64),
            active=active[first],
            reactive=reactive[first],
            channels=channels,
            channel=channel,
            sign=book.side[first].astype(np.float64),
            price=-book.side[first] * book.price[first],
            slope=book.slope[first],
            member=member,
            fixed_kva=fixed,
            fixed_kw=np.where(taker, book.quantity_kw, 0.0),
        )

    def demand_kva(self, y: FloatArray) -> ComplexArray:
        """Demand at every node, complex128[N], when the variables stand at y."""
        demand = self.fixed_kva.copy()
        np.add.at(demand, self.node, y * (self.active + 1j * self.reactive))
        return demand

    def project(self, gradient: ComplexArray) -> FloatArray:
        """Derivatives with respect to y, [..., m], of something with derivatives `gradient` [..., N] (kW + j kvar)."""
        return np.asarray(self.channels.project(gradient)[..., self.channel] * self.sign)

    def cost(self, y: FloatArray) -> float:
        """Cost of sellers less value to buyers, currency/h."""
        return float(self.price @ y + 0.5 * (self.slope * y) @ y)

    def awards(self, y: FloatArray, quantity_kw: FloatArray) -> FloatArray:
        """Award of each order: its share of its variable in proportion to quantity."""
        award = self.fixed_kw.copy()
        part = self.member >= 0
        share = y[self.member[part]] / self.width[self.member[part]]
        award[part] = np.minimum(share, 1.0) * quantity_kw[part]
        return award


def _channels(book: OrderBook, first: IntArray) -> tuple[Channels, IntArray]:
    """The channels of the variables that begin with the orders `first`, and which of them each variable acts on."""
    energy = book.product[first] == Product.ENERGY
    ratio = np.where(energy, book.kvar_per_kw[first], np.inf)
    order = np.lexsort([ratio, book.node[first]])
    fresh = np.ones(order.size, dtype=bool)
    fresh[1:] = (np.diff(book.node[first][order]) != 0) | (ratio[order][1:] != ratio[order][:-1])
    channel = np.empty(order.size, dtype=np.int64)
    channel[order] = np.cumsum(fresh) - 1
    chosen = order[fresh]
    return (
        Channels(
            node=book.node[first[chosen]],
            active=energy[chosen].astype(np.float64),
            reactive=np.where(energy[chosen], ratio[chosen], 1.0),
        ),
        channel,
    )
