"""Independent checks of a day: OpenDSS replays the dispatch, finite differences the prices, and it is settled afresh.

All work from the record: the books as their gates counted them, the awards and the prices that settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tellegen.grid import Network, solve_powerflow
from tellegen.grid.network import ComplexArray
from tellegen.intake.stages import Stages
from tellegen.market import OrderBook, Parameters, clear, start_of
from tellegen.operations.afresh import equals_afresh
from tellegen.operations.reading import read_round
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.operations.writer import Writer
from tellegen.records import Awards, ClearingStatus, Product
from tellegen.report.day import ClearedRound
from tellegen.simulation.plant import Plant
from tellegen.simulation.setup import Setup
from tellegen.units import MICROS

STEPS_KW = (0.02, 0.005, 0.001)
"""Half steps of the central differences: small against an award, large against the engine's residual."""
KINK = 2e-6
"""One-sided differences that differ by more than this share of the price show a kink."""
SAMPLES = 6
"""Clearings whose prices are checked; those with binding limits first."""
_ROUNDING = 0.5 / MICROS
"""By how much a recorded price may differ from the engine's, currency per kWh."""


def dispatch_kva(cleared: ClearedRound, nodes: int) -> ComplexArray:
    """Net demand of the recorded dispatch at every node."""
    orders, awarded_mw = cleared.as_cleared()
    demand = np.zeros(nodes, dtype=np.complex128)
    signed = orders.side * awarded_mw / 1e6
    along = signed * (1 + 1j * orders.var_per_kw / 1000.0)
    held = np.isin(orders.product, (Product.RESERVE_UP, Product.RESERVE_DOWN))
    power = np.where(orders.product == Product.ENERGY, along, 1j * signed)
    np.add.at(demand, orders.node[~held], power[~held])
    return demand


def price_errors(network: Network, cleared: ClearedRound, nodes: Iterable[int], parameters: Parameters) -> list[float]:
    """Relative differences between nodes' recorded prices and the re-solved optimum's derivatives of welfare.

    The derivative is a central difference. Step bids make welfare piecewise: where the two one-sided
    differences disagree, an order's end or a limit lies within the step, which is then made smaller.
    What rounding to a micro-currency may have moved is no error. A node whose price is at such an end itself is left
    out.
    """
    (orders, awarded_mw), facts = cleared.as_cleared(), cleared.period
    book, rows = OrderBook.from_orders(orders), np.flatnonzero(awarded_mw)
    awards = Awards(customer=orders.customer[rows], order=rows.astype(np.int32), quantity_mw=awarded_mw[rows])
    start = start_of(facts.prices, cleared.starts, awards, orders, parameters=parameters)
    root_price = int(facts.clearing.root_price[0]) / MICROS

    def welfare(node: int, step_kw: float) -> float:
        more = np.zeros(len(network.nodes), dtype=np.complex128)
        more[node] = step_kw
        return clear(network, book, root_price, fixed_kva=more, parameters=parameters, start=start).welfare

    here, errors = welfare(0, 0.0), []
    for node in nodes:
        price = int(facts.prices.energy[facts.prices.node == node][0]) / MICROS
        for step_kw in STEPS_KW:
            below, above = welfare(node, -step_kw), welfare(node, step_kw)
            if abs(2.0 * here - below - above) <= KINK * step_kw * abs(price):
                error = abs((below - above) / (2.0 * step_kw) - price)
                errors.append(max(error - _ROUNDING, 0.0) / max(abs(price), 1e-3))
                break
    return errors


class Referee:
    """Checks a day while it is played, from its record and in a process of its own.

    Parameters
    ----------
    setup : the scenario made ready. folder : of the shard; must be there.
    """

    def __init__(self, setup: Setup, folder: Path) -> None:
        self._setup, self._record = setup, ShardRecord.open(folder)
        self._state = State(self._record.topology, self._record.rulebook, self._record.registers)
        self._fold = Writer(self._record, self._state, Stages())
        self._plant = Plant(self._setup.community.case, perturb=0.0)
        self._rounds: list[ClearedRound] = []
        self._voltage: ComplexArray | None = None
        self._worst_pu = 0.0

    def follow(self, until: int) -> None:
        """Replay what has been dispatched in the intervals before one; that is on record. All that is gets folded."""
        setup = self._setup
        self._record.refresh()
        self._fold.fold()
        for interval in range(setup.first + len(self._rounds), until):
            cleared = read_round(self._record, setup.feeder, interval)
            demand = dispatch_kva(cleared, len(setup.network.nodes))
            self._voltage = solve_powerflow(setup.network, demand, start=self._voltage).voltage
            replayed = self._plant.solve(demand).voltage_pu
            self._worst_pu = max(self._worst_pu, float(np.abs(replayed - np.abs(self._voltage)).max()))
            self._rounds.append(cleared)

    def equals_afresh(self) -> bool:
        """Whether a settlement of the closed day from scratch comes to what is on record."""
        setup = self._setup
        self.follow(setup.first + setup.intervals)
        feeder = self._state.topology.number[setup.feeder]
        return equals_afresh(self._record, self._state, feeder, setup.scenario.day.date)

    def section(self) -> dict[str, float | None]:
        """The two figures of the summary's evidence, of the whole day; None where no price could be compared.

        Voltages: the largest difference between the engine's power flow of the dispatches and OpenDSS on the same
        network. Prices are compared where they are unique and nothing gave way, at the dearest and cheapest node of
        each sampled clearing; the sample is spread evenly over the intervals with binding limits.
        """
        setup = self._setup
        self.follow(setup.first + setup.intervals)
        optimal = [r for r in self._rounds if r.period.clearing.status[0] == ClearingStatus.OPTIMAL and len(r.starts)]
        unique = [r for r in optimal if not (r.period.prices.low < r.period.prices.high).any()]
        binding = [r for r in unique if int(r.period.clearing.binding[0])] or unique
        picked = np.unique(np.linspace(0, len(binding) - 1, SAMPLES if binding else 0).astype(int))
        errors: list[float] = []
        for cleared in (binding[k] for k in picked):
            prices = cleared.period.prices
            free = np.flatnonzero(np.isin(prices.node, setup.network.free))
            energy = prices.energy[free]
            nodes = prices.node[free[[energy.argmax(), energy.argmin()]]].tolist()
            errors += price_errors(setup.network, cleared, nodes, setup.rules.market)
        return {
            "replay_max_dv_pu": self._worst_pu,
            "fd_max_relative": max(errors, default=None),
            "fd_samples": len(errors),
        }
