"""Receipts with everything that checking them needs besides the operator's key, of either journal of a shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.journal import Journal, strongest
from tellegen.operations.record import MARKET
from tellegen.privacy import Archive, Vault
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


@contextmanager
def open_log(directory: Path, *, market: bool = False) -> Iterator[Journal]:
    """The journal of a directory for reading: that of a run or of the intake, or the market's.

    Raises
    ------
    InputError : there is none.
    """
    folder = directory / MARKET if market else directory
    if not (folder / "journal").is_dir():
        what = "holds no market's journal" if market else "holds no journal; give the directory of a run or a shard"
        raise InputError(directory, "directory", what)
    with Journal.open(folder) as journal:
        yield journal


def prove(directory: Path, index: int, row: int | None = None, *, market: bool = False) -> Proof:
    """Receipt of a log entry, or of one row with the row itself and its salt, wherever the row lies.

    Parameters
    ----------
    directory : of a run or a shard. market : of the market's journal, else of the intake's.

    Raises
    ------
    InputError : there is no such journal; the row is of an erased customer, so that nobody can read it any more.
    JournalError : there is no such entry or row. VaultError : its rows cannot be read.
    """
    with open_log(directory, market=market) as journal, Vault.open(directory / "vault") as vault:
        at, key = strongest(journal, index), journal.verifier.vkey
        if row is None:
            return Proof(journal.receipt(index, at), index, journal.entry(index).to_bytes().decode(), key)
        archive = Archive(journal.folder.parent, vault)
        receipt = journal.row_receipt(index, row, archive.leaves_of(journal, index), at)
        header = journal.entry(index)
        subject, content = _row(journal, vault, archive, header, index, row)
        salt = b"" if subject == NOBODY else vault.salt(header, subject, row)
        return Proof(receipt, index, header.to_bytes().decode(), key, row, content.hex(), salt.hex())


def _row(journal: Journal, vault: Vault, archive: Archive, header: Header, index: int, row: int) -> tuple[int, bytes]:
    """Whom a row is about, and its canonical bytes."""
    if header.kind == "document":
        document = vault.unseal_document(header, journal.payload(index))
        if document is not None:
            return (0 if document.private else NOBODY), document.content
    else:
        unsealed = archive.unseal(journal, index)
        if unsealed.present[row]:
            place = int(np.count_nonzero(unsealed.present[:row]))
            return int(unsealed.table.subjects()[place]), unsealed.table.rows()[place].tobytes()
    raise InputError(
        journal.folder.parent, f"entry {index}, row {row}", "is of an erased customer; nobody can read it any more"
    )
