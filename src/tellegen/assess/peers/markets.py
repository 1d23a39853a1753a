"""The markets on which engines are compared; in each of them limits bind."""

from __future__ import annotations

import numpy as np

from tellegen.assess.peers.instance import Instance
from tellegen.errors import InputError
from tellegen.grid import Case, load_case
from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.synthetic import opendss_script, synthetic_feeder
from tellegen.market import OrderBook
from tellegen.simulation.workload import ROOT_PRICE, Binding, limits_that_bind


def demand_books(node: IntArray, peak_kw: FloatArray, intervals: int, seed: int, *, sloped: bool) -> list[OrderBook]:
    """Evening: every customer has a part that it does not bid for and two bids besides; every third offers its battery.

    With `sloped` the two bids are one whose price falls over its quantity, and offers rise.
    """
    rng = np.random.default_rng(seed)
    count = node.size
    seller = np.arange(0, count, 3)
    books = []
    for _ in range(intervals):
        high, low = rng.uniform(0.35, 0.6, count), rng.uniform(0.15, 0.35, count)
        wanted, offered = (
            peak_kw * rng.uniform(0.6, 1.2, (2, count)),
            peak_kw[seller] * rng.uniform(0.2, 0.8, seller.size),
        )
        fixed = OrderBook.of(node, 1, np.nan, 0.25 * peak_kw * rng.uniform(0.8, 1.2, count), kvar_per_kw=0.3)
        ask = rng.uniform(0.25, 0.5, seller.size)
        if sloped:
            whole = wanted.sum(axis=0) / 2
            buy = OrderBook.of(node, 1, high, whole, slope=(high - low) / whole)
            sell = OrderBook.of(node[seller], -1, ask, offered, slope=0.1 / offered)
        else:
            buy = OrderBook.of(np.tile(node, 2), 1, np.concatenate([high, low]), wanted.ravel() / 2)
            sell = OrderBook.of(node[seller], -1, ask, offered)
        books.append(OrderBook.concat(fixed, buy, sell))
    return books


def solar_books(node: IntArray, peak_kw: FloatArray, intervals: int, seed: int, *, sloped: bool) -> list[OrderBook]:
    """Noon: little demand, and two of three customers offer more sun than the wires can take away."""
    rng = np.random.default_rng(seed)
    count = node.size
    seller = np.flatnonzero(np.arange(count) % 3 > 0)
    books = []
    for _ in range(intervals):
        fixed = OrderBook.of(node, 1, np.nan, 0.1 * peak_kw * rng.uniform(0.8, 1.2, count), kvar_per_kw=0.3)
        buy = OrderBook.of(node, 1, rng.uniform(0.05, 0.2, count), 0.1 * peak_kw)
        ask, most = rng.uniform(0.0, 0.1, seller.size), peak_kw[seller] * rng.uniform(1.0, 2.5, seller.size)
        sell = OrderBook.of(node[seller], -1, ask, most, slope=0.05 / most if sloped else 0.0)
        books.append(OrderBook.concat(fixed, buy, sell))
    return books


def district(
    customers: int, intervals: int, season: str, *, phases: int = 1, sloped: bool = False, seed: int = 1
) -> Instance:
    """A synthetic feeder in the `evening` (the lowest voltage binds) or at `noon` (the highest voltage binds).

    Raises
    ------
    InputError : another season.
    """
    feeder = synthetic_feeder(customers, phases=phases, seed=seed)
    form, wires = ("quadratic" if sloped else "step"), ("one-phase" if phases == 1 else "three-phase")
    drawn = "" if seed == 1 else f", seed {seed}"
    return _instance(
        f"{customers} customers, {wires}, {form} bids, {season}{drawn}",
        feeder.case,
        feeder.customer_node,
        feeder.peak_kw,
        intervals,
        season,
        sloped=sloped,
        seed=seed,
        script=opendss_script(feeder) if phases == 3 else None,
    )


def case33(intervals: int, season: str, *, seed: int = 1) -> Instance:
    """The 33-bus feeder of Baran and Wu as pandapower ships it, one customer a bus, step bids around the file's loads.

    Raises
    ------
    InputError : the extra `grids` is not installed; another season.
    """
    case = load_case("pandapower:case33bw")
    node, kw = case.loads.node, case.loads.p_kw
    return _instance(f"33 buses, step bids, {season}", case, node, kw, intervals, season, seed=seed)


def _instance(
    name: str,
    case: Case,
    node: IntArray,
    peak_kw: FloatArray,
    intervals: int,
    season: str,
    *,
    sloped: bool = False,
    seed: int,
    script: str | None = None,
) -> Instance:
    if season not in ("evening", "noon"):
        raise InputError("peers", f"season '{season}'", "must be evening or noon")
    make = demand_books if season == "evening" else solar_books
    books = make(node, peak_kw, intervals, seed, sloped=sloped)
    binding = Binding.LOWEST_VOLTAGE if season == "evening" else Binding.HIGHEST_VOLTAGE
    limited = limits_that_bind(case.network, books[0], binding)
    # The root's price is the workload's, give or take a tenth.
    prices = ROOT_PRICE * np.random.default_rng(seed).uniform(0.9, 1.1, intervals)
    return Instance(
        name,
        limited.network,
        tuple(books),
        prices,
        limited.limits.get("v_min"),
        limited.limits.get("v_max"),
        case=case if script is None else None,
        script=script,
    )
