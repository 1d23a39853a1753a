"""``tellegen market-power``: whose offers were held to a reference, and who kept relief back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tellegen.cli import app
from tellegen.units import MICROS, interval_start

_SAID = {
    "held": "held to its reference",
    "pivotal": "pivotal, not held",
    "withheld": "relief withheld",
}


@app.command("market-power")
def market_power(
    directory: Annotated[Path, typer.Argument(help="Directory of a run or a shard.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Who was pivotal on a limit, whose offers were held, and who kept relief back, as it stands on record."""
    from tellegen.operations.directory import read_names
    from tellegen.operations.findings import found_of
    from tellegen.operations.record import ShardRecord
    from tellegen.privacy.recorder import Recorder

    with ShardRecord.open(directory) as record:
        found = found_of(record)
        names = read_names(Recorder(record.intake, record.vault, ""))
    if as_json:
        rows = [asdict(each) | {"name": names.get(each.customer, str(each.customer))} for each in found]
        print(json.dumps({"found": rows}, indent=2))
        return
    if not found:
        print("nobody was pivotal on a limit with a price, or nobody was tested")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("customer", "what", "limit", "market", "clearings", "first", "asked", "reference", "kW kept back"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
    for each in found:
        table.add_row(
            names.get(each.customer, str(each.customer)),
            _SAID[each.what],
            each.limit,
            each.market,
            f"{each.clearings:,}",
            f"{interval_start(each.first):%Y-%m-%d %H:%M}",
            f"{each.asked_micros / MICROS:.4f}",
            f"{each.reference_micros / MICROS:.4f}",
            f"{each.idle_w / 1000:.2f}" if each.idle_w else "",
        )
    Console().print(table)


_NUMBERS = ("clearings", "asked", "reference", "kW kept back")
