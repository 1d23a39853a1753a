"""``tellegen archive``: closed days of a shard, encrypted per customer and day."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import app, errors
from tellegen.cli.record import erase
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.privacy import Vault

archive_app = typer.Typer(help="Closed days of a shard: compact them, look, read, erase.", no_args_is_help=True)
app.add_typer(archive_app, name="archive")

Directory = Annotated[
    Path, typer.Argument(help="Directory of a shard: journal/, vault/, and market/ where there is one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
EPOCH = date(1970, 1, 1)
ROWS_SHOWN = 20


@archive_app.command()
def compact(
    directory: Directory,
    day: Annotated[
        str | None, typer.Option(help="Last UTC day to compact, YYYY-MM-DD; yesterday if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put closed days into the archive, take them out of the journal's payloads, destroy their keys.

    Nothing is removed before every row has been proved from the archive. Stop the intake and the market first.
    """
    from tellegen.operations.compaction import compact as run
    from tellegen.operations.upkeep import time_of_act

    now = datetime.fromtimestamp(time_of_act(directory, int(time.time())), tz=UTC)
    last = now.date() - timedelta(days=1) if day is None else _day(day)
    if last >= now.date():
        raise InputError("command line", f"--day {day}", "has not ended; only closed days are compacted")
    with _vault(directory) as vault:
        done = run(
            directory,
            vault,
            known_at=int(now.timestamp()),
            until_day=(last - EPOCH).days,
            step=lambda what: errors.print(f"tellegen archive: {what}"),
        )
    if as_json:
        print(json.dumps(asdict(done), indent=2))
    elif not done.epochs:
        print(f"nothing to compact up to {last}")
    else:
        print(f"{done.entries} batches, {done.rows} rows, in {done.files} files of {done.archive_bytes} bytes")
        print(f"{done.freed_bytes} bytes of payloads given back; {done.epochs} epoch keys destroyed")


@archive_app.command()
def show(directory: Directory, as_json: AsJson = False) -> None:
    """List the files of the archive as they stand on record."""
    from tellegen.journal import Journal
    from tellegen.operations.compaction import compactions_on_record, journals_of
    from tellegen.privacy import Archive

    files = []
    with _vault(directory) as vault:
        for folder in journals_of(directory):
            archive = Archive(folder, vault)
            with Journal.open(folder) as journal:
                for place, sha256 in compactions_on_record(journal, vault).items():
                    archive.check_digest(place, sha256)
                    path = folder / place
                    files.append(
                        {
                            "file": path.relative_to(directory).as_posix(),
                            "bytes": path.stat().st_size,
                            "customers": len(archive.customers(place)),
                        }
                    )
    if as_json:
        print(json.dumps({"files": files}, indent=2))
        return
    for file in files:
        print(f"{file['file']}  {file['customers']} customers, {file['bytes']} bytes")
    print(f"{len(files)} files, each the one on record")


@archive_app.command()
def read(
    directory: Directory,
    kind: Annotated[str, typer.Option(help="Kind of the rows, such as readings.")],
    feeder: Annotated[str, typer.Option(help="Feeder they are about.")],
    day: Annotated[str, typer.Option(help="UTC day on which they became known, YYYY-MM-DD.")],
    customer: Annotated[list[int] | None, typer.Option(help="Only rows about this customer; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all rows to this Parquet file, in clear.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read rows back, with the vault; those of erased customers are missing."""
    from tellegen.operations.compaction import journals_of
    from tellegen.privacy import Archive
    from tellegen.records import TABLES
    from tellegen.report.tables import frame_of

    if kind not in TABLES:
        raise InputError("command line", f"--kind {kind}", f"is none of {', '.join(sorted(TABLES))}")
    number = (_day(day) - EPOCH).days
    with _vault(directory) as vault:
        archives = [Archive(folder, vault) for folder in journals_of(directory)]
        holding = next((a for a in archives if a.files(kind, feeder, number)), archives[0])
        table = holding.read(kind, feeder, number, customer)
    frame = frame_of(table)
    if out is not None:
        from tellegen.journal.storage import private_draft

        with private_draft(out) as file:
            frame.write_parquet(file)
        print(f"{len(table)} rows written to {out}")
    elif as_json:
        print(json.dumps({"kind": kind, "rows": frame.to_dicts()}, default=lambda value: bytes(value).hex()))
    else:
        print(",".join(frame.columns))
        for row in frame.head(ROWS_SHOWN).iter_rows():
            print(",".join(value.hex() if isinstance(value, bytes) else str(value) for value in row))
        if len(table) > ROWS_SHOWN:
            print(f"... {len(table)} rows; --json or --out gives all")


archive_app.command("erase")(erase)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError("command line", f"--day {text}", "is no day; write it as 2026-11-22") from None


@contextmanager
def _vault(directory: Path) -> Iterator[Vault]:
    from tellegen.operations.compaction import journals_of
    from tellegen.privacy import Vault

    journals_of(directory)
    with Vault.open(directory / "vault") as vault:
        yield vault
