"""The registry of benchmarks; one more is one more entry."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tellegen.errors import InputError
from tellegen.grid import factorise, load_case, solve_powerflow
from tellegen.journal import Journal
from tellegen.market import OrderBook, clear
from tellegen.operations.plant import Plant
from tellegen.privacy import Vault
from tellegen.records import Readings
from tellegen.verify import verify_directory

GRID = "simbench:1-LV-rural3--2-sw"
V_MIN_PU = 1.01


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `target` is an upper bound where there is one."""

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        return None if self.target is None else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        """The figure as the command line prints it."""
        document: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit}
        return document if self.target is None else {**document, "target": self.target, "met": self.met}


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one benchmark with the workload and machine they are of."""

    name: str
    workload: str
    machine: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An entry of the registry: what is measured, in words, and the function that measures it."""

    workload: str
    measure: Callable[[], tuple[Figure, ...]]


def run_benchmark(name: str) -> Result:
    """Run one benchmark.

    Raises
    ------
    InputError : no benchmark has this name.
    """
    if name not in BENCHMARKS:
        raise InputError("bench", f"name '{name}'", f"is none of {', '.join(BENCHMARKS)}")
    entry = BENCHMARKS[name]
    return Result(name, entry.workload, f"{platform.machine()}, Python {platform.python_version()}", entry.measure())


def _median_ms(action: Callable[[int], object], repetitions: int) -> float:
    taken = []
    for repetition in range(repetitions):
        start = time.perf_counter()
        action(repetition)
        taken.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(taken)


def _book(seed: int, nodes: np.ndarray, customers: int = 400) -> OrderBook:
    """Step bids and offers on given nodes, new for each seed."""
    rng = np.random.default_rng(seed)
    node = rng.choice(nodes, customers)
    side = np.where(rng.random(customers) < 0.7, 1, -1)
    return OrderBook.of(node, side, rng.uniform(0.1, 0.6, customers), rng.uniform(0.2, 4.0, customers))


def _clearing() -> tuple[Figure, ...]:
    case = load_case(GRID)
    network, nodes = case.network, case.network.free
    books = [_book(seed, nodes) for seed in range(21)]
    cold = _median_ms(lambda k: clear(network, books[k], 0.3, v_min=V_MIN_PU), 7)
    first = clear(network, books[0], 0.3, v_min=V_MIN_PU)
    warm, state, binding, qps = [], first.warm, [], []
    for book in books[1:]:
        start = time.perf_counter()
        cleared = clear(network, book, 0.3, warm=state, v_min=V_MIN_PU)
        warm.append(1000.0 * (time.perf_counter() - start))
        state = cleared.warm
        binding.append(len(cleared.limits))
        qps.append(cleared.evidence.iterations)
    demand = np.zeros(len(network.nodes), dtype=np.complex128)
    demand[nodes] = 1.0 + 0.3j
    plant, factors = Plant(case, perturb=0.0), factorise(network)
    ours = _median_ms(lambda k: solve_powerflow(network, demand * (1 + 0.01 * k), factors=factors), 51)
    theirs = _median_ms(lambda k: plant.solve(demand * (1 + 0.01 * k)), 51)
    return (
        Figure("clearing, warm, every bid new (median)", statistics.median(warm), "ms"),
        Figure("clearing, cold (median)", cold, "ms"),
        Figure("limits binding (median)", statistics.median(binding), "limits"),
        Figure("quadratic programs, warm (median)", statistics.median(qps), "programs"),
        Figure("power flow (median)", ours, "ms"),
        Figure("power flow over OpenDSS solve in the same run", ours / theirs, "ratio"),
    )


def _record() -> tuple[Figure, ...]:
    customers, batches = 120, 288
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        vault = Vault.create(directory / "vault", range(customers + 1), b"benchmark")
        journal = Journal.create(directory, "bench.example/log", bytes(32))
        rng = np.random.default_rng(1)

        def one(k: int) -> None:
            number = np.arange(customers + 1)
            table = Readings(
                customer=number.astype(np.int32),
                meter=number,
                counter=np.full(customers + 1, k),
                import_wh=rng.integers(0, 10**7, customers + 1),
                export_wh=number,
                reactive_varh=number,
                voltage_mv=number,
                tag=np.zeros(customers + 1, dtype="V16"),
            )
            journal.append(vault.seal(table, feeder="f", interval=k, intervals=1, source="bench", known_at=300 * k))
            journal.commit(300 * k)

        seal = _median_ms(one, batches)
        check = _median_ms(lambda _: verify_directory(directory), 3)
        journal.close()
        vault.close()
    return (
        Figure("seal, append, fsync and sign 121 readings (median)", seal, "ms"),
        Figure("rows made final per second", 1000.0 * (customers + 1) / seal, "rows/s"),
        Figure("verify 288 batches from outside", check, "ms"),
    )


BENCHMARKS = {
    "clearing": Benchmark(
        "129 buses, 400 step bids and offers at random nodes, all new each time, lower voltage limit 1.01 pu binding",
        _clearing,
    ),
    "record": Benchmark("288 batches of 121 meter readings, encrypted per customer, one commit each", _record),
}
