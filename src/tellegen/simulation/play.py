"""A simulated market day from scenario to report: what ``tellegen run`` and ``tellegen demo`` do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tellegen.errors import InputError
from tellegen.simulation.apart import WorldApart

if TYPE_CHECKING:
    from tellegen.simulation.course import Progress
    from tellegen.simulation.operated import SimulatedDay
    from tellegen.simulation.scenario import Scenario


def simulate_day(scenario: Scenario, out: Path, progress: Progress) -> SimulatedDay:
    """Play a scenario into the directory `out`, which appears when it is complete.

    Raises
    ------
    InputError : the scenario cannot be played, or `out` is not empty; nothing is left behind.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(out, "directory", "is not empty; a run is never overwritten, give a new --out")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with WorldApart(scenario) as world:  # it comes up while the operator's rooms are imported
            from tellegen.simulation.operated import operate_day

            simulated = operate_day(scenario, world, partial, progress)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return simulated
