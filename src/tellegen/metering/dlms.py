"""DLMS/COSEM pushes: the load profile of a meter, decoded from the frames that it sends of its own accord.

A frame is a WRAPPER header (version, two ports, length) and an APDU: a data-notification, alone or inside a
general-glo-ciphering of security suite 0 (AES-128-GCM, authenticated and encrypted). `axdr` reads the values of the
notification, `pushed_profile` says which of them are a load profile.

Frames come from strangers: a length, count or depth is compared with what is there before anything is made of it, and
whatever cannot be decoded is an `InputError` of one line that names the byte. A frame of 65,535 bytes takes some 10 MB
while it is read, and the limits below hold what all frames of a call may leave. Sources: IEC 62056-5-3, 62056-6-2 and
62056-4-7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tellegen.errors import InputError
from tellegen.metering.axdr import Malformed, item_at, length_at
from tellegen.metering.load_profile import ProfileRows
from tellegen.metering.pushed_profile import PushedProfile, profile_in

WRAPPER = struct.Struct(">HHHH")
APDU_BYTES_MAX = 65_535
FRAMES_MAX = 20_000
"""Frames of one call."""
ROWS_TOTAL_MAX = 100_000
"""Rows in all frames of one call."""
_DATA_NOTIFICATION, _GENERAL_GLO_CIPHERING = 0x0F, 0xDB
_SUITE_0_BOTH = 0x30
"""Security control byte: suite 0, authenticated and encrypted, unicast key, not compressed."""
_TITLE_BYTES, _COUNTER_BYTES, _TAG_BYTES, _KEY_BYTES = 8, 4, 12, 16
_DATE_TIME_BYTES = 12
_INVOKE_ID = 0xFF_FFFF
"""Bits of the long invoke id; those above are flags and the priority."""


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
    profile : what it holds, with what the meter says against its rows.
    """

    invoke_id: int
    system_title: bytes
    counter: int
    profile: PushedProfile

    @property
    def device(self) -> str:
        """The meter's name; empty where the push does not say."""
        return self.profile.device

    @property
    def period_s(self) -> int:
        """Capture period; 0 where the push does not say."""
        return self.profile.period_s

    @property
    def rows(self) -> ProfileRows:
        """Registers at the end of each capture period."""
        return self.profile.rows

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
    InputError : the first frame that cannot be decoded, by its offset; more than `FRAMES_MAX` frames or
        `ROWS_TOTAL_MAX` rows.
    """
    pushes: list[Push] = []
    at = rows = 0
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
        rows += len(pushes[-1].rows)
        if len(pushes) > FRAMES_MAX or rows > ROWS_TOTAL_MAX:
            raise InputError(
                source, place, f"goes beyond {FRAMES_MAX} frames or {ROWS_TOTAL_MAX} rows at once; split the input"
            )
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
    try:
        if apdu[:1] == bytes((_GENERAL_GLO_CIPHERING,)):
            if keys is None:
                raise InputError(source, "the APDU", "is ciphered; give the meter's keys")
            apdu, title, counter = _deciphered(apdu, keys)
            source = f"{source}, deciphered"
        elif keys is not None:
            raise InputError(
                source, "the APDU", "came in the clear, though there are keys; a meter that has keys uses them"
            )
        if apdu[:1] != bytes((_DATA_NOTIFICATION,)):
            tag = f"has tag {apdu[0]}" if apdu else "is empty"
            raise Malformed(0, f"{tag}; data-notification (15) and general-glo-ciphering (219) are read")
        return _notification(apdu, title, counter)
    except Malformed as found:
        raise found.about(source) from None


def _deciphered(apdu: bytes, keys: Keys) -> tuple[bytes, bytes, int]:
    """Plain APDU, system title, invocation counter."""
    begin, length = length_at(apdu, 1)
    title = apdu[begin : begin + length]
    if len(title) != _TITLE_BYTES or length != _TITLE_BYTES:
        raise Malformed(1, f"is a ciphering without a system title of {_TITLE_BYTES} bytes")
    at, length = length_at(apdu, begin + length)
    text = at + 1 + _COUNTER_BYTES
    if length != len(apdu) - at or text + _TAG_BYTES > len(apdu):
        raise Malformed(
            begin + _TITLE_BYTES, f"announces {length} ciphered bytes, {len(apdu) - at} follow; 17 at least"
        )
    if apdu[at] != _SUITE_0_BOTH:
        raise Malformed(at, f"is security control {apdu[at]:#04x}; 0x30 is read (suite 0, both)")
    counter = apdu[at + 1 : text]
    mode = modes.GCM(title + counter, apdu[-_TAG_BYTES:], min_tag_length=_TAG_BYTES)
    opening = Cipher(algorithms.AES(keys.encryption), mode).decryptor()
    opening.authenticate_additional_data(bytes((_SUITE_0_BOTH,)) + keys.authentication)
    try:
        plain = opening.update(apdu[text:-_TAG_BYTES]) + opening.finalize()
    except InvalidTag:
        raise Malformed(text, "does not pass under these keys: another meter's, or changed on its way") from None
    return plain, title, int.from_bytes(counter, "big")


def _notification(apdu: bytes, title: bytes, counter: int) -> Push:
    """A push; the time of sending is not needed, and is not read."""
    # tag, invoke id and priority, the time's length
    body = 6 + (_DATE_TIME_BYTES if apdu[5:6] == bytes((_DATE_TIME_BYTES,)) else 0)
    if len(apdu) < body or apdu[5] not in (0, _DATE_TIME_BYTES):
        raise Malformed(min(5, len(apdu)), "is a notification cut short, or its time has neither 0 nor 12 bytes")
    values, end = item_at(apdu, body)
    if end != len(apdu):
        raise Malformed(end, "goes on after the body of the notification")
    return Push(int.from_bytes(apdu[1:5], "big") & _INVOKE_ID, title, counter, profile_in(values))
