"""From orders to the variables of the search: ties merged, price-takers fixed, channels to the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.network import ComplexArray, FloatArray, IntArray
from tellegen.market.book import OrderBook
from tellegen.records import Product, Side


class Scenario(IntEnum):
    """States of the network that a dispatch must be able to bear: as dispatched, all reserve up or all down called."""

    DISPATCH = 0
    UP = 1
    DOWN = 2


class Effect(IntEnum):
    """What a channel does: it moves demand, or it moves demand when reserve is called, or it asks for reserve."""

    DEMAND = 0
    OFFER_UP = 1
    OFFER_DOWN = 2
    REQUIRE_UP = 3
    REQUIRE_DOWN = 4


_ACTIVATION = np.array([[1.0, 0, 0, 0, 0], [1.0, 1.0, 0, 0, 0], [1.0, 0, -1.0, 0, 0]])
"""Demand that one unit of a channel adds in each `Scenario` (rows), by `Effect`; what is sold counts negative."""
_RESERVES = (
    (Scenario.UP, Effect.OFFER_UP, Effect.REQUIRE_UP),
    (Scenario.DOWN, Effect.OFFER_DOWN, Effect.REQUIRE_DOWN),
)
DEMAND_KVA_MOST = 1e12
"""More at one place is a mistake in a file and not a demand."""


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """The ways in which variables act on the network: demand at a place, in kW with its kvar, or in kvar alone.

    Attributes
    ----------
    place : int64[c]; active, reactive : float64[c], kW and kvar of demand that one unit adds.
    effect : int64[c], `Effect`.
    group : int64[c], participants whose variables stand in one balance of their own (-1: none).
    """

    place: IntArray
    active: FloatArray
    reactive: FloatArray
    effect: IntArray
    group: IntArray
    _called: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_called", _ACTIVATION[:, self.effect])

    def take(self, among: IntArray) -> Channels:
        """Some of them."""
        return Channels(
            self.place[among], self.active[among], self.reactive[among], self.effect[among], self.group[among]
        )

    def activation(self, scenario: int) -> FloatArray:
        """Demand that one unit adds in a scenario, relative to `active` and `reactive`, float64[c]."""
        return np.asarray(self._called[scenario])

    def unit(self, scenario: int) -> ComplexArray:
        """Demand that one unit of each adds in a scenario, kW + j kvar, complex128[c]."""
        return np.asarray(self.activation(scenario) * (self.active + 1j * self.reactive))

    def project(self, gradient: ComplexArray, scenario: int = Scenario.DISPATCH) -> FloatArray:
        """Derivatives by channels, [..., c], of something with derivatives `gradient` [..., places] in a scenario."""
        return self.combine(gradient[..., self.place], scenario)

    def combine(self, at: ComplexArray, scenario: int) -> FloatArray:
        """The same from derivatives at the channels' own places, [..., c]."""
        called = self.activation(scenario)
        return np.asarray(at.real * (called * self.active) + at.imag * (called * self.reactive), order="C")


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Variables ``0 <= y <= width``; equal orders (same place, product, side, price) are one, shared pro rata.

    Attributes
    ----------
    width : float64[m], kW or kvar.
    channels : what they act on; channel : int64[m], the place in `channels` of what y adds to.
    sign : float64[m], +1 for buyers, -1 for sellers.
    price, slope : float64[m], marginal cost of the step: ``price + slope * y``, a buyer's value counted negative.
    member : int64[orders], the variable of each order, -1 where it is not one.
    share : float64[orders], of its variable that is each order's.
    fixed_kva : complex128[3, places], demand of price-takers and of what cannot be moved, by `Scenario`.
    fixed_kw : float64[orders], award of orders, or parts of orders, that are not variables.
    required_kw : float64[2], reserve up and down required at any price, less what is offered at any price.
    scenarios : the dispatch, and the calls of reserve that somebody offers.
    """

    width: FloatArray
    channels: Channels
    channel: IntArray
    sign: FloatArray
    price: FloatArray
    slope: FloatArray
    member: IntArray
    share: FloatArray
    fixed_kva: ComplexArray
    fixed_kw: FloatArray
    required_kw: FloatArray
    scenarios: tuple[Scenario, ...]

    @classmethod
    def of(
        cls,
        places: int,
        book: OrderBook,
        fixed_kva: ComplexArray | None,
        *,
        group: IntArray | None = None,
        curtailable_kw: FloatArray | None = None,
        curtailment_price: float = 0.0,
    ) -> Steps:
        """Variables and fixed demand of a book.

        Parameters
        ----------
        fixed_kva : complex128[places], demand besides that of the book.
        group : int64[orders], see `Channels`.
        curtailable_kw : float64[orders], part of each price-taker's quantity that may be shed, at
            `curtailment_price`.

        Raises
        ------
        InputError : an order at a place that the network does not have; inflexible demand beyond all measure.
        """
        outside = (book.node < 0) | (book.node >= places)
        if outside.any():
            row = int(np.argmax(outside))
            raise InputError("orders", f"row {row}, node {book.node[row]}", f"is not one of the {places} places")
        effect, taker = effects(book), book.price_taker
        moving = effect < Effect.REQUIRE_UP
        active = np.where((book.product != Product.REACTIVE) & moving, 1.0, 0.0)
        reactive = np.where(book.product == Product.REACTIVE, 1.0, book.kvar_per_kw * moving)
        shed = np.zeros(len(book)) if curtailable_kw is None else np.where(taker, curtailable_kw, 0.0)
        fixed_kw = np.where(taker, book.quantity_kw - shed, 0.0)
        rows = np.flatnonzero(fixed_kw)
        power = book.side[rows] * fixed_kw[rows] * (active[rows] + 1j * reactive[rows])
        called = [power * _ACTIVATION[scenario, effect[rows]] for scenario in Scenario]
        fixed = np.stack([_on_places(places, book.node[rows], demand) for demand in called])
        if fixed_kva is not None:
            fixed = fixed + fixed_kva
        beyond = ~(np.abs(fixed).max(axis=0) <= DEMAND_KVA_MOST)
        if beyond.any():
            at = int(np.argmax(beyond))
            raise InputError("inflexible demand", f"place {at}", f"is beyond the limit of {DEMAND_KVA_MOST:g} kVA")
        variable_kw = np.where(taker, shed, book.quantity_kw)
        price = np.where(taker, book.side * curtailment_price, book.price)
        groups = np.full(len(book), -1, dtype=np.int64) if group is None else group
        live = np.flatnonzero(variable_kw > 0)
        # A sloped order ties with none: its own row number tells it apart.
        alone = np.where(book.slope > 0, np.arange(1, len(book) + 1), 0)
        kind = _packed(book.node, effect, book.product, groups, book.side)
        member = np.full(len(book), -1, dtype=np.int64)
        member[live], first = _grouped(kind[live], price[live], book.kvar_per_kw[live], alone[live])
        first = live[first]
        width = np.bincount(member[live], weights=variable_kw[live], minlength=first.size).astype(np.float64)
        kind = _packed(book.node, effect, groups, active.astype(np.int64))
        channel, head = _grouped(kind[first], reactive[first])
        head = first[head]
        offered = set(effect[(effect > Effect.DEMAND) & (book.quantity_kw > 0)].tolist())
        required = np.zeros(2)
        if (effect > Effect.DEMAND).any():
            for k, (_, offer, need) in enumerate(_RESERVES):
                required[k] = fixed_kw[effect == need].sum() - fixed_kw[effect == offer].sum()
        share = np.zeros(len(book))
        share[live] = variable_kw[live] / width[member[live]]
        return cls(
            width=width,
            channels=Channels(book.node[head], active[head], reactive[head], effect[head], groups[head]),
            channel=channel,
            sign=book.side[first].astype(np.float64),
            price=np.asarray(-book.side[first] * price[first], dtype=np.float64),
            slope=book.slope[first],
            member=member,
            share=share,
            fixed_kva=fixed,
            fixed_kw=fixed_kw,
            required_kw=required,
            scenarios=(Scenario.DISPATCH, *(call for call, offer, _ in _RESERVES if offer in offered)),
        )

    def totals(self, y: FloatArray) -> FloatArray:
        """What variables, or values of theirs, add up to on each channel, float64[c]."""
        return np.bincount(self.channel, self.sign * y, minlength=self.channels.place.size).astype(np.float64)

    def demand_kva(self, y: FloatArray, scenario: int = Scenario.DISPATCH) -> ComplexArray:
        """Demand at every place, complex128[places], when the variables stand at y."""
        channels = self.channels
        moved = self.totals(y) * channels.activation(scenario)
        power = np.asarray(moved * (channels.active + 1j * channels.reactive), dtype=np.complex128)
        return np.asarray(self.fixed_kva[scenario] + _on_places(self.fixed_kva.shape[1], channels.place, power))

    def spread(self, price: FloatArray) -> FloatArray:
        """Derivatives with respect to y, [..., m], of something with derivatives `price` [..., c] by channels."""
        return np.asarray(price[..., self.channel] * self.sign)

    def cost(self, y: FloatArray) -> float:
        """Cost of sellers less value to buyers, currency/h."""
        return float(self.price @ y + 0.5 * (self.slope * y) @ y)

    def awards(self, y: FloatArray, quantity_kw: FloatArray) -> FloatArray:
        """Award of each order: its share of its variable in proportion to quantity."""
        award = self.fixed_kw.copy()
        part = self.member >= 0
        award[part] += self.share[part] * np.minimum(y, self.width)[self.member[part]]
        return np.asarray(np.minimum(award, quantity_kw))

    def identity(self, k: int) -> tuple[float, ...]:
        """What tells a variable from others in the next interval's book."""
        channels, at = self.channels, self.channel[k]
        return (
            float(channels.place[at]),
            float(channels.effect[at]),
            float(channels.active[at]),
            float(channels.reactive[at]),
            float(self.sign[k]),
            float(self.price[k]),
        )


