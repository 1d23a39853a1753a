"""A file of connections, read and checked as an intake checks them before they go on record."""

from __future__ import annotations

import re
from pathlib import Path

from tellegen.errors import InputError
from tellegen.intake.calendar import Calendar
from tellegen.intake.registry_changes import check_changes
from tellegen.records import Connections, RecordError
from tellegen.registry import RegistryError, Shard, read_csv


def read_connections(file: Path, shard: Shard, now: int) -> Connections:
    """Connections of a CSV file that can go on a shard's record.

    Parameters
    ----------
    now : seconds since the epoch, by the record's clock.

    Raises
    ------
    InputError : a row cannot stand; says in which line, and what would be right.
    """
    table = read_csv(file)
    try:
        rules = Calendar.of(shard.journal, shard.registrar.vault)
        check_changes(table, shard.directory, now, rules.longest_meter_intervals)
    except (RegistryError, RecordError) as error:
        raise InputError(file, *_at_line(file, str(error))) from None
    return table


def _at_line(file: Path, words: str) -> tuple[str, str]:
    """Place and problem of a refused row, whose number counts from 0, as lines of its file count."""
    found = re.match(r"row (\d+): ", words)
    if not found:
        return "rows", f"are not taken: {words}"
    lines = [k for k, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1) if line.strip()]
    return f"line {lines[int(found[1]) + 1]}:", words[found.end() :]
