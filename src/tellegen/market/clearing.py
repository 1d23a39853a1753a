"""Clearing: who gets what at what price, on wires that carry it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict, Unpack

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.connections import wire, with_plain_loads
from tellegen.grid.elimination import Engine
from tellegen.grid.network import ComplexArray, FixedLoads, FloatArray, IntArray, Network
from tellegen.grid.powerflow import Factors, GridError, factorise
from tellegen.market.book import NOT_ENERGISED, OrderBook
from tellegen.market.capability import Agreements, group_orders, linear_rows
from tellegen.market.effort import Effort
from tellegen.market.fallback import fallback_of
from tellegen.market.interior import FAR, NEAR, interior_point
from tellegen.market.limits import Limits, LimitType
from tellegen.market.operating_point import Task, price_scale
from tellegen.market.optima import Choice, best_of_all, may_have_several
from tellegen.market.outcome import Clearing, mismatch_of, outcome_of
from tellegen.market.parameters import Parameters
from tellegen.market.pricing import nodal_prices
from tellegen.market.search import Found, Guess, search
from tellegen.market.shedding import Shedding, shedding_prices
from tellegen.market.start import Start
from tellegen.market.steps import Effect, Steps
from tellegen.units import INTERVALS_PER_HOUR

INDIFFERENT = 1e-4
"""Steps whose gain at the last prices is below this share of the price scale start where they stood."""
PERIOD_HOURS = 1.0 / INTERVALS_PER_HOUR
PRICE_MAX = 1e6
NEARLY = 1e3
"""A search that ends at a residual of less than so many times what is accepted goes on once."""
WIDE_KW = 1e5
"""Steps wider than this are cut to what no market at their place can exceed."""
REACH_SHORT, REACH_DEMAND = 2.5, 1.5
"""That is so many times what a short circuit would draw there, and so many times all demand besides."""


def clear(
    network: Network,
    book: OrderBook,
    root_price: float,
    *,
    root_reactive_price: float = 0.0,
    root_limit_kw: float | None = None,
    fixed_kva: ComplexArray | None = None,
    loads: FixedLoads | None = None,
    agreements: Agreements | None = None,
    period_hours: float = PERIOD_HOURS,
    v_min: float | FloatArray | None = None,
    v_max: float | FloatArray | None = None,
    parameters: Parameters | None = None,
    start: Start | None = None,
    factors: Factors | None = None,
    engine: Engine | None = None,
    tie_context: str = "",
    last_spread: FloatArray | None = None,
) -> Clearing:
    """Clear one interval: the dispatch of largest welfare on the AC network, and its prices.

    Parameters
    ----------
    network : with its voltage limits and ratings, which bind at every node below the root.
    book : the orders.
    root_price, root_reactive_price : currency/kWh (kvarh) at which the root buys and sells.
    root_limit_kw : largest power through the root, both ways; None: no limit.
    fixed_kva : complex128[N], inflexible demand besides the book's price-takers, consumption positive.
    loads : inflexible loads between nodes, or that depend on voltage.
    agreements : limits of participants' connections, and the energy behind their reserve.
    period_hours : how long the dispatch lasts; counts where stored energy stands behind reserve.
    v_min, v_max : per unit, override the network's limits; a number or float64[N].
    parameters : caps, penalties, acceptance; the defaults where absent.
    start : what is on record of the last clearing on this network (`market.start`); it saves time, and decides among
        steps of equal worth. Ignored where the places are not as many.
    factors : of this network object, from `factorise`, for whoever keeps many networks at hand.
    engine : who eliminates; that of `factors` where absent, else SuperLU.
    tie_context : names the clearing for integer allocations among ties.
    last_spread : float64[N], last known energy price less root price; the fallback adds it to the root price.

    Returns
    -------
    Clearing, always with finite prices (law 7). A limit that cannot be met gives way at the published penalty and is
    listed (status relaxed). Where the optimum is not reached on the evidence that `parameters` ask for, or there is no
    power flow at all, the result is an administrative fallback and says why.

    Raises
    ------
    InputError : orders, demand, prices or limits that make no sense.

    Examples
    --------
    A line of 0.1 pu resistance. A buyer values a kW at 0.5, the root asks 0.3: the buyer pays the root price and the
    losses that it causes at the margin, 0.3 / (2 v - 1).

    >>> import scipy.sparse as sp
    >>> from tellegen.grid.network import Branches
    >>> y = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.8), np.full(2, 1.1), line)
    >>> result = clear(net, OrderBook.of([1], 1, 0.5, [0.9]), 0.3)
    >>> result.status.name, result.award_kw.round(9).tolist(), result.prices.energy.round(9).tolist()
    ('OPTIMAL', [0.9], [0.3, 0.375])
    """
    return clear_in_full(
        network,
        book,
        root_price,
        root_reactive_price=root_reactive_price,
        root_limit_kw=root_limit_kw,
        fixed_kva=fixed_kva,
        loads=loads,
        agreements=agreements,
        period_hours=period_hours,
        v_min=v_min,
        v_max=v_max,
        parameters=parameters,
        start=start,
        factors=factors,
        engine=engine,
        tie_context=tie_context,
        last_spread=last_spread,
    ).clearing


class Options(TypedDict, total=False):
    """What `clear` takes by name."""

    root_reactive_price: float
    root_limit_kw: float | None
    fixed_kva: ComplexArray | None
    loads: FixedLoads | None
    agreements: Agreements | None
    period_hours: float
    v_min: float | FloatArray | None
    v_max: float | FloatArray | None
    parameters: Parameters | None
    start: Start | None
    factors: Factors | None
    engine: Engine | None
    tie_context: str
    last_spread: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class InFull:
    """A clearing with the task that it solves and where the search ended (None after a fallback).

    Where inflexible power had to be shed, the task has steps of it behind those of the orders.
    `energised` int64: rows of the book that took part; the rest hangs on no source.
    """

    clearing: Clearing
    task: Task
    found: Found | None
    energised: IntArray


def clear_in_full(network: Network, book: OrderBook, root_price: float, **options: Unpack[Options]) -> InFull:
    """`clear`, with what is behind its outcome."""
    rules = options.get("parameters") or Parameters()
    reactive = options.get("root_reactive_price", 0.0)
    for name, value in (("root_price", root_price), ("root_reactive_price", reactive)):
        if not np.isfinite(value):
            raise InputError("clearing", name, "must be finite")
    period = options.get("period_hours", PERIOD_HOURS)
    if not 0 < period < np.inf:
        raise InputError("clearing", f"period_hours {period:g}", "must be positive and finite")
    if max(abs(root_price), abs(reactive)) > PRICE_MAX:
        raise InputError("clearing", f"root price {root_price:g}", f"is beyond the limit of {PRICE_MAX:g}")
    energised = np.flatnonzero(book.node != NOT_ENERGISED)
    traded = book if energised.size == len(book) else book.take(energised)
    bounds = (options.get("v_min"), options.get("v_max"), options.get("root_limit_kw"))
    factors = _factors(network, options.get("factors"), options.get("engine"))
    build = partial(_task, network, traded, options.get("fixed_kva"), options.get("loads"), options.get("agreements"),
                    period, rules, float(root_price), float(reactive), bounds, factors)  # fmt: skip
    clearing, task, found = _solve(
        build,
        traded,
        options.get("loads"),
        options.get("start"),
        options.get("tie_context", ""),
        options.get("last_spread"),
    )
    if traded is not book:
        award, tie = np.zeros(len(book)), np.full(len(book), -1, dtype=np.int64)
        award[energised], tie[energised] = clearing.award_kw, clearing.tie
        clearing = replace(clearing, award_kw=award, tie=tie)
    return InFull(clearing, task, found, energised)


def _solve(
    build: Callable[[Shedding | None], Task],
    book: OrderBook,
    loads: FixedLoads | None,
    start: Start | None,
    tie_context: str,
    last_spread: FloatArray | None,
) -> tuple[Clearing, Task, Found | None]:
    """The clearing, the task solved in the end, and where its search ended; None after a fallback.

    A search that was led astray begins again without the last clearing, then where an interior point ends. Where none
    of these finds any power flow, what is firm is shed: the only case in which somebody is cut off. Where even that has
    no optimum, for the best dispatch stands at collapse, it is shed again at less than what limits cost.
    """
    task, shedding = build(None), None
    effort = Effort(task.parameters.programs_max)
    begins: list[tuple[str, Callable[[], Guess]]] = [("search", lambda: _guess(task, book, None))]
    if start is not None:
        begins.insert(0, ("search from the last clearing", lambda: _guess(task, book, start)))
    found, said = _searched(task, [*begins, *_interior(task, _even(task), FAR, effort)], effort)
    solved = task
    for price in shedding_prices(task) if found is None else ():
        shedding = Shedding.of(task, book, loads, price)
        solved = build(shedding)
        found, more = _searched(solved, _from_shed(solved, len(book), effort), effort)
        said += [f"shedding at {price:.4g}: {each}" for each in more]
        if found is not None and found.settled:
            break
    if found is not None:
        choice, nodal = Choice(), nodal_prices(solved, found.point, found.rows, found.dual)
        if task.parameters.starts and may_have_several(solved, nodal.energy):
            first, (found, choice) = found, best_of_all(solved, found, effort)
            if found.point is not first.point:
                nodal = nodal_prices(solved, found.point, found.rows, found.dual)
        mismatch = mismatch_of(found.point)
        if found.settled and mismatch <= task.parameters.mismatch_pu_max:
            whole = book if shedding is None else shedding.beside(book)
            clearing = outcome_of(solved, whole, found, nodal, choice, tie_context)
            return clearing if shedding is None else shedding.restated(clearing, solved, book), solved, found
        if found.settled:
            said.append(f"power flow mismatch {mismatch:.1e} pu")
    reason = f"not optimal after {effort.spent} quadratic programs; {'; '.join(said)}"
    known = found if shedding is None else None
    return fallback_of(task, book, known, reason, effort.spent, tie_context, last_spread), task, None


def _interior(task: Task, share: FloatArray, barrier: float, effort: Effort) -> list[tuple[str, Callable[[], Guess]]]:
    """The interior point from the angles of no load, which tell phases and shifts apart, and from none."""
    begins: list[tuple[str, Callable[[], Guess]]] = [
        ("search from an interior point", lambda: interior_point(task, share, barrier, False, effort))
    ]
    if task.network.balanced:
        begins.append(("search from a flat interior point", lambda: interior_point(task, share, barrier, True, effort)))
    return begins


def _from_shed(task: Task, orders: int, effort: Effort) -> list[tuple[str, Callable[[], Guess]]]:
    """From where all that is firm is shed, for there is a power flow, or half of it."""
    shed, nothing = np.zeros(task.steps.width.size), np.zeros(0, dtype=np.int64)
    shed[np.unique(task.steps.member[orders:])] = 1.0
    whole, half = (Guess(part * shed * task.steps.width, nothing, np.zeros(0)) for part in (1.0, 0.5))
    return [*_interior(task, shed, NEAR, effort), ("search", lambda: half), ("search", lambda: whole)]


def _even(task: Task) -> FloatArray:
    """Sellers of energy serve inflexible demand in equal shares; whatever else is offered stands in the middle."""
    steps = task.steps
    sells = (steps.sign < 0) & (steps.channels.effect[steps.channel] == Effect.DEMAND)
    sells &= steps.channels.active[steps.channel] > 0
    demand, most = float(steps.fixed_kva[0].real.sum()), float(steps.width[sells].sum())
    return np.where(sells, min(max(demand, 0.0) / max(most, 1e-300), 1.0), 0.5)


def _searched(
    task: Task, begins: list[tuple[str, Callable[[], Guess]]], effort: Effort
) -> tuple[Found | None, list[str]]:
    """Where the search ends (None: it found no power flow to begin with), and what was tried to no avail."""
    found: Found | None = None
    said: list[str] = []
    for name, begin in begins:
        try:
            found = search(task, begin(), effort)
            if not found.settled and found.kkt < NEARLY * task.parameters.kkt_max:
                # Curvature found anew there is often all that it lacks.
                flows = found.point.flows
                again = Guess(found.point.y, found.rows, found.dual, tuple(flow.voltage for flow in flows))
                found = search(task, again, effort)
        except GridError as error:
            said.append(f"{name}: {error}")
            continue
        if found.settled:
            break
        said.append(f"{name}: {found.shortcoming()}")
    return found, said


def _factors(network: Network, known: Factors | None, engine: Engine | None) -> Factors:
    if known is not None and known.network is network and engine in (None, known.engine):
        return known
    return factorise(network, engine or Engine.SUPERLU)


def _task(
    network: Network,
    book: OrderBook,
    fixed_kva: ComplexArray | None,
    loads: FixedLoads | None,
    agreements: Agreements | None,
    period_hours: float,
    rules: Parameters,
    root_price: float,
    root_reactive_price: float,
    bounds: tuple[float | FloatArray | None, float | FloatArray | None, float | None],
    factors: Factors,
    shedding: Shedding | None,
) -> Task:
    groups = group_orders(book, agreements)
    if shedding is not None:
        book, groups = shedding.beside(book), groups.beside(shedding.owner)
    wiring = wire(network, factors.free, loads, book.connections)
    fixed = np.zeros(wiring.places, dtype=np.complex128)
    if fixed_kva is not None:
        given = np.asarray(fixed_kva, dtype=np.complex128)
        if given.shape != (len(network.nodes),) or not np.isfinite(given).all():
            raise InputError(
                "inflexible demand", f"shape {given.shape}", f"must be {len(network.nodes)} finite values, one per node"
            )
        fixed[: given.size] = given
    if loads is not None and loads.law is None and loads.other is None:
        fixed = with_plain_loads(network, fixed, loads)
    steps = Steps.of(
        wiring.places,
        book,
        fixed,
        group=groups.of_order,
        curtailable_kw=groups.curtailable_kw,
        curtailment_price=rules.curtailment_price,
    )
    asked, steps = steps.width, _within_reach(factors, steps)
    linear = linear_rows(network, book, groups, steps, period_hours=period_hours, reserve_hours=rules.reserve_hours)
    limits = Limits.of(factors, *bounds, scenarios=steps.scenarios, linear=linear)
    return Task(network, factors, wiring, steps, limits, root_price, root_reactive_price, rules, asked)


def _within_reach(factors: Factors, steps: Steps) -> Steps:
    """Steps no wider than the network could serve: one order beyond all measure must not set that of the search."""
    wide = np.flatnonzero(steps.width > WIDE_KW)
    place = steps.channels.place[steps.channel[wide]]
    free = np.isin(place, factors.free)
    if not free.any():
        return steps
    width = steps.width.copy()
    short = factors.network.base_kva / factors.driving_impedance(place[free])
    demand = float(np.abs(steps.fixed_kva[0]).sum() + np.minimum(width[steps.sign > 0], WIDE_KW).sum())
    width[wide[free]] = np.minimum(width[wide[free]], REACH_SHORT * short + REACH_DEMAND * demand)
    return replace(steps, width=width)


def _guess(task: Task, book: OrderBook, start: Start | None) -> Guess:
    steps, size, channels = task.steps, task.wiring.places, task.steps.channels
    if start is not None and not (start.energy.size == size and start.connections.same(book.connections)):
        start = None
    rows, dual = np.zeros(0, dtype=np.int64), np.zeros(0)
    price = np.full(size, task.root_price + 1j * task.root_reactive_price)
    reserve, required = np.zeros((2, size)), np.zeros(2)
    if start is not None:
        price, reserve = start.energy + 1j * start.reactive, start.reserve
        known = task.limits.key
        order = np.argsort(known, kind="stable")
        place = np.minimum(np.searchsorted(known[order], start.row_key), known.size - 1)
        here = known[order][place] == start.row_key
        rows, dual = order[place[here]], start.dual[here]
        for k, kind in enumerate((LimitType.RESERVE_UP, LimitType.RESERVE_DOWN)):
            wanted = task.limits.kind[rows] == kind
            required[k] = (dual[wanted] / task.limits.scale[rows[wanted]]).sum()
    worth = channels.project(price)
    for k, (offer, need) in enumerate(((Effect.OFFER_UP, Effect.REQUIRE_UP), (Effect.OFFER_DOWN, Effect.REQUIRE_DOWN))):
        worth = np.where(channels.effect == offer, reserve[k, channels.place], worth)
        worth = np.where(channels.effect == need, required[k], worth)
    gain = -(steps.price + steps.spread(worth))
    sloped = steps.slope > 0
    y = np.where(gain > 1e-9, steps.width, 0.0)
    y[sloped] = np.clip(gain[sloped] / steps.slope[sloped], 0.0, steps.width[sloped])
    if start is not None:
        for k in np.flatnonzero(np.abs(gain) < INDIFFERENT * price_scale(task)).tolist():
            y[k] = min(start.marginal.get(steps.identity(k), y[k]), steps.width[k])
    return Guess(y, rows, dual)
