"""A batch: what one journal entry is, and how its rows are bound to it (laws 4 and 6).

The header is the log entry. It carries the root of an RFC 6962 tree over the batch's row hashes
and the digest of the stored payload, so that whoever holds the log's checkpoint holds everything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import RecordError

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Header:
    """The public face of a batch; its canonical JSON is the log entry.

    Attributes
    ----------
    kind : schema of the rows (`Table.kind`), or ``"document"``.
    name : what tells batches of a kind apart where interval and market do not ("" if not needed).
    feeder : feeder the facts are about.
    market : ``"day_ahead"``, ``"real_time"`` or ``""``.
    interval, intervals : first market interval the facts are about, and how many.
    source : who says so.
    known_at : when it became known, seconds since the epoch, UTC.
    causes : journal indices of the batches this one follows from.
    rows : number of rows.
    row_root : hex root of the RFC 6962 tree over the row hashes.
    payload_sha256 : hex digest of the payload file as stored.
    evidence : what the sender signed (`submission.Evidence` as text); empty for what the operator says itself, and
        then no part of the canonical form.
    """

    kind: str
    name: str
    feeder: str
    market: str
    interval: int
    intervals: int
    source: str
    known_at: int
    causes: tuple[int, ...]
    rows: int
    row_root: str
    payload_sha256: str
    evidence: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        if not self.evidence:
            del fields["evidence"]
        return _CANONICAL.encode(fields).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Parse a log entry.

        Raises
        ------
        RecordError : not a header, or not in canonical form.
        """
        try:
            fields = json.loads(data)
            fields["causes"] = tuple(fields["causes"])
            header = cls(**fields)
            texts = [header.kind, header.name, header.feeder, header.market, header.source]
            texts += [header.row_root, header.payload_sha256, header.evidence]
            counts = (header.interval, header.intervals, header.known_at, header.rows, *header.causes)
            if any(type(t) is not str for t in texts) or any(type(c) is not int for c in counts):
                raise TypeError("a field has the wrong type")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecordError(f"log entry is not a header: {error}") from None
        if header.to_bytes() != data:
            raise RecordError("log entry is not in canonical form")
        return header


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch ready for the journal: header, and the payload bytes that its digest names."""

    header: Header
    payload: bytes


def leaf_hash(salt: bytes, row: bytes) -> bytes:
    """RFC 6962 leaf hash of a salted row: SHA-256(0x00 || salt || row)."""
    return hashlib.sha256(b"\x00" + salt + row).digest()


def tree_root(hashes: NDArray[np.uint8] | list[bytes]) -> bytes:
    """RFC 6962 root of a tree over given leaf hashes.

    Empty tree: SHA-256 of nothing. Odd nodes move up unchanged, which equals the RFC's split at the
    largest power of two.
    """
    level = hashes if isinstance(hashes, list) else [h.tobytes() for h in hashes]
    if not level:
        return hashlib.sha256(b"").digest()
    sha256 = hashlib.sha256
    while len(level) > 1:
        nodes = iter(level)
        odd = level[-1:] if len(level) % 2 else []
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(nodes, nodes, strict=False)] + odd
    return level[0]
