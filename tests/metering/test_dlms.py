"""What a DLMS meter pushes: decoded by the standard's rules, and nothing else passes."""

import contextlib
import importlib.util
import json
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.metering import profile_of
from tellegen.metering.dlms import APDU_BYTES_MAX, ROWS_TOTAL_MAX, Keys, Push, decode, decode_apdu
from tellegen.metering.pushed_profile import ROWS_MAX, Doubt

_spec = importlib.util.spec_from_file_location("cosem", Path(__file__).with_name("cosem.py"))
cosem = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cosem)

KEY, AUTH = bytes(range(16)), bytes(range(0xD0, 0xE0))
STATUS = bytes((0, 0, 96, 10, 1, 255))
KEYS = Keys(KEY, AUTH)


def quarter_hours(*imports: int, exports: int = 0) -> list[bytes]:
    return [
        cosem.structure(
            cosem.date_time(cosem.MIDNIGHT + timedelta(minutes=15 * k)), cosem.u32(wh), cosem.u32(exports + k)
        )
        for k, wh in enumerate(imports)
    ]


def one(body: bytes) -> Push:
    (push,) = decode(cosem.wrapper(cosem.notification(body)))
    return push


def body_of(columns: list[bytes], rows: list[bytes], *others: tuple[bytes, bytes]) -> bytes:
    """A push whose profile captures `columns`; of `others` the name and the value."""
    values = [
        (cosem.capture(7, cosem.PROFILE, 3), cosem.array(columns)),
        (cosem.capture(7, cosem.PROFILE, 4), cosem.u32(900)),
        *others,
        (cosem.capture(7, cosem.PROFILE, 2), cosem.array(rows)),
    ]
    return cosem.structure(cosem.array([name for name, _ in values]), *(value for _, value in values))


CLOCK_AND_IMPORT = [cosem.capture(8, cosem.CLOCK, 2), cosem.capture(3, cosem.IMPORT, 2)]


def described(push: Push) -> dict[str, object]:
    rows = push.rows
    registers = zip(rows.register.tolist(), rows.has_register.tolist(), strict=True)
    return {
        "invoke_id": push.invoke_id,
        "system_title": push.system_title.hex(),
        "counter": push.counter,
        "device": push.device,
        "period_s": push.period_s,
        "meter": rows.meter.tolist(),
        "end_s": rows.end_s.tolist(),
        "length_s": rows.length_s.tolist(),
        "register": [[wh if has else None for wh, has in zip(*of, strict=True)] for of in registers],
    }


@pytest.mark.parametrize("golden", json.loads(Path(__file__).with_name("pushes.json").read_text()))
def test_another_decoder_reads_the_same(golden: dict) -> None:
    """Forty frames, ten of them damaged, and what dlms-cosem 25.1.0 made of them before it was left."""
    keys, frame = KEYS if golden["ciphered"] else None, bytes.fromhex(golden["frame"])
    if golden["outcome"] == "refused":
        with pytest.raises(InputError, match="byte"):
            decode(frame, keys)
    else:
        assert [described(push) for push in decode(frame, keys)] == golden["outcome"]


def test_the_ciphering_of_the_green_book() -> None:
    """Its example of suite 0, authenticated and encrypted: the APDU within is a get-request, tag 192."""
    apdu = bytes.fromhex("db 08 4d4d4d0000bc614e 1e 30 01234567 411312ff935a47566827c467bc 7d825c3be4a77c3fcc056b6b")
    with pytest.raises(InputError, match="deciphered: byte 0 of the APDU has tag 192"):
        decode_apdu(apdu, KEYS)


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


def test_a_clock_status_that_is_not_specified_says_nothing() -> None:
    for status in (0xFF, 0x80, 0x04):  # not specified, daylight saving, another clock base
        row = cosem.structure(cosem.date_time(cosem.MIDNIGHT, 0, status), cosem.u32(1), cosem.u32(2))
        push = one(cosem.push_body([row]))
        assert push.rows.has_register[:2].all()
        assert push.profile.clock_status.tolist() == [status]


