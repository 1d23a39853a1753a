"""DLMS/COSEM pushes: the load profile of a meter, decoded from the frames that it sends of its own accord.

A frame is a WRAPPER header (version, two ports, length) and an APDU: a data-notification, alone or inside a
general-glo-ciphering of security suite 0 (AES-128-GCM, authenticated and encrypted). The notification's body is a
structure whose first element is the push object list; that list names what the other elements are:

- attribute 2 of a profile generic object (class 7): the buffer, rows of captured values. Needed.
- its attribute 3: the capture objects, which name the columns. Needed.
- its attribute 4: the capture period in seconds; needed where a row leaves out its time.
- attribute 3 of registers (class 3): scaler and unit; a register without is in Wh or varh.
- attribute 2 of a data object (class 1) 0.0.42.0.0.255 or 0.0.96.1.x.255: the device's name, whose digits are its
  serial number.

In the buffer an absent value (null-data) repeats that of the row before, and an absent time is one period later.
Active registers 1.0.1.8.0.255 and 1.0.2.8.0.255 are import and export, reactive 1.0.3.8.0.255 less 1.0.4.8.0.255 the
net reactive withdrawal; other columns are passed over. Registers finer than a watt-hour are cut to whole ones, which
never adds up, because they are cumulative.

The library `dlms-cosem` (extra ``meters``) decodes. It was not written for hostile input: so lengths are walked
through before it sees them. Sources: IEC 62056-5-3, 62056-6-2 and 62056-4-7.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

import numpy as np

from tellegen.errors import InputError
from tellegen.metering.load_profile import ProfileRows, Quantity, Unit

WRAPPER = struct.Struct(">HHHH")
APDU_BYTES_MAX = 65_535
DEPTH_MAX = 8
ROWS_MAX = 10_000
COLUMNS_MAX = 64
_DATA_NOTIFICATION, _GENERAL_GLO_CIPHERING = 0x0F, 0xDB
_SUITE_0_BOTH = 0x30
"""Security control byte: suite 0, authenticated and encrypted, unicast key, not compressed."""
_TITLE_BYTES, _TAG_BYTES, _KEY_BYTES = 8, 12, 16
_DATE_TIME_BYTES = 12
_NO_DEVIATION = -0x8000
_PROFILE, _REGISTER, _DATA, _CLOCK = 7, 3, 1, 8
_BUFFER, _CAPTURE_OBJECTS, _CAPTURE_PERIOD, _VALUE, _SCALER_UNIT = 2, 3, 4, 2, 3
_UNIT_WH, _UNIT_VARH = 30, 32
_SCALER_MAX = 9
_REGISTER_LIMIT = 10**15
_REGISTERS = {
    bytes((1, 0, 1, 8, 0, 255)): (Quantity.WITHDRAWN, 1, _UNIT_WH),
    bytes((1, 0, 2, 8, 0, 255)): (Quantity.INJECTED, 1, _UNIT_WH),
    bytes((1, 0, 3, 8, 0, 255)): (Quantity.REACTIVE, 1, _UNIT_VARH),
    bytes((1, 0, 4, 8, 0, 255)): (Quantity.REACTIVE, -1, _UNIT_VARH),
}
_SIZES = {0: 0, 3: 1, 5: 4, 6: 4, 15: 1, 16: 2, 17: 1, 18: 2, 20: 8, 21: 8, 22: 1, 25: 12, 26: 5, 27: 4, 255: 0}
_ARRAY, _STRUCTURE = 1, 2
_OCTETS, _TEXT = 9, 10


@dataclass(frozen=True, slots=True)
class Keys:
    """Global unicast encryption key and authentication key of a meter, 16 bytes each."""

    encryption: bytes
    authentication: bytes

    def __post_init__(self) -> None:
        if len(self.encryption) != _KEY_BYTES or len(self.authentication) != _KEY_BYTES:
            raise InputError("DLMS keys", "a key", f"does not have the {_KEY_BYTES} bytes of security suite 0")

    def __repr__(self) -> str:
        return "Keys(...)"


@dataclass(frozen=True, slots=True, eq=False)
class Push:
    """One decoded frame.

    Attributes
    ----------
    invoke_id : number by which the meter calls this push.
    system_title : of who enciphered it, 8 bytes; empty where it came in the clear.
    counter : invocation counter of the ciphering, which must rise from push to push; -1 in the clear.
    device : the meter's name; empty where the push does not say.
    period_s : capture period; 0 where the push does not say.
    rows : registers at the end of each capture period.
    """

    invoke_id: int
    system_title: bytes
    counter: int
    device: str
    period_s: int
    rows: ProfileRows

    @property
    def authenticated(self) -> bool:
        """Whether the frame's code was checked under the meter's keys."""
        return self.counter >= 0


def decode(content: bytes, keys: Keys | None = None, source: object = "DLMS") -> list[Push]:
    """Decode frames as they follow each other on a connection.

    Parameters
    ----------
    content : whole frames, one after another.
    keys : needed for ciphered frames. With them, a frame in the clear is refused.
    source : what the frames are called in an error.

    Raises
    ------
    InputError : the first frame that cannot be decoded, by its offset.
    """
    pushes: list[Push] = []
    at = 0
    while at < len(content):
        place = f"byte {at}"
        if len(content) - at < WRAPPER.size:
            raise InputError(
                source, place, f"begins a WRAPPER header of which {len(content) - at} of 8 bytes are there"
            )
        version, _, _, length = WRAPPER.unpack_from(content, at)
        if version != 1:
            raise InputError(source, place, f"has WRAPPER version {version}, 1 is read; HDLC is not")
        at += WRAPPER.size
        if length > len(content) - at:
            raise InputError(source, place, f"announces {length} bytes, {len(content) - at} follow")
        pushes.append(decode_apdu(content[at : at + length], keys, f"{source}: {place}"))
        at += length
    if not pushes:
        raise InputError(source, "the input", "holds no frame")
    return pushes


def decode_apdu(apdu: bytes, keys: Keys | None = None, source: object = "DLMS") -> Push:
    """Decode one APDU: a data-notification, or one that is ciphered.

    Raises
    ------
    InputError : the APDU, or what in it, cannot be decoded.
    """
    if len(apdu) > APDU_BYTES_MAX:
        raise InputError(source, "the APDU", f"has {len(apdu)} bytes, at most {APDU_BYTES_MAX} are read")
    title, counter = b"", -1
    if apdu[:1] == bytes((_GENERAL_GLO_CIPHERING,)):
        if keys is None:
            raise InputError(source, "the APDU", "is ciphered; give the meter's keys")
        apdu, title, counter = _deciphered(apdu, keys, source)
    elif keys is not None:
        raise InputError(
            source, "the APDU", "came in the clear, though there are keys; a meter that has keys uses them"
        )
    if apdu[:1] != bytes((_DATA_NOTIFICATION,)):
        tag = f"has tag {apdu[0]}" if apdu else "is empty"
        raise InputError(source, "the APDU", f"{tag}; data-notification (15) and general-glo-ciphering (219) are read")
    return _notification(apdu, title, counter, source)


@contextlib.contextmanager
def _refusing(source: object, place: str) -> Iterator[None]:
    """The library lets whatever went wrong through; to a caller it is one thing: the input cannot be decoded."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError) as error:
        raise InputError(source, place, f"cannot be decoded: {type(error).__name__} {error}".rstrip()) from None


