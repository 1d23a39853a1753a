"""The text of receipts: what proves to anybody with the operator's key that an entry, or a row of it, is on record."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.merkle import MerkleTree
from tellegen.journal.note import JournalError
from tellegen.records import Header

PROOF_MAGIC = "c2sp.org/tlog-proof@v1"
ROW_PROOF_MAGIC = "tellegen-row-proof@v1"


def proof(index: int, nodes: Sequence[bytes], checkpoint: Checkpoint, extra: bytes) -> str:
    """Proof that an entry is in the log (C2SP tlog-proof).

    Parameters
    ----------
    index : of the entry.
    nodes : its inclusion proof in the tree of the checkpoint, from the leaf upwards.
    extra : what the proof carries: the entry, or the proof of a row in it.
    """
    lines = [PROOF_MAGIC, f"extra {base64.b64encode(extra).decode()}", f"index {index}"]
    lines += [base64.b64encode(node).decode() for node in nodes]
    return "\n".join([*lines, "", checkpoint.note])


def row_proof(index: int, header: Header, row: int, leaves: list[bytes]) -> bytes:
    """Proof that a row is in an entry, complete but for the row and its salt::

        tellegen-row-proof@v1
        row NUMBER
        rows COUNT
        HASH                 base64, one per line, from the row's sibling upwards

        HEADER               the log entry: canonical JSON

    The row's leaf hash is SHA-256(0x00 || salt || canonical row bytes); its owner gets the salt from the vault.

    Parameters
    ----------
    leaves : leaf hashes of all rows of the entry.

    Raises
    ------
    JournalError : the leaves are not those of the entry's rows.
    """
    inner = MerkleTree(leaves)
    if inner.root().hex() != header.row_root:
        raise JournalError(f"entry {index}: the row hashes do not rebuild its row root")
    lines = [ROW_PROOF_MAGIC, f"row {row}", f"rows {header.rows}"]
    lines += [base64.b64encode(node).decode() for node in inner.inclusion_proof(row)]
    return "\n".join([*lines, "", header.to_bytes().decode(), ""]).encode()
