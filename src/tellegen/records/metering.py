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
    PROFILED = 3
    """Measured over a longer interval of the meter, and shared evenly over it."""


class ValidationRule(IntEnum):
    """The check that rejected a reading (0: none did); the numbers are on record and are never given anew."""

    NONE = 0
    AUTHENTICATION = 1
    COUNTER = 2
    MISSING = 3
    NEGATIVE = 4
    HIGH = 5
    ZERO = 6
    VOLTAGE = 7
    AFTER_GAP = 8
    INTERVAL_SIZE = 9
    SPIKE = 10
    SUM_CHECK = 11
    CONSECUTIVE = 12
    DUPLICATE = 13
    UNIT = 14
    MULTIPLIER = 15
    HIGH_LOW = 16
    PROLONGED_ESTIMATION = 17


class Editor(IntEnum):
    """Who made an edit."""

    RULE = 1
    PERSON = 2
    METER = 3


class EditReason(IntEnum):
    """Where the quantities of an edit come from."""

    INTERPOLATION = 1
    SIMILAR_DAY = 2
    PROFILE = 3
    AVERAGE = 4
    MEASURED_SHAPE = 5
    EVEN_SPREAD = 6
    LATE_READING = 7
    FIELD_VISIT = 8
    METER_EXCHANGE = 9
    AGREEMENT = 10


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
    quality: NDArray[np.uint8] = column("|u1", "Quality", "measured, estimated, corrected or profiled")
    rule: NDArray[np.uint8] = column("|u1", "ValidationRule", "check that rejected the reading")


@dataclass(frozen=True, slots=True, eq=False)
class Edits(Table):
    """New versions of interval energy; what they replace stays on record.

    Version 0 of an interval is what was first recorded of it. The last version that was known at a time is what was
    believed then.
    """

    kind: ClassVar[str] = "edits"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number; 0 is the substation")
    interval: NDArray[np.int64] = column("<i8", "1", "first market interval")
    intervals: NDArray[np.int32] = column("<i4", "1", "market intervals that the meter's interval spans")
    version: NDArray[np.int32] = column("<i4", "1", "one more than the version it replaces")
    import_wh: NDArray[np.int64] = column("<i8", "Wh", "withdrawn in the interval")
    export_wh: NDArray[np.int64] = column("<i8", "Wh", "injected in the interval")
    reactive_varh: NDArray[np.int64] = column("<i8", "varh", "net reactive withdrawal")
    quality: NDArray[np.uint8] = column("|u1", "Quality", "measured, estimated, corrected or profiled")
    rule: NDArray[np.uint8] = column("|u1", "ValidationRule", "check that the replaced version failed; 0: none")
    editor: NDArray[np.uint8] = column("|u1", "Editor", "a rule, a person, or the meter itself, late")
    reason: NDArray[np.uint8] = column("|u1", "EditReason", "where the new quantities come from")


@dataclass(frozen=True, slots=True, eq=False)
class MeterStates(Table):
    """Where validation of a meter stands after readings that came late; an installation is a customer and a serial."""

    kind: ClassVar[str] = "meter_states"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number; a substation by its own")
    meter: NDArray[np.int64] = column("<i8", "1", "serial number of the meter")
    accepted: NDArray[np.int64] = column("(3,)<i8", "Wh, Wh, varh", "registers of the last accepted reading")
    accepted_at: NDArray[np.int32] = column("<i4", "1", "interval that it closed; see `metering.validation.NEVER`")
    heard: NDArray[np.int64] = column("(3,)<i8", "Wh, Wh, varh", "registers of the last reading, accepted or not")
    heard_at: NDArray[np.int32] = column("<i4", "1", "interval that it closed")
    still: NDArray[np.int32] = column("<i4", "1", "readings on end that showed the accepted registers of Wh")
    measured: NDArray[np.int32] = column("(3,)<i4", "Wh, Wh, varh", "energy of the last interval that was measured")


class Refusal(IntEnum):
    """Why a row of a submission was not taken; the others of its batch are."""

    NONE = 0
    UNKNOWN = 1
    REVOKED = 2
    CODE = 3
    REPLAYED = 4
    STALE_COUNTER = 5
    OTHER_FEEDER = 6
    SIGNATURE = 7
    OUT_OF_RANGE = 8
    DUPLICATE = 9
    MALFORMED = 10
    BEYOND_CONNECTION = 11
    BEYOND_DEVICE = 12
    BEYOND_CREDIT = 13
    NOT_DELIVERED = 14
    NOT_REGISTERED = 15
    NOT_ATTESTED = 16


@dataclass(frozen=True, slots=True, eq=False)
class Refusals(Table):
    """Rows of a recorded submission that do not count, and why; the batch is the one cause of this one.

    For bids a row is that of the `Submissions`; its orders do not count either.
    """

    kind: ClassVar[str] = "refusals"

    row: NDArray[np.int32] = column("<i4", "1", "row number in the submission as recorded")
    refusal: NDArray[np.uint8] = column("|u1", "Refusal", "why it was refused")


@dataclass(frozen=True, slots=True, eq=False)
class DailyRoots(Table):
    """What each meter says of its own day, signed by the meter itself: proof to a third party.

    The root is that of an RFC 6962 tree over the meter's readings of the UTC day in the order of their counters; a
    leaf is SHA-256(0x00 || interval as int64, little-endian || canonical bytes of the reading, code included). Signed,
    with Ed25519: ``"tellegen-day@v1\\n<meter>\\n<day>\\n<readings>\\n<root hex>\\n"``.
    """

    kind: ClassVar[str] = "daily_roots"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    meter: NDArray[np.int64] = column("<i8", "1", "serial number of the meter")
    day: NDArray[np.int64] = column("<i8", "d", "UTC day since the epoch")
    readings: NDArray[np.int32] = column("<i4", "1", "number of readings")
    root: NDArray[np.void] = column("|V32", "bytes", "root of the tree over them")
    signature: NDArray[np.void] = column("|V64", "bytes", "Ed25519 signature of the meter")
