"""What settles, of random books with random meters: a gate with paper, then the price run on what meters show.

Of every home some share of its award is delivered, or none, or something else altogether; some are silent. Whatever is
claimed, the price at which anybody settles lies within cap and floor; and what all that the run dispatches pays, less
what the root is paid, is no less than minus what the losses of the empty wires cost, which no marginal price pays for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tellegen.assess.trial.books import Market
from tellegen.assess.trial.questions import Answer, Question
from tellegen.grid import GridError, Network, solve_powerflow
from tellegen.market import Parameters, PivotalTest
from tellegen.market.facts import CARRIED
from tellegen.operations.awarded import MW_PER_W
from tellegen.operations.gate import Cleared, Delivered, GateTask, Period, Wires, clear_feeder
from tellegen.operations.price_run import MeteredPower
from tellegen.records import ClearingStatus, Device, Orders, Product
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules.price_run import PriceRun
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray

SILENT = 0.1
SHARES = (0.0, 0.0, 0.3, 0.8, 1.0, 1.0, 1.0, 1.2)
"""Homes deliver such a share of their awards; a tenth of them something else, up to twice their largest order."""
FUSE_W, W_PER_KW = 10**7, 1_000


def settled_errors(market: Market, number: int) -> Iterator[Answer]:
    """How far settled prices are beyond cap and floor, and how far rent falls short, in gate and run."""
    orders = _orders(market)
    if not len(orders):
        return
    network = _limited(market)
    wires, rules = Wires(network), Parameters()
    floor, cap = round(rules.price_floor * MICROS), round(rules.price_cap * MICROS)
    customer, first = np.unique(orders.customer.astype(np.int64), return_index=True)
    node = orders.node[first].astype(np.int64)
    root = round(market.root_price * MICROS)

    def cleared(name: str, delivered: Delivered | None) -> Cleared:
        task = GateTask(
            feeder="trial",
            market=name,
            periods=(Period(number, 1, root, orders, customer, node, delivered),),
            network=network.name,
            parameters=rules,
            customer=customer,
            carry=np.zeros((customer.size, CARRIED), dtype=np.int64),
            root_limit_kw=market.root_limit_kw,
            pivotal=PivotalTest(margin=0.05, conduct_share=0.05, impact_share=0.05) if number % 2 else None,
            price_run=PriceRun(),
            engine=market.engine,
        )
        return clear_feeder(task, wires)[0]

    gate = cleared(REAL_TIME, None)
    metered = _meters(orders, gate, customer, node, np.random.default_rng([31, number]))
    run = cleared(PRICE_RUN, Delivered(gate.awards.by_order(len(orders)), gate.prices, metered))
    for what, done in (("gate", gate), ("run", run)):
        price = done.prices.energy[node]
        beyond = max(int(price.max()) - cap, floor - int(price.min()), 0)
        yield Answer(Question.WITHIN, beyond / MICROS, what)
        yield Answer(Question.RUN_ENDS, float(int(done.clearing.status[0]) == ClearingStatus.FALLBACK), what)
    if int(run.clearing.status[0]) != ClearingStatus.FALLBACK:
        yield from _rent(network, run, metered, root, market.root_limit_kw)


def _rent(
    network: Network, run: Cleared, metered: MeteredPower, root_micros: int, root_limit_kw: float | None
) -> Iterator[Answer]:
    """By how much rent falls short of what the losses of the empty wires cost, as a share of turnover.

    Of the run's own dispatch that is a law in two parts. Losses are convex in demand, so what prices collect for losses
    covers all but those of the empty wires, where the root asks a price for them. What limits collect is no less than
    nothing where the empty wires are within them and they are convex, too; a highest voltage, and what may be fed in at
    the root, are not. Of meters it is no law: what was delivered and is not wanted any more is paid its price all the
    same, and nobody pays for paper.
    """
    root = root_micros / MICROS
    try:
        empty = solve_powerflow(network, np.zeros(len(network.nodes), dtype=np.complex128))
    except GridError:
        return
    if root < 0:
        return
    price, reactive = (
        np.asarray(each[metered.node], dtype=np.float64) / MICROS for each in (run.prices.energy, run.prices.reactive)
    )
    net_kw, net_kvar = metered.net_w / W_PER_KW, metered.net_var / W_PER_KW
    turnover = 1.0 + float(np.abs(net_kw) @ np.abs(price)) + float(np.abs(net_kvar) @ np.abs(reactive))
    for_limits, for_losses = run.found.for_limits, run.found.rent - run.found.for_limits + root * empty.root_kw
    yield Answer(Question.RENT_LOSSES, max(-for_losses, 0.0) / turnover, f"{for_losses:.3g} per h")
    volt = np.abs(empty.voltage)
    beyond = bool(((volt < network.v_min) | (volt > network.v_max)).any())
    if beyond or (root_limit_kw is not None and abs(empty.root_kw) > root_limit_kw):
        return
    yield Answer(
        Question.RENT_BENT if run.found.bent else Question.RENT_LIMITS,
        max(-for_limits, 0.0) / turnover,
        f"{for_limits:.3g} per h",
    )
    losses_kw = float(run.clearing.losses_wh[0]) * INTERVALS_PER_HOUR / W_PER_KW
    on_meters = float(net_kw @ price + net_kvar @ reactive) - root * (float(net_kw.sum()) + losses_kw)
    # losses on record are whole Wh
    on_meters += root * (empty.root_kw + INTERVALS_PER_HOUR / W_PER_KW / 2)
    yield Answer(Question.RENT_METERS, max(-on_meters, 0.0) / turnover, f"{on_meters:.3g} per h")


def _limited(market: Market) -> Network:
    """The network with the voltage limits of the market."""
    network = market.network
    nodes = len(network.nodes)
    low = network.v_min if market.v_min is None else np.full(nodes, market.v_min)
    high = network.v_max if market.v_max is None else np.full(nodes, market.v_max)
    return replace(network, v_min=low, v_max=high)


def _orders(market: Market) -> Orders:
    """The book as orders on record: whole numbers, plain steps, everybody at one node; reserve is left to gates."""
    book, rules = market.book, Parameters()
    place = book.node.copy()
    beyond = place >= len(market.network.nodes)
    table = book.connections
    place[beyond] = table.node[table.start[place[beyond] - len(market.network.nodes)]]
    watts = np.rint(book.quantity_kw * 1_000).astype(np.int64)
    taken = np.flatnonzero((book.product <= Product.REACTIVE) & (book.participant > 0) & (watts > 0))
    taken = taken[np.argsort(book.participant[taken], kind="stable")]
    rows = np.zeros(taken.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["product"] = book.participant[taken], place[taken], book.product[taken]
    rows["device"], rows["side"], rows["quantity_w"] = Device.LOAD, book.side[taken], watts[taken]
    rows["price_taker"] = book.price_taker[taken]
    price = np.clip(np.nan_to_num(book.price[taken]), rules.price_floor, rules.price_cap)
    rows["price_micros"] = np.rint(price * MICROS)
    rows["var_per_kw"] = np.rint(book.kvar_per_kw[taken] * 1_000)
    return Orders.from_rows(rows)


def _meters(
    orders: Orders, gate: Cleared, customer: IntArray, node: IntArray, rng: np.random.Generator
) -> MeteredPower:
    """What meters show after a gate."""
    at = np.searchsorted(customer, orders.customer)
    award = gate.awards.by_order(len(orders)) // MW_PER_W * orders.side
    energy = orders.product == Product.ENERGY
    net, var, largest = np.zeros((3, customer.size), dtype=np.int64)
    np.add.at(net, at[energy], award[energy])
    np.add.at(var, at, np.where(energy, award * orders.var_per_kw // MW_PER_W, award))
    np.maximum.at(largest, at, orders.quantity_w)
    share = rng.choice(SHARES, customer.size)
    other = rng.random(customer.size) < 0.1
    odd = np.rint(largest * rng.uniform(-2.0, 2.0, customer.size)).astype(np.int64)
    fuse = np.full(customer.size, FUSE_W)
    return MeteredPower(
        customer=customer,
        node=node,
        net_w=np.where(other, odd, np.rint(net * share).astype(np.int64)),
        net_var=np.rint(var * share).astype(np.int64),
        missing=rng.random(customer.size) < SILENT,
        import_w=fuse,
        export_w=fuse,
    )
