"""What is on record for good?

In: sealed batches. Out: an append-only log under signed checkpoints, receipts that prove inclusion,
and a signed manifest of what was published from it. Formats stand where they are written:
`journal.journal` (files), `segments` (frames), `payload`, `receipts`, `checkpoints`, `manifest`; for auditors
`tiles`, `extension` (consistency proofs) and `cosignature`; `witness` is who watches the log, `elsewhere` who is asked
before it is signed on.
"""

from tellegen.journal import tiles
from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.cosignature import (
    ContradictedError,
    CosignatureVerifier,
    Cosigner,
    NotCosignedError,
)
from tellegen.journal.cosigned import ask_witness, cosigned, keep_cosignatures, newest, strongest
from tellegen.journal.extension import Extension
from tellegen.journal.inspection import Problem, check, repair
from tellegen.journal.journal import Journal
from tellegen.journal.manifest import MANIFEST_NAME, published_files, write_manifest
from tellegen.journal.merkle import MerkleTree, verify_consistency, verify_inclusion
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier, Signer
from tellegen.journal.payload import LivePayload, Payload, Segment, Stub
from tellegen.journal.stretch import height_for
from tellegen.journal.stubs import put_stubs
from tellegen.journal.witness import Witness

__all__ = [
    "MANIFEST_NAME",
    "Checkpoint",
    "ContradictedError",
    "CosignatureVerifier",
    "Cosigner",
    "Extension",
    "Journal",
    "JournalError",
    "LivePayload",
    "MerkleTree",
    "NotCosignedError",
    "NoteSigner",
    "NoteVerifier",
    "Payload",
    "Problem",
    "Segment",
    "Signer",
    "Stub",
    "Witness",
    "ask_witness",
    "check",
    "cosigned",
    "height_for",
    "keep_cosignatures",
    "newest",
    "published_files",
    "put_stubs",
    "repair",
    "strongest",
    "tiles",
    "verify_consistency",
    "verify_inclusion",
    "write_manifest",
]
