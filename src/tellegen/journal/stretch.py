"""A stretch: the index of a fixed number of consecutive entries, as one file ``journal/index/000000.idx``.

A file is derived from log, payloads and checkpoints, and is believed in nothing that they do not bear out. It holds::

    magic            8    "TLINDEX1"
    length           4    of the head, little-endian
    checksum         4    CRC-32 of the head
    head                  canonical JSON: the fields of `Head`
    columns               one after the other, little-endian, each with a CRC-32 in the head

Opening a journal reads the head of the newest stretch alone; columns are read when something is looked for.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tellegen.journal.checkpoints import Noted
from tellegen.journal.note import JournalError
from tellegen.journal.storage import StoredFile

STRETCH_HEIGHT = 8
"""A stretch is 256 entries, a complete subtree of this height: up to as many are read one by one on opening."""
MANY_METERS, MANY_METERS_HEIGHT = 10_000, 12
_MAGIC = b"TLINDEX1"
_START = struct.Struct("<8sII")
_HEAD_BYTES_MAX = 1 << 22
_FIRST_READ_BYTES = 4096
DTYPES = {
    "kind": "<u2",
    "market": "<u2",
    "interval": "<i8",
    "known_at": "<i8",
    "name": "<u4",
    "submission": "<u8",  # ascending
    "submission_entry": "<u2",  # position of the entry of each of them
    "log": "<u4",  # segment, start and length: [3, n]
    "payload": "<u4",
    "leaf": "<V32",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What a stretch says of itself.

    Attributes
    ----------
    height, number : of the complete subtree that its entries are.
    known_at : time on record at its end.
    known_min : the earliest time of its entries.
    interval_first, interval_last : smallest and largest interval of its entries.
    texts : kinds and markets of its entries, numbered by `kind` and `market`.
    earlier : for each kind and market that came up before it, the newest stretch before it in which it did.
    log, payload : segment and byte at which its last frames end.
    noted : a checkpoint that covers it.
    nodes : hashes of the complete subtrees that end with it, from its own upwards.
    peaks : roots of the complete subtrees that all entries up to its end fall into, the largest first.
    columns : by name: first byte in the file, bytes, checksum.
    """

    height: int
    number: int
    known_at: int
    known_min: int
    interval_first: int
    interval_last: int
    texts: tuple[bytes, ...]
    earlier: Mapping[bytes, int]
    log: tuple[int, int]
    payload: tuple[int, int]
    noted: Noted
    nodes: tuple[bytes, ...]
    peaks: tuple[bytes, ...]
    columns: Mapping[str, tuple[int, int, int]]

    def newest(self, text: bytes) -> int:
        """The newest stretch, up to this one, with a kind or market; -1 where there is none."""
        return self.number if text in self.texts else self.earlier.get(text, -1)

    @property
    def first(self) -> int:
        """Its first entry."""
        return self.number << self.height

    @property
    def stop(self) -> int:
        """The entry behind its last."""
        return (self.number + 1) << self.height


class StretchError(JournalError):
    """A file of the index is not what was written; it is made again from the log."""


def height_for(meters: int) -> int:
    """Height of the stretches of a new shard: a large one fills them fast, and is to have fewer files."""
    return STRETCH_HEIGHT if meters < MANY_METERS else MANY_METERS_HEIGHT


def file_name(number: int) -> str:
    """File of a stretch."""
    return f"{number:06d}.idx"


def number_of(name: str) -> int | None:
    """Inverse of `file_name`; None for another file."""
    digits = name.removesuffix(".idx")
    return int(digits) if digits.isascii() and digits.isdigit() and file_name(int(digits)) == name else None


def to_bytes(head: Head, columns: Mapping[str, NDArray[Any]]) -> bytes:
    """The file of a stretch; the places of the head's columns are set here."""
    stored = {name: columns[name].astype(dtype).tobytes() for name, dtype in DTYPES.items()}
    places, at = {}, 0
    for name, data in stored.items():
        places[name] = (at, len(data), crc32(data))
        at += len(data)
    fields = asdict(head) | {
        "columns": places,
        "texts": [text.decode("ascii") for text in head.texts],
        "earlier": {text.decode("ascii"): number for text, number in head.earlier.items()},
        "nodes": [node.hex() for node in head.nodes],
        "peaks": [node.hex() for node in head.peaks],
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
    return b"".join([_START.pack(_MAGIC, len(text), crc32(text)), text, *stored.values()])


def read_head(file: StoredFile) -> Head:
    """Head of a stretch; places of columns count from the beginning of the file.

    Raises
    ------
    StretchError : it is damaged.
    OSError : it cannot be read.
    """
    data = file.read(0, _FIRST_READ_BYTES)
    try:
        magic, length, checksum = _START.unpack_from(data)
        if magic != _MAGIC or length > _HEAD_BYTES_MAX:
            raise ValueError
        if len(data) < _START.size + length:
            data = file.read(0, _START.size + length)
        text = data[_START.size : _START.size + length]
        if len(text) != length or crc32(text) != checksum:
            raise ValueError
        fields = json.loads(text)
        start = _START.size + length
        fields["columns"] = {name: (start + at, size, crc) for name, (at, size, crc) in fields["columns"].items()}
        for name in ("nodes", "peaks"):
            fields[name] = tuple(map(bytes.fromhex, fields[name]))
        fields["texts"] = tuple(word.encode("ascii") for word in fields["texts"])
        fields["earlier"] = {word.encode("ascii"): number for word, number in fields["earlier"].items()}
        fields["log"], fields["payload"] = tuple(fields["log"]), tuple(fields["payload"])
        fields["noted"] = Noted(**fields["noted"])
        return Head(**fields)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise StretchError("fails its checksum") from None


def read_column(file: StoredFile, head: Head, name: str) -> NDArray[Any]:
    """A column of a stretch.

    Raises
    ------
    StretchError : it is damaged.
    OSError : it cannot be read.
    """
    at, size, checksum = head.columns[name]
    data = file.read(at, size)
    if len(data) != size or crc32(data) != checksum:
        raise StretchError(f"its column {name} fails its checksum")
    column = np.frombuffer(data, dtype=DTYPES[name])
    return column.reshape(3, -1) if name in ("log", "payload") else column
