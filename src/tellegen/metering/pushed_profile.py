"""What a meter pushed, as a load profile: named values, captured columns, scalers, times, and what the meter doubts.

The body of a push is a structure whose first element is the push object list; that list names what the others are:

- attribute 2 of a profile generic object (class 7): the buffer, rows of captured values. Needed.
- its attribute 3: the capture objects, which name the columns. Needed.
- its attribute 4: the capture period in seconds; needed where a row leaves out its time.
- attribute 3 of registers (class 3) and extended registers (class 4): scaler and unit; a register without is in Wh or
  varh.
- attribute 2 of a data object (class 1) 0.0.42.0.0.255 or 0.0.96.1.x.255: the device's name, whose digits are its
  serial number.

In the buffer an absent value (null-data) repeats that of the row before, and an absent time is one period later.
Active registers 1.0.1.8.0.255 and 1.0.2.8.0.255 are import and export, reactive 1.0.3.8.0.255 less 1.0.4.8.0.255 the
net reactive withdrawal; other columns are passed over. Registers finer than a watt-hour are cut to whole ones, which
never adds up, because they are cumulative.

What the meter says against a row goes with it, and its registers count as not read (`Doubt`): a clock that is doubtful
(for the rows counted from that time too), a profile status (x.x.96.10.x.255, x.x.96.5.x.255) or the status of an
extended register (attribute 4) with a bit that is not known to be harmless. A clock that is invalid names no interval
and is refused; a clock status of 0xFF says nothing. Sources: IEC 62056-6-2; the bits of an AMR profile status are those
of IDIS package 2 and DSMR P3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.axdr import Item, Malformed
from tellegen.metering.load_profile import ProfileRows, Quantity, Unit
from tellegen.units import IntArray

ROWS_MAX = 10_000
COLUMNS_MAX = 64
PERIOD_S_MAX = 366 * 86_400
END_S_MAX = 2**33
"""Times are read from 1970 to the year 2242."""
DEVICE_CHARACTERS_MAX = 64
_DATE_TIME_BYTES = 12
_NAME_BYTES = 6
_NO_DEVIATION, _DEVIATION_MINUTES_MAX = -0x8000, 840
_OPEN = 0xFF
"""An octet of a date-time that is not specified; a whole clock status that is not."""
_DATA, _REGISTER, _EXTENDED, _PROFILE, _CLOCK, _PUSH_SETUP, _STATUS_MAPPING = 1, 3, 4, 7, 8, 40, 63
_BUFFER, _CAPTURE_OBJECTS, _CAPTURE_PERIOD, _VALUE, _SCALER_UNIT, _REGISTER_STATUS = 2, 3, 4, 2, 3, 4
_UNIT_WH, _UNIT_VARH = 30, 32
_SCALER_MAX = 9
_REGISTER_LIMIT = 10**15
_STATUS_BYTES_MAX = 8
_REGISTERS = {
    bytes((1, 0, 1, 8, 0, 255)): (Quantity.WITHDRAWN, 1, _UNIT_WH),
    bytes((1, 0, 2, 8, 0, 255)): (Quantity.INJECTED, 1, _UNIT_WH),
    bytes((1, 0, 3, 8, 0, 255)): (Quantity.REACTIVE, 1, _UNIT_VARH),
    bytes((1, 0, 4, 8, 0, 255)): (Quantity.REACTIVE, -1, _UNIT_VARH),
}
_HARMLESS_STATUS = 0x08 | 0x20 | 0x80
"""Daylight saving, clock adjusted, power down: the register is what it was."""

Name = tuple[int, bytes, int]
"""Class, logical name and attribute of what a value is."""


class Doubt(IntFlag):
    """Why a row is not believed."""

    CLOCK_INVALID = 1
    CLOCK_DOUBTFUL = 2
    CLOCK_STATUS_INVALID = 4
    CRITICAL_ERROR = 8
    DATA_NOT_VALID = 16
    STATUS_UNKNOWN = 32

    @property
    def words(self) -> list[str]:
        """One for each, for a reader.

        >>> Doubt(18).words
        ['clock doubtful', 'data not valid']
        """
        return [str(doubt.name).lower().replace("_", " ") for doubt in self]


@dataclass(frozen=True, slots=True, eq=False)
class PushedProfile:
    """A load profile as one push holds it.

    Attributes
    ----------
    device : the meter's name; empty where the push does not say.
    period_s : capture period; 0 where the push does not say.
    rows : registers at the end of each capture period; `has_register` is false where a row is doubted.
    clock_status : int64[n], status octet of the time that the row stands at or is counted from.
    status : uint64[n], bits of all the statuses of the row; 0 where it has none.
    doubts : int64[n], `Doubt` bits of each row.
    """

    device: str
    period_s: int
    rows: ProfileRows
    clock_status: IntArray
    status: NDArray[np.uint64]
    doubts: IntArray


def profile_in(body: Item) -> PushedProfile:
    """The load profile in the body of a notification.

    Raises
    ------
    Malformed : there is not exactly one, or something of it is missing, contradictory or out of bounds.
    """
    pushed = _by_name(body)
    profiles = {name for interface, name, attribute in pushed if (interface, attribute) == (_PROFILE, _BUFFER)}
    if len(profiles) != 1:
        raise Malformed(body.at, f"holds {len(profiles)} load profiles in one push, one is read")
    profile = profiles.pop()
    buffer, captured = pushed[_PROFILE, profile, _BUFFER], pushed.get((_PROFILE, profile, _CAPTURE_OBJECTS))
    if captured is None:
        raise Malformed(body.at, "does not say what its profile captures (attribute 3)")
    period_s = 0
    if (period := pushed.get((_PROFILE, profile, _CAPTURE_PERIOD))) is not None:
        period_s = period.integer("a capture period")
        if not 0 <= period_s <= PERIOD_S_MAX:
            raise Malformed(period.at, f"is a capture period of {period_s} s; 0 to {PERIOD_S_MAX} are read")
    device = next((_text(item) for name, item in pushed.items() if _names_device(name)), "")
    columns = _Columns.of(captured, _scales(pushed))
    return _read(buffer, columns, period_s, device)


def _by_name(body: Item) -> dict[Name, Item]:
    """Pushed values, as the push object list calls them."""
    values = body.items("a push object list and what it names", 2)
    listed = values[0].items("the push object list")
    names = [_name(entry) for entry in listed]
    if len(names) == len(values) and names[0][0] == _PUSH_SETUP:
        names = names[1:]  # the list may name itself, attribute 2 of the push setup
    if len(names) != len(values) - 1 or len(set(names)) != len(names):
        count = len(values) - 1
        raise Malformed(values[0].at, f"names {len(names)} values, each once; {count} follow")
    for name, entry in zip(names, listed[-len(names) :], strict=True):
        if name[2] <= 0 and name[0] in (_REGISTER, _EXTENDED, _PROFILE):
            raise Malformed(entry.at, f"names attribute {name[2]}, which stands for several; each by itself is read")
    return dict(zip(names, values[1:], strict=True))


def _name(entry: Item) -> Name:
    interface, name, attribute, *_ = entry.items("class, logical name and attribute", 3)
    return interface.integer("a class"), name.octets("a logical name", _NAME_BYTES), attribute.integer("an attribute")


def _names_device(name: Name) -> bool:
    interface, octets, attribute = name
    named = octets == bytes((0, 0, 42, 0, 0, 255)) or (octets[:4] == bytes((0, 0, 96, 1)) and octets[5] == 255)
    return (interface, attribute) == (_DATA, _VALUE) and named


def _text(item: Item) -> str:
    value = item.value
    if type(value) is int and value >= 0:
        return str(value)
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > DEVICE_CHARACTERS_MAX or not (text.isascii() and text.isprintable()):
        raise Malformed(item.at, f"is no device's name of at most {DEVICE_CHARACTERS_MAX} printable characters")
    return text


def _serial(device: str) -> int:
    digits = "".join(character for character in device if character in "0123456789")
    return int(digits[-18:] or "0")


def _scales(pushed: Mapping[Name, Item]) -> dict[bytes, tuple[int, int]]:
    """Scaler and unit of each register that the push gives them for."""
    scales: dict[bytes, tuple[int, int]] = {}
    for (interface, name, attribute), item in pushed.items():
        if interface not in (_REGISTER, _EXTENDED) or attribute != _SCALER_UNIT or name not in _REGISTERS:
            continue
        scaler, unit, *_ = item.items("scaler and unit", 2)
        found = scaler.integer("a scaler"), unit.integer("a unit")
        if found[1] != _REGISTERS[name][2] or abs(found[0]) > _SCALER_MAX:
            raise Malformed(
                item.at,
                f"is scaler {found[0]} and unit {found[1]} of an energy register; Wh (30) and varh (32) are read, "
                f"scalers to {_SCALER_MAX}",
            )
        if scales.setdefault(name, found) != found:
            raise Malformed(item.at, f"is scaler {found[0]}, and the same register has scaler {scales[name][0]}")
    return scales


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns of a buffer are read.

    Attributes
    ----------
    count : of all columns.
    clock : the column of the time.
    registers : column, quantity, sign and scaler of each energy register.
    statuses : columns that say what a row is worth.
    """

    count: int
    clock: int
    registers: list[tuple[int, Quantity, int, int]]
    statuses: list[int]

    @classmethod
    def of(cls, captured: Item, scales: Mapping[bytes, tuple[int, int]]) -> _Columns:
        entries = captured.items("capture objects")
        if not 1 <= len(entries) <= COLUMNS_MAX:
            raise Malformed(captured.at, f"holds {len(entries)} capture objects; 1 to {COLUMNS_MAX} are read")
        clocks: list[int] = []
        statuses: list[int] = []
        registers: dict[bytes, tuple[int, Quantity, int, int]] = {}
        for at, entry in enumerate(entries):
            interface, name, attribute = _name(entry)
            energy = name in _REGISTERS and interface in (_REGISTER, _EXTENDED)
            if (interface, attribute) == (_CLOCK, _VALUE):
                clocks.append(at)
            elif energy and attribute == _VALUE:
                if name in registers:
                    raise Malformed(entry.at, "captures a register that is captured already")
                quantity, sign, _ = _REGISTERS[name]
                registers[name] = at, quantity, sign, scales[name][0] if name in scales else 0
            elif energy and attribute in (_SCALER_UNIT, 0):
                raise Malformed(entry.at, "captures a register's scaler row by row; one for all rows is read")
            elif _is_status(interface, name, attribute) or (energy and (interface, attribute) == (_EXTENDED, 4)):
                statuses.append(at)
        if len(clocks) != 1 or not registers:
            raise Malformed(captured.at, "captures no clock, or several, or no energy register")
        return cls(len(entries), clocks[0], list(registers.values()), statuses)


