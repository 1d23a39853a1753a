"""Orders from whatever table a user has them in, to the rows of text that the market's one reader checks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tellegen.errors import InputError
from tellegen.grid import Network
from tellegen.market import (
    Agreements,
    OrderFile,
    References,
    read_agreement_rows,
    read_agreements_csv,
    read_order_rows,
    read_orders_csv,
    read_reference_rows,
    read_references_csv,
)
from tellegen.market.order_file import AGREEMENT_COLUMNS, COLUMNS, REFERENCE_COLUMNS, REQUIRED_COLUMNS, check_columns

if TYPE_CHECKING:
    import polars as pl

SOURCE = "orders frame"
OrdersLike: TypeAlias = "str | Path | pl.DataFrame | Sequence[Mapping[str, object]] | Any"
"""A CSV file, a Polars frame, a pandas frame, or a list of dicts; pandas is not imported to say so."""
_NAMES = ("participant", "node", "phases")


def read_orders(orders: OrdersLike, network: Network) -> OrderFile:
    """Read orders under the columns of the order file, whatever table they come in.

    Parameters
    ----------
    orders : path of a CSV file, a Polars or pandas frame, or a list of dicts. Numbers may be numbers or text. What is
        missing (null, None, a key that is not there; NaN in pandas alone) counts as empty: a price-taker where it is
        the price. `OrderFile.row` counts rows of a frame from 0, lines of a file from 1.
    network : names the nodes.

    Raises
    ------
    InputError : names file or ``orders frame``, row and field, and what would be right.
    """
    if isinstance(orders, (str, Path)):
        return read_orders_csv(orders, network)
    return read_order_rows(SOURCE, _rows(COLUMNS, *_columns(SOURCE, orders, COLUMNS, REQUIRED_COLUMNS)), network)


def read_agreements(agreements: OrdersLike, orders: OrderFile) -> Agreements:
    """Read connection agreements from the same kinds of tables; see `tellegen.market.Agreements`.

    Raises
    ------
    InputError : names file or ``agreements frame``, row and field, and what would be right.
    """
    if isinstance(agreements, (str, Path)):
        return read_agreements_csv(agreements, orders)
    source = "agreements frame"
    columns, nan_is_missing = _columns(source, agreements, AGREEMENT_COLUMNS, AGREEMENT_COLUMNS[:2])
    return read_agreement_rows(source, _rows(AGREEMENT_COLUMNS, columns, nan_is_missing), orders)


def read_references(references: OrdersLike, orders: OrderFile) -> References:
    """Read reference prices from the same kinds of tables, with the columns ``participant, product, price``.

    Raises
    ------
    InputError : names file or ``references frame``, row and field, and what would be right.
    """
    if isinstance(references, (str, Path)):
        return read_references_csv(references, orders)
    source = "references frame"
    columns, nan_is_missing = _columns(source, references, REFERENCE_COLUMNS, REFERENCE_COLUMNS)
    return read_reference_rows(source, _rows(REFERENCE_COLUMNS, columns, nan_is_missing), orders)


def _columns(
    source: str, orders: Any, known: Sequence[str], required: Sequence[str]
) -> tuple[dict[str, list[object]], bool]:
    """Values by column, and whether NaN means that there is none."""
    maker = type(orders).__module__.partition(".")[0]
    if maker in ("polars", "pandas") and type(orders).__name__ == "DataFrame":
        own_names = list(orders.columns)
        names = check_columns(source, [str(own) for own in own_names], known, required)
        values = {name: [*orders[own]] for name, own in zip(names, own_names, strict=True)}
        return values, maker == "pandas"
    if isinstance(orders, Sequence) and all(isinstance(row, Mapping) for row in orders):
        own_names = list(dict.fromkeys(key for row in orders for key in row)) if orders else list(known)
        names = check_columns(source, [str(own) for own in own_names], known, required)
        return {name: [row.get(own) for row in orders] for name, own in zip(names, own_names, strict=True)}, False
    raise InputError(
        source,
        type(orders).__name__,
        "is not read; give a Polars or pandas frame, a list of dicts or the path of a CSV",
    )


def _rows(
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
