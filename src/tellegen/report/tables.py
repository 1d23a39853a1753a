"""The published tables of a run, as Parquet: derived from the record, readable by any tool.

They hold what the operator may see. Rows of erased customers are gone from them, because they are
made from what can still be read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tellegen.journal.storage import private_draft
from tellegen.records import STATEMENT_LINES, Account, Device, Line, Product, Quality, Statements, Table, ValidationRule
from tellegen.records.market import MARKETS, REAL_TIME
from tellegen.report.day import ClearedRound, DayOnRecord, Names, guiding, settling
from tellegen.settlement import latest_energy


def write_table(directory: Path, name: str, frame: pl.DataFrame) -> None:
    """Write ``tables/NAME.parquet`` whole or not at all."""
    folder = directory / "tables"
    folder.mkdir(mode=0o700, exist_ok=True)
    with private_draft(folder / f"{name}.parquet") as file:
        frame.write_parquet(file, compression="zstd", statistics=False)


def write_record_tables(directory: Path, day: DayOnRecord, names: Names) -> None:
    """Write every table that follows from the record."""
    settled = [(market, each) for market in MARKETS for each in settling(day, market)]
    write_table(directory, "prices", _prices(settled))
    write_table(directory, "clearings", _clearings(settled))
    if guide := [(REAL_TIME, each) for each in guiding(day)]:
        write_table(directory, "guide_prices", _prices(guide))
        write_table(directory, "guide_clearings", _clearings(guide))
    write_table(directory, "awards", _awards(day, names))
    write_table(directory, "schedules", _schedules(day, names))
    write_table(directory, "readings", _readings(day, names))
    write_table(directory, "energy", _energy(day, names))
    write_table(directory, "postings", _postings(day, names))
    write_table(directory, "statements", _statements(day.statements, names))


def frame_of(table: Table) -> pl.DataFrame:
    """A record table as a frame; byte columns become hexadecimal text."""
    columns: dict[str, object] = {}
    for name in table.row_dtype().names or ():
        values = getattr(table, name)
        coded = values.dtype.kind == "V"
        columns[name] = pl.Series([v.tobytes().hex() for v in values], dtype=pl.String) if coded else values
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


def _prices(rounds: list[tuple[str, ClearedRound]]) -> pl.DataFrame:
    frame = _stack([_tagged(r.period.prices, market=market, interval=r.interval) for market, r in rounds])
    return frame.rename({"node": "node_index"})


def _clearings(rounds: list[tuple[str, ClearedRound]]) -> pl.DataFrame:
    return _stack([_tagged(r.period.clearing, market=market, interval=r.interval) for market, r in rounds])


def _awards(day: DayOnRecord, names: Names) -> pl.DataFrame:
    frames = [
        _tagged(r.orders, market=r.market, interval=r.interval).with_columns(pl.Series("awarded_mw", r.awarded_mw))
        for r in day.rounds
    ]
    frame = _named(_enum(_enum(_stack(frames), "device", Device), "product", Product), names)
    return frame.rename({"node": "node_index"})


def _schedules(day: DayOnRecord, names: Names) -> pl.DataFrame:
    frame = _stack([_tagged(r.period.schedules, market=r.market, interval=r.interval) for r in day.rounds])
    return _named(frame, names).rename({"node": "node_index"})


def _readings(day: DayOnRecord, names: Names) -> pl.DataFrame:
    return _named(_stack([_tagged(table, interval=interval) for interval, table in day.readings]), names)


def _energy(day: DayOnRecord, names: Names) -> pl.DataFrame:
    frame = frame_of(latest_energy(day.energy))
    return _named(_enum(_enum(frame, "quality", Quality), "rule", ValidationRule), names)


def _postings(day: DayOnRecord, names: Names) -> pl.DataFrame:
    return _enum(_named(frame_of(day.all_postings()), names, "account"), "line", Line)


def _statements(statements: Statements, names: Names) -> pl.DataFrame:
    row, place = np.nonzero((statements.amounts != 0) | (statements.quantities != 0) | (statements.cents != 0))
    frame = pl.DataFrame(
        {
            "customer": statements.customer[row],
            "day": statements.day[row],
            "line": np.array(STATEMENT_LINES, dtype=np.uint8)[place],
            "quantity": statements.quantities[row, place],
            "amount": statements.amounts[row, place],
            "cents": statements.cents[row, place],
        }
    )
    return _enum(_named(frame, names), "line", Line)
