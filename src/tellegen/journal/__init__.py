"""What is on record for good?

In: sealed batches. Out: an append-only log under signed checkpoints, receipts that prove inclusion,
and a signed manifest of what was published from it. Formats stand where they are written:
`journal.journal` (files), `segments` (frames), `payload`, `checkpoints`, `manifest`.
"""

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.journal import Journal
from tellegen.journal.manifest import MANIFEST_NAME, published_files, write_manifest
from tellegen.journal.merkle import MerkleTree, verify_consistency, verify_inclusion
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.payload import LivePayload, Payload, Segment, Stub
from tellegen.journal.stubs import put_stubs

__all__ = [
    "MANIFEST_NAME",
    "Checkpoint",
    "Journal",
    "JournalError",
    "LivePayload",
    "MerkleTree",
    "NoteSigner",
    "NoteVerifier",
    "Payload",
    "Segment",
    "Stub",
    "published_files",
    "put_stubs",
    "verify_consistency",
    "verify_inclusion",
    "write_manifest",
]
