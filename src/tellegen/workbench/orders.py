"""Orders from a file or whatever table a user has them in, as the rows of text that one reader checks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tellegen.errors import InputError
from tellegen.grid import Network
from tellegen.market import Agreements, References
from tellegen.workbench.order_rows import (
    AGREEMENT_COLUMNS,
    COLUMNS,
    REFERENCE_COLUMNS,
    REQUIRED_COLUMNS,
    OrderFile,
    agreements_of,
    orders_of,
    references_of,
)

if TYPE_CHECKING:
    import polars as pl

FILE_BYTES_MAX = 64 * 2**20
OrdersLike: TypeAlias = "str | Path | pl.DataFrame | Sequence[Mapping[str, object]] | Any"
"""A CSV file, a Polars frame, a pandas frame, or a list of dicts; pandas is not imported to say so."""
_NAMES = ("participant", "node", "phases")


def read_orders(orders: OrdersLike, network: Network) -> OrderFile:
    """Read orders under the columns of the order file, whatever table they come in.

    Columns ``participant,node,phases,product,side,price,quantity_kw,kvar_per_kw,slope``; `phases`, `kvar_per_kw` and
    `slope` may be missing, and be empty as `price` may: an empty price is a price-taker. Rows of one participant at one
    node, product and side are the steps of its curve, dearest first for a buyer, cheapest first for a seller. Orders
    at a bus that no source feeds are read and get nothing.

    Parameters
    ----------
    orders : path of a CSV file in UTF-8, a Polars or pandas frame, or a list of dicts. Numbers may be numbers or text.
        What is missing (null, None, a key that is not there; NaN in pandas alone) counts as empty. `OrderFile.row`
        counts rows of a frame from 0, lines of a file from 1.
    network : names the nodes.

    Raises
    ------
    InputError : names file or ``orders frame``, row and field, and what would be right.
    """
    return orders_of(*_table("orders", orders, COLUMNS, REQUIRED_COLUMNS), network)


def read_agreements(agreements: OrdersLike, orders: OrderFile) -> Agreements:
    """Read connection agreements from the same kinds of tables; see `tellegen.market.Agreements`.

    Raises
    ------
    InputError : names file or ``agreements frame``, row and field, and what would be right.
    """
    return agreements_of(*_table("agreements", agreements, AGREEMENT_COLUMNS, AGREEMENT_COLUMNS[:2]), orders)


def read_references(references: OrdersLike, orders: OrderFile) -> References:
    """Read reference prices from the same kinds of tables, with the columns ``participant, product, price``.

    Raises
    ------
    InputError : names file or ``references frame``, row and field, and what would be right.
    """
    return references_of(*_table("references", references, REFERENCE_COLUMNS, REFERENCE_COLUMNS), orders)


_Table: TypeAlias = tuple[object, Iterator[tuple[int, dict[str, str]]]]


def _table(what: str, given: OrdersLike, known: Sequence[str], required: Sequence[str]) -> _Table:
    """What errors call a table, and its rows."""
    if isinstance(given, (str, Path)):
        return given, _file_rows(Path(given), known, required)
    source = f"{what} frame"
    columns, nan_is_missing = _columns(source, given, known, required)
    return source, _frame_rows(known, columns, nan_is_missing)


def _check_columns(source: object, names: Sequence[str], known: Sequence[str], required: Sequence[str]) -> list[str]:
    """Column names in lower case; refuses an unknown, a missing and a repeated one."""
    header = [name.strip().lower() for name in names]
    missing = [name for name in required if name not in header]
    if missing:
        raise InputError(source, f"column '{missing[0]}'", f"is missing; the header is {','.join(known)}")
    unknown = [name for name in header if name not in known]
    if unknown:
        raise InputError(source, f"column '{unknown[0]}'", f"is not known; the header is {','.join(known)}")
    if len(set(header)) != len(header):
        raise InputError(source, "the header", "names a column twice")
    return header


def _file_rows(path: Path, known: Sequence[str], required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise InputError(path, f"{size} bytes", f"are more than the {FILE_BYTES_MAX} that are read; split the file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(path, "the file", f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(path, "the file", "is not UTF-8 text") from None
    reader = csv.reader(io.StringIO(text), strict=True)
    header: list[str] | None = None
    empty = True
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = _check_columns(path, fields, known, required)
                continue
            if len(fields) != len(header):
                raise InputError(path, f"row {reader.line_num}", f"has {len(fields)} fields, the header {len(header)}")
            empty = False
            row = zip(header, (field.strip() for field in fields), strict=True)
            yield reader.line_num, dict.fromkeys(known, "") | dict(row)
    except csv.Error as error:
        raise InputError(path, f"row {reader.line_num}", f"is not CSV: {error}") from None
    if empty:
        raise InputError(path, "the file", f"holds no rows; give a header {','.join(known)} and a row each")


def _columns(
    source: str, orders: Any, known: Sequence[str], required: Sequence[str]
) -> tuple[dict[str, list[object]], bool]:
    """Values by column, and whether NaN means that there is none."""
    maker = type(orders).__module__.partition(".")[0]
    if maker in ("polars", "pandas") and type(orders).__name__ == "DataFrame":
        own_names = list(orders.columns)
        names = _check_columns(source, [str(own) for own in own_names], known, required)
        values = {name: [*orders[own]] for name, own in zip(names, own_names, strict=True)}
        return values, maker == "pandas"
    if isinstance(orders, Sequence) and all(isinstance(row, Mapping) for row in orders):
        own_names = list(dict.fromkeys(key for row in orders for key in row)) if orders else list(known)
        names = _check_columns(source, [str(own) for own in own_names], known, required)
        return {name: [row.get(own) for row in orders] for name, own in zip(names, own_names, strict=True)}, False
    raise InputError(
        source,
        type(orders).__name__,
        "is not read; give a Polars or pandas frame, a list of dicts or the path of a CSV",
    )


def _frame_rows(
    known: Sequence[str], columns: dict[str, list[object]], nan_is_missing: bool
) -> Iterator[tuple[int, dict[str, str]]]:
    empty = dict.fromkeys(known, "")
    texts = [[_text(name, value, nan_is_missing) for value in values] for name, values in columns.items()]
    for k, row in enumerate(zip(*texts, strict=True)):
        yield k, empty | dict(zip(columns, row, strict=True))


def _text(name: str, value: object, nan_is_missing: bool) -> str:
    if hasattr(value, "item"):
        value = value.item()  # a NumPy scalar, whose own text names its type
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, float):
        if nan_is_missing and math.isnan(value):
            return ""
        # pandas turns whole numbers into floats where one of a column is missing; a bus is called 3, not 3.0
        return str(int(value)) if name in _NAMES and value.is_integer() else repr(value)
    return str(value).strip()
