"""``tellegen registry import|export``: who and what is connected, from and to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellegen.cli import errors
from tellegen.cli.shard import (
    INT64_MAX,
    AsJson,
    Directory,
    Server,
    Simulation,
    changing,
    done,
    now_s,
    opened,
    registry_app,
)
from tellegen.units import MARKET_INTERVAL_S

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tellegen.records import Connections
    from tellegen.registry import Shard


@registry_app.command("import")
def import_connections(
    directory: Directory,
    file: Annotated[Path, typer.Argument(help="CSV of connections; `export` writes the same form.")],
    server: Server = None,
    as_json: AsJson = False,
    simulation: Simulation = False,
) -> None:
    """Put connections and assets on record: all rows of a file, or none."""
    from tellegen.intake.connecting import read_connections

    with changing(directory, server, simulation) as shard:
        now = shard.journal.time(now_s())
        # what an intake would refuse is refused without one, too
        table = read_connections(file, shard, now)
        reset = _reset(table, shard)
        index = shard.registrar.connect(table, now)
        for name, rows in reset.items():
            errors.print(f"tellegen: warning: {rows:,} rows say no {name}, and one stood: it stands no longer")
        done(shard, index, now, {"rows": len(table)}, f"{len(table):,} connections and assets", as_json=as_json)


def _reset(table: Connections, shard: Shard) -> dict[str, int]:
    """How many rows leave a column at its default where it stood otherwise before, by column."""
    from tellegen.records import Device
    from tellegen.registry.assets import DEFAULTS

    counts = dict.fromkeys(DEFAULTS, 0)
    for device in Device:
        new = table.take(table.device == device)
        for name in DEFAULTS:
            empty = new.take(~_is_said(getattr(new, name)))
            before, _ = shard.directory.connections(empty.customer, empty.from_interval, device=device)
            counts[name] += int(_is_said(getattr(before, name)).sum())
    return {name: count for name, count in counts.items() if count}


def _is_said(column: NDArray[Any]) -> NDArray[np.bool_]:
    return column != column.dtype.type()  # type: ignore[no-any-return]


@registry_app.command()
def export(
    directory: Directory,
    file: Annotated[Path, typer.Argument(help="CSV file to write.")],
    interval: Annotated[
        int | None, typer.Option(min=0, max=INT64_MAX, help="As they stand in this market interval; the latest else.")
    ] = None,
    simulation: Simulation = False,
) -> None:
    """Write connections and assets as CSV."""
    from tellegen.records import Device
    from tellegen.registry import write_csv

    with opened(directory, simulation) as shard:
        everybody = shard.directory.customers()
        tables = [shard.directory.connections(everybody, interval, device=device)[0] for device in Device]
    write_csv(file, tables)
    print(f"{file}: {sum(len(table) for table in tables):,} rows")


def connection_words(fact: dict[str, Any]) -> str:
    """A row of what is connected as one line: of `connection_fields`, and when it was `known_at`."""
    return (
        f"  {fact['device']:12s} {fact['asset']:>12}  feeder {fact['feeder'] or '-'}, node {fact['node']}, "
        f"from interval {fact['from_interval']}, {fact['capacity_w']} W (import {fact['import_limit_w']}, "
        f"export {fact['export_limit_w']}){_every(fact['reads_every'])}, "
        f"{_credit(fact['credit'])}attested by {fact['attested_by'] or 'nobody'}, known {fact['known_at']}"
    )


def connection_fields(row: Connections) -> dict[str, Any]:
    """The columns of one row, in words."""
    from tellegen.records import Device
    from tellegen.registry.assets import COLUMNS

    fields: dict[str, Any] = dict(zip(COLUMNS, row.rows().tolist()[0], strict=True))
    return fields | {
        "device": Device(fields["device"]).name.lower(),
        "feeder": fields["feeder"].decode("ascii"),
        "attested_by": fields["attested_by"].decode("ascii"),
    }


def _every(intervals: int) -> str:
    return f", read every {intervals * MARKET_INTERVAL_S // 60} minutes" if intervals > 1 else ""


def _credit(limit: int) -> str:
    return "" if limit == 0 else "no credit, " if limit < 0 else f"credit {limit}, "
