"""``tellegen bench``: figures with their workload, beside a peer in the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import app, errors
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.assess import Figure, Result


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; `list` names them.")] = "list",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON document to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small workloads: does it run, not how fast.")] = False,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            help="For `feeders`, `trial` and `tricks`: a network, `feeders` also a folder of OpenDSS scripts; "
            "may be given again."
        ),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="For `peers`: install the peers that are absent, each by itself.")
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            min=0,
            help="For `faults`: how many worlds to simulate. For `peers`: of how many districts the noon. "
            "For `honest`: how many times each day.",
        ),
    ] = 0,
    prices: Annotated[
        Path | None, typer.Option(help="For `honest`: AEP's real-time prices, for the day that needs them.")
    ] = None,
    kills: Annotated[int, typer.Option(min=0, help="For `faults`: how many times to kill a writer, and a server.")] = 0,
    flips: Annotated[
        int,
        typer.Option(min=0, help="For `faults`: how often to change a file of a shard and verify it; does that alone."),
    ] = 0,
    directory: Annotated[
        Path | None, typer.Option(help="For `faults --flips`: a finished run or shard, instead of one that is played.")
    ] = None,
    books: Annotated[int, typer.Option(min=0, help="For `trial`: how many random books, over all feeders.")] = 0,
    only: Annotated[
        str,
        typer.Option(
            help="For `trial`: repeat one book, as FEEDER:NUMBER, and say all of it. For `attacks`: kinds of this name."
        ),
    ] = "",
    meters: Annotated[
        int,
        typer.Option(min=0, help="For `city` (1,000,000) and `reopen` (100,000): how many customers, a meter each."),
    ] = 0,
    intervals: Annotated[int, typer.Option(help="For `city`: how many market intervals are measured.")] = 12,
    day_ahead: Annotated[
        bool, typer.Option("--day-ahead/--no-day-ahead", help="For `city`: whether everybody bids for a day ahead.")
    ] = True,
    close: Annotated[bool, typer.Option("--close/--no-close", help="For `city`: whether a day is closed.")] = True,
    day_intervals: Annotated[
        int, typer.Option(help="For `city`: of the day that is closed, how many intervals are settled.")
    ] = 288,
    coarse: Annotated[
        float,
        typer.Option(min=0, max=100, help="For `city`: per cent of the meters that read every quarter of an hour."),
    ] = 0.0,
    silent: Annotated[
        float, typer.Option(min=0, max=100, help="For `city`: per cent of the meters that are never heard of.")
    ] = 0.0,
    beside_gates: Annotated[
        bool,
        typer.Option("--beside-gates", help="For `city`: play it without price runs first, and print the ratio."),
    ] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="For `city`: play smaller ones first.")] = False,
    hardware: Annotated[
        Path | None, typer.Option(help="For `city`: a file that states the machine's price, as docs/city.md shows.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="For `city` and `reopen`: where the journals are written.")
    ] = None,
) -> None:
    """Measure; every figure names its workload, and its target where it has one."""
    from tellegen.assess import BENCHMARKS, Options, run_benchmark

    if name == "list":
        if as_json:
            print(json.dumps({known: entry.workload for known, entry in BENCHMARKS.items()}, indent=2))
            return
        for known, entry in BENCHMARKS.items():
            print(f"{known:12s} {entry.workload}")
        return
    options = Options(
        quick=quick,
        networks=tuple(networks or ()),
        install=install,
        seeds=seeds,
        kills=kills,
        flips=flips,
        directory=directory,
        prices=prices,
        books=books,
        only=only,
        meters=meters,
        intervals=intervals,
        day_ahead=day_ahead,
        close=close,
        day_intervals=day_intervals,
        coarse_percent=coarse,
        silent_percent=silent,
        beside_gates=beside_gates,
        scaling=scaling,
        hardware=hardware,
        folder=folder,
        progress=lambda words: errors.print(f"tellegen bench: {words}", highlight=False),
    )
    for place in (out.parent if out is not None else None, folder, directory):
        if place is not None and not place.is_dir():
            raise InputError(place, "folder", "does not exist; make it first")
    if directory is not None and not (directory / "journal").is_dir():
        raise InputError(directory, "journal/", "is missing; give the directory of a finished run or shard")
    result = run_benchmark(BENCHMARKS, name, options)
    document = json.dumps(result.as_json(), indent=2)
    if out is not None:
        out.write_text(document + "\n", encoding="utf-8")
    if as_json:
        print(document)
    else:
        _print(result)


def _print(result: Result) -> None:
    print("\n".join([*result.about, result.workload, f"{result.machine}{', quick' if result.quick else ''}"]))
    for figure in result.figures:
        print(f"  {figure.value:12.6g} {figure.unit:14s} {figure.name}{_verdict(figure)}")
        said = [f"{key} {value:.6g}" for key, value in figure.spread.items()]
        said += [
            f"{key} {value if isinstance(value, str) else format(value, '.6g')}"
            for key, value in figure.conditions.items()
        ]
        if said:
            print(f"{'':14s}{', '.join(said)}")
    for note in result.notes:
        print(f"  note: {note}")


def _verdict(figure: Figure) -> str:
    return "" if figure.target is None else f"  target {figure.target:g}: {'met' if figure.met else 'MISSED'}"
