"""``tellegen market-power``: whose offers were held to a reference, and who kept relief back."""

from __future__ import annotations

import json
import textwrap
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
        found, tested = found_of(record), any(version.pivotal is not None for version in record.rulebook.versions)
        names = read_names(Recorder(record.intake, record.vault, ""))
    if as_json:
        rows = [asdict(each) | {"name": names.get(each.customer, str(each.customer))} for each in found]
        print(json.dumps({"found": rows}, indent=2))
        return
    if not found and not tested:
        print('nobody was tested: the rules on record say test = "none" in [market_power]')
        return
    if not found:
        print("nobody was pivotal on a limit with a price, and nobody kept relief back")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("customer", "what", "limit", "market", "clearings", "first", "asked", "reference", "kW kept back"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
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
    console = Console()
    natural = console.measure(table, options=console.options.update(max_width=1000)).maximum
    if console.is_terminal and natural > console.width:  # a row that does not fit is a paragraph
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            said = [
                f"{column.header} {cell}" for column, cell in zip(table.columns[2:], cells[2:], strict=True) if cell
            ]
            words = f"{cells[0]}: {cells[1]}; {', '.join(said)}"
            print(textwrap.fill(words, console.width, subsequent_indent="  ", break_long_words=False))
        return
    Console(width=max(console.width, natural)).print(table)


_NUMBERS = ("clearings", "asked", "reference", "kW kept back")
