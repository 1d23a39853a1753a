"""Every dispatch is judged by the same judge: put through our AC power flow, its welfare and violations measured.

A peer's time counts only where its dispatch is as good as ours: within the limits, with no less welfare.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tellegen.assess.peers.instance import Arrays, Instance
from tellegen.assess.replay import ThreePhaseReplay
from tellegen.grid import Engine, GridError, PowerFlow, best_engine
from tellegen.grid.loads import GROUND
from tellegen.grid.network import FloatArray, Network
from tellegen.market import Clearing, Start, clear, start_after
from tellegen.simulation.plant import Plant

VIOLATION_MAX = 1e-5
"""Per unit of voltage, share of a rating: what an interior point leaves at its usual tolerance, and more."""
SHORTFALL_MAX = 1e-6
"""Welfare that may be missing, as a share of the money that changes hands."""


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """Dispatch, prices and times of one engine over the books of an instance.

    Attributes
    ----------
    award_kw : float64[T, n]; price : float64[T, N].
    status : in the engine's words, one per book.
    cold_s : float64[T], each book by itself; warm_s : float64[<= T - 1], with what the book before left.
    build_s : once, before the first book: not in the times.
    """

    award_kw: FloatArray
    price: FloatArray
    status: tuple[str, ...]
    cold_s: FloatArray
    warm_s: FloatArray
    build_s: float

    @classmethod
    def of(cls, result: Arrays) -> Timed:
        """What a peer's program returned."""
        return cls(
            award_kw=result["award"],
            price=result["price"],
            status=tuple(str(s) for s in result["status"]),
            cold_s=result["cold_s"],
            warm_s=result.get("warm_s", np.zeros(0)),
            build_s=float(result["build_s"]),
        )

    @property
    def best_s(self) -> float:
        """The least of its cold and its warm median."""
        medians = [float(np.median(t)) for t in (self.cold_s, self.warm_s) if t.size]
        return min(medians)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one engine, the worst over all books.

    Attributes
    ----------
    shortfall : welfare missing against ours, as a share of the money that changes hands; negative: it has more.
    violation : largest excess over a limit in our power flow, pu of voltage or share of a rating; inf: no power flow.
    price_difference : largest difference from our prices, as a share of the root price.
    books : books with a dispatch.
    """

    shortfall: float
    violation: float
    price_difference: float
    books: int

    @property
    def counts(self) -> bool:
        """Whether its time may be compared."""
        return self.books > 0 and self.violation <= VIOLATION_MAX and self.shortfall <= SHORTFALL_MAX


@dataclass(frozen=True, slots=True, eq=False)
class Ours:
    """Our own engine on an instance: times, limits that bound and quadratic programs per book."""

    timed: Timed
    binding: tuple[int, ...]
    programs: tuple[int, ...]

    @property
    def optimal(self) -> bool:
        """Whether no clearing was relaxed or fell back."""
        return set(self.timed.status) == {"optimal"}


def prepare_ours(instance: Instance, cold: int) -> Callable[[], Ours]:
    """The timed part clears every book, warm from the one before, and the first `cold` of them cold as well."""

    engine = best_engine()

    def timed() -> Ours:
        clearings: list[Clearing] = []
        start: Start | None = None
        warm_s, cold_s = [], []
        for k in range(len(instance.books)):
            if k < cold:
                # Another object with the same numbers: nothing that is kept by network is known of it.
                begun = time.perf_counter()
                _clear(instance, replace(instance.network), k, None, engine)
                cold_s.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            clearings.append(_clear(instance, instance.network, k, start, engine))
            if k:
                warm_s.append(time.perf_counter() - begun)
            start = start_after(clearings[-1], instance.books[k])
        return Ours(
            Timed(
                award_kw=np.stack([c.award_kw[instance.steps] for c in clearings]),
                price=np.stack([c.prices.energy[: len(instance.network.nodes)] for c in clearings]),
                status=tuple(c.status.name.lower() for c in clearings),
                cold_s=np.array(cold_s),
                warm_s=np.array(warm_s),
                build_s=0.0,
            ),
            tuple(sum(limit.dual > 0 for limit in c.limits) for c in clearings),
            tuple(c.evidence.iterations for c in clearings),
        )

    return timed


def _clear(instance: Instance, network: Network, k: int, start: Start | None, engine: Engine) -> Clearing:
    return clear(
        network,
        instance.books[k],
        float(instance.root_price[k]),
        v_min=instance.v_min,
        v_max=instance.v_max,
        root_limit_kw=instance.root_limit_kw,
        start=start,
        engine=engine,
    )


def judge(instance: Instance, engine: Timed, reference: Timed) -> Verdict:
    """Judge an engine's dispatch against the reference's, book by book."""
    shortfall, violation, difference, books = -np.inf, 0.0, 0.0, 0
    free = instance.network.free
    for k in range(len(instance.books)):
        if not np.isfinite(engine.award_kw[k]).all():
            continue
        books += 1
        theirs, turnover, hurt = _worth(instance, k, engine.award_kw[k])
        mine, _, _ = _worth(instance, k, reference.award_kw[k])
        violation = max(violation, hurt)
        shortfall = max(shortfall, (mine - theirs) / turnover)
        scale = abs(float(instance.root_price[k]))
        difference = max(difference, float(np.abs(engine.price[k] - reference.price[k])[free].max()) / scale)
    return Verdict(float(shortfall), violation, difference, books)


def _worth(instance: Instance, k: int, award_kw: FloatArray) -> tuple[float, float, float]:
    """Welfare of a dispatch, money that changes hands, largest excess over a limit."""
    width = instance.books[k].quantity_kw[instance.steps]
    inside = np.clip(award_kw, 0.0, width)
    try:
        flow = instance.flow(k, inside)
    except GridError:
        return -np.inf, 1.0, np.inf
    root = float(instance.root_price[k]) * flow.root_kw
    book = instance.books[k]
    turnover = abs(root) + float(np.abs(book.price[instance.steps] * inside).sum())
    return -instance.cost(k, inside) - root, turnover, _excess(instance, flow)


def _excess(instance: Instance, flow: PowerFlow) -> float:
    """Largest excess over a limit: pu of voltage, share of a rating or of the root's limit (at least 1 kW)."""
    low, high = instance.limits()
    volt, free = np.abs(flow.voltage), instance.network.free
    rating = instance.network.branches.rating_pu
    rated = np.isfinite(rating) & (rating > 0)
    worst = [
        float((low - volt)[free].max(initial=0.0)),
        float((volt - high)[free].max(initial=0.0)),
        float((flow.terminal_pu[rated] / rating[rated] - 1.0).max(initial=0.0)),
    ]
    if instance.root_limit_kw is not None:
        worst.append((abs(flow.root_kw) - instance.root_limit_kw) / max(instance.root_limit_kw, 1.0))
    return max(worst)


def replay_error_pu(instance: Instance, engine: Timed) -> float | None:
    """Largest difference of voltage between OpenDSS and our power flow at an engine's dispatch; None: no referee.

    Raises
    ------
    InputError : the extra `plant` is not installed; OpenDSS finds no power flow.
    """
    network, worst = instance.network, 0.0
    if (instance.legs().other != GROUND).any():
        return None
    if instance.script is not None:
        replay = ThreePhaseReplay(network, instance.script, np.unique(instance.books[0].node))
    elif instance.case is not None and instance.case.elements is not None:
        plant = Plant(instance.case, perturb=0.0)
    else:
        return None
    for k in range(len(instance.books)):
        if not np.isfinite(engine.award_kw[k]).all():
            continue
        demand = instance.demand_kva(k, np.clip(engine.award_kw[k], 0.0, None))
        voltage = instance.flow(k, np.clip(engine.award_kw[k], 0.0, None)).voltage
        if instance.script is not None:
            worst = max(worst, replay.voltage_error_pu(demand, voltage))
        else:
            worst = max(worst, float(np.abs(plant.solve(demand).voltage_pu - np.abs(voltage)).max()))
    return worst
