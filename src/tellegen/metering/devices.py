"""Meters and their keys: who sent a reading.

Each meter shares a key with the head-end, derived from the head-end's master key by HKDF-SHA256 (RFC 5869) over its
serial number and the generation of the key: the master, extracted with the generation as salt, gives the key of that
generation, and this, expanded with the serial number, the meter's. Whoever checks codes needs the keys of the
generations in use and no master: what is taken from there opens no later generation. A reading carries a code of 16
bytes over the canonical bytes of its other columns and the interval number (int64, little-endian). It tells the head-
end who spoke, and convinces nobody else, because the head-end holds the same key: authentication, not a signature.
What a third party may believe is the meter's signed day (`metering.daily`).

Two codes, either for all meters of a head-end:

========  ===========================================================================================================
``HMAC``  HMAC-SHA256, cut to 16 bytes. The default, because it has no nonce: a meter whose counter falls back after a
          fault gives nothing away
``GMAC``  as DLMS/COSEM security suite 0 codes a message that is authenticated and not encrypted: AES-128-GCM over
          nothing, IV = system title (8 bytes) and counter (4), associated data = security control byte, authentication
          key, message; 12 bytes, then zeros. Two different readings under one counter give its key away
========  ===========================================================================================================
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import TellegenError
from tellegen.records import KeyGenerations, Readings
from tellegen.registry import NumberIndex, RegistryError, Versions
from tellegen.registry.meter_keys import generation_key, meter_key
from tellegen.units import IntArray

TAG_BYTES = 16
KEY_BYTES = 32
GMAC_BYTES = 12
GMAC_COUNTER_LIMIT = 1 << 32
GMAC_SERIAL_LIMIT = 1 << 40
_AUTHENTICATED_ONLY = b"\x10"  # security control byte: suite 0, authentication without encryption
_SYSTEM_TITLE = b"TLG"
_COVERED_COLUMNS = [name for name in Readings.row_dtype().names or () if name != "tag"]
_COVERED = np.dtype([*((name, Readings.row_dtype()[name]) for name in _COVERED_COLUMNS), ("interval", "<i8")])


class MeteringError(TellegenError):
    """Meter data or keys are not what they must be."""


class Code(Enum):
    """How meters code their readings."""

    HMAC = "hmac"
    GMAC = "gmac"


class DeviceCodes:
    """Codes of the meters that a head-end knows, and their keys.

    A key is derived when it is first used and kept: 32 bytes a meter.

    Parameters
    ----------
    master : the head-end's secret, 32 bytes or more; or whoever knows the key of a generation (`generation_key`), None
        where there is none: then no code of it is good.
    meters : serial numbers of the meters known from the start; `enrol` adds more.
    generations : keys rotated so far (`Directory.key_generations`); `rotate` adds more.
    code : how all of them code.

    Raises
    ------
    MeteringError : the master key is too short.

    >>> row = Readings(customer=[1], meter=[77], counter=[1], import_wh=[500], export_wh=[0],
    ...                reactive_varh=[10], voltage_mv=[230_000], tag=np.zeros(1, "V16"))
    >>> codes = DeviceCodes(bytes(32), [77])
    >>> sent = codes.tag(row, 9)
    >>> codes.check(sent, 9).tolist(), codes.check(sent, 10).tolist()
    ([True], [False])
    """

    def __init__(
        self,
        master: bytes | Callable[[int], bytes | None],
        meters: ArrayLike = (),
        generations: KeyGenerations | None = None,
        code: Code = Code.HMAC,
    ) -> None:
        if isinstance(master, bytes):
            try:
                generation_key(master, 0)
            except RegistryError as error:
                raise MeteringError(str(error)) from None
            self._of_generation: Callable[[int], bytes | None] = partial(generation_key, master)
        else:
            self._of_generation = master
        # HKDF-Extract once a generation; what a meter costs is the one HMAC of HKDF-Expand
        self._secrets: dict[int, bytes] = {}
        self._code = code
        self._index = NumberIndex(meters)
        self._keys = _KeyTable()
        self._rotated_keys = _KeyTable()
        self._generations = Versions(KeyGenerations, "meter", "from_counter")
        if generations is not None:
            self.rotate(generations)

    def enrol(self, meters: ArrayLike) -> None:
        """Know more meters, by serial number."""
        self._index.add(meters)

    def rotate(self, generations: KeyGenerations) -> None:
        """From their counters on, meters code under keys of another generation."""
        self._generations.append(generations.rows(), 0)

    def check(self, readings: Readings, interval: ArrayLike) -> NDArray[np.bool_]:
        """Whether each row's code is that of its meter for this interval; False for an unknown meter.

        Codes are compared as whole arrays, so that the time taken tells nothing of where one differs.

        Parameters
        ----------
        interval : one number for all rows or one per row.
        """
        known, expected = self._expected(readings, interval)
        sent = np.ascontiguousarray(readings.tag).view(np.uint64).reshape(-1, 2)
        difference = (expected.view(np.uint64) ^ sent[known]).reshape(-1, 2)
        genuine = np.zeros(len(readings), dtype=np.bool_)
        genuine[known] = (difference[:, 0] | difference[:, 1]) == 0
        return genuine

    def tag(self, readings: Readings, interval: ArrayLike) -> Readings:
        """Readings with the codes that their meters would send; their own are not looked at.

        Raises
        ------
        MeteringError : a meter is unknown.
        """
        known, expected = self._expected(readings, interval)
        if not known.all():
            bad = readings.take(~known)
            raise MeteringError(
                f"meter {bad.meter[0]} has no key, or {self._code.value} no room for its serial or its counter "
                f"{bad.counter[0]}"
            )
        return replace(readings, tag=np.ascontiguousarray(expected).view(f"V{TAG_BYTES}").reshape(len(readings)))

    def _expected(self, readings: Readings, interval: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Rows that can have a code, and the codes that these should carry, uint8[known, 16]."""
        place = self._index.places(readings.meter)
        known = place >= 0
        if self._code is Code.GMAC:
            known &= (readings.counter >= 0) & (readings.counter < GMAC_COUNTER_LIMIT)
            known &= (readings.meter >= 0) & (readings.meter < GMAC_SERIAL_LIMIT)
        if not known.all():
            readings, place = readings.take(known), place[known]
            number = np.asarray(interval, dtype=np.int64)
            interval = number[known] if number.ndim else number
        keys = self._keys_of(readings.meter, place, readings.counter)
        messages = _messages(readings, interval)
        codes = _hmac_codes(keys, messages) if self._code is Code.HMAC else _gmac_codes(keys, messages, readings)
        return known, np.frombuffer(codes, dtype=np.uint8).reshape(-1, TAG_BYTES)

    def _keys_of(self, meter: IntArray, place: IntArray, counter: IntArray) -> list[bytes]:
        self._keys.fill(place, meter, np.zeros(place.size, dtype=np.int64), self._derive)
        keys = self._keys.get(place)
        if not len(self._generations):
            return keys
        row = self._generations.standing(meter, counter)
        rotated = np.flatnonzero(row >= 0)
        if rotated.size:
            generation = self._generations.rows["generation"][row[rotated]]
            self._rotated_keys.fill(row[rotated], meter[rotated], generation, self._derive)
            for at, key in zip(rotated.tolist(), self._rotated_keys.get(row[rotated]), strict=True):
                keys[at] = key
        return keys

    def _derive(self, meter: int, generation: int) -> bytes:
        if generation not in self._secrets:
            secret = self._of_generation(generation)
            # a key that nobody has, drawn for this process: no code is good under it, and none is made twice
            self._secrets[generation] = os.urandom(KEY_BYTES) if secret is None else secret
        return meter_key(self._secrets[generation], meter, generation)


