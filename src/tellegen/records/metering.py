"""What meters put on record: registers as sent, and interval energy as validated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column


class Quality(IntEnum):
    """Standing of an interval quantity."""

    MEASURED = 0
    ESTIMATED = 1
    CORRECTED = 2


class ValidationRule(IntEnum):
    """The check that rejected a reading (0: none did)."""

    NONE = 0
    AUTHENTICATION = 1
    COUNTER = 2
    MISSING = 3
    NEGATIVE = 4
    HIGH = 5
    ZERO = 6
    VOLTAGE = 7
    AFTER_GAP = 8


@dataclass(frozen=True, slots=True, eq=False)
class Readings(Table):
    """Registers as the meters sent them at the end of an interval; never edited.

    Customer 0 is the operator's own meter at the substation (import = energy into the feeder).
    The authentication code covers every other column of the row and the interval number.
    """

    kind: ClassVar[str] = "readings"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number; 0 is the substation")
    meter: NDArray[np.int64] = column("<i8", "1", "serial number of the meter")
    counter: NDArray[np.int64] = column("<i8", "1", "message counter of the meter, strictly rising")
    import_wh: NDArray[np.int64] = column("<i8", "Wh", "cumulative register, withdrawal")
    export_wh: NDArray[np.int64] = column("<i8", "Wh", "cumulative register, injection")
    reactive_varh: NDArray[np.int64] = column("<i8", "varh", "cumulative net reactive withdrawal, signed")
    voltage_mv: NDArray[np.int64] = column("<i8", "mV", "mean voltage, phase to neutral")
    tag: NDArray[np.void] = column("|V16", "bytes", "authentication code under the meter's own key")


@dataclass(frozen=True, slots=True, eq=False)
class Energy(Table):
    """Validated energy of one interval per customer: differences of registers, or estimates."""

    kind: ClassVar[str] = "energy"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number; 0 is the substation")
    interval: NDArray[np.int64] = column("<i8", "1", "market interval")
    import_wh: NDArray[np.int64] = column("<i8", "Wh", "withdrawn in the interval")
    export_wh: NDArray[np.int64] = column("<i8", "Wh", "injected in the interval")
    reactive_varh: NDArray[np.int64] = column("<i8", "varh", "net reactive withdrawal")
    quality: NDArray[np.uint8] = column("|u1", "Quality", "measured, estimated or corrected")
    rule: NDArray[np.uint8] = column("|u1", "ValidationRule", "check that rejected the reading")