def _library() -> Any:
    try:
        import dlms_cosem.dlms_data
        import dlms_cosem.exceptions
        import dlms_cosem.protocol.xdlms
        import dlms_cosem.time
    except ImportError:
        raise InputError("DLMS", "package dlms-cosem", "is needed: pip install 'tellegen[meters]'") from None
    return dlms_cosem


def _deciphered(apdu: bytes, keys: Keys, source: object) -> tuple[bytes, bytes, int]:
    """Plain APDU, system title, invocation counter."""
    library = _library()
    place = "general-glo-ciphering"
    at, length = _length(apdu, 1, source)
    title_end = at + length
    content, ciphered = _length(apdu, title_end, source) if length == _TITLE_BYTES else (0, 0)
    if length != _TITLE_BYTES or content + ciphered != len(apdu) or ciphered < 5 + _TAG_BYTES:
        raise InputError(source, place, "has no system title of 8 bytes, or another length than it announces")
    if apdu[content] != _SUITE_0_BOTH:
        raise InputError(source, place, f"has security control {apdu[content]:#04x}; 0x30 is read (suite 0, both)")
    with _refusing(source, place):
        sealed = library.protocol.xdlms.GeneralGlobalCipher.from_bytes(apdu)
        try:
            plain = sealed.to_plain_apdu(keys.encryption, keys.authentication)
        except library.exceptions.DecryptionError:
            raise InputError(
                source, place, "does not pass under these keys: another meter's, or changed on its way"
            ) from None
    return plain, apdu[at:title_end], int(sealed.invocation_counter)


def _length(data: bytes, at: int, source: object) -> tuple[int, int]:
    """Where the content of a length-prefixed field begins, and its length."""
    if at >= len(data):
        raise InputError(source, f"byte {at} of the APDU", "should hold a length, the APDU ends before")
    first = data[at]
    if first < 0x80:
        return at + 1, first
    count = first & 0x7F
    if not 1 <= count <= 4 or at + 1 + count > len(data):
        raise InputError(source, f"byte {at} of the APDU", f"announces a length of {count} bytes; 1 to 4 are read")
    return at + 1 + count, int.from_bytes(data[at + 1 : at + 1 + count], "big")


