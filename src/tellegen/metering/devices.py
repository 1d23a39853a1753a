"""Meters and their keys: who sent a reading.

Each meter holds a key of its own, derived from the head-end's master key by HKDF-SHA256 over its
serial number. A reading carries HMAC-SHA256, cut to 16 bytes, over the canonical bytes of its other
columns followed by the interval number (int64, little-endian). The head-end holds the same keys, so
a tag tells it who spoke, but convinces nobody else: it is authentication, not a signature.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import TellegenError
from tellegen.records import Readings

TAG_BYTES = 16
MASTER_BYTES_MIN = 32


class MeteringError(TellegenError):
    """Meter data or keys are not what they must be."""


class MeterKeys:
    """Keys of the meters that a head-end knows, by serial number."""

    __slots__ = ("_by_serial",)

    def __init__(self, master: bytes, serials: Iterable[int]) -> None:
        if len(master) < MASTER_BYTES_MIN:
            raise MeteringError(f"a master key has at least {MASTER_BYTES_MIN} bytes, not {len(master)}")
        self._by_serial = {int(serial): _derive(master, int(serial)) for serial in serials}

    def get(self, serial: int) -> bytes | None:
        """Key of a meter; None where the head-end knows no such meter."""
        return self._by_serial.get(serial)


def _derive(master: bytes, serial: int) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"tellegen meter {serial}".encode()).derive(master)


def tagged(readings: Readings, interval: ArrayLike, keys: MeterKeys) -> Readings:
    """Readings with the tags that their meters would send.

    Parameters
    ----------
    readings : their own tags are not looked at.
    interval : int64, one number for all rows or one per row.

    Raises
    ------
    MeteringError : a meter has no key.

    >>> row = Readings(customer=[1], meter=[77], counter=[1], import_wh=[500], export_wh=[0],
    ...                reactive_varh=[10], voltage_mv=[230_000], tag=np.zeros(1, "V16"))
    >>> keys = MeterKeys(bytes(32), [77])
    >>> sent = tagged(row, 9, keys)
    >>> authenticate(sent, 9, keys).tolist(), authenticate(sent, 10, keys).tolist()
    ([True], [False])
    """
    tags = []
    for serial, message in zip(readings.meter.tolist(), _messages(readings, interval), strict=True):
        key = keys.get(serial)
        if key is None:
            raise MeteringError(f"meter {serial} has no key")
        tags.append(hmac.digest(key, message, "sha256")[:TAG_BYTES])
    return replace(readings, tag=np.frombuffer(b"".join(tags), dtype=f"V{TAG_BYTES}"))


def authenticate(readings: Readings, interval: ArrayLike, keys: MeterKeys) -> NDArray[np.bool_]:
    """Whether each row's tag is that of its meter for this interval; False for an unknown meter."""
    genuine = np.zeros(len(readings), dtype=np.bool_)
    tags = readings.tag.tobytes()
    for row, (serial, message) in enumerate(zip(readings.meter.tolist(), _messages(readings, interval), strict=True)):
        key = keys.get(serial)
        if key is not None:
            tag = hmac.digest(key, message, "sha256")[:TAG_BYTES]
            genuine[row] = hmac.compare_digest(tag, tags[row * TAG_BYTES : (row + 1) * TAG_BYTES])
    return genuine


def _messages(readings: Readings, interval: ArrayLike) -> list[bytes]:
    """What each tag covers: the row without the tag, then the interval."""
    rows = readings.rows()
    body_bytes = rows.dtype.itemsize - TAG_BYTES  # the tag is the last column
    message_bytes = body_bytes + 8
    message = np.empty((len(readings), message_bytes), dtype=np.uint8)
    message[:, :body_bytes] = rows.view(np.uint8).reshape(len(readings), rows.dtype.itemsize)[:, :body_bytes]
    number = np.broadcast_to(np.asarray(interval, dtype="<i8"), len(readings))
    message[:, body_bytes:] = np.ascontiguousarray(number).view(np.uint8).reshape(len(readings), 8)
    flat = message.tobytes()
    return [flat[at : at + message_bytes] for at in range(0, len(flat), message_bytes)]
