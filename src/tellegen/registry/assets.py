"""The registry of assets: what hangs where, checked before it goes on record, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.journal.storage import private_draft
from tellegen.records import OPERATOR, Connections, Device
from tellegen.registry.directory import Directory
from tellegen.registry.identity import CUSTOMER_MAX, RegistryError
from tellegen.units import INTERVALS_PER_HOUR

COLUMNS = tuple(name for name in Connections.row_dtype().names or ())
DEFAULTS = {"reads_every": 0, "attested_by": "", "credit": 0}
"""Columns that may be left out: the meter is read every market interval, nobody vouches for the capacity, and the
rulebook says how much may be owed."""
ROWS_MAX = 2_000_000
FEEDER_CHARACTERS_MAX = 32
_TEXTS = ("feeder", "attested_by")
POWER_MAX_W = 10**12
PHASES_MAX = 7
DEVICES = tuple(device.name.lower() for device in Device)
INTERVAL_MAX = 10**9
"""Intervals of five minutes from 1970 on: beyond the year 11,000."""


def connection(**fields: object) -> Connections:
    """One row, from plain values by column; those of `DEFAULTS` may be left out.

    >>> connection(customer=7, device=Device.LOAD, asset=77, feeder="F1", node=3, phases=0, from_interval=9,
    ...            capacity_w=10_000, import_limit_w=10_000, export_limit_w=5_000).feeder.tolist()
    [b'F1']
    """
    values = {
        name: np.array([str(value).encode("ascii") if name in _TEXTS else value])
        for name, value in (DEFAULTS | fields).items()
    }
    return Connections(**values)


def check_connections(table: Connections, directory: Directory | None = None) -> None:
    """Check rows before they go on record.

    Parameters
    ----------
    directory : what is known already; then an asset hangs behind a connection that there is.

    Raises
    ------
    RegistryError : the first row that cannot stand, with what would be right.
    """
    power = (table.capacity_w, table.import_limit_w, table.export_limit_w)
    every = table.reads_every
    nameless = (table.feeder == b"") & (table.node >= 0)
    faults = [
        ((table.customer < OPERATOR), "customer", f"is from 0 (the substation) to {CUSTOMER_MAX}"),
        (~np.isin(table.device, [int(d) for d in Device]), "device", "is one of " + ", ".join(DEVICES)),
        (table.asset < 0, "asset", "is a serial number, from 0"),
        (table.node < -1, "node", "is -1 (disconnected) or more"),
        (table.phases > PHASES_MAX, "phases", f"are bits 1, 2 and 4, so 0 to {PHASES_MAX}"),
        (_unprintable(table.feeder) | nameless, "feeder", "is a name in printable ASCII"),
        ((table.from_interval < 0) | (table.from_interval > INTERVAL_MAX), "from_interval", "counts from 1970"),
        ((power[0] < 0) | (power[0] > POWER_MAX_W), "capacity_w", f"is from 0 to {POWER_MAX_W}"),
        ((power[1] < 0) | (power[1] > power[0]), "import_limit_w", "is from 0 to the capacity"),
        ((power[2] < 0) | (power[2] > power[0]), "export_limit_w", "is from 0 to the capacity"),
        (INTERVALS_PER_HOUR % np.maximum(every, 1) != 0, "reads_every", "is market intervals that divide an hour"),
        ((every > 1) & (table.device != Device.LOAD), "reads_every", "is the meter's (device load); 0 for an asset"),
        (table.credit < -1, "credit", "is whole currency; 0 for the rulebook's limit, -1 for none at all"),
        (
            (table.credit != 0) & (table.device != Device.LOAD),
            "credit",
            "is the account's (device load); 0 for an asset",
        ),
        (_unprintable(table.attested_by), "attested_by", "is a name in printable ASCII, or empty"),
    ]
    for bad, name, right in faults:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise RegistryError(f"row {row}: {name} {getattr(table, name)[row]} will not do: it {right}")
    _check_points(table, directory)


def _unprintable(texts: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    letters = np.ascontiguousarray(texts).view(np.uint8).reshape(texts.size, texts.dtype.itemsize)
    return np.asarray(((letters != 0) & ((letters < ord(" ")) | (letters > ord("~")))).any(axis=1))


def _check_points(table: Connections, directory: Directory | None) -> None:
    """An asset hangs behind a connection, in this batch or on record."""
    behind = np.flatnonzero(table.device != Device.LOAD)
    if directory is None or not behind.size:
        return
    here = np.isin(table.customer[behind], table.customer[table.device == Device.LOAD])
    known = directory.connections(table.customer[behind])[1]
    lost = behind[~(here | known)]
    if lost.size:
        raise RegistryError(
            f"row {lost[0]}: customer {table.customer[lost[0]]} has no connection yet (device load); that comes first"
        )


def read_csv(path: Path) -> Connections:
    """Connections from a CSV file whose header names every column of the table but those of `DEFAULTS`, which it may.

    Devices stand there by name or number.

    Raises
    ------
    InputError : unreadable, a column is missing or unknown, or a field is not what its column holds; says where.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(path, "file", "is not UTF-8 text") from None
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    try:
        header = reader.fieldnames or []
        needed = [name for name in COLUMNS if name not in DEFAULTS]
        strange = [name for name in header if name not in COLUMNS]
        if set(needed) <= set(header) and strange:
            known = ",".join(COLUMNS)
            raise InputError(path, f"line 1, column '{strange[0]}'", f"is none of {known}; correct or remove it")
        if not set(needed) <= set(header) or len(set(header)) != len(header):
            raise InputError(
                path,
                "line 1",
                f"must name each of these columns once: {','.join(needed)}; and may name {','.join(DEFAULTS)}",
            )
        for row in reader:
            if len(columns["customer"]) == ROWS_MAX:
                raise InputError(path, f"line {reader.line_num}", f"is beyond {ROWS_MAX} rows; split the file")
            if None in row:
                raise InputError(
                    path, f"line {reader.line_num}", f"has more fields than the {len(header)} of the header"
                )
            for name in COLUMNS:
                columns[name].append(_field(path, reader.line_num, name, row.get(name) or ""))
    except csv.Error as error:
        raise InputError(path, f"after line {reader.line_num}", f"is not CSV: {error}") from None
    dtype = Connections.row_dtype()
    return Connections(**{name: np.array(values, dtype=dtype[name]) for name, values in columns.items()})