def _is_status(interface: int, name: bytes, attribute: int) -> bool:
    kinds = (_DATA, _REGISTER, _EXTENDED, _STATUS_MAPPING)
    return interface in kinds and attribute == _VALUE and name[2] == 96 and name[3] in (5, 10)


def _read(buffer: Item, columns: _Columns, period_s: int, device: str) -> PushedProfile:
    entries = buffer.items("the buffer of a profile")
    n = len(entries)
    if n > ROWS_MAX:
        raise Malformed(buffer.at, f"holds {n} rows, at most {ROWS_MAX} are read")
    end_s, clock_status, doubts = (np.zeros(n, dtype=np.int64) for _ in range(3))
    status = np.zeros(n, dtype=np.uint64)
    register = np.zeros((len(Quantity), n), dtype=np.int64)
    has = np.zeros((len(Quantity), n), dtype=np.bool_)
    has[[quantity for _, quantity, *_ in columns.registers]] = True
    before: Sequence[Item] = ()
    for row, entry in enumerate(entries):
        values = entry.items("a row")
        if len(values) != columns.count:
            raise Malformed(entry.at, f"is a row of {len(values)} values, {columns.count} are captured")
        time = values[columns.clock]
        if time.value is not None:
            end_s[row], clock_status[row] = _seconds(time)
        elif row and period_s:
            end_s[row], clock_status[row] = end_s[row - 1] + period_s, clock_status[row - 1]
        else:
            raise Malformed(time.at, "leaves out the time, and there is nothing to count it from")
        if not 0 <= end_s[row] <= END_S_MAX:
            raise Malformed(entry.at, "is a row of a time that no meter has seen")
        if before:
            values = tuple(old if new.value is None else new for new, old in zip(values, before, strict=True))
        for at, quantity, sign, scaler in columns.registers:
            if values[at].value is None:
                has[quantity, row] = False
            else:
                register[quantity, row] += sign * _whole(values[at], scaler)
        bits = 0
        for at in columns.statuses:
            bits |= _bits(values[at])
        status[row] = bits
        doubts[row] = _doubt(int(clock_status[row]), bits)
        before = values
    has[:, doubts != 0] = False
    rows = ProfileRows(
        line=np.arange(1, n + 1, dtype=np.int64),
        meter=np.full(n, _serial(device), dtype=np.int64),
        end_s=end_s,
        length_s=np.full(n, period_s, dtype=np.int64),
        value=np.zeros_like(register),
        has_value=np.zeros_like(has),
        register=register,
        has_register=has,
        unit=np.full(n, Unit.WH, dtype=np.int64),
        ratio=np.ones(n, dtype=np.int64),
        tag=np.zeros(n, dtype="V16"),
    )
    return PushedProfile(device, period_s, rows, clock_status, status, doubts)


