"""What is left to do where supply and wires cannot serve what nobody may curtail: shed it, where that hurts least.

Inflexible demand at each node becomes a step of its own that may be left off, at a published price above that of any
other limit of the network, so nodes differ in what they lose, and prices say why.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from tellegen.grid.network import ComplexArray, IntArray
from tellegen.market.book import OrderBook
from tellegen.market.limits import LimitType, place_name
from tellegen.market.operating_point import Task
from tellegen.market.optima import Choice
from tellegen.market.outcome import BindingLimit, Clearing, outcome_of
from tellegen.market.pricing import nodal_prices
from tellegen.market.relief import cautious
from tellegen.market.search import Found, Guess, search
from tellegen.market.steps import Channels, Effect, Scenario
from tellegen.records import ClearingStatus, Product, Side

DEARER = 2.0
"""Times what the second step of the penalties costs: limits let go before supply does."""
LEAST_KW = 1e-6
"""Less than this is not shed."""


def shed(task: Task, book: OrderBook, tie_context: str) -> Clearing | None:
    """The clearing that sheds the least worth of inflexible demand; None where no optimum is found even so.

    Raises
    ------
    GridError : there is no power flow, whatever is shed.
    """
    taken, needed = _inflexible(task, book)
    at = np.flatnonzero(needed.real > 0)
    if not at.size:
        return None
    price = DEARER * (abs(task.root_price) + task.parameters.penalty_price)
    wide = _with_shedding(task, at, needed[at], price)
    count = task.steps.width.size
    begin = np.concatenate([np.zeros(count), wide.steps.width[count:]])
    nothing = np.zeros(0, dtype=np.int64)
    found = search(wide, cautious(wide, Guess(begin, nothing, np.zeros(0))))
    if not found.settled:
        return None
    return _outcome(wide, book, found, taken, at, price, tie_context)


def _inflexible(task: Task, book: OrderBook) -> tuple[IntArray, ComplexArray]:
    """Price-takers who buy energy (rows of the book), and demand at every place that nobody may curtail."""
    fixed = task.steps.fixed_kw
    rows = np.flatnonzero((book.product == Product.ENERGY) & (book.side == Side.BUY) & (fixed > 0))
    energy = np.flatnonzero((book.product == Product.ENERGY) & (fixed > 0))
    needed, traded = np.zeros((2, task.wiring.places), dtype=np.complex128)
    np.add.at(needed, book.node[rows], fixed[rows] * (1 + 1j * book.kvar_per_kw[rows]))
    np.add.at(traded, book.node[energy], (book.side * fixed * (1 + 1j * book.kvar_per_kw))[energy])
    # What the network's file draws besides.
    own = task.steps.fixed_kva[Scenario.DISPATCH] - traded
    return rows, needed + np.where(own.real > LEAST_KW, own, 0.0)


def _with_shedding(task: Task, at: IntArray, needed: ComplexArray, price: float) -> Task:
    """The task with one more step for each place: as much of its inflexible demand as is left off."""
    steps, limits, channels = task.steps, task.limits, task.steps.channels
    count, more = channels.place.size, at.size
    none = np.zeros(more)
    wider = Channels(
        np.concatenate([channels.place, at]),
        np.concatenate([channels.active, np.ones(more)]),
        np.concatenate([channels.reactive, needed.imag / needed.real]),
        np.concatenate([channels.effect, np.full(more, Effect.DEMAND)]),
        np.concatenate([channels.group, np.full(more, -1)]),
    )
    stepped = replace(
        steps,
        width=np.concatenate([steps.width, needed.real]),
        channels=wider,
        channel=np.concatenate([steps.channel, count + np.arange(more)]),
        sign=np.concatenate([steps.sign, none - 1.0]),
        price=np.concatenate([steps.price, none + price]),
        slope=np.concatenate([steps.slope, none]),
    )
    linear = limits.linear
    if linear.kind.size:
        matrix = sp.csr_matrix(sp.hstack([linear.matrix, sp.csr_matrix((linear.kind.size, more))]))
        limits = replace(limits, linear=replace(linear, matrix=matrix))
    return replace(task, steps=stepped, limits=limits)


def _outcome(
    task: Task, book: OrderBook, found: Found, taken: IntArray, at: IntArray, price: float, tie_context: str
) -> Clearing:
    """The outcome, in which who is not served in full is awarded less, and each node's loss stands among the limits."""
    steps = task.steps
    lost, needed = found.point.y[-at.size :], steps.width[-at.size :]
    left = np.ones(task.wiring.places)
    left[at] = 1.0 - lost / needed
    fixed = steps.fixed_kw.copy()
    fixed[taken] *= left[book.node[taken]]
    served = replace(task, steps=replace(steps, fixed_kw=fixed))
    nodal = nodal_prices(task, found.point, found.rows, found.dual)
    clearing = outcome_of(served, book, found, nodal, Choice(), tie_context)
    short = tuple(
        BindingLimit(
            name=f"demand at {place_name(task.network, book.connections, int(place))}",
            kind=LimitType.DEMAND,
            index=int(place),
            scenario=Scenario.DISPATCH,
            dual=price,
            unit="kW",
            excess=float(kw),
            price=price,
        )
        for place, kw in zip(at, lost, strict=True)
        if kw > LEAST_KW
    )
    return replace(
        clearing,
        status=ClearingStatus.RELAXED if short else clearing.status,
        # What is shed has no value of its own: price-takers name none.
        welfare=clearing.welfare + price * float(lost.sum()),
        limits=clearing.limits + short,
        relaxations=clearing.relaxations + short,
    )
