"""What a DLMS meter pushes: decoded by the standard's rules, and nothing else passes."""

import contextlib
import importlib.util
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError

pytest.importorskip("dlms_cosem", reason="dlms-cosem is not installed (extra `meters`)")

from tellegen.metering import profile_of
from tellegen.metering.dlms import Keys, decode, decode_apdu

_spec = importlib.util.spec_from_file_location("cosem", Path(__file__).with_name("cosem.py"))
cosem = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cosem)

KEY, AUTH = bytes(range(16)), bytes(range(0xD0, 0xE0))
KEYS = Keys(KEY, AUTH)


def quarter_hours(*imports: int, exports: int = 0) -> list[bytes]:
    return [
        cosem.structure(
            cosem.date_time(cosem.MIDNIGHT + timedelta(minutes=15 * k)), cosem.u32(wh), cosem.u32(exports + k)
        )
        for k, wh in enumerate(imports)
    ]


def test_a_golden_frame_byte_by_byte() -> None:
    """Two quarter hours of one register, written out from the encoding rules of the standard."""
    frame = bytes.fromhex(
        "0001 0001 0010 008a"  # WRAPPER: version 1, ports 1 and 16, 138 bytes
        "0f 40000007 00"  # data-notification, confirmed, invoke id 7, no time
        "02 04"  # structure of four
        "01 03"  # push object list: capture objects, period, buffer
        "02 04 12 0007 09 06 0100630100ff 0f 03 12 0000"
        "02 04 12 0007 09 06 0100630100ff 0f 04 12 0000"
        "02 04 12 0007 09 06 0100630100ff 0f 02 12 0000"
        "01 02"  # capture objects: clock, active import
        "02 04 12 0008 09 06 0000010000ff 0f 02 12 0000"
        "02 04 12 0003 09 06 0100010800ff 0f 02 12 0000"
        "06 00000384"  # 900 s
        "01 02"  # two rows
        "02 02 09 0c 07ea 01 0f ff 01 00 00 ff ffc4 00 06 000003e8"  # 01:00 at UTC+1: midnight; 1000 Wh
        "02 02 00 06 00000401"  # a quarter of an hour later; 1025 Wh
    )
    (push,) = decode(frame)
    assert (push.invoke_id, push.period_s, push.authenticated) == (7, 900, False)
    assert push.rows.end_s.tolist() == [cosem.EPOCH_S, cosem.EPOCH_S + 900]
    assert push.rows.register[0].tolist() == [1000, 1025]
    assert not push.rows.has_register[1:].any()


def test_a_push_becomes_a_load_profile() -> None:
    body = cosem.push_body(quarter_hours(1000, 1010, 1030, exports=7))
    (push,) = decode(cosem.wrapper(cosem.notification(body)))
    assert push.device == "ABC12345678"
    profile, _ = profile_of(push.rows)
    assert (profile.meter.tolist(), profile.interval_s) == ([12345678], 900)
    assert profile.channels[0].value.tolist() == [[10, 20]]
    assert profile.channels[1].value.tolist() == [[1, 1]]
    assert not profile.channels[2].present.any()


def test_a_ciphered_push_needs_its_keys_and_passes_under_no_others() -> None:
    frame = cosem.wrapper(cosem.ciphered(cosem.notification(cosem.push_body(quarter_hours(5, 6))), KEY, AUTH))
    (push,) = decode(frame, KEYS)
    assert push.authenticated
    assert (push.counter, push.system_title) == (9, b"ABC\x00\x00\x00\x00\x01")
    with pytest.raises(InputError, match="give the meter's keys"):
        decode(frame)
    for wrong in (Keys(AUTH, AUTH), Keys(KEY, KEY)):
        with pytest.raises(InputError, match="another meter's, or changed"):
            decode(frame, wrong)
    with pytest.raises(InputError, match="in the clear"):
        decode(cosem.wrapper(cosem.notification(cosem.push_body(quarter_hours(5, 6)))), KEYS)
    assert "d0d1" not in repr(KEYS)


