"""What a benchmark is, what it reports, and how one is run by name."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tellegen.errors import InputError


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    value : the median where there are several measurements.
    target : upper bound, where there is one.
    spread : name and value of other quantiles (``{"p90": 61.2}``).
    conditions : under which it was measured (bid form, limits binding, quadratic programs).
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    spread: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        return None if self.target is None else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        """The figure as the command line prints it; what there is nothing of is left out."""
        document: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit}
        if self.target is not None:
            document |= {"target": self.target, "met": self.met}
        if self.spread:
            document["spread"] = dict(self.spread)
        if self.conditions:
            document["conditions"] = dict(self.conditions)
        return document


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may ask of a benchmark.

    Attributes
    ----------
    quick : small workloads and few repetitions: a smoke test, whose figures say so by their workload.
    networks : for `feeders`, `trial` and `tricks`, network files, folders or specs to measure besides or instead of the
        ones that ship with the product.
    install : peers that are absent are installed first, into environments of their own.
    seeds, kills : for `faults`, how many worlds are simulated and how many processes killed; 0: as many as it has. For
        `peers`, of how many districts the noon is cleared; 0: one. For `honest`, how many times each day is played.
    flips, directory : for `faults`, how many files of a shard are changed before it is verified, and of which shard;
        None: of one that is played.
    prices : for `honest`, a file of wholesale prices with the day that needs it.
    books, only : of the trial: how many books (0: as many as it has), or the one that is tried, ``GROUND:NUMBER``.
        `only`, of attacks: what is in the name of the kinds that are tried.
    meters : of the city, or of the shard that is opened; 0: as many as it has.
    intervals, scaling, hardware, folder : of the city: how long it is played, whether smaller ones are played before
        it, the price file of the machine, and where the journals are written.
    day_ahead, close, day_intervals : of the city: whether it bids day-ahead, whether a day is closed, and how many
        intervals of that are settled.
    coarse_percent, silent_percent, beside_gates : of the city: how many of the meters read every quarter of an hour,
        and how many are never heard of; whether the same city is played without price runs before it.
    progress : told in words what is being measured.
    """

    quick: bool = False
    networks: tuple[str, ...] = ()
    install: bool = False
    seeds: int = 0
    kills: int = 0
    flips: int = 0
    directory: Path | None = None
    prices: Path | None = None
    books: int = 0
    only: str = ""
    meters: int = 0
    intervals: int = 12
    scaling: bool = False
    day_ahead: bool = True
    close: bool = True
    day_intervals: int = 288
    coarse_percent: float = 0.0
    silent_percent: float = 0.0
    beside_gates: bool = False
    hardware: Path | None = None
    folder: Path | None = None
    progress: Callable[[str], None] = lambda words: None


@dataclass(slots=True)
class Report:
    """Gathers the figures of a run, what must be known before them, and notes on what was left out and why.

    Attributes
    ----------
    about : that it is simulated, from what, at whose prices, and under which seed and rules.
    """

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one benchmark with the workload and machine they are of, see `Report`."""

    name: str
    workload: str
    machine: str
    quick: bool
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    about: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        return {
            "name": self.name,
            "workload": self.workload,
            **({"about": list(self.about)} if self.about else {}),
            "machine": self.machine,
            "quick": self.quick,
            "figures": [figure.as_json() for figure in self.figures],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An entry of the registry: what is measured, in words, and the module whose function `measure` does it.

    The module is named and not imported, so that a list of benchmarks and the processes of one load nothing of others.
    """

    workload: str
    module: str

    def measure(self, options: Options, report: Report) -> None:
        """Add the figures of a run to the report."""
        importlib.import_module(self.module).measure(options, report)


def run_benchmark(benchmarks: Mapping[str, Benchmark], name: str, options: Options | None = None) -> Result:
    """Run one benchmark.

    Raises
    ------
    InputError : no benchmark has this name; an option makes no sense to it.
    """
    if name not in benchmarks:
        raise InputError("bench", f"name '{name}'", f"is none of {', '.join(benchmarks)}")
    entry, report = benchmarks[name], Report()
    asked = Options() if options is None else options
    entry.measure(asked, report)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}, "
        f"{'compiled elimination' if find_spec('numba') else 'SuperLU (extra `fast` is not installed)'}"
    )
    told = tuple(report.figures), tuple(report.notes), tuple(report.about)
    return Result(name, entry.workload, machine, asked.quick, *told)


def median_figure(
    name: str,
    values: list[float],
    unit: str,
    *,
    target: float | None = None,
    conditions: Mapping[str, str | float] | None = None,
) -> Figure:
    """A median with its 90th percentile, least and number of measurements.

    >>> median_figure("power flow", [1.0, 2.0, 9.0], "ms", target=3.0).met
    True
    """
    given = np.asarray(values, dtype=np.float64)
    spread = {"min": float(given.min()), "p90": float(np.quantile(given, 0.9)), "measurements": float(given.size)}
    return Figure(name, float(np.median(given)), unit, target, spread, {} if conditions is None else conditions)
