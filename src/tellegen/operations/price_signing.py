"""A publisher's side of wholesale prices: a file whose every price it has signed, and whether one is."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from pathlib import Path

from tellegen.journal import NoteVerifier
from tellegen.operations.growing import bounded_bytes, rows_of
from tellegen.operations.price_proof import verifies
from tellegen.operations.prices import COLUMNS, FORMS, SIGNED, Published, read_prices
from tellegen.records import price_message
from tellegen.records.market import DAY_AHEAD, REAL_TIME

Sign = Callable[[bytes], bytes]


def signed_table(path: Path, publisher: str, sign: Sign) -> str:
    """The text of a price file with a signature over each of its prices.

    Parameters
    ----------
    publisher : name of the publisher's verifier key. sign : the publisher's key, message to 64 bytes.

    Raises
    ------
    InputError : it is no price file.
    """
    series = read_prices(path, None)
    signatures = {
        (name, line): base64.b64encode(sign(message)).decode()
        for name, column in ((REAL_TIME, series.real_time), (DAY_AHEAD, series.day_ahead))
        for line, message in _messages(publisher, name, column)
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(SIGNED)
    for line, row in rows_of(path, bounded_bytes(path, "price file"), FORMS):
        cells = [*row[: len(COLUMNS)], *[""] * (len(COLUMNS) - len(row))]
        writer.writerow([*cells, signatures.get((REAL_TIME, line), ""), signatures.get((DAY_AHEAD, line), "")])
    return out.getvalue()


def unsigned_lines(path: Path, publisher: NoteVerifier) -> tuple[int, list[tuple[int, str]]]:
    """How many prices of a file its publisher has signed, and line and market of those that it has not.

    Raises
    ------
    InputError : it is no price file.
    """
    series, signed, not_signed = read_prices(path, None), 0, []
    for name, column in ((REAL_TIME, series.real_time), (DAY_AHEAD, series.day_ahead)):
        for (line, message), signature in zip(
            _messages(publisher.name, name, column), column.prices.signature, strict=True
        ):
            if verifies(publisher, message, signature.tobytes()):
                signed += 1
            else:
                not_signed.append((line, name))
    return signed, sorted(not_signed)


def _messages(publisher: str, market: str, column: Published) -> list[tuple[int, bytes]]:
    """Line of each price, and what is signed of it."""
    prices = column.prices
    rows = zip(
        column.line.tolist(), prices.interval.tolist(), prices.intervals.tolist(), prices.micros.tolist(), strict=True
    )
    return [
        (line, price_message(publisher, market, interval, intervals, micros))
        for line, interval, intervals, micros in rows
    ]
