"""A-XDR: the values of which a COSEM message is made, read with every length, count and depth bounded first.

A value is a type octet and its content. Arrays and structures say how many values follow, octet strings and texts how
many bytes; neither is believed further than the bytes that are there. Each value keeps its offset in the APDU, so that
whoever finds it wrong can say where it stands. Types that no load profile is made of (floating point, compact arrays)
are refused. Sources: IEC 61334-6 (A-XDR), IEC 62056-6-2, 4.1.5 (the types).
"""

from __future__ import annotations

from dataclasses import dataclass

from tellegen.errors import InputError

DEPTH_MAX = 8
"""Arrays and structures within each other."""
LENGTH_BYTES_MAX = 4
"""Bytes of which a length may be made."""
BITS_MAX = 64
"""Bits of a bit-string; a status has no more."""
_NULL, _ARRAY, _STRUCTURE, _BOOLEAN, _BITS, _OCTETS, _TEXT = 0, 1, 2, 3, 4, 9, 10
_SIGNED = {5: 4, 15: 1, 16: 2, 20: 8}
_UNSIGNED = {6: 4, 17: 1, 18: 2, 21: 8, 22: 1}
_TIMES = {25: 12, 26: 5, 27: 4}
"""date-time, date and time, which are octet strings without a length."""
_SIZES = {_NULL: 0, _BOOLEAN: 1} | _SIGNED | _UNSIGNED | _TIMES


class Malformed(Exception):  # noqa: N818 - what a message is, which its reader makes an InputError of
    """What is wrong with a message, at which byte of its APDU."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(at, problem)
        self.at = at
        self.problem = problem

    def about(self, source: object) -> InputError:
        """The error as a caller gets it, in one line."""
        return InputError(source, f"byte {self.at} of the APDU", self.problem)


@dataclass(frozen=True, slots=True)
class Item:
    """One value, and where it stands.

    Attributes
    ----------
    at : offset of its type octet in the APDU.
    value : None for null-data; an integer for integers, enumerations and bit strings (first bit lowest,
        as the bits of a status are numbered); bytes for octet strings and times; its items for arrays and structures.
    """

    at: int
    value: bool | int | bytes | str | tuple[Item, ...] | None

    def items(self, what: str, count: int = 0) -> tuple[Item, ...]:
        """Those of an array or structure; `count` (where not 0): at least so many.

        Raises
        ------
        Malformed : it is neither, or has fewer.
        """
        if not isinstance(self.value, tuple) or len(self.value) < count:
            least = f" of {count} values or more" if count else ""
            raise Malformed(self.at, f"should hold {what}: an array or a structure{least}")
        return self.value

    def integer(self, what: str) -> int:
        """The number that it is.

        Raises
        ------
        Malformed : it is none.
        """
        if type(self.value) is not int:
            raise Malformed(self.at, f"should hold {what}: an integer")
        return self.value

    def octets(self, what: str, size: int = 0) -> bytes:
        """The bytes that it is; `size` (where not 0): exactly so many.

        Raises
        ------
        Malformed : it is none, or of another size.
        """
        if not isinstance(self.value, bytes) or (size and len(self.value) != size):
            raise Malformed(self.at, f"should hold {what}: {size or 'some'} octets")
        return self.value


def length_at(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of a field with a length begins, and that length, which may be beyond the end of `data`.

    >>> length_at(bytes((0x82, 0x01, 0x00)), 0)
    (3, 256)

    Raises
    ------
    Malformed : the length is cut, or made of more than `LENGTH_BYTES_MAX` bytes.
    """
    if at >= len(data):
        raise Malformed(at, "should hold a length, the APDU ends before")
    first = data[at]
    if first < 0x80:
        return at + 1, first
    count = first & 0x7F
    end = at + 1 + count
    if not 1 <= count <= LENGTH_BYTES_MAX or end > len(data):
        raise Malformed(at, f"announces a length of {count} bytes; 1 to {LENGTH_BYTES_MAX} are read")
    return end, int.from_bytes(data[at + 1 : end], "big")


def item_at(data: bytes, at: int, depth: int = 0) -> tuple[Item, int]:
    """The value whose type octet stands at `at`, and where the next one begins.

    >>> item_at(bytes((2, 2, 0, 18, 1, 0)), 0)[0].value
    (Item(at=2, value=None), Item(at=3, value=256))

    Raises
    ------
    Malformed : it is cut, announces more than follows, lies deeper than `DEPTH_MAX`, or is of a type that is not read.
    """
    if at >= len(data):
        raise Malformed(at, "should hold a value, the APDU ends before")
    tag = data[at]
    if tag in (_ARRAY, _STRUCTURE):
        inside, count = length_at(data, at + 1)
        if count > len(data) - inside or depth == DEPTH_MAX:
            raise Malformed(at, f"holds {count} values, more or deeper than can follow")
        found = []
        for _ in range(count):
            item, inside = item_at(data, inside, depth + 1)
            found.append(item)
        return Item(at, tuple(found)), inside
    if tag in (_OCTETS, _TEXT, _BITS):
        inside, size = length_at(data, at + 1)
        bits, size = size, size if tag != _BITS else -(-size // 8)
    elif tag in _SIZES:
        inside, size, bits = at + 1, _SIZES[tag], 0
    else:
        raise Malformed(at, f"has data type {tag}, which no load profile is made of")
    if size > len(data) - inside:
        raise Malformed(at, f"announces {size} bytes, {len(data) - inside} follow")
    return Item(at, _scalar(tag, data[inside : inside + size], at, bits)), inside + size


def _scalar(tag: int, content: bytes, at: int, bits: int) -> bool | int | bytes | str | None:
    if tag in _SIGNED:
        return int.from_bytes(content, "big", signed=True)
    if tag in _UNSIGNED:
        return int.from_bytes(content, "big")
    if tag == _TEXT:
        if not content.isascii():
            raise Malformed(at, "is a visible-string that is not ASCII")
        return content.decode("ascii")
    if tag == _BOOLEAN:
        return content != b"\x00"
    if tag == _BITS:
        if bits > BITS_MAX:
            raise Malformed(at, f"is a bit-string of {bits} bits, at most {BITS_MAX} are read")
        return sum(1 << k for k in range(bits) if content[k // 8] & 0x80 >> k % 8)
    return None if tag == _NULL else content