def _walk(data: bytes, at: int, depth: int, source: object) -> int:
    """End of the value that begins at `at`; refuses what the library would loop or allocate on."""
    if at >= len(data):
        raise InputError(source, f"byte {at} of the APDU", "should hold a value, the APDU ends before")
    tag = data[at]
    if tag in (_ARRAY, _STRUCTURE):
        inside, count = _length(data, at + 1, source)
        if count > len(data) - inside or depth == DEPTH_MAX:
            raise InputError(source, f"byte {at} of the APDU", f"holds {count} values, more or deeper than can follow")
        for _ in range(count):
            inside = _walk(data, inside, depth + 1, source)
        return inside
    if tag in (_OCTETS, _TEXT):
        inside, size = _length(data, at + 1, source)
    elif tag in _SIZES:
        inside, size = at + 1, _SIZES[tag]
    else:
        raise InputError(source, f"byte {at} of the APDU", f"has data type {tag}, which no load profile is made of")
    if size > len(data) - inside:
        raise InputError(source, f"byte {at} of the APDU", f"announces {size} bytes, {len(data) - inside} follow")
    return inside + size


def _notification(apdu: bytes, title: bytes, counter: int, source: object) -> Push:
    library = _library()
    body = 6 + (_DATE_TIME_BYTES if apdu[5:6] == bytes((_DATE_TIME_BYTES,)) else 0)
    if len(apdu) < body or apdu[5] not in (0, _DATE_TIME_BYTES):
        raise InputError(source, "data-notification", "is cut short, or its time has neither 0 nor 12 bytes")
    if _walk(apdu, body, 0, source) != len(apdu):
        raise InputError(source, "data-notification", "goes on after its body")
    with _refusing(source, "data-notification"):
        # the time of sending is not needed, and the library reads none that leaves anything open
        notification = library.protocol.xdlms.DataNotification.from_bytes(apdu[:5] + b"\x00" + apdu[body:])
        values = library.dlms_data.DlmsDataParser().parse(notification.body)[0].to_python()
        pushed = _by_object(values)
        return _push(notification.long_invoke_id_and_priority.long_invoke_id, title, counter, pushed, source)


def _by_object(values: Any) -> dict[tuple[int, bytes, int], Any]:
    """Pushed values by class, logical name and attribute, as the push object list calls them."""
    if not isinstance(values, list) or len(values) < 2 or not isinstance(values[0], list):
        raise ValueError("the body is no structure that begins with its push object list")
    names = [(int(entry[0]), bytes(entry[1]), int(entry[2])) for entry in values[0]]
    if len(names) == len(values) and names[0][2] == _BUFFER and names[0][0] not in (_PROFILE, _REGISTER, _DATA):
        names = names[1:]  # the list may name itself, attribute 2 of the push setup
    if len(names) != len(values) - 1 or len(set(names)) != len(names):
        raise ValueError(f"the push object list names {len(names)} values once each, {len(values) - 1} follow")
    return dict(zip(names, values[1:], strict=True))


def _push(
    invoke_id: int, title: bytes, counter: int, pushed: dict[tuple[int, bytes, int], Any], source: object
) -> Push:
    profiles = {name for interface, name, attribute in pushed if (interface, attribute) == (_PROFILE, _BUFFER)}
    if len(profiles) != 1:
        raise ValueError(f"{len(profiles)} load profiles in one push, one is read")
    profile = profiles.pop()
    if (_PROFILE, profile, _CAPTURE_OBJECTS) not in pushed:
        raise ValueError("the push does not say what its profile captures (attribute 3)")
    columns = [(int(entry[0]), bytes(entry[1]), int(entry[2])) for entry in pushed[_PROFILE, profile, _CAPTURE_OBJECTS]]
    period_s = int(pushed.get((_PROFILE, profile, _CAPTURE_PERIOD), 0))
    scales = {
        name: (int(value[0]), int(value[1]))
        for (interface, name, attribute), value in pushed.items()
        if (interface, attribute) == (_REGISTER, _SCALER_UNIT)
    }
    device = next(
        (_text(value) for (kind, name, _), value in pushed.items() if kind == _DATA and _names_device(name)), ""
    )
    rows = _buffer(pushed[_PROFILE, profile, _BUFFER], columns, period_s, scales, _serial(device), source)
    return Push(invoke_id, title, counter, device, period_s, rows)


