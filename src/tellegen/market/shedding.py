"""What is left to do where supply and wires cannot serve what nobody may curtail: shed it, where that hurts least.

Inflexible power at each place, drawn or fed in, becomes a step of its own that may be left off, at a published price
above that of any other limit of the network; so places differ in what they lose, and prices say why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from tellegen.grid.network import ComplexArray, IntArray
from tellegen.grid.powerflow import GridError
from tellegen.market.book import OrderBook
from tellegen.market.effort import Effort
from tellegen.market.limits import LimitType, place_name
from tellegen.market.operating_point import Task
from tellegen.market.optima import Choice
from tellegen.market.outcome import BindingLimit, Clearing, mismatch_of, outcome_of
from tellegen.market.pricing import nodal_prices
from tellegen.market.relief import cautious
from tellegen.market.search import Found, Guess, search
from tellegen.market.steps import Channels, Effect, Scenario
from tellegen.records import ClearingStatus, Product, Side

LEAST_KW = 1e-6
"""Less than this is not shed."""


def shed(task: Task, book: OrderBook, tie_context: str, effort: Effort) -> tuple[Clearing, Task, Found]:
    """The clearing that sheds the least worth of inflexible power, the task with those steps, and where it ended.

    Raises
    ------
    GridError : there is no power flow, or no optimum is found, whatever is shed.
    """
    parts = tuple(_Part.of(task, book, side) for side in (Side.BUY, Side.SELL))
    if not any(part.at.size for part in parts):
        raise GridError(f"{task.network.name}: there is nothing to shed")
    price = task.parameters.shedding_factor * (abs(task.root_price) + task.parameters.penalty_price)
    wide = _with_shedding(task, parts, price)
    begin = wide.steps.width.copy()
    begin[: task.steps.width.size] = 0.0
    nothing = np.zeros(0, dtype=np.int64)
    found = search(wide, cautious(wide, Guess(begin, nothing, np.zeros(0)), effort), effort)
    if not found.settled:
        raise GridError(f"{task.network.name}: {found.shortcoming()}")
    if mismatch_of(found.point) > task.parameters.mismatch_pu_max:
        raise GridError(f"{task.network.name}: power flow mismatch {mismatch_of(found.point):.1e} pu")
    return _outcome(wide, book, found, parts, price, tie_context), wide, found


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What nobody may curtail, drawn or fed in: `power` complex128[s] at places `at`, and the orders it is of."""

    side: Side
    orders: IntArray
    at: IntArray
    power: ComplexArray

    @classmethod
    def of(cls, task: Task, book: OrderBook, side: Side) -> _Part:
        fixed = task.steps.fixed_kw
        energy = (book.product == Product.ENERGY) & (fixed > 0)
        kva = book.side * fixed * (1 + 1j * book.kvar_per_kw)
        here, traded = np.zeros((2, task.wiring.places), dtype=np.complex128)
        orders = np.flatnonzero(energy & (book.side == side))
        np.add.at(here, book.node[orders], kva[orders])
        np.add.at(traded, book.node[energy], kva[energy])
        # What the network's file draws or feeds in besides.
        own = task.steps.fixed_kva[Scenario.DISPATCH] - traded
        here += np.where(int(side) * own.real > LEAST_KW, own, 0.0)
        at = np.flatnonzero(here.real)
        return cls(side, orders, at, here[at])


def _with_shedding(task: Task, parts: tuple[_Part, ...], price: float) -> Task:
    """The task with one more step for each place: as much of its inflexible power as is left off."""
    steps, limits, channels = task.steps, task.limits, task.steps.channels
    at, power = (np.concatenate([getattr(part, name) for part in parts]) for name in ("at", "power"))
    count, more = channels.place.size, at.size
    none = np.zeros(more)
    wider = Channels(
        np.concatenate([channels.place, at]),
        np.concatenate([channels.active, none + 1.0]),
        np.concatenate([channels.reactive, power.imag / power.real]),
        np.concatenate([channels.effect, np.full(more, Effect.DEMAND)]),
        np.concatenate([channels.group, np.full(more, -1)]),
    )
    stepped = replace(
        steps,
        width=np.concatenate([steps.width, np.abs(power.real)]),
        channels=wider,
        channel=np.concatenate([steps.channel, count + np.arange(more)]),
        sign=np.concatenate([steps.sign, -np.sign(power.real)]),
        price=np.concatenate([steps.price, none + price]),
        slope=np.concatenate([steps.slope, none]),
    )
    linear = limits.linear
    if linear.kind.size:
        matrix = sp.csr_matrix(sp.hstack([linear.matrix, sp.csr_matrix((linear.kind.size, more))]))
        limits = replace(limits, linear=replace(linear, matrix=matrix))
    return replace(task, steps=stepped, limits=limits)


def _outcome(
    task: Task, book: OrderBook, found: Found, parts: tuple[_Part, ...], price: float, tie_context: str
) -> Clearing:
    """The outcome: who is not served in full is awarded less, and each place's loss stands among the limits."""
    fixed, first = task.steps.fixed_kw.copy(), task.steps.width.size - sum(part.at.size for part in parts)
    short: list[BindingLimit] = []
    lost_kw = 0.0
    for part in parts:
        lost = found.point.y[first : first + part.at.size]
        first += part.at.size
        left = np.ones(task.wiring.places)
        left[part.at] -= lost / np.abs(part.power.real)
        fixed[part.orders] *= left[book.node[part.orders]]
        lost_kw += float(lost.sum())
        what = "demand" if part.side == Side.BUY else "supply"
        short += [
            BindingLimit(
                name=f"{what} at {place_name(task.network, book.connections, int(place))}",
                kind=LimitType.SERVED,
                index=int(place),
                scenario=Scenario.DISPATCH,
                dual=price,
                unit="kW",
                excess=float(kw),
                price=price,
            )
            for place, kw in zip(part.at, lost, strict=True)
            if kw > LEAST_KW
        ]
    served = replace(task, steps=replace(task.steps, fixed_kw=fixed))
    nodal = nodal_prices(task, found.point, found.rows, found.dual)
    clearing = outcome_of(served, book, found, nodal, Choice(), tie_context)
    return replace(
        clearing,
        status=ClearingStatus.RELAXED if short else clearing.status,
        # What is shed has no value of its own: price-takers name none.
        welfare=clearing.welfare + price * lost_kw,
        limits=(*clearing.limits, *short),
        relaxations=(*clearing.relaxations, *short),
    )