@given(st.data())
@settings(deadline=None)
def test_no_byte_of_a_ciphered_push_can_be_changed(data: st.DataObject) -> None:
    apdu = bytearray(cosem.ciphered(cosem.notification(cosem.push_body(quarter_hours(5, 6))), KEY, AUTH))
    at = data.draw(st.integers(0, len(apdu) - 1))
    apdu[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InputError):
        decode_apdu(bytes(apdu), KEYS)


def test_scalers_units_and_both_directions_of_reactive_energy() -> None:
    """Registers in tenths of a watt-hour are cut to whole ones; net reactive is what was drawn less what was given."""
    registers = (cosem.IMPORT, cosem.REACTIVE_IN, cosem.REACTIVE_OUT)
    rows = [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(12_349), cosem.u32(3), cosem.u32(5))]
    scalers = {cosem.IMPORT: (-1, 30), cosem.REACTIVE_IN: (3, 32), cosem.REACTIVE_OUT: (3, 32)}
    (push,) = decode(cosem.wrapper(cosem.notification(cosem.push_body(rows, registers, scalers))))
    assert push.rows.register[:, 0].tolist() == [1234, 0, -2000]
    with pytest.raises(InputError, match="unit 27"):
        decode(cosem.wrapper(cosem.notification(cosem.push_body(rows, registers, {cosem.IMPORT: (0, 27)}))))


def test_absent_values_repeat_the_row_before() -> None:
    first = cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(100), cosem.NULL)
    rest = [
        cosem.structure(cosem.NULL, cosem.NULL, cosem.u32(4)),
        cosem.structure(cosem.NULL, cosem.u32(103), cosem.NULL),
    ]
    (push,) = decode(cosem.wrapper(cosem.notification(cosem.push_body([first, *rest]))))
    assert push.rows.register[:2].tolist() == [[100, 100, 103], [0, 4, 4]]
    assert push.rows.has_register[1].tolist() == [False, True, True]
    assert np.diff(push.rows.end_s).tolist() == [900, 900]


def test_a_time_without_its_zone_or_marked_invalid_is_refused() -> None:
    for deviation, status, said in ((-0x8000, 0, "how far it is from UTC"), (0, 1, "marked invalid")):
        row = cosem.structure(cosem.date_time(cosem.MIDNIGHT, deviation, status), cosem.u32(1), cosem.u32(1))
        with pytest.raises(InputError, match=said):
            decode(cosem.wrapper(cosem.notification(cosem.push_body([row]))))


def test_frames_follow_each_other_on_a_connection() -> None:
    frame = cosem.wrapper(cosem.notification(cosem.push_body(quarter_hours(5, 6))))
    assert len(decode(frame * 3)) == 3
    for cut, said in ((3, "of 8 bytes"), (50, "follow")):
        with pytest.raises(InputError, match=f"byte {len(frame)} .*{said}"):
            decode(frame + frame[:cut])


def test_lengths_that_lie_cost_nothing() -> None:
    """An array of four thousand million values in a frame of twenty bytes is refused before anything is made."""
    began = time.process_time()
    for bomb in (b"\x01\x84\xff\xff\xff\xff", b"\x09\x84\xff\xff\xff\xff", b"\x01\x01" * 3000, b"\x13\x01\x01"):
        with pytest.raises(InputError, match="of the APDU"):
            decode(cosem.wrapper(cosem.notification(bomb)))
    assert time.process_time() - began < 1


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_noise_is_refused_in_one_way(noise: bytes) -> None:
    for content in (noise, cosem.wrapper(noise), cosem.wrapper(b"\x0f\x40\x00\x00\x01\x00" + noise)):
        with pytest.raises(InputError) as refused:
            decode(content)
        assert "\n" not in str(refused.value)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_frames_decode_or_are_refused(data: st.DataObject) -> None:
    frame = bytearray(
        cosem.wrapper(cosem.notification(cosem.push_body(quarter_hours(5, 6, 9), scalers={cosem.IMPORT: (0, 30)})))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(8, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        (push,) = decode(bytes(frame))
        assert len(push.rows) <= 3
