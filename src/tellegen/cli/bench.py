"""``tellegen bench``: figures with their workload, beside a peer in the same run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from tellegen.cli import app


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; `list` names them.")] = "list",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Measure; every figure names its workload, and its target where it has one."""
    from tellegen.assess import BENCHMARKS, run_benchmark

    if name == "list":
        if as_json:
            print(json.dumps({known: entry.workload for known, entry in BENCHMARKS.items()}, indent=2))
            return
        for known, entry in BENCHMARKS.items():
            print(f"{known:12s} {entry.workload}")
        return
    result = run_benchmark(name)
    if as_json:
        print(json.dumps({**asdict(result), "figures": [figure.as_json() for figure in result.figures]}, indent=2))
        return
    print(result.workload)
    for figure in result.figures:
        target = "" if figure.target is None else f"  target {figure.target:g}: {'met' if figure.met else 'MISSED'}"
        print(f"  {figure.name:44s} {figure.value:12.6g} {figure.unit}{target}")
