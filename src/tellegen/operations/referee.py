"""Independent checks of a day's clearings: OpenDSS replays the dispatch, finite differences the prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.grid import Network
from tellegen.grid.network import ComplexArray
from tellegen.market import Clearing, OrderBook, Parameters, clear
from tellegen.operations.plant import Plant
from tellegen.operations.setup import Setup

STEPS_KW = (0.02, 0.005, 0.001)
"""Half steps of the central differences: small against an award, large against the engine's residual."""
KINK = 2e-6
"""One-sided differences that differ by more than this share of the price show a kink."""
SAMPLES = 6
"""Clearings whose prices are checked; those with binding limits first."""


@dataclass(frozen=True, slots=True, eq=False)
class ClearedRound:
    """A clearing as it came out of the engine, with what went in."""

    interval: int
    book: OrderBook
    root_price: float
    clearing: Clearing

    def demand_kva(self, nodes: int) -> ComplexArray:
        """Net demand of the dispatch at every node."""
        book, demand = self.book, np.zeros(nodes, dtype=np.complex128)
        signed = book.side * self.clearing.award_kw
        energy = book.product == 0
        np.add.at(demand, book.node, np.where(energy, signed * (1 + 1j * book.kvar_per_kw), 1j * signed))
        return demand


def replay_voltage_error_pu(setup: Setup, rounds: list[ClearedRound]) -> float:
    """Largest voltage difference between the clearings and OpenDSS with the market's own network."""
    plant = Plant(setup.community.case, perturb=0.0)
    worst = 0.0
    for cleared in rounds:
        state = plant.solve(cleared.demand_kva(len(setup.network.nodes)))
        worst = max(worst, float(np.abs(state.voltage_pu - np.abs(cleared.clearing.flow.voltage)).max()))
    return worst


def price_error(network: Network, cleared: ClearedRound, node: int, parameters: Parameters) -> float | None:
    """Relative difference between a node's price and the re-solved optimum's derivative of welfare.

    The derivative is a central difference. Step bids make welfare piecewise: where the two one-sided
    differences disagree, an order's end or a limit lies within the step, which is then made smaller.
    None where the price is at such an end itself.
    """

    def welfare(step_kw: float) -> float:
        more = np.zeros(len(network.nodes), dtype=np.complex128)
        more[node] = step_kw
        again = clear(
            network,
            cleared.book,
            cleared.root_price,
            fixed_kva=more,
            parameters=parameters,
            warm=cleared.clearing.warm,
        )
        return again.welfare

    price = float(cleared.clearing.prices.energy[node])
    here = welfare(0.0)
    for step_kw in STEPS_KW:
        below, above = welfare(-step_kw), welfare(step_kw)
        if abs(2.0 * here - below - above) <= KINK * step_kw * abs(price):
            return abs((below - above) / (2.0 * step_kw) - price) / max(abs(price), 1e-3)
    return None


def referee_section(setup: Setup, rounds: list[ClearedRound]) -> dict[str, float | None]:
    """The two figures of the summary's evidence; None where no price could be compared.

    Prices are compared where they are unique, at the dearest and the cheapest node of each sampled
    clearing; the sample is spread evenly over the intervals with binding limits.
    """
    unique = [r for r in rounds if not (r.clearing.prices.low < r.clearing.prices.high).any()]
    binding = [r for r in unique if r.clearing.limits] or unique
    chosen = [binding[k] for k in np.unique(np.linspace(0, len(binding) - 1, SAMPLES).astype(int))] if binding else []
    errors: list[float] = []
    for cleared in chosen:
        energy = cleared.clearing.prices.energy[setup.network.free]
        for place in (int(energy.argmax()), int(energy.argmin())):
            node = int(setup.network.free[place])
            error = price_error(setup.network, cleared, node, setup.rules.market)
            errors += [] if error is None else [error]
    return {
        "replay_max_dv_pu": replay_voltage_error_pu(setup, rounds),
        "fd_max_relative": max(errors, default=None),
        "fd_samples": len(errors),
    }
