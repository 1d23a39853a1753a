"""Tables by columns: as Polars frames for a user, as rows for a document.

Polars takes longer to import than a power flow takes to solve, so only the first frame imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

Columns = dict[str, list[Any]]


def frame(columns: Mapping[str, Any], *, text: Sequence[str] = (), optional: Sequence[str] = ()) -> pl.DataFrame:
    """A Polars frame; `text` columns are text even where they have no rows, NaN in `optional` ones becomes null.

    >>> frame({"node": [], "pu": []}, text=["node"]).schema["node"]
    String
    """
    import polars as pl

    made = pl.DataFrame(dict(columns), schema_overrides=dict.fromkeys(text, pl.String))
    return made.with_columns(pl.col(name).cast(pl.Float64).fill_nan(None) for name in optional)


def rows(columns: Columns) -> list[dict[str, Any]]:
    """A table by columns as a list of its rows.

    >>> rows({"node": ["a", "b"], "pu": [1.0, 0.99]})
    [{'node': 'a', 'pu': 1.0}, {'node': 'b', 'pu': 0.99}]
    """
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
