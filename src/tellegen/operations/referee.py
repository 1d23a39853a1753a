"""Independent checks of a day's clearings: OpenDSS replays the dispatch, finite differences the prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.grid import Network
from tellegen.grid.network import ComplexArray
from tellegen.market import Clearing, OrderBook, Parameters, clear
from tellegen.operations.plant import Plant
from tellegen.operations.setup import Setup

STEP_KW = 0.02
"""Half step of the central differences: small against any award, large against the engine's residual."""
SAMPLES = 4
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


def price_error(network: Network, cleared: ClearedRound, node: int, parameters: Parameters) -> float:
    """Relative difference between a node's price and the re-solved optimum's derivative of welfare."""

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

    derivative = (welfare(-STEP_KW) - welfare(STEP_KW)) / (2.0 * STEP_KW)
    price = float(cleared.clearing.prices.energy[node])
    return abs(derivative - price) / max(abs(price), 1e-3)


def referee_section(setup: Setup, rounds: list[ClearedRound]) -> dict[str, float]:
    """The two figures of the summary's evidence.

    Prices are compared where they are unique, at the dearest and the cheapest node of each sampled
    clearing; the sample is spread evenly over the intervals with binding limits.
    """
    unique = [r for r in rounds if not (r.clearing.prices.low < r.clearing.prices.high).any()]
    binding = [r for r in unique if r.clearing.limits] or unique
    chosen = [binding[k] for k in np.unique(np.linspace(0, len(binding) - 1, SAMPLES).astype(int))] if binding else []
    worst = 0.0
    for cleared in chosen:
        energy = cleared.clearing.prices.energy[setup.network.free]
        for place in (int(energy.argmax()), int(energy.argmin())):
            node = int(setup.network.free[place])
            worst = max(worst, price_error(setup.network, cleared, node, setup.rules.market))
    return {
        "replay_max_dv_pu": replay_voltage_error_pu(setup, rounds),
        "fd_max_relative": worst,
        "fd_samples": 2 * len(chosen),
    }