def _field(path: Path, line: int, name: str, text: str) -> object:
    place, given = f"line {line}, {name} {text!r}", text.strip()
    if name in DEFAULTS and not given:
        given = str(DEFAULTS[name])
    if name in _TEXTS:
        if not given.isascii() or len(given) > FEEDER_CHARACTERS_MAX:
            raise InputError(path, place, f"is not a name of at most {FEEDER_CHARACTERS_MAX} ASCII characters")
        return given.encode()
    if name == "device" and given.upper() in Device.__members__:
        return int(Device[given.upper()])
    bounds = np.iinfo(Connections.row_dtype()[name])
    digits = given.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and bounds.min <= int(given) <= bounds.max):
        known = f", or one of {', '.join(DEVICES)}" if name == "device" else ""
        raise InputError(path, place, f"is not a whole number from {bounds.min} to {bounds.max}{known}")
    return int(given)


def write_csv(path: Path, tables: Iterable[Connections]) -> None:
    """Write connections in the form that `read_csv` reads; only the file's owner may read it."""
    with private_draft(path) as draft, io.TextIOWrapper(draft, encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for table in tables:
            for row in table.rows().tolist():
                fields = dict(zip(COLUMNS, row, strict=True))
                fields["device"] = Device(fields["device"]).name.lower()
                fields |= {name: fields[name].decode("ascii") for name in _TEXTS}
                writer.writerow([fields[name] for name in COLUMNS])
