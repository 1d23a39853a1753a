"""``tellegen holds``: whose real-time orders did not count, from when until when, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tellegen.cli import app
from tellegen.units import interval_start


@app.command()
def holds(
    directory: Annotated[Path, typer.Argument(help="Directory of a run or a shard.")],
    customer: Annotated[str | None, typer.Option(help="Only those of a customer: a name such as home-017.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Who claimed and did not deliver: since when and until when its orders do not count, and for what deviation."""
    from tellegen.operations.holds import all_holds
    from tellegen.operations.record import ShardRecord
    from tellegen.report.publication import published_of

    with ShardRecord.open(directory) as record:
        names = published_of(record).names
        found = [(names.get(each.customer, f"customer {each.customer}"), each) for each in all_holds(record)]
    rows = [(name, each) for name, each in found if customer in (None, name)]
    if as_json:
        told = [
            {
                **asdict(each),
                "customer": name,
                "from": interval_start(each.from_interval).isoformat(),
                "until": interval_start(each.until_interval).isoformat(),
            }
            for name, each in rows
        ]
        print(json.dumps(told, indent=2))
        return
    if not rows:
        print("nobody" if customer is None else f"{customer}: never on hold")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("customer", "from (UTC)", "until", "beside awards, kWh", "awarded, kWh"):
        table.add_column(heading, justify="right" if "kWh" in heading else "left")
    for name, each in rows:
        since, until = (f"{interval_start(t):%Y-%m-%d %H:%M}" for t in (each.from_interval, each.until_interval))
        energy = (f"{wh / 1000:.3f}" for wh in (each.deviation_wh, each.award_wh))
        table.add_row(escape(name), since, until, *energy)
    Console().print(table)
