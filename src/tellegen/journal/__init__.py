"""What is on record for good?

In: sealed batches. Out: an append-only log under signed checkpoints, receipts that prove inclusion,
and a signed manifest of what was published from it. Formats stand where they are written:
`journal.journal` (files), `segments` (frames), `payload`, `checkpoints`, `manifest`.
"""

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.inspection import Problem, check, repair
from tellegen.journal.journal import Journal
from tellegen.journal.manifest import MANIFEST_NAME, published_files, write_manifest
from tellegen.journal.merkle import MerkleTree, verify_consistency, verify_inclusion
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.payload import LivePayload, Payload, Segment, Stub

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
    "Problem",
    "Segment",
    "Stub",
    "check",
    "published_files",
    "repair",
    "verify_consistency",
    "verify_inclusion",
    "write_manifest",
]
