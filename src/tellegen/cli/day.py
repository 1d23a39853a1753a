"""``tellegen demo`` and ``tellegen run``: a simulated market day."""

from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tellegen.cli import app

if TYPE_CHECKING:
    from tellegen.simulation.scenario import Scenario

DEMO_DIRECTORY = Path("tellegen-demo")

Out = Annotated[Path | None, typer.Option(help="Directory for the run; must not hold anything yet.")]
Prices = Annotated[
    Path | None, typer.Option(help="Wholesale prices: CSV of time, price per kWh[, day-ahead price]; .gz too.")
]
PriceDay = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of the price file that stands for the market day.")
]
Hours = Annotated[int | None, typer.Option(min=4, max=25, help="Play only the first hours of the day (a rehearsal).")]
Seed = Annotated[int | None, typer.Option(min=0, help="Decides everything drawn, instead of the scenario's.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day that is played.")]
VMin = Annotated[float | None, typer.Option(min=0.5, max=1.0, help="Lower voltage limit at every node, pu.")]
VMax = Annotated[float | None, typer.Option(min=1.0, max=1.5, help="Upper voltage limit at every node, pu.")]
Deaf = Annotated[
    float | None, typer.Option(min=0.0, max=0.5, help="Share of homes that bid and never do as they are awarded.")
]
Lost = Annotated[float | None, typer.Option(min=0.0, max=0.5, help="Share of awards that reach nobody.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")]


@app.command()
def demo(
    out: Out = None,
    prices: Prices = None,
    price_day: PriceDay = None,
    hours: Hours = None,
    seed: Seed = None,
    day: Day = None,
    v_min: VMin = None,
    v_max: VMax = None,
    deaf: Deaf = None,
    lost: Lost = None,
    as_json: AsJson = False,
) -> None:
    """One day on a real feeder, from bid to bill.

    Without --out the run goes to ./tellegen-demo and replaces an earlier demo there.
    """
    from tellegen.simulation.scenario import demo_scenario, with_options

    directory = out if out is not None else DEMO_DIRECTORY
    earlier = out is None and (directory / "journal").is_dir() and (directory / "summary.json").is_file()
    chosen = with_options(
        demo_scenario(),
        seed=seed,
        day=day.date() if day else None,
        v_min_pu=v_min,
        v_max_pu=v_max,
        deaf=deaf,
        lost=lost,
        prices=prices,
        price_day=price_day.date() if price_day else None,
        hours=hours,
    )
    _simulate(chosen, directory, as_json, replace=earlier)


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario file (TOML).")],
    out: Annotated[Path, typer.Option(help="Directory for the run; must not hold anything yet.")],
    prices: Prices = None,
    price_day: PriceDay = None,
    hours: Hours = None,
    seed: Seed = None,
    day: Day = None,
    v_min: VMin = None,
    v_max: VMax = None,
    deaf: Deaf = None,
    lost: Lost = None,
    as_json: AsJson = False,
) -> None:
    """Play any scenario: a feeder, a day, prices, faults."""
    from tellegen.simulation.scenario import read_scenario, with_options

    chosen = with_options(
        read_scenario(scenario),
        seed=seed,
        day=day.date() if day else None,
        v_min_pu=v_min,
        v_max_pu=v_max,
        deaf=deaf,
        lost=lost,
        prices=prices,
        price_day=price_day.date() if price_day else None,
        hours=hours,
    )
    _simulate(chosen, out, as_json)


def _simulate(scenario: Scenario, out: Path, as_json: bool, *, replace: bool = False) -> None:
    """Play and print; with `replace` an earlier run at `out` goes once the new one is complete, and not before."""
    from tellegen.simulation.play import simulate_day

    started = time.monotonic()
    bar = _progress()
    tasks: dict[str, TaskID] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if not tasks:
            bar.start()
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done)

    # "." and ".." have no name of their own that a run could appear under.
    place = out if out.name not in {"", ".."} else out.resolve()
    fresh = place.with_name(f"{place.name}.next") if replace else place
    if replace:
        shutil.rmtree(fresh, ignore_errors=True)
    try:
        simulated = simulate_day(scenario, fresh, progress)
    finally:
        # A bar that never started would still print an empty line above the error.
        if tasks:
            bar.stop()
    if replace:
        shutil.rmtree(place)
        fresh.rename(place)
    if as_json:
        print(json.dumps(simulated.summary, allow_nan=False))
    else:
        from tellegen.report import render_summary

        console = Console()
        console.print(render_summary(simulated.summary))
        console.print(f"\n[bold]{out / 'report.html'}[/bold] shows the day; `tellegen verify {out}` checks the record.")
        console.print(f"{time.monotonic() - started:.1f} s")
    if not simulated.report.ok:
        sys.exit(1)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:28s}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=False,
        refresh_per_second=4,  # what it draws, the day waits for
    )
