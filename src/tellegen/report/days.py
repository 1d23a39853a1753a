"""What a shard publishes of each day: a folder for each feeder, of the same form as that of a played day.

``days/DAY/FEEDER/`` holds ``tables/*.parquet``, ``summary.json`` and ``report.html``; the manifest of the shard signs
for all of them at the state of the market's journal from which they were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tellegen.journal import write_manifest
from tellegen.journal.storage import write_private
from tellegen.operations.reading import RecordedDay, closed_days, read_day
from tellegen.operations.record import ShardRecord
from tellegen.operations.timetable import close_at, day_bounds, day_number
from tellegen.operations.topology import Feeder
from tellegen.records import OPERATOR, Closes
from tellegen.report.figures import Json, clearing_sections, money_sections, price_sections, record_section
from tellegen.report.page import write_report
from tellegen.report.publication import Published, published_of
from tellegen.report.tables import write_record_tables

FOLDER = "days"


def publish_days(path: Path, days: Iterable[date]) -> list[Path]:
    """Publish days of a shard anew, and sign for all that is published by then; folders that were written.

    A market may be open meanwhile: what it has committed is what is read.

    Raises
    ------
    InputError : there is no shard with a market.
    """
    with ShardRecord.open(path) as record:
        run = published_of(record)
        folders = [_publish(record, run, day, feeder) for day in days for feeder in record.feeders]
        files = sorted(each.relative_to(path) for each in (path / FOLDER).rglob("*") if each.is_file())
        write_manifest(path, run.signing_key, record.journal.checkpoint, files)
    return folders


def days_of_close(path: Path, day: date) -> list[date]:
    """A day that has just been closed, and earlier ones whose pools were shared anew right before."""
    with ShardRecord.open(path) as record:
        name = f"correction {close_at(record.rulebook, day)}"
        entries = record.journal.find(kind=Closes.kind, name=name)
        numbers = {int(record.table(entry, Closes).day[0]) for entry in entries} | {day_number(day)}
    return [date.fromordinal(date(1970, 1, 1).toordinal() + number) for number in sorted(numbers)]


def published_days(path: Path) -> list[date]:
    """Days of which there is a folder, ascending."""
    folder = path / FOLDER
    return sorted(date.fromisoformat(each.name) for each in folder.iterdir()) if folder.is_dir() else []


def all_closed(path: Path) -> list[date]:
    """Days that have been closed, ascending."""
    with ShardRecord.open(path) as record:
        return closed_days(record)


def _publish(record: ShardRecord, run: Published, day: date, feeder: Feeder) -> Path:
    folder = record.path / FOLDER / day.isoformat() / quote(feeder.name, safe="")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    read = read_day(record, day, feeder.name)
    write_record_tables(folder, read, run.names)
    text = json.dumps(_summary(record, run, read, feeder), indent=1, sort_keys=True, allow_nan=False)
    write_private(folder / "summary.json", text + "\n")
    write_report(folder)
    return folder


def _summary(record: ShardRecord, run: Published, day: RecordedDay, feeder: Feeder) -> Json:
    rules, whole = record.rulebook.at(day.day), day_bounds(record.rulebook, day.day)
    customers = {c for _, energy in day.energy for c in energy.customer.tolist()} - {OPERATOR}
    return {
        "name": f"{record.intake.verifier.name}, {feeder.name}",
        "feeder": {
            "grid": feeder.network.name,
            "nodes": len(feeder.network.nodes),
            "customers": len(customers),
            "v_min_pu": float(np.max(feeder.network.v_min)),
            "v_max_pu": float(np.min(feeder.network.v_max)),
        },
        "day": {
            "date": day.day.isoformat(),
            "timezone": rules.settlement.time_zone,
            "first_interval": day.bounds.start,
            "intervals": len(day.bounds),
            "complete": len(day.bounds) == len(whole),
        },
        "currency": rules.currency,
        "prices_source": rules.root_prices.words,
        "prices": price_sections(day),
        **clearing_sections(day),
        **money_sections(day.all_postings()),
        "record": record_section(run.journals, None),
        "erased": [run.names.get(number, f"customer {number}") for number in day.erased],
    }