def test_what_a_doubtful_clock_says_is_not_believed_nor_what_is_counted_from_it() -> None:
    for status, doubt in (
        (0x02, Doubt.CLOCK_DOUBTFUL),
        (0x08, Doubt.CLOCK_STATUS_INVALID),
        (0x10, Doubt.STATUS_UNKNOWN),
    ):
        doubted = cosem.structure(cosem.date_time(cosem.MIDNIGHT, 0, status), cosem.u32(1), cosem.u32(2))
        counted = cosem.structure(cosem.NULL, cosem.u32(3), cosem.u32(4))
        later = cosem.structure(cosem.date_time(cosem.MIDNIGHT + timedelta(hours=1)), cosem.u32(5), cosem.u32(6))
        push = one(cosem.push_body([doubted, counted, later]))
        assert push.profile.doubts.tolist() == [doubt, doubt, 0]
        assert push.rows.has_register[0].tolist() == [False, False, True]


@pytest.mark.parametrize("interface", [1, 3, 63])
@pytest.mark.parametrize(
    ("status", "doubt"),
    [
        (b"\x11\x00", Doubt(0)),
        (b"\x11\xa8", Doubt(0)),  # power down, clock adjusted, daylight saving
        (b"\x11\x06", Doubt.CLOCK_INVALID | Doubt.DATA_NOT_VALID),
        (b"\x12\x00\x01", Doubt.CRITICAL_ERROR),
        (b"\x06\x00\x01\x00\x00", Doubt.STATUS_UNKNOWN),
        (b"\x04\x08\x20", Doubt.DATA_NOT_VALID),
        (b"\x09\x01\x04", Doubt.DATA_NOT_VALID),
    ],
)
def test_the_status_of_a_row_keeps_it_from_being_believed(interface: int, status: bytes, doubt: Doubt) -> None:
    columns = [CLOCK_AND_IMPORT[0], cosem.capture(interface, STATUS, 2), CLOCK_AND_IMPORT[1]]
    rows = [
        cosem.structure(cosem.date_time(cosem.MIDNIGHT), status, cosem.u32(999_999)),
        cosem.structure(cosem.NULL, cosem.NULL, cosem.u32(1_000_000)),  # the same status again
        cosem.structure(cosem.NULL, b"\x11\x00", cosem.u32(1_000_001)),
    ]
    push = one(body_of(columns, rows))
    assert push.profile.doubts.tolist() == [doubt, doubt, 0]
    assert push.rows.has_register[0].tolist() == [not doubt, not doubt, True]


def test_a_status_beside_an_extended_register_counts() -> None:
    columns = [CLOCK_AND_IMPORT[0], cosem.capture(4, cosem.IMPORT, 2), cosem.capture(4, cosem.IMPORT, 4)]
    rows = [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(7), b"\x11\x04")]
    assert not one(body_of(columns, rows)).rows.has_register.any()


@pytest.mark.parametrize("interface", [3, 4])
def test_a_scaler_counts_for_registers_of_either_class(interface: int) -> None:
    columns = [CLOCK_AND_IMPORT[0], cosem.capture(interface, cosem.IMPORT, 2)]
    rows = [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(1000))]
    kilo = (cosem.capture(interface, cosem.IMPORT, 3), cosem.structure(cosem.i8(3), cosem.enum(30)))
    assert one(body_of(columns, rows, kilo)).rows.register[0].tolist() == [1_000_000]
    other = (cosem.capture(7 - interface, cosem.IMPORT, 3), cosem.structure(cosem.i8(0), cosem.enum(30)))
    with pytest.raises(InputError, match="the same register has scaler 3"):
        one(body_of(columns, rows, kilo, other))


