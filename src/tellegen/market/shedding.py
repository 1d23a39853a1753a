"""What is left to do where supply and wires cannot serve what nobody may curtail: shed it, where that hurts least.

What is left off is an order like others: beside inflexible demand stands an offer of the same kW and kvar, beside
inflexible supply a bid, at a published price above that of any other limit of the network. So places differ in what
they lose, prices say why, and the limits of participants know of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from tellegen.grid.connections import Connections
from tellegen.grid.loads import GROUND
from tellegen.grid.network import FixedLoads, IntArray
from tellegen.market.book import KVAR_PER_KW_MOST, PRICE_MOST, OrderBook
from tellegen.market.limits import LimitType, node_name, place_name
from tellegen.market.operating_point import Task
from tellegen.market.outcome import BindingLimit, Clearing
from tellegen.market.pricing import Prices
from tellegen.market.steps import Scenario
from tellegen.records import ClearingStatus, Product, Side

LEAST_KW = 1e-6
"""Less than this is not shed."""


@dataclass(frozen=True, slots=True, eq=False)
class Shedding:
    """Orders that leave off what nobody may curtail.

    Attributes
    ----------
    orders : they, with the connections of the book and of loads between nodes.
    owner : int64[s], row of the book that each leaves off, -1 for what the network's file draws or feeds in.
    price : currency/kWh, of leaving off.
    """

    orders: OrderBook
    owner: IntArray
    price: float

    @classmethod
    def of(cls, task: Task, book: OrderBook, loads: FixedLoads | None, price: float) -> Shedding:
        """All that could be shed of a task: firm orders of energy, and the file's own at nodes and as `loads`."""
        fixed, size = task.steps.fixed_kw, task.wiring.places
        energy = book.product == Product.ENERGY
        traded = np.zeros(size, dtype=np.complex128)
        of_energy = energy * (1 + 1j * book.kvar_per_kw) + 1j * (book.product == Product.REACTIVE)
        np.add.at(traded, book.node, book.side * fixed * of_energy)
        own = task.steps.fixed_kva[Scenario.DISPATCH] - traded
        rows, nodes = np.flatnonzero(energy & (fixed > 0)), np.flatnonzero(np.abs(own.real) > LEAST_KW)
        place = [book.node[rows], nodes]
        power = [(book.side * fixed * of_energy)[rows], own[nodes]]
        connections = book.connections
        if task.wiring.power.size and loads is not None:
            some = np.flatnonzero(np.abs(loads.p_kw) > LEAST_KW)
            other = np.full(some.size, GROUND) if loads.other is None else loads.other[some]
            apart = np.flatnonzero(other != GROUND)
            at = loads.node[some].copy()
            at[apart] = size + np.arange(apart.size)
            connections = _more(task, connections, loads.node[some[apart]], other[apart])
            place.append(at)
            power.append(loads.p_kw[some] + 1j * loads.q_kvar[some])
        at, kva = np.concatenate(place), np.concatenate(power)
        owner = np.concatenate([rows, np.full(at.size - rows.size, -1)])
        # Equal orders are shed alike, so they carry what they state, to the last bit.
        coupled = np.where(owner >= 0, book.kvar_per_kw[owner] if len(book) else 0.0, kva.imag / kva.real)
        possible = np.abs(coupled) <= KVAR_PER_KW_MOST
        at, kva, owner, coupled = at[possible], kva[possible], owner[possible], coupled[possible]
        sign, price = np.where(kva.real > 0, 1, -1), min(price, PRICE_MOST)
        participant = np.where(owner >= 0, book.participant[owner] if len(book) else -1, -1)
        orders = OrderBook.of(
            at,
            -sign,
            sign * price,
            np.abs(kva.real),
            kvar_per_kw=coupled,
            participant=participant,
            connections=connections,
        )
        return cls(orders, owner.astype(np.int64), price)

    def beside(self, book: OrderBook) -> OrderBook:
        """The book with these orders behind its own."""
        return OrderBook.concat(replace(book, connections=self.orders.connections), self.orders)

    def restated(self, clearing: Clearing, task: Task, book: OrderBook) -> Clearing:
        """A clearing of both as one of the book: who is not served in full is awarded less, and each loss is listed."""
        count, price = len(book), self.price
        award, lost = clearing.award_kw[:count].copy(), clearing.award_kw[count:]
        mine = self.owner >= 0
        np.subtract.at(award, self.owner[mine], lost[mine])
        short: list[BindingLimit] = []
        for side, what in ((Side.SELL, "demand"), (Side.BUY, "supply")):
            here = self.orders.side == side
            at_place = np.bincount(self.orders.node[here], lost[here])
            short += [
                BindingLimit(
                    name=f"{what} at {place_name(task.network, self.orders.connections, place)}",
                    kind=LimitType.SERVED,
                    index=place,
                    scenario=Scenario.DISPATCH,
                    dual=price,
                    unit="kW",
                    excess=float(at_place[place]),
                    price=price,
                )
                for place in np.flatnonzero(at_place > LEAST_KW).tolist()
            ]
        return replace(
            clearing,
            status=ClearingStatus.RELAXED if short else clearing.status,
            # What is shed has no value of its own: price-takers name none.
            welfare=clearing.welfare + price * float(lost.sum()),
            prices=_at_places(clearing.prices, len(task.network.nodes) + len(book.connections)),
            award_kw=np.maximum(award, 0.0),
            tie=clearing.tie[:count],
            limits=(*clearing.limits, *short),
            relaxations=(*clearing.relaxations, *short),
        )


def shedding_prices(task: Task) -> tuple[float, float]:
    """What shedding a kWh costs: more than any other limit of the network, or less than each of them."""
    rules = task.parameters
    dear = rules.shedding_factor * (abs(task.root_price) + rules.penalty_price)
    return dear, (abs(task.root_price) + rules.penalty_margin_price) / rules.shedding_factor


def _more(task: Task, known: Connections, node: IntArray, other: IntArray) -> Connections:
    """A table of connections with a row for each pair of nodes."""
    name = [[node_name(task.network, k) for k in ends.tolist()] for ends in (node, other)]
    return Connections(
        start=np.concatenate([known.start, known.start[-1] + 1 + np.arange(node.size)]),
        node=np.concatenate([known.node, node]),
        other=np.concatenate([known.other, other]),
        share=np.concatenate([known.share, np.ones(node.size)]),
        name=(*known.name, *(f"{a} to {b}" for a, b in zip(*name, strict=True))),
    )


def _at_places(prices: Prices, places: int) -> Prices:
    """Prices of the first places alone."""
    whole = ("required", "required_low", "required_high")
    names = [spec.name for spec in fields(prices) if spec.name not in whole]
    return replace(prices, **{name: getattr(prices, name)[..., :places] for name in names})
