"""Receipts, checked offline with nothing but the operator's verifier key (C2SP tlog-proof)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tellegen.records import Header, RecordError, leaf_hash
from tellegen.verify.notes import Cosignature, OperatorKey, SignedHead, WitnessKey, strict_base64, strict_number
from tellegen.verify.report import RefusedError
from tellegen.verify.tree import leaf, root_from_path

PROOF_MAGIC = "c2sp.org/tlog-proof@v1"
ROW_PROOF_MAGIC = "tellegen-row-proof@v1"
_PATH_MAX = 64
_ENTRY_BEGINS = b"{"


class Level(StrEnum):
    """How far a receipt's promise reaches."""

    OPERATOR_FINAL = "operator-final"
    """The operator has signed: who shows another history contradicts itself provably."""
    WITNESS_COSIGNED = "witness-cosigned"
    """A witness of your choice has signed too: it was shown this history and no other."""


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry that is on record at `index`, under a checkpoint of `size` entries.

    `cosignatures` are those of the witnesses that were asked for; `strangers` names on other lines.
    """

    header: Header
    index: int
    size: int
    cosignatures: tuple[Cosignature, ...] = ()
    strangers: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        """How far the promise reaches."""
        return Level.WITNESS_COSIGNED if self.cosignatures else Level.OPERATOR_FINAL


@dataclass(frozen=True, slots=True)
class ProvenRow:
    """A row that is on record at `row` of an entry."""

    entry: ProvenEntry
    row: int


def check_receipt(receipt: str, entry: bytes, key: str, witnesses: Sequence[str] = ()) -> ProvenEntry:
    """Check that the log entry with these bytes is on record.

    Parameters
    ----------
    receipt : text of the tlog-proof.
    entry : canonical bytes of the header (`Header.to_bytes`).
    key : the operator's verifier key.
    witnesses : verifier keys of the witnesses that you trust.

    Raises
    ------
    RefusedError : the receipt does not prove it.
    """
    index, path, signed = _parse(receipt, key, witnesses)
    head = signed.head
    if root_from_path(leaf(entry), index, head.size, path) != head.root:
        raise RefusedError("the inclusion proof does not lead to the signed root")
    try:
        return ProvenEntry(Header.from_bytes(entry), index, head.size, signed.cosignatures, signed.strangers)
    except RecordError as error:
        raise RefusedError(str(error)) from None


def is_receipt(text: str) -> bool:
    """Whether a text is meant to be a receipt."""
    return text.startswith(f"{PROOF_MAGIC}\n")


def entry_within(receipt: str) -> bytes | None:
    """The log entry that a receipt carries, itself or beside the inner proof of a row; nothing is verified.

    None where it carries none.
    """
    extra = _extra(receipt)
    return extra if extra is None or extra.startswith(_ENTRY_BEGINS) else _inner_proof(extra).entry


def check_row_receipt(receipt: str, row: bytes, salt: bytes, key: str, witnesses: Sequence[str] = ()) -> ProvenRow:
    """Check that a row is on record.

    Parameters
    ----------
    receipt : tlog-proof whose extra line carries the inner proof.
    row : canonical bytes of the row.
    salt : its 16-byte salt; empty for a public row.
    key : the operator's verifier key.
    witnesses : verifier keys of the witnesses that you trust.

    Raises
    ------
    RefusedError : the receipt does not prove it.
    """
    inner = _inner_proof(_extra(receipt))
    proven = check_receipt(receipt, inner.entry, key, witnesses)
    if inner.rows != proven.header.rows:
        raise RefusedError(f"the inner proof is for {inner.rows} rows, the entry has {proven.header.rows}")
    if root_from_path(leaf_hash(salt, row), inner.row, inner.rows, inner.path).hex() != proven.header.row_root:
        raise RefusedError("the inner proof does not lead to the entry's row root")
    return ProvenRow(proven, inner.row)


@dataclass(frozen=True, slots=True)
class _InnerProof:
    row: int
    rows: int
    path: list[bytes]
    entry: bytes


def _inner_proof(extra: bytes | None) -> _InnerProof:
    if extra is None:
        raise RefusedError("the receipt has no inner proof")
    try:
        text = extra.decode()
    except UnicodeDecodeError:
        raise RefusedError("the inner proof is not text") from None
    head, _, entry = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) < 3 or lines[0] != ROW_PROOF_MAGIC or not entry.endswith("\n"):
        raise RefusedError("the inner proof is not of version 1")
    row = strict_number(lines[1].removeprefix("row "), "row")
    rows = strict_number(lines[2].removeprefix("rows "), "rows")
    return _InnerProof(row, rows, _path(lines[3:]), entry[:-1].encode())


def _path(lines: list[str]) -> list[bytes]:
    path = [strict_base64(line, "proof line") for line in lines]
    if len(path) > _PATH_MAX or any(len(node) != 32 for node in path):
        raise RefusedError("an inclusion proof is up to 64 hashes of 32 bytes")
    return path


def checkpoint_within(receipt: str) -> str:
    """The checkpoint's note in a receipt; nothing is verified.

    Raises
    ------
    RefusedError : not a receipt.
    """
    return _parts(receipt)[1]


def _parts(receipt: str) -> tuple[list[str], str]:
    """Lines behind the magic, and the checkpoint."""
    body, gap, note = receipt.partition("\n\n")
    lines = body.split("\n")
    if not gap or lines[0] != PROOF_MAGIC:
        raise RefusedError("not a tlog-proof of version 1")
    return lines[1:], note


def _extra(receipt: str) -> bytes | None:
    lines, _ = _parts(receipt)
    return strict_base64(lines[0].removeprefix("extra "), "extra") if lines and lines[0].startswith("extra ") else None


def path_within(receipt: str) -> tuple[int, list[bytes]]:
    """Index and inclusion proof in a receipt; nothing is verified.

    Raises
    ------
    RefusedError : not a receipt.
    """
    lines, _ = _parts(receipt)
    if lines and lines[0].startswith("extra "):
        lines = lines[1:]
    if not lines or not lines[0].startswith("index "):
        raise RefusedError("the tlog-proof has no index")
    return strict_number(lines[0].removeprefix("index "), "index"), _path(lines[1:])


def _parse(receipt: str, key: str, witnesses: Sequence[str]) -> tuple[int, list[bytes], SignedHead]:
    keys = [WitnessKey.parse(witness) for witness in witnesses]
    return *path_within(receipt), SignedHead.parse(checkpoint_within(receipt), OperatorKey.parse(key), keys)
