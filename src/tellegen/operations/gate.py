"""What happens at a gate on one feeder: its periods are cleared in a row, each from what the record says of the last.

Everything that a clearing depends on comes with the task, as it stands on record, and everything that goes on record
comes back; nothing is kept in between but what follows from the network alone. So a gate may be cleared in any process,
and again years later, to the same integers on the same engine.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid import (
    Case,
    Engine,
    Factors,
    FixedLoads,
    GridError,
    Network,
    at_steps,
    factorise,
    settle_taps,
    solve_powerflow,
    steps_moved,
)
from tellegen.grid.network import ComplexArray
from tellegen.market import (
    Agreements,
    Clearing,
    Finding,
    OrderBook,
    Parameters,
    PivotalTest,
    References,
    Start,
    can_start,
    clear,
    clear_mitigated,
    start_of,
    to_records,
)
from tellegen.market.clearing import Options
from tellegen.market.facts import Facts
from tellegen.market.paper import PAPER, PaperTaken, beyond_limits, inflexible_w, paper_orders, without_paper
from tellegen.market.withheld import Idle, Withheld, withheld
from tellegen.operations.admission import Limits, refusals
from tellegen.operations.credit import Credit, beyond_credit
from tellegen.operations.devices import Devices
from tellegen.operations.giving_way import NOT_CONVEX, gave_way, paid_for_limits
from tellegen.operations.price_run import MeteredPower, inflexible, run_orders
from tellegen.operations.relief import Knowledge, forgone, idle, together, undelivered
from tellegen.records import (
    OPERATOR,
    Awards,
    Clearings,
    ClearingStatus,
    Orders,
    Prices,
    Product,
    Refusal,
    RefusedOrders,
    Relaxations,
    Schedules,
    Starts,
)
from tellegen.rules.price_run import PriceRun
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray

PAPER_TRIES, PAPER_GROWS = 8, 4
"""So many times paper is made so much larger where a price is still beyond cap or floor."""
POSITIONS_KEPT_MAX = 8
"""Positions of a network's taps whose factors a process keeps."""
_NO_STEPS = np.zeros(0, dtype=np.int64)
_NO_LOADS = FixedLoads((), _NO_STEPS, np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What is on record of the clearing that another starts from; `orders` are the book that awards count rows of."""

    prices: Prices
    starts: Starts
    awards: Awards
    orders: Orders


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """What the price run of an interval knows: what the gate awarded, int64[orders] mW, its prices, and the meters.

    `sold_at` int64[k]: nodes at which positions of the day-ahead market settle, whoever is connected there now.
    """

    awarded_mw: IntArray
    guide: Prices
    metered: MeteredPower
    sold_at: IntArray = field(default_factory=lambda: _NO_STEPS)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Who is on hold in a period, or absent, int64[h] customers ascending, and the net withdrawal that stands for their
    orders at its gate, int64[h] W and var; nothing is awarded for it.
    """

    customer: IntArray
    usual_w: IntArray
    usual_var: IntArray

    @classmethod
    def nobody(cls) -> Held:
        """All orders count."""
        return cls(_NO_STEPS, _NO_STEPS, _NO_STEPS)


@dataclass(frozen=True, slots=True, eq=False)
class Period:
    """One period of a gate, on one feeder.

    Attributes
    ----------
    first, intervals : its market intervals.
    root_price_micros : micro-currency/kWh at which the root buys and sells.
    orders : the book, customers numbered as on record; its rows are those that awards and refusals name.
    customer, node : int64[c], who is connected to the feeder in the period, ascending, and where.
    capacity_w : int64[c], what each one's connection can carry; None: orders of any quantity are taken.
    held : whose orders do not count, because it claimed and did not deliver. absent : who is connected and sent none.
    devices : assets behind the orders, as registered; None: nobody asks for them.
    delivered : in a price run, after the interval; None: a gate, before it.
    known : of relief, for the test of market power; None: nothing.
    """

    first: int
    intervals: int
    root_price_micros: int
    orders: Orders
    customer: IntArray
    node: IntArray
    delivered: Delivered | None = None
    capacity_w: IntArray | None = None
    devices: Devices | None = None
    held: Held = field(default_factory=Held.nobody)
    absent: Held = field(default_factory=Held.nobody)
    known: Knowledge | None = None


@dataclass(frozen=True, slots=True, eq=False)
class GateTask:
    """A gate on one feeder: all that its clearings are a function of, besides the network.

    Attributes
    ----------
    feeder, market : as on record; periods : in their order, the hours of a day or one interval.
    network : name under which `Clearers.know` keeps the network.
    parameters : of the clearing; root_limit_kw : largest power through the root, None: no limit.
    customer, carry : int64[n] ascending, everybody who is connected in some period, and int64[n, 4], what is not yet
        whole of each one's awards (`market.facts.schedules`).
    start : the last clearing of this market on this network that ended at an optimum; None: cold.
    spread_micros : int64[N], last real-time price of energy less that of the root, for a fallback; None: nothing.
    agreements : limits of connections and the energy behind reserve, participants numbered as customers on record.
    references, pivotal : published prices, and thresholds of the test for market power; where both are None nobody is
        tested.
    price_run : rules of paper, and of what counts in a price run; None: there is neither.
    credit : what customers may still come to owe by all periods together; None: anything.
    taps : int64[r], steps of taps and capacitors away from the network's document as the first period begins
        (`grid.steps_moved`); empty where nothing moves.
    engine : who eliminates.
    """

    feeder: str
    market: str
    periods: tuple[Period, ...]
    network: str
    parameters: Parameters
    customer: IntArray
    carry: IntArray
    root_limit_kw: float | None = None
    start: Before | None = None
    spread_micros: IntArray | None = None
    agreements: Agreements | None = None
    references: References | None = None
    pivotal: PivotalTest | None = None
    price_run: PriceRun | None = None
    credit: Credit | None = None
    taps: IntArray = field(default_factory=lambda: _NO_STEPS)
    engine: Engine = Engine.SUPERLU


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a clearing found besides prices and awards.

    Attributes
    ----------
    findings : who was pivotal on what, where that was tested; withheld : who kept relief back.
    gave_way : limits that could not hold and paper that was taken, with their shadow prices.
    rent : currency/h, what all demand of the dispatch pays, paper with it, less what the root is paid; for_limits : of
        that, what limits collect. bent : whether a limit binds that is not convex in demand.
    """

    findings: tuple[Finding, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    gave_way: Relaxations = field(default_factory=Relaxations.empty)
    rent: float = 0.0
    for_limits: float = 0.0
    bent: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Cleared:
    """What goes on record of one period.

    Attributes
    ----------
    first : its first market interval.
    refused : orders that the market does not take, counted as awards count them.
    carry : int64[n, 4], after the period, of the task's customers.
    found : what was found besides.
    taps, taps_after : int64[r], as the period was cleared, and where controls came to rest at its dispatch. Where they
        go round in circles (`taps_settled` is false) they stay.
    """

    first: int
    refused: RefusedOrders
    awards: Awards
    schedules: Schedules
    prices: Prices
    starts: Starts
    clearing: Clearings
    carry: IntArray
    found: Found
    taps: IntArray
    taps_after: IntArray
    taps_settled: bool


class Wires:
    """A network as a process keeps it: with its factors, at the positions of its taps that came up last.

    Parameters
    ----------
    network : a case's own loads and generators are left out, for all that trades is in the book; of a network alone
        nothing moves.
    """

    def __init__(self, network: Network | Case) -> None:
        self._case = network if isinstance(network, Case) else None
        self._network = network.network if isinstance(network, Case) else network
        self._known: OrderedDict[tuple[Engine, bytes], tuple[Case | None, Factors]] = OrderedDict()

    @property
    def nodes(self) -> int:
        """How many nodes the network has."""
        return len(self._network.nodes)

    def at(self, steps: IntArray, engine: Engine) -> Factors:
        """Factors of the network with its taps so many steps from the document's.

        Raises
        ------
        InputError : another number of steps than there are taps and capacitors that move.
        """
        return self._at(steps, engine)[1]

    def rest(self, steps: IntArray, engine: Engine, demand_kva: ComplexArray) -> tuple[IntArray, bool]:
        """Where taps come to rest at a demand, and whether they do; as they were where they do not."""
        case = self._at(steps, engine)[0]
        if case is None or self._case is None or self._case.controls is None:
            return steps, True
        try:
            settled = settle_taps(case, demand_kva, loads=_NO_LOADS)
        except GridError:
            # At the edge of what the wires carry, whole milliwatts or a tap may be too much.
            return steps, False
        if not settled.settled or settled.case.controls is None:
            return steps, False
        return steps_moved(self._case.controls, settled.case.controls), True

    def _at(self, steps: IntArray, engine: Engine) -> tuple[Case | None, Factors]:
        key = engine, steps.tobytes()
        if key not in self._known:
            if self._case is None and steps.size:
                raise InputError(self._network.name, "taps", f"are {steps.size}, and nothing moves in it")
            case = None if self._case is None else at_steps(self._case, steps)
            self._known[key] = case, factorise(self._network if case is None else case.network, engine)
            while len(self._known) > POSITIONS_KEPT_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def clear_feeder(task: GateTask, wires: Wires) -> tuple[Cleared, ...]:
    """Clear the periods of a gate on one feeder, in their order.

    Raises
    ------
    InputError : customers, carry or taps do not fit each other or the network. RecordError : nor does the start.
    """
    if task.carry.shape != (task.customer.size, 4):
        raise InputError(
            f"gate of {task.feeder}", "carry", f"has shape {task.carry.shape}, not {task.customer.size} x 4"
        )
    start = None if task.start is None else _start_of(task, task.start)
    judged = _judged(task, wires)
    carry, taps = task.carry, task.taps
    done: list[Cleared] = []
    for period, refusal in zip(task.periods, judged, strict=True):
        if done and can_start(done[-1].clearing):
            last = done[-1]
            start = _start_of(task, Before(last.prices, last.starts, last.awards, task.periods[len(done) - 1].orders))
        done.append(_clear_period(task, period, refusal, wires, start, carry, taps))
        carry, taps = done[-1].carry, done[-1].taps_after
    return tuple(done)


def _there(period: Period, nodes: int) -> NDArray[np.bool_]:
    """Who of those connected in a period, bool[c], stands somewhere.

    Who stands at a node that the network lacks cannot be traded with; that is the registry's to put right.
    """
    return np.asarray((period.node >= 0) & (period.node < nodes))


def _placed(period: Period, nodes: int) -> tuple[IntArray, IntArray, IntArray | None]:
    """Who is connected in a period, where, and by what capacity."""
    there = _there(period, nodes)
    return period.customer[there], period.node[there], None if period.capacity_w is None else period.capacity_w[there]


def _judged(task: GateTask, wires: Wires) -> list[NDArray[np.uint8]]:
    """Why orders are not taken, `Refusal` of each row of each period's book."""
    nodes = wires.nodes
    floor, cap = round(task.parameters.price_floor * MICROS), round(task.parameters.price_cap * MICROS)
    judged = []
    for period in task.periods:
        customer, node, capacity = _placed(period, nodes)
        limits = None if task.price_run is None else Limits.of(task.price_run, capacity, period.devices)
        judged.append(refusals(period.orders, customer, node, floor, cap, limits, period.held.customer))
    if task.credit is None:
        return judged
    counted = [
        np.flatnonzero((refusal == Refusal.NONE) & (period.orders.customer != OPERATOR))
        for period, refusal in zip(task.periods, judged, strict=True)
    ]
    books = [(each.orders.take(rows), each.intervals) for each, rows in zip(task.periods, counted, strict=True)]
    beyond = task.customer[beyond_credit(task.credit, task.customer, books)]
    for refusal, rows, (orders, _) in zip(judged, counted, books, strict=True):
        refusal[rows[np.isin(orders.customer, beyond)]] = Refusal.BEYOND_CREDIT
    return judged


def _start_of(task: GateTask, before: Before) -> Start:
    return start_of(
        before.prices,
        before.starts,
        before.awards,
        before.orders,
        agreements=task.agreements,
        parameters=task.parameters,
    )


def _clear_period(
    task: GateTask,
    period: Period,
    refusal: NDArray[np.uint8],
    wires: Wires,
    start: Start | None,
    carry: IntArray,
    taps: IntArray,
) -> Cleared:
    factors = wires.at(taps, task.engine)
    nodes = len(factors.network.nodes)
    customer, node = _placed(period, nodes)[:2]
    # customers are numbered along the feeder here, so that what is carried is as short as the feeder
    at = np.searchsorted(task.customer, customer)
    if not np.array_equal(np.append(task.customer, OPERATOR)[at], customer):
        raise InputError(f"gate of {task.feeder}", f"interval {period.first}", "has customers that the task lacks")
    rows = np.flatnonzero(refusal == Refusal.NONE)
    accepted = period.orders.take(rows)
    if period.delivered is not None and task.price_run is not None:
        given = period.delivered
        theirs = rows[accepted.customer != OPERATOR]  # reserve is the gate's
        book, awarded = period.orders.take(theirs), given.awarded_mw[theirs]
        orders = run_orders(book, awarded, given.metered, period.root_price_micros, task.price_run)
        settled_at = np.union1d(node, given.sold_at)
        facts, found = _facts(task, period, refusal, factors, orders, settled_at, start, np.zeros_like(carry))
        return Cleared(
            first=period.first,
            refused=RefusedOrders.empty(),
            awards=Awards.empty(),
            schedules=Schedules.empty(),
            prices=facts.prices.with_reserve_of(given.guide),
            starts=Starts.empty(),  # no run starts from another
            clearing=facts.clearing,
            carry=carry,
            found=found,
            taps=taps,
            taps_after=taps,
            taps_settled=True,
        )
    both = Orders.concat([accepted, *(_usual(each, customer, node) for each in (period.held, period.absent))])
    facts, found = _facts(task, period, refusal, factors, both, np.unique(node), start, carry)
    ordered = facts.awards.take(facts.awards.order < len(accepted))
    awarded = ordered.order
    awards = replace(ordered, customer=accepted.customer[awarded], order=rows[awarded].astype(np.int32))
    who = task.customer[facts.schedules.customer - 1].astype(np.int32)
    after, settled = taps, True
    if taps.size:
        after, settled = wires.rest(taps, task.engine, _demand_kva(nodes, facts.awards, both))
    refused = np.flatnonzero(refusal)
    return Cleared(
        first=period.first,
        refused=RefusedOrders(
            customer=period.orders.customer[refused], order=refused.astype(np.int32), refusal=refusal[refused]
        ),
        awards=awards,
        schedules=replace(facts.schedules, customer=who),
        prices=facts.prices,
        starts=facts.starts,
        clearing=facts.clearing,
        carry=facts.carry,
        found=found,
        taps=taps,
        taps_after=after,
        taps_settled=settled,
    )


def _usual(held: Held, customer: IntArray, node: IntArray) -> Orders:
    """What is taken of who is on hold, where it is connected."""
    at = np.minimum(np.searchsorted(customer, held.customer), max(customer.size - 1, 0))
    here = customer[at] == held.customer if customer.size else np.zeros(held.customer.size, dtype=np.bool_)
    who, where = held.customer[here], node[at[here]]
    drawn = (held.usual_w, Product.ENERGY), (held.usual_var, Product.REACTIVE)
    return Orders.concat([inflexible(who, where, usual[here], product) for usual, product in drawn])


def _facts(
    task: GateTask,
    period: Period,
    refusal: NDArray[np.uint8],
    factors: Factors,
    orders: Orders,
    settled: IntArray,
    start: Start | None,
    carry: IntArray,
) -> tuple[Facts, Found]:
    """What comes of some orders, with paper at the nodes where somebody settles."""
    rules, network = task.parameters, factors.network
    book = OrderBook.from_orders(orders)
    options = Options(
        root_limit_kw=task.root_limit_kw,
        agreements=None if period.delivered is not None else task.agreements,
        period_hours=period.intervals / INTERVALS_PER_HOUR,
        parameters=rules,
        start=start,
        factors=factors,
        engine=task.engine,
        tie_context=f"{task.feeder}/{task.market}/{period.first}",
        last_spread=None if task.spread_micros is None else task.spread_micros / MICROS,
    )
    ladder = None if task.price_run is None else task.price_run.ladder
    if ladder is None:
        outcome, found = _cleared(task, period, refusal, network, book, orders, period.root_price_micros, options)
        taken, for_limits = PaperTaken.none(), paid_for_limits(outcome, book)
    else:
        floor, cap = round(rules.price_floor * MICROS), round(rules.price_cap * MICROS)
        root_micros = min(max(period.root_price_micros, floor), cap)  # else paper would trade with the root
        fixed = inflexible_w(orders, len(network.nodes))[settled]
        for _ in range(PAPER_TRIES):
            paper = OrderBook.from_orders(paper_orders(settled, fixed, root_micros, floor, cap, ladder))
            both = OrderBook.concat(book, replace(paper, participant=np.full(len(paper), PAPER)))
            outcome, found = _cleared(task, period, refusal, network, both, orders, root_micros, options)
            beyond = beyond_limits(outcome, settled, rules)
            if outcome.status is ClearingStatus.FALLBACK or not beyond.any():
                break
            # the last step there is used up: what it must carry stands elsewhere
            fixed = np.where(beyond, PAPER_GROWS * (fixed + ladder.last_w), fixed)
        taken, for_limits = PaperTaken.of(outcome, paper, len(orders)), paid_for_limits(outcome, both)
        outcome = without_paper(outcome, len(orders))
        if outcome.status is ClearingStatus.RELAXED:
            outcome = _really_flowing(outcome, book, factors)
    number = np.searchsorted(task.customer, orders.customer) + 1
    number[orders.customer == OPERATOR] = OPERATOR
    facts = to_records(
        outcome,
        replace(orders, customer=number.astype(np.int32)),
        root_price_micros=period.root_price_micros,
        intervals=period.intervals,
        carry=carry,
    )
    bent = any(limit.kind in NOT_CONVEX and limit.dual > 0 for limit in outcome.limits)
    return facts, replace(found, gave_way=gave_way(outcome, taken), rent=outcome.rent, for_limits=for_limits, bent=bent)


def _really_flowing(outcome: Clearing, book: OrderBook, factors: Factors) -> Clearing:
    """The outcome with the power flow of what was awarded, without paper, by which losses count; where there is one."""
    demand = np.zeros(len(factors.network.nodes), dtype=np.complex128)
    power = np.where(book.product == Product.ENERGY, 1 + 1j * book.kvar_per_kw, 0) + 1j * (
        book.product == Product.REACTIVE
    )
    np.add.at(demand, book.node, book.side * outcome.award_kw * power)
    try:
        return replace(outcome, flow=solve_powerflow(factors.network, demand, factors=factors))
    except GridError:
        return outcome  # nothing but paper holds the wires up


def _cleared(
    task: GateTask,
    period: Period,
    refusal: NDArray[np.uint8],
    network: Network,
    book: OrderBook,
    orders: Orders,
    root_price_micros: int,
    options: Options,
) -> tuple[Clearing, Found]:
    """The outcome of a book, whose first rows are the orders; with market power cured and found, where it is tested."""
    root_price = root_price_micros / MICROS
    if task.references is None and task.pivotal is None:
        return clear(network, book, root_price, **options), Found()
    test, known = task.pivotal or PivotalTest(), period.known
    worth = None
    if known is not None:
        worth = np.full(len(book), np.nan)
        worth[: len(orders)] = forgone(orders, known, root_price_micros, test)
    mitigated = clear_mitigated(
        network, book, root_price, references=task.references, test=test, forgone=worth, **options
    )
    kept_back: tuple[Withheld, ...] = ()
    if known is not None and mitigated.clearing.limits:
        rest = _idle(task, period, refusal, len(network.nodes), root_price_micros, test)
        kept_back = withheld(mitigated.run, mitigated.book, rest, test)
    return mitigated.clearing, Found(mitigated.findings, kept_back)


def _idle(
    task: GateTask, period: Period, refusal: NDArray[np.uint8], nodes: int, root_price_micros: int, test: PivotalTest
) -> Idle:
    """What could have been sold and was not offered; in a price run also what was awarded and not delivered.

    An order that was refused is no offer. Nobody is asked for what the gate would not have taken in any form: of who is
    on hold or beyond its credit, or from a device for which nobody vouches where the rules ask that.
    """
    assert period.known is not None
    rules, there = task.price_run, _there(period, nodes)
    rows = np.flatnonzero((refusal == Refusal.NONE) & (period.orders.customer != OPERATOR))
    orders, customer = period.orders.take(rows), period.customer[there]
    shut_out = period.orders.customer[refusal == Refusal.BEYOND_CREDIT], period.held.customer
    devices = period.known.devices
    able = ~np.isin(devices.customer, np.concatenate(shut_out))
    if rules is not None and rules.within_devices and rules.attested:
        able &= devices.attested
    known = replace(period.known, devices=devices.take(able), export_w=period.known.export_w[there])
    unoffered = idle(orders, known, customer, period.node[there], root_price_micros, test)
    given = period.delivered
    if given is None or rules is None:
        return unoffered
    short = undelivered(orders, given.awarded_mw[rows], given.metered, known, root_price_micros, test, rules)
    return together(unoffered, short)


def _demand_kva(nodes: int, awards: Awards, orders: Orders) -> ComplexArray:
    """Demand at every node, complex128[nodes], that awards come to; reserve is none until it is called."""
    taken = orders.take(awards.order)
    kilo = awards.quantity_mw / MICROS * taken.side
    power = np.where(taken.product == Product.ENERGY, kilo * (1 + 1j * taken.var_per_kw / 1000.0), 0j)
    power = np.where(taken.product == Product.REACTIVE, 1j * kilo, power)
    demand = np.zeros(nodes, dtype=np.complex128)
    np.add.at(demand, taken.node, power)
    return demand