def _names_device(name: bytes) -> bool:
    return name == bytes((0, 0, 42, 0, 0, 255)) or (name[:4] == bytes((0, 0, 96, 1)) and name[5] == 255)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else bytes(value).decode("ascii")
    if len(text) > 64 or not text.isprintable():
        raise ValueError("the device's name is not at most 64 printable characters")
    return text


def _serial(device: str) -> int:
    digits = "".join(character for character in device if character in "0123456789")
    return int(digits[-18:] or "0")


def _buffer(
    entries: Sequence[Any],
    columns: list[tuple[int, bytes, int]],
    period_s: int,
    scales: dict[bytes, tuple[int, int]],
    meter: int,
    source: object,
) -> ProfileRows:
    if len(entries) > ROWS_MAX or not 1 <= len(columns) <= COLUMNS_MAX:
        raise ValueError(f"{len(entries)} rows of {len(columns)} columns; {ROWS_MAX} of 1 to {COLUMNS_MAX} are read")
    clocks = [at for at, (interface, _, attribute) in enumerate(columns) if (interface, attribute) == (_CLOCK, _VALUE)]
    read = [
        (at, *_REGISTERS[name], *scales.get(name, (0, _REGISTERS[name][2])))
        for at, (interface, name, attribute) in enumerate(columns)
        if interface in (_REGISTER, 4) and attribute == _VALUE and name in _REGISTERS
    ]
    if len(clocks) != 1 or not read:
        raise ValueError("the profile captures no clock, or no energy register")
    for _, _, _, expected, scaler, unit in read:
        if unit != expected or abs(scaler) > _SCALER_MAX:
            raise ValueError(f"a register has scaler {scaler} and unit {unit}; Wh (30) and varh (32) are read")
    n = len(entries)
    end_s = np.zeros(n, dtype=np.int64)
    register = np.zeros((len(Quantity), n), dtype=np.int64)
    has = np.zeros((len(Quantity), n), dtype=np.bool_)
    has[[quantity for _, quantity, *_ in read]] = True
    before: list[Any] = [None] * len(columns)
    for row, entry in enumerate(entries):
        if len(entry) != len(columns):
            raise ValueError(f"row {row + 1} has {len(entry)} values, {len(columns)} are captured")
        filled = [new if new is not None else old for new, old in zip(entry, before, strict=True)]
        if entry[clocks[0]] is not None:
            end_s[row] = _seconds(entry[clocks[0]])
        elif row and period_s > 0:
            end_s[row] = end_s[row - 1] + period_s
        else:
            raise ValueError(f"row {row + 1} has no time, and nothing to count it from")
        for at, quantity, sign, _, scaler, _ in read:
            if filled[at] is None:
                has[quantity, row] = False
            else:
                register[quantity, row] += sign * _whole(filled[at], scaler)
        before = filled
    nothing = np.zeros(n, dtype=np.int64)
    return ProfileRows(
        line=np.arange(1, n + 1, dtype=np.int64),
        meter=np.full(n, meter, dtype=np.int64),
        end_s=end_s,
        length_s=np.full(n, period_s, dtype=np.int64),
        value=np.zeros_like(register),
        has_value=np.zeros_like(has),
        register=register,
        has_register=has,
        unit=np.full(n, Unit.WH, dtype=np.int64),
        ratio=nothing + 1,
        tag=np.zeros(n, dtype="V16"),
    )


def _whole(value: Any, scaler: int) -> int:
    if type(value) is not int:
        raise ValueError(f"a register holds {type(value).__name__}, not a number")
    scaled: int = value * 10**scaler if scaler >= 0 else value // 10**-scaler
    if abs(scaled) >= _REGISTER_LIMIT:
        raise ValueError(f"a register holds {scaled} Wh, beyond any meter")
    return scaled


def _seconds(octets: Any) -> int:
    """Seconds since the epoch of a COSEM date-time."""
    # a concise date-time (type 25) comes decoded, without the deviation that says what it means
    data = bytes(octets) if isinstance(octets, bytes | bytearray) else b""
    if len(data) != _DATE_TIME_BYTES:
        raise ValueError("a time is not a date-time of 12 octets")
    local, status = _library().time.datetime_from_bytes(data)
    deviation = int.from_bytes(data[9:11], "big", signed=True)
    if deviation == _NO_DEVIATION or abs(deviation) > 840:
        raise ValueError("a time does not say how far it is from UTC")
    if status is not None and status.invalid:
        raise ValueError("a time is marked invalid by the meter's clock")
    # deviation is from local time to UTC; the library leaves the zone out where it is 0
    return int((local.replace(tzinfo=UTC) + timedelta(minutes=deviation)).timestamp())