def _whole(item: Item, scaler: int) -> int:
    value = item.integer("a register")
    scaled: int = value * 10**scaler if scaler >= 0 else value // 10**-scaler
    if abs(scaled) >= _REGISTER_LIMIT:
        raise Malformed(item.at, f"is a register of {scaled} Wh, beyond any meter")
    return scaled


def _bits(item: Item) -> int:
    """Bits of a status, 64 of them; 0 where the row and those before it have none."""
    value = item.value
    if value is None:
        return 0
    if isinstance(value, bytes) and len(value) <= _STATUS_BYTES_MAX:
        return int.from_bytes(value, "big")
    return item.integer("a status") & 0xFFFF_FFFF_FFFF_FFFF


def _doubt(clock: int, bits: int) -> Doubt:
    doubt = Doubt(0)
    if clock != _OPEN:  # bit 2 (another clock base) and bit 7 (daylight saving) say nothing against a time
        doubt |= Doubt.CLOCK_DOUBTFUL if clock & 0x02 else 0
        doubt |= Doubt.CLOCK_STATUS_INVALID if clock & 0x08 else 0
        doubt |= Doubt.STATUS_UNKNOWN if clock & 0x70 else 0
    doubt |= Doubt.CRITICAL_ERROR if bits & 0x01 else 0
    doubt |= Doubt.CLOCK_INVALID if bits & 0x02 else 0
    doubt |= Doubt.DATA_NOT_VALID if bits & 0x04 else 0
    doubt |= Doubt.STATUS_UNKNOWN if bits & ~(_HARMLESS_STATUS | 0x07) else 0
    return doubt


def _seconds(item: Item) -> tuple[int, int]:
    """Seconds since the epoch of a COSEM date-time, and its clock status."""
    data = item.octets("a date-time", _DATE_TIME_BYTES)
    second, hundredths, status = data[7], data[8], data[11]
    deviation = int.from_bytes(data[9:11], "big", signed=True)
    if deviation == _NO_DEVIATION or abs(deviation) > _DEVIATION_MINUTES_MAX:
        raise Malformed(item.at, "is a time that does not say how far it is from UTC")
    if status != _OPEN and status & 0x01:
        raise Malformed(item.at, "is a time that is marked invalid by the meter's clock")
    try:
        if hundredths not in (*range(100), _OPEN):
            raise ValueError
        date, seconds = (int.from_bytes(data[:2], "big"), data[2], data[3]), 0 if second == _OPEN else second
        local = datetime(*date, data[5], data[6], seconds, tzinfo=UTC)
    except ValueError:
        raise Malformed(item.at, f"is no date and time: {data[:9].hex(' ')}") from None
    return int(local.timestamp()) + 60 * deviation, status  # deviation is from local time to UTC
