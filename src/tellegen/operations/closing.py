"""The row that says that a feeder's day was closed, closed again, or is final."""

from __future__ import annotations

from datetime import date

import numpy as np

from tellegen.operations.timetable import day_number
from tellegen.records import CloseKind, Closes


def closes_row(
    day: date,
    bounds: range,
    kind: CloseKind,
    *,
    customers: int = 0,
    read_size: int = 0,
    open_rent: int = 0,
    open_unaccounted: int = 0,
) -> Closes:
    """The row that says that a feeder's day was closed."""
    return Closes(
        day=np.array([day_number(day)]),
        first_interval=np.array([bounds.start]),
        intervals=np.array([len(bounds)]),
        customers=np.array([customers]),
        read_size=np.array([read_size]),
        close_kind=np.array([int(kind)]),
        open_rent_nanos=np.array([open_rent]),
        open_unaccounted_nanos=np.array([open_unaccounted]),
    )
