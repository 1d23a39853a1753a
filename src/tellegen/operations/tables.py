"""The published tables of a run, as Parquet: derived from the record, readable by any tool.

They hold what the operator may see. Rows of erased customers are gone from them, because they are
made from what can still be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tellegen.operations.facts import RecordedDay
from tellegen.records import Account, Device, Line, Product, Quality, Statements, Table, ValidationRule
from tellegen.settlement import latest_energy

Names = Mapping[int, str]


def write_table(directory: Path, name: str, frame: pl.DataFrame) -> None:
    """Write ``tables/NAME.parquet`` whole or not at all."""
    folder = directory / "tables"
    folder.mkdir(mode=0o700, exist_ok=True)
    partial = folder / f".{name}.partial"
    frame.write_parquet(partial, compression="zstd", statistics=False)
    os.replace(partial, folder / f"{name}.parquet")


def write_record_tables(directory: Path, day: RecordedDay, names: Names, statements: Statements) -> None:
    """Write every table that follows from the record."""
    write_table(directory, "prices", _prices(day))
    write_table(directory, "clearings", _clearings(day))
    write_table(directory, "awards", _awards(day, names))
    write_table(directory, "schedules", _schedules(day, names))
    write_table(directory, "readings", _readings(day, names))
    write_table(directory, "energy", _energy(day, names))
    write_table(directory, "postings", _postings(day, names))
    write_table(directory, "statements", _statements(statements, names))


def frame_of(table: Table) -> pl.DataFrame:
    """A record table as a frame; byte columns become hexadecimal text."""
    columns: dict[str, object] = {}
    for name in table.row_dtype().names or ():
        values = getattr(table, name)
        columns[name] = [v.tobytes().hex() for v in values] if values.dtype.kind == "V" else values
    return pl.DataFrame(columns)


def _stack(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, how="vertical") if frames else pl.DataFrame()


def _tagged(table: Table, **tags: object) -> pl.DataFrame:
    return frame_of(table).select(*(pl.lit(v).alias(k) for k, v in tags.items()), pl.all())


def _named(frame: pl.DataFrame, names: Names, key: str = "customer") -> pl.DataFrame:
    known = {number: names.get(number, f"customer {number}") for number in frame[key].unique().to_list()}
    known.update({int(account): account.name.lower() for account in Account})
    if 0 in known:
        known[0] = "substation"
    return frame.with_columns(pl.col(key).replace_strict(known, return_dtype=pl.String, default="").alias("name"))


def _enum(
    frame: pl.DataFrame, column: str, kind: type[Device | Line | Product | Quality | ValidationRule]
) -> pl.DataFrame:
    words = {int(member): member.name.lower() for member in kind}
    return frame.with_columns(pl.col(column).replace_strict(words, return_dtype=pl.String))


def _prices(day: RecordedDay) -> pl.DataFrame:
    frame = _stack([_tagged(r.period.prices, market=r.market, interval=r.interval) for r in day.rounds])
    return frame.rename({"node": "node_index"})


def _clearings(day: RecordedDay) -> pl.DataFrame:
    return _stack([_tagged(r.period.clearing, market=r.market, interval=r.interval) for r in day.rounds])


def _awards(day: RecordedDay, names: Names) -> pl.DataFrame:
    # An erased customer's rows are missing from orders and awards alike, so the rest still match.
    frames = [
        _tagged(r.orders, market=r.market, interval=r.interval).with_columns(
            pl.Series("awarded_mw", r.awards.quantity_mw)
        )
        for r in day.rounds
    ]
    frame = _named(_enum(_enum(_stack(frames), "device", Device), "product", Product), names)
    return frame.rename({"node": "node_index"})


def _schedules(day: RecordedDay, names: Names) -> pl.DataFrame:
    frame = _stack([_tagged(r.period.schedules, market=r.market, interval=r.interval) for r in day.rounds])
    return _named(frame, names).rename({"node": "node_index"})


def _readings(day: RecordedDay, names: Names) -> pl.DataFrame:
    return _named(_stack([_tagged(table, interval=interval) for interval, table in day.readings]), names)


def _energy(day: RecordedDay, names: Names) -> pl.DataFrame:
    frame = frame_of(latest_energy(day.energy))
    return _named(_enum(_enum(frame, "quality", Quality), "rule", ValidationRule), names)


def _postings(day: RecordedDay, names: Names) -> pl.DataFrame:
    return _enum(_named(frame_of(day.all_postings()), names, "account"), "line", Line)


def _statements(statements: Statements, names: Names) -> pl.DataFrame:
    return _enum(_named(frame_of(statements), names), "line", Line)