class _KeyTable:
    """Keys by place, 32 bytes each."""

    __slots__ = ("_keys", "_made")

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype=f"V{KEY_BYTES}")
        self._made = np.empty(0, dtype=np.bool_)

    def fill(
        self, places: IntArray, meters: IntArray, generations: IntArray, derive: Callable[[int, int], bytes]
    ) -> None:
        """Make the keys that are not there yet."""
        size = int(places.max(initial=-1)) + 1
        if size > self._made.size:
            more = max(size, 2 * self._made.size) - self._made.size
            self._keys = np.concatenate([self._keys, np.zeros(more, dtype=self._keys.dtype)])
            self._made = np.concatenate([self._made, np.zeros(more, dtype=np.bool_)])
        missing = np.flatnonzero(~self._made[places])
        if missing.size:
            of_whom = zip(meters[missing].tolist(), generations[missing].tolist(), strict=True)
            made = b"".join([derive(meter, generation) for meter, generation in of_whom])
            self._keys[places[missing]] = np.frombuffer(made, dtype=self._keys.dtype)
            self._made[places[missing]] = True

    def get(self, places: IntArray) -> list[bytes]:
        """Keys of places that have been filled."""
        keys: list[bytes] = self._keys[places].tolist()
        return keys


def _hmac_codes(keys: list[bytes], messages: list[bytes]) -> bytes:
    digest = hmac.digest
    whole = b"".join([digest(key, message, "sha256") for key, message in zip(keys, messages, strict=True)])
    return np.frombuffer(whole, dtype=np.uint8).reshape(-1, KEY_BYTES)[:, :TAG_BYTES].tobytes()


def _gmac_codes(keys: list[bytes], messages: list[bytes], readings: Readings) -> bytes:
    rows = zip(keys, messages, readings.meter.tolist(), readings.counter.tolist(), strict=True)
    padding = bytes(TAG_BYTES - GMAC_BYTES)
    return b"".join(
        AESGCM(key[:16]).encrypt(
            _SYSTEM_TITLE + meter.to_bytes(5, "big") + counter.to_bytes(4, "big"),
            b"",
            _AUTHENTICATED_ONLY + key[16:] + message,
        )[:GMAC_BYTES]
        + padding
        for key, message, meter, counter in rows
    )


def _messages(readings: Readings, interval: ArrayLike) -> list[bytes]:
    """What each code covers: the row without the code, then the interval."""
    covered = np.empty(len(readings), dtype=_COVERED)
    for name in _COVERED_COLUMNS:
        covered[name] = getattr(readings, name)
    covered["interval"] = interval
    messages: list[bytes] = covered.view(f"V{_COVERED.itemsize}").tolist()
    return messages
