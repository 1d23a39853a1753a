"""A checkpoint, and the proof that it extends what the log was before.

As text it is what a witness is sent (C2SP tlog-witness, add-checkpoint)::

    old SIZE
    HASH                 base64, one per line: the consistency proof (RFC 6962, 2.1.2)

    CHECKPOINT           with its signatures
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.merkle import HASH_BYTES, MerkleTree
from tellegen.journal.note import JournalError

PROOF_HASHES_MAX = 63


class Grown(Protocol):
    """A log, or the files of one."""

    @property
    def tree(self) -> MerkleTree:
        """Over its entries."""


@dataclass(frozen=True, slots=True)
class Extension:
    """Claim that the log of a checkpoint's note begins with what it was at `old_size`; nothing is verified yet."""

    old_size: int
    proof: tuple[bytes, ...]
    note: str

    @classmethod
    def of(cls, log: Grown, old_size: int, checkpoint: Checkpoint) -> Extension:
        """The proof from an earlier size of a log to one of its checkpoints.

        Raises
        ------
        MerkleError : `old_size` is above the checkpoint's size.
        """
        return cls(old_size, tuple(log.tree.consistency_proof(old_size, checkpoint.size)), checkpoint.note)

    def __str__(self) -> str:
        hashes = "".join(f"{base64.b64encode(node).decode()}\n" for node in self.proof)
        return f"old {self.old_size}\n{hashes}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Extension:
        """Read the text above.

        Raises
        ------
        JournalError : not in this form.
        """
        head, gap, note = text.partition("\n\n")
        first, *hashes = head.split("\n")
        size = first.removeprefix("old ")
        if not gap or size == first or not (size.isascii() and size.isdigit()) or len(size) > 19:
            raise JournalError("does not begin with an old size, a proof and a blank line")
        try:
            proof = tuple(base64.b64decode(line, validate=True) for line in hashes)
        except (binascii.Error, ValueError):
            raise JournalError("the consistency proof is not base64") from None
        if str(int(size)) != size or len(proof) > PROOF_HASHES_MAX or any(len(node) != HASH_BYTES for node in proof):
            raise JournalError(f"a consistency proof is up to {PROOF_HASHES_MAX} hashes of {HASH_BYTES} bytes")
        return cls(int(size), proof, note)
