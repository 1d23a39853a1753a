"""Meter codes: who sent a reading, for which interval, unchanged."""

from dataclasses import fields, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from tellegen.metering import Code, DeviceCodes, MeteringError
from tellegen.records import KeyGenerations, Readings

MASTER = bytes(range(32))
METERS = range(500, 505)


def readings(n: int, counter: int = 1) -> Readings:
    k = np.arange(n)
    return Readings(
        customer=k,
        meter=k + 500,
        counter=k + counter,
        import_wh=k * 1000,
        export_wh=k * 10,
        reactive_varh=-k,
        voltage_mv=k + 230_000,
        tag=np.zeros(n, dtype="V16"),
    )


def rotation(meter: int, generation: int, from_counter: int) -> KeyGenerations:
    return KeyGenerations(
        meter=np.array([meter]), generation=np.array([generation]), from_counter=np.array([from_counter])
    )


@given(st.integers(0, 4), st.sampled_from(fields(Readings)[:-1]), st.integers(1, 1000), st.sampled_from(Code))
def test_no_column_of_a_reading_can_be_changed(row: int, column: object, change: int, code: Code) -> None:
    codes = DeviceCodes(MASTER, METERS, code=code)
    sent = codes.tag(readings(5), 77)
    values = getattr(sent, column.name).copy()  # type: ignore[attr-defined]
    values[row] += change
    changed = replace(sent, **{column.name: values})  # type: ignore[attr-defined]
    assert codes.check(changed, 77).tolist() == [k != row for k in range(5)]


@given(st.integers(0, 4), st.integers(0, 127), st.sampled_from(Code))
def test_every_bit_of_a_code_counts(row: int, bit: int, code: Code) -> None:
    codes = DeviceCodes(MASTER, METERS, code=code)
    sent = codes.tag(readings(5), 77)
    tags = np.frombuffer(sent.tag.tobytes(), dtype=np.uint8).copy()
    tags[16 * row + bit // 8] ^= 1 << bit % 8
    assert codes.check(replace(sent, tag=tags.view("V16")), 77).tolist() == [k != row for k in range(5)]


def test_the_default_code_is_hmac_sha256_under_a_key_by_hkdf() -> None:
    row = readings(1)
    key = HKDF(SHA256(), 32, salt=None, info=b"tellegen meter 500").derive(MASTER)
    outside = HMAC(key, SHA256())
    outside.update(row.rows().tobytes()[:-16] + (77).to_bytes(8, "little"))
    assert DeviceCodes(MASTER, METERS).tag(row, 77).tag.tobytes() == outside.finalize()[:16]


def test_the_other_code_has_the_shape_of_security_suite_0() -> None:
    """AES-128-GCM, 12 bytes; another implementation would verify it with these inputs."""
    row = readings(1)
    key = HKDF(SHA256(), 32, salt=None, info=b"tellegen meter 500").derive(MASTER)
    vector = b"TLG" + (500).to_bytes(5, "big") + (1).to_bytes(4, "big")
    covered = b"\x10" + key[16:] + row.rows().tobytes()[:-16] + (77).to_bytes(8, "little")
    code = DeviceCodes(MASTER, METERS, code=Code.GMAC).tag(row, 77).tag.tobytes()
    assert code == AESGCM(key[:16]).encrypt(vector, b"", covered)[:12] + bytes(4)


def test_a_reading_cannot_be_moved_to_another_interval() -> None:
    codes = DeviceCodes(MASTER, METERS)
    sent = codes.tag(readings(5), np.arange(5))
    assert codes.check(sent, np.arange(5)).all()
    assert not codes.check(sent, np.arange(5) + 1).any()


def test_each_meter_and_each_head_end_has_keys_of_its_own() -> None:
    codes = DeviceCodes(MASTER, METERS)
    sent = codes.tag(readings(2), 1)
    swapped = replace(sent, meter=sent.meter[::-1])
    assert not codes.check(swapped, 1).any()
    assert not DeviceCodes(bytes(32), METERS).check(sent, 1).any()


def test_a_meter_that_is_not_known_cannot_speak() -> None:
    with pytest.raises(MeteringError, match="meter 500 has no key"):
        DeviceCodes(MASTER).tag(readings(1), 1)
    sent = DeviceCodes(MASTER, METERS).tag(readings(5), np.arange(5))
    some = DeviceCodes(MASTER, [501, 503])
    assert some.check(sent, np.arange(5)).tolist() == [False, True, False, True, False]
    some.enrol([500])
    assert some.check(sent, np.arange(5)).tolist() == [True, True, False, True, False]


def test_a_counter_that_suite_0_has_no_room_for_is_one_bad_row() -> None:
    codes = DeviceCodes(MASTER, METERS, code=Code.GMAC)
    sent = codes.tag(readings(3), 1)
    far = replace(sent, counter=np.array([1, 2**32, 3]))
    assert codes.check(far, 1).tolist() == [True, False, True]
    with pytest.raises(MeteringError, match="no room"):
        codes.tag(far, 1)


def test_late_readings_stay_good_after_a_rotation() -> None:
    """A reading counts under the key generation that its counter falls in."""
    codes = DeviceCodes(MASTER, METERS)
    late, later = readings(2, counter=90), readings(2, counter=100)
    sent_late, under_old = codes.tag(late, 7), codes.tag(later, 8)
    codes.rotate(rotation(500, 1, 100))
    assert codes.check(sent_late, 7).all()
    assert codes.check(under_old, 8).tolist() == [False, True]
    assert codes.check(codes.tag(later, 8), 8).all()
    assert DeviceCodes(MASTER, METERS, rotation(500, 1, 100)).check(codes.tag(later, 8), 8).all()


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(MeteringError, match="at least 32 bytes"):
        DeviceCodes(b"short")


@pytest.mark.parametrize("code", Code)
def test_no_reading_is_no_trouble(code: Code) -> None:
    codes = DeviceCodes(MASTER, code=code)
    assert len(codes.tag(readings(0), 1)) == 0
    assert codes.check(readings(0), 1).shape == (0,)
