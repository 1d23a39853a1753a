"""Meter keys: who sent a reading, for which interval, unchanged."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.metering import MeteringError, MeterKeys, authenticate, tagged
from tellegen.records import Readings

MASTER = bytes(range(32))


def readings(n: int) -> Readings:
    k = np.arange(n)
    return Readings(
        customer=k,
        meter=k + 500,
        counter=k + 1,
        import_wh=k * 1000,
        export_wh=k * 10,
        reactive_varh=-k,
        voltage_mv=k + 230_000,
        tag=np.zeros(n, dtype="V16"),
    )


@given(st.integers(0, 4), st.sampled_from(fields(Readings)[:-1]), st.integers(1, 1000))
def test_no_column_of_a_reading_can_be_changed(row: int, column: object, change: int) -> None:
    keys = MeterKeys(MASTER, range(500, 505))
    sent = tagged(readings(5), 77, keys)
    values = getattr(sent, column.name).copy()  # type: ignore[attr-defined]
    values[row] += change
    changed = replace(sent, **{column.name: values})  # type: ignore[attr-defined]
    assert authenticate(changed, 77, keys).tolist() == [k != row for k in range(5)]


def test_a_reading_cannot_be_moved_to_another_interval() -> None:
    keys = MeterKeys(MASTER, range(500, 505))
    sent = tagged(readings(5), np.arange(5), keys)
    assert authenticate(sent, np.arange(5), keys).all()
    assert not authenticate(sent, np.arange(5) + 1, keys).any()


def test_each_meter_has_a_key_of_its_own() -> None:
    keys = MeterKeys(MASTER, [500, 501])
    assert keys.get(500) != keys.get(501)
    assert MeterKeys(bytes(32), [500]).get(500) != keys.get(500)
    assert not authenticate(tagged(readings(2), 1, keys), 1, MeterKeys(MASTER, [501])).tolist()[0]


def test_a_meter_without_a_key_cannot_speak() -> None:
    with pytest.raises(MeteringError, match="meter 500 has no key"):
        tagged(readings(1), 1, MeterKeys(MASTER, []))
    assert not authenticate(readings(1), 1, MeterKeys(MASTER, [])).any()


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(MeteringError, match="at least 32 bytes"):
        MeterKeys(b"short", [])


def test_no_reading_is_no_trouble() -> None:
    keys = MeterKeys(MASTER, [])
    assert len(tagged(readings(0), 1, keys)) == 0
    assert authenticate(readings(0), 1, keys).shape == (0,)
