"""The stored form of a batch's rows: what can be read without a key, and what cannot.

Little-endian, version 1::

    magic          4   "TLP1"
    rows           4   number of rows n
    row_bytes      4   canonical bytes of one row
    public_count   4   rows in plain text, p
    segment_count  4   ciphertext segments, s
    row hashes     n * 32          leaf hashes, in row order
    public numbers p * 4           row numbers, ascending
    public rows    p * row_bytes
    segments       s times, by pseudonym:
        pseudonym  16   stands for a customer in this batch only
        nonce      12
        length     4    of the ciphertext
        ciphertext      AES-256-GCM, tag included, of: row numbers (4 each), then the rows

The row hashes rebuild the header's `row_root`, so that a proof for any row can be made, and still
verifies, when the rows themselves can no longer be read (law 6).

Version 2, for batches that will be compacted, holds all rows under the key of an epoch and no row hashes: whoever
makes a proof has the vault derive them::

    magic          4   "TLP2"
    epoch          4   number of the epoch in the vault
    rows           4
    row_bytes      4
    nonce         12
    ciphertext         AES-256-GCM, tag included, of the rows in order

Once the rows lie in the archive, a stub stands where the payload stood::

    magic          4   "TLPX"
    sha256        32   of the payload that was here
    file               path of the archive file, from the shard's directory, UTF-8
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.records import RecordError

MAGIC = b"TLP1"
LIVE_MAGIC = b"TLP2"
STUB_MAGIC = b"TLPX"
_LIVE_HEAD = struct.Struct("<4sIII12s")
_HEAD = struct.Struct("<4sIIII")
_SEGMENT = struct.Struct("<16s12sI")
HASH_BYTES = 32
TAG_BYTES = 16
PAYLOAD_BYTES_MAX = 1 << 28


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one customer, encrypted under its key."""

    pseudonym: bytes
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload taken apart.

    Attributes
    ----------
    row_bytes : canonical bytes of one row.
    row_hashes : leaf hashes, 32 bytes each, in row order.
    public_numbers : uint32[p], row numbers of the plain rows.
    public_rows : their canonical bytes.
    segments : the encrypted rows.
    """

    row_bytes: int
    row_hashes: bytes
    public_numbers: NDArray[np.uint32]
    public_rows: bytes
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """Number of rows, readable or not."""
        return len(self.row_hashes) // HASH_BYTES

    def hash_list(self) -> list[bytes]:
        """Leaf hashes one by one, in row order."""
        hashes = self.row_hashes
        return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]

    def to_bytes(self) -> bytes:
        """The stored form."""
        head = _HEAD.pack(MAGIC, self.rows, self.row_bytes, len(self.public_numbers), len(self.segments))
        parts = [head, self.row_hashes, self.public_numbers.astype("<u4").tobytes(), self.public_rows]
        for segment in self.segments:
            parts.append(_SEGMENT.pack(segment.pseudonym, segment.nonce, len(segment.ciphertext)))
            parts.append(segment.ciphertext)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Payload:
        """Take a stored payload apart.

        Raises
        ------
        RecordError : wrong magic, or its lengths do not add up to its size.
        """
        try:
            magic, rows, row_bytes, public, count = _HEAD.unpack_from(data)
            numbers_at = _HEAD.size + HASH_BYTES * rows
            public_at = numbers_at + 4 * public
            at = public_at + row_bytes * public
            if magic != MAGIC or at > len(data):
                raise RecordError("payload does not begin as version 1 does")
            segments = []
            for _ in range(count):
                pseudonym, nonce, length = _SEGMENT.unpack_from(data, at)
                at += _SEGMENT.size
                segments.append(Segment(pseudonym, nonce, data[at : at + length]))
                at += length
        except struct.error as error:
            raise RecordError(f"payload is cut short: {error}") from None
        if at != len(data):
            raise RecordError(f"payload has {len(data)} bytes, its lengths add up to {at}")
        return cls(
            row_bytes=row_bytes,
            row_hashes=data[_HEAD.size : numbers_at],
            public_numbers=np.frombuffer(data, dtype="<u4", count=public, offset=numbers_at),
            public_rows=data[public_at : public_at + row_bytes * public],
            segments=tuple(segments),
        )


@dataclass(frozen=True, slots=True)
class LivePayload:
    """A payload of version 2 taken apart: its rows are encrypted together, under the key of an epoch."""

    epoch: int
    rows: int
    row_bytes: int
    nonce: bytes
    ciphertext: bytes

    @staticmethod
    def is_live(data: bytes) -> bool:
        """Whether a stored payload is of version 2."""
        return data.startswith(LIVE_MAGIC)

    def to_bytes(self) -> bytes:
        """The stored form."""
        return _LIVE_HEAD.pack(LIVE_MAGIC, self.epoch, self.rows, self.row_bytes, self.nonce) + self.ciphertext

    @classmethod
    def from_bytes(cls, data: bytes) -> LivePayload:
        """Take a stored payload apart.

        Raises
        ------
        RecordError : wrong magic, or its length is not that of its rows.
        """
        if len(data) < _LIVE_HEAD.size or not cls.is_live(data):
            raise RecordError("payload does not begin as version 2 does")
        _, epoch, rows, row_bytes, nonce = _LIVE_HEAD.unpack_from(data)
        if len(data) != _LIVE_HEAD.size + rows * row_bytes + TAG_BYTES:
            raise RecordError(f"payload has {len(data)} bytes, which is not {rows} rows of {row_bytes}")
        return cls(epoch, rows, row_bytes, nonce, data[_LIVE_HEAD.size :])


@dataclass(frozen=True, slots=True)
class Stub:
    """What stands in the place of a payload whose rows are in the archive."""

    payload_sha256: bytes
    file: str

    @staticmethod
    def is_stub(data: bytes) -> bool:
        """Whether this stands where a payload stood."""
        return data.startswith(STUB_MAGIC)

    def to_bytes(self) -> bytes:
        """The stored form."""
        return STUB_MAGIC + self.payload_sha256 + self.file.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Stub:
        """Take a stub apart.

        Raises
        ------
        RecordError : it is none.
        """
        try:
            file = data[len(STUB_MAGIC) + HASH_BYTES :].decode()
        except UnicodeDecodeError:
            file = ""
        if not cls.is_stub(data) or not file:
            raise RecordError("this is not the stub of a payload")
        return cls(data[len(STUB_MAGIC) : len(STUB_MAGIC) + HASH_BYTES], file)