def effects(book: OrderBook) -> IntArray:
    """The `Effect` of each order, int64[orders]."""
    if not (book.product > Product.REACTIVE).any():
        return np.zeros(len(book), dtype=np.int64)
    buys = book.side == Side.BUY
    return np.select(
        [book.product == Product.RESERVE_UP, book.product == Product.RESERVE_DOWN],
        [np.where(buys, Effect.REQUIRE_UP, Effect.OFFER_UP), np.where(buys, Effect.REQUIRE_DOWN, Effect.OFFER_DOWN)],
        Effect.DEMAND,
    ).astype(np.int64)


def _on_places(places: int, at: IntArray, power: NDArray[np.complex128]) -> ComplexArray:
    real = np.bincount(at, power.real, minlength=places)
    return np.asarray(real + 1j * np.bincount(at, power.imag, minlength=places), dtype=np.complex128)


def _packed(*columns: IntArray) -> IntArray:
    """One whole number for each row, in the order of the columns."""
    packed = np.zeros(columns[0].size, dtype=np.int64)
    for column in columns if packed.size else ():
        low, high = int(column.min()), int(column.max())
        if low < high:
            packed = packed * (high - low + 1) + (column - low)
    return packed


def _grouped(kind: IntArray, key: FloatArray, *more: FloatArray | IntArray) -> tuple[IntArray, IntArray]:
    """The group of each row of some keys, and the first row of each; groups in the order of the keys."""
    # Complex numbers sort by their real part, then the imaginary; rows come by node, which makes that quick.
    both = kind + 1j * key
    order = np.argsort(both, kind="stable")
    fresh = _differ(order, both)
    if more and not fresh.all():
        order = np.lexsort((*more[::-1], key, kind))
        fresh = _differ(order, both, *more)
    group = np.empty(order.size, dtype=np.int64)
    group[order] = np.cumsum(fresh) - 1
    return group, order[fresh]


def _differ(order: IntArray, *keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows, in an order, are not the same as the one before."""
    fresh = np.ones(order.size, dtype=bool)
    fresh[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return fresh
