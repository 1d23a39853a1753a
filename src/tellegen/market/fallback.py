"""Administrative prices, and the least harmful dispatch at hand, where no optimum is found."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from tellegen.grid.connections import Wiring
from tellegen.grid.network import FloatArray
from tellegen.grid.powerflow import PHASES, GridError, PowerFlow, solve_powerflow
from tellegen.market.book import OrderBook
from tellegen.market.limits import node_name
from tellegen.market.operating_point import Task
from tellegen.market.outcome import Clearing, Evidence, cut_short, rent_of, ties_of, welfare_of
from tellegen.market.pricing import Prices
from tellegen.market.search import Found
from tellegen.records import ClearingStatus


def fallback_of(
    task: Task,
    book: OrderBook,
    found: Found | None,
    reason: str,
    programs: int,
    tie_context: str,
    last_spread: FloatArray | None,
) -> Clearing:
    """Administrative prices, and the least harmful dispatch at hand, after so many quadratic programs."""
    nodes, size = len(task.network.nodes), task.wiring.places
    spread = np.zeros(size)
    if last_spread is not None and np.shape(last_spread) == (nodes,):
        spread[:nodes] = np.where(np.isfinite(last_spread), last_spread, 0.0)
        spread[nodes:] = [
            spread[book.connections.node[a:b]] @ book.connections.share[a:b]
            for a, b in pairwise(book.connections.start.tolist())
        ]
    # It is the price of no optimum, so a rule bounds it; where there is paper the root's price lies within the bounds.
    rules = task.parameters
    low, high = min(rules.price_floor, task.root_price), max(rules.price_cap, task.root_price)
    parts = np.zeros((4, size))
    parts[0], parts[2] = task.root_price, np.clip(task.root_price + spread, low, high) - task.root_price
    reactive = np.zeros((4, size))
    reactive[0] = task.root_reactive_price
    nodal = Prices.of(parts, reactive, np.zeros((2, size)), np.zeros(2))
    nothing = np.zeros(task.steps.width.size)
    candidates = [nothing] if found is None else [found.point.y, nothing]
    y, flow, violation = _safest(task, candidates)
    served = 1.0
    steps = task.steps
    if flow is None:
        served, flow, where = _curtail(task)
        y = candidates[-1]
        violation = _violation(task, flow)
        reason += f"; the wires have no power flow beyond {100 * served:.3f} % of what is inflexible, where {where}"
        reason += "; every order is served at that share of its inflexible part"
        steps = replace(steps, fixed_kva=served * steps.fixed_kva, fixed_kw=served * steps.fixed_kw)
    return Clearing(
        status=ClearingStatus.FALLBACK,
        welfare=welfare_of(task, y, flow),
        rent=rent_of(
            replace(task, steps=steps), book, nodal, np.full(task.wiring.power.size, complex(task.root_price)), y, flow
        ),
        prices=nodal,
        award_kw=steps.awards(y, book.quantity_kw),
        tie=ties_of(steps),
        flow=flow,
        limits=(),
        relaxations=(),
        evidence=Evidence(
            flow.mismatch_pu,
            found.kkt if found is not None else float("inf"),
            max(violation, 0.0),
            programs,
        ),
        starts=None,
        reason=reason,
        warnings=cut_short(task, book, y),
        tie_context=tie_context,
    )


def _violation(task: Task, flow: PowerFlow) -> float:
    """Largest excess over a limit of the network in the dispatch."""
    blind = [flow] * len(task.steps.scenarios)
    values = task.limits.values(blind, np.zeros(task.steps.channels.place.size))
    return float(values[: task.limits.first_linear].max(initial=0.0))


def _safest(task: Task, candidates: list[FloatArray]) -> tuple[FloatArray, PowerFlow | None, float]:
    """The first dispatch within limits, else the one that hurts them least."""
    best: tuple[FloatArray, PowerFlow | None, float] = (candidates[0], None, np.inf)
    for y in candidates:
        try:
            flow = solve_powerflow(task.network, task.steps.demand_kva(y), wiring=task.wiring, factors=task.factors)
        except GridError:
            continue
        violation = _violation(task, flow)
        if violation <= task.parameters.violation_pu_max:
            return y, flow, violation
        if violation < best[2]:
            best = (y, flow, violation)
    return best


def _curtail(task: Task) -> tuple[float, PowerFlow, str]:
    """Largest share of the fixed demand (to 1/1024) that the network can carry, and where it fails first.

    The network's own loads with laws stay; where not even they can be carried alone, nothing is.
    """
    network, factors, wiring = task.network, task.factors, task.wiring

    def carried(share: float, wiring: Wiring) -> PowerFlow:
        return solve_powerflow(network, share * task.steps.fixed_kva[0], wiring=wiring, factors=factors)

    low, high = 0.0, 1.0
    try:
        flow = carried(0.0, wiring)
    except GridError:
        return 0.0, carried(0.0, replace(wiring, incidence=None, law=None)), "its own loads alone have none"
    for _ in range(10):
        middle = (low + high) / 2
        try:
            flow = carried(middle, wiring)
            low = middle
        except GridError:
            high = middle
    live = factors.free[network.phase[factors.free] <= PHASES]
    moved = np.abs(np.log(np.abs(flow.voltage[live]) / np.abs(factors.no_load[factors.position[live]])))
    return low, flow, f"the voltage of node {node_name(network, int(live[np.argmax(moved)]))} moves most"
