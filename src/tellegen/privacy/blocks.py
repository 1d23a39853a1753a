"""Blocks: all rows of one customer and day in few bytes.

A block is ``rows u32 | length u32 | values | codes``, little-endian. Values are LZMA (raw LZMA2, no container) over one
column after the other: the journal index of each row's entry, the row's number in it, then the table's columns.

- A column of whole numbers is ``first i64 | least i64 | divisor i64 | width u8`` and the bytes, lowest first across all
  rows, of ``(difference to the row before - least) / divisor``. Registers, counters and voltages in coarse steps so
  become a byte or none each. Differences wrap at 2^64, so every value comes back.
- A matrix is its columns, one after the other.
- A column of text is its bytes.

Codes are the columns of raw bytes (authentication codes, signatures, keys), as they are: nothing compresses them.
"""

from __future__ import annotations

import lzma
import struct

import numpy as np
from numpy.typing import NDArray

from tellegen.records import RecordError, Table

_HEAD = struct.Struct("<II")
_COLUMN = struct.Struct("<qqqB")
_FILTERS: list[dict[str, int]] = [
    {"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 16}
]
PLACE = [("@entry", "<i8"), ("@row", "<i8")]


def block_dtype(schema: type[Table]) -> np.dtype[np.void]:
    """Rows of a block: where each stands on record, and its canonical columns."""
    return np.dtype([*PLACE, *((name, schema.row_dtype()[name]) for name in schema.row_dtype().names or ())])


def pack_block(rows: NDArray[np.void]) -> bytes:
    """Bytes of a block.

    Parameters
    ----------
    rows : of `block_dtype`.

    >>> from tellegen.records import AllocationKeys
    >>> rows = np.zeros(3, dtype=block_dtype(AllocationKeys))
    >>> rows["weight_wh"] = [10, 20, 30]
    >>> unpack_block(pack_block(rows), AllocationKeys)["weight_wh"].tolist()
    [10, 20, 30]
    """
    values, codes = [], []
    for name in rows.dtype.names or ():
        column = np.ascontiguousarray(rows[name])
        if column.dtype.kind == "V":
            codes.append(column.tobytes())
        elif column.dtype.kind == "S":
            values.append(column.tobytes())
        else:
            values += [_pack_numbers(np.ascontiguousarray(each)) for each in np.atleast_2d(column.astype(np.int64).T)]
    packed = lzma.compress(b"".join(values), lzma.FORMAT_RAW, filters=_FILTERS)
    return _HEAD.pack(len(rows), len(packed)) + packed + b"".join(codes)


def unpack_block(block: bytes, schema: type[Table]) -> NDArray[np.void]:
    """Inverse of `pack_block`.

    Raises
    ------
    RecordError : it is not a block of this table.
    """
    dtype = block_dtype(schema)
    try:
        count, length = _HEAD.unpack_from(block)
        values = lzma.decompress(block[_HEAD.size : _HEAD.size + length], lzma.FORMAT_RAW, filters=_FILTERS)
        rows = np.zeros(count, dtype=dtype)
        at, codes_at = 0, _HEAD.size + length
        for name in dtype.names or ():
            kind = dtype[name]
            size = kind.itemsize * count
            if kind.base.kind == "V":
                rows[name] = np.frombuffer(block, dtype=kind, count=count, offset=codes_at)
                codes_at += size
            elif kind.base.kind == "S":
                rows[name] = np.frombuffer(values, dtype=kind, count=count, offset=at)
                at += size
            else:
                for each in np.atleast_2d(rows[name].T):
                    each[:], at = _unpack_numbers(values, at, count)
        if at != len(values) or codes_at != len(block):
            raise RecordError(f"a block of {schema.kind} is longer than its rows")
    except (struct.error, lzma.LZMAError, ValueError) as error:
        raise RecordError(f"this is not a block of {schema.kind}: {error}") from None
    return rows


def _pack_numbers(column: NDArray[np.int64]) -> bytes:
    if not column.size:
        return b""
    steps = np.diff(column.view(np.uint64)).view(np.int64)  # unsigned numbers wrap without complaint
    least = int(steps.min()) if steps.size else 0
    above = steps.view(np.uint64) - np.int64(least).view(np.uint64)
    divisor = int(np.gcd.reduce(above)) if steps.size else 0
    small = above // np.uint64(divisor) if divisor else above
    width = (int(small.max()).bit_length() + 7) // 8 if steps.size else 0
    planes = small.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    signed = int(np.uint64(divisor).view(np.int64))
    return _COLUMN.pack(int(column[0]), least, signed, width) + planes


def _unpack_numbers(values: bytes, at: int, count: int) -> tuple[NDArray[np.int64], int]:
    if not count:
        return np.empty(0, dtype=np.int64), at
    first, least, divisor, width = _COLUMN.unpack_from(values, at)
    at += _COLUMN.size
    small = np.zeros((count - 1, 8), dtype=np.uint8)
    planes = np.frombuffer(values, dtype=np.uint8, count=width * (count - 1), offset=at)
    small[:, :width] = planes.reshape(width, count - 1).T
    column = np.empty(count, dtype=np.uint64)
    column[:1] = np.array([first], dtype=np.int64).view(np.uint64)
    column[1:] = small.view("<u8").ravel() * np.int64(divisor).view(np.uint64) + np.int64(least).view(np.uint64)
    return np.cumsum(column, dtype=np.uint64).view(np.int64), at + planes.size
