"""Receipts with everything that checking them needs besides the operator's key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.errors import InputError
from tellegen.journal import strongest
from tellegen.operations.run_directory import Run
from tellegen.records import NOBODY, Header


@dataclass(frozen=True, slots=True)
class Proof:
    """A receipt, and the bytes that it proves to be on record.

    Attributes
    ----------
    receipt : C2SP tlog-proof; for a row it carries the inner proof.
    index : journal index of the entry. entry : the log entry, canonical JSON of the batch's header.
    key : the operator's verifier key. Take it from elsewhere before you trust it.
    row : number of the row, None for a receipt of the entry.
    row_hex, salt_hex : canonical bytes of the row and its salt (empty for a public row).
    """

    receipt: str
    index: int
    entry: str
    key: str
    row: int | None = None
    row_hex: str = ""
    salt_hex: str = ""


def prove_entry(run: Run, index: int) -> Proof:
    """Receipt of a log entry.

    Raises
    ------
    JournalError : there is no such entry.
    """
    journal = run.recorder.journal
    receipt = journal.receipt(index, strongest(journal, index))
    return Proof(receipt, index, journal.entries()[index].to_bytes().decode(), journal.verifier.vkey)


def prove_row(run: Run, index: int, row: int) -> Proof:
    """Receipt of one row, with the row itself and its salt.

    Raises
    ------
    JournalError : there is no such entry or row.
    InputError : the row is of an erased customer; nobody can read it any more.
    """
    journal, vault = run.recorder.journal, run.recorder.vault
    receipt = journal.row_receipt(index, row, at=strongest(journal, index))
    header = journal.entries()[index]
    subject, content = _row(run, header, index, row)
    salt = b"" if subject == NOBODY else vault.salt(header, subject, row)
    return Proof(receipt, index, header.to_bytes().decode(), journal.verifier.vkey, row, content.hex(), salt.hex())


def _row(run: Run, header: Header, index: int, row: int) -> tuple[int, bytes]:
    """Whom a row is about, and its canonical bytes."""
    payload = run.recorder.journal.payload(index)
    if header.kind == "document":
        document = run.recorder.vault.unseal_document(header, payload)
        if document is not None:
            return (0 if document.private else NOBODY), document.content
    else:
        unsealed = run.recorder.vault.unseal(header, payload)
        if unsealed.present[row]:
            place = int(np.count_nonzero(unsealed.present[:row]))
            return int(unsealed.table.subjects()[place]), unsealed.table.rows()[place].tobytes()
    raise InputError(run.path, f"entry {index}, row {row}", "is of an erased customer; nobody can read it any more")