def test_a_register_whose_scaler_may_be_missed_is_refused() -> None:
    """A thousandfold error is worse than a refusal: attributes at once, scalers in rows, a register twice."""
    rows = [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(1), cosem.u32(1))]
    whole = (cosem.capture(3, cosem.IMPORT, 0), cosem.structure(cosem.NULL))
    with pytest.raises(InputError, match="attribute 0, which stands for several"):
        one(body_of(CLOCK_AND_IMPORT, rows, whole))
    with pytest.raises(InputError, match="scaler row by row"):
        one(body_of([*CLOCK_AND_IMPORT, cosem.capture(3, cosem.IMPORT, 3)], rows))
    with pytest.raises(InputError, match="captured already"):
        one(body_of([*CLOCK_AND_IMPORT, cosem.capture(4, cosem.IMPORT, 2)], rows))


def test_a_time_with_its_hour_open_is_none_and_one_with_its_own_type_is() -> None:
    row = cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(1))
    hour = row.index(b"\x09\x0c") + 2 + 5
    with pytest.raises(InputError, match="no date and time"):
        one(body_of(CLOCK_AND_IMPORT, [row[:hour] + b"\xff" + row[hour + 1 :]]))
    typed = row.replace(b"\x09\x0c", b"\x19")
    assert one(body_of(CLOCK_AND_IMPORT, [typed])).rows.end_s.tolist() == [cosem.EPOCH_S]


def test_a_number_for_a_name_makes_no_memory() -> None:
    """Python's bytes(4294967295) is four gigabytes."""
    named = (cosem.capture(1, cosem.DEVICE, 2), cosem.u32(4_294_967_295))
    rows = [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(1))]
    assert one(body_of(CLOCK_AND_IMPORT, rows, named)).device == "4294967295"


def test_the_largest_frame_takes_a_bounded_memory() -> None:
    """Every byte a value of its own; as many rows as there may be; more rows than one call gives back."""
    many = b"\x01\x82\xff\xe0" + bytes(0xFFE0)
    thin = [cosem.structure(cosem.NULL, cosem.NULL)] * (ROWS_MAX - 1)
    full = body_of(CLOCK_AND_IMPORT, [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(1)), *thin])
    frame = cosem.wrapper(cosem.notification(full))
    assert len(frame) <= APDU_BYTES_MAX
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="push object list"):
            one(many)
        with pytest.raises(InputError, match=f"beyond .* {ROWS_TOTAL_MAX} rows"):
            decode(frame * (ROWS_TOTAL_MAX // ROWS_MAX + 1))
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20  # 100,000 rows of some 200 bytes, and a frame in work
    finally:
        tracemalloc.stop()


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


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(data: st.DataObject) -> None:
    """Any registers at any quarter hours in any zone, clear or ciphered, come back as they were."""
    values = data.draw(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=8))
    deviation, first = data.draw(st.integers(-840, 840)), data.draw(st.integers(-50_000, 5_000_000))
    scaler, invoke_id = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 2**24 - 1))
    start = cosem.MIDNIGHT + timedelta(minutes=first)
    rows = [
        cosem.structure(
            cosem.date_time(start + timedelta(minutes=15 * k - deviation), deviation), cosem.u32(into), cosem.u32(out)
        )
        for k, (into, out) in enumerate(values)
    ]
    apdu = cosem.notification(cosem.push_body(rows, scalers={cosem.EXPORT: (scaler, 30)}), invoke_id)
    sealed = data.draw(st.booleans())
    push = decode_apdu(cosem.ciphered(apdu, KEY, AUTH) if sealed else apdu, KEYS if sealed else None)
    assert (push.invoke_id, push.authenticated) == (invoke_id, sealed)
    assert push.rows.end_s.tolist() == [cosem.EPOCH_S + 60 * (first + 15 * k) for k in range(len(values))]
    assert push.rows.register[0].tolist() == [into for into, _ in values]
    assert push.rows.register[1].tolist() == [out * 10**scaler for _, out in values]
