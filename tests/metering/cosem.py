"""Frames as a meter would send them, written from the encoding rules of A-XDR and the COSEM objects."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CLOCK, IMPORT, EXPORT = bytes((0, 0, 1, 0, 0, 255)), bytes((1, 0, 1, 8, 0, 255)), bytes((1, 0, 2, 8, 0, 255))
REACTIVE_IN, REACTIVE_OUT = bytes((1, 0, 3, 8, 0, 255)), bytes((1, 0, 4, 8, 0, 255))
PROFILE, DEVICE, SETUP = bytes((1, 0, 99, 1, 0, 255)), bytes((0, 0, 96, 1, 0, 255)), bytes((0, 0, 25, 9, 0, 255))


def length(n: int) -> bytes:
    if n < 0x80:
        return bytes((n,))
    size = (n.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + n.to_bytes(size, "big")


def octets(data: bytes) -> bytes:
    return b"\x09" + length(len(data)) + data


def array(items: Sequence[bytes]) -> bytes:
    return b"\x01" + length(len(items)) + b"".join(items)


def structure(*items: bytes) -> bytes:
    return b"\x02" + length(len(items)) + b"".join(items)


def u16(n: int) -> bytes:
    return b"\x12" + n.to_bytes(2, "big")


def u32(n: int) -> bytes:
    return b"\x06" + n.to_bytes(4, "big")


def i8(n: int) -> bytes:
    return b"\x0f" + n.to_bytes(1, "big", signed=True)


def enum(n: int) -> bytes:
    return b"\x16" + bytes((n,))


NULL = b"\x00"


def date_time(at: datetime, deviation: int = 0, status: int = 0) -> bytes:
    """An octet string; `at` is local, `deviation` the minutes from there to UTC."""
    clock = bytes((at.hour, at.minute, at.second, 255))
    return octets(struct.pack(">HBBB", at.year, at.month, at.day, 255) + clock + struct.pack(">hB", deviation, status))


def capture(interface: int, name: bytes, attribute: int) -> bytes:
    return structure(u16(interface), octets(name), i8(attribute), u16(0))


def notification(body: bytes, invoke_id: int = 5, time: bytes = b"\x00") -> bytes:
    return b"\x0f" + (0x40000000 | invoke_id).to_bytes(4, "big") + time + body


def wrapper(apdu: bytes) -> bytes:
    return struct.pack(">HHHH", 1, 1, 16, len(apdu)) + apdu


def push_body(
    rows: Sequence[bytes],
    registers: Sequence[bytes] = (IMPORT, EXPORT),
    scalers: dict[bytes, tuple[int, int]] | None = None,
    period_s: int = 900,
    device: bytes = b"ABC12345678",
    clock: bool = True,
) -> bytes:
    columns = ([capture(8, CLOCK, 2)] if clock else []) + [capture(3, name, 2) for name in registers]
    values = [
        (capture(1, DEVICE, 2), octets(device)),
        (capture(7, PROFILE, 3), array(columns)),
        (capture(7, PROFILE, 4), u32(period_s)),
        *((capture(3, name, 3), structure(i8(s), enum(u))) for name, (s, u) in (scalers or {}).items()),
        (capture(7, PROFILE, 2), array(rows)),
    ]
    return structure(array([name for name, _ in values]), *(value for _, value in values))


def ciphered(
    apdu: bytes, key: bytes, auth: bytes, title: bytes = b"ABC\x00\x00\x00\x00\x01", counter: int = 9
) -> bytes:
    """general-glo-ciphering, suite 0: AES-128-GCM over the APDU, associated data the control byte and key."""
    sealing = Cipher(algorithms.AES(key), modes.GCM(title + counter.to_bytes(4, "big"))).encryptor()
    sealing.authenticate_additional_data(b"\x30" + auth)
    text = sealing.update(apdu) + sealing.finalize()
    content = b"\x30" + counter.to_bytes(4, "big") + text + sealing.tag[:12]
    return b"\xdb" + length(len(title)) + title + length(len(content)) + content


MIDNIGHT = datetime(2026, 1, 15, 0, 0, tzinfo=UTC)
EPOCH_S = int(MIDNIGHT.timestamp())
