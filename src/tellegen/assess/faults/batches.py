"""Small batches for a journal under test: their rows are noise, their identity is a source's sequence number."""

from __future__ import annotations

import hashlib

import numpy as np

from tellegen.journal import Payload
from tellegen.records import Header, SealedBatch, tree_root

ROW_BYTES = 8


def batch_of(source: str, sequence: int, known_at: int, *, rows: int = 3) -> SealedBatch:
    """The batch that a source sends under a number; its rows follow from the two.

    >>> batch_of("head-end 1", 7, 0).header.name
    'readings/7'
    """
    noise = np.random.default_rng([sequence, *source.encode()]).bytes(rows * ROW_BYTES)
    content = [noise[at : at + ROW_BYTES] for at in range(0, len(noise), ROW_BYTES)]
    leaves = [hashlib.sha256(b"\x00" + row).digest() for row in content]
    payload = Payload(ROW_BYTES, b"".join(leaves), np.arange(rows, dtype=np.uint32), noise, ()).to_bytes()
    header = Header(
        kind="readings",
        name=f"readings/{sequence}",
        feeder="feeder",
        market="",
        interval=sequence,
        intervals=1,
        source=source,
        known_at=known_at,
        causes=(),
        rows=rows,
        row_root=tree_root(leaves).hex(),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    return SealedBatch(header, payload)
