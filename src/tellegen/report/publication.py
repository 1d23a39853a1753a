"""From the record to what people read: tables, summary, report, and the manifest that signs for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from tellegen.errors import InputError
from tellegen.journal import Journal, write_manifest
from tellegen.journal.storage import write_private
from tellegen.operations.directory import read_names
from tellegen.operations.reading import closed_days, read_day
from tellegen.operations.record import MARKET_KEY, ShardRecord
from tellegen.operations.rerun import rebuild_books
from tellegen.privacy.recorder import Recorder
from tellegen.report import write_report
from tellegen.report.day import DayOnRecord, Names
from tellegen.report.figures import Json, money_sections, record_section
from tellegen.report.tables import write_record_tables, write_table
from tellegen.verify import Report, verify_directory

SUMMARY = "summary.json"
"""File of a played day; a shard has one for each day and feeder (`report.days`)."""
PERSONAL_TABLES = ("devices", "world_energy", "bills")
"""Tables of the simulation with rows of single customers, which an erasure must clear."""


@dataclass(frozen=True, slots=True)
class Published:
    """A directory whose day is published.

    Attributes
    ----------
    path : of the directory. journals : of the record; the tables follow from the last of them.
    signing_key : Ed25519 seed of that one. names : of customers.
    """

    path: Path
    journals: tuple[Journal, ...]
    signing_key: bytes
    names: Names


def published_of(record: ShardRecord) -> Published:
    """What is published of an open shard."""
    names = read_names(Recorder(record.intake, record.vault, ""))
    return Published(record.path, (record.intake, record.journal), record.vault.purpose_key(MARKET_KEY), names)


def publish(path: Path, changes: Json) -> Report:
    """Bring books, tables, summary and report of a played day up to the record, sign for them, and verify from outside.

    Parameters
    ----------
    changes : sections of the summary to replace.

    Returns
    -------
    The report of the verification, which also stands in the summary.

    Raises
    ------
    InputError : there is no shard with a market, or no summary of it.
    """
    summary = read_summary_json(path)
    with ShardRecord.open(path) as record:
        played = date.fromisoformat(summary["day"]["date"])
        day = read_day(record, played, through=max(closed_days(record), default=played))
        run = published_of(record)
        rebuild_books(record)
        write_tables(run, day)
        summary |= money_sections(day.all_postings()) | changes
        summary["erased"] = [run.names.get(number, f"customer {number}") for number in day.erased]
        return write_summary(run, summary, sign_and_verify(run))


def write_tables(run: Published, day: DayOnRecord) -> None:
    """Tables of the record; rows of erased customers go from those that only a simulation could write."""
    write_record_tables(run.path, day, run.names)
    erased = [run.names.get(number, f"customer {number}") for number in day.erased]
    for name in PERSONAL_TABLES if erased else ():
        path = run.path / "tables" / f"{name}.parquet"
        if path.exists():
            frame = pl.read_parquet(path)
            write_table(run.path, name, frame.filter(~pl.col("name").is_in(erased)))


def sign_and_verify(run: Published) -> Report:
    """Sign for all that is there by now, and verify; the summary, which quotes that, is written afterwards."""
    _sign(run)
    return verify_directory(run.path)


def write_summary(run: Published, summary: Json, report: Report) -> Report:
    """Write the summary and the page made from it, and sign for them too; gives `report` back."""
    whole = summary | {"record": record_section(run.journals, report)}
    text = json.dumps(whole, indent=1, sort_keys=True, allow_nan=False)
    write_private(run.path / SUMMARY, text + "\n")
    write_report(run.path)
    _sign(run)
    return report


def _sign(run: Published) -> None:
    write_manifest(run.path, run.signing_key, run.journals[-1].checkpoint)


def read_summary_json(directory: Path) -> dict[str, Any]:
    """The summary of a run as it stands.

    Raises
    ------
    InputError : missing or not JSON.
    """
    path = directory / SUMMARY
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "file", f"cannot be read ({error}); is the run complete?") from None
    if not isinstance(document, dict):
        raise InputError(path, "file", "is not a summary")
    return document
